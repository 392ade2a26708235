//! What `balanced --help` says.

use super::setting::SETTINGS;

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "balanced - exact balances and single jobs over PostgreSQL\n\n\
         Usage:\n\
         \x20 balanced            run one replica until Ctrl-C or SIGTERM\n\
         \x20 balanced migrate    apply the migrations and end\n\
         \x20 balanced health     ask the replica at LISTEN_ADDR; ends with 0 when it is ready\n\
         \x20 balanced token NAME SCOPE…\n\
         \x20                     make a token that allows this: read, balance, jobs, run\n\
         \x20 balanced jobs COMMAND\n\
         \x20                     list, show, run, stop, pause, resume, apply: see jobs --help\n\
         \x20 balanced --help | --version\n\n\
         Settings (environment):\n",
    );
    for setting in SETTINGS {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        text.push_str(&format!("  {:<24}{}{default}\n", setting.name, setting.meaning));
    }
    text.push_str(
        "\nJobs: each has a name, a function and a schedule (an interval, `every 5m`, or a cron\n\
         expression, `0 3 * * * Europe/Berlin`), kept in the table cron_jobs and changed at run\n\
         time by PUT and PATCH /api/cron/jobs/{name}. A due job runs on one replica only. The\n\
         next run is set when a run ends, to the first instant after that on the grid of its\n\
         schedule: instants that pass while it runs, or while no replica is up (misfires), are\n\
         made up for by one run, not one each. A run that breaks off because its replica dies,\n\
         is shut down or loses the database is begun again on another one: at least once.\n\n\
         \x20 waiting -> due -> running -> succeeded | failed -----> waiting for the next instant\n\
         \x20           ^        |\n\
         \x20           +--------+-> cancelled (shut down) | abandoned (replica dead or cut off)\n",
    );
    text.push_str(
        "\nEnds with 0 after a drain, 1 when it cannot run, 2 when a setting is wrong, and 3 when\n\
         a job did not return although its lease was about to end: rather than let it run twice.\n",
    );
    text
}
