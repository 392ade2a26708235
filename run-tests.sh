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
    ! present shellcheck || run "Scripts" shellcheck -x run-replicas.sh run-tests.sh .ci/run scripts/*.sh
    ! present haproxy || run "The door's settings" check_door
    ! present promtool || run "Metrics and alerts" check_alerts
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
    ensure shellcheck || say "Going on without shellcheck: the scripts are not checked."
    ensure promtool || say "Going on without promtool: the alert rules and the text of the metrics are not checked."
}

check_door() {
    local servers failed=0
    servers=$(mktemp)
    printf '%s\n' 'backend replicas from whole-requests' '    server replica-1 127.0.0.1:3001' \
        'backend long-answers from whole-requests' \
        '    server replica-1 127.0.0.1:3001 no-check track replicas/replica-1 maxconn 8' >"$servers"
    PROXY_PORT=8080 "$(haproxy_program)" -dW -c -f deploy/haproxy.cfg -f "$servers" || failed=1
    rm -f "$servers"
    return "$failed"
}

check_alerts() {
    promtool check config deploy/prometheus.yml &&
        promtool check rules deploy/alerts.yml &&
        promtool test rules deploy/alerts.test.yml
}

heading() { printf '\n== %s\n' "$1"; }

run() { # title command…
    local begun=$SECONDS
    heading "$1"
    "${@:2}" || die "Failed: $1 (${*:2})"
    printf '== %s: done in %d s\n' "$1" $((SECONDS - begun))
}

main "$@"
