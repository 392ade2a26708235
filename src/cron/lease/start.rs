//! Whether a slot that was claimed is still run: its start deadline, and whether one run makes up
//! for slots that were missed. Why nobody has claimed the job earlier makes no difference.

use chrono::{DateTime, TimeDelta, Utc};
use postgres::Row;

use super::Claimed;
use crate::cron::schedule::Schedule;
use crate::db::from_row;
use crate::timestamp;

/// How a run was started, and what its job says about late starts.
#[derive(Clone, Debug, Default)]
pub(in crate::cron) struct Start {
    /// When the run was opened, by the database's clock, less the handicap of this replica: a job
    /// is not late because its replicas hold others.
    pub(in crate::cron) at: DateTime<Utc>,
    /// The seconds from the slot, or from the request, to the start, by the database's clock.
    pub(in crate::cron) late_seconds: f64,
    /// True for the first try of a slot: not for a request, and not after a try of it that began.
    is_first: bool,
    /// How much later than its slot a run may be started; none for any time.
    within: Option<TimeDelta>,
    /// Whether the database says that the run is later than that.
    is_past_deadline: bool,
    /// Whether one run makes up for the slots that were missed.
    catches_up: bool,
}

impl Start {
    pub(super) fn of(row: &Row) -> Start {
        let within: Option<i32> = row.get("start_within_seconds");
        from_row!(row => Start { is_first, is_past_deadline, catches_up;
            at: row.get("judged_at"),
            late_seconds: row.get("late"),
            within: within.map(|seconds| TimeDelta::seconds(seconds.into())),
        })
    }

    /// The first slot that is still to be run instead of a missed one: the first that is within the
    /// deadline, or the first in the future if missed slots are not made up for. However many slots
    /// were missed, this looks at one.
    pub(super) fn slot_instead(
        &self,
        schedule: &Schedule,
        slot: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let within = self.within.filter(|_| self.catches_up).unwrap_or_default();
        schedule.next(slot, (now - within).max(slot))
    }
}

impl Claimed {
    /// Why the slot is not run any more; none if it is.
    pub(in crate::cron) fn missed(&self) -> Option<String> {
        let Start { at, late_seconds, is_first, within, is_past_deadline, catches_up } = self.start;
        if !is_first {
            return None;
        }
        let schedule = Schedule::parse_kept(&self.schedule).ok();
        let next = schedule.as_ref().and_then(|schedule| schedule.next(self.slot, self.slot));
        let rule = match within {
            Some(within) if is_past_deadline => {
                format!("startWithinSeconds is {}", within.num_seconds())
            }
            _ if !catches_up && next.is_some_and(|next| next <= at) => {
                "catchUp is none, and the next slot has come".to_owned()
            }
            _ => return None,
        };
        let instead = schedule.and_then(|it| self.start.slot_instead(&it, self.slot, at));
        let instead = instead.map_or("none follows".to_owned(), |slot| {
            format!("the next to be run is {}", timestamp::text(&slot))
        });
        let slot = timestamp::text(&self.slot);
        Some(format!("not run from {slot} on: {late_seconds:.1} s late, {rule}; {instead}"))
    }
}
