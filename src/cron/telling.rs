//! Tells the history what runs say, and how far they are. Nothing depends on it: an error costs
//! some lines, and never a lease.

use std::sync::Arc;

use super::lease::{Claimed, Leases, News};
use super::running::Running;
use crate::db::{Dedicated, Error};

/// The most bytes of lines in one statement, because a renewal may have to wait for it. What does
/// not fit is told after the next renewal.
const LINES_BYTES_MAX: usize = 256 << 10;

/// Writes what the history lacks of these runs.
pub(super) fn tell(connection: &mut Dedicated, runs: &[Arc<Running>]) {
    let share = LINES_BYTES_MAX / runs.len().max(1);
    let news = |run: &Arc<Running>| run.news(share).map(|news| (Arc::clone(run), news));
    let news: Vec<_> = runs.iter().filter_map(news).collect();
    if !news.is_empty() && send(connection, &news).is_err_and(|error| !error.is_passing()) {
        // What is refused of one run must not keep the others from being written.
        for one in news.chunks(1) {
            if send(connection, one).is_err_and(|error| !error.is_passing()) {
                one.iter().for_each(|(run, news)| run.refused(news));
            }
        }
    }
}

fn send(connection: &mut Dedicated, all: &[(Arc<Running>, News)]) -> Result<(), Error> {
    let told: Vec<(&Claimed, &News)> = all.iter().map(|(run, news)| (&run.claimed, news)).collect();
    let written = connection.run(|session| Leases::tell(session, &told))?;
    let is_written = |(run, _): &&(Arc<Running>, News)| written.contains(&run.claimed.run_id);
    all.iter().filter(is_written).for_each(|(run, news)| run.told(news));
    Ok(())
}
