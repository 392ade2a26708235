//! The jobs of this build do what their names say, and take the time they are told to.

use std::time::Duration;

use balanced::jobs::{self, FunctionOptions};
use serde_json::{Value, json};

use crate::support::{Database, Local, Postgres, Scheduler, ask, get, options};

const SOON: Duration = Duration::from_secs(30);

/// Runs one of the ten jobs alone, once; its outcome and its detail.
fn run(database: &Database, job: &str, least: Duration) -> (String, String) {
    let others = format!("delete from cron_jobs where name <> '{job}'");
    database.connect().batch_execute(&others).unwrap();
    let functions = jobs::functions(FunctionOptions { least, run_history_days: 14 });
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    let ended = format!(
        "select count(*) from cron_runs where job = '{job}' and server = 'a' \
         and finished_at is not null"
    );
    database.wait_for("a finished run", SOON, 1, &ended);
    let last = "from cron_runs where server = 'a' order by id desc limit 1";
    (
        database.text(&format!("select outcome {last}")),
        database.text(&format!("select detail {last}")),
    )
}

fn run_quickly(database: &Database, job: &str) -> (String, String) {
    run(database, job, Duration::ZERO)
}

/// Users with some changes each.
fn filled() -> Database {
    let database = Postgres::shared().migrated();
    let fill = "insert into users (id, balance, changes) \
                select n, 30, 3 from generate_series(2, 1200) n; \
                insert into balance_changes (user_id, id, amount, balance_after) \
                select user_id, step, 10, 10 * step \
                from generate_series(1, 3) step, generate_series(2, 1200) user_id";
    database.connect().batch_execute(fill).unwrap();
    database
}

fn succeeded(detail: &str) -> (String, String) {
    ("succeeded".to_owned(), detail.to_owned())
}

#[test]
fn every_one_of_the_ten_jobs_succeeds_and_lasts_as_long_as_it_is_told() {
    let database = filled();
    let functions =
        jobs::functions(FunctionOptions { least: Duration::from_secs(2), run_history_days: 14 });
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    let ended = "select count(*) from cron_runs where finished_at is not null";
    database.wait_for("ten finished runs", Duration::from_secs(60), 10, ended);
    let fine = "select count(*) from cron_runs where outcome = 'succeeded' and detail <> '' \
                and finished_at - started_at >= interval '2 seconds'";
    assert_eq!(database.number(fine), 10);
}

#[test]
fn reconciling_finds_a_balance_that_is_not_the_sum_of_its_changes() {
    let database = filled();
    let right = run_quickly(&database, "reconcile-balances");
    assert_eq!(right, succeeded("balances that are the sums of their changes: 1200"));
    let database = filled();
    database.connect().batch_execute("update users set balance = 31 where id = 700").unwrap();
    let (outcome, detail) = run_quickly(&database, "reconcile-balances");
    assert_eq!(outcome, "failed");
    let text =
        "balances that are not the sums of their changes: 1 of 1200; the first is user 700's";
    assert_eq!(detail, text);
}

/// More changes than are summed in one step.
#[test]
fn reconciling_sums_a_long_list_of_changes_part_by_part() {
    for (off, outcome) in [(0, "succeeded"), (1, "failed")] {
        let database = Postgres::shared().migrated();
        let fill = format!(
            "insert into balance_changes (user_id, id, amount, balance_after) \
             select 1, 1 + n, 1, 10000 + n from generate_series(1, 12000) n; \
             update users set balance = 22000 + {off}, changes = 12001"
        );
        database.connect().batch_execute(&fill).unwrap();
        assert_eq!(run_quickly(&database, "reconcile-balances").0, outcome);
    }
}

#[test]
fn auditing_finds_a_change_that_does_not_follow_from_the_one_before() {
    let database = filled();
    let right = run_quickly(&database, "audit-ledger");
    assert_eq!(right, succeeded("changes that follow from one another: 3598"));
    let database = filled();
    let wrong =
        "update balance_changes set balance_after = 21 where user_id = 700 and balance_after = 20";
    database.connect().batch_execute(wrong).unwrap();
    let (outcome, detail) = run_quickly(&database, "audit-ledger");
    assert_eq!(outcome, "failed");
    assert!(detail.contains(" do not follow from the one before: 2 of 3598; "), "{detail}");
}

