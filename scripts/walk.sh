#!/usr/bin/env -S bash -p
# Does what docs/tutorial.md shows between <!-- walk --> and <!-- /walk -->, against a service that runs on a
# fresh database, and compares what comes with what stands there.
#
# Reads PROXY_PORT and STATE_DIR as run-replicas.sh does; they take the place of 127.0.0.1:8080 and var/
# in the commands. What differs from run to run is made alike on both sides by the rules of `alike`;
# an … in docs/tutorial.md stands for anything.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/begin.sh
source "$repository/scripts/begin.sh"
readonly TUTORIAL=$repository/docs/tutorial.md
door=127.0.0.1:${PROXY_PORT:-8080}
state=${STATE_DIR:-$repository/var}

# Instants, durations, numbers of runs, and who it was.
alike() {
    sed -E -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/INSTANT/g' \
        -e 's/(_seconds=|"elapsedSeconds":|"progress":|"runId":| run=)[0-9.]+/\1NUMBER/g' \
        -e 's/replica-[0-9]+/replica-N/g'
}

# The lines of the console blocks of the walk.
# shellcheck disable=SC2016 # these are fences
walk() { sed -n '/^<!-- walk -->$/,/^<!-- \/walk -->$/p' "$TUTORIAL" | sed -n '/^```console$/,/^```$/{/^```/!p;}'; }

check() { # command, what docs/tutorial.md shows
    local here shown came pattern
    here=${1//127.0.0.1:8080/$door}
    here=${here// var\// $(printf '%q' "$state")/}
    came=$(eval "$here" 2>/dev/null </dev/null | alike) || true
    shown=$(alike <<<"$2")
    pattern=$(sed -e 's/[][\\*?()]/\\&/g' -e 's/…/*/g' <<<"$shown")
    # shellcheck disable=SC2053 # it is a pattern
    [[ $came != $pattern ]] || return 0
    printf 'docs/tutorial.md shows something else for\n  $ %s\n' "$1" >&2
    diff -u --label docs/tutorial.md --label now <(printf '%s\n' "$shown") <(printf '%s\n' "$came") >&2 || true
    failed=$((failed + 1))
}

commands=0 failed=0 command="" shown=""
while IFS= read -r line; do
    if [[ $line == '$ '* ]]; then
        [[ -z $command ]] || check "$command" "${shown%$'\n'}"
        command=${line#'$ '} shown="" commands=$((commands + 1))
    else
        shown+=$line$'\n'
    fi
done < <(walk)
[[ -n $command ]] || { printf 'docs/tutorial.md has no walk.\n' >&2 && exit 1; }
check "$command" "${shown%$'\n'}"
((failed == 0)) || { printf '%d of %d commands of the walk are not as docs/tutorial.md shows.\n' "$failed" "$commands" >&2 && exit 1; }
printf 'The walk: %d commands, each as docs/tutorial.md shows.\n' "$commands"
