//! What a soak has to show: by the history, which the replicas wrote, and by the trace, which the
//! functions left without a lease.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Break, LAST};
use crate::support::Database;

/// A process that was paused may step for this long when it wakes.
const AFTER_WAKING: TimeDelta = TimeDelta::seconds(1);
/// The longest that a slot waits for a claim, or that a run is open: the longest run or pause, the
/// lease and the longest handicap, with time to spare for a busy machine.
const NEGLECT: TimeDelta = TimeDelta::seconds(20);

pub(super) struct Job {
    name: String,
    interval: TimeDelta,
}

/// All runs of all jobs.
pub(super) struct History<'a> {
    database: &'a Database,
    jobs: Vec<(&'a Job, Vec<Run>)>,
}

/// One run, as the history has it, and how many steps the witness saw of it.
#[derive(Debug)]
struct Run {
    id: i64,
    token: i64,
    server: String,
    scheduled_at: DateTime<Utc>,
    started_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    outcome: String,
    steps: i64,
}

/// Where the slots of the grids have gone, up to the last of each job, and without it.
#[derive(Debug, Default)]
struct Slots {
    succeeded: i64,
    passed_while_a_run_went_on: i64,
    passed_while_a_broken_off_run_was_open: i64,
    passed_while_due_and_unclaimed: i64,
}

impl Job {
    /// Every 2 to 8 s, for 5 ms to 2.9 s: the longest takes more than its interval.
    pub(super) fn add(database: &Database, number: i64) -> Job {
        let (seconds, millis) = (2 + (number + 2) % 7, 5 + 8 * number * number);
        let name = format!("short-{millis}");
        database.add_job_calling(&name, "short", &format!("every {seconds}s"));
        Job { name, interval: TimeDelta::seconds(seconds) }
    }

    /// In the order of their claims.
    fn runs(&self, database: &Database) -> Vec<Run> {
        let sql = "select *, (select count(*) from witness where run_id = cron_runs.id) as steps \
                   from cron_runs where job = $1 order by id";
        let run = |row: &postgres::Row| Run {
            id: row.get("id"),
            token: row.get("token"),
            server: row.get("server"),
            scheduled_at: row.get("scheduled_at"),
            started_at: row.get("started_at"),
            finished_at: row.get("finished_at"),
            outcome: row.get("outcome"),
            steps: row.get("steps"),
        };
        database.connect().query(sql, &[&self.name]).expect("runs").iter().map(run).collect()
    }

    fn assert_every_slot_is_accounted_for(&self, runs: &[Run]) {
        let Job { name, interval } = self;
        for (run, token) in runs.iter().zip(1..) {
            assert_eq!(run.token, token, "{name}: a claim without a run, before {run:?}");
        }
        for tries in slots_of(runs) {
            let mut due = tries[0].scheduled_at;
            for run in tries {
                let (waited, open) = (run.started_at - due, run.finished_at - run.started_at);
                assert!(waited >= TimeDelta::zero(), "{name}: due {due}, and earlier {run:?}");
                assert!(waited < NEGLECT, "{name}: due {due}, and late {run:?}");
                assert!(open < NEGLECT, "{name}: open for long: {run:?}");
                due = run.finished_at;
            }
            for run in &tries[..tries.len() - 1] {
                let broke_off = ["cancelled", "abandoned"].contains(&run.outcome.as_str());
                assert!(broke_off, "{name}: the slot was run again after {run:?}");
            }
        }
        for pair in slots_of(runs).windows(2) {
            let (done, next) = (&pair[0][pair[0].len() - 1], &pair[1][0]);
            assert_eq!(done.outcome, "succeeded", "{name}: slot lost: {done:?}, then {next:?}");
            let distance = micros(next.scheduled_at - done.scheduled_at);
            let on_grid = distance > 0 && distance % micros(*interval) == 0;
            assert!(on_grid, "{name}: off the grid: {done:?}, then {next:?}");
            let skipped = next.scheduled_at - *interval > done.finished_at;
            assert!(!skipped, "{name}: a slot was skipped between {done:?} and {next:?}");
        }
    }

    fn count_slots(&self, runs: &[Run], slots: &mut Slots) {
        for pair in slots_of(runs).windows(2) {
            slots.succeeded +=
                pair[0].iter().filter(|run| run.outcome == "succeeded").count() as i64;
            let mut at = pair[0][0].scheduled_at + self.interval;
            while at < pair[1][0].scheduled_at {
                *slots.passed(at, pair[0]) += 1;
                at += self.interval;
            }
        }
    }

    /// From the first to the last that was begun, without that.
    fn slots_in_all(&self, runs: &[Run]) -> i64 {
        let (first, last) = (&runs[0], &runs[runs.len() - 1]);
        micros(last.scheduled_at - first.scheduled_at) / micros(self.interval)
    }
}

/// The runs of each slot.
fn slots_of(runs: &[Run]) -> Vec<&[Run]> {
    runs.chunk_by(|a, b| a.scheduled_at == b.scheduled_at).collect()
}

fn micros(time: TimeDelta) -> i64 {
    time.num_microseconds().expect("a short time")
}

impl Slots {
    /// The count to which a slot belongs that passed at `at`, before these tries had succeeded.
    fn passed(&mut self, at: DateTime<Utc>, tries: &[Run]) -> &mut i64 {
        let open = tries.iter().find(|run| run.started_at <= at && at <= run.finished_at);
        match open.map(|run| run.outcome.as_str()) {
            Some("succeeded") => &mut self.passed_while_a_run_went_on,
            Some(_) => &mut self.passed_while_a_broken_off_run_was_open,
            None => &mut self.passed_while_due_and_unclaimed,
        }
    }
}

