#!/usr/bin/env bash
# The whole test suite: format, lints as errors, scripts, and all tests against a real PostgreSQL of
# their own, which ends with them. See --help.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/install.sh
source "$repository/scripts/install.sh"
# shellcheck source=scripts/checks.sh
source "$repository/scripts/checks.sh"

main() {
    case ${1:-} in
        "") ;;
        -h | --help) printf 'Runs every check and test. Usage: ./run-tests.sh\n' && exit ;;
        *) say "Unknown argument '$1'. See ./run-tests.sh --help" && exit 2 ;;
    esac
    cd "$repository"
    trap stop_installing EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    ulimit -Sn "$(ulimit -Hn)" || true # the tests hold many connections

    heading "What is needed"
    install_what_is_needed
    run "Format" cargo fmt --all --check
    run "Lints" cargo clippy --workspace --all-targets --locked -- -D warnings
    ! present shellcheck || run "Scripts" shellcheck -x ./*.sh .ci/run scripts/*.sh scripts/bench/*.sh
    ! present haproxy || run "The door's settings" check_door
    ! present promtool || run "Metrics and alerts" check_alerts
    # Most of the time the tests wait, for leases to run out or for other processes.
    export RUST_TEST_THREADS=${RUST_TEST_THREADS:-5}
    run "Tests" cargo test --workspace --locked
    run "The whole service" scripts/smoke.sh
    printf '\nAll is well, in %d s.\n' "$SECONDS"
}

install_what_is_needed() {
    local name missing=0
    find_cargo || missing=1
    for name in cc postgresql curl; do ensure "$name" || missing=1; done
    ((missing == 0)) || die "Install what is missing, and start this again."
    ensure haproxy || say "Going on without HAProxy: tests of the door are left out."
    # A network of its own takes root.
    [[ $EUID -ne 0 ]] || ensure ip || say "Going on without iproute2: the test of a cut network is left out."
    ensure chromium || say "Going on without Chromium: the pages are not tested."
    ! present chromium || find_axe || say "Going on without axe: the pages' accessibility is not checked."
    ensure pgbouncer || say "Going on without PgBouncer: poolers are not tested."
    ensure shellcheck || say "Going on without shellcheck: the scripts are not checked."
    ensure promtool || say "Going on without promtool: the alert rules and the text of the metrics are not checked."
}

# Deque's checks of a page's accessibility. Only npm has them, and only a test needs them, so they
# are no part of this repository.
find_axe() {
    local version=4.14.1 sum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c folder
    AXE_CORE=${CARGO_TARGET_DIR:-$repository/target}/axe-$version.min.js
    export AXE_CORE
    if [[ ! -e $AXE_CORE ]] && command -v npm >/dev/null; then
        say "Getting axe $version (npm pack axe-core) …"
        folder=$(mktemp -d)
        (cd "$folder" && npm pack --silent --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=3000 "axe-core@$version" && tar -xzf axe-core-*.tgz package/axe.min.js) >/dev/null 2>&1 &&
            mkdir -p "${AXE_CORE%/*}" && mv "$folder/package/axe.min.js" "$AXE_CORE"
        rm -rf "$folder"
    fi
    sha256sum --check --status <<<"$sum  $AXE_CORE" 2>/dev/null && return
    unset AXE_CORE
    return 1
}

check_door() {
    local servers file status=0
    servers=$(mktemp)
    printf '%s\n' 'backend replicas from whole-requests' '    server replica-1 127.0.0.1:3001' \
        'backend long-answers from whole-requests' \
        '    server replica-1 127.0.0.1:3001 no-check track replicas/replica-1 maxconn 8' >"$servers"
    for file in "$servers" deploy/haproxy-compose.cfg; do
        PROXY_PORT=8080 DOOR_CERTIFICATE="" DOOR_STATUS=127.0.0.1:8404 "$(haproxy_program)" -dW -c -f deploy/haproxy.cfg -f "$file" || status=1
    done
    rm -f "$servers"
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
