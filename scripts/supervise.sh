#!/usr/bin/env -S bash -p
# Started by run-replicas.sh: starts everything, supervises it, and stops it when told by SIGTERM.
# Usage: supervise.sh PROCESS, where PROCESS is that of run-replicas.sh; when it is gone, we stop.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/install.sh
source "$repository/scripts/install.sh"
# shellcheck source=scripts/checks.sh
source "$repository/scripts/checks.sh"
# shellcheck source=scripts/children.sh
source "$repository/scripts/children.sh"

readonly READY_SECONDS_MAX=15 # longer than that deserves a word
readonly DOOR_VERSION_MIN=2.6 # of HAProxy; `balance hash` came with it
front=${1:-$PPID} haproxy="" binary=""

main() {
    read_env_file "$repository/.env"
    check_settings
    take_lock
    check_state_folder
    trap stop_everything EXIT
    trap 'trap "" INT TERM HUP; exit 0' INT TERM HUP
    trap ':' PIPE # who reads our words may be gone
    cd "$repository"
    end_leftovers
    check_ports
    ulimit -Sn "$(ulimit -Hn)" || true

    find_programs
    if [[ -z ${DATABASE_URL:-} ]]; then start_database || exit 1; fi
    build
    ((PROXY_PORT == 0)) || prepare_door
    start_all
    supervise
}

find_programs() {
    local missing=0
    find_cargo || exit 1
    ensure cc || missing=1
    if [[ -z ${DATABASE_URL:-} ]] && ! ensure postgresql; then
        say "Or set DATABASE_URL to a PostgreSQL that runs elsewhere."
        missing=1
    fi
    if ((PROXY_PORT != 0)) && ! ensure haproxy; then
        leave_out_door
    fi
    ((missing == 0)) || exit 1
}

leave_out_door() {
    say "Without HAProxy there is no door, only the replicas' own addresses."
    PROXY_PORT=0
}

build() {
    local messages=$run_dir/cargo.json
    [[ -e $run_dir/program ]] || say "Building the service and its load test; the first time takes a minute or two …"
    step cargo build --release --locked --message-format=json-render-diagnostics >"$messages" || {
        [[ -n ${CARGO_TARGET_DIR:-} || -w $repository ]] || say "$repository cannot be written to: choose another" \
            "folder for what cargo builds with CARGO_TARGET_DIR."
        die "The build failed; the reason stands above."
    }
    binary=$(built balanced <"$messages")
    rm -f "$messages"
    "$binary" --version >/dev/null 2>&1 ||
        die "What cargo has built does not run on this machine: '$binary'. Is CARGO_BUILD_TARGET or build.target set?"
    note program "$binary" # for the next start, which may have other settings
    # By itself, as `cargo run --package loadtest` builds it, which then begins at once.
    step cargo build --release --locked --package loadtest || die "The build failed; the reason stands above."
}

# --- the private database -------------------------------------------------------------------------

# Its keeper stops it when nobody holds the pipe 9 any more: this process does, and each replica, so the
# database serves them until the last one has handed its jobs over, also when this process was killed.
start_database() {
    local url=""
    exec 7<> <(:)
    setsid scripts/postgres.sh hold "$STATE_DIR" </dev/fd/9 >&7 7>&- 8>&- 9>&- &
    database_pid=$!
    note database.pid "$database_pid"
    until read -rt 0.2 -u 7 url || ! alive "$database_pid"; do :; done
    exec 7>&-
    [[ -n $url ]] || return 1
    export DATABASE_URL=$url
    ln -sfn ../postgres/postgresql.log "$log_dir/postgresql.log" || true
}

check_database() {
    if [[ -z $database_pid ]] || alive "$database_pid"; then return; fi
    wait "$database_pid" 2>/dev/null || true # or bash would report it
    ((now_ms >= database_retry_ms)) || return 0
    stamp "PostgreSQL has ended unexpectedly: starting it again. Its log: $log_dir/postgresql.log"
    database_retry_ms=$((now_ms + 10000))
    if start_database; then stamp "PostgreSQL runs again."; else stamp "Trying again in 10 s."; fi
}

# --- the replicas and the door --------------------------------------------------------------------

# Child 0 is the door, the others are replicas.
launch() { # child
    local i=$1
    if ((i == 0)); then
        with_door_settings bound "$haproxy" -db -f deploy/haproxy.cfg -f "$run_dir/replicas.cfg" \
            >>"$log_dir/door.log" 2>"$run_dir/door.err" </dev/null 8>&- 9>&- &
    else
        # A connection costs a thread, and glibc keeps about 8 KB of freed memory for each.
        LISTEN_ADDR=127.0.0.1:${ports[i]} REPLICA_NAME=$replica_prefix-$i \
            GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.tcache_count=0} \
            bound "$binary" >>"$log_dir/replica-$i.log" 2>&1 </dev/null 8>&- &
    fi
}

with_door_settings() { # command…
    PROXY_PORT=$PROXY_PORT DOOR_LISTEN=$(door_listen) DOOR_STATUS=$(door_status) DOOR_MAXCONN=$door_maxconn \
        DOOR_REQUEST_SECONDS=$DOOR_REQUEST_SECONDS DOOR_READ_MS=$DOOR_READ_MS \
        DOOR_CLIENT_SECONDS=$((DOOR_REQUEST_SECONDS > 120 ? DOOR_REQUEST_SECONDS : 120)) \
        DOOR_QUEUE_SECONDS=$((REQUEST_TIMEOUT_SECONDS + 1)) \
        DOOR_SERVER_SECONDS=$((REQUEST_TIMEOUT_SECONDS + 5)) \
        "$@"
}

