#!/usr/bin/env bash
# Patroni's faults, by hand: three nodes and etcd on loopback. See tests/it/faults/patroni.rs.
set -euo pipefail

readonly NODES=3 START_SECONDS_MAX=120
# Node N's PostgreSQL listens on $PORT + N, its agent on $PORT + 10 + N, etcd on $PORT + 20.
readonly PORT=${BALANCED_PATRONI_PORT:-25430}
# A developer's own settings are about other servers.
unset "${!PG@}" "${!PATRONI_@}"
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

help() {
    cat <<HELP
Tries what Patroni's clusters go through, with clients and jobs at work, and prints what was seen.
Takes about a quarter of an hour. Needs patroni, etcd and curl (Debian: patroni etcd-server curl).

Usage: tests/patroni.sh [TEST…]

  TEST…                    names of tests, or parts of them; all unless told
  lend synchronous|asynchronous
                           for the tests: starts a cluster, prints its folder, ends it and removes
                           the folder when its standard input closes
  agent FOLDER N           starts the agent of node N again
  --help                   prints this

BALANCED_PATRONI_PORT ($PORT) is the first of 30 ports that it takes, FAILOVER_SEED repeats a run.
HELP
}

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Each in a session of its own. PostgreSQL refuses to run as root.
as_owner=(setsid)
[[ $EUID -ne 0 ]] || as_owner=(env HOME=/ setsid setpriv --reuid postgres --regid postgres --init-groups --)

configuration() {
    local node=$1 synchronous=false
    [[ $2 != synchronous ]] || synchronous=true
    cat <<YAML
scope: balanced
name: node$node
restapi: {listen: 127.0.0.1:$((PORT + 10 + node)), connect_address: 127.0.0.1:$((PORT + 10 + node))}
etcd3: {hosts: 127.0.0.1:$((PORT + 20))}
bootstrap:
  dcs: {synchronous_mode: $synchronous, postgresql: {use_pg_rewind: true}}
  initdb: [encoding: UTF8, data-checksums]
  pg_hba: [local all all trust, host all all 127.0.0.1/32 trust, host replication all 127.0.0.1/32 trust]
postgresql:
  listen: 127.0.0.1:$((PORT + node))
  connect_address: 127.0.0.1:$((PORT + node))
  data_dir: $folder/$node/data
  pgpass: $folder/$node/pgpass
  bin_dir: $("$repository/scripts/postgres.sh" bindir)
  parameters: {unix_socket_directories: $folder/$node, max_connections: 200}
  authentication: {superuser: {username: postgres, password: p}, replication: {username: replica, password: p}}
watchdog: {mode: off}
YAML
}

in_folder() {
    local cwd
    for cwd in /proc/[0-9]*/cwd; do
        [[ $(readlink -- "$cwd") != "$folder"/* ]] || basename "${cwd%/cwd}"
    done
}

start_agent() {
    "${as_owner[@]}" patroni "$folder/$1/patroni.yml" >>"$folder/$1/agent.log" 2>&1 &
    echo $! >"$folder/$1/agent.pid"
}

primaries() {
    local node
    for ((node = 1; node <= NODES; node++)); do
        curl -fsS -m 2 -o /dev/null "http://127.0.0.1:$((PORT + 10 + node))/$1" 2>/dev/null && echo "$node"
    done
    true
}

# Every process that was started here: each works in the folder, or was told of it.
end() {
    local pid
    for pid in $(pgrep -f -- "$folder/") $(in_folder); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    { wait; } 2>/dev/null
    sleep 1
    rm -rf -- "$folder"
}

lend() {
    [[ ${1:-} == synchronous || ${1:-} == asynchronous ]] || die "lend synchronous or asynchronous?"
    folder=$(mktemp -d /tmp/balanced-patroni.XXXXXX)
    trap end EXIT
    [[ $EUID -ne 0 ]] || chown postgres: -- "$folder"
    "${as_owner[@]}" etcd --data-dir "$folder/etcd" --listen-client-urls "http://127.0.0.1:$((PORT + 20))" \
        --advertise-client-urls "http://127.0.0.1:$((PORT + 20))" \
        --listen-peer-urls "http://127.0.0.1:$((PORT + 21))" >"$folder/etcd.log" 2>&1 &
    echo $! >"$folder/etcd.pid"
    local node
    for ((node = 1; node <= NODES; node++)); do
        "${as_owner[@]}" mkdir -m 700 "$folder/$node"
        configuration "$node" "$1" >"$folder/$node/patroni.yml"
        start_agent "$node"
        # The others copy the first one.
        ((node > 1)) || wait_until "there is a primary" has primary 1
    done
    wait_until "all follow" has replica $((NODES - 1))
    [[ $1 == asynchronous ]] || wait_until "one follows synchronously" has synchronous 1
    psql -qh 127.0.0.1 -p "$((PORT + $(primaries primary)))" -U postgres -c 'create database balanced'
    wait_until "all have the database" have_the_database
    printf '%s\n' "$folder" "$PORT"
    cat >/dev/null
}

# One that follows may not have begun to read from the primary: a switch-over would lose what it lacks.
have_the_database() {
    local node
    for ((node = 1; node <= NODES; node++)); do
        psql -qh 127.0.0.1 -p "$((PORT + node))" -U postgres -d balanced -c '' 2>/dev/null || return 1
    done
}

has() { (($(primaries "$1" | wc -l) >= $2)); }

wait_until() {
    local what=$1 end=$((SECONDS + START_SECONDS_MAX))
    shift
    until "$@"; do
        ((SECONDS < end)) || die "not in time: $what; see $(tail -3 "$folder"/*/agent.log)"
        sleep 0.2
    done
}

case ${1:-} in
    --help) help ;;
    lend) lend "${2:-}" ;;
    agent)
        folder=$2
        start_agent "$3"
        ;;
    *)
        for program in patroni etcd curl; do
            command -v "$program" >/dev/null || die "$program is not installed. On Debian or Ubuntu: sudo apt-get install patroni etcd-server curl"
        done
        cd "$repository"
        filters=()
        for name in "${@:-}"; do filters+=("patroni::$name"); done
        exec cargo test --locked --test it -- --ignored --nocapture --test-threads 1 "${filters[@]}"
        ;;
esac
