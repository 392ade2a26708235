# shellcheck shell=bash
# shellcheck disable=SC2154 # variables are shared with bench.sh
# To be sourced by bench.sh: the cron at scale, at rest, and over a long history.

# The lightest of the functions: where no key is kept, one statement without a row.
readonly BENCH_JOB_FUNCTION=prune-idempotency-keys
readonly CRON_WAVE_SECONDS_MAX=180

section_cron() (
    trap stop_own_replicas EXIT
    cron_pause_samples
    cron_at_scale
    cron_with_handicap
    cron_at_rest
    cron_over_history
    cron_clear
)

# --- the jobs of a measurement --------------------------------------------------------------------

cron_pause_samples() { sql "update cron_jobs set enabled = false, offered_at = null"; }

# Removes the jobs of the bench and the history.
cron_clear() {
    sql "delete from cron_jobs where name like 'bench-%'; truncate cron_runs"
    sql "vacuum cron_jobs"
}

# Makes COUNT jobs, the n-th with this slot, and no history. Call it when replicas are ready.
make_jobs() { # COUNT SCHEDULE SLOT
    sql "insert into cron_jobs (name, function, schedule, slot, locked_until)
        select 'bench-' || n, '$BENCH_JOB_FUNCTION', '$2', $3, $3 from generate_series(1, $1) n"
    sql "analyze cron_jobs" # as the table is when it has been so for a while
}

