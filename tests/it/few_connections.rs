//! A user who may have few connections at a time: jobs come first, and what is lacking is said.

use std::time::Duration;

use crate::support::{
    Child, Database, Postgres, Process, change, get, post, until, witness_command,
};

const SOON: Duration = Duration::from_secs(30);

/// The URL for a user that may have so many connections.
fn login(database: &Database, connections: u32) -> String {
    let name = format!("few_{connections}");
    let role = format!(
        "create role {name} login connection limit {connections}; \
         grant select, insert, update, delete on all tables in schema public to {name}"
    );
    database.connect().batch_execute(&role).expect("a role");
    database.url().replace("user=postgres", &format!("user={name}"))
}

fn replica(database: &Database, connections: u32) -> Process {
    let url = login(database, connections);
    let variables = [("JOB_MIN_SECONDS", "0"), ("CRON_HANDICAP_MS", "0")];
    Process::spawn(&mut Process::command(&url, &variables))
}

const ALL_WERE_RUN: &str = "select count(distinct job) from cron_runs where outcome = 'succeeded'";

#[test]
fn with_fewer_connections_than_it_would_take_a_replica_serves_and_runs_every_job() {
    for connections in [6, 8, 11] {
        let database = Postgres::shared().migrated();
        let replica = replica(&database, connections);
        until("it is ready", SOON, || get(replica.addr, "/health/ready").status == 200);
        assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
        database.wait_for("each job was run", SOON, 10, ALL_WERE_RUN);
        let jobs = || get(replica.addr, "/health/ready").json()["jobs"].to_string();
        until("it is ready for jobs", SOON, || jobs() == "\"ready\"");
        let others = "select count(*) from cron_runs where outcome <> 'succeeded'";
        assert_eq!(database.number(others), 0, "{connections}: {}", replica.log());
    }
}

/// Who looks once, as soon as a replica is ready, does not see it on its way.
#[test]
fn a_replica_that_is_ready_for_the_first_time_is_ready_for_jobs() {
    let database = Postgres::shared().migrated();
    let replica = Process::spawn(&mut Process::command(database.url(), &[]));
    let mut answer = get(replica.addr, "/health/ready");
    until("it is ready", SOON, || {
        answer = get(replica.addr, "/health/ready");
        answer.status == 200
    });
    assert_eq!(answer.json()["jobs"], "ready", "{:?}", answer.json());
}

#[test]
fn without_a_connection_for_steps_no_job_is_claimed_and_the_servers_word_is_told() {
    let database = Postgres::shared().migrated().without_jobs().with_witness_table();
    let url = login(&database, 1);
    database.add_job_calling("fenced", "fenced", "every 1h");
    let mut command = witness_command(&database, "a", Duration::from_secs(3));
    let replica = Child::spawn(command.env("WITNESS_DATABASE_URL", url));
    until("it says why", SOON, || {
        let log = replica.log();
        log.lines().any(|line| {
            line.contains("event=claims_stop") && line.contains("too many connections for role")
        })
    });
    assert_eq!(database.number("select count(*) from cron_runs"), 0);
    let more = "alter role few_1 connection limit 20";
    database.connect().batch_execute(more).unwrap();
    let steps = "select least(count(*), 1) from fenced";
    database.wait_for("it makes steps", SOON, 1, steps);
}

/// Three are what its health and its jobs take.
#[test]
fn a_replica_without_a_connection_for_requests_is_not_ready() {
    let database = Postgres::shared().migrated();
    let replica = replica(&database, 3);
    let ready = || get(replica.addr, "/health/ready");
    until("it says why", SOON, || {
        let answer = ready();
        answer.status == 503
            && answer.json()["detail"].to_string().contains("too many connections for role")
    });
    database.wait_for("each job was run", SOON, 10, ALL_WERE_RUN);
    database.connect().batch_execute("alter role few_3 connection limit 5").unwrap();
    until("it is ready", SOON, || ready().status == 200);
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
}

#[test]
fn a_replica_that_can_claim_no_job_says_so_beside_that_it_is_ready() {
    let database = Postgres::shared().migrated();
    let replica = replica(&database, 20);
    let ready = || get(replica.addr, "/health/ready");
    until("it is ready for both", SOON, || {
        ready().status == 200 && ready().json()["jobs"] == "ready"
    });
    let mut other = database.connect();
    let mut locked = other.transaction().unwrap();
    locked.batch_execute("lock table cron_jobs").unwrap();
    until("it says why", SOON, || {
        let (status, answer) = (ready().status, ready().json());
        let reason = answer["detail"].to_string();
        let told = reason.contains("lock") || reason.contains("leases cannot be renewed");
        status == 200 && answer["jobs"] == "not_ready" && told
    });
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).status, 200);
    locked.rollback().unwrap();
    until("it is ready for jobs", SOON, || ready().json()["jobs"] == "ready");
}
