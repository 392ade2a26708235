//! Jobs beside open transactions, a log that nobody reads, connections that fall silent, and odd
//! texts: each of these once broke more than it may.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use crate::support::{
    Database, Local, LocalOptions, Postgres, Process, Scheduler, ask, endless, only, options,
    until, witness_command,
};

const SOON: Duration = Duration::from_secs(20);
const OPEN: &str = "select count(*) from cron_runs where finished_at is null";
const ENDED: &str = "select count(*) from cron_runs where finished_at is not null";

fn database() -> Database {
    Postgres::shared().migrated().without_jobs()
}

#[test]
fn one_locked_job_does_not_keep_the_others_from_being_claimed() {
    let database = database();
    for job in ["locked", "one", "two"] {
        database.add_job_calling(job, "quick", "every 1h");
    }
    let mut client = database.connect();
    let mut holder = client.transaction().unwrap();
    holder.execute("select from cron_jobs where name = 'locked' for update", &[]).unwrap();
    let _replica =
        Scheduler::start(database.url(), &options("a"), only("quick", |_| Ok(String::new())));
    database.wait_for("the others have run", SOON, 2, ENDED);
    holder.rollback().unwrap();
    database.wait_for("all have run", SOON, 3, ENDED);
}

#[test]
fn a_locked_run_of_a_dead_replica_does_not_keep_other_jobs_from_being_claimed() {
    for paused in [false, true] {
        let database = database();
        database.add_job_calling("orphan", "quick", "every 1h");
        database.orphan_the_job();
        if paused {
            database.connect().batch_execute("update cron_jobs set enabled = false").unwrap();
        }
        database.add_job_calling("other", "quick", "every 1h");
        let mut client = database.connect();
        let mut holder = client.transaction().unwrap();
        holder.execute("select from cron_runs for update", &[]).unwrap();
        let functions = only("quick", |_| Ok(String::new()));
        let _replica = Scheduler::start(database.url(), &options("a"), functions);
        database.wait_for("the other has run", SOON, 1, ENDED);
        holder.rollback().unwrap();
        let closed = "select count(*) from cron_runs where outcome = 'abandoned'";
        database.wait_for("the orphan is closed", SOON, 1, closed);
    }
}

#[test]
fn one_locked_job_does_not_cost_the_leases_of_the_others() {
    let database = database();
    for job in ["locked", "one", "two"] {
        database.add_job_calling(job, "endless", "every 1h");
    }
    let mut options = options("a");
    options.lease = Duration::from_secs(8);
    let _replica = Scheduler::start(database.url(), &options, only("endless", endless));
    database.wait_for("all run", SOON, 3, OPEN);
    let mut client = database.connect();
    let mut holder = client.transaction().unwrap();
    holder.execute("select from cron_jobs where name = 'locked' for update", &[]).unwrap();
    let last = "select count(*) from cron_jobs where locked_until < now() and name = 'locked'";
    database.wait_for("the locked one's lease has run out", SOON, 1, last);
    holder.rollback().unwrap();
    database.wait_for("it is given up", SOON, 1, ENDED);
    let others = "select count(*) from cron_runs where job <> 'locked' and finished_at is null";
    assert_eq!(database.number(others), 2);
}

#[test]
fn a_text_with_a_nul_does_not_keep_a_run_open_for_ever() {
    let database = database();
    database.add_job("panics", "every 1h");
    let _replica =
        Scheduler::start(database.url(), &options("a"), only("panics", |_| panic!("bad \0 text")));
    database.wait_for("a finished run", SOON, 1, ENDED);
    assert_eq!(database.text("select detail from cron_runs"), "panic: bad \u{fffd} text");
}

#[test]
fn an_instant_without_end_is_refused_by_the_schema() {
    let database = database();
    database.add_job("fine", "every 1h");
    for column in ["slot", "locked_until"] {
        let sql = format!("update cron_jobs set {column} = 'infinity'");
        assert!(database.connect().batch_execute(&sql).is_err(), "{column}");
    }
}

