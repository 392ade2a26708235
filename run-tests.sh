#!/usr/bin/env -S bash -p
# The whole test suite: format, lints as errors, scripts, and all tests against a real PostgreSQL of
# their own, which ends with them. See --help.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/install.sh
source "$repository/scripts/install.sh"
# shellcheck source=scripts/checks.sh
source "$repository/scripts/checks.sh"

missing=""  # tools without which tests or checks are left out
building=() # the processes that build for the smoke test

help() {
    cat <<'HELP'
Runs every check and test, or only the tests that are named.

Usage: ./run-tests.sh [FILTER …]

  FILTER  a part of a test's name, such as door:: or takeover::a_kill: the tests
          that have one of them in their names are run, and nothing else

Environment:
  CI=true             a tool that is missing is an error, which names it; else
                      the tests and checks that need it are left out
  WITHOUT_TOOLS       tools to take for missing, such as "haproxy ip", to try it
  PICTURES            a folder for a picture of each page on each kind of screen
  RUST_TEST_THREADS   how many tests run at a time [8]
HELP
}

main() {
    case ${1:-} in
        -h | --help) help && exit ;;
        -*) say "Unknown argument '$1'. See ./run-tests.sh --help" && exit 2 ;;
    esac
    cd "$repository"
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    ulimit -Sn "$(ulimit -Hn)" || true # the tests hold many connections

    heading "What is needed"
    install_what_is_needed
    # Most of the time the tests wait, for leases to run out or for other processes.
    export RUST_TEST_THREADS=${RUST_TEST_THREADS:-8}
    if [[ $# -gt 0 ]]; then run "Tests: $*" run_tests "$@"; else run_everything; fi
    printf '\nAll is well, in %d s.\n' "$SECONDS"
}

run_everything() {
    [[ -z $missing || ${CI:-} != true ]] || die "Missing: $missing. With CI=true no test may be left out."
    run "Format" cargo fmt --all --check
    ! present haproxy || begin_building
    run "Lints" cargo clippy --workspace --all-targets --locked -- -D warnings
    ! present shellcheck || run "Scripts" shellcheck -x ./*.sh .ci/run scripts/*.sh scripts/bench/*.sh
    ! present haproxy || run "The door's settings" check_door
    ! present promtool || run "Metrics and alerts" check_alerts
    run "What is tested" finish_building
    run "Tests" run_tests
    ! present haproxy || run "The whole service" scripts/smoke.sh
    [[ -z $missing ]] || say "Some tests or checks were left out, because these are missing: $missing."
}

# The commands of run-replicas.sh: the release's last step keeps one processor busy, and so do lints and the
# tests' own step. One waits for the other. Nothing is built beside tests, since some measure time.
begin_building() {
    bound cargo build --release --locked --quiet &
    building=($!)
    bound cargo build --release --locked --quiet --package loadtest &
    building+=($!)
}

finish_building() {
    cargo test --workspace --locked --no-run || return
    local pid
    for pid in "${building[@]}"; do wait "$pid" || return; done
    building=()
}

finish() {
    # Each is the leader of a group, in which its compilers are, too.
    ((${#building[@]} == 0)) || kill -- "${building[@]/#/-}" 2>/dev/null || true
    stop_installing
}

# All, or those that have one of the words in their names; that no test has any is a mistake.
run_tests() { # filters…
    local output status=0
    output=$(mktemp)
    cargo test --workspace --locked -- "$@" | tee "$output" || status=1
    grep -q '^test .* \.\.\. ok$' "$output" || { say "No test was run." && status=1; }
    rm -f "$output"
    return "$status" # where this is called, a failure ends nothing by itself
}

install_what_is_needed() {
    local name lacking=0
    find_cargo || lacking=1
    for name in cc postgresql curl; do ensure "$name" || lacking=1; done
    ((lacking == 0)) || die "Install what is missing, and start this again."
    want haproxy "the door is not tested, nor the whole service" ensure haproxy
    want root "the network is not cut" is_root
    want ip "the network is not cut" ensure ip
    want chromium "the pages are not tested" ensure chromium
    want firefox-esr "the pages are not tested in it" ensure firefox-esr
    want npm "no client is generated, and the pages' accessibility is not checked" find_packages
    want pgbouncer "poolers are not tested" ensure pgbouncer
    want shellcheck "the scripts are not checked" ensure shellcheck
    want systemd-analyze "the unit of systemd is not judged" present systemd-analyze
    want promtool "the alert rules and the text of the metrics are not checked" ensure promtool
}

want() { # tool consequence command…
    "${@:3}" && return
    say "Going on without $(title_of "$1"): $2."
    missing+=${missing:+, }$(title_of "$1")
}

is_root() { [[ $EUID -eq 0 ]] && ! hidden root; }

# What npm alone has, and only tests need: it is no part of this repository.
find_packages() {
    local folder
    if hidden npm || ! command -v npm >/dev/null; then return 1; fi
    folder=$(realpath -m -- "${CARGO_TARGET_DIR:-$repository/target}/npm")
    if ! cmp -s tests/client/package-lock.json "$folder/package-lock.json"; then
        say "Getting packages for tests (npm ci) …"
        rm -rf "$folder" "$folder.new"
        mkdir -p "$folder.new"
        cp tests/client/package*.json "$folder.new"
        (cd "$folder.new" && npm ci --silent --no-audit --no-fund --ignore-scripts \
            --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=3000) >/dev/null 2>&1 || return 1
        mv "$folder.new" "$folder"
    fi
    export NPM_PACKAGES=$folder/node_modules
}

check_door() {
    local file status=0
    for file in deploy/haproxy-compose.cfg deploy/systemd/servers.cfg deploy/kubernetes/servers.cfg; do
        PROXY_PORT=8080 DOOR_CERTIFICATE="" DOOR_STATUS=127.0.0.1:8404 "$(haproxy_program)" -dW -c -f deploy/haproxy.cfg -f "$file" || status=1
    done
    return "$status" # where this is called, a failure ends nothing by itself
}

check_alerts() {
    promtool check config deploy/prometheus.yml &&
        promtool check rules deploy/alerts.yml &&
        promtool test rules deploy/alerts.test.yml deploy/alerts.days.test.yml
}

heading() { printf '\n== %s\n' "$1"; }

run() { # title command…
    local begun=$SECONDS
    heading "$1"
    "${@:2}" || die "Failed: $1 (${*:2})"
    printf '== %s: done in %d s\n' "$1" $((SECONDS - begun))
}

main "$@"
