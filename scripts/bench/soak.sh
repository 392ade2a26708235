# shellcheck shell=bash
# shellcheck disable=SC2154 # variables are shared with bench.sh
# To be sourced by bench.sh: whether a replica grows under hours of load, seen in 20 minutes of it.

# SOAK_SECONDS: how long, instead of 20 minutes.
section_soak() {
    local seconds=${SOAK_SECONDS:-1200} turn_seconds=10
    [[ -z $quick ]] || seconds=${SOAK_SECONDS:-20}
    ((seconds >= 120)) || turn_seconds=2
    (
        trap stop_own_replicas EXIT
        soak
    )
}

# One replica that also runs the sample jobs, at half of what it can do: one user, one user with keys,
# and 10,000 users, in turns. Each turn opens its connections anew.
soak() {
    local hot keyed cold quiet_threads quiet_files
    start_own_replicas 1 JOB_MIN_SECONDS=5
    run_sample_jobs_often
    hot=$(half_of "$(throughput hot "${own_urls[0]}" 64 3)")
    keyed=$(half_of "$(throughput hot "${own_urls[0]}" 64 3 --keys)")
    cold=$(half_of "$(throughput cold "${own_urls[0]}" 64 3)")
    say "For $seconds s: $hot changes a second of one user, $keyed with keys, $cold of 10,000 users"
    record soak "changes a second: one user" 1/s "$hot"
    record soak "changes a second: one user, with keys" 1/s "$keyed"
    record soak "changes a second: 10,000 users" 1/s "$cold"
    soak_turns "$((3 * turn_seconds))"
    soak_rest
    quiet_threads=$(own_status_max Threads) quiet_files=$(own_files)

    : >"$bench_folder/soak"
    soak_turns "$seconds"
    record_growth_of_memory
    soak_rest
    record soak "threads at rest, before" threads "$quiet_threads"
    record soak "threads at rest, after" threads "$(own_status_max Threads)"
    record soak "descriptors at rest, before" descriptors "$quiet_files"
    record soak "descriptors at rest, after" descriptors "$(own_files)"
    record soak "runs of jobs meanwhile" runs "$(sql "select count(*) from cron_runs")"
}

# Those whose work does not grow with the ledger, so that runs come and go all the time.
run_sample_jobs_often() {
    sql "update cron_jobs set schedule = 'every 10s' where function in
        ('prune-idempotency-keys', 'prune-run-history', 'summarize-runs', 'count-primes', 'estimate-pi')"
}

soak_turns() { # SECONDS
    local end=$((SECONDS + $1)) turn=0
    while ((SECONDS < end)); do
        case $((turn++ % 3)) in
            0) soak_turn 64 "$hot" ;;
            1) soak_turn 64 "$keyed" --keys ;;
            2) soak_turn 500 "$cold" --users "$USERS_COLD" ;;
        esac
    done
}

# Load, and in the midst of it a look at the replica's memory.
soak_turn() { # CONNECTIONS RATE OPTION…
    local load
    bench "${own_urls[0]}" -n "$1" --rate "$2" --duration "$turn_seconds" --warmup 0 "${@:3}" >/dev/null &
    load=$!
    sleep "$((turn_seconds / 2))"
    own_status_max VmRSS >>"$bench_folder/soak"
    wait "$load"
}

record_growth_of_memory() {
    local samples quarter first last
    samples=$(wc -l <"$bench_folder/soak")
    quarter=$((samples < 4 ? 1 : samples / 4))
    first=$(head -n "$quarter" "$bench_folder/soak" | percentile 50)
    last=$(tail -n "$quarter" "$bench_folder/soak" | percentile 50)
    record soak "memory, median of the first quarter" MB "$(calculate "$first / 1024" %.2f)"
    record soak "memory, median of the last quarter" MB "$(calculate "$last / 1024" %.2f)"
    record soak "growth of memory" MB "$(calculate "($last - $first) / 1024" %.2f)"
    record soak "memory, most" MB "$(own_memory_peak)"
}

# Connections are closed, and threads that have had nothing to do end after some seconds.
soak_rest() { sleep "$((turn_seconds + 2))"; }

half_of() { calculate "$1 / 2" %d; }

own_files() { find "/proc/${own_pids[0]}/fd" -mindepth 1 2>/dev/null | wc -l || true; }
