# shellcheck shell=bash
# shellcheck disable=SC2154 # variables are shared with bench.sh
# To be sourced by bench.sh: replicas by the dozen, for sections that measure how many they are. Such a
# section runs in a subshell and ends them by `stop_own_replicas` when it ends, however it does.

readonly OWN_REPLICAS_MAX=20 OWN_START_SECONDS_MAX=30

own_pids=() own_urls=()

# Starts COUNT replicas, at most OWN_REPLICAS_MAX, with these settings, and waits until each is ready.
start_own_replicas() { # COUNT [SETTING=VALUE…]
    local number address deadline count=$1
    shift
    for ((number = 1; number <= count; number++)); do
        address=127.0.0.1:$((port_base + OWN_REPLICAS_MAX + number - 1))
        env "${REPLICA_SETTINGS[@]}" "$@" DATABASE_URL="$database_url" LISTEN_ADDR="$address" REPLICA_NAME="replica-$number" \
            "$binary" >>"$bench_folder/own-replica-$number.log" 2>&1 &
        own_pids+=($!)
        own_urls+=("http://$address")
    done
    deadline=$((SECONDS + OWN_START_SECONDS_MAX))
    for number in "${!own_pids[@]}"; do
        until curl -fs -o /dev/null "${own_urls[number]}/health/ready"; do
            if ((SECONDS > deadline)) || ! kill -0 "${own_pids[number]}" 2>/dev/null; then
                say "A replica did not become ready. Its log ends with:"
                tail -n 5 "$bench_folder/own-replica-$((number + 1)).log" >&2
                return 1
            fi
            sleep 0.05
        done
    done
}

# Ends them and waits until they are gone.
stop_own_replicas() {
    local pid
    for pid in "${own_pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${own_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    own_pids=() own_urls=()
}

# All their base URLs, with commas between.
own_targets() {
    local IFS=,
    printf '%s\n' "${own_urls[*]}"
}

# The largest value that FIELD of /proc/PID/status has in any of them: kB, or a count.
own_status_max() { # FIELD
    local pid
    for pid in "${own_pids[@]}"; do cat "/proc/$pid/status" 2>/dev/null || true; done |
        awk -v field="$1:" '$1 == field && $2 > most { most = $2 } END { print most + 0 }'
}

# The most memory that any of them has had so far, in MB.
own_memory_peak() { calculate "$(own_status_max VmHWM) / 1024" %.1f; }

# CPU seconds that the replicas, and all processes of the database with those that have ended, have
# used so far.
service_cpu_seconds() {
    local postmaster
    postmaster=$(head -n 1 "$(sql 'show data_directory')/postmaster.pid")
    # A process may end while the list is read.
    { cat /proc/[0-9]*/stat 2>/dev/null || true; } | awk -v own="${own_pids[*]}" -v postmaster="$postmaster" \
        -v ticks="$(getconf CLK_TCK)" '
        BEGIN { split(own, list); for (i in list) replica[list[i]] = 1 }
        {
            pid = $1
            sub(/.*\) /, "") # the name may hold blanks; behind it the 2nd is the parent
            if (pid in replica || $2 == postmaster || pid == postmaster) sum += $12 + $13
            if (pid == postmaster) sum += $14 + $15
        }
        END { printf "%.2f\n", sum / ticks }'
}

# The P-th percentile of the numbers on standard input, one a line, as the nearest rank.
percentile() { # P
    sort -g | awk -v p="$1" '{ value[NR] = $1 }
        END { rank = int(NR * p / 100); if (rank < NR * p / 100) rank++; print value[rank ? rank : 1] }'
}

# The median of 200 requests, one after the other, over one connection.
record_latency() { # KIND CASE URL
    local number seconds
    seconds=$(for ((number = 0; number < 200; number++)); do
        printf 'url = "%s"\noutput = "/dev/null"\n' "$3"
    done | curl -fs --config - -w '%{time_total}\n' | percentile 50)
    record "$1" "$2: p50" ms "$(calculate "1000 * $seconds" %.2f)"
}
