#!/usr/bin/env -S bash -p
# Measures the service against PostgreSQL itself, and writes the figures to bench/. See --help.
set -euo pipefail
shopt -s inherit_errexit

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=scripts/install.sh
source "$repository/scripts/install.sh"
# shellcheck source=scripts/checks.sh
source "$repository/scripts/checks.sh"
for variable in "${!PG@}"; do # about another server
    [[ $variable == PG_BINDIR ]] || unset "$variable"
done
for part in "$repository"/scripts/bench/*.sh; do
    # shellcheck source=/dev/null
    source "$part"
done

readonly SECTIONS="balance burst latency memory hotrow cron growth"
quick="" repeats=5 sections=()
bench_folder="" results="" commit="" figures="" # set by bench_begin

help() {
    cat <<HELP
Measures the service on this machine, each figure beside that of PostgreSQL alone (pgbench with the very
statements of the service), and writes tables and a picture to bench/.

Usage: ./bench.sh [--quick] [--repeats N] [SECTION…]

Sections:
  balance   throughput: 1 and 5 replicas, directly and through the door, one user and 10,000,
            64 and 1,000 connections, without and with idempotency keys
  burst     10,000 withdrawals at one moment
  latency   percentiles at half the capacity, requests coming at a fixed rate
  memory    of an idle replica, with 2,000 connections, and after a burst
  hotrow    one user's speed and table sizes after 10,000 changes and after 1,000,000
  cron      10,000 jobs, and a long history
  growth    the cost of a request with more replicas, users and history
  soak      20 minutes of load, for growth of memory; only when asked for

Without a section: all but soak. A section replaces its own figures only.

  --repeats N  how often everything is measured; medians count [5]
  --quick      one repeat, measurements of 1 s, to try it out: the figures say nothing, and go to a
               temporary folder
  --help       prints this

It uses a PostgreSQL of its own in a temporary folder (TMPDIR; on a disk, with 10 GB for growth), removed at
the end, and 40 ports from BASE_PORT on [at random]. Let the machine do nothing else meanwhile, and look
at it as it is by default: settings of yours and the file .env do not count.
HELP
}

main() {
    read_arguments "$@"
    trap bench_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    cd "$repository"
    bench_begin
    say "Measuring ${sections[*]}: $repeats repeats, about $((expected_seconds / 60 + 1)) minutes in all."
    local section
    for section in "${sections[@]}"; do measure "$section"; done
    say "Written: $results/README.md and $results/figures.svg"
}

read_arguments() {
    local section
    while (($# > 0)); do
        case $1 in
            -h | --help) help && exit ;;
            --quick) quick=yes repeats=1 ;;
            --repeats) repeats=${2:-} && shift ;;
            --repeats=*) repeats=${1#*=} ;;
            -*) wrong_usage "Unknown option '$1'." ;;
            *) sections+=("$1") ;;
        esac
        shift || wrong_usage "--repeats needs a number."
    done
    [[ $repeats =~ ^[1-9][0-9]?$ ]] || wrong_usage "--repeats=$repeats: must be a whole number from 1 to 99."
    [[ ${#sections[@]} -gt 0 ]] || read -ra sections <<<"$SECTIONS"
    expected_seconds=30
    for section in "${sections[@]}"; do
        if [[ " $SECTIONS soak " != *" $section "* ]]; then wrong_usage "There is no section '$section'."; fi
        expected_seconds=$((expected_seconds + $(seconds_of "$section")))
    done
}

wrong_usage() {
    say "$1 See ./bench.sh --help"
    exit 2
}

# How long a section takes, roughly.
seconds_of() {
    if [[ -n $quick ]]; then
        printf '60'
        return
    fi
    case $1 in
        balance) printf '%d' $((10 + 162 * repeats)) ;;
        burst) printf '%d' $((10 + 10 * repeats)) ;;
        latency) printf '%d' $((10 + 56 * repeats)) ;;
        memory) printf '%d' $((10 + 20 * repeats)) ;;
        hotrow) printf '%d' $((200 + 20 * repeats)) ;;
        cron) printf '%d' $((250 + 30 * repeats)) ;;
        growth) printf '%d' $((300 + 50 * repeats)) ;;
        soak) printf '%d' 1280 ;;
    esac
}

measure() { # section
    local begun=$SECONDS
    stamp "== $1: about $(($(seconds_of "$1") / 60 + 1)) min"
    rows=$bench_folder/$1.tsv
    printf '# %s, commit %s, repeats: %d%s\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" "$commit" \
        "$repeats" "${quick:+, quick: to try it out, not to be trusted}" >"$rows"
    fresh_database bench
    "section_$1"
    mv "$rows" "$results/$1.tsv"
    describe_machine >"$results/machine.tsv"
    "$figures" "$results" >/dev/null
    stamp "== $1: done in $((SECONDS - begun)) s"
}

main "$@"