#[test]
fn a_statement_of_a_run_ends_by_itself_before_the_lease_can() {
    let database = database();
    database.add_job("sleeps", "every 1h");
    let functions = only("sleeps", |context| {
        context.step(|session| session.query("select pg_sleep(60)", &[]))?;
        Ok(String::new())
    });
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    database.wait_for("a finished run", SOON, 1, ENDED);
    let within = "select count(*) from cron_runs where finished_at - started_at < interval '3 s'";
    assert_eq!(database.number(within), 1);
    let detail = database.text("select outcome || ': ' || detail from cron_runs");
    assert_eq!(detail, "failed: canceling statement due to statement timeout (57014)");
}

#[test]
fn a_step_waits_for_a_row_that_somebody_else_holds() {
    let database = database();
    database.add_job("waits", "every 1h");
    let functions = only("waits", |context| {
        context.step(|session| session.query("update users set balance = balance + 1", &[]))?;
        Ok("done".to_owned())
    });
    let mut client = database.connect();
    let mut holder = client.transaction().unwrap();
    holder.execute("select from users for update", &[]).unwrap();
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    database.wait_for("it runs", SOON, 1, OPEN);
    // Longer than a step may wait for a lock, shorter than a lease.
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(database.number(ENDED), 0);
    holder.rollback().unwrap();
    database.wait_for("a finished run", SOON, 1, ENDED);
    assert_eq!(database.outcomes("waits"), ["succeeded on a"]);
    assert_eq!(database.number("select balance from users"), 10_001);
}

#[test]
fn a_drain_among_many_due_jobs_claims_no_more_of_them() {
    let database = database();
    database.add_due_jobs(300, "endless");
    let mut options = options("a");
    options.handicap = Duration::ZERO;
    let replica = Scheduler::start(database.url(), &options, only("endless", endless));
    let mut client = database.connect();
    until("some run", SOON, || client.query_one(OPEN, &[]).unwrap().get::<_, i64>(0) >= 5);
    replica.0.begin_drain();
    let begun = database.number("select count(*) from cron_runs");
    assert!(replica.0.wait_drained(Instant::now() + SOON));
    let all = database.number("select count(*) from cron_runs");
    assert!(begun < 300, "all were claimed before the drain");
    assert!(all <= begun + 1, "{begun} runs when the drain began, {all} at its end");
}

