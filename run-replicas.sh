#!/usr/bin/env -S bash -p
# The whole service on this machine, in the foreground: a private PostgreSQL, the replicas and the
# door in front of them, until Ctrl-C. See --help.
#
# The work is done by scripts/supervise.sh in a session of its own, which the terminal's Ctrl-C does
# not reach: bash loses it now and then while it runs a command. This process runs none: it waits,
# and passes on the signal to stop.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/begin.sh
source "$repository/scripts/begin.sh"
supervisor="" told_to_stop=""

help() {
    cat <<'HELP'
Builds and runs the service on this machine, in the foreground, until Ctrl-C.

Usage: ./run-replicas.sh

Settings, from the environment or from the file .env beside this script (the environment wins):
  REPLICAS      5          how many replicas
  BASE_PORT     3001       the first replica's port; the others follow
  PROXY_PORT    8080       the door's port, one address for all replicas; 0 = no door
  PROXY_ADDR    127.0.0.1  the door's address, with ::1; 0.0.0.0 lets other machines reach it
  DOOR_CERTIFICATE         a PEM file with a certificate and its key: the door then speaks HTTPS only
  DOOR_STATUS_PORT         where the door is watched, on 127.0.0.1: PROXY_PORT + 324; 0 = nowhere
  STATE_DIR     ./var      data, logs and process ids; kept between runs
  DATABASE_URL             a PostgreSQL to use; when unset, a private one is started in STATE_DIR
  PG_BINDIR                the folder of the programs to start it with; when unset, the newest found
All other settings go to the replicas: see .env.example.
To begin anew, without the private PostgreSQL's data: scripts/postgres.sh remove

Exit code: 0 after a clean stop, 1 after a failure, 2 when a setting is wrong.
HELP
}

main() {
    case ${1:-} in
        "") ;;
        -h | --help) help && exit ;;
        *) printf "Unknown argument '%s'. See ./run-replicas.sh --help\n" "$1" >&2 && exit 2 ;;
    esac
    trap pass_on INT TERM HUP
    bound "$repository/scripts/supervise.sh" $$ </dev/null &
    supervisor=$!
    [[ -z $told_to_stop ]] || kill -TERM "$supervisor"
    wait_for_supervisor
}

# shellcheck disable=SC2317 # called by the trap
pass_on() {
    trap '' INT TERM HUP # once is enough
    told_to_stop=yes
    [[ -z $supervisor ]] || kill -TERM "$supervisor" 2>/dev/null || true
}

wait_for_supervisor() {
    local status=0
    exec 9<> <(:) # nothing ever comes from there
    while kill -0 "$supervisor" 2>/dev/null; do
        if [[ -z $told_to_stop ]]; then
            wait "$supervisor" 2>/dev/null || true # a signal ends this, too
        else
            read -rt 0.2 -u 9 || true
            kill -TERM "$supervisor" 2>/dev/null || true # the first may have come while it began
        fi
    done
    wait "$supervisor" 2>/dev/null || status=$?
    if [[ -n $told_to_stop && $status -eq 143 ]]; then status=0; fi # stopped before it began
    ((status <= 128)) || say "The supervisor was killed: the replicas, the door and the database stop by themselves."
    exit "$status"
}

main "$@"