# Asks this machine's HAProxy about the very settings that the door would get: an older one refuses them,
# and so does one without Lua.
prepare_door() {
    local words version need="" says
    haproxy=$(haproxy_program)
    write_door_servers
    words=$(with_door_settings "$haproxy" -c -f deploy/haproxy.cfg -f "$run_dir/replicas.cfg" 2>&1) && return
    if [[ -n $DOOR_CERTIFICATE && $words == *"$DOOR_CERTIFICATE"* ]]; then
        say "DOOR_CERTIFICATE=$DOOR_CERTIFICATE: HAProxy cannot use it. It says: ${words:0:300}"
        exit 2
    fi
    version=$("$haproxy" -v 2>&1 | sed -nE 's/^HA-?Proxy version ([0-9]+\.[0-9]+[^ ]*).*/\1/p' | head -n 1) || true
    is_from "$DOOR_VERSION_MIN" "$version" || need=", since it needs HAProxy $DOOR_VERSION_MIN or newer"
    says=$(grep -m 1 -E '\[(ALERT|EMERG)\]' <<<"$words") || says=$words
    say "$haproxy (version ${version:-unknown}) cannot be the door$need. It says: ${says:0:300}"
    leave_out_door
}

start_all() {
    local i
    if ((PROXY_PORT != 0)); then
        if [[ -z $DOOR_CERTIFICATE ]]; then
            add_child 0 "the door" "$run_dir/door.err" "$(door_host)" "$PROXY_PORT"
        else # in bash there is no TLS
            add_child 0 "the door" "$run_dir/door.err" 127.0.0.1 "$DOOR_STATUS_PORT"
        fi
    fi
    for ((i = 1; i <= REPLICAS; i++)); do
        add_child "$i" "replica-$i" "$log_dir/replica-$i.log" 127.0.0.1 $((BASE_PORT + i - 1))
    done
}

write_door_servers() {
    local i limit backend
    limit=$(ulimit -n)
    [[ $limit != unlimited ]] || limit=1000000
    door_maxconn=$((limit - 100 - 312 * REPLICAS)) # 296 connections to each replica, some to spare
    ((door_maxconn <= 20000)) || door_maxconn=20000
    ((door_maxconn >= 100)) || door_maxconn=100
    ((door_maxconn >= 10100)) || say "The door takes at most $door_maxconn clients at the same moment," \
        "because this user may have $limit files open (ulimit -Hn)."
    {
        printf 'backend replicas from whole-requests\n'
        for ((i = 1; i <= REPLICAS; i++)); do
            printf '    server replica-%d 127.0.0.1:%d\n' "$i" $((BASE_PORT + i - 1))
        done
        for backend in 'short-answers 32' 'long-answers 8'; do
            printf 'backend %s from reads\n' "${backend% *}"
            for ((i = 1; i <= REPLICAS; i++)); do
                printf '    server replica-%d 127.0.0.1:%d no-check track replicas/replica-%d maxconn %d\n' \
                    "$i" $((BASE_PORT + i - 1)) "$i" "${backend#* }"
            done
        done
    } >"$run_dir/replicas.cfg"
}

supervise() {
    local i started_ms patience_said=""
    read_clock
    started_ms=$now_ms
    while true; do
        kill -0 "$front" 2>/dev/null || die "run-replicas.sh was killed."
        read_clock
        check_database
        for i in "${children[@]}"; do check_child "$i"; done
        rotate_logs
        if [[ -z $all_ready ]] && all_children_ready; then
            all_ready=yes
            announce
        elif [[ -z $all_ready$patience_said ]] && ((now_ms - started_ms > READY_SECONDS_MAX * 1000)); then
            patience_said=yes
            tell_who_is_not_ready
        fi
        if [[ -n $all_ready ]]; then pause 0.5; else pause 0.2; fi
    done
}

announce() {
    local first="http://127.0.0.1:$BASE_PORT" last="http://127.0.0.1:$((BASE_PORT + REPLICAS - 1))" replicas door=""
    replicas="$REPLICAS replicas at $first to $last"
    ((REPLICAS > 1)) || replicas="1 replica at $first"
    ((PROXY_PORT == 0)) || door="the door at $(door_url), "
    printf 'Ready: %s%s. Logs: %s. Ctrl-C stops everything.\n' "$door" "$replicas" "$log_dir" || true
}

# --- the end --------------------------------------------------------------------------------------

# Replicas first, each ending what it has begun while the door still delivers the answers; then the
# door, then the database.
stop_everything() {
    local status=$?
    trap '' INT TERM HUP
    set +e # whatever fails, the rest must be done
    stop_installing
    [[ ${#children[@]} -eq 0 ]] || say "Stopping: every replica ends the requests it has begun …"
    stop_children
    if [[ -n $database_pid ]]; then
        exec 9>&- # the last that held it
        wait "$database_pid" || status=1
    fi
    rm -f "$run_dir"/*.{pid,port}
    if [[ -n $database_pid ]]; then
        say "Stopped. The logs stay in $log_dir, the data in $(realpath -m -- "$STATE_DIR/postgres")."
    elif [[ $status -eq 0 || ${#children[@]} -gt 0 ]]; then
        say "Stopped."
    fi
    exit "$status"
}

main