impl History<'_> {
    pub(super) fn read<'a>(database: &'a Database, jobs: &'a [Job]) -> History<'a> {
        database.connect().batch_execute("create index on witness (run_id)").expect("an index");
        let jobs = jobs.iter().map(|job| (job, job.runs(database))).collect();
        History { database, jobs }
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.jobs.iter().flat_map(|(_, runs)| runs)
    }

    /// Of each replica, by its name and the number of its processes.
    pub(super) fn print_shares<'a>(&self, replicas: impl Iterator<Item = (&'a str, usize)>) {
        let started = self.runs().filter(|run| run.server != LAST).count();
        println!("replica    processes  starts  succeeded  failed  cancelled  abandoned  share");
        for (name, processes) in replicas {
            let count = |outcome: &str| {
                let runs = self.runs().filter(|run| run.server == name);
                runs.filter(|run| outcome.is_empty() || run.outcome == outcome).count()
            };
            let [all, succeeded, failed, cancelled, abandoned] =
                ["", "succeeded", "failed", "cancelled", "abandoned"].map(count);
            let share = 100.0 * all as f64 / started as f64;
            println!(
                "{name:9}  {processes:9}  {all:6}  {succeeded:9}  {failed:6}  {cancelled:9}  \
                 {abandoned:9}  {share:4.1}%"
            );
        }
    }

    /// Of the first tries of slots, while the soak lasted.
    pub(super) fn print_lateness(&self) {
        let firsts = self.jobs.iter().flat_map(|(_, runs)| slots_of(runs)).map(|tries| &tries[0]);
        let firsts = firsts.filter(|run| run.server != LAST);
        let mut late: Vec<_> = firsts.map(|run| run.started_at - run.scheduled_at).collect();
        late.sort();
        let at = |share: f64| late[(share * (late.len() - 1) as f64) as usize].as_seconds_f64();
        let (half, most, max) = (at(0.5), at(0.99), at(1.0));
        println!("lateness of first tries: p50 {half:.3} s, p99 {most:.3} s, max {max:.3} s");
    }

    pub(super) fn print_slots(&self) {
        let mut slots = Slots::default();
        self.jobs.iter().for_each(|(job, runs)| job.count_slots(runs, &mut slots));
        let in_all: i64 = self.jobs.iter().map(|(job, runs)| job.slots_in_all(runs)).sum();
        println!("{in_all} slots in all = {slots:#?}");
        let Slots {
            succeeded,
            passed_while_a_run_went_on: run,
            passed_while_a_broken_off_run_was_open: broken_off,
            passed_while_due_and_unclaimed: unclaimed,
        } = slots;
        assert_eq!(in_all, succeeded + run + broken_off + unclaimed, "slots unaccounted for");
    }

    pub(super) fn assert_every_slot_is_accounted_for(&self) {
        for (job, runs) in &self.jobs {
            job.assert_every_slot_is_accounted_for(runs);
        }
    }

    /// The trace and the history know the same runs.
    pub(super) fn assert_traced(&self) {
        let unknown = "select coalesce(string_agg(distinct job || ' ' || run_id, ', '), '') \
                       from witness where not exists \
                       (select from cron_runs where id = run_id and cron_runs.job = witness.job)";
        let unknown = self.database.text(unknown);
        assert!(unknown.is_empty(), "steps of runs that the history does not have: {unknown}");
        for run in self.runs() {
            let Run { id, outcome, steps, .. } = run;
            assert_ne!(outcome, "failed", "run {id}: {run:?}");
            assert!(*steps > 0 || outcome != "succeeded", "run {id} left no step: {run:?}");
        }
    }

    /// No run steps later than its recorded end, nor than a step of the job's next run.
    pub(super) fn assert_no_step_of_a_lost_run(&self, breaks: &[Break]) {
        let sql = "select job, run_id, process, at, newest, finished_at from ( \
                   select step.*, max(run_id) over (partition by step.job order by at) as newest, \
                   finished_at from witness step join cron_runs on cron_runs.id = run_id) as step \
                   where run_id < newest or at > finished_at order by at";
        let rows = self.database.connect().query(sql, &[]).expect("late steps");
        for row in &rows {
            let (job, run, newest): (String, i64, i64) = (row.get(0), row.get(1), row.get(4));
            let (process, at): (i32, DateTime<Utc>) = (row.get(2), row.get(3));
            let finished_at: DateTime<Utc> = row.get(5);
            let excused = breaks.iter().filter(|pause| pause.process == process).any(|pause| {
                pause.woken.is_some_and(|woken| pause.from <= at && at <= woken + AFTER_WAKING)
            });
            assert!(
                excused,
                "{job}: run {run}, which ended at {finished_at}, stepped in process {process} at \
                 {at}, when the newest run that had stepped was {newest}"
            );
        }
        println!("steps of lost runs, each within a second after waking: {}", rows.len());
    }

    /// A run is abandoned only if its replica was killed or paused while it was open.
    pub(super) fn assert_abandoned_for_a_reason(&self, breaks: &[Break]) {
        for run in self.runs().filter(|run| run.outcome == "abandoned") {
            let reason = breaks.iter().any(|reason| {
                reason.server == run.server
                    && reason.from <= run.finished_at
                    && reason.woken.unwrap_or(reason.from) >= run.started_at
            });
            assert!(reason, "abandoned, although nothing happened to its replica: {run:?}");
        }
    }
}
