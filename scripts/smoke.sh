#!/usr/bin/env -S bash -p
# The whole service as a stranger starts it: run-replicas.sh on an empty state folder, the walk of the tutorial,
# a burst through the door and one at the replicas, a look at the jobs, a killed replica, all of them
# replaced, a clean stop, a second start on the same data, by HTTPS and with tokens, that is killed, and one
# beside an old HAProxy, which a closed terminal ends. Uses ports of its own and leaves nothing behind.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/begin.sh
source "$repository/scripts/begin.sh"
readonly START_SECONDS_MAX=600 # the first start builds
readonly STOP_SECONDS_MAX=20

folder=$(mktemp -d)
chmod 755 "$folder" # as root, PostgreSQL runs as another user, who has to reach it
export STATE_DIR=$folder/state REPLICAS=3 BASE_PORT=$((20000 + RANDOM % 5000)) PROXY_PORT=$((26000 + RANDOM % 5000))
unset DATABASE_URL REPLICA_NAME "${!DOOR_@}"
export PROXY_ADDR= # must mean the default, not all addresses
export API_TOKEN="" API_TOKENS_FILE="" OPEN_READS="" # whatever the file .env has
door=http://127.0.0.1:$PROXY_PORT
main="" token=""

fail() {
    printf 'scripts/smoke.sh: %s\n' "$*" >&2
    sed 's/^/  /' "$folder/output" >&2
    exit 1
}

finish() {
    [[ -z $main ]] || kill -TERM "$main" 2>/dev/null || true
    [[ -z $main ]] || wait "$main" 2>/dev/null || true
    scripts/postgres.sh remove "$STATE_DIR" 2>/dev/null || true # as root under umask 077 the data lie elsewhere
    rm -rf "$folder"
}

wait_until() { # seconds what command…
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        kill -0 "$main" 2>/dev/null || fail "run-replicas.sh has ended before: $what"
        ((SECONDS < end)) || fail "not in time: $what"
        sleep 0.2
    done
}

start() {
    : >"$folder/output" # here, since the shell below may come to it after the first look
    "$repository/run-replicas.sh" >"$folder/output" 2>&1 &
    main=$!
    wait_until "$START_SECONDS_MAX" "the ready line" grep -q '^Ready: ' "$folder/output"
}

