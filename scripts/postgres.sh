#!/usr/bin/env -S bash -p
# A private PostgreSQL in a folder of its own, for run-replicas.sh, the tests and developers.
#
# It listens on a Unix socket only, never on a TCP port. The socket's folder has mode 0700, so nobody
# but its owner and root can reach it: that is why it asks for no password (`trust`).
# URLs and paths go to stdout, all other words to stderr.
set -euo pipefail

# A developer's own PGHOST, PGPORT, PGDATA … are about another server.
programs_asked=${PG_BINDIR:-}
unset "${!PG@}"

readonly START_SECONDS_MAX=120 STOP_SECONDS_MAX=60 VERSION_MIN=13
readonly SOCKET_PATH_BYTES_MAX=90 # the kernel's limit is 107, and /.s.PGSQL.5432 follows

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/begin.sh
source "$repository/scripts/begin.sh"
# Nothing of these is taken from the environment.
dir="" home="" elsewhere="" owner="" socket="" url="" bin="" psql="" version="" lent=""
default_dir=${STATE_DIR:-$repository/var}

help() {
    cat <<HELP
Runs a private PostgreSQL in a folder, reached through a Unix socket only.

Usage: scripts/postgres.sh COMMAND [DIR]

  start [DIR]    starts it, makes the database 'balanced', prints DATABASE_URL; harmless when it runs
  stop [DIR]     stops it and waits until it is gone; the data stay
  restart [DIR]  stops it in order, as for a new minor version, and starts it again
  crash [DIR]    for tests: ends it the hard way and starts it again
  hold [DIR]     starts it, and stops it when the standard input closes; ends before, with exit code 1,
                 when somebody else has stopped it
  remove [DIR]   stops it and removes it with its data, wherever they lie: the next start begins anew
  url [DIR]      prints DATABASE_URL
  status [DIR]   says whether it runs; exit code 0 = yes, 3 = no
  bindir [DIR]   prints the folder of PostgreSQL's programs (psql, pgbench …)
  lend [URL]     for tests: starts an empty one, or a standby of the one at URL, in a temporary
                 folder, prints DATABASE_URL and, on a second line, the folder (a DIR for the commands
                 above); ends it and removes the folder when its standard input closes
  --help         prints this

DIR is a state folder: the data go to DIR/postgres and stay there between runs. As root, where the user
who runs PostgreSQL cannot enter DIR, that is a link to a folder in /var/lib/balanced.
Default: $default_dir

PG_BINDIR names the folder of the programs to use; unset, the newest version that is found is used, and
for data that are there already the one that made them.

For development:
  export DATABASE_URL=\$(scripts/postgres.sh start)
  cargo run
HELP
}

# --- the programs, the folders and whom they belong to ------------------------------------------

# The folders in which PostgreSQL's programs may be, the newest version first.
program_folders() {
    if [[ -n $programs_asked ]]; then
        realpath -m -- "$programs_asked"
        return
    fi
    printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -Vr
    dirname "$(type -P postgres)" 2>/dev/null || true
    pg_config --bindir 2>/dev/null || true
}

# Empty where the owner of the data cannot run it.
major_version() {
    { cd / && as_owner "$1/postgres" --version; } 2>/dev/null | sed -nE '1s/^[^0-9]*([0-9]+).*/\1/p' || true
}

# Sets `bin`, `version` and `psql`. Existing data can be read only by the version that made them.
find_programs() {
    local folder data_version="" found="" broken=""
    [[ ! -r $home/data/PG_VERSION ]] || data_version=$(<"$home/data/PG_VERSION")
    while read -r folder; do
        [[ -e $folder/initdb && -e $folder/pg_ctl && -e $folder/postgres ]] || continue
        version=$(major_version "$folder")
        if [[ -z $version ]]; then
            broken=$folder
        elif [[ $version == "$data_version" || (-z $data_version && $version -ge $VERSION_MIN) ]]; then
            bin=$folder
            find_psql
            return
        else
            [[ " $found " == *" $version "* ]] || found+=" $version" # a folder can be found twice
        fi
    done < <(program_folders)
    tell_why_none "$data_version" "$found" "$broken"
}

# A client of any version will do, where a folder has none.
find_psql() {
    local folder
    for folder in "$bin" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
        psql=$folder/psql
        [[ ! -x $psql ]] || return 0
    done
    psql=$(type -P psql) || die "PostgreSQL's psql is missing in $bin, and everywhere else."
}

