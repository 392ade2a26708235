//! A database that restarts, is locked, or hangs: every request is answered in time, and says
//! what is known of it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use balanced::db::{Db, Deadline, Health, Limits, Manager};
use postgres::NoTls;
use r2d2::ManageConnection;

use crate::support::{
    Answer, Client, Local, LocalOptions, Postgres, Process, change, get, post, target, until,
};

const POOL: u32 = 4;

fn started(server: &Postgres) -> Process {
    let pool = POOL.to_string();
    Process::start(server.url(), &[("DB_POOL_SIZE", &pool), ("HTTP_WORKERS", "8")])
}

/// Each pooled connection is dead after the restart, and none costs a request.
#[test]
fn after_a_crash_of_the_database_the_next_request_on_every_connection_succeeds() {
    let server = Postgres::lend();
    let replica = started(&server);
    for round in 0..3 {
        // As many at once as there are connections, so that all of them have been used.
        let users: Vec<i64> = (0..i64::from(POOL) * 2)
            .map(|_| {
                post(replica.addr, "/api/users", "{\"balance\":100}").json()["userId"]
                    .as_i64()
                    .unwrap()
            })
            .collect();
        server.crash_and_restart();
        let answers: Vec<Answer> = thread::scope(|scope| {
            let change_one = |user| post(replica.addr, "/api/balance", &change(user, -2));
            let clients: Vec<_> =
                users.iter().map(|user| scope.spawn(move || change_one(*user))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        for answer in answers {
            assert_eq!(answer.status, 200, "round {round}: {}\n{}", answer.json(), replica.log());
            assert_eq!(answer.balance(), 98);
        }
    }
}

/// The driver reads nothing while it is idle: without a look it would take the connection for
/// open, and the request that gets it would fail.
#[test]
fn a_connection_that_died_while_idle_is_noticed_before_it_is_used() {
    let database = Postgres::shared().migrated();
    let manager =
        Manager::new(target(database.url(), "idle"), Limits::for_requests(Duration::from_secs(30)));
    for (number, dies) in [false, true, false].into_iter().enumerate() {
        let mut session = manager.connect().unwrap();
        let pid: i32 = session.query_opt("select pg_backend_pid()", &[]).unwrap().unwrap().get(0);
        if dies {
            database.connect().execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
        }
        thread::sleep(Duration::from_millis(300));
        assert_eq!(manager.is_valid(&mut session).is_err(), dies, "number {number}");
    }
}

/// What is broken keeps its place in the pool for as long as it is held: who waited for another
/// one of a pool of one waited for itself.
#[test]
fn a_pool_of_one_replaces_a_connection_that_takes_no_changes_any_more() {
    let database = Postgres::shared().migrated();
    let manager =
        Manager::new(target(database.url(), "one"), Limits::for_requests(Duration::from_secs(30)));
    let db = Db::open(manager, 1, Duration::from_secs(60), Arc::new(Health::default()));
    let run = |statement: &'static str| {
        let deadline = Deadline::within(Duration::from_secs(20));
        db.run(&deadline, |session| session.query(statement, &[]))
    };
    run("set session characteristics as transaction read only").expect("a setting");
    run("update users set balance = balance").expect("another connection");
}

/// Every process of the server stopped: the driver hangs for as long as that lasts.
#[test]
fn a_database_that_hangs_is_answered_for_within_four_seconds() {
    let server = Postgres::lend();
    // With two connections one change of a user is in the database at a time.
    let replica = Process::start(server.url(), &[("DB_POOL_SIZE", "2"), ("HTTP_WORKERS", "8")]);
    let addr = replica.addr;
    let mut holder = postgres::Client::connect(server.url(), NoTls).unwrap();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();

    // The first waits for the row in the database, the second for the first.
    let change_one = move || (Instant::now(), post(addr, "/api/balance", &change(1, -2)));
    let in_flight = thread::spawn(change_one);
    until("the statement waits for the row", Duration::from_secs(10), || {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        server.admin().query_one(waiting, &[]).unwrap().get::<_, i64>(0) == 1
    });
    let behind = thread::spawn(change_one);
    let paused = server.pause();
    let silent_since = Instant::now();
    let answer = in_flight.join().unwrap().1;
    assert!(silent_since.elapsed() < Duration::from_millis(4_500), "{:?}", silent_since.elapsed());
    assert_eq!((answer.status, answer.code()), (503, "database_unavailable".to_owned()));
    assert_eq!(answer.json()["outcome"], "unknown");
    assert_eq!(behind.join().unwrap().1.json()["outcome"], "not_applied");
    until("not ready", Duration::from_secs(1), || get(addr, "/health/ready").status == 503);
    assert_eq!(get(addr, "/health/live").status, 200);

    // Who comes now is told at once, also when there are more than workers.
    let late: Vec<_> = (0..20)
        .map(|_| {
            thread::spawn(move || {
                let start = Instant::now();
                let answer = post(addr, "/api/balance", &change(1, -2));
                (answer.json()["outcome"].clone(), start.elapsed())
            })
        })
        .collect();
    for client in late {
        let (outcome, time) = client.join().unwrap();
        assert_eq!(outcome, "not_applied");
        assert!(time < Duration::from_secs(1), "{time:?}");
    }
    drop(paused);
    let back = Instant::now();
    lock.rollback().unwrap();
    until("ready again", Duration::from_secs(10), || get(addr, "/health").status == 200);
    until("changes again", Duration::from_secs(10), || {
        post(addr, "/api/balance", &change(1, -2)).status == 200
    });
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    let changes = get(addr, "/api/users/1/changes").json();
    let sum: i64 = changes["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["amount"].as_i64().unwrap())
        .sum();
    assert_eq!(sum, get(addr, "/api/users/1").balance());
}

/// The backend that works on a change is ended: nobody can say whether it was applied.
#[test]
fn a_connection_broken_in_flight_ends_as_unknown() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let addr = replica.addr;
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    let in_flight = thread::spawn(move || post(addr, "/api/balance", &change(1, -2)));
    let mut admin = database.connect();
    until("the statement is ended", Duration::from_secs(4), || {
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                   where wait_event_type = 'Lock' and datname = current_database()";
        admin.query_one(end, &[]).unwrap().get::<_, i64>(0) == 1
    });
    let answer = in_flight.join().unwrap();
    assert_eq!((answer.status, answer.code()), (503, "database_unavailable".to_owned()));
    assert_eq!(answer.json()["outcome"], "unknown");
    lock.rollback().unwrap();
    assert_eq!(post(addr, "/api/balance", &change(1, -2)).balance(), 9_998);
}

/// A row that somebody else keeps locked is refused by the database before the deadline comes.
#[test]
fn a_row_locked_elsewhere_ends_as_not_applied() {
    let database = Postgres::shared().migrated();
    let request_timeout = Duration::from_secs(2);
    let options = LocalOptions { request_timeout, ..LocalOptions::default() };
    let replica = Local::start_with(database.url(), options);
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    let answer = post(replica.addr, "/api/balance", &change(1, -2));
    assert_eq!((answer.status, answer.code()), (503, "database_unavailable".to_owned()));
    assert_eq!(answer.json()["outcome"], "not_applied");
    lock.rollback().unwrap();
    assert_eq!(post(replica.addr, "/api/balance", &change(1, -2)).balance(), 9_998);
}

/// Nobody listens there: requests need not wait out their time.
#[test]
fn an_unreachable_database_fails_fast() {
    let server = Postgres::lend();
    let replica = started(&server);
    drop(server);
    until("not ready", Duration::from_secs(3), || get(replica.addr, "/health").status == 503);
    thread::sleep(Duration::from_millis(1_200));
    let mut client = Client::connect(replica.addr);
    for _ in 0..20 {
        let start = Instant::now();
        let answer = client.ask("POST /api/balance", &[], &change(1, -2));
        assert_eq!(answer.json()["outcome"], "not_applied");
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
}
