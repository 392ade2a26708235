# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with supervise.sh
# To be sourced: what must be right before anything is started.

# Lines KEY=VALUE; a variable of the environment wins, and of two lines the last. Nothing in the file is
# executed. Docker Compose reads the same file: what it would read otherwise is refused.
read_env_file() {
    local line key number=0 wrong=0 value
    declare -A ours=()
    [[ -f $1 ]] || return 0
    [[ -r $1 ]] || die "Cannot read $1. Change its permissions or remove it."
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        line=${line%$'\r'}
        [[ ! $line =~ ^[[:space:]]*(#.*)?$ ]] || continue
        if [[ ! $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]]; then
            say "$1, line $number: must be KEY=VALUE"
            wrong=1
            continue
        fi
        key=${BASH_REMATCH[2]}
        if ! read_value "${BASH_REMATCH[3]}"; then
            say "$1, line $number: the value of $key has a character (\$, \\, # or a quotation mark) that Docker Compose" \
                "would take for something else. Put it into single quotes: $key='…'"
            wrong=1
            continue
        fi
        [[ ! -v $key || -n ${ours[$key]:-} ]] || continue
        export "$key=$value"
        ours[$key]=yes
    done <"$1"
    ((wrong == 0)) || exit 2
}

# Sets `value`. In single quotes everything stands for itself; elsewhere only what is special to nobody.
read_value() { # text behind the =
    local single=$'^[[:space:]]*\'(([^\']*[^\\\'])?)\'[[:space:]]*(#.*)?$'
    local double='^[[:space:]]*"([^"$\\]*)"[[:space:]]*(#.*)?$'
    if [[ $1 =~ $single || $1 =~ $double ]]; then
        value=${BASH_REMATCH[1]}
        return
    fi
    value=${1#"${1%%[![:space:]]*}"}
    value=${value%%" #"*} # a comment
    value=${value%"${value##*[![:space:]]}"}
    [[ $value != [\"\']* && $value != *[\$\\#]* ]]
}

# Sets the defaults and reports every fault, not only the first.
check_settings() {
    faults=()
    whole_number REPLICAS 5 1 100
    whole_number BASE_PORT 3001 1 65535
    whole_number PROXY_PORT 8080 0 65535
    PROXY_ADDR=${PROXY_ADDR:-127.0.0.1} # empty would mean all addresses to HAProxy
    [[ $PROXY_ADDR =~ ^[A-Za-z0-9.:%_*-]+$ ]] || faults+=("PROXY_ADDR=$PROXY_ADDR: must be one address, such as 127.0.0.1 or ::")
    whole_number REQUEST_TIMEOUT_SECONDS 30 1 3600
    whole_number DOOR_REQUEST_SECONDS 120 1 3600
    whole_number DOOR_READ_MS 1100 100 60000
    [[ -z ${DOOR_STATUS_PORT:-} ]] || whole_number DOOR_STATUS_PORT 0 0 65535
    check_certificate
    whole_number SHUTDOWN_GRACE_SECONDS 10 1 3600
    if [[ ${#faults[@]} -eq 0 ]]; then
        local last=$((BASE_PORT + REPLICAS - 1))
        ((last <= 65535)) || faults+=("BASE_PORT=$BASE_PORT: $REPLICAS replicas from there need ports up to $last, beyond 65535")
        ((PROXY_PORT < BASE_PORT || PROXY_PORT > last)) ||
            faults+=("PROXY_PORT=$PROXY_PORT: must not be among the replicas' ports, $BASE_PORT to $last")
        local status=${DOOR_STATUS_PORT:-0}
        ((status == 0 || ((status < BASE_PORT || status > last) && status != PROXY_PORT))) ||
            faults+=("DOOR_STATUS_PORT=$status: must be neither PROXY_PORT nor among the replicas' ports, $BASE_PORT to $last")
        warn_of_port_range "$last"
    fi
    if [[ ${#faults[@]} -gt 0 ]]; then
        say "Some settings cannot be used:"
        printf '  %s\n' "${faults[@]}" >&2
        exit 2
    fi
    STATE_DIR=$(realpath -m -- "${STATE_DIR:-$repository/var}")
    replica_prefix=${REPLICA_NAME:-replica}
    log_dir=$STATE_DIR/log
    run_dir=$STATE_DIR/run
    # The replicas are started in another folder; what else may be wrong with it they know.
    [[ -z ${API_TOKENS_FILE:-} ]] || API_TOKENS_FILE=$(realpath -m -- "$API_TOKENS_FILE")
    export STATE_DIR PROXY_ADDR DOOR_CERTIFICATE API_TOKENS_FILE
}

# What else may be wrong with it HAProxy knows.
check_certificate() {
    DOOR_CERTIFICATE=${DOOR_CERTIFICATE:+$(realpath -m -- "$DOOR_CERTIFICATE")}
    [[ -z $DOOR_CERTIFICATE ]] || grep -qs -e '-BEGIN CERTIFICATE-' -- "$DOOR_CERTIFICATE" ||
        faults+=("DOOR_CERTIFICATE=$DOOR_CERTIFICATE: must be a readable PEM file with a certificate, its chain and its key")
}

# Many programs take "localhost" for ::1 first, so the door is there, too, where there is one.
door_listen() {
    local listen=$PROXY_ADDR:$PROXY_PORT
    if [[ $PROXY_ADDR == 127.0.0.1 ]] && grep -qs '^0\{31\}1 ' /proc/net/if_inet6; then
        listen+=",[::1]:$PROXY_PORT"
    fi
    printf '%s' "$listen"
}

door_status() { ((DOOR_STATUS_PORT == 0)) || printf '127.0.0.1:%d' "$DOOR_STATUS_PORT"; }

# Where this machine reaches the door.
door_host() {
    case $PROXY_ADDR in
        0.0.0.0 | '*') printf 127.0.0.1 ;;
        ::) printf ::1 ;;
        *) printf '%s' "$PROXY_ADDR" ;;
    esac
}

door_url() {
    local plain
    plain=$(url "$(door_host)" "$PROXY_PORT")
    if [[ -n $DOOR_CERTIFICATE ]]; then printf 'https%s' "${plain#http}"; else printf '%s' "$plain"; fi
}

# Is the version VERSION, empty where it is not known, LEAST or a newer one?
is_from() { # least version
    [[ -n $2 && $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]
}

url() { # host port
    if [[ $1 == *:* ]]; then printf 'http://[%s]:%d' "$1" "$2"; else printf 'http://%s:%d' "$1" "$2"; fi
}

whole_number() { # name default least most
    local value=${!1:-$2}
    if [[ ! $value =~ ^(0|[1-9][0-9]{0,6})$ ]] || ((value < $3 || value > $4)); then
        faults+=("$1=$value: must be a whole number from $3 to $4")
        return
    fi
    printf -v "$1" '%s' "$value"
}

# A fixed port among those that the kernel hands out to outgoing connections fails now and then.
warn_of_port_range() { # the replicas' last port
    local least most port
    read -r least most 2>/dev/null </proc/sys/net/ipv4/ip_local_port_range || return 0
    for port in "$BASE_PORT" "$1" "$PROXY_PORT"; do
        ((port >= least && port <= most)) || continue
        say "Warning: port $port lies among those the system gives to outgoing connections ($least to $most)," \
            "so it may be taken now and then. Better choose BASE_PORT and PROXY_PORT below $least."
        return
    done
}

# One run at a time for these data. Before anything else is looked at there: two starts at once do not
# meet in it.
take_lock() {
    local other=""
    mkdir -p -- "$log_dir" "$run_dir" 2>/dev/null ||
        die "Cannot make folders in $STATE_DIR. Make it writable, or choose another folder with STATE_DIR."
    { exec 8>>"$STATE_DIR/lock"; } 2>/dev/null || die "$(cannot_write)"
    flock -n 8 && return
    read -r other 2>/dev/null <"$run_dir/main.pid" || true
    die "run-replicas.sh runs already for $STATE_DIR${other:+ (process $other)}." \
        "Stop it with Ctrl-C there, or start another set with other values of STATE_DIR, BASE_PORT and PROXY_PORT."
}

check_state_folder() {
    local free_kb needed_mb=20 probe=$run_dir/probe
    [[ -n ${DATABASE_URL:-} ]] || needed_mb=200
    if ! { printf 'x' >"$probe"; } 2>/dev/null || [[ $(<"$probe") != x ]]; then die "$(cannot_write)"; fi
    rm -f -- "$probe"
    free_kb=$(df -Pk -- "$STATE_DIR" | awk 'NR == 2 { print $4 }')
    ((free_kb >= needed_mb * 1024)) ||
        die "The disk of $STATE_DIR has only $((free_kb / 1024)) MB left, and at least $needed_mb MB are needed." \
            "Free some space, or choose another folder with STATE_DIR."
}

cannot_write() {
    printf 'Cannot write to %s: is the disk full, or is it another user'"'"'s? Free some space, or choose another folder with STATE_DIR.' "$STATE_DIR"
}

check_ports() {
    local taken=0
    check_port "$BASE_PORT" "$((BASE_PORT + REPLICAS - 1))" BASE_PORT
    ((PROXY_PORT == 0)) || check_port "$PROXY_PORT" "$PROXY_PORT" PROXY_PORT
    ((PROXY_PORT == 0)) || choose_status_port
    ((taken == 0)) || exit 1
}

# Where the door is watched. Nobody has to choose this port: it goes with the door's, so that sets with
# other doors do not meet, and where it is in the way it is left out.
choose_status_port() {
    local chosen=${DOOR_STATUS_PORT:-} port=$((PROXY_PORT + 324)) # beside 8080 HAProxy's usual 8404
    DOOR_STATUS_PORT=${chosen:-$port}
    if [[ -n $chosen ]]; then
        ((chosen == 0)) || check_port "$chosen" "$chosen" DOOR_STATUS_PORT
    elif ((port > 65535 || (port >= BASE_PORT && port < BASE_PORT + REPLICAS))) || is_listened_on "$port"; then
        say "The door's own metrics are left out: port $port is not free. Choose another with DOOR_STATUS_PORT."
        DOOR_STATUS_PORT=0
    fi
    [[ -z $DOOR_CERTIFICATE ]] || ((DOOR_STATUS_PORT != 0)) ||
        die "With DOOR_CERTIFICATE the door needs DOOR_STATUS_PORT, where it is asked whether it is ready: choose a free one."
}

check_port() { # first last variable
    local port privileged
    privileged=$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2>/dev/null || echo 1024)
    for ((port = $1; port <= $2; port++)); do
        if is_listened_on "$port"; then
            say "Port $port is taken$(holder_of "$port"). Stop that program, or choose another port with $3."
            taken=1
        elif ((port < privileged && EUID != 0)); then
            say "Port $port needs root. Choose one from $privileged on with $3."
            taken=1
        fi
    done
}

is_listened_on() {
    local hex
    printf -v hex '%04X' "$1"
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v end=":$hex" '
        $4 == "0A" && substr($2, length($2) - 4) == end { found = 1 }
        END { exit !found }'
}

# " by nginx (process 4711)", if we may know.
holder_of() {
    local users
    users=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -nE 's/.*users:\(\("([^"]+)",pid=([0-9]+).*/ by \1 (process \2)/p' | head -n 1) || true
    printf '%s' "$users"
}

# Rust comes by rustup, never by the system's packages, which are too old, and may stand first in PATH.
find_cargo() {
    local have need rustup=${CARGO_HOME:-$HOME/.cargo}/bin
    need=$(sed -nE 's/^rust-version = "([0-9.]+)"/\1/p' "$repository/Cargo.toml" | head -n 1)
    have=$(cargo_version)
    if [[ -x $rustup/cargo ]] && ! is_from "$need" "$have"; then
        PATH=$rustup:$PATH
        have=$(cargo_version)
    fi
    if ! command -v cargo >/dev/null; then
        say "Rust is not installed (no cargo found). Get it from https://rustup.rs and start this again."
        return 1
    fi
    if [[ -z $have ]]; then
        say "cargo does not work: $(cargo --version 2>&1 | head -n 1)"
        return 1
    fi
    if ! is_from "$need" "$have"; then
        say "Rust $have is too old: $need or newer is needed. Run 'rustup update', or get it from https://rustup.rs"
        return 1
    fi
}

cargo_version() { cargo --version 2>/dev/null | sed -nE 's/^cargo ([0-9.]+).*/\1/p' || true; }
