#!/usr/bin/env -S bash -p
# Replaces the replicas of a running ./run-replicas.sh one after the other, without a failed request:
# each ends what it has begun, hands its jobs over, and starts again with the program as built by then.
# Reads STATE_DIR as run-replicas.sh does.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/begin.sh
source "$repository/scripts/begin.sh"
# shellcheck source=scripts/checks.sh
source "$repository/scripts/checks.sh"

readonly READY_SECONDS_MAX=60
readonly DOOR_NOTICES=1 # the door asks each replica every 0.3 s

is_ready() { curl -sf -m 2 -o /dev/null "http://127.0.0.1:$1/health/ready"; }

# A number may have been given to any other program meanwhile.
is_replica() { [[ $(cat "/proc/$1/comm" 2>/dev/null) == balanced ]]; }

is_supervised() { kill -0 "$(<"$run_dir/main.pid")" 2>/dev/null; }

replace() { # number
    local file=$run_dir/replica-$1.pid port old new begun=$SECONDS
    port=$(<"$run_dir/replica-$1.port")
    old=$(<"$file")
    is_replica "$old" || die "Process $old of $file is no replica (any more). Is ./run-replicas.sh running?"
    kill -TERM "$old" || die "Replica $1 (process $old) does not run. Is ./run-replicas.sh running?"
    until new=$(<"$file") && [[ -n $new && $new != "$old" ]] && is_ready "$port"; do
        ((SECONDS - begun < READY_SECONDS_MAX)) ||
            die "Replica $1 is not ready after $READY_SECONDS_MAX s: the others are left as they are. Its log: $STATE_DIR/log/replica-$1.log"
        sleep 0.2
    done
    sleep "$DOOR_NOTICES"
    say "Replica $1 is replaced: process $old, now $new."
}

type -P curl >/dev/null || die "curl is needed, to ask the replicas whether they are ready."
read_env_file "$repository/.env"
STATE_DIR=$(realpath -m -- "${STATE_DIR:-$repository/var}")
run_dir=$STATE_DIR/run
replicas=("$run_dir"/replica-*.pid)
if [[ ! -e ${replicas[0]} ]] || ! is_supervised; then
    die "No replica runs in $STATE_DIR. Start them: ./run-replicas.sh"
fi
for ((i = 1; i <= ${#replicas[@]}; i++)); do replace "$i"; done