/// What renews leases would also renew the next one.
#[test]
fn while_leases_are_not_renewed_no_other_job_is_claimed() {
    let database = database();
    database.add_job("endless", "every 1h");
    let mut options = options("a");
    options.lease = Duration::from_secs(30);
    let replica = Scheduler::start(database.url(), &options, only("endless", endless));
    database.wait_for("it runs", SOON, 1, OPEN);
    let cut = "create function refuse() returns trigger language plpgsql as $$ begin \
               raise exception 'cut off'; end $$; create trigger cut before update on cron_jobs \
               for each row when (old.holder = new.holder) execute function refuse()";
    database.connect().batch_execute(cut).unwrap();
    let failures = || {
        let text = replica.text();
        let line = text.lines().find(|line| line.starts_with("cron_heartbeat_failures_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    until("renewals fail", SOON, || failures() >= 1.0);
    database.add_job_calling("second", "endless", "every 1h");
    until("more of them fail", SOON, || failures() >= 5.0);
    assert_eq!(database.number("select count(*) from cron_runs"), 1);
}

#[test]
fn a_crowd_of_due_jobs_does_not_cost_the_leases_of_those_that_were_claimed() {
    let database = database();
    database.add_due_jobs(300, "endless");
    let mut options = options("a");
    options.handicap = Duration::ZERO;
    let replica = Scheduler::start(database.url(), &options, only("endless", endless));
    let alive = "select count(*) from cron_jobs where holder is not null and locked_until > now()";
    database.wait_for("all are held", SOON * 3, 300, alive);
    assert_eq!(database.number("select max(token) from cron_jobs"), 1);
    assert!(replica.text().contains("cron_leases_lost_total 0"));
}

#[test]
fn an_orphan_whose_function_nobody_knows_any_more_is_closed() {
    let database = database();
    database.add_job("gone", "every 1h");
    database.orphan_the_job();
    let _replica = Scheduler::start(database.url(), &options("a"), only("other", endless));
    database.wait_for("the orphan is closed", SOON, 1, ENDED);
    assert_eq!(database.outcomes("gone"), ["abandoned on dead"]);
}

/// Stops a process of the database; it goes on when this is dropped.
struct Silenced(String);

impl Silenced {
    /// The one that writes leases; it holds no lock while it is silent.
    fn between_two_statements(database: &Database) -> Silenced {
        // Its other connection has read the last successes, and is looked at now and then.
        let pid = "select coalesce(max(pid), 0)::bigint from pg_stat_activity \
                   where application_name = 'balanced deaf' and query not like 'set %' \
                   and query not like 'select name, (%' and query not like '%balanced.session%'";
        let mut found = 0;
        until("the connection for leases is seen", SOON, || {
            found = database.number(pid);
            found > 0
        });
        let pid = found.to_string();
        let is_idle =
            format!("select count(*) from pg_stat_activity where pid = {pid} and state = 'idle'");
        loop {
            kill("-STOP", &pid);
            let silenced = Silenced(pid.clone());
            if database.number(&is_idle) == 1 {
                return silenced;
            }
        }
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        kill("-CONT", &self.0);
    }
}

fn kill(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().expect("kill").success());
}

#[test]
fn a_replica_that_the_database_does_not_answer_claims_nothing_more() {
    let server = Postgres::lend();
    let database = server.prepared().without_jobs();
    database.add_job("endless", "every 1h");
    let deaf = Scheduler::start(database.url(), &options("deaf"), only("endless", endless));
    let held = "select count(*) from cron_runs where server = 'deaf' and finished_at is null";
    database.wait_for("it runs the job", SOON, 1, held);
    let silenced = Silenced::between_two_statements(&database);
    let _other = Scheduler::start(database.url(), &options("b"), only("endless", endless));
    let taken = "select count(*) from cron_runs where server = 'b' and finished_at is null";
    database.wait_for("the other has taken over", SOON, 1, taken);
    database.add_job_calling("second", "endless", "every 1h");
    database.wait_for("the other has taken the second too", SOON, 2, taken);
    assert_eq!(database.number("select count(*) from cron_runs where server = 'deaf'"), 1);
    drop(silenced);
    // The other holds two: the next is for the one that is heard again.
    database.add_job_calling("third", "endless", "every 1h");
    database.wait_for("it claims again", SOON, 1, held);
    drop(deaf);
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_a_lost_process_alive() {
    let database = database().with_witness_table();
    database.add_job_calling("stubborn", "stubborn", "every 1h");
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    // Room for the line that says the run has started, and for no other.
    let bytes = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).unwrap();
    let bytes = usize::try_from(bytes).unwrap();
    writer.write_all(&vec![b'\n'; bytes - 160]).unwrap();
    let mut command = witness_command(&database, "a", options("a").lease);
    let mut child = command.stdin(Stdio::null()).stderr(writer).spawn().expect("a process");
    let steps = "select least(count(*), 1) from witness";
    database.wait_for("the function is called", SOON, 1, steps);
    let cut = "create function refuse() returns trigger language plpgsql as $$ begin \
               raise exception 'cut off'; end $$; \
               create trigger cut before update on cron_jobs execute function refuse()";
    database.connect().batch_execute(cut).unwrap();
    let mut status = None;
    until("the process has ended", SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(balanced::cron::LEASE_LOST));
    drop(reader);
}

#[test]
fn a_change_whose_answer_cannot_be_read_is_not_called_not_applied() {
    let database = database();
    let request_timeout = Duration::from_secs(2);
    let local =
        Local::start_with(database.url(), LocalOptions { request_timeout, ..Default::default() });
    let mut client = database.connect();
    let mut holder = client.transaction().unwrap();
    holder.batch_execute("lock table cron_runs in access exclusive mode").unwrap();
    let body = r#"{"function":"f","schedule":"every 1h","enabled":true}"#;
    let answer = ask(local.addr, "PUT /api/cron/jobs/made", &[], body);
    assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"));
    assert_eq!(answer.json()["outcome"], "unknown");
    assert_eq!(database.number("select count(*) from cron_jobs"), 1);
}

/// Nobody waits for whoever has the row; once it is free, what is read under its lock counts.
#[test]
fn run_now_asked_while_a_run_is_being_ended_is_told_so_and_not_made_to_wait() {
    let database = database();
    database.add_job("ending", "every 1h");
    database.orphan_the_job();
    let alive = "update cron_jobs set locked_until = now() + interval '1 h'";
    database.connect().batch_execute(alive).unwrap();
    let local = Local::start(database.url());
    let run_now = || ask(local.addr, "POST /api/cron/jobs/ending/run", &[], "");
    let mut client = database.connect();
    let mut holder = client.transaction().unwrap();
    let ended = "update cron_runs set outcome = 'succeeded', finished_at = now(); \
                 update cron_jobs set holder = null, run_id = null, \
                 slot = now() + interval '1 h', locked_until = now() + interval '1 h'";
    holder.batch_execute(ended).unwrap();
    assert_eq!(run_now().code(), "job_running");
    holder.commit().unwrap();
    assert_eq!(run_now().json()["state"], "due");
}

#[test]
fn two_changes_of_one_job_at_the_same_time_both_count() {
    let database = database();
    database.add_job("shared", "every 1h");
    let local = Local::start(database.url());
    let addr = local.addr;
    let mut client = database.connect();
    let mut holder = client.transaction().unwrap();
    holder.execute("select from cron_jobs for update", &[]).unwrap();
    std::thread::scope(|scope| {
        for body in [r#"{"function":"other"}"#, r#"{"schedule":"every 2h"}"#] {
            scope.spawn(move || {
                let answer = ask(addr, "PATCH /api/cron/jobs/shared", &[], body);
                assert_eq!(answer.status, 200);
            });
        }
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                       and datname = current_database()";
        database.wait_for("both wait for the row", SOON, 2, waiting);
        holder.rollback().unwrap();
    });
    let both = "select function || ' ' || schedule from cron_jobs";
    assert_eq!(database.text(both), "other every 2h");
}

#[test]
fn a_replica_out_of_descriptors_keeps_its_jobs() {
    let database = Postgres::shared().migrated();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 120 && exec \"$0\"", env!("CARGO_BIN_EXE_balanced")])
        .env_clear()
        .envs([("DATABASE_URL", database.url()), ("LISTEN_ADDR", "127.0.0.1:0")])
        .envs([("CRON_LEASE_SECONDS", "3"), ("CRON_HANDICAP_MS", "0"), ("JOB_MIN_SECONDS", "600")]);
    let mut replica = Process::spawn(&mut command);
    database.wait_for("all jobs run", SOON, 10, OPEN);
    let come = |_| TcpStream::connect_timeout(&replica.addr, Duration::from_millis(20)).ok();
    let flood: Vec<TcpStream> = (0..150).filter_map(come).collect();
    until("no more are let in", SOON, || {
        let log = replica.log();
        log.contains("event=connections_held_back") || log.contains("event=accept_loop_ended")
    });
    // Twice as long as a lease.
    std::thread::sleep(Duration::from_secs(6));
    assert!(replica.is_alive());
    drop(flood);
    let undisturbed = "select count(*) from cron_runs where finished_at is null and token = 1";
    assert_eq!(database.number(undisturbed), 10, "{}", replica.log());
    // The server library's own accept loop may end by a panic; nothing of ours may.
    let log = replica.log();
    assert!(!log.contains("event=panic "), "{log}");
}
