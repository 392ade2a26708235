//! Short jobs under random kills, ends and pauses of their replicas: no job runs twice at a time,
//! no slot is lost, and nothing is stuck at the end.
//!
//! `SOAK_SECONDS` is how long the replicas are disturbed (1800 unless told). `SOAK_SEED` repeats
//! the events of an earlier soak, which printed its seed; what they meet differs all the same.

mod judge;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use balanced::cron::LEASE_LOST;
use chrono::{DateTime, Utc};

use crate::support::{Child, Database, Postgres, Random, seconds, seed, until, witness};
use judge::{History, Job};

const REPLICAS: usize = 5;
const JOBS: i64 = 20;
const LEASE: Duration = Duration::from_secs(3);
/// Never more than these are down or paused at once.
const AWAY_MAX: usize = 2;
const BETWEEN_EVENTS_MS: Range<u64> = 5_000..15_000;
/// Some within the lease, some far beyond it.
const PAUSE_MS: Range<u64> = 1_000..8_000;
const DOWN_MS: Range<u64> = 0..4_000;
const SOON: Duration = Duration::from_secs(30);
/// The replica that runs alone at the end.
const LAST: &str = "last";

#[test]
#[ignore = "takes half an hour: SOAK_SECONDS"]
fn no_slot_is_lost_whatever_happens_to_the_replicas() {
    let seed = seed("SOAK_SEED");
    let database = Postgres::shared().migrated().without_jobs().with_witness_table();
    let jobs: Vec<Job> = (0..JOBS).map(|number| Job::add(&database, number)).collect();
    let mut soak = Soak::start(&database, Random(seed));
    soak.disturb(seconds("SOAK_SECONDS", 1_800));
    soak.end();
    soak.assert_only_the_killed_left_runs_open();
    run_alone(&database);
    soak.judge(&jobs);
    println!("SOAK_SEED={seed}");
}

struct Soak<'a> {
    database: &'a Database,
    random: Random,
    replicas: Vec<Replica>,
    /// Processes that have ended; their logs are shown if the soak fails.
    ended: Vec<Child>,
    breaks: Vec<Break>,
    events: BTreeMap<&'static str, usize>,
}

struct Replica {
    name: String,
    child: Child,
    process: i32,
    state: State,
    processes: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Up,
    Down { until: Instant },
    Paused { until: Instant },
}

/// A process was paused, or ended without giving its jobs back; by the database's clock.
struct Break {
    server: String,
    process: i32,
    from: DateTime<Utc>,
    woken: Option<DateTime<Utc>>,
}

/// Starts a replica, and tells its process id.
fn start(database: &Database, name: &str) -> (Child, i32) {
    let child = witness(database, name, LEASE);
    let process = || child.log().split_once("process=")?.1.lines().next()?.parse().ok();
    until("the replica is ready", SOON, || process().is_some());
    let process = process().expect("read before");
    (child, process)
}

