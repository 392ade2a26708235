//! Reads who has changed what of a job.

use chrono::{DateTime, Utc};
use postgres::Row;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Jobs;
use super::settings::Settings;
use crate::cron::name::Name;
use crate::db::{Deadline, Error};
use crate::timestamp;

/// A change of a job's settings. A job was created by one without `before`, and deleted by one
/// without `after`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobChange {
    /// Unique. A later change of the same job has a larger id.
    pub id: i64,
    /// When it was made, by the database's clock.
    #[serde(serialize_with = "timestamp::as_text")]
    pub at: DateTime<Utc>,
    /// The name of the token that was shown; none where no token was needed.
    pub by: Option<String>,
    /// The id of the request; none where the job was disabled after the last slot of its schedule.
    pub request_id: Option<String>,
    /// The settings before, as [`Settings`] are written if this build knows all that is in them.
    pub before: Option<Box<RawValue>>,
    /// The settings after.
    pub after: Option<Box<RawValue>>,
}

/// Reads a page of changes, and one more if another page follows. A row without an id says that
/// there is none; `is_known`, whether a job of this name is there, or was.
const CHANGES: &str = "\
select exists (select from cron_jobs where name = $1)
        or exists (select from cron_job_changes where job = $1) as is_known,
    change.*
from (values (1)) as one left join lateral (
    select id, changed_at, changed_by, request_id, before, after from cron_job_changes
    where job = $1 and id < $2 order by id desc limit $3::bigint + 1
) change on true
order by change.id desc";

impl Jobs {
    /// Reads the changes of a job with smaller ids than `before`, newest first: as many as `limit`,
    /// and one more if another page follows. None if there has been no job of this name for as long
    /// as changes are kept.
    ///
    /// # Errors
    /// When the database is away, refuses the query, or does not answer by the deadline.
    pub fn changes(
        &self,
        deadline: &Deadline,
        name: &Name,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Option<Vec<JobChange>>, Error> {
        let before = before.unwrap_or(i64::MAX);
        self.db.run(deadline, |session| {
            let rows = session.query(CHANGES, &[&name.as_str(), &before, &limit])?;
            let is_known = rows.first().is_some_and(|row| row.get("is_known"));
            Ok(is_known.then(|| rows.iter().filter_map(change).collect()))
        })
    }
}

fn change(row: &Row) -> Option<JobChange> {
    let settings = |text: Option<String>| text.and_then(settings);
    Some(JobChange {
        id: row.get::<_, Option<_>>("id")?,
        at: row.get("changed_at"),
        by: row.get("changed_by"),
        request_id: row.get("request_id"),
        before: settings(row.get("before")),
        after: settings(row.get("after")),
    })
}

/// The database has its own order of the members, and its own spacing.
fn settings(text: String) -> Option<Box<RawValue>> {
    let known = serde_json::from_str::<Settings>(&text).and_then(|it| to_raw_value(&it));
    known.or_else(|_| RawValue::from_string(text)).ok()
}
