//! The pause of everything: while it holds, no replica claims a job. Runs that are open go on.

use chrono::{DateTime, Utc};
use log::info;
use postgres::Row;
use serde::Serialize;

use super::job::Jobs;
use crate::db::{Deadline, Error};
use crate::timestamp;

/// A pause that holds. Its instants are by the database's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Why, as whoever asked for it has said.
    pub reason: String,
    /// When it began.
    #[serde(serialize_with = "timestamp::as_text")]
    pub since: DateTime<Utc>,
    /// When it ends by itself; none if it holds until somebody resumes.
    #[serde(serialize_with = "timestamp::as_text_or_null")]
    pub until: Option<DateTime<Utc>>,
    /// The name of the token by which it was asked for last; none where there are no tokens.
    pub by: Option<String>,
}

/// What somebody asks for who pauses everything.
#[derive(Clone, Debug)]
pub struct NewPause {
    /// Why: 1 to 1,000 characters, none of them NUL.
    pub reason: String,
    /// When the pause shall end by itself, if it shall.
    pub until: Option<DateTime<Utc>>,
}

/// A pause that holds already goes on with what this one says, and has begun when it began.
const PAUSE: &str = "\
insert into cron_pause (reason, until, paused_by)
select $1, $2, $3 where $2::timestamptz is null or $2 > clock_timestamp()
on conflict (is_only) do update
set reason = excluded.reason, until = excluded.until, paused_by = excluded.paused_by,
    since = case when cron_pause.until <= excluded.since then excluded.since
        else cron_pause.since end
returning reason, since, until, paused_by";
const RESUME: &str = "delete from cron_pause";
const PAUSED: &str = "\
select reason, since, until, paused_by from cron_pause
where until is null or until > clock_timestamp()";

impl Jobs {
    /// Pauses everything, or changes what is said of the pause that holds. None if `until` has
    /// passed already: then nothing was changed.
    ///
    /// # Errors
    /// When the database is away, refuses the write, or does not answer by the deadline.
    pub fn pause(
        &self,
        deadline: &Deadline,
        new: &NewPause,
        by: Option<&str>,
    ) -> Result<Option<Pause>, Error> {
        let NewPause { reason, until } = new;
        let row =
            self.db.run(deadline, |session| session.query_opt(PAUSE, &[reason, until, &by]))?;
        Ok(row.as_ref().and_then(read))
    }

    /// Ends the pause, if one holds.
    ///
    /// # Errors
    /// As of [`Jobs::pause`].
    pub fn resume(&self, deadline: &Deadline) -> Result<(), Error> {
        self.db.run(deadline, |session| session.query(RESUME, &[])).map(drop)
    }

    /// The pause that holds; none if none does.
    ///
    /// # Errors
    /// As of [`Jobs::pause`].
    pub fn paused(&self, deadline: &Deadline) -> Result<Option<Pause>, Error> {
        let row = self.db.run(deadline, |session| session.query_opt(PAUSED, &[]))?;
        Ok(row.as_ref().and_then(read))
    }
}

impl Pause {
    /// Logs how the pause has changed since the last poll.
    pub(super) fn tell_change(before: &mut Option<Pause>, now: Option<Pause>) {
        match &now {
            same if same == before => {}
            Some(Pause { reason, since, until, by }) => {
                let since = timestamp::text(since);
                let until = until.as_ref().map_or("resumed".to_owned(), timestamp::text);
                let by = by.as_ref().map(|by| format!(" actor={by}")).unwrap_or_default();
                info!(
                    "event=claims_paused reason={reason:?} since={since} until={until}{by} \
                     hint=\"what runs goes on, and nothing is claimed before the pause ends\""
                );
            }
            None => info!("event=claims_go_on reason=\"the pause has ended\""),
        }
        *before = now;
    }
}

/// The pause in a row whose columns may all be null.
pub(super) fn read(row: &Row) -> Option<Pause> {
    Some(Pause {
        reason: row.get::<_, Option<_>>("reason")?,
        since: row.get("since"),
        until: row.get("until"),
        by: row.get("paused_by"),
    })
}