impl Soak<'_> {
    fn start(database: &Database, random: Random) -> Soak<'_> {
        let replica = |number| {
            let name = format!("replica-{number}");
            let (child, process) = start(database, &name);
            Replica { name, child, process, state: State::Up, processes: 1 }
        };
        let replicas = (1..=REPLICAS).map(replica).collect();
        let (ended, breaks, events) = (Vec::new(), Vec::new(), BTreeMap::new());
        Soak { database, random, replicas, ended, breaks, events }
    }

    fn disturb(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut next = Instant::now() + self.random.millis(BETWEEN_EVENTS_MS);
        while Instant::now() < end {
            (0..REPLICAS).for_each(|index| self.look_after(index));
            let away = self.replicas.iter().filter(|replica| replica.state != State::Up).count();
            if Instant::now() >= next && away < AWAY_MAX {
                let start = self.random.below(REPLICAS);
                let mut up = (start..start + REPLICAS).map(|index| index % REPLICAS);
                let index = up.find(|&index| self.replicas[index].state == State::Up);
                self.disturb_one(index.expect("one that is up"));
                next = Instant::now() + self.random.millis(BETWEEN_EVENTS_MS);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn disturb_one(&mut self, index: usize) {
        match self.random.below(3) {
            0 => {
                self.count("killed");
                self.replicas[index].child.signal("-KILL");
                self.replicas[index].child.wait(SOON);
                let until = Instant::now() + self.random.millis(DOWN_MS);
                self.replicas[index].state = State::Down { until };
                self.note_break(index);
            }
            1 => {
                self.count("told to end");
                self.replicas[index].child.signal("-TERM");
                self.wait_for_the_end(index, true);
                self.restart(index);
            }
            _ => {
                let pause = self.random.millis(PAUSE_MS);
                self.count(match pause > LEASE {
                    true => "paused beyond the lease",
                    false => "paused within the lease",
                });
                self.note_break(index);
                self.replicas[index].child.signal("-STOP");
                self.replicas[index].state = State::Paused { until: Instant::now() + pause };
            }
        }
    }

    /// Brings it back when it is time, and restarts it when it has ended by itself.
    fn look_after(&mut self, index: usize) {
        let state = self.replicas[index].state;
        match state {
            State::Paused { until } if Instant::now() >= until => self.wake(index),
            State::Down { until } if Instant::now() >= until => self.restart(index),
            State::Up if !self.replicas[index].child.is_alive() => {
                self.wait_for_the_end(index, false);
                self.restart(index);
            }
            _ => {}
        }
    }

    fn wake(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        replica.child.signal("-CONT");
        replica.state = State::Up;
        let pause = self.breaks.iter_mut().rfind(|pause| pause.process == replica.process);
        pause.expect("its pause").woken = Some(now(self.database));
    }

    fn restart(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let (child, process) = start(self.database, &replica.name);
        self.ended.push(std::mem::replace(&mut replica.child, child));
        (replica.process, replica.state) = (process, State::Up);
        replica.processes += 1;
    }

    /// It ends because it was told to, or because it could not give up a run after a pause.
    fn wait_for_the_end(&mut self, index: usize, told: bool) {
        let Replica { name, process, .. } = &self.replicas[index];
        let (name, process) = (name.clone(), *process);
        let code = self.replicas[index].child.wait(SOON).code();
        if code == Some(LEASE_LOST) && self.breaks.iter().any(|pause| pause.process == process) {
            self.count("ended itself after a pause");
            self.note_break(index);
        } else {
            assert!(told && code == Some(0), "{name}, process {process}, ended with {code:?}");
        }
    }

    fn note_break(&mut self, index: usize) {
        let Replica { name, process, .. } = &self.replicas[index];
        let (server, process, from) = (name.clone(), *process, now(self.database));
        self.breaks.push(Break { server, process, from, woken: None });
    }

    fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    fn end(&mut self) {
        for index in 0..REPLICAS {
            if matches!(self.replicas[index].state, State::Paused { .. }) {
                self.wake(index);
            }
        }
        let up: Vec<usize> =
            (0..REPLICAS).filter(|&index| self.replicas[index].state == State::Up).collect();
        up.iter().for_each(|&index| self.replicas[index].child.signal("-TERM"));
        up.iter().for_each(|&index| self.wait_for_the_end(index, true));
    }

    /// Prints what it can first, to be seen also when the judgement fails.
    fn judge(&self, jobs: &[Job]) {
        let history = History::read(self.database, jobs);
        let processes = self.replicas.iter().map(|replica| (&*replica.name, replica.processes));
        history.print_shares(processes);
        println!("events: {:?}", self.events);
        history.print_lateness();
        history.assert_traced();
        history.assert_no_step_of_a_lost_run(&self.breaks);
        history.assert_abandoned_for_a_reason(&self.breaks);
        history.assert_every_slot_is_accounted_for();
        history.print_slots();
    }

    fn assert_only_the_killed_left_runs_open(&self) {
        let sql = "select id, job, server, started_at from cron_runs where finished_at is null";
        for row in self.database.connect().query(sql, &[]).expect("open runs") {
            let (id, job, server): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
            let started_at: DateTime<Utc> = row.get(3);
            let mut ends = self.breaks.iter().filter(|end| end.woken.is_none());
            let killed = ends.any(|end| end.server == server && end.from >= started_at);
            assert!(killed, "run {id} of {job} is open, and {server} was not killed during it");
        }
    }
}

/// Whatever the soak has left behind, one fresh replica brings every job on again.
fn run_alone(database: &Database) {
    let before = database.number("select coalesce(max(id), 0) from cron_runs");
    let (mut last, _) = start(database, LAST);
    let missing = format!(
        "select coalesce(string_agg(name, ', '), '') from cron_jobs job where not exists (select \
         from cron_runs where job_id = job.id and id > {before} and outcome = 'succeeded')"
    );
    let limit = Instant::now() + SOON;
    while !database.text(&missing).is_empty() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(100));
    }
    let missing = database.text(&missing);
    assert!(missing.is_empty(), "stuck: no success within {SOON:?} of {missing}");
    last.signal("-TERM");
    assert_eq!(last.wait(SOON).code(), Some(0), "the last replica");
    let open = database.number("select count(*) from cron_runs where finished_at is null");
    assert_eq!(open, 0, "runs are open although every replica has ended in peace");
}

/// By the database's clock.
fn now(database: &Database) -> DateTime<Utc> {
    database.connect().query_one("select clock_timestamp()", &[]).expect("the clock").get(0)
}
