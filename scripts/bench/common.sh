# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with bench.sh and the sections
# To be sourced by bench.sh: what every section uses.
#
# A section is a file of this folder with a function section_NAME. It finds a fresh database with the
# service's tables at $database_url and leaves figures by `record`; what it has started in the
# background ends with bench.sh at the latest.

readonly USERS_COLD=10000
# As run-replicas.sh starts a replica.
readonly REPLICA_SETTINGS=(GLIBC_TUNABLES=glibc.malloc.tcache_count=0)
rows="" database_url="" started_pid="" started_url=""
declare -A set_pids=()

stamp() { say "$(printf '%(%H:%M:%S)T' -1) $*"; }

# --- the beginning and the end --------------------------------------------------------------------

bench_begin() {
    local name messages
    for name in cc postgresql haproxy curl; do ensure "$name" || die "Install what is missing, and start this again."; done
    find_cargo || exit 1
    pgbench=$(scripts/postgres.sh bindir)/pgbench
    psql=${pgbench%/*}/psql
    [[ -x $pgbench ]] || die "$pgbench is missing. On Debian or Ubuntu: sudo apt-get install postgresql-contrib"
    ulimit -Sn "$(ulimit -Hn)" || true # thousands of connections

    bench_folder=$(mktemp -d)
    chmod 755 "$bench_folder" # as root, PostgreSQL runs as another user, who has to reach it
    use_default_settings
    warn_of_memory_disk
    commit=$(git rev-parse --short HEAD 2>/dev/null) || commit=unknown
    git diff --quiet HEAD -- . ':!bench' 2>/dev/null || commit+=" with changes"
    results=$repository/bench
    [[ -z $quick ]] || results=$(mktemp -d)
    mkdir -p "$results" "$bench_folder/log" "$bench_folder/roofs"
    choose_ports
    say "Building …"
    # As run-replicas.sh builds it: together with loadtest it has other features, and is built again.
    messages=$(cargo build --release --locked --quiet --message-format=json-render-diagnostics)
    binary=$(built balanced <<<"$messages")
    messages=$(cargo build --release --locked --quiet --message-format=json-render-diagnostics -p loadtest)
    loadtest=$(built loadtest <<<"$messages") figures=$(built figures <<<"$messages")
    write_roofs
    flush_ms=$(measure_flush)
    server_url=$(scripts/postgres.sh start "$bench_folder/database")
}

# The defaults are measured, whatever this user has set: an empty variable counts as unset, and wins over
# the file .env.
use_default_settings() {
    local name
    for name in LISTEN_ADDR REPLICA_NAME HTTP_WORKERS DB_POOL_SIZE API_TOKEN API_TOKENS_FILE OPEN_READS \
        RECORD_ACTOR TRUSTED_ORIGINS CRON_ENABLED \
        CRON_LEASE_SECONDS CRON_HANDICAP_MS CRON_POLL_MS CRON_MAX_RUNS REQUEST_TIMEOUT_SECONDS JOB_MIN_SECONDS RUN_HISTORY_DAYS \
        SHUTDOWN_GRACE_SECONDS LOG_LEVEL; do
        export "$name="
    done
    unset GLIBC_TUNABLES DATABASE_URL STATE_DIR PROXY_ADDR "${!DOOR_@}"
}

warn_of_memory_disk() {
    [[ $(stat -f -c %T "$bench_folder") == tmpfs ]] || return 0
    say "Warning: $bench_folder is in memory, where nothing has to be flushed: set TMPDIR to a folder on a disk."
}

bench_end() {
    local status=$? left
    trap '' INT TERM HUP
    stop_installing
    [[ $status -eq 0 ]] || say "Stopping …"
    mapfile -t left < <(jobs -pr)
    stop_processes "${left[@]}"
    if [[ -n $bench_folder ]]; then
        scripts/postgres.sh remove "$bench_folder/database" 2>/dev/null || true
        rm -rf "$bench_folder"
    fi
    [[ $status -eq 0 || -z $quick || -z ${results:-} ]] || rm -rf "$results"
    exit "$status"
}

# 40 in a row, below those that the kernel gives to outgoing connections, none in use.
choose_ports() {
    local first port
    for _ in {1..50}; do
        first=${BASE_PORT:-$((20000 + RANDOM % 12000))}
        for ((port = first; port < first + 40; port++)); do
            ! is_listened_on "$port" || continue 2
        done
        port_base=$first next_port=$((first + 20))
        unset BASE_PORT
        return
    done
    die "Of the ports from $first on, some are taken. Choose others with BASE_PORT."
}

describe_machine() {
    printf 'processor\t%s\n' "$(sed -nE 's/^model name[^:]*: //p' /proc/cpuinfo | sort -u | paste -sd,)"
    printf 'cores\t%d\n' "$(nproc)"
    printf 'memory\t%d MB\n' $(($(sed -nE 's/^MemTotal: *([0-9]+).*/\1/p' /proc/meminfo) / 1024))
    printf 'kernel\t%s\n' "$(uname -s) $(uname -r | cut -d- -f1)"
    printf 'PostgreSQL\t%s\n' "$(sql 'show server_version' | cut -d' ' -f1)"
    printf 'HAProxy\t%s\n' "$("$(haproxy_program)" -v | sed -nE 's/.*version ([^ ]+).*/\1/p')"
    printf 'rustc\t%s\n' "$(rustc --version | cut -d' ' -f2)"
    printf 'a write of 8 KB, flushed\t%s ms\n' "$flush_ms"
}

# What each commit waits for: milliseconds for a write of one page that is on the disk when it returns.
measure_flush() {
    local begun_ns end_ns writes=200
    begun_ns=$(date +%s%N)
    dd if=/dev/zero of="$bench_folder/flush" bs=8k count="$writes" oflag=dsync status=none
    end_ns=$(date +%s%N)
    rm "$bench_folder/flush"
    calculate "($end_ns - $begun_ns) / 1e6 / $writes" %.2f
}

# --- figures --------------------------------------------------------------------------------------

# KIND CASE UNIT VALUE [REPEAT]: one measured value. Kinds, cases and units are free words.
record() {
    [[ $4 =~ ^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$ ]] || die "Measured no number for $1, $2: '$4'"
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${5:-1}" "$4" >>"$rows"
}

# The first number of this name in a document of loadtest, given on standard input.
json_field() {
    awk -v name="\"$1\":" '$1 == name && !found { gsub(",", "", $2); print $2; found = 1 } END { exit !found }' ||
        die "The report has no number '$1'."
}

calculate() { awk "BEGIN { printf \"${2:-%.4f}\", $1 }"; } # expression [format]

# --- the database ---------------------------------------------------------------------------------

sql() { "$psql" -XAtq -v ON_ERROR_STOP=1 -d "${database_url:-$server_url}" -c "$1"; }

# NAME: an empty database with the service's tables; sets `database_url`.
fresh_database() {
    database_url=$server_url
    sql "drop database if exists $1 with (force)" 2>/dev/null
    sql "create database $1"
    database_url=${server_url/\/balanced\?//$1?}
    DATABASE_URL=$database_url "$binary" migrate >>"$bench_folder/log/migrate.log" 2>&1
    sql checkpoint
}

# --- the roofs: PostgreSQL alone, with the statements of src/balance.rs ---------------------------

write_roofs() {
    local plain keyed bare
    plain=$(statement CHANGE)
    keyed=$(statement CHANGE_ONCE)
    # shellcheck disable=SC2016 # parameters of a statement
    bare='update users set balance = balance + $2 where id = $1 and balance + $2 >= 0 returning balance'
    # shellcheck disable=SC2016
    local one='\set u 1' many="\\set u random(1, $USERS_COLD)" turns='\set a random(0, 1) * 2 - 1'
    # Keys that rise within a client, as those of loadtest; clients are far apart.
    local key='\set n :n + 1
\set k :client_id * 10000000000000000 + :n'
    write_roof "hot plain" "$one" "$turns" "$plain"
    write_roof "hot keys" "$one" "$turns"$'\n'"$key" "$keyed"
    write_roof "hot bare" "$one" "$turns" "$bare"
    write_roof "cold plain" "$many" "$turns" "$plain"
    write_roof "cold keys" "$many" "$turns"$'\n'"$key" "$keyed"
    write_roof "cold bare" "$many" "$turns" "$bare"
    write_roof "deposit" "$one" '\set a 10000' "$plain"
    write_roof "withdrawal" "$one" '\set a -2' "$plain"
}

write_roof() { # name user amount statement
    local statement=$4
    # shellcheck disable=SC2016 # parameters of a statement
    statement=${statement//'$1'/:u} statement=${statement//'$2'/:a} statement=${statement//'$5'/:k}
    # No reference, and no actor.
    # shellcheck disable=SC2016
    statement=${statement//'$3'/null} statement=${statement//'$4'/null}
    printf '%s\n%s\n%s;\n' "$2" "$3" "$statement" >"$bench_folder/roofs/$1.sql"
}

# CONSTANT: the text of a statement of the service.
statement() {
    awk -v begin="const $1: &str = \"\\\\" '
        $0 == begin { inside = 1; next }
        inside { ended = sub(/";$/, ""); print; if (ended) exit }
        END { exit !ended }' src/balance.rs ||
        die "Cannot find the statement $1 in src/balance.rs, which scripts/bench/common.sh measures."
}

# SCRIPT CLIENTS SECONDS: changes a second. SCRIPT is a name of `write_roofs` or a path.
roof() { transactions "$1" "$2" -T "$3"; }

# SCRIPT CLIENTS OPTION…: transactions a second of pgbench, whose one thread is enough for 16 clients: a
# second one takes time from the server where cores are few.
transactions() {
    local script=$1 output
    [[ $script == */* ]] || script=$bench_folder/roofs/$script.sql
    output=$("$pgbench" -n -M prepared -f "$script" -c "$2" -D n="$(date +%s%N)" "${@:3}" \
        "$database_url" 2>&1) || die "pgbench failed with $script:"$'\n'"$output"
    awk '/^tps = / { tps = $3 } END { print tps; exit !tps }' <<<"$output" || die "pgbench tells no rate: $output"
}

# --- the service ----------------------------------------------------------------------------------

# One replica with a door of its own, and five with theirs, over one database and side by side, since
# an idle one costs next to nothing: so both can be measured in turns. The jobs are off.
start_services() {
    launch_set one 1
    launch_set five 5
    await_set one
    await_set five
}

start_one_set() { # VARIABLE=VALUE…: the single replica with its door
    launch_set one 1 "$@"
    await_set one
}

launch_set() { # name replicas VARIABLE=VALUE…
    local base=$port_base
    [[ $1 == one ]] || base=$((port_base + 10))
    local door=http://127.0.0.1:$base urls="" i
    for ((i = 1; i <= $2; i++)); do urls+=",http://127.0.0.1:$((base + i))"; done
    if [[ $1 == one ]]; then
        one_door=$door one_url=${urls#,} one_pid_file=$bench_folder/one/run/replica-1.pid
    else
        five_door=$door five_urls=${urls#,}
    fi
    : >"$bench_folder/log/$1.output" # here, since the process below may come to it after the first look
    env CRON_ENABLED=false "${@:3}" REPLICAS="$2" BASE_PORT=$((base + 1)) PROXY_PORT="$base" \
        STATE_DIR="$bench_folder/$1" DATABASE_URL="$database_url" \
        ./run-replicas.sh >"$bench_folder/log/$1.output" 2>&1 &
    set_pids[$1]=$!
}

await_set() { # name
    local end=$((SECONDS + 60))
    until grep -q '^Ready: ' "$bench_folder/log/$1.output"; do
        if ! kill -0 "${set_pids[$1]}" 2>/dev/null || ((SECONDS > end)); then
            die "run-replicas.sh is not ready:"$'\n'"$(<"$bench_folder/log/$1.output")"
        fi
        sleep 0.2
    done
}

stop_services() {
    stop_processes "${set_pids[@]}"
    set_pids=()
}

# NAME [VARIABLE=VALUE…]: a replica without a door, as run-replicas.sh starts it; sets `started_url` and `started_pid`.
start_one() {
    local name=$1 port=$next_port end=$((SECONDS + 30))
    next_port=$((port + 1 < port_base + 40 ? port + 1 : port_base + 20))
    env CRON_ENABLED=false "${REPLICA_SETTINGS[@]}" "${@:2}" REPLICA_NAME="$name" \
        LISTEN_ADDR=127.0.0.1:"$port" DATABASE_URL="$database_url" "$binary" >"$bench_folder/log/$name.log" 2>&1 &
    started_pid=$! started_url=http://127.0.0.1:$port
    until LISTEN_ADDR=127.0.0.1:$port DATABASE_URL=$database_url "$binary" health >/dev/null 2>&1; do
        if ! kill -0 "$started_pid" 2>/dev/null || ((SECONDS > end)); then
            die "A replica is not ready:"$'\n'"$(<"$bench_folder/log/$name.log")"
        fi
        sleep 0.1
    done
}

stop_processes() { # process…
    [[ $# -gt 0 ]] || return 0
    kill -TERM "$@" 2>/dev/null || true
    wait "$@" 2>/dev/null || true
}

# --- loadtest -------------------------------------------------------------------------------------

# URLS OPTION…: the report of a bench in which every change was made.
bench() {
    local report not_made
    report=$("$loadtest" bench --json --targets "$1" "${@:2}") ||
        die "Failed: loadtest bench --targets $*"$'\n'"$(sed -n '/"errors"/,$p' <<<"$report")"
    not_made=$(json_field failed <<<"$report")+$(json_field refused <<<"$report")
    ((not_made == 0)) || die "Not every change was made: loadtest bench --targets $*"$'\n'"$report"
    sed -nE '/"warnings": \[$/,/\]/s/^ +"(.*)",?$/    Warning: \1/p' <<<"$report" >&2
    printf '%s\n' "$report"
}

# URLS: the report of a burst that went as it had to.
burst() {
    local report
    report=$("$loadtest" burst --json --targets "$1") || die "The burst at $1 went wrong:"$'\n'"$report"
    printf '%s\n' "$report"
}

# USERS URLS CONNECTIONS SECONDS OPTION…: changes a second, in a closed loop. USERS is hot or cold.
throughput() {
    bench "$2" --users "$(users_of "$1")" -n "$3" --duration "$4" --warmup 1 "${@:5}" | json_field answersPerSecond
}

users_of() { if [[ $1 == hot ]]; then printf 1; else printf '%d' "$USERS_COLD"; fi; }

# Makes the users, with money for everything to come.
prepare_users() { # URL
    local rich
    bench "$1" --users "$USERS_COLD" --duration 1 --warmup 0 >/dev/null
    rich=$(sql "select count(*) from users where id <= $USERS_COLD and balance >= 100000")
    ((rich == USERS_COLD)) || die "Only $rich of $USERS_COLD users have money: the roofs would measure refusals."
}

# How long something is measured.
seconds_or_1() { if [[ -n $quick ]]; then printf 1; else printf '%d' "$1"; fi; }
