------------------------------- MODULE lease -------------------------------
(* How replicas share cron jobs through leases in one database: the design  *)
(* that src/cron has. scripts/check-spec.sh checks this file.               *)
(*                                                                          *)
(* WHAT IS MODELLED                                                         *)
(*   row[j] is the row of job j in cron_jobs, and its open runs in          *)
(*   cron_runs:                                                             *)
(*     tok    token           own  holder (None: the job waits or is due)   *)
(*     cur    run_id, 0: none off  offered_at is not null                   *)
(*     lk     locked_until, as the ticks from the database's now to it; 0   *)
(*            means that it has passed                                      *)
(*     open   the rows of cron_runs whose finished_at is null               *)
(*     last   the newest run of which a step was committed (a witness, not  *)
(*            a column)                                                     *)
(*     slot   the slot that the job is at: 0 and 1 in turn, since only that *)
(*            the next one is another matters                               *)
(*     tried  tried_at is this slot; else att and ck count for nothing      *)
(*     att    attempt         ck   checkpoint: the run that kept it; 0: none*)
(*     stop   stop_run; END leaves it here, as that of earlier builds does  *)
(*     bad    how many tries of this slot failed; new: the newest checkpoint*)
(*            that was committed for it (witnesses)                         *)
(*   made[j] counts all claims ever made of job j; a run's number is the    *)
(*   value of made at its claim. Nothing ever takes a claim out of made.    *)
(*   run[j][i] is run i of job j: in the memory of its replica, and in the  *)
(*   network.                                                               *)
(*     st     asked: claimed, and the answer is under way; run: the         *)
(*            function executes; over: nobody works for it; else the value  *)
(*            of kind: the function has returned, and END has to be written *)
(*     tr     the ticks that are left of the trust window. 0: the process   *)
(*            has to exit before the next tick. -1: the window passed while *)
(*            the process was frozen.                                       *)
(*     rn, rw the statement RENEW under way, or its answer; and the ticks   *)
(*            for which its success could still be trusted (-1: none)       *)
(*     wk     the step: sent; open: its transaction holds the row's key     *)
(*            share; commit: the commit is under way                        *)
(*     left   the ticks after which the session's limits end the step       *)
(*     en     the statement END is under way                                *)
(*     kind   what END writes. next: the slot is done; same: it is run again*)
(*            (cancelled, abandoned); fail: failed, timed_out; stop, miss:  *)
(*            stopped, missed                                               *)
(*     told   a renewal has said that somebody wants the run stopped        *)
(*     kept   the function has kept a checkpoint that is not known to be    *)
(*            written; rk: the RENEW under way carries it                   *)
(*   proc[r], quiet[r], drift[r]: whether replica r is up, drain, frozen or *)
(*   dead; for how long it offers no job that has a holder; how many jumps  *)
(*   forward, less jumps back, the database's clock has made since this     *)
(*   replica's last answered poll.                                          *)
(*   Time is a number of ticks. A jump of the database's clock is worse     *)
(*   than any real one: forward, all leases and slots have passed at once;  *)
(*   back, they are so Far in the future that waiting does not help.        *)
(*                                                                          *)
(* ACTIONS AND STATEMENTS of src/cron/lease.rs                              *)
(*   Offer, TakeBack: OFFER. Notice: its answer. CloseOrphan, CloseStopped: *)
(*   FREE. Mend: MEND and MEND_SLOTS (src/cron/lease/offer.rs and mend.rs). *)
(*   Claim: CLAIM, and the index one_run_a_group. RenewExec: RENEW.         *)
(*   StepLock: the `for key share` that begins a step. EndExec: END, also   *)
(*   of a slot that was missed (src/cron/lease/end.rs). Stop: STOP          *)
(*   (src/cron/job.rs). Each is atomic, as one statement is. What is sent   *)
(*   may be executed late or never, also after its sender is dead, and each *)
(*   answer may be late or lost.                                            *)
(*                                                                          *)
(* WHAT HOLDS IS CHECKED IN SMALL MODELS: mostly 2 replicas, 1 job and 2    *)
(*   runs; 3 replicas with 1 job only without crash, freeze and drain.      *)
(*   Stops, tries, missed slots, groups and checkpoints have models of      *)
(*   their own, each with one fault at most, without steps, and without     *)
(*   jumps of the clock.                                                    *)
(*   3 replicas with 2 jobs are too many states: random walks go through    *)
(*   them, and random walks of this length miss some of the mutants.        *)
(*                                                                          *)
(* LEFT OUT                                                                 *)
(*   The handicap and the 60 s after which an offer is made anew (any       *)
(*   replica may claim at any time). A pause of everything: it only delays  *)
(*   claims. Run-now, delete, change of settings, except that they move     *)
(*   slots (Move). Replicas with different terms or functions, or of        *)
(*   earlier builds, which know of no stop and no checkpoint. How late a    *)
(*   slot is: any that is claimed for its first try may be too late, and    *)
(*   all that are missed at once count as one. A missed slot that only the  *)
(*   program finds too late (catchUp none), whose replica dies before END:  *)
(*   it is run. Which job of a group comes first. Two checkpoints of one    *)
(*   run, of which the older arrives last. Jumps of the clock that are      *)
(*   smaller than the margin between trust and lease. An END that the       *)
(*   database refuses for good. The waiting of a key share behind a plain   *)
(*   update: PostgreSQL's own tests of interleavings show it.               *)
EXTENDS Integers, FiniteSets, TLC

CONSTANTS
    Replicas, Jobs, None,
    MaxRuns,      \* claims of one job, in all
    Term,         \* the lease
    Exit,         \* the trust window; shorter than Term
    Limit,        \* how long a step may hold the row
    Quiet,        \* how long after a start or a jump no held job is offered
    Gap,          \* from a run's end to the next slot
    MaxForward, MaxBack,  \* jumps of the clock
    Freezes, Crashes, Drains,  \* BOOLEAN: whether these happen at all
    MaxFaults,    \* how many of them; 99: without limit
    Losses,       \* BOOLEAN: what is lost is known to be lost, and may be sent again. Without it a
                  \* statement may still never arrive, but then a second one is not sent.
    Prompt,       \* BOOLEAN: each living holder renews within each tick
    Lossy,        \* BOOLEAN: a promotion may forget what was committed
    Steps, Stops, Misses, Checkpoints, Moves,  \* BOOLEAN: whether these happen at all
    Retries,      \* further tries of a slot whose run failed
    Group,        \* the jobs of one group; {}: no job has one
    Endless,      \* BOOLEAN: a function returns only when it is told to, or never
    ClaimNonce,   \* BOOLEAN: each claim writes a holder value of its own
    Mutant        \* "none", or the part of the design that is taken away

ASSUME Exit < Term /\ Limit > 0 /\ Gap < Term

Far == 99
Alike == Permutations(Replicas) \union Permutations(Jobs)
Runs == 1..MaxRuns
Slots == Stops \/ Misses \/ Checkpoints \/ Retries > 0

VARIABLES row, run, made, proc, quiet, drift, forward, back, faults, snap, lost

vars == <<row, run, made, proc, quiet, drift, forward, back, faults, snap, lost>>
time == <<quiet, drift, forward, back>>
world == <<faults, snap, lost>>

Blank == [st |-> "over", r |-> None, n |-> 0, tok |-> 0, tr |-> -1, rn |-> "no",
          rw |-> 0, wk |-> "no", left |-> 0, en |-> FALSE, kind |-> "same",
          told |-> FALSE, kept |-> FALSE, rk |-> FALSE]

Alive(r) == proc[r] \in {"up", "drain"}
Ending == {"next", "same", "fail", "stop", "miss"}
Live(x) == x.st = "run" \/ x.st \in Ending

\* The value of the column `holder` that run i of replica r has written.
Holder(r, i) == <<r, IF ClaimNonce THEN i ELSE 0>>

\* A run that is over and has nothing under way differs in nothing from another such run.
Norm(x) ==
    IF x.st # "over" THEN x
    ELSE IF x.rn # "sent" /\ x.wk = "no" /\ ~x.en THEN Blank
    ELSE [x EXCEPT !.tr = -1, !.rn = IF @ = "sent" THEN @ ELSE "no",
                   !.rw = 0, !.kind = IF x.en THEN @ ELSE "same", !.told = FALSE,
                   !.kept = x.en /\ @, !.rk = (x.rn = "sent") /\ @]

Set(j, i, x) == run' = [run EXCEPT ![j][i] = Norm(x)]
SetRow(j, x) == row' = [row EXCEPT ![j] = x]

\* The guard of RENEW, END and the step: token and holder.
Own(j, i) ==
    /\ row[j].tok = run[j][i].tok
    /\ Mutant = "holder" \/ row[j].own = Holder(run[j][i].r, run[j][i].n)

\* No step holds the row's key share, so `for update` gets it.
Free(j) == \A i \in Runs : run[j][i].wk \notin {"open", "commit"}

\* Whether OFFER has to leave out the jobs that have a holder.
Gated(r) == Mutant # "gate" /\ (drift[r] > 0 \/ quiet[r] > 0)

MayFail == MaxFaults = 99 \/ faults < MaxFaults
Fail == faults' = IF MaxFaults = 99 THEN 0 ELSE faults + 1

Waiting == [tok |-> 0, own |-> None, cur |-> 0, lk |-> 0, off |-> FALSE,
            open |-> {}, last |-> 0, slot |-> 0, tried |-> FALSE, att |-> 0, bad |-> 0,
            ck |-> 0, new |-> 0, stop |-> 0]

\* Whether somebody wants the open run of this row stopped.
Stopped(x) == x.cur # 0 /\ (x.stop = x.cur \/ (Mutant = "stop-older" /\ x.stop # 0))

\* The try that a claim begins, or has begun; and where its run goes on.
Counts(x) == x.tried \/ Mutant = "tried-at"
Attempt(x) == IF Counts(x) /\ x.att > 0 THEN x.att ELSE 1
Begins(x) == IF Counts(x) THEN x.ck ELSE 0

\* The row with another slot, of which nothing was tried.
Another(x) == IF Slots THEN [x EXCEPT !.slot = 1 - @, !.tried = FALSE, !.bad = 0, !.new = 0] ELSE x

\* What CLAIM writes besides the lease. A slot that is too late for its run is not begun by that.
Tried(x, late) ==
    IF ~Slots THEN x ELSE
    [x EXCEPT !.tried = ~late, !.ck = IF Mutant = "claim-keeps" THEN @ ELSE Begins(x),
              !.att = IF Mutant = "tries-anew" THEN 1
                      ELSE IF Mutant = "takeover-counts" /\ x.own # None THEN Attempt(x) + 1
                      ELSE Attempt(x)]

\* What RENEW and END write of the checkpoint that run i has kept, if it has.
Kept(x, i, has) ==
    IF has THEN [x EXCEPT !.ck = i, !.new = IF @ < i THEN i ELSE @]
    ELSE IF Mutant = "keep-none" THEN [x EXCEPT !.ck = 0] ELSE x

\* No other job of its group has a holder.
Vacant(j) == j \in Group => \A k \in Group \ {j} : row[k].own = None

Init ==
    /\ row = [j \in Jobs |-> Waiting]
    /\ run = [j \in Jobs |-> [i \in Runs |-> Blank]]
    /\ made = [j \in Jobs |-> 0]
    /\ proc = [r \in Replicas |-> "up"]
    /\ quiet = [r \in Replicas |-> 0]
    /\ drift = [r \in Replicas |-> 0]
    /\ forward = 0 /\ back = 0 /\ faults = 0 /\ lost = 0
    /\ snap = row

--------------------------------------------------------------------------
(* OFFER *)

Offer(r, j) ==
    /\ proc[r] = "up"
    /\ row[j].lk = 0 /\ ~row[j].off /\ (Free(j) \/ Mutant = "both-locks")
    /\ row[j].own = None \/ ~Gated(r)
    /\ ~Stopped(row[j]) /\ Vacant(j) /\ (Mutant = "group-dead" => row[j].own = None)
    /\ SetRow(j, [row[j] EXCEPT !.off = TRUE])
    /\ UNCHANGED <<run, made, proc, time, world>>

\* An offer is taken back while another job of the group has a holder.
TakeBack(r, j) ==
    /\ proc[r] = "up" /\ row[j].off /\ ~Vacant(j) /\ Mutant # "group-pick"
    /\ SetRow(j, [row[j] EXCEPT !.off = FALSE])
    /\ UNCHANGED <<run, made, proc, time, world>>

\* Frees what a dead replica held of a job that is paused. The job is due again at once here, as if
\* somebody had let it go on.
CloseOrphan(r, j) ==
    /\ proc[r] = "up"
    /\ row[j].lk = 0 /\ ~row[j].off /\ Free(j) /\ row[j].own # None
    /\ ~Gated(r) /\ ~Stopped(row[j])
    /\ SetRow(j, [row[j] EXCEPT !.own = None, !.cur = 0, !.open = @ \ {row[j].cur}])
    /\ UNCHANGED <<run, made, proc, time, world>>

\* Ends what a dead replica held of a run that somebody wants stopped.
CloseStopped(r, j) ==
    /\ proc[r] = "up" /\ Mutant # "stop-free"
    /\ row[j].lk = 0 /\ Free(j) /\ Stopped(row[j])
    /\ ~Gated(r)
    /\ LET x == IF Mutant = "stop-stays" THEN row[j] ELSE Another(row[j]) IN
       SetRow(j, [x EXCEPT !.own = None, !.cur = 0, !.open = @ \ {row[j].cur}, !.lk = Gap,
                           !.off = FALSE, !.att = 0, !.ck = 0])
    /\ UNCHANGED <<run, made, proc, time, world>>

\* Somebody asks to stop the open run.
Stop(j) ==
    /\ Stops /\ row[j].cur # 0 /\ row[j].stop # row[j].cur
    /\ SetRow(j, [row[j] EXCEPT !.stop = row[j].cur])
    /\ UNCHANGED <<run, made, proc, time, world>>

\* A job that waits gets another slot: by MEND_SLOTS, by a change of its schedule, or because END of
\* an earlier build, which knows nothing of tries, wrote it.
Move(j) ==
    /\ Moves /\ row[j].own = None
    /\ SetRow(j, Another(row[j]))
    /\ UNCHANGED <<run, made, proc, time, world>>

\* The rule for a jump back: the row was written in the future.
Mend(r, j) ==
    /\ proc[r] = "up" /\ row[j].lk = Far /\ Mutant # "mend"
    /\ SetRow(j, [row[j] EXCEPT !.lk = IF row[j].own = None THEN Gap ELSE Term])
    /\ UNCHANGED <<run, made, proc, time, world>>

\* The poll is answered: the replica learns that the clock has jumped.
Notice(r) ==
    /\ Alive(r) /\ drift[r] # 0
    /\ drift' = [drift EXCEPT ![r] = 0]
    /\ quiet' = [quiet EXCEPT ![r] = IF drift[r] > 0 /\ Mutant # "gate-once" THEN Quiet ELSE @]
    /\ UNCHANGED <<row, run, made, proc, forward, back, world>>

--------------------------------------------------------------------------
(* CLAIM *)

Claim(r, j) ==
    LET i == made[j] + 1 IN
    /\ proc[r] = "up" /\ i \in Runs
    /\ row[j].off /\ row[j].lk = 0
    /\ Free(j) \/ Mutant \in {"claim-lock", "both-locks"}
    /\ ~Stopped(row[j]) \/ Mutant = "stop-claim"
    /\ Vacant(j) \/ Mutant = "group"
    /\ Mutant = "group-pick" => \A k \in Group : row[k].off => Vacant(k)
    /\ made' = [made EXCEPT ![j] = i]
    /\ \E late \in IF Misses /\ ~row[j].tried THEN BOOLEAN ELSE {FALSE} :
        /\ SetRow(j, [Tried(row[j], late) EXCEPT
                        !.tok = @ + 1, !.own = Holder(r, i), !.cur = i, !.lk = Term,
                        !.off = FALSE, !.open = (@ \ {row[j].cur}) \union {i}])
        /\ Set(j, i, [Blank EXCEPT !.st = "asked", !.r = r, !.n = IF ClaimNonce THEN i ELSE 0,
                                   !.tok = row[j].tok + 1, !.tr = Exit,
                                   !.kind = IF late THEN "miss" ELSE "same"])
    /\ UNCHANGED <<proc, time, world>>

\* An answer that comes after the trust window does not call the function; nor does one for a slot
\* that is too late.
ClaimAnswered(j, i) ==
    LET x == run[j][i] IN
    /\ x.st = "asked" /\ Alive(x.r)
    /\ IF x.kind = "same" /\ proc[x.r] = "up" /\ (x.tr > 0 \/ Mutant = "answer")
       THEN Set(j, i, [x EXCEPT !.st = "run", !.tr = IF Mutant = "answer" THEN Exit ELSE @])
       ELSE Set(j, i, [x EXCEPT !.st = x.kind, !.en = TRUE])
    /\ UNCHANGED <<row, made, proc, time, world>>

ClaimUnanswered(j, i) ==
    /\ run[j][i].st = "asked" /\ Losses /\ ~Prompt
    /\ Set(j, i, [run[j][i] EXCEPT !.st = "over"])
    /\ UNCHANGED <<row, made, proc, time, world>>

\* Only a mutant does this: a slot that is too late is passed by, and no run is opened for it.
PassBy(r, j) ==
    /\ Mutant = "miss-early" /\ proc[r] = "up" /\ row[j].off /\ row[j].lk = 0 /\ Free(j)
    /\ ~row[j].tried /\ row[j].own = None
    /\ SetRow(j, [Another(row[j]) EXCEPT !.lk = Gap, !.off = FALSE])
    /\ UNCHANGED <<run, made, proc, time, world>>

--------------------------------------------------------------------------
(* RENEW *)

RenewSend(j, i) ==
    LET x == run[j][i] IN
    /\ Live(x) /\ Alive(x.r) /\ x.tr > 0 /\ x.rn = "no"
    /\ \/ x.tr < Exit \/ row[j].lk # Term \/ x.kept
       \/ (row[j].stop # 0 /\ ~x.told)   \* else it would change nothing
    /\ Set(j, i, [x EXCEPT !.rn = "sent", !.rw = Exit, !.rk = x.kept])
    /\ UNCHANGED <<row, made, proc, time, world>>

RenewExec(j, i) ==
    LET x == run[j][i] IN
    /\ x.rn = "sent"
    /\ IF Own(j, i) /\ (Mutant # "alive" \/ row[j].lk > 0)
       THEN /\ SetRow(j, [Kept(row[j], i, x.rk) EXCEPT !.lk = Term, !.off = FALSE])
            /\ Set(j, i, [x EXCEPT !.rn = IF Stopped(row[j]) THEN "stop" ELSE "done"])
       ELSE /\ IF Mutant = "keep-guard" THEN SetRow(j, Kept(row[j], i, x.rk)) ELSE UNCHANGED row
            /\ Set(j, i, [x EXCEPT !.rn = "refused"])
    /\ UNCHANGED <<made, proc, time, world>>

\* Counted from before the round trip. A refusal means lost: the function returns, or the process
\* exits.
RenewAnswered(j, i) ==
    LET x == run[j][i]
        trusted == IF Mutant = "answer" THEN Exit ELSE IF x.rw > x.tr THEN x.rw ELSE x.tr IN
    /\ Live(x) /\ Alive(x.r) /\ x.rn \in {"done", "stop", "refused"}
    /\ Set(j, i, IF x.rn = "refused" THEN [x EXCEPT !.st = "over"]
                 ELSE [x EXCEPT !.rn = "no", !.rw = 0, !.rk = FALSE, !.tr = trusted,
                                !.told = @ \/ (x.rn = "stop" /\ Mutant # "stop-deaf"),
                                !.kept = @ /\ ~x.rk])
    /\ UNCHANGED <<row, made, proc, time, world>>

RenewLost(j, i) ==
    /\ run[j][i].rn # "no" /\ Losses
    /\ Set(j, i, [run[j][i] EXCEPT !.rn = "no", !.rw = 0, !.rk = FALSE])
    /\ UNCHANGED <<row, made, proc, time, world>>

\* The function keeps a checkpoint. The next RENEW, or END, writes it.
Keep(j, i) ==
    LET x == run[j][i] IN
    /\ Checkpoints /\ x.st = "run" /\ proc[x.r] = "up" /\ ~x.kept
    /\ Set(j, i, [x EXCEPT !.kept = TRUE])
    /\ UNCHANGED <<row, made, proc, time, world>>

--------------------------------------------------------------------------
(* The fenced step *)

StepSend(j, i) ==
    LET x == run[j][i] IN
    /\ Steps /\ x.st = "run" /\ proc[x.r] = "up" /\ x.tr > 0 /\ x.wk = "no"
    /\ Set(j, i, [x EXCEPT !.wk = "sent"])
    /\ UNCHANGED <<row, made, proc, time, world>>

Committed(j, i) == SetRow(j, [row[j] EXCEPT !.last = IF Lossy THEN i ELSE run[j][i].tok])

StepLock(j, i) ==
    LET x == run[j][i] IN
    /\ x.wk = "sent"
    /\ IF Mutant = "fence"
       THEN Committed(j, i) /\ Set(j, i, [x EXCEPT !.wk = "no"])
       ELSE /\ UNCHANGED row
            /\ Set(j, i, IF Own(j, i) /\ row[j].lk > 0
                         THEN [x EXCEPT !.wk = "open", !.left = Limit]
                         ELSE [x EXCEPT !.wk = "no"])
    /\ UNCHANGED <<made, proc, time, world>>

StepCommitSend(j, i) ==
    LET x == run[j][i] IN
    /\ x.wk = "open" /\ x.st = "run" /\ proc[x.r] = "up"
    /\ Set(j, i, [x EXCEPT !.wk = "commit"])
    /\ UNCHANGED <<row, made, proc, time, world>>

StepCommit(j, i) ==
    /\ run[j][i].wk = "commit"
    /\ Committed(j, i)
    /\ Set(j, i, [run[j][i] EXCEPT !.wk = "no", !.left = 0])
    /\ UNCHANGED <<made, proc, time, world>>

\* The session's limits, a broken connection, or a crash of the database.
StepAbort(j, i) ==
    LET x == run[j][i] IN
    /\ x.wk \in {"open", "commit"}
    /\ Mutant # "limit" \/ Alive(x.r)
    /\ Set(j, i, [x EXCEPT !.wk = "no", !.left = 0])
    /\ UNCHANGED <<row, made, proc, time, world>>

StepLost(j, i) ==
    /\ run[j][i].wk = "sent" /\ Losses
    /\ Set(j, i, [run[j][i] EXCEPT !.wk = "no"])
    /\ UNCHANGED <<row, made, proc, time, world>>

--------------------------------------------------------------------------
(* END *)

\* The function returns: at its end, or because it was cancelled.
Return(j, i) ==
    LET x == run[j][i] IN
    /\ x.st = "run" /\ Alive(x.r)
    /\ \E kind \in {"next", "same", "fail", "stop"} :
        /\ kind = "same" => (x.tr <= 0 \/ proc[x.r] = "drain")
        /\ kind \in {"next", "fail"} => proc[x.r] = "up" /\ ~Endless
        /\ kind = "fail" => Retries > 0
        /\ kind = "stop" => x.told
        /\ Set(j, i, [x EXCEPT !.st = kind, !.en = TRUE, !.kind = kind])
    /\ UNCHANGED <<row, made, proc, time, world>>

EndAgain(j, i) ==
    LET x == run[j][i] IN
    /\ x.st \in Ending /\ Alive(x.r) /\ ~x.en
    /\ Set(j, i, [x EXCEPT !.en = TRUE])
    /\ UNCHANGED <<row, made, proc, time, world>>

\* The row after the end of run i. A run that somebody wants stopped ends its slot, whatever the
\* holder knows of that. A failed one is tried again, but not for ever.
Ended(j, i) ==
    LET x == run[j][i] IN
    IF x.kind \in {"next", "stop", "miss"} \/ (Stopped(row[j]) /\ Mutant # "end-stop")
       \/ (x.kind = "fail" /\ Attempt(row[j]) > Retries)
    THEN [Another(row[j]) EXCEPT !.lk = Gap, !.att = 0, !.ck = 0]
    ELSE IF x.kind = "fail"
    THEN [Kept(row[j], i, x.kept) EXCEPT !.lk = Gap, !.att = @ + 1, !.bad = @ + 1]
    ELSE [Kept(row[j], i, x.kept) EXCEPT !.lk = 0]

\* It waits for the run's own step. The holder is told, or gives up: in both cases it works no more.
EndExec(j, i) ==
    LET x == run[j][i] IN
    /\ x.en /\ (Free(j) \/ Mutant = "end-lock")
    /\ IF Own(j, i) \/ Mutant = "end-guard"
       THEN SetRow(j, [Ended(j, i) EXCEPT !.own = None, !.cur = 0, !.open = @ \ {row[j].cur},
                                          !.off = FALSE])
       ELSE UNCHANGED row
    /\ Set(j, i, [x EXCEPT !.st = "over", !.en = FALSE])
    /\ UNCHANGED <<made, proc, time, world>>

EndLost(j, i) ==
    /\ run[j][i].en /\ Losses
    /\ Set(j, i, [run[j][i] EXCEPT !.en = FALSE])
    /\ UNCHANGED <<row, made, proc, time, world>>

--------------------------------------------------------------------------
(* The process *)

Die(r) ==
    /\ proc' = [proc EXCEPT ![r] = "dead"]
    /\ run' = [j \in Jobs |-> [i \in Runs |->
        IF run[j][i].r = r THEN Norm([run[j][i] EXCEPT !.st = "over"]) ELSE run[j][i]]]

Crash(r) ==
    /\ Crashes /\ proc[r] # "dead" /\ MayFail
    /\ Die(r) /\ Fail
    /\ UNCHANGED <<row, made, time, snap, lost>>

\* The watch: the function has not returned, and the lease is about to end.
ExitEarly(r) ==
    /\ Alive(r)
    /\ \E j \in Jobs, i \in Runs : run[j][i].st = "run" /\ run[j][i].r = r /\ run[j][i].tr <= 0
    /\ Mutant # "exit"
    /\ Die(r)
    /\ UNCHANGED <<row, made, time, world>>

Drain(r) ==
    /\ Drains /\ proc[r] = "up" /\ MayFail
    /\ proc' = [proc EXCEPT ![r] = "drain"] /\ Fail
    /\ UNCHANGED <<row, run, made, time, snap, lost>>

Drained(r) ==
    /\ proc[r] = "drain"
    /\ \A j \in Jobs, i \in Runs : run[j][i].r = r => run[j][i].st = "over"
    /\ Die(r)
    /\ UNCHANGED <<row, made, time, world>>

Freeze(r) ==
    /\ Freezes /\ proc[r] = "up" /\ MayFail
    /\ proc' = [proc EXCEPT ![r] = "frozen"] /\ Fail
    /\ UNCHANGED <<row, run, made, time, snap, lost>>

Wake(r) ==
    /\ proc[r] = "frozen"
    /\ proc' = [proc EXCEPT ![r] = "up"]
    /\ UNCHANGED <<row, run, made, time, world>>

\* A new process in its place.
Start(r) ==
    /\ proc[r] = "dead"
    /\ proc' = [proc EXCEPT ![r] = "up"]
    /\ quiet' = [quiet EXCEPT ![r] = IF MaxForward > 0 THEN Quiet ELSE 0]
    /\ drift' = [drift EXCEPT ![r] = 0]
    /\ UNCHANGED <<row, run, made, forward, back, world>>

--------------------------------------------------------------------------
(* Time, and the database *)

Less(n) == IF n > 0 THEN n - 1 ELSE 0
Later(x) == [x EXCEPT !.lk = IF @ = Far THEN Far ELSE Less(@)]

\* What has to happen before time goes on.
MayPass(x) ==
    /\ (x.st = "run" /\ x.r # None /\ Alive(x.r)) => (x.tr > 0 \/ Mutant = "exit")
    /\ x.wk \in {"open", "commit"} => (x.left > 0 \/ Mutant = "limit")
    /\ Prompt => (x.st # "asked" /\ (Live(x) => x.tr = Exit))

Aged(x) ==
    IF x.r = None THEN x ELSE
    Norm([x EXCEPT
        !.tr = IF @ > 0 THEN @ - 1 ELSE IF x.st = "run" /\ Alive(x.r) THEN @ ELSE -1,
        !.rw = IF x.rn = "no" THEN 0 ELSE IF @ < 0 THEN @ ELSE @ - 1, !.left = Less(@)])

Tick ==
    /\ \A j \in Jobs, i \in Runs : MayPass(run[j][i])
    /\ row' = [j \in Jobs |-> Later(row[j])]
    /\ snap' = IF Lossy THEN [j \in Jobs |-> Later(snap[j])] ELSE snap
    /\ run' = [j \in Jobs |-> [i \in Runs |-> Aged(run[j][i])]]
    /\ quiet' = [r \in Replicas |-> Less(quiet[r])]
    /\ UNCHANGED <<made, proc, drift, forward, back, faults, lost>>

\* Only what a replica could still notice is kept.
Drifted(by) == [r \in Replicas |-> IF proc[r] = "dead" THEN 0 ELSE drift[r] + by]

JumpForward ==
    /\ forward < MaxForward
    /\ forward' = forward + 1
    /\ row' = [j \in Jobs |-> [row[j] EXCEPT !.lk = 0]]
    /\ drift' = Drifted(1)
    /\ UNCHANGED <<run, made, proc, quiet, back, world>>

JumpBack ==
    /\ back < MaxBack
    /\ back' = back + 1
    /\ row' = [j \in Jobs |-> [row[j] EXCEPT !.lk = Far]]
    /\ drift' = Drifted(-1)
    /\ UNCHANGED <<run, made, proc, quiet, forward, world>>

\* All open transactions are gone.
Forgotten(x) == IF x.wk \in {"open", "commit"} THEN Norm([x EXCEPT !.wk = "no", !.left = 0]) ELSE x
Forget == run' = [j \in Jobs |-> [i \in Runs |-> Forgotten(run[j][i])]]

DatabaseCrash ==
    /\ Mutant # "limit" /\ Forget /\ run' # run
    /\ UNCHANGED <<row, made, proc, time, world>>

\* The standby has got all that is committed.
Replicate ==
    /\ Lossy /\ lost = 0 /\ snap # row /\ snap' = row
    /\ UNCHANGED <<row, run, made, proc, time, faults, lost>>

\* What was committed after the last Replicate is forgotten, once. A token can then be given out
\* twice, and so TokensRise and OneExecutor do not hold. The fence still holds if each claim writes
\* a holder value of its own (ClaimNonce): else one process can claim a job twice with one token.
\* Without Lossy a promotion is the same as a crash of the database.
Promote ==
    /\ Lossy /\ lost = 0 /\ lost' = 1
    /\ row' = snap /\ Forget
    /\ UNCHANGED <<made, proc, time, faults, snap>>

--------------------------------------------------------------------------

OfRun(j, i) ==
    \/ ClaimAnswered(j, i) \/ ClaimUnanswered(j, i)
    \/ RenewSend(j, i) \/ RenewExec(j, i) \/ RenewAnswered(j, i) \/ RenewLost(j, i)
    \/ StepSend(j, i) \/ StepLock(j, i) \/ StepCommitSend(j, i) \/ StepCommit(j, i)
    \/ StepAbort(j, i) \/ StepLost(j, i) \/ Keep(j, i)
    \/ Return(j, i) \/ EndAgain(j, i) \/ EndExec(j, i) \/ EndLost(j, i)

OfReplica(r) ==
    \/ Notice(r) \/ Crash(r) \/ ExitEarly(r) \/ Drain(r) \/ Drained(r)
    \/ Freeze(r) \/ Wake(r) \/ Start(r)
    \/ \E j \in Jobs : Offer(r, j) \/ CloseOrphan(r, j) \/ Mend(r, j) \/ Claim(r, j)
                     \/ CloseStopped(r, j) \/ TakeBack(r, j)
                     \/ PassBy(r, j)

Next ==
    \/ \E j \in Jobs, i \in Runs : OfRun(j, i)
    \/ \E r \in Replicas : OfReplica(r)
    \/ \E j \in Jobs : Stop(j) \/ Move(j)
    \/ Tick \/ JumpForward \/ JumpBack \/ DatabaseCrash \/ Replicate \/ Promote

Spec == Init /\ [][Next]_vars

\* What is fair: time goes on, living processes do what they have to, the database's limits work,
\* and what is sent again and again arrives once. A frozen process need not wake, a statement need
\* not arrive, and a step need not be committed.
Fair ==
    /\ WF_vars(Tick)
    /\ \A r \in Replicas :
        /\ WF_vars(Notice(r)) /\ WF_vars(ExitEarly(r)) /\ WF_vars(Drained(r)) /\ WF_vars(Start(r))
    /\ \A j \in Jobs :
        /\ WF_vars(\E r \in Replicas : Offer(r, j))
        /\ WF_vars(\E r \in Replicas : Mend(r, j))
        /\ SF_vars(\E r \in Replicas : Claim(r, j))
        /\ \A i \in Runs :
            /\ WF_vars(ClaimAnswered(j, i)) /\ WF_vars(Return(j, i))
            /\ WF_vars(StepAbort(j, i)) /\ WF_vars(EndAgain(j, i)) /\ SF_vars(EndExec(j, i))

FairSpec == Spec /\ Fair

\* Where each holder renews in time, and somebody closes what a dead one left to be stopped.
StopSpec == FairSpec /\ \A j \in Jobs :
    /\ WF_vars(\E r \in Replicas : CloseStopped(r, j))
    /\ \A i \in Runs :
        WF_vars(RenewSend(j, i)) /\ WF_vars(RenewExec(j, i)) /\ WF_vars(RenewAnswered(j, i))

--------------------------------------------------------------------------
(* What must hold *)

\* At most one open run a job, and a holder exactly while one is open.
OneOpenRun == \A j \in Jobs :
    /\ row[j].open = IF row[j].cur = 0 THEN {} ELSE {row[j].cur}
    /\ (row[j].own = None) <=> (row[j].cur = 0)

\* The fence: a step that is in the database's hands belongs to the job's open run.
StepOfOpenRun == \A j \in Jobs, i \in Runs :
    run[j][i].wk \in {"open", "commit"} => i \in row[j].open

\* A function that a process executes. A process which was frozen beyond its window is left out: it
\* overlaps for as long as it was paused and takes to see that, and only outside of the database.
Executing(j, i) == run[j][i].st = "run" /\ Alive(run[j][i].r) /\ run[j][i].tr >= 0

\* Law 2. Without jumps of the clock; with jumps forward only if each holder renews in time.
OneExecutor == \A j \in Jobs, i, k \in Runs : Executing(j, i) /\ Executing(j, k) => i = k

\* A job without a holder is due, or waits for its next slot: nothing else.
SlotKept == \A j \in Jobs : row[j].own = None => row[j].lk \in 0..Gap \union {Far}

TokensRise == [][\A j \in Jobs :
    row'[j].tok >= row[j].tok /\ (row'[j].own # row[j].own /\ row'[j].own # None
                                  => row'[j].tok > row[j].tok)]_vars

\* No step of an old run is committed after one of a newer run, whatever clocks and packets do.
StepsInOrder == [][\A j \in Jobs : row'[j].last >= row[j].last \/ lost' # lost]_vars

\* A holder that lives and renews in time keeps its job until it ends it.
KeepsJob == [][\A j \in Jobs : row[j].cur # 0 /\ row'[j].cur # row[j].cur => row'[j].cur = 0]_vars

\* Each slot is run: a due job gets a holder. The model's supply of runs may end before, also that
\* of the job that occupies the group.
Spent(j) ==
    \/ made[j] = MaxRuns
    \/ j \in Group /\ \E k \in Group : row[k].own # None /\ made[k] = MaxRuns
DueIsRun == \A j \in Jobs : (row[j].own = None) ~> (row[j].own # None \/ Spent(j))

\* A job does not stay with a run for which nobody works, nor with a frozen process.
Forsaken(j) == row[j].cur # 0 /\
    LET x == run[j][row[j].cur] IN x.st = "over" \/ proc[x.r] = "frozen"
TakenOver == \A j \in Jobs : Forsaken(j) ~> (~Forsaken(j) \/ made[j] = MaxRuns)

\* A stop is not lost while its run is open. The run is not taken over, and its slot not run again.
StoppedIsOver == [][\A j \in Jobs :
    Stopped(row[j]) => \/ Stopped(row'[j]) /\ row'[j].cur = row[j].cur
                       \/ row'[j].cur = 0 /\ row'[j].slot # row[j].slot]_vars

\* A holder is told to stop only what somebody wants stopped. A later run may be so by now.
StopIsOwn == \A j \in Jobs, i \in Runs : run[j][i].told => row[j].stop >= i

\* A run that somebody wants stopped does end.
StopHeeded == \A j \in Jobs : Stopped(row[j]) ~> ~Stopped(row[j])

\* Only tries that failed count, and a slot has no more of them than its job allows.
TriesCounted == \A j \in Jobs :
    row[j].bad <= Retries /\ Attempt(row[j]) = row[j].bad + 1

\* A job leaves its slot only with the end of an open run, which the history has: the slot was run,
\* given up, stopped or missed, and is not passed by. Without Moves.
SlotTold == [][\A j \in Jobs :
    row'[j].slot # row[j].slot => row[j].cur # 0 /\ row'[j].cur = 0]_vars

\* Never two open runs in a group.
OneAGroup == \A j, k \in Group : row[j].own # None /\ row[k].own # None => j = k

\* An occupied group does not keep other jobs from being run.
OthersRun == \A j \in Jobs \ Group :
    (row[j].own = None) ~> (row[j].own # None \/ made[j] = MaxRuns)

\* A run begins where the newest checkpoint of its slot is that was ever committed, if there is one.
CheckpointKept == \A j \in Jobs : Begins(row[j]) = row[j].new

\* Only the open run moves its job's checkpoint.
KeptByHolder == [][\A j \in Jobs :
    row'[j].ck # row[j].ck /\ row'[j].ck # 0 => row'[j].ck = row[j].cur]_vars
=============================================================================
