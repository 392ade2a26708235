# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with supervise.sh
# To be sourced by supervise.sh: its children, each started again when it dies, and all stopped.
# A child has a number; the caller's `launch NUMBER` starts it in the background.

readonly PAUSE_MS_MIN=500 PAUSE_MS_MAX=30000 # before a dead child is started again
readonly STEADY_MS=60000                     # who lived so long begins with the least pause anew

children=() # numbers
names=() logs=() hosts=() ports=() pids=() started=() pauses=() restarts=() ready=() log_marks=()
all_ready="" database_pid="" database_retry_ms=0 door_maxconn=0 now_ms=0 rotate_ms=0 found=()

stamp() { say "$(printf '%(%H:%M:%S)T' -1) $*"; }

# Milliseconds that never run backwards.
read_clock() {
    local uptime
    read -r uptime _ </proc/uptime
    now_ms=$((10#${uptime/./} * 10))
}

# Sleeps without a process, so that a signal is served at once. The database has a use for this pipe, too.
exec 9<> <(:)
pause() { read -rt "$1" -u 9 || true; }

# A child of ours may be dead and not yet reaped: then it is not alive.
alive() {
    local stat
    kill -0 "$1" 2>/dev/null && read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    stat=${stat##*) }
    [[ ${stat:0:1} != Z ]]
}

answers() { # host port path
    local fd line=""
    { exec {fd}<>"/dev/tcp/$1/$2"; } 2>/dev/null || return 1
    { printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$3" >&"$fd"; } 2>/dev/null || true
    read -rt 2 -u "$fd" line || true
    exec {fd}>&-
    [[ $line == "HTTP/1.1 200"* ]]
}

# --- one step at a time, such as the build --------------------------------------------------------

# Runs a command that is stopped with all that it has started, as a build is.
step() { # command…
    # shellcheck disable=SC2016 # for the other bash
    bound bash -pc 'trap "trap : TERM; kill -TERM 0" TERM; "$@" & wait $! || status=$?; wait; exit "${status:-0}"' \
        step "$@" </dev/null 8>&- 9>&- &
    wait $!
}

# --- children -------------------------------------------------------------------------------------

add_child() { # number name log host port
    children+=("$1")
    names[$1]=$2 logs[$1]=$3 hosts[$1]=$4 ports[$1]=$5 pauses[$1]=0
    start_child "$1"
}

start_child() {
    local i=$1
    log_marks[i]=$(stat -c %s -- "${logs[i]}" 2>/dev/null || echo 0)
    ((i != 0)) || log_marks[i]=0 # written anew at every start
    launch "$i"
    pids[i]=$!
    ready[i]=""
    note "$(pid_name "$i").pid" "${pids[i]}"
    note "$(pid_name "$i").port" "${ports[i]}"
    read_clock
    started[i]=$now_ms
}

# Files that only others read: a full disk must not end what runs.
note() { # name text
    { printf '%s\n' "$2" >"$run_dir/$1"; } 2>/dev/null || say "Cannot write $run_dir/$1: is the disk full?"
}

pid_name() { if (($1 == 0)); then printf 'door'; else printf 'replica-%d' "$1"; fi; }

# Notices a death, starts again what is due, and asks who is not ready yet.
check_child() {
    local i=$1
    if [[ -n ${pids[i]} ]]; then
        if ! alive "${pids[i]}"; then
            bury_child "$i"
        elif [[ -z ${ready[i]} ]] && may_be_ready "$i" && answers "${hosts[i]}" "${ports[i]}" /health/ready; then
            ready[i]=yes
            [[ -z $all_ready ]] || stamp "${names[i]^} is ready again."
        fi
    elif ((now_ms >= restarts[i])); then
        start_child "$i"
    fi
}

# The door is ready when a replica is: asking it earlier only fills its log.
may_be_ready() { (($1 != 0)) || [[ "${ready[*]}" == *yes* ]]; }

bury_child() {
    local i=$1 status=0 lived
    wait "${pids[i]}" 2>/dev/null || status=$?
    pids[i]=""
    lived=$((now_ms - started[i]))
    if ((status == 2 && i != 0)); then
        say "${names[i]^} cannot use its settings. It says:"
        last_words "$i" 20
        exit 2
    fi
    if ((pauses[i] == 0 || lived >= STEADY_MS || status == 0)); then
        pauses[i]=$PAUSE_MS_MIN
    else
        pauses[i]=$((pauses[i] * 2 < PAUSE_MS_MAX ? pauses[i] * 2 : PAUSE_MS_MAX))
    fi
    restarts[i]=$((now_ms + pauses[i]))
    stamp "${names[i]^} has ended ($(describe "$status")): starting it again in $(seconds "${pauses[i]}")."
    case $status in
        0 | 137 | 143) ;; # somebody else ended it: it had nothing to say
        *) last_words "$i" 5 ;;
    esac
}

describe() {
    if (($1 > 128)); then printf 'killed by SIG%s' "$(kill -l $(($1 - 128)))"; else printf 'exit code %d' "$1"; fi
}

seconds() { printf '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# What a child has logged in this life.
last_words() { # child lines
    tail -c +$((log_marks[$1] + 1)) -- "${logs[$1]}" 2>/dev/null | tail -n "$2" | sed 's/^/  /' >&2 || true
}

all_children_ready() {
    local i
    for i in "${children[@]}"; do [[ -n ${ready[i]} ]] || return 1; done
}

tell_who_is_not_ready() {
    local i first="" late=()
    for i in "${children[@]}"; do
        if [[ -n ${ready[i]} ]] || ! may_be_ready "$i"; then continue; fi
        late+=("${names[i]}")
        first=${first:-$i}
    done
    say "Not ready yet: ${late[*]}. Still waiting; Ctrl-C stops everything."
    say "Ask why: curl $(url "${hosts[first]}" "${ports[first]}")/health/ready. The log of ${names[first]} ends with:"
    last_words "$first" 5
}

# --- the end --------------------------------------------------------------------------------------

# The replicas, or what else is at work, then the door.
stop_children() {
    end_all children_but "${pids[0]:-}" "$database_pid"
    end_all children_but "$database_pid"
}

# Sets `found` to the children of this process but these. The kernel knows them all: a signal may have
# come between a child's birth and the note of its number.
children_but() {
    local pid all=()
    found=()
    if [[ -e /proc/$$/task/$$/children ]]; then
        read -ra all <"/proc/$$/task/$$/children" || true # it ends without a newline
    else
        mapfile -t all < <(jobs -pr)
    fi
    for pid in "${all[@]}"; do
        [[ " $* " == *" $pid "* ]] || ! alive "$pid" || found+=("$pid")
    done
}

living() { # process…: sets `found` to those that live
    local pid
    found=()
    for pid in "$@"; do ! alive "$pid" || found+=("$pid"); done
}

# Looks twice before it says no: the kernel's list may lack a child while another one ends.
some_left() { # command that sets `found`
    "$@"
    [[ ${#found[@]} -eq 0 ]] || return 0
    pause 0.05
    "$@"
    [[ ${#found[@]} -gt 0 ]]
}

# Ends the processes that a command finds, until it finds none: kindly, and again, since one may have
# begun only now; with force those that take longer than they may.
end_all() { # command…
    local begun_ms told_ms=0 grace_ms=$(((SHUTDOWN_GRACE_SECONDS + 3) * 1000))
    read_clock
    begun_ms=$now_ms
    while some_left "$@"; do
        read_clock
        if ((now_ms - begun_ms > grace_ms)); then
            say "Ending by force what has not stopped within $(seconds "$grace_ms"): process ${found[*]}."
            kill -KILL "${found[@]}" 2>/dev/null || true
            wait "${found[@]}" 2>/dev/null || true # or bash would report them
            begun_ms=$now_ms
        elif ((now_ms >= told_ms)); then
            kill -TERM "${found[@]}" 2>/dev/null || true
            told_ms=$((now_ms + 1000))
        fi
        pause 0.1
    done
}

# What a run that was itself killed has left behind.
end_leftovers() {
    local file pid left=()
    for file in "$run_dir"/*.pid; do
        read -r pid 2>/dev/null <"$file" || continue
        if [[ $pid =~ ^[0-9]+$ ]] && is_leftover "$pid"; then left+=("$pid"); fi
    done
    if [[ ${#left[@]} -gt 0 ]]; then
        say "Ending what an earlier run has left behind (process ${left[*]}) …"
        end_all living "${left[@]}"
    fi
    rm -f "$run_dir"/*.{pid,port}
    note main.pid "$front"
}

# A number may have been given to any other program meanwhile.
is_leftover() { # process
    local program words
    program=$(readlink -- "/proc/$1/exe") || return 1
    program=${program% (deleted)} # built anew since
    [[ $program != "$(cat "$run_dir/program" 2>/dev/null)" ]] || return 0
    words=$(tr '\0' '\n' <"/proc/$1/cmdline") || return 1
    case $program in
        */haproxy) [[ $words == *"$run_dir/replicas.cfg"* ]] ;;
        *bash) [[ $words == *"/postgres.sh"*"hold"*"$STATE_DIR" ]] ;;
        *) return 1 ;;
    esac
}

# --- logs -----------------------------------------------------------------------------------------

# The one of PostgreSQL, a link here, is its keeper's.
rotate_logs() {
    local log i
    ((now_ms >= rotate_ms)) || return 0
    rotate_ms=$((now_ms + 10000))
    for log in "$log_dir"/*.log; do
        if [[ ! -f $log || -L $log ]] || ! rotate "$log"; then continue; fi
        for i in "${children[@]}"; do [[ ${logs[i]} != "$log" ]] || log_marks[i]=0; done
    done
}
