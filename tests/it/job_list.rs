//! The list of jobs in parts: by name, by state, page by page; also where they are very many.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Database, Local, Postgres, get};

const MANY: i64 = 20_000;
/// For all jobs at once, and for 1,000: of a build without optimization, beside other tests.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_FOR_A_PAGE: Duration = Duration::from_secs(4);

/// Each job has run once; 3 are running, 2 stalled, 4 due and 5 paused, the last ones by name.
fn with_many_jobs() -> Database {
    let database = Postgres::shared().migrated().without_jobs();
    let jobs = format!(
        "insert into cron_jobs (name, function, schedule, slot, locked_until) \
         select 'job-' || to_char(n, 'fm00000'), 'estimate-pi', 'every 1h', \
         now() + interval '1 h', now() + interval '1 h' from generate_series(1, {MANY}) n"
    );
    let ended = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                 started_at, finished_at, outcome, detail) \
                 select id, name, function, 0, 'a', now(), now(), now(), 'succeeded', 'pi is 3' \
                 from cron_jobs";
    let open = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                started_at) select id, name, function, 1, 'b', now(), now() from cron_jobs \
                order by name desc limit 5";
    let held = "update cron_jobs set holder = 'b#1', run_id = run.id, token = 1, \
                locked_until = now() + interval '1 h' * (case when name > 'job-19997' then 1 \
                else -1 end) from cron_runs run where job_id = cron_jobs.id and run.token = 1";
    let due = "update cron_jobs set locked_until = now() \
               where name between 'job-19992' and 'job-19995'";
    let paused = "update cron_jobs set enabled = false \
                  where name between 'job-19987' and 'job-19991'";
    let mut client = database.connect();
    for sql in [&jobs, ended, open, held, due, paused, "analyze cron_jobs, cron_runs"] {
        client.batch_execute(sql).expect(sql);
    }
    database
}

fn list(addr: SocketAddr, query: &str) -> Value {
    let answer = get(addr, &format!("/api/cron/jobs?{query}"));
    assert_eq!(answer.status, 200, "{query}");
    answer.json()
}

fn names(list: &Value) -> Vec<String> {
    let jobs = list["jobs"].as_array().expect("jobs");
    jobs.iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect()
}

fn assert_counts_all(list: &Value) {
    let counts = &list["counts"];
    let of = |state: &str| counts[state].as_i64().unwrap();
    let rare = ["running", "stalled", "due", "paused"].map(of);
    assert_eq!((rare, of("waiting")), ([3, 2, 4, 5], MANY - 14), "{counts}");
}

#[test]
fn twenty_thousand_jobs_are_listed_at_once_and_page_by_page() {
    let database = with_many_jobs();
    let replica = Local::start(database.url());
    let begun = Instant::now();
    let all = list(replica.addr, "");
    let took = begun.elapsed();
    println!("all at once: {took:.2?}");
    assert!(took < PATIENCE, "{took:?}");
    assert_counts_all(&all);
    assert_eq!(all["next"], Value::Null);
    let all = names(&all);
    assert_eq!(all.len() as i64, MANY);
    assert_eq!(all.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), all);

    let (mut paged, mut after) = (Vec::new(), String::new());
    for number in 1.. {
        let begun = Instant::now();
        let page = list(replica.addr, &format!("limit=1000&after={after}"));
        let took = begun.elapsed();
        println!("page {number}: {took:.2?}");
        assert!(took < PATIENCE_FOR_A_PAGE, "page {number}: {took:?}");
        assert_counts_all(&page);
        paged.extend(names(&page));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    assert_eq!(paged, all);
}

#[test]
fn a_part_of_the_jobs_is_asked_for_by_state_and_by_a_part_of_the_name() {
    let database = with_many_jobs();
    let replica = Local::start(database.url());
    let addr = replica.addr;
    for (query, expected) in [
        ("state=running", vec!["job-19998", "job-19999", "job-20000"]),
        ("state=running&limit=3", vec!["job-19998", "job-19999", "job-20000"]),
        ("state=stalled%2Crunning&limit=2", vec!["job-19996", "job-19997"]),
        (
            "state=stalled,running&limit=3&after=job-19996",
            vec!["job-19997", "job-19998", "job-19999"],
        ),
        ("state=due&name=9995", vec!["job-19995"]),
        ("name=0777&limit=3", vec!["job-00777", "job-07770", "job-07771"]),
        ("name=%25", vec![]),
        ("name=_", vec![]),
        ("after=job-19999", vec!["job-20000"]),
        // A job that was deleted meanwhile, or never was.
        ("after=job-1999x", vec!["job-20000"]),
        ("after=zzz", vec![]),
        ("state=&name=&limit=1&after=", vec!["job-00001"]),
    ] {
        let list = list(addr, query);
        assert_eq!(names(&list), expected, "{query}");
        assert_counts_all(&list);
        let full = query.contains(&format!("limit={}", expected.len()));
        let goes_on = |last: &&&str| full && **last != "job-20000";
        let next = expected.last().filter(goes_on).map_or(Value::Null, |name| (*name).into());
        assert_eq!(list["next"], next, "{query}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("state=idle", "state"),
        ("state=due,", "state"),
        ("after=%00", "after"),
        ("offset=1", "offset"),
    ] {
        let answer = get(addr, &format!("/api/cron/status?{query}"));
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{query}");
    }
}
