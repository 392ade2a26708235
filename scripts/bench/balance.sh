# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of common.sh
# To be sourced by bench.sh: the sections about changes of balances.

# Throughput in a closed loop. The roof is measured before, between and after the measurements that are
# compared with it, since a machine is not equally fast all the time.
section_balance() {
    local repeat users keys
    start_services
    prepare_users "$one_url"
    for ((repeat = 1; repeat <= repeats; repeat++)); do
        sql checkpoint
        for users in hot cold; do
            record roof "$users bare" changes/s "$(roof_of "$users bare")" "$repeat"
            for keys in plain keys; do measure_group; done
        done
    done
    stop_services
}

# Of one kind of users, with or without keys.
measure_group() {
    local replicas path connections case
    stamp "  repeat $repeat of $repeats: $users, $keys"
    record_roof
    for replicas in 1 5; do
        for path in direct door; do
            for connections in 64 1000; do
                case="$users $keys $replicas $path $connections"
                record throughput "$case" changes/s "$(measure_throughput)" "$repeat"
            done
        done
        record_roof
    done
}

measure_throughput() {
    local options=()
    [[ $keys == plain ]] || options=(--keys)
    throughput "$users" "$(urls_of "$replicas" "$path")" "$connections" "$(seconds_or_1 3)" "${options[@]}"
}

record_roof() { record roof "$users $keys" changes/s "$(roof_of "$users $keys")" "$repeat"; }

# One user's changes wait for each other, so one client is fastest; many users' share a flush.
roof_of() { # script
    local clients=16
    [[ $1 != hot* ]] || clients=1
    roof "$1" "$clients" "$(seconds_or_1 2)"
}

urls_of() { # replicas path
    case "$1 $2" in
        "1 direct") printf '%s' "$one_url" ;;
        "1 door") printf '%s' "$one_door" ;;
        "5 direct") printf '%s' "$five_urls" ;;
        "5 door") printf '%s' "$five_door" ;;
    esac
}

# Against the time in which one client of pgbench makes the 5,000 withdrawals that can succeed.
section_burst() {
    local repeat where rate
    start_services
    for ((repeat = 1; repeat <= repeats; repeat++)); do
        stamp "  repeat $repeat of $repeats"
        transactions deposit 1 -t 10 >/dev/null
        rate=$(transactions withdrawal 1 -t 5000)
        record roof "5000 withdrawals" s "$(calculate "5000 / $rate")" "$repeat"
        for where in "1 door" "5 door" "5 direct"; do
            # shellcheck disable=SC2086 # two words
            record burst "$where" s "$(burst "$(urls_of $where)" | json_field seconds)" "$repeat"
        done
    done
    stop_services
}

# Requests come at a fixed rate, half of what the closed loop reached a moment before.
section_latency() {
    local repeat where users
    start_services
    prepare_users "$one_url"
    for ((repeat = 1; repeat <= repeats; repeat++)); do
        for users in hot cold; do
            for where in "1 direct" "1 door" "5 door"; do
                stamp "  repeat $repeat of $repeats: $users, $where"
                measure_latency
            done
        done
    done
    stop_services
}

measure_latency() {
    local urls capacity rate report percentile case="$users $where"
    # shellcheck disable=SC2086 # two words
    urls=$(urls_of $where)
    capacity=$(throughput "$users" "$urls" 64 "$(seconds_or_1 2)")
    rate=$(calculate "$capacity / 2" %.0f)
    # Connections are opened as they are needed, and so many are not.
    report=$(bench "$urls" --users "$(users_of "$users")" -n 1000 --rate "$rate" --warmup 1 --duration "$(seconds_or_1 5)")
    record rate "$case" requests/s "$rate" "$repeat"
    for percentile in p50 p99 p999; do
        record latency "$case $percentile" ms "$(json_field "$percentile" <<<"$report")" "$repeat"
    done
}