tell_why_none() { # version of the data, versions found, folder whose programs do not run
    local asked=${programs_asked:+ in PG_BINDIR, $programs_asked}
    if [[ -n $1 && -n $2 ]]; then
        die "The data in $home/data were made by PostgreSQL $1, and only version$2 is here$asked.
Install PostgreSQL $1, or, if you do not need these data: $(remove_command)"
    fi
    [[ -z $2 ]] || die "PostgreSQL$2 is too old: version $VERSION_MIN or newer is needed."
    [[ -z $3 ]] || die "$3/postgres does not run as the user ${owner:-$(id -un)}, who runs PostgreSQL here" \
        "(it does not run as root). May that user enter the folder and execute what is there?"
    [[ -z $asked ]] || die "There is no PostgreSQL$asked: postgres, initdb and pg_ctl are needed there."
    die "PostgreSQL is not installed. On Debian or Ubuntu: sudo apt-get install postgresql"
}

# Data of the given folder, wherever they lie.
remove_command() { printf 'scripts/postgres.sh remove %q' "$dir"; }

# Runs a command as the owner of the data: PostgreSQL refuses to run as root.
as_owner() {
    if [[ -z $owner ]]; then
        "$@"
    else
        HOME=/ setpriv --reuid "$owner" --regid "$(id -g "$owner")" --init-groups -- "$@"
    fi
}

short_hash() { printf '%s' "$1" | sha256sum | cut -c1-12; }

# Sets `home`, where everything of this server is, and `owner`, empty when it is the caller.
# Makes nothing, so that `status` and `url` leave no trace.
locate() {
    dir=$(realpath -m -- "$1")
    home=$(realpath -m -- "$dir/postgres")
    elsewhere=/var/lib/balanced/$(short_hash "$dir")
    # The folder was removed, and the data were not in it.
    [[ -e $home || $EUID -ne 0 || ! -e $elsewhere ]] || home=$elsewhere
    owner=""
    local existing=""
    [[ -d $home ]] && existing=$(stat -c %U -- "$home")
    if [[ $EUID -eq 0 ]]; then
        owner=postgres
        [[ -n $existing && $existing != root ]] && owner=$existing
        id -u "$owner" >/dev/null 2>&1 || die \
            "PostgreSQL does not run as root, and there is no user '$owner' to run it as." \
            "Create one (useradd --system postgres) or start this as an ordinary user."
    elif [[ -n $existing && ! -O $home ]]; then
        die "$home belongs to the user $existing: run this as $existing or root, or choose another STATE_DIR."
    fi
    place_socket
}