stop() { # [signal]
    local pid pids end=$((SECONDS + STOP_SECONDS_MAX)) status=0
    mapfile -t pids < <(cat "$STATE_DIR"/run/*.pid)
    kill "-${1:-TERM}" "$main"
    while kill -0 "$main" 2>/dev/null; do
        ((SECONDS < end)) || fail "it has not stopped within $STOP_SECONDS_MAX s"
        sleep 0.2
    done
    wait "$main" || status=$?
    main=""
    ((status == 0)) || fail "it stopped with exit code $status"
    ! pgrep -f "$STATE_DIR" >/dev/null || fail "left running: $(pgrep -af "$STATE_DIR")"
    for pid in "${pids[@]}"; do # a replica's command line does not name the folder
        [[ ! -e /proc/$pid/exe ]] || fail "left running: process $pid, $(tr '\0' ' ' <"/proc/$pid/cmdline")"
    done
}

# The supervisor and its front, with the signal that nobody can handle.
kill_it() {
    local pid pids supervisor end=$((SECONDS + STOP_SECONDS_MAX))
    mapfile -t pids < <(cat "$STATE_DIR"/run/*.pid && head -n 1 "$STATE_DIR/postgres/data/postmaster.pid")
    ((${#pids[@]} == REPLICAS + 4)) || fail "${#pids[@]} processes run"
    read -r supervisor <"/proc/$main/task/$main/children" || true # it ends without a newline
    kill -KILL "$main" "$supervisor"
    wait "$main" 2>/dev/null || true
    main=""
    for pid in "${pids[@]}"; do
        while kill -0 "$pid" 2>/dev/null; do
            ((SECONDS < end)) || fail "it was killed, and process $pid outlives it: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
            sleep 0.2
        done
    done
}

balance() { curl -sf ${token:+-H "Authorization: Bearer $token"} "$door/api/users/1"; }
makes_token() { # scope…: writes its line
    local made
    made=$("$(<"$STATE_DIR/run/program")" token smoke "$@" 2>/dev/null)
    token=$(sed -n 's/^token: //p' <<<"$made")
    sed -n 's/^line: //p' <<<"$made" >"$folder/tokens"
}
burst() { "$loadtest" burst -n 2000 --reset 2000 "$@"; }
door_says() { curl -s -o /dev/null -w '%{http_code}' "$@" -d '{"userId":1,"amount":1}' "$door/api/balance"; }
served_by() { # user
    curl -s -o /dev/null -D - -d "{\"userId\":$1,\"amount\":1}" "$door/api/balance" | sed -nE 's/^x-served-by: *(\S+).*/\1/Ip'
}
killed_is_back() { [[ $(<"$STATE_DIR/run/$name.pid") != "$victim" && $(served_by 1) == "$name" ]]; }
user_1_is_served() { [[ $(door_says) == 200 ]]; }

trap finish EXIT
cd "$repository"
start
loadtest=$(cargo build --release --locked -p loadtest --message-format=json-render-diagnostics | built loadtest)
grep '^Ready: ' "$folder/output"
scripts/walk.sh || fail "docs/tutorial.md shows what is not so"
! "$repository/run-replicas.sh" >"$folder/second" 2>&1 || fail "it runs twice"
grep -q "^run-replicas.sh runs already for $STATE_DIR (process $main)" "$folder/second" || fail "$(<"$folder/second")"
head -c 10000001 /dev/zero | tr '\0' '\n' >>"$STATE_DIR/log/replica-1.log" # is cut within 10 s
burst --targets "$door"
replicas=http://127.0.0.1:$BASE_PORT,http://127.0.0.1:$((BASE_PORT + 1)),http://127.0.0.1:$((BASE_PORT + 2))
burst --targets "$replicas" --history "$folder/history"
"$loadtest" check "$folder/history"
"$loadtest" cron --targets "$replicas" --duration 12

if grep -qs '^0\{31\}1 ' /proc/net/if_inet6; then
    curl -sf -o /dev/null "http://[::1]:$PROXY_PORT/health" || fail "the door is not at ::1"
fi
# Over both a replica's library has words, or silence, of its own.
[[ $(door_says -H $'X-Name: Zo\xc3\xab') == 200 ]] || fail "a header field that is not ASCII reaches a replica"
[[ $(door_says -H 'Expect: a-miracle') == 200 ]] || fail "an expectation reaches a replica"
# Nor does it try to understand such numbers, which can take HAProxy's reader of JSON seconds.
large=$(printf '"%d":1e2147483647,' {1..40})
[[ $(curl -s -m 1 -o /dev/null -w '%{http_code}' -d "{$large\"userId\":1,\"amount\":1}" "$door/api/balance") == 400 ]] ||
    fail "the door reads numbers with large exponents"

# One user's changes go to one replica, and users to all.
[[ $(for _ in {1..9}; do served_by 1; done | sort -u) =~ ^replica-[123]$ ]] || fail "replicas share one user's changes"
[[ $(for user in {1..40}; do served_by "$user"; done | sort -u | wc -l) -eq 3 ]] || fail "not every replica has users"

# The one that has user 1: the user is another's at once.
name=$(served_by 1)
victim=$(<"$STATE_DIR/run/$name.pid")
kill -KILL "$victim"
wait_until 2 "another replica has the killed one's users" user_1_is_served
for _ in {1..50}; do balance >/dev/null || fail "the door does not answer while a replica is away"; done
wait_until 20 "the killed replica is back" killed_is_back

(while [[ ! -e $folder/rolled ]]; do balance >/dev/null || touch "$folder/failed"; done) &
asking=$!
scripts/roll.sh
touch "$folder/rolled"
wait "$asking"
[[ ! -e $folder/failed ]] || fail "a request failed while the replicas were replaced"
kept=$(balance)
wait_until 11 "the long log is cut" test -s "$STATE_DIR/log/replica-1.log.1"
(($(stat -c %s "$STATE_DIR/log/replica-1.log") < 10000000)) || fail "the long log is as long as it was"
stop

PROXY_ADDR=127.0.0.2 door=http://127.0.0.2:$PROXY_PORT API_TOKENS_FILE=$folder/tokens
makes_token read balance
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=door \
        -addext subjectAltName=IP:127.0.0.2 -keyout "$folder/key.pem" -out "$folder/ca.pem" 2>/dev/null
    cat "$folder/ca.pem" "$folder/key.pem" >"$folder/door.pem"
    export DOOR_CERTIFICATE=$folder/door.pem CURL_CA_BUNDLE=$folder/ca.pem door=https://127.0.0.2:$PROXY_PORT
fi
start
curl -sf -o /dev/null "http://127.0.0.1:$((PROXY_PORT + 324))/health/ready" || fail "the door cannot be watched"
grep -q "the door at $door," "$folder/output" || fail "the ready line has another address than $door"
[[ $(balance) == "$kept" ]] || fail "the data were not kept: $kept before, $(balance) after"
[[ $(door_says) == 401 ]] || fail "a change needs no token"
burst --targets "$replicas" --token "$token"
old=$token
makes_token read
cat "$STATE_DIR"/run/replica-*.pid | xargs kill -HUP
wait_until 5 "the new token is known" balance
[[ $(door_says -H "Authorization: Bearer $token") == 403 ]] || fail "a token that may read changes something"
[[ $(door_says -H "Authorization: Bearer $old") == 401 ]] || fail "a token that was taken away is taken"
kill_it

mkdir "$folder/old"
cat >"$folder/old/haproxy" <<'OLD'
#!/bin/sh
[ "$1" != -v ] || { echo 'HAProxy version 2.4.22-0ubuntu0.22.04.4 2024/12/01 - https://haproxy.org/' && exit; }
echo "[ALERT] (7) : parsing [deploy/haproxy.cfg:212] : 'balance' only supports 'roundrobin'" >&2
exit 1
OLD
chmod +x "$folder/old/haproxy"
PATH=$folder/old:$PATH REPLICAS=1 start
grep -q "(version 2.4.22.*) cannot be the door, since it needs HAProxy 2.6 or newer. It says: \[ALERT\]" "$folder/output" ||
    fail "it does not say what is wrong with an old HAProxy"
grep -q '^Ready: 1 replica at ' "$folder/output" || fail "it does not start without the door"
signal=HUP # as a terminal sends that is closed
if ((16#$(sed -nE 's/^SigIgn:\s+//p' /proc/$$/status) & 1)); then signal=TERM; fi # under nohup nobody gets it
stop "$signal"
printf 'Smoke test: all is well.\n'
