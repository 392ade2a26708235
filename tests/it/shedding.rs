//! More changes than a slow database can make: it is waited for, and no longer than allowed; what
//! cannot be made in time is told so, and is not made.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Answer, Client, Local, LocalOptions, Postgres, change, get, until};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// What a change takes; the next one of the user waits for it, as it waits for a slow flush. (The
/// tests' PostgreSQL does not flush, so `commit_delay` would do nothing.)
const SLOW: &str = "create function slow() returns trigger language plpgsql as $$ begin \
    perform pg_sleep(0.04); return new; end $$; \
    create trigger slow before insert on balance_changes for each row execute function slow()";
/// 25 a second are made: these wait for 8 s, were they patient.
const CLIENTS: usize = 200;
const LOAD: Duration = Duration::from_secs(5);
/// For the answers to be written and read by threads that other tests hold up.
const BUSY_MACHINE: Duration = Duration::from_secs(5);

/// Asks again when it has an answer, until the load is over.
fn ask_on(addr: std::net::SocketAddr, end: Instant) -> Vec<(Answer, Duration)> {
    let mut client = Client::connect(addr);
    let mut answers = Vec::new();
    while Instant::now() < end {
        let asked = Instant::now();
        let answer = client.ask("POST /api/balance", &[], &change(1, -1));
        answers.push((answer, asked.elapsed()));
    }
    answers
}

#[test]
fn a_crowd_before_a_slow_database_is_served_or_told_in_time_and_nothing_else() {
    let database = Postgres::shared().migrated();
    database.connect().batch_execute(SLOW).unwrap();
    let options = LocalOptions { request_timeout: REQUEST_TIMEOUT, ..LocalOptions::default() };
    let replica = Local::start_with(database.url(), options);
    let (addr, end) = (replica.addr, Instant::now() + LOAD);
    let crowd: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || ask_on(addr, end))).collect();
    while Instant::now() < end {
        // Slow is not away: a replica that leaves the service would only crowd the others.
        assert_eq!(get(addr, "/health/ready").status, 200);
        thread::sleep(Duration::from_millis(200));
    }
    let answers: Vec<_> = crowd.into_iter().flat_map(|client| client.join().unwrap()).collect();

    let (mut made, mut shed) = (0, 0);
    for (answer, took) in &answers {
        let (status, limit) = (answer.status, REQUEST_TIMEOUT + BUSY_MACHINE);
        assert!(*took < limit, "{status} after {took:?}: {}", answer.json());
        if answer.status == 200 {
            made += 1;
            continue;
        }
        assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"));
        // `unknown` would be true as well, and useless: this database answers.
        assert_eq!(answer.json()["outcome"], "not_applied");
        assert!(answer.header("retry-after").is_some(), "{}", answer.json());
        shed += 1;
    }
    let count = "select count(*) from balance_changes where user_id = 1 and amount = -1";
    assert_eq!(database.number(count), made, "of {} requests", answers.len());
    database.assert_books_balance();
    // It could make 125 while it was asked, and 50 more after.
    assert!(made > 25 && shed > 100, "{made} made, {shed} told to come back");
    until("nothing waits any more", Duration::from_secs(2), || {
        let asked = Instant::now();
        Client::connect(addr).ask("POST /api/balance", &[], &change(1, -1)).status == 200
            && asked.elapsed() < Duration::from_millis(500)
    });
}
