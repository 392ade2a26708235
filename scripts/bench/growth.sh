# shellcheck shell=bash
# shellcheck disable=SC2154 # variables are shared with bench.sh
# To be sourced by bench.sh: what a request costs with more replicas, more users and a longer ledger.

readonly GROWTH_REPEATS_MAX=3 # a step takes seconds, and there are many
# More than the withdrawals of all measurements, and so much that loadtest gives nobody more.
readonly GROWTH_BALANCE=10000000
# What the API lists in a reasonable time, and loadtest takes.
readonly GROWTH_LOADTEST_USERS_MAX=1000000

section_growth() {
    local seconds=3 times=$((repeats < GROWTH_REPEATS_MAX ? repeats : GROWTH_REPEATS_MAX))
    [[ -z $quick ]] || seconds=1
    (
        trap stop_own_replicas EXIT
        growth_of_replicas
        growth_of_users
    )
}

# --- replicas -------------------------------------------------------------------------------------

# Ten run all the time, since an idle one costs next to nothing; the load goes to 1, 2, 5 or all.
growth_of_replicas() {
    local all=10 counts="1 2 5 10" repeat count
    [[ -z $quick ]] || { all=2 counts="1 2"; }
    say "More replicas"
    start_own_replicas "$all" CRON_ENABLED=false
    fresh_ledger 10000
    for ((repeat = 1; repeat <= times; repeat++)); do
        for count in $counts; do
            measure_cost "one user, $count replicas" 1 "$count" "$repeat"
            measure_cost "10,000 users, $count replicas" 10000 "$count" "$repeat"
        done
    done
    stop_own_replicas
}

# --- users, and with them the ledger -----------------------------------------------------------------

growth_of_users() {
    local sizes="1 10000 1000000 10000000" repeat users
    [[ -z $quick ]] || sizes="1 10000 20000"
    start_own_replicas 1 CRON_ENABLED=false
    for users in $sizes; do
        say "$users users"
        fresh_ledger "$users"
        ((users == 1)) || record_sizes "$users"
        record_scan "$users"
        for ((repeat = 1; repeat <= times; repeat++)); do
            measure_cost "one replica, $users users" "$users" 1 "$repeat"
            measure_roof "$users" "$repeat"
        done
    done
    growth_of_one_ledger
    stop_own_replicas
}

# The changes of one user, as a hot one has after some days: who has more pays with index levels only.
growth_of_one_ledger() {
    local counts="0 1000000 10000000" count repeat
    [[ -z $quick ]] || counts="0 1000"
    for count in $counts; do
        say "$count changes of one user"
        fresh_ledger 1
        sql "insert into balance_changes (user_id, id, amount, balance_after)
            select 1, 1 + n, n % 2 * 2 - 1, $GROWTH_BALANCE + n % 2 from generate_series(1, $count) n;
            update users set changes = 1 + $count"
        growth_settle
        for ((repeat = 1; repeat <= times; repeat++)); do
            measure_cost "one user with $count changes" 1 1 "$repeat"
        done
        record_latency growth "GET /api/users/1/changes of $count" "${own_urls[0]}/api/users/1/changes"
    done
}

# Exactly so many users, each with an opening balance, and no other change.
fresh_ledger() { # USERS
    sql "truncate users, balance_changes restart identity;
        with opened as (
            insert into users (balance, changes, changed_at)
            select $GROWTH_BALANCE, 1, clock_timestamp() from generate_series(1, $1)
            returning id, balance
        )
        insert into balance_changes (user_id, id, amount, balance_after)
        select id, 1, balance, balance from opened"
    growth_settle
}

# So that what came before does not disturb what comes.
growth_settle() {
    sql "vacuum analyze users, balance_changes"
    sql checkpoint
}

# --- measuring ------------------------------------------------------------------------------------

# Throughput, latency, CPU time and the database's log of a change, on 64 connections. The CPU time of
# listing a million users is no part of it: that of the same, shorter, is taken off. The log is that of
# both, with the whole pages that follow a checkpoint.
measure_cost() { # CASE USERS REPLICAS REPEAT
    local users=$2 targets report rate cpu wal requests
    ((users <= GROWTH_LOADTEST_USERS_MAX)) || users=$GROWTH_LOADTEST_USERS_MAX
    targets=$(local IFS=, && printf '%s' "${own_urls[*]:0:$3}")
    run_load "$users" "$targets" 1
    cpu=$load_cpu requests=$load_requests wal=$load_wal
    run_load "$users" "$targets" $((seconds + 1))
    report=$load_report
    rate=$(json_field answersPerSecond <<<"$report")
    record growth "$1: changes" 1/s "$rate" "$4"
    record growth "$1: p50" ms "$(json_field p50 <<<"$report")" "$4"
    record growth "$1: CPU time of a change" us "$(calculate \
        "1e6 * ($load_cpu - $cpu) / ($load_requests - $requests)" %.1f)" "$4"
    record growth "$1: WAL of a change" bytes "$(calculate \
        "($load_wal + $wal) / ($load_requests + $requests)" %.1f)" "$4"
}

# Sets load_report, load_requests, load_cpu (seconds) and load_wal (bytes).
run_load() { # USERS TARGETS SECONDS
    local cpu_before wal_before
    cpu_before=$(service_cpu_seconds)
    wal_before=$(wal_bytes)
    load_report=$(bench "$2" --users "$1" --duration "$3" --warmup 0)
    load_requests=$(json_field requests <<<"$load_report")
    load_cpu=$(calculate "$(service_cpu_seconds) - $cpu_before" %.2f)
    load_wal=$(($(wal_bytes) - wal_before))
}

wal_bytes() { sql "select pg_current_wal_insert_lsn() - '0/0'"; }

# The same statement by pgbench, over all users, also those that loadtest does not know.
measure_roof() { # USERS REPEAT
    local script="growth $1"
    # shellcheck disable=SC2016 # parameters of a statement
    write_roof "$script" "\\set u random(1, $1)" '\set a random(0, 1) * 2 - 1' "$(statement CHANGE)"
    record growth "pgbench with 16 clients, $1 users: changes" 1/s "$(roof "$script" 16 "$seconds")" "$2"
}

record_sizes() { # USERS
    local relation
    for relation in users users_pkey balance_changes balance_changes_pkey; do
        record growth "size of $relation, $1 users" "bytes a row" \
            "$(sql "select round(pg_relation_size('$relation')::numeric / $1, 1)")"
    done
}

# What the job that sums up the day needs: one statement over all users, for which a sixth of a lease
# is the limit. It writes what it finds, and PostgreSQL uses one core for such a statement.
record_scan() { # USERS
    record growth "one sum over $1 users" ms "$(sql "set max_parallel_workers_per_gather = 0;
        explain (analyze, timing off) select count(*), sum(balance) from users" |
        sed -nE 's/^Execution Time: ([0-9.]+) ms$/\1/p')"
}