#[test]
fn a_change_that_is_missing_is_found_although_the_sum_is_right() {
    let fill = "insert into users (id, balance, changes) values (2, 5, 3), (3, 5, 3); \
                insert into balance_changes (user_id, id, amount, balance_after) \
                select user_id, number, amount, balance \
                from (values (1, 5, 5), (2, -2, 3), (3, 2, 5)) as made (number, amount, balance), \
                    unnest(array[2, 3]) as user_id";
    let lost = |which: &str, job: &str| {
        let database = Postgres::shared().migrated();
        database.connect().batch_execute(fill).unwrap();
        let lose = format!("delete from balance_changes where user_id = 3 and {which}");
        database.connect().batch_execute(&lose).unwrap();
        run_quickly(&database, job)
    };
    for job in ["reconcile-balances", "audit-ledger"] {
        assert_eq!(lost("id = 4", job).0, "succeeded");
    }
    let (outcome, detail) = lost("id in (2, 3)", "reconcile-balances");
    assert_eq!(outcome, "failed", "{detail}");
    let (outcome, detail) = lost("id = 1", "audit-ledger");
    assert_eq!(outcome, "failed");
    assert!(detail.contains(" do not follow from the one before: 1 of 6; "), "{detail}");
}

/// A page of the audit ends within a user's changes.
#[test]
fn auditing_follows_a_user_from_page_to_page() {
    let database = Postgres::shared().migrated();
    let fill = "insert into balance_changes (user_id, id, amount, balance_after) \
                select 1, 1 + n, 1, 10000 + n from generate_series(1, 12000) n";
    database.connect().batch_execute(fill).unwrap();
    let right = run_quickly(&database, "audit-ledger");
    assert_eq!(right, succeeded("changes that follow from one another: 12001"));
}

#[test]
fn the_snapshot_is_one_row_a_day() {
    let database = filled();
    database
        .connect()
        .batch_execute(
            "insert into daily_totals values \
        ((now() at time zone 'UTC')::date, 1, 1, now())",
        )
        .unwrap();
    let (outcome, detail) = run_quickly(&database, "snapshot-daily-totals");
    assert_eq!(outcome, "succeeded");
    assert!(detail.ends_with(": 1200, with 45970 in all"), "{detail}");
    let right = "select count(*) from daily_totals where users = 1200 and balance = 45970";
    assert_eq!(database.number(right), 1);
}

#[test]
fn ranking_finds_the_largest_balances_of_all_pages() {
    let database = filled();
    let fill = "insert into users (id, balance) select n, n from generate_series(2000, 9000) n";
    database.connect().batch_execute(fill).unwrap();
    let (_, detail) = run_quickly(&database, "rank-balances");
    assert!(detail.starts_with("user 1 has 10000, user 9000 has 9000, user 8999"), "{detail}");
}

#[test]
fn pruning_deletes_keys_older_than_a_day_and_no_others() {
    let database = Postgres::shared().migrated();
    let fill = "insert into idempotency_keys (user_id, key, amount, outcome, balance, attempt, \
                created_at) select 1, 'key ' || n, 1, 'changed', 1, gen_random_uuid(), now() \
                - case when n <= 2500 then interval '25 hours' else interval '23 hours' end \
                from generate_series(1, 3000) n";
    database.connect().batch_execute(fill).unwrap();
    let creations = "insert into creation_keys (key, user_id, balance, created_at) select \
                     key, 1, 1, created_at from idempotency_keys";
    database.connect().batch_execute(creations).unwrap();
    let sets = "insert into set_keys (key, user_ids, amounts, set_id, balances, numbers, \
                created_at) select key, '{1, 2}', '{1, 2}', gen_random_uuid(), '{1, 2}', '{1, 2}', \
                created_at from idempotency_keys";
    database.connect().batch_execute(sets).unwrap();
    let pruned = run_quickly(&database, "prune-idempotency-keys");
    assert_eq!(pruned, succeeded("keys older than 24 hours that were deleted: 7500"));
    for keys in ["idempotency_keys", "creation_keys", "set_keys"] {
        assert_eq!(database.number(&format!("select count(*) from {keys}")), 500);
    }
}

