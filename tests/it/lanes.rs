//! A crowd at one user, or a row that somebody has locked, costs the users beside it nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use balanced::db::Health;
use balanced::http::{Call, Reply};
use parking_lot::Mutex;

use crate::support::{
    Answers, Client, Database, Local, LocalOptions, Postgres, SetOnDrop, change, get, post,
    seconds, until,
};

const SOON: Duration = Duration::from_secs(20);
const POST: &str = "POST /api/balance";

/// The slowest answer that a user of their own has while `done` is not so, and how many there were.
fn slowest_beside(addr: SocketAddr, done: &AtomicBool) -> (Duration, usize) {
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    let mut client = Client::connect(addr);
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        assert_eq!(client.ask(POST, &[], &change(2, 1)).status, 200);
        slowest = slowest.max(begun.elapsed());
        count += 1;
    }
    (slowest, count)
}

/// How slow the slowest may be: other tests run beside this one, unless it is run by hand for long.
fn bound(length: Duration) -> Duration {
    let by_hand = length >= Duration::from_secs(20);
    Duration::from_millis(if by_hand { 100 } else { 1_000 })
}

fn with_two_users() -> (Database, Local) {
    let database = Postgres::shared().migrated();
    database.connect().batch_execute("insert into users (balance) values (0)").unwrap();
    let replica = Local::start(database.url());
    (database, replica)
}

/// `LANES_SECONDS=30` for as long as it was once seen to keep everybody waiting.
#[test]
fn a_row_that_somebody_has_locked_holds_up_its_own_user_alone() {
    const CROWD: usize = 200;
    let length = seconds("LANES_SECONDS", 3);
    let (database, replica) = with_two_users();
    let addr = replica.addr;
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    let done = AtomicBool::new(false);
    let mut applied = 0;
    let (slowest, count) = thread::scope(|scope| {
        let _ends = SetOnDrop(&done);
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| scope.spawn(|| post(addr, "/api/balance", &change(1, -1))))
            .collect();
        until("the crowd waits", SOON, || waiting(addr) >= CROWD - 8);
        let beside = scope.spawn(|| slowest_beside(addr, &done));
        thread::sleep(length);
        done.store(true, Ordering::Relaxed);
        lock.commit().unwrap();
        for client in crowd {
            let answer = client.join().unwrap();
            // The database gives up the wait for a row after 5 s, and a request its own after 30.
            assert!(answer.status == 200 || answer.json()["outcome"] == "not_applied");
            applied += i64::from(answer.status == 200);
        }
        beside.join().unwrap()
    });
    println!("beside {CROWD} at a locked row: {count} changes, the slowest {slowest:?}");
    assert!(slowest < bound(length), "{slowest:?}");
    assert_eq!(get(addr, "/api/users/1").balance(), 10_000 - applied);
    assert!(applied > 0);
}

#[test]
fn a_crowd_at_one_user_holds_up_nobody_else() {
    const CROWD: usize = 64;
    let length = seconds("LANES_SECONDS", 2);
    let (_database, replica) = with_two_users();
    let addr = replica.addr;
    let done = AtomicBool::new(false);
    let (slowest, count) = thread::scope(|scope| {
        let _ends = SetOnDrop(&done);
        for _ in 0..CROWD {
            scope.spawn(|| {
                let mut client = Client::connect(addr);
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(client.ask(POST, &[], &change(1, 1)).status, 200);
                }
            });
        }
        until("the crowd is at work", SOON, || get(addr, "/api/users/1").balance() > 10_100);
        let beside = scope.spawn(|| slowest_beside(addr, &done));
        thread::sleep(length);
        done.store(true, Ordering::Relaxed);
        beside.join().unwrap()
    });
    println!("beside {CROWD} at one user: {count} changes, the slowest {slowest:?}");
    assert!(slowest < bound(length), "{slowest:?}");
}

/// The next change of the user is held up after it has got the row, and nobody lets it go before
/// the answer to the one before has come.
#[test]
fn a_committed_change_is_answered_although_the_next_of_its_lane_is_blocked() {
    let (database, replica) = with_two_users();
    let addr = replica.addr;
    database
        .connect()
        .batch_execute(
            "create function wait_for_a_word() returns trigger language plpgsql as $$ begin \
                 perform pg_advisory_xact_lock(-new.amount); return new; end $$; \
             create trigger wait_for_a_word before insert on balance_changes for each row \
                 when (new.amount in (-11, -12)) execute function wait_for_a_word()",
        )
        .unwrap();
    let mut holder = database.connect();
    holder.batch_execute("select pg_advisory_lock(11), pg_advisory_lock(12)").unwrap();
    let waiting_for_a_word = "select count(*) from pg_locks where locktype = 'advisory' \
                              and not granted and database = \
                              (select oid from pg_database where datname = current_database())";
    thread::scope(|scope| {
        let (told, tells) = mpsc::channel();
        scope.spawn(move || told.send(post(addr, "/api/balance", &change(1, -11)).status));
        database.wait_for("the first has the row", SOON, 1, waiting_for_a_word);
        let others: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| post(addr, "/api/balance", &change(1, -12)).status))
            .collect();
        until("the others wait", SOON, || waiting(addr) >= 18);
        let freed = Instant::now();
        holder.batch_execute("select pg_advisory_unlock(11)").unwrap();
        let status = tells.recv_timeout(SOON).expect("an answer");
        let answered_after = freed.elapsed();
        println!("answered {answered_after:?} after the row was let go");
        assert_eq!(status, 200);
        database.wait_for("the next is held up", SOON, 1, waiting_for_a_word);
        holder.batch_execute("select pg_advisory_unlock(12)").unwrap();
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), 200));
    });
    database.assert_books_balance();
}

