# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of common.sh
# To be sourced by bench.sh: the sections about what a replica and a row have gone through.

readonly CONNECTIONS=2000 CHANGES_FEW=10000 CHANGES_MANY=1000000 SETTLE_SECONDS=5

section_memory() {
    local repeat
    prepare_user_1
    for ((repeat = 1; repeat <= repeats; repeat++)); do
        stamp "  repeat $repeat of $repeats: idle"
        measure_idle
        stamp "  repeat $repeat of $repeats: $CONNECTIONS connections"
        measure_connections
        stamp "  repeat $repeat of $repeats: a burst"
        sql "update cron_jobs set enabled = true"
        start_one_set CRON_ENABLED=true CRON_HANDICAP_MS=0
        await_jobs 10
        burst "$one_door" >/dev/null
        record memory "peak of a burst through the door, ten jobs" MB "$(memory_of "$(<"$one_pid_file")" VmHWM)" "$repeat"
        stop_services
    done
}

prepare_user_1() {
    start_one first
    bench "$started_url" --duration 1 --warmup 0 >/dev/null
    stop_processes "$started_pid"
}

# Of one as it is delivered: the scheduler runs, and has nothing to do.
measure_idle() {
    sql "update cron_jobs set enabled = false"
    start_one idle CRON_ENABLED=true
    sleep "$SETTLE_SECONDS"
    record memory idle MB "$(memory_of "$started_pid" VmRSS)" "$repeat"
    stop_processes "$started_pid"
    sql "update cron_jobs set enabled = true"
    start_one with-jobs CRON_ENABLED=true CRON_HANDICAP_MS=0
    await_jobs 10
    sleep "$SETTLE_SECONDS"
    record memory "ten jobs running" MB "$(memory_of "$started_pid" VmRSS)" "$repeat"
    stop_processes "$started_pid"
}

await_jobs() { # running at the same moment
    local end=$((SECONDS + 60))
    until (($(sql 'select count(*) from cron_runs where finished_at is null') >= $1)); do
        ((SECONDS < end)) || die "The jobs do not run: $(sql 'select name, locked_until, holder from cron_jobs')"
        sleep 0.2
    done
}

measure_connections() {
    local asking open
    sql "update cron_jobs set enabled = false"
    start_one crowded CRON_ENABLED=true
    bench "$started_url" -n "$CONNECTIONS" --warmup 0 --duration 5 >"$bench_folder/crowd.json" &
    asking=$!
    sleep 4
    open=$(find "/proc/$started_pid/fd" -lname 'socket:*' 2>/dev/null | wc -l) || true
    ((open >= CONNECTIONS)) || die "Of $CONNECTIONS connections only $open were open."
    record memory "$CONNECTIONS connections" MB "$(memory_of "$started_pid" VmRSS)" "$repeat"
    wait "$asking" || die "A request on one of $CONNECTIONS connections failed."
    stop_processes "$started_pid"
}

memory_of() { # process, field of its status
    local kb
    kb=$(sed -nE "s/^$2:\s+([0-9]+) kB/\1/p" "/proc/$1/status")
    calculate "$kb / 1024" %.2f
}

# A database in which user 1 has seen few changes, made anew for each repeat, beside one with many:
# neighbours in time, so the ratio does not tell how the machine has changed meanwhile.
section_hotrow() {
    local repeat many=$CHANGES_MANY old_url begun
    [[ -z $quick ]] || many=$((10 * CHANGES_FEW))
    transactions deposit 1 -t 100 >/dev/null
    old_url=$database_url
    begun=$SECONDS
    while (($(sql 'select count(*) from balance_changes') < many)); do
        transactions "hot plain" 1 -t $((many / 10)) >/dev/null
        stamp "  $((SECONDS - begun)) s for $(sql 'select count(*) from balance_changes') changes"
    done
    for ((repeat = 1; repeat <= repeats; repeat++)); do
        stamp "  repeat $repeat of $repeats"
        fresh_database young
        transactions deposit 1 -t 100 >/dev/null
        transactions "hot plain" 1 -t "$CHANGES_FEW" >/dev/null
        ((repeat > 1)) || record_row_sizes "after 10,000"
        measure_hot_row "after 10,000"
        database_url=$old_url
        ((repeat > 1)) || record_row_sizes "after 1,000,000"
        measure_hot_row "after 1,000,000"
    done
}

measure_hot_row() { # after how many changes
    record pgbench "$1" changes/s "$(roof "hot plain" 1 "$(seconds_or_1 3)")" "$repeat"
    start_one hot
    record service "$1" changes/s "$(throughput hot "$started_url" 64 "$(seconds_or_1 3)")" "$repeat"
    stop_processes "$started_pid"
}

record_row_sizes() { # after how many changes
    local name
    for name in users users_pkey balance_changes balance_changes_pkey; do
        record size "$name $1" KB "$(sql "select pg_relation_size('$name') / 1024")" "$repeat"
    done
    record dead "row versions of users $1" rows "$(sql "select n_dead_tup from pg_stat_user_tables where relname = 'users'")" "$repeat"
    record heap-only "share of updates $1" share "$(sql "select round(n_tup_hot_upd / n_tup_upd::numeric, 4) from pg_stat_user_tables where relname = 'users'")" "$repeat"
}