# Sets `socket`: beside the data, or in /tmp where that path is too long or needs quoting in a URL.
place_socket() {
    socket=$home/socket
    if ((${#socket} > SOCKET_PATH_BYTES_MAX)) || [[ $socket == *[!A-Za-z0-9/._-]* ]]; then
        socket=/tmp/balanced-$(short_hash "$home")
    fi
    url="postgresql:///balanced?host=$socket&user=postgres"
}

make_folders() {
    mkdir -p -- "$dir" || die "Cannot make the folder $dir. Choose another one with STATE_DIR."
    if [[ -n $owner && ! -e $dir/postgres ]] && ! { [[ ! -e $elsewhere ]] && as_owner test -x "$dir/."; }; then
        home=$elsewhere
        (umask 022 && mkdir -p "${elsewhere%/*}")
        ln -sfn -- "$home" "$dir/postgres"
        if [[ -e $home/data ]]; then
            say "Data from before are used, in $home. To begin without them: $(remove_command)"
        else
            say "The user $owner, who runs PostgreSQL, cannot enter $dir: the data go to $home."
        fi
        place_socket
    fi
    mkdir -p -- "$home" || die "Cannot make the folder $home. Choose another one with STATE_DIR."
    [[ -z $owner ]] || chown "$owner:" -- "$home"
    chmod 700 -- "$home"
    as_owner mkdir -p -m 700 -- "$socket" || die "Cannot make the folder $socket for PostgreSQL's socket."
    # In /tmp anybody could have made it first, and would then receive our connections.
    [[ ! -L $socket && $(stat -c '%U %a' -- "$socket") == "${owner:-$(id -un)} 700" ]] ||
        die "$socket must be a folder of the user ${owner:-$(id -un)} with mode 700. Remove it and try again."
}

# --- the server ----------------------------------------------------------------------------------

# Is this process a server on these data, or a part of one? (A stranger with a reused number is not.)
is_server() {
    [[ $1 =~ ^[0-9]+$ && $(readlink -- "/proc/$1/cwd") == "$home/data" ]] &&
        [[ $(cat "/proc/$1/comm" 2>/dev/null) == post* ]]
}

# Prints the server's process id if it runs.
running_pid() {
    local pid
    [[ -n $home ]] && pid=$(head -n 1 -- "$home/data/postmaster.pid" 2>/dev/null) && is_server "$pid" && printf '%s\n' "$pid"
}

answers() { "$psql" -Xqd "$1" -c 'SELECT 1' >/dev/null 2>&1; }

initialize() {
    [[ ! -e $home/data ]] || return 0
    local made=$home/data.new output # renamed when complete, so half a database is never started
    ((version < 14)) || set -- --no-instructions "$@"
    as_owner rm -rf -- "$made"
    output=$(cd "$home" && as_owner "$bin/initdb" -D data.new -U postgres -A trust -E UTF8 --locale=C \
        "$@" 2>&1 </dev/null) ||
        die "PostgreSQL's initdb failed:" $'\n'"$output"
    printf '%s\n' "include 'balanced.conf'" >>"$made/postgresql.conf"
    as_owner mv -- "$made" "$home/data"
}

copy() { # the primary's URL
    local output
    output=$(cd "$home" && as_owner "$bin/pg_basebackup" -d "$1" -D "$home/data" --write-recovery-conf \
        --checkpoint=fast --no-sync 2>&1 </dev/null) ||
        die "PostgreSQL's pg_basebackup failed:" $'\n'"$output"
}

configure() {
    as_owner tee -- "$home/data/balanced.conf" >/dev/null <<CONF || die "Cannot write to $home/data. Is the disk full, or do the files belong to somebody else than ${owner:-$(id -un)}?"
# Written by scripts/postgres.sh at every start. To change a setting use ALTER SYSTEM, which wins.
listen_addresses = ''
port = 5432
unix_socket_directories = '$socket'
unix_socket_permissions = 0700
shared_buffers = 128MB
$1
CONF
}

readonly SETTINGS_KEPT='max_connections = 300'
# Lent servers lose their data by design; a crash of the server alone loses nothing even so.
readonly SETTINGS_LENT='max_connections = 500
fsync = off
full_page_writes = off'

# After a crash the old process number may belong to any other program, and PostgreSQL then refuses
# to start. It refuses as well while a child of the killed server still works on its last query.
clear_crash() {
    [[ -e $home/data/postmaster.pid ]] && ! running_pid >/dev/null || return 0
    say "PostgreSQL was not stopped properly last time: it recovers now."
    local entry pid
    for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        is_server "$pid" || continue
        kill -KILL "$pid" 2>/dev/null || true
        while is_server "$pid"; do sleep 0.02; done
    done
    rm -f -- "$home/data/postmaster.pid" "$socket/.s.PGSQL.5432.lock"
}

# The server must inherit neither our output nor the lock (9). Paths are relative, since pg_ctl puts them
# into a line for a shell.
control() { (cd "$home" && as_owner "$bin/pg_ctl" -D data -w "$@") >/dev/null 2>&1 </dev/null 9>&-; }

launch() {
    local log=$home/postgresql.log
    clear_crash
    if control -l postgresql.log -t "$START_SECONDS_MAX" start; then return; fi
    say "PostgreSQL did not start. Its log, $log, ends with:"
    tail -n 15 -- "$log" 2>/dev/null | sed 's/^/  /' >&2
    say "Mend what it names and start again. If you do not need the data: $(remove_command)"
    exit 1
}

create_database() {
    local server="postgresql:///postgres?host=$socket&user=postgres" found output
    found=$("$psql" -XAtqd "$server" -c "SELECT 1 FROM pg_database WHERE datname = 'balanced'") ||
        die "PostgreSQL runs but does not answer. Its log: $home/postgresql.log"
    [[ -z $found ]] || return 0
    output=$("$psql" -Xqd "$server" -c 'CREATE DATABASE balanced' 2>&1) ||
        die "Could not create the database 'balanced': $output"
}

# By signals, not by pg_ctl: it must work also where the programs have been removed.
halt() { # INT stops it in order, QUIT as in a crash
    local pid
    pid=$(running_pid) || return 0
    signal "$1" "$pid" && return
    say "PostgreSQL has not stopped within $STOP_SECONDS_MAX s: stopping it the hard way; nothing is lost."
    signal QUIT "$pid" || die "PostgreSQL (process $pid) does not stop. See $home/postgresql.log"
}

# Sends it and waits until the server is gone.
signal() { # name, process
    local end=$((SECONDS + STOP_SECONDS_MAX))
    kill "-$1" "$2" 2>/dev/null || true
    while is_server "$2"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# One start or stop at a time for these data.
lock() {
    exec 9>"$home/lock"
    flock 9
}

# --- commands ------------------------------------------------------------------------------------

start() {
    locate "$1"
    make_folders
    find_programs
    lock
    if ! { running_pid >/dev/null && answers "$url"; }; then
        halt INT # it runs but cannot be reached: its socket was removed, or it is hung
        initialize
        configure "$SETTINGS_KEPT"
        launch
        create_database
    fi
    printf '%s\n' "$url"
}

stop() {
    locate "$1"
    if ! running_pid >/dev/null; then
        say "PostgreSQL does not run in $dir."
        return
    fi
    lock
    halt INT
}

restart() { stop_and_launch "$1" INT; }

crash() { stop_and_launch "$1" QUIT; }

stop_and_launch() { # DIR, signal
    locate "$1"
    [[ -d $home/data ]] || die "There is no PostgreSQL in $dir. Make one: scripts/postgres.sh start '$dir'"
    find_programs
    lock
    halt "$2"
    launch
}

# For whoever must not leave it behind: killed or not, its end closes our standard input. Whoever needs
# the database longer holds that open, too.
hold() {
    local server
    trap 'trap "" TERM INT HUP; halt INT' EXIT
    trap 'exit 143' TERM HUP
    start "$1"
    while server=$(running_pid); do
        exec 9>&- # the lock
        watch "$server"
        lock # whoever has stopped the server may be about to start it again
    done
    exit 1
}

# Until this server is gone. Ends us when the standard input is closed.
watch() { # process
    local looked=$SECONDS
    while [[ -e /proc/$1/cwd/PG_VERSION ]]; do
        read -rt 0.5 || (($? > 128)) || exit 0
        ((SECONDS - looked >= 10)) || continue
        looked=$SECONDS
        rotate "$home/postgresql.log" as_owner || true
    done
}

remove() {
    locate "$1"
    [[ ! -e $home || -e $home/lock || -e $home/data/balanced.conf ]] ||
        die "$home is not the folder of a private PostgreSQL: it is left as it is."
    if [[ -e $dir/lock ]] && ! flock -n "$dir/lock" true; then
        die "run-replicas.sh runs for $dir. Stop it first, with Ctrl-C there."
    fi
    if [[ -d $home ]]; then
        lock # somebody may be about to make the data, or to start the server
        halt INT
    fi
    rm -rf -- "$home" "$elsewhere" "$socket" "$dir/postgres" || die "Not all of $home could be removed."
    say "There are no data in $dir any more."
}

status() {
    local pid
    locate "$1"
    if pid=$(running_pid); then
        say "PostgreSQL runs in $home (process $pid): $url"
    else
        say "PostgreSQL does not run in $dir."
        exit 3
    fi
}

lend() {
    lent=/tmp/balanced-lent.$$-$RANDOM
    trap 'trap "" TERM INT HUP; return_lent' EXIT
    trap 'exit 143' TERM HUP
    trap '' INT # a terminal's Ctrl-C ends our commands, and with them us; bash may lose its own
    mkdir -m 711 -- "$lent" || exit 1 # its owner inside may be another user
    locate "$lent"
    make_folders
    find_programs
    if [[ -z $1 ]]; then initialize --no-sync; else copy "$1"; fi
    configure "$SETTINGS_LENT"
    launch
    create_database
    printf '%s\n%s\n' "$url" "$lent"
    trap 'exit 130' INT
    while read -r; do :; done # until the one who asked is gone
}

return_lent() {
    halt QUIT
    rm -rf -- "$lent" "${socket:-$lent}"
}

main() {
    local command=${1:---help}
    case $command in
        start | stop | restart | crash | hold | remove | status) "$command" "${2:-$default_dir}" ;;
        url)
            locate "${2:-$default_dir}"
            printf '%s\n' "$url"
            ;;
        bindir)
            locate "${2:-$default_dir}"
            find_programs
            printf '%s\n' "$bin"
            ;;
        lend) lend "${2:-}" ;;
        -h | --help | help) help ;;
        *)
            say "Unknown command '$command'. See scripts/postgres.sh --help"
            exit 2
            ;;
    esac
}

main "$@"