#[test]
fn pruning_the_history_keeps_what_is_young_and_each_jobs_last_run() {
    let database = Postgres::shared().migrated();
    let job = database.number("select id from cron_jobs where name = 'prune-run-history'");
    let insert = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                  started_at, finished_at, outcome)";
    // Of this job two old and one young run; of one that was deleted 2,500 old ones.
    let fill = format!(
        "{insert} select 0, 'deleted', 'f', n, 'z', at, at, at, 'succeeded' \
         from generate_series(1, 2500) n, lateral (select now() - interval '15 days' as at) t; \
         {insert} select {job}, 'prune-run-history', 'f', -n, 'z', at, at, at, 'succeeded' \
         from generate_series(0, 2) n, lateral (select now() - n * interval '13 days' as at) t"
    );
    database.connect().batch_execute(&fill).unwrap();
    let pruned = run_quickly(&database, "prune-run-history");
    assert_eq!(pruned, succeeded("runs older than 14 days that were deleted: 2501"));
    assert_eq!(database.number("select count(*) from cron_runs where job_id = 0"), 0);
    assert_eq!(database.number("select count(*) from cron_runs where server = 'z'"), 2);
}

/// The status shows how a job ended last, however long ago that was.
#[test]
fn pruning_keeps_the_last_run_of_a_job_that_is_there() {
    let database = Postgres::shared().migrated();
    let fill = "insert into cron_runs (job_id, job, function, token, server, scheduled_at, \
                started_at, finished_at, outcome) select id, name, function, -n, 'z', at, at, at, \
                'succeeded' from cron_jobs, generate_series(1, 3) n, \
                lateral (select now() - interval '15 days' as at) t where name = 'rank-balances'";
    database.connect().batch_execute(fill).unwrap();
    let functions =
        jobs::functions(FunctionOptions { least: Duration::ZERO, run_history_days: 14 });
    let others = "update cron_jobs set enabled = false where name <> 'prune-run-history'";
    database.connect().batch_execute(others).unwrap();
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    let ended = "select count(*) from cron_runs where server = 'a' and finished_at is not null";
    database.wait_for("a finished run", SOON, 1, ended);
    assert_eq!(database.number("select count(*) from cron_runs where token = -1"), 1);
    assert_eq!(database.number("select count(*) from cron_runs where server = 'z'"), 1);
}

#[test]
fn a_run_is_never_further_than_its_time_and_moves_on() {
    let database = filled();
    let least = Duration::from_secs(6);
    let functions = jobs::functions(FunctionOptions { least, run_history_days: 14 });
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    let open = "select count(*) from cron_runs where finished_at is null";
    database.wait_for("all run", SOON, 10, open);
    let mut halfway = 0;
    let ended = "select count(*) from cron_runs where finished_at is not null";
    while database.number(ended) == 0 {
        let ahead = "select count(*) from cron_runs where finished_at is null and progress \
                     > 0.02 + extract(epoch from clock_timestamp() - started_at) / 6";
        assert_eq!(database.number(ahead), 0);
        let between = "select count(*) from cron_runs where progress > 0.1 and progress < 1";
        halfway = halfway.max(database.number(between));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(halfway, 10, "not all have told their progress");
}

#[test]
fn every_function_is_listed_with_arguments_that_it_takes() {
    let database = Postgres::shared().migrated();
    let replica = Local::start(database.url());
    let list = get(replica.addr, "/api/cron/functions").json();
    let functions = list["functions"].as_array().expect("functions");
    assert_eq!(functions.len(), 9, "{list}");
    for function in functions {
        let name = function["name"].as_str().expect("a name");
        let put = |arguments: &Value| {
            let job = json!({"function": name, "schedule": "every 1h", "enabled": false,
                             "arguments": arguments});
            ask(replica.addr, &format!("PUT /api/cron/jobs/a-{name}"), &[], &job.to_string())
        };
        assert_eq!(put(&function["example"]).status, 201, "{name}");
        let refused = put(&json!({"unknown": 1})).json()["detail"].to_string();
        let rule = function["arguments"].to_string();
        assert!(refused.contains(rule.trim_matches('"')), "{refused}: {rule}");
    }
}
