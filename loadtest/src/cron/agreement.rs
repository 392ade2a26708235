//! Whether two targets, asked one after the other, say the same of every job.

use std::collections::BTreeMap;

use super::status::{Job, State, Status};

/// What all targets must say alike of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
struct View<'a> {
    state: State,
    server: Option<&'a str>,
    run_id: Option<i64>,
    last_run_id: Option<i64>,
    enabled: bool,
    schedule: &'a str,
}

impl View<'_> {
    /// The newest run it knows of: a job's run ids only rise.
    fn newest_run_id(self) -> Option<i64> {
        self.run_id.max(self.last_run_id)
    }

    fn describe(self) -> String {
        match (self.run_id, self.server) {
            (Some(run), Some(server)) => format!("{} (run {run}, {server})", self.state.name()),
            _ => self.state.name().to_owned(),
        }
    }
}

/// The jobs of which `one` and `other` do not say the same, by name.
pub(super) fn differing<'a>(one: &'a Status, other: &'a Status) -> Vec<&'a str> {
    let (one, other) = (views(one), views(other));
    let gone = other.keys().filter(|name| !one.contains_key(*name));
    let changed = one.iter().filter(|(name, view)| other.get(*name) != Some(view));
    changed.map(|(name, _)| *name).chain(gone.copied()).collect()
}

/// The differences between `earlier` and `later` that no change in between explains, each in a
/// sentence. `again` is what the target of `earlier` said after `later`.
///
/// A change in between explains a difference if that target says the same by then, or something
/// else than before that is not older than what `later` says.
pub(super) fn unexplained(earlier: &Status, later: &Status, again: &Status) -> Vec<String> {
    let (before, between, after) = (views(earlier), views(later), views(again));
    let differing = differing(earlier, later).into_iter();
    let doubtful = differing.filter_map(|name| {
        let (first, second) = (before.get(name).copied(), between.get(name).copied());
        let third = after.get(name).copied();
        let newest = |view: Option<View<'_>>| view.and_then(View::newest_run_id);
        let moved_on = third != first && newest(third) >= newest(second);
        let say = |view: Option<View<'_>>| view.map_or("absent".to_owned(), View::describe);
        (third != second && !moved_on).then(|| {
            format!(
                "{name}: {} by {}, then {} by {}, then {} by {} again",
                say(first),
                earlier.served_by,
                say(second),
                later.served_by,
                say(third),
                again.served_by,
            )
        })
    });
    doubtful.collect()
}

fn views(status: &Status) -> BTreeMap<&str, View<'_>> {
    status.jobs.iter().map(|job| (job.name.as_str(), view(job))).collect()
}

fn view(job: &Job) -> View<'_> {
    View {
        state: job.state,
        server: job.server.as_deref(),
        run_id: job.run_id,
        last_run_id: job.last_run.as_ref().map(|run| run.run_id),
        enabled: job.enabled,
        schedule: &job.schedule,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{ended, running, status, waiting};
    use super::super::status::Outcome;
    use super::*;

    #[test]
    fn equal_readings_differ_in_nothing() {
        let jobs = || vec![running("a", "r-1", 5, 0), waiting("b")];
        assert!(differing(&status("r-1", 0, jobs()), &status("r-2", 1, jobs())).is_empty());
    }

    #[test]
    fn a_job_that_only_one_shows_is_a_difference() {
        let (one, other) =
            (status("r-1", 0, vec![waiting("a")]), status("r-2", 0, vec![waiting("b")]));
        assert_eq!(differing(&one, &other), ["a", "b"]);
    }

    #[test]
    fn a_change_in_between_explains_a_difference() {
        let run = |id| running("a", "r-1", id, 0);
        let over = |id| {
            let last_run = Some(ended(id, "r-1", Outcome::Succeeded));
            Job { last_run, ..waiting("a") }
        };
        for (case, first, second, third) in [
            ("begun", over(4), run(5), run(5)),
            ("begun and over", over(4), run(5), over(5)),
            ("the next one by then", over(4), run(5), run(6)),
            ("paused", over(4), Job { enabled: false, ..over(4) }, run(5)),
        ] {
            let reading = |server, job: &Job| status(server, 0, vec![job.clone()]);
            let (earlier, later) = (reading("r-1", &first), reading("r-2", &second));
            let again = reading("r-1", &third);
            assert_eq!(differing(&earlier, &later), ["a"], "{case}");
            assert_eq!(unexplained(&earlier, &later, &again), Vec::<String>::new(), "{case}");
        }
    }

    #[test]
    fn what_no_change_explains_is_told() {
        let reading = |server, job| status(server, 0, vec![job]);
        let earlier = reading("r-1", running("a", "r-1", 5, 0));
        let later = reading("r-2", running("a", "r-2", 6, 0));
        let stuck = unexplained(&earlier, &later, &earlier);
        assert_eq!(
            stuck,
            ["a: running (run 5, r-1) by r-1, then running (run 6, r-2) by r-2, then running \
              (run 5, r-1) by r-1 again"]
        );
        let older = reading("r-1", waiting("a"));
        assert_eq!(unexplained(&earlier, &later, &older).len(), 1, "changed, but behind");
        let empty = status("r-1", 0, vec![]);
        assert_eq!(unexplained(&empty, &later, &empty).len(), 1, "never shown");
    }
}
