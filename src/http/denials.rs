//! Logs requests for changes that are denied: few lines, however many requests there are.

use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;

use super::call::Call;

/// At most one line in this time, 1.5 MB a day, so that nobody can fill the disk with requests.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Denials(Mutex<State>);

#[derive(Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Denials {
    /// Logs this request, or only counts it if the last line is younger than [`PAUSE`].
    pub(super) fn tell(&self, call: &Call, reason: &str) {
        let Some(denied) = self.0.lock().count(Instant::now()) else { return };
        let Call { method, target, request_id, .. } = call;
        warn!(
            "event=request_denied request_id={request_id} method={method:?} path={target:?} \
             reason={reason:?} denied={denied}"
        );
    }
}

impl State {
    /// How many there were since the last line; `None` if it is too early for another.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_a_line_now_and_then() {
        let mut state = State::default();
        let start = Instant::now();
        let told: Vec<_> =
            (0..25_000).filter_map(|ms| state.count(start + Duration::from_millis(ms))).collect();
        assert_eq!(told, [1, 10_000, 10_000]);
    }
}
