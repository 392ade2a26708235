# shellcheck shell=bash
# To be sourced: finds what the project needs beside Rust, and installs it where that is possible:
# as root, by apt, announced in a line of its own. Nothing that is installed gets started.
# The caller's EXIT trap must call `stop_installing`.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/begin.sh
source "$scripts/begin.sh"
apt_pid="" apt_log="" apt_lock=""
readonly POLICY=/usr/sbin/policy-rc.d NO_CLUSTER=/etc/postgresql-common/createcluster.d/balanced.conf
readonly POLICY_MARK="# Made by balanced's scripts/install.sh for the time of an installation."

# ensure NAME: is it there, or could it be installed? If not, says what to do.
# NAME: cc, chromium, curl, firefox-esr, haproxy, ip, pgbouncer, postgresql, promtool or shellcheck.
ensure() {
    local packages
    remove_old_policy
    if present "$1"; then return; fi
    if hidden "$1"; then
        say "$(title_of "$1") is taken for missing: WITHOUT_TOOLS names it."
        return 1
    fi
    if [[ $1 == postgresql && -n ${PG_BINDIR:-} ]]; then # it says what is wrong with that
        "$scripts/postgres.sh" bindir >/dev/null
        return
    fi
    if [[ $1 == firefox-esr ]] && grep -qsx 'ID=ubuntu' /etc/os-release; then
        say "Ubuntu has Firefox only as a snap, which cannot be steered from here. Debian has firefox-esr."
        return 1
    fi
    packages=$(packages_of "$1")
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        say "$(title_of "$1") is not installed. On Debian or Ubuntu: sudo apt-get install $packages"
        return 1
    fi
    say "Installing $(title_of "$1") (apt-get install $packages) …"
    if ! apt_install "$1" || ! present "$1"; then
        say "apt-get could not install it. Its last words:"
        tail -n 8 "$apt_log" | sed 's/^/  /' >&2
        say "Is this machine online? Try it yourself: apt-get update && apt-get install $packages"
        return 1
    fi
}

# What WITHOUT_TOOLS names is taken for missing, to see what happens without it.
hidden() { [[ " ${WITHOUT_TOOLS:-} " == *" $1 "* ]]; }

present() {
    if hidden "$1"; then return 1; fi
    case $1 in
        postgresql) "$scripts/postgres.sh" bindir >/dev/null 2>&1 ;;
        haproxy) haproxy_program >/dev/null ;;
        chromium) [[ -x /usr/bin/chromium && -x /usr/bin/chromedriver ]] ;;
        *) type -P "$1" >/dev/null ;;
    esac
}

# Debian puts it into /usr/sbin, which is not on an ordinary user's PATH.
haproxy_program() { PATH=$PATH:/usr/local/sbin:/usr/sbin type -P haproxy; }

packages_of() {
    case $1 in
        cc) printf 'gcc libc6-dev' ;;
        chromium) printf 'chromium chromium-driver' ;;
        ip) printf 'iproute2' ;;
        promtool) printf 'prometheus' ;;
        *) printf '%s' "$1" ;;
    esac
}

title_of() {
    case $1 in
        postgresql) printf 'PostgreSQL' ;;
        haproxy) printf 'HAProxy' ;;
        chromium) printf 'Chromium' ;;
        firefox-esr) printf 'Firefox' ;;
        ip) printf 'iproute2' ;;
        pgbouncer) printf 'PgBouncer' ;;
        cc) printf 'GCC, with which Rust links,' ;;
        promtool) printf "Prometheus' promtool" ;;
        *) printf '%s' "$1" ;;
    esac
}

apt_install() {
    local packages lock failed=0
    read -ra packages <<<"$(packages_of "$1")"
    [[ -n $apt_log ]] || apt_log=$(mktemp)
    exec {lock}</etc/apt
    flock -n "$lock" || say "Waiting for another installation to end …"
    until flock -n "$lock"; do sleep 1; done # not longer, or a signal would wait
    apt_lock=$lock
    forbid_starts
    # The package lists of a fresh machine are empty or old: update them only if it fails at first.
    apt_get install "${packages[@]}" || { apt_get update && apt_get install "${packages[@]}"; } || failed=1
    case $1 in # nor at the next boot
        haproxy | pgbouncer | promtool) systemctl disable "${packages[@]}" >/dev/null 2>&1 || true ;;
    esac
    allow_starts
    return "$failed"
}

# Debian's packages start their services: a policy of 101 forbids it for this moment. Nor does the system
# need a cluster of PostgreSQL of its own. apt-get and we hold the lock, so no two installations meet here;
# a policy of somebody else's is left alone.
forbid_starts() {
    local umask
    umask=$(umask)
    umask 022
    remove_own_policy
    if [[ ! -e $POLICY ]]; then
        # Whole or not at all: on a full disk one without its mark would stay for ever.
        { printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY.new" && chmod +x "$POLICY.new" &&
            mv "$POLICY.new" "$POLICY"; } || rm -f "$POLICY.new"
    fi
    mkdir -p "${NO_CLUSTER%/*}"
    printf 'create_main_cluster = false\n' >"$NO_CLUSTER"
    umask "$umask"
}

allow_starts() {
    remove_own_policy
    rm -f "$NO_CLUSTER"
    exec {apt_lock}<&-
    apt_lock=""
}

remove_own_policy() { ! grep -qsxF "$POLICY_MARK" "$POLICY" || rm -f "$POLICY"; }

# An installation that was killed has left it; one that goes on holds the lock.
remove_old_policy() {
    if [[ -w $POLICY ]] && grep -qsxF "$POLICY_MARK" "$POLICY"; then
        flock -n /etc/apt rm -f "$POLICY" "$NO_CLUSTER" || true
    fi
}

# In a session of its own, so that Ctrl-C does not tear dpkg down in the middle of a package.
apt_get() {
    (umask 022 && DEBIAN_FRONTEND=noninteractive exec env --default-signal=INT setsid \
        apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 "$@" >>"$apt_log" 2>&1 </dev/null) &
    apt_pid=$!
    local status=0
    wait "$apt_pid" || status=$?
    apt_pid=""
    return "$status"
}

# Lets apt-get end what it has begun, and removes every trace of ours.
stop_installing() {
    if [[ -n $apt_pid ]]; then
        say "Waiting for apt-get to come to a clean end …"
        kill -INT "$apt_pid" 2>/dev/null || true
        wait "$apt_pid" 2>/dev/null || true
        apt_pid=""
    fi
    [[ -z $apt_lock ]] || allow_starts
    [[ -z $apt_log ]] || rm -f "$apt_log"
}
