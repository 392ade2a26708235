//! `balanced jobs …`: what people and scripts do with the jobs of a running service, over HTTP.

mod client;
mod pages;
mod usage;
mod words;

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use balanced::config::read_text;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::USAGE;
use client::Service;
use words::Order;

/// The longest body that the service takes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Does what the words behind `jobs` ask for, and tells it on standard output.
pub(crate) fn run(words: &[&str]) -> ExitCode {
    let done = match words::read(words) {
        Ok(Order::Help(text)) => Ok(text),
        Ok(order) => match Service::of_environment() {
            Ok(service) => carry_out(&order, &service).map_err(|why| (why, 1)),
            Err(rule) => Err((rule, USAGE)),
        },
        Err(why) => Err((format!("jobs: {why}"), USAGE)),
    };
    match done.and_then(|text| tell(&text).map_err(|why| (why, 1))) {
        Ok(()) => ExitCode::SUCCESS,
        Err((why, code)) => {
            // It may quote a service that is none of ours, and no terminal shall obey that.
            eprintln!("balanced: {}", why.replace(char::is_control, "?"));
            ExitCode::from(code)
        }
    }
}

fn tell(text: &str) -> Result<(), String> {
    // A reader that has seen enough, such as `head`, is no failure.
    let written = io::stdout().write_all(text.as_bytes());
    let failed = written.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    failed.map_or(Ok(()), |error| Err(error.to_string()))
}

/// What is told of it. The error is one line that says why it was not done.
fn carry_out(order: &Order, service: &Service) -> Result<String, String> {
    let path = |name: &str, end: &str| format!("/api/cron/jobs/{name}{end}");
    match order {
        Order::Help(text) => Ok(text.clone()),
        Order::List { json } => {
            let document = service.ask("GET", "/api/cron/jobs", "")?;
            Ok(if *json { whole(&document) } else { pages::list(&document) })
        }
        Order::Show { name, json } => {
            let job = service.ask("GET", &path(name, ""), "")?;
            Ok(if *json { whole(&job) } else { pages::show(&job, "") })
        }
        Order::Run { name } => {
            let job = service.ask("POST", &path(name, "/run"), "")?;
            Ok(format!("{name} is due\n{}", pages::show(&job, "/waitsFor")))
        }
        Order::Stop { name, run } => {
            let run = match run {
                Some(run) => *run,
                None => open_run(service, &path(name, ""), name)?,
            };
            let body = json!({"runId": run}).to_string();
            service.ask("POST", &path(name, "/stop"), &body)?;
            Ok(format!("run {run} of {name} is told to stop\n"))
        }
        Order::Pause { reason, until } => {
            let mut pause = json!({"reason": reason});
            if let Some(until) = until {
                pause["until"] = json!(until);
            }
            service.ask("POST", "/api/cron/pause", &pause.to_string())?;
            let end = until.as_deref().unwrap_or("somebody resumes them");
            let how = "what runs goes on; to end the pause: balanced jobs resume --all";
            Ok(format!("all jobs are paused until {end}; {how}\n"))
        }
        Order::Resume => {
            service.ask("POST", "/api/cron/resume", "")?;
            Ok("the pause of all jobs has ended\n".to_owned())
        }
        Order::Enable { name, enabled } => {
            let body = json!({"enabled": enabled}).to_string();
            service.ask("PATCH", &path(name, ""), &body)?;
            Ok(format!("{name} is {}\n", if *enabled { "enabled" } else { "paused" }))
        }
        Order::Apply { file, dry_run, prune } => {
            let set = read_file(file).map_err(|reason| format!("{file}: {reason}"))?;
            let path = format!("/api/cron/jobs?dryRun={dry_run}&prune={prune}");
            let document = service.ask("PUT", &path, &set)?;
            let text = pages::applied(&document);
            match pages::hindrance(&document) {
                // Whoever reads the changes gets them alone, and a script is told by the end.
                Some(why) => tell(&text).and(Err(why)),
                None => Ok(text),
            }
        }
    }
}

fn open_run(service: &Service, path: &str, name: &str) -> Result<i64, String> {
    let run = service.ask("GET", path, "")?["runId"].as_i64();
    run.ok_or_else(|| format!("the job {name:?} does not run"))
}

fn whole(document: &Value) -> String {
    format!("{document:#}\n")
}

fn read_file(file: &str) -> io::Result<String> {
    let text = match file {
        "-" => read_text(io::stdin(), FILE_BYTES_MAX)?,
        _ => read_text(File::open(file)?, FILE_BYTES_MAX)?,
    };
    // The service would speak of a body, which nobody sees here.
    serde_json::from_str::<IgnoredAny>(text.trim_start_matches('\u{feff}'))
        .map_err(|error| io::Error::other(format!("it is not JSON: {error}")))?;
    Ok(text)
}
