//! What the database's owner does not allow: it is said, it is given up, and it harms nobody else.

use std::time::Duration;

use balanced::cron::{Context, Failure, Functions};

use crate::support::{Database, Postgres, Scheduler, only, options};

const SOON: Duration = Duration::from_secs(30);

/// Raises an error, in words that are not ASCII, for each write to the history that meets this.
fn refuse(database: &Database, when: &str, condition: &str) {
    let rule = format!(
        "create function refuse() returns trigger language plpgsql as $$ begin \
         if {condition} then raise exception 'so nicht: größer'; end if; return new; end $$; \
         create trigger refuse before {when} on cron_runs for each row execute function refuse()"
    );
    database.connect().batch_execute(&rule).expect("a rule");
}

fn quick() -> Functions {
    only("quick", |_| Ok("done".to_owned()))
}

#[test]
fn an_end_that_the_database_refuses_for_good_becomes_a_failure() {
    let database = Postgres::shared().migrated().without_jobs();
    refuse(&database, "update", "new.outcome = 'succeeded'");
    database.add_job_calling("good", "quick", "every 1h");
    let replica = Scheduler::start(database.url(), &options("a"), quick());
    let failed = "select count(*) from cron_runs where outcome = 'failed'";
    database.wait_for("it has failed", SOON, 1, failed);
    assert_eq!(
        database.text("select detail from cron_runs"),
        "the database refused the end of the run: so nicht: gr??er (P0001)"
    );
    let waits = "select count(*) from cron_jobs where holder is null and locked_until > now()";
    assert_eq!(database.number(waits), 1, "the job waits for its next slot");
    assert!(replica.text().contains("cron_writes_refused_total 20"), "{}", replica.text());
}

#[test]
fn a_text_that_the_databases_encoding_cannot_hold_becomes_a_failure() {
    let database = Postgres::shared().latin_1().without_jobs();
    database.add_job_calling("good", "quick", "every 1h");
    let functions = only("quick", |_| Ok("\u{2192} done".to_owned()));
    let _replica = Scheduler::start(database.url(), &options("a"), functions);
    let failed = "select count(*) from cron_runs where outcome = 'failed'
        and detail like 'the database refused the end of the run: %(22P05)'";
    database.wait_for("it has failed", SOON, 1, failed);
}

#[test]
fn a_run_whose_end_is_refused_whatever_it_says_is_let_go() {
    let database = Postgres::shared().migrated().without_jobs();
    refuse(&database, "update", "new.job = 'bad'");
    database.add_job_calling("bad", "quick", "every 1h");
    let _replica = Scheduler::start(database.url(), &options("a"), quick());
    let ended = "select count(*) from cron_jobs where name = 'bad' and locked_until < now()";
    database.wait_for("its lease is not renewed any more", SOON, 1, ended);
    database.add_job_calling("good", "quick", "every 1h");
    let done = "select count(*) from cron_runs where job = 'good' and outcome = 'succeeded'";
    database.wait_for("the other job is run", SOON, 1, done);
    assert_eq!(database.number("select count(*) from cron_runs where job = 'bad'"), 1);
}

#[test]
fn a_job_that_the_database_does_not_let_be_claimed_does_not_keep_the_others_from_being_run() {
    let database = Postgres::shared().migrated().without_jobs();
    refuse(&database, "insert", "new.job like 'bad%'");
    for job in ["bad-1", "bad-2", "good"] {
        database.add_job_calling(job, "quick", "every 1h");
    }
    let replica = Scheduler::start(database.url(), &options("a"), quick());
    let done = "select count(*) from cron_runs where job = 'good' and outcome = 'succeeded'";
    database.wait_for("the other job is run", SOON, 1, done);
    assert!(!replica.text().contains("cron_writes_refused_total 0"), "{}", replica.text());
}

#[test]
fn a_paused_job_that_cannot_be_freed_does_not_keep_the_others_from_being_run() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("bad", "quick", "every 1h");
    database.orphan_the_job();
    database.connect().batch_execute("update cron_jobs set enabled = false").unwrap();
    refuse(&database, "update", "new.job = 'bad'");
    database.add_job_calling("good", "quick", "every 1s");
    let replica = Scheduler::start(database.url(), &options("a"), quick());
    database.wait_for(
        "it was tried",
        SOON,
        1,
        "select (count(*) >= 4)::int::bigint
        from cron_runs where job = 'good' and outcome = 'succeeded'",
    );
    assert!(!replica.text().contains("cron_writes_refused_total 0"), "{}", replica.text());
}

/// Its progress is refused, again and again, while both go on.
#[test]
fn progress_that_the_database_refuses_costs_no_lease() {
    let database = Postgres::shared().migrated().without_jobs();
    refuse(&database, "update", "new.job = 'bad'");
    for job in ["bad", "good"] {
        database.add_job_calling(job, "busy", "every 1h");
    }
    let busy = |context: &Context| -> Result<String, Failure> {
        loop {
            context.set_progress(context.elapsed().as_secs_f64() / 100.0);
            context.wait(Duration::from_millis(50))?;
        }
    };
    let mut options = options("a");
    options.handicap = Duration::ZERO;
    let replica = Scheduler::start(database.url(), &options, only("busy", busy));
    let told = "select count(*) from cron_runs where job = 'good' and progress >= 0.08";
    database.wait_for("it has gone on for eight seconds", SOON, 1, told);
    assert_eq!(database.number("select count(*) from cron_runs where finished_at is null"), 2);
    assert!(replica.text().contains("cron_leases_lost_total 0"), "{}", replica.text());
}

/// As after the clock was set back by ten minutes.
#[test]
fn a_job_that_cannot_be_put_right_does_not_keep_the_others_from_being_run() {
    let database = Postgres::shared().migrated().without_jobs();
    let fill = "insert into cron_jobs (name, function, schedule, slot, locked_until, written_at) \
                values ('bad', 'quick', 'every 1h', now() + interval '1 h', \
                now() + interval '1 h', now() + interval '10 min'); \
                create function refuse() returns trigger language plpgsql as $$ begin \
                raise exception 'no'; end $$; create trigger refuse before update on cron_jobs \
                for each row when (new.name = 'bad') execute function refuse()";
    database.connect().batch_execute(fill).unwrap();
    database.add_job_calling("good", "quick", "every 1h");
    let replica = Scheduler::start(database.url(), &options("a"), quick());
    let done = "select count(*) from cron_runs where job = 'good' and outcome = 'succeeded'";
    database.wait_for("the other job is run", SOON, 1, done);
    assert!(!replica.text().contains("cron_writes_refused_total 0"), "{}", replica.text());
}

#[test]
fn a_job_whose_open_run_was_deleted_from_the_history_is_taken_over() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("good", "quick", "every 1h");
    database.orphan_the_job();
    database.connect().batch_execute("delete from cron_runs").unwrap();
    let _replica = Scheduler::start(database.url(), &options("a"), quick());
    let done = "select count(*) from cron_runs where outcome = 'succeeded'";
    database.wait_for("it is run", SOON, 1, done);
}
