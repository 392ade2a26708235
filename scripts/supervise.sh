#!/usr/bin/env bash
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
front=${1:-$PPID}

main() {
    read_env_file "$repository/.env"
    check_settings
    make_state_folder
    take_lock
    trap stop_everything EXIT
    trap 'trap "" INT TERM HUP; exit 0' INT TERM HUP
    trap ':' PIPE # who reads our words may be gone
    cd "$repository"
    end_leftovers
    check_ports
    ulimit -Sn "$(ulimit -Hn)" || true

    find_programs
    [[ -n ${DATABASE_URL:-} ]] || start_database
    build
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
        say "Without HAProxy there is no door, only the replicas' own addresses."
        PROXY_PORT=0
    fi
    ((missing == 0)) || exit 1
}

build() {
    local package
    [[ -x $binary ]] || say "Building the service and its load test; the first time takes a minute or two …"
    # Each by itself, as `cargo run --package loadtest` builds it, which then begins at once.
    for package in balanced loadtest; do
        step TERM cargo build --release --locked --target-dir "$target_dir" --package "$package" ||
            die "The build failed; the reason stands above."
    done
}

# --- the private database -------------------------------------------------------------------------

# Must not be interrupted half-way, or nobody would know what to stop: a second or two.
start_database() {
    local url
    database_is_ours=yes
    step "" scripts/postgres.sh start "$STATE_DIR" >"$run_dir/database-url" || return 1
    url=$(<"$run_dir/database-url")
    database_pid=$(head -n 1 "$STATE_DIR/postgres/data/postmaster.pid")
    export DATABASE_URL=$url
    ln -sfn ../postgres/postgresql.log "$log_dir/postgresql.log"
}

check_database() {
    [[ -n $database_is_ours && ! -e /proc/$database_pid/cwd/PG_VERSION ]] || return 0
    ((now_ms >= database_retry_ms)) || return 0
    stamp "PostgreSQL has ended unexpectedly: starting it again. Its log: $log_dir/postgresql.log"
    database_retry_ms=$((now_ms + 10000))
    if start_database; then stamp "PostgreSQL runs again."; else stamp "Trying again in 10 s."; fi
}

# --- the replicas and the door --------------------------------------------------------------------

# Child 0 is the door, the others are replicas.
launch() { # child
    local i=$1 port=$((BASE_PORT + $1 - 1))
    if ((i == 0)); then
        PROXY_PORT=$PROXY_PORT DOOR_LISTEN=$(door_listen) DOOR_STATUS=$(door_status) DOOR_MAXCONN=$door_maxconn \
            DOOR_REQUEST_SECONDS=$DOOR_REQUEST_SECONDS \
            DOOR_CLIENT_SECONDS=$((DOOR_REQUEST_SECONDS > 120 ? DOOR_REQUEST_SECONDS : 120)) \
            DOOR_QUEUE_SECONDS=$((REQUEST_TIMEOUT_SECONDS + 1)) \
            DOOR_SERVER_SECONDS=$((REQUEST_TIMEOUT_SECONDS + 5)) \
            setsid "$(haproxy_program)" -db -f deploy/haproxy.cfg -f "$run_dir/replicas.cfg" \
            >>"$log_dir/door.log" 2>"$run_dir/door.err" </dev/null 8>&- &
    else
        # A connection costs a thread, and glibc keeps about 8 KB of freed memory for each.
        LISTEN_ADDR=127.0.0.1:$port REPLICA_NAME=$replica_prefix-$i \
            GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.tcache_count=0} \
            setsid "$binary" >>"$log_dir/replica-$i.log" 2>&1 </dev/null 8>&- &
    fi
}

start_all() {
    local i
    if ((PROXY_PORT != 0)); then
        write_door_servers
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
    local i limit
    limit=$(ulimit -n)
    [[ $limit != unlimited ]] || limit=1000000
    door_maxconn=$((limit - 100 - 280 * REPLICAS)) # 264 connections to each replica, some to spare
    ((door_maxconn <= 20000)) || door_maxconn=20000
    ((door_maxconn >= 100)) || door_maxconn=100
    ((door_maxconn >= 10100)) || say "The door takes at most $door_maxconn clients at the same moment," \
        "because this user may have $limit files open (ulimit -Hn)."
    {
        printf 'backend replicas from whole-requests\n'
        for ((i = 1; i <= REPLICAS; i++)); do
            printf '    server replica-%d 127.0.0.1:%d\n' "$i" $((BASE_PORT + i - 1))
        done
        printf 'backend long-answers from whole-requests\n'
        for ((i = 1; i <= REPLICAS; i++)); do
            printf '    server replica-%d 127.0.0.1:%d no-check track replicas/replica-%d maxconn 8\n' "$i" $((BASE_PORT + i - 1)) "$i"
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
        for i in "${children[@]}"; do check_child "$i"; done
        check_database
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
    stop_step
    stop_installing
    if [[ ${#children[@]} -gt 0 ]]; then
        say "Stopping: every replica ends the requests it has begun …"
        stop_children
    fi
    if [[ -n $database_is_ours ]]; then
        scripts/postgres.sh stop "$STATE_DIR" 8>&- || status=1
    fi
    rm -f "$run_dir"/*.pid
    if [[ -n $database_is_ours ]]; then
        say "Stopped. Data and logs stay in $STATE_DIR."
    elif [[ $status -eq 0 || ${#children[@]} -gt 0 ]]; then
        say "Stopped."
    fi
    exit "$status"
}

main
