//! How the jobs were spread over the servers: in the first wave, and by starts.

use std::collections::BTreeMap;

use super::status::State;
use super::verdict::{Check, Evidence, Judgement, Known};
use crate::report::grouped;

/// Jobs or runs by server.
pub(super) type ByServer<'a> = BTreeMap<&'a str, usize>;

/// Judges the first wave.
pub(super) fn check(evidence: &Evidence<'_>, known: &[Known<'_>]) -> Check {
    let name = "first wave";
    if known.is_empty() && evidence.record.runs.is_empty() {
        return Check::made(name, false, "no job ran while watched".to_owned());
    }
    let wave = match first(evidence, known) {
        Ok(wave) => wave,
        Err(reason) => return Check::not_judged(name, reason),
    };
    let (most, least) = (wave.values().max(), wave.values().min());
    let spread = most.unwrap_or(&0) - least.unwrap_or(&0);
    let how = match evidence.record.full {
        Some(_) => "",
        None => "; the first run of each job, as never did all run at once",
    };
    let explanation =
        format!("{}: max − min {spread}, at most {}{how}", list(&wave), evidence.spread_max);
    Check::made(name, spread <= evidence.spread_max, explanation)
}

/// The starts of each server, for the reader.
pub(super) fn starts(evidence: &Evidence<'_>, known: &[Known<'_>]) -> Check {
    let starts = count_starts(evidence, known);
    let before = known.len() - starts.values().sum::<usize>();
    let before = match before {
        0 => String::new(),
        runs => format!(" ({} more runs had begun before)", grouped(runs as u64)),
    };
    let explanation = format!("{}{before}", list(&starts));
    Check { name: "starts per server", result: Judgement::Figures, explanation }
}

/// Jobs of the first wave by server: as they ran when first all enabled ones did, or else by the
/// first run of each. A server that was seen at any time and ran none of these has 0.
///
/// # Errors
/// A sentence where there was no such wave.
pub(super) fn first<'a>(
    evidence: &Evidence<'a>,
    known: &[Known<'a>],
) -> Result<ByServer<'a>, String> {
    let mut wave = nobody(evidence);
    if let Some(full) = &evidence.record.full {
        wave.extend(full.iter().map(|(server, jobs)| (server.as_str(), *jobs)));
        return Ok(wave);
    }
    let mut first_runs = BTreeMap::new();
    for run in known {
        first_runs.entry(run.job).or_insert(run.server);
    }
    let enabled: Vec<_> = evidence.last.jobs.iter().filter(|job| job.enabled).collect();
    let idle: Vec<_> =
        enabled.iter().filter(|job| !first_runs.contains_key(job.name.as_str())).collect();
    if enabled.is_empty() {
        return Err("no job is enabled".to_owned());
    }
    if let Some(example) = idle.first() {
        let due = idle.iter().filter(|job| job.state == State::Due).count();
        return Err(format!(
            "{} of {} enabled jobs never ran while watched, such as {} ({} of them due at the end)",
            grouped(idle.len() as u64),
            grouped(enabled.len() as u64),
            example.name,
            grouped(due as u64),
        ));
    }
    for job in enabled {
        if let Some(server) = first_runs.get(job.name.as_str()) {
            *wave.entry(server).or_default() += 1;
        }
    }
    Ok(wave)
}

/// Runs that began in the time watched, by server.
pub(super) fn count_starts<'a>(evidence: &Evidence<'a>, known: &[Known<'a>]) -> ByServer<'a> {
    let mut starts = nobody(evidence);
    for run in known.iter().filter(|run| run.started_at >= evidence.begin) {
        *starts.entry(run.server).or_default() += 1;
    }
    starts
}

fn nobody<'a>(evidence: &Evidence<'a>) -> ByServer<'a> {
    evidence.record.servers.iter().map(|server| (server.as_str(), 0)).collect()
}

fn list(counts: &ByServer<'_>) -> String {
    let one = |(server, count): (&&str, &usize)| format!("{server} {}", grouped(*count as u64));
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}
