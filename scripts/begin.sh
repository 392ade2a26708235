# shellcheck shell=bash
# To be sourced first by every script: what a user's environment must not change in it, and a few words
# and acts that all need. `bash -p` in a script's first line is a part of this: bash itself then leaves
# BASH_ENV, exported functions, SHELLOPTS, BASHOPTS and CDPATH alone. What concerns cargo, apt-get and
# the replicas (CARGO_…, https_proxy, PGPASSFILE …) is theirs and stays.

unset BASH_ENV ENV CDPATH BASH_COMPAT EXECIGNORE FUNCNEST GREP_OPTIONS POSIXLY_CORRECT
unset TMOUT # ends every `read`, and with it a database that is lent
set +o posix
# Texts are compared, cut and printed in one way: a Turkish locale has another capital of i, a German
# one a comma in numbers.
export LC_ALL=C
# Nobody else may write to what the scripts make.
umask go-w
# bash knows it even where it is unset, and cargo needs it.
[[ -n ${HOME:-} ]] || { unset HOME && export HOME=~; }
# mktemp does not look for another folder.
[[ -d ${TMPDIR:-/tmp} && -w ${TMPDIR:-/tmp} ]] || unset TMPDIR

# A word to the reader. Whoever read it may be gone, which is no reason to stop.
say() { printf '%s\n' "$*" >&2 || true; }

die() {
    say "$@"
    exit 1
}

# What is asked is on this machine: no proxy leads there, and a user's ~/.curlrc is about other things.
curl() { command curl -q --noproxy '*' "$@"; }

# bound COMMAND…: to be put into the background. It runs in a session of its own, is told to stop by
# SIGTERM when this process is gone, even killed, and does not begin when it is gone by then. util-linux
# before 2.33 cannot tell it.
bound() {
    local tell=(setpriv --pdeathsig TERM)
    "${tell[@]}" true 2>/dev/null || tell=()
    # shellcheck disable=SC2016 # for the other bash
    exec setsid "${tell[@]}" bash -pc '((PPID == $0)) && exec "$@"' $$ "$@"
}

# rotate LOG [COMMAND…]: when it has become long, keeps it as LOG.1 and empties it: whoever writes keeps
# it open and appends. COMMAND runs what that takes, as another user.
rotate() {
    local bytes bytes_max=10000000
    bytes=$(stat -c %s -- "$1" 2>/dev/null) && ((bytes > bytes_max)) || return 1
    "${@:2}" cp -- "$1" "$1.1" 2>/dev/null || "${@:2}" rm -f -- "$1.1" # the disk is full
    "${@:2}" truncate -s 0 -- "$1"
}

# The path of a program that cargo has just built, from its messages (json-render-diagnostics) on
# standard input. Where it lies depends on settings of the user's, such as build.target.
built() { # name
    sed -nE 's/^\{"reason":"compiler-artifact",.*"name":"'"$1"'".*"executable":"(.*)","fresh":.*/\1/p' |
        sed -E 's/\\(["\\])/\1/g' | tail -n 1
}