# Waits until this many runs of the bench have ended, but not for ever. Sets `threads_max`, the most that one replica had.
await_runs() { # COUNT
    local ended threads deadline=$((SECONDS + CRON_WAVE_SECONDS_MAX))
    threads_max=0
    until ended=$(sql "select count(*) from cron_runs
        where job like 'bench-%' and finished_at is not null") && ((ended >= $1)); do
        if ((SECONDS > deadline)); then
            say "Warning: after $CRON_WAVE_SECONDS_MAX s only $ended of $1 runs have ended."
            return
        fi
        threads=$(own_status_max Threads)
        ((threads <= threads_max)) || threads_max=$threads
        sleep 0.3
    done
}

record_lateness() { # CASE [REPEAT]
    local p50 p99 most
    IFS='|' read -r p50 p99 most < <(sql "
        select round(percentile_disc(0.5) within group (order by late)),
            round(percentile_disc(0.99) within group (order by late)), round(max(late))
        from (select 1000 * extract(epoch from started_at - scheduled_at) as late
            from cron_runs where job like 'bench-%') as run")
    record cron "$1: lateness p50" ms "$p50" "${2:-1}"
    record cron "$1: lateness p99" ms "$p99" "${2:-1}"
    record cron "$1: lateness max" ms "$most" "${2:-1}"
}

# Claims a second from the first start to the last.
claims_per_second() {
    sql "select round(count(*) / extract(epoch from max(started_at) - min(started_at)))
        from cron_runs where job like 'bench-%'"
}

# Runs that began before the one before of the same job had ended; and jobs that were not done.
record_faults() { # CASE
    record cron "$1: runs of one job at once" runs "$(sql "
        select count(*) from (
            select started_at < lag(finished_at) over (partition by job_id order by started_at) as twice
            from cron_runs where job like 'bench-%') as run where twice")"
    record cron "$1: jobs without a run that succeeded" jobs "$(sql "
        select count(*) from cron_jobs
        where name like 'bench-%' and not exists (
            select from cron_runs where job_id = cron_jobs.id and outcome = 'succeeded')")"
}

record_spread() { # CASE
    local least most
    IFS='|' read -r least most < <(sql "
        select min(runs), max(runs)
        from (select count(*) as runs from cron_runs where job like 'bench-%' group by server) as server")
    record cron "$1: runs of a replica, least" runs "$least"
    record cron "$1: runs of a replica, most" runs "$most"
}

# --- many jobs on many replicas ---------------------------------------------------------------------

cron_at_scale() {
    local jobs=10000 replicas=20 steady_seconds=60 name
    [[ -z $quick ]] || { jobs=200 replicas=3 steady_seconds=5; }
    cron_clear
    start_own_replicas "$replicas" CRON_HANDICAP_MS=0 JOB_MIN_SECONDS=1 DB_POOL_SIZE=1 HTTP_WORKERS=2

    name="$jobs jobs of 1 s at one instant on $replicas replicas, handicap 0"
    say "$name"
    make_jobs "$jobs" "every 1h" "date_trunc('second', now()) + interval '4 seconds'"
    await_runs "$jobs"
    record cron "$name: claims" 1/s "$(claims_per_second)"
    record_lateness "$name"
    record_faults "$name"
    record_spread "$name"
    record cron "$name: threads of a replica, most" threads "$threads_max"
    record cron "$name: peak memory of a replica" MB "$(own_memory_peak)"

    name="$jobs jobs of 1 s spread over $steady_seconds s on $replicas replicas, handicap 0"
    say "$name"
    cron_clear
    make_jobs "$jobs" "every 1h" \
        "date_trunc('second', now()) + interval '3 seconds' + n * interval '$steady_seconds seconds' / $jobs"
    await_runs "$jobs"
    record cron "$name: claims" 1/s "$(claims_per_second)"
    record_lateness "$name"
    record_faults "$name"
    record_spread "$name"
    stop_own_replicas
}

# --- as it is set by default ------------------------------------------------------------------------

cron_with_handicap() {
    local jobs=100 replicas=5 steady_seconds=30 name
    [[ -z $quick ]] || { jobs=10 replicas=2 steady_seconds=3; }
    cron_clear
    start_own_replicas "$replicas" JOB_MIN_SECONDS=2

    name="$jobs jobs of 2 s at one instant on $replicas replicas, default handicap"
    say "$name"
    make_jobs "$jobs" "every 1h" "date_trunc('second', now()) + interval '3 seconds'"
    await_runs "$jobs"
    record_lateness "$name"
    record_faults "$name"
    record_spread "$name"

    name="$jobs jobs of 2 s spread over $steady_seconds s on $replicas replicas, default handicap"
    say "$name"
    cron_clear
    make_jobs "$jobs" "every 1h" \
        "date_trunc('second', now()) + interval '3 seconds' + n * interval '$steady_seconds seconds' / $jobs"
    await_runs "$jobs"
    record_lateness "$name"
    record_spread "$name"
    stop_own_replicas
}

# --- at rest ----------------------------------------------------------------------------------------

cron_at_rest() {
    local replicas=5 seconds=30 short long
    [[ -z $quick ]] || seconds=3
    say "$replicas replicas at rest, for $seconds s"
    cron_clear
    make_jobs 10 "every 1h" "now() + interval '1 hour'"
    rest_for "$replicas" 2
    short=$rest_transactions
    rest_for "$replicas" $((2 + seconds))
    long=$rest_transactions
    record cron "statements of a replica at rest, ten jobs waiting" 1/s \
        "$(calculate "($long - $short) / $seconds / $replicas" %.2f)"
}

# How many transactions replicas need to start, to rest for a while and to end. At rest each statement
# is one. Asked when they have ended: an idle session tells late what it has done. Sets rest_transactions.
rest_for() { # REPLICAS SECONDS
    local before
    before=$(cron_transactions)
    start_own_replicas "$1"
    sleep "$2"
    [[ $2 -le 2 ]] || record cron "connections of a replica at rest" connections "$(in_database postgres sql "
        select round(count(*) / $1.0, 1) from pg_stat_activity
        where datname <> current_database() and backend_type = 'client backend'")"
    stop_own_replicas
    sleep 0.5
    rest_transactions=$(($(cron_transactions) - before))
}

# All transactions of the replicas' database so far, asked in another one, where asking is not counted.
cron_transactions() {
    local name=${database_url#*///}
    in_database postgres sql "select xact_commit + xact_rollback from pg_stat_database
        where datname = '${name%%\?*}'"
}

# --- over a long history ----------------------------------------------------------------------------

# The same wave in two databases in turns: one without a history and one with a long one.
cron_over_history() {
    local runs=1000000 jobs=2000 repeat
    [[ -z $quick ]] || { runs=1000 jobs=50; }
    cron_clear
    say "Making a history of $runs runs"
    in_database postgres sql "drop database if exists bench_history" 2>/dev/null
    in_database postgres sql "create database bench_history template $(sql "select current_database()")"
    in_database bench_history make_history "$runs"
    for ((repeat = 1; repeat <= repeats; repeat++)); do
        cron_wave "no history" "$jobs" "$repeat"
        in_database bench_history cron_wave "$runs runs in the history" "$jobs" "$repeat"
    done
    in_database postgres sql "drop database bench_history"
}

# Runs a command with $database_url naming another database of the same server.
in_database() { # NAME COMMAND…
    local database_url="${database_url%%///*}///$1?${database_url#*\?}"
    "${@:2}"
}

# Finished runs, spread evenly over the ten sample jobs, five servers and 14 days.
make_history() { # RUNS
    sql "insert into cron_runs (job_id, job, function, token, server, scheduled_at, started_at,
            progress, finished_at, outcome, detail)
        select job.id, job.name, job.function, n, 'replica-' || n % 5 + 1, at, at, 1,
            at + interval '2 seconds', case when n % 100 = 0 then 'failed' else 'succeeded' end,
            'keys older than 24 hours that were deleted: 0'
        from generate_series(1, $1 / 10) n
        cross join lateral (select now() - interval '14 days' * n / ($1 / 10.0 + 1) as at) as slot
        cross join (select id, name, function from cron_jobs where name not like 'bench-%') as job
        order by n;
        update cron_jobs set token = $1 / 10 where name not like 'bench-%'"
    sql "vacuum analyze cron_runs"
    record cron "a finished run, indexes included" bytes "$(sql "
        select pg_total_relation_size('cron_runs') / $1")"
    sql "checkpoint"
}

cron_wave() { # CASE JOBS REPEAT
    local name="$2 jobs of 1 s at one instant on 5 replicas, handicap 0, $1"
    start_own_replicas 5 CRON_HANDICAP_MS=0 JOB_MIN_SECONDS=1
    [[ $3 -gt 1 ]] || record_reads "$1"
    make_jobs "$2" "every 1h" "date_trunc('second', now()) + interval '2 seconds'"
    await_runs "$2"
    record cron "$name: claims" 1/s "$(claims_per_second)" "$3"
    record_lateness "$name" "$3"
    stop_own_replicas
    sql "delete from cron_jobs where name like 'bench-%'; delete from cron_runs where job like 'bench-%'"
    sql "vacuum cron_jobs, cron_runs"
}

record_reads() { # CASE
    local path
    for path in "/api/cron/jobs" "/api/cron/history" "/api/cron/history?job=sample-pi" \
        "/api/cron/history?job=sample-pi&outcome=failed"; do
        record_latency cron "GET $path, $1" "${own_urls[0]}$path"
    done
}
