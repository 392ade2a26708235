use std::sync::Arc;
use std::time::{Duration, Instant};

use balanced::cron::{Context, Cron, CronOptions, Failure, Functions};
use balanced::db::Health;
use balanced::metrics::{Metrics, Readings};
use balanced::shutdown::Signal;

use super::{Database, target, until};

/// One replica's scheduler in this process, drained at the end of the test.
pub(crate) struct Scheduler(pub(crate) Cron, Arc<Metrics>);

/// Some tests end while the database, or a function, does not answer.
const DRAIN_MAX: Duration = Duration::from_secs(2);

pub(crate) fn options(server: &str) -> CronOptions {
    CronOptions {
        server: server.to_owned(),
        lease: Duration::from_secs(3),
        handicap: Duration::from_millis(300),
        poll: Duration::from_millis(50),
        max_runs: None,
    }
}

impl Scheduler {
    pub(crate) fn start(
        database_url: &str,
        options: &CronOptions,
        functions: Functions,
    ) -> Scheduler {
        let target = target(database_url, &options.server);
        let health = Arc::new(Health::default());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let shutdown = Signal::new();
        target.watch(&health, &shutdown).expect("threads");
        let cron = Cron::start(options, functions, &target, &health, &metrics, &shutdown);
        Scheduler(cron.expect("threads"), metrics)
    }

    /// What it has counted, as Prometheus is told.
    pub(crate) fn text(&self) -> String {
        let readings = Readings {
            database_up: true,
            ready: true,
            jobs_ready: None,
            clock_skew_seconds: None,
            database_durable: None,
            oldest_snapshot: None,
            pool_in_use: 0,
            pool_idle: 0,
            pool_max: 0,
            pool_waiting: 0,
        };
        self.1.text(&readings).expect("a text")
    }
}

impl Drop for Scheduler {
    /// Lets the ends of its runs be written while the test's database is still there: a scheduler
    /// that cannot write them tries it again all the time, and slows all later tests down.
    fn drop(&mut self) {
        self.0.begin_drain();
        self.0.wait_drained(Instant::now() + DRAIN_MAX);
    }
}

/// Functions whose one does nothing, at once.
pub(crate) fn only(
    name: &str,
    function: impl Fn(&Context) -> Result<String, Failure> + Send + Sync + 'static,
) -> Functions {
    Functions::new().with(name, function)
}

/// Does nothing until it is cancelled.
pub(crate) fn endless(context: &Context) -> Result<String, Failure> {
    loop {
        context.wait(Duration::from_secs(60))?;
    }
}

impl Database {
    /// A database whose only jobs are the test's own.
    pub(crate) fn without_jobs(self) -> Database {
        self.connect().batch_execute("delete from cron_jobs").expect("no jobs");
        self
    }

    /// A job of this name that calls the function of the same name, due now.
    pub(crate) fn add_job(&self, name: &str, schedule: &str) {
        self.add_job_calling(name, name, schedule);
    }

    pub(crate) fn add_job_calling(&self, name: &str, function: &str, schedule: &str) {
        let insert = "insert into cron_jobs (name, function, schedule, slot, locked_until) \
                      values ($1, $2, $3, now(), now())";
        self.connect().execute(insert, &[&name, &function, &schedule]).expect("a job");
    }

    /// So many jobs that call this function, all due now.
    pub(crate) fn add_due_jobs(&self, count: i64, function: &str) {
        let insert = "insert into cron_jobs (name, function, schedule, slot, locked_until) \
                      select 'job-' || n, $2, 'every 1h', now(), now() \
                      from generate_series(1, $1::bigint) n";
        self.connect().execute(insert, &[&count, &function]).expect("jobs");
    }

    /// Makes the only job one that the replica `dead` had claimed before it died.
    pub(crate) fn orphan_the_job(&self) {
        let claimed = "with run as (insert into cron_runs \
            (job_id, job, function, token, server, scheduled_at, started_at) \
            select id, name, function, 1, 'dead', slot, now() from cron_jobs returning id) \
            update cron_jobs set token = 1, holder = 'dead#1', run_id = run.id, \
            locked_until = now() from run";
        self.connect().batch_execute(claimed).expect("an orphan");
    }

    /// `outcome on server` of each finished run, in the order of their starts.
    pub(crate) fn outcomes(&self, job: &str) -> Vec<String> {
        let sql = "select outcome || ' on ' || server from cron_runs \
                   where job = $1 and finished_at is not null order by id";
        let rows = self.connect().query(sql, &[&job]).expect("runs");
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) fn text(&self, sql: &str) -> String {
        self.row(sql).get(0)
    }

    /// Waits until as many rows, or whatever the statement counts, are there.
    pub(crate) fn wait_for(&self, what: &str, limit: Duration, count: i64, sql: &str) {
        until(what, limit, || self.number(sql) == count);
    }
}