/// What waits costs no worker, so the deadline of each is kept; and a lane goes on after that.
#[test]
fn what_waits_in_a_lane_is_answered_at_its_deadline_and_the_lane_goes_on() {
    let database = Postgres::shared().migrated();
    let options =
        LocalOptions { request_timeout: Duration::from_millis(700), ..LocalOptions::default() };
    let replica = Local::start_with(database.url(), options);
    let addr = replica.addr;
    let mut holder = database.connect();
    let mut lock = holder.transaction().unwrap();
    lock.query_one("select balance from users where id = 1 for update", &[]).unwrap();
    let answers: Vec<_> = thread::scope(|scope| {
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                scope.spawn(|| {
                    let begun = Instant::now();
                    (post(addr, "/api/balance", &change(1, -1)), begun.elapsed())
                })
            })
            .collect();
        crowd.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let said = |outcome: &str| {
        answers.iter().filter(|(answer, _)| answer.json()["outcome"] == outcome).count()
    };
    assert_eq!(said("not_applied") + said("unknown"), 100);
    assert!(said("not_applied") >= 90, "only a few had been sent: {}", said("unknown"));
    for (answer, time) in &answers {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert!(*time < Duration::from_secs(6), "{time:?}");
    }
    lock.rollback().unwrap();
    until("the lane goes on", SOON, || post(addr, "/api/balance", &change(1, -1)).status == 200);
}

/// Without a database: each change waits for the test's word.
#[test]
fn beyond_the_bound_a_request_is_told_to_come_again() {
    let gate = Arc::new(Mutex::new(()));
    let stuck_at = Arc::clone(&gate);
    let application = Answers(move |_: &Call| {
        drop(stuck_at.lock());
        Reply::json(200, &"fine")
    });
    let health = Arc::new(Health::default());
    let server = Local::serve_few(4, 10, health, Arc::new(application));
    let addr = server.addr;
    let closed = gate.lock();
    let start = Barrier::new(40);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let crowd: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    post(addr, "/api/balance", &change(1, -1))
                })
            })
            .collect();
        until("what is beyond the bound was answered", SOON, || {
            crowd.iter().filter(|client| client.is_finished()).count() == 28
        });
        drop(closed);
        let answers = crowd.into_iter().map(|client| client.join().unwrap());
        answers
            .map(|answer| {
                if answer.status == 503 {
                    assert_eq!(answer.json()["outcome"], "not_applied");
                    assert_eq!(answer.header("retry-after"), Some("1"));
                }
                answer.status
            })
            .collect()
    });
    let fine = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(fine, 12, "two in hand and ten parked");
}

/// Each of a thousand on one connection is told so, by a thread with a small stack.
#[test]
fn beyond_the_bound_also_what_was_sent_ahead_is_told_to_come_again() {
    const AHEAD: usize = 1_000;
    let gate = Arc::new(Mutex::new(()));
    let begun = Arc::new(AtomicBool::new(false));
    let (stuck_at, begins) = (Arc::clone(&gate), Arc::clone(&begun));
    let application = Answers(move |_: &Call| {
        begins.store(true, Ordering::SeqCst);
        drop(stuck_at.lock());
        Reply::json(200, &"fine")
    });
    let server = Local::serve_few(2, 0, Arc::new(Health::default()), Arc::new(application));
    let addr = server.addr;
    let closed = gate.lock();
    thread::scope(|scope| {
        let first = scope.spawn(|| post(addr, "/api/balance", &change(1, -1)).status);
        until("one is in hand", SOON, || begun.load(Ordering::SeqCst));
        let mut client = Client::connect(addr);
        let body = change(1, -1);
        let length = body.len();
        let one = format!("{POST} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        client.send(one.repeat(AHEAD));
        for number in 0..AHEAD {
            let status = client.receive().map(|answer| answer.status);
            assert_eq!(status, Some(503), "number {number}");
        }
        drop(closed);
        assert_eq!(first.join().unwrap(), 200);
    });
}

fn waiting(addr: SocketAddr) -> usize {
    number(addr, "http_requests_waiting ")
}

fn number(addr: SocketAddr, name: &str) -> usize {
    let text = String::from_utf8(get(addr, "/metrics").body).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}
