//! The pause of everything: what its requests ask for, and their answers.

use log::info;
use serde::Serialize;

use super::Asked;
use super::call::Call;
use super::command::{Command, refuse_preconditions};
use super::handlers::{Api, Replied};
use super::input::{Fields, Query, read_instant};
use super::problem::Problem;
use super::reply::Reply;
use crate::cron::{NewPause, Pause};

/// The answer to each of these requests: the pause that holds now.
#[derive(Serialize)]
struct Paused {
    pause: Option<Pause>,
}

const REASON_CHARS_MAX: usize = 1_000;

impl Command {
    pub(super) fn pause(call: &Call, _: &str) -> Result<Command, Problem> {
        refuse_preconditions(call)?;
        let mut fields = Fields::parse(call)?;
        let reason = fields.take_text("reason")?.ok_or_else(|| Problem::missing("reason"))?;
        let until = fields.take_text("until")?;
        fields.end()?;
        if reason.trim().is_empty()
            || reason.chars().count() > REASON_CHARS_MAX
            || reason.contains('\0')
        {
            return Err(Problem::must("reason", "say why, in 1 to 1000 characters without NUL"));
        }
        let until = until.map(|text| read_instant("until", &text)).transpose()?;
        Ok(Command::Pause(NewPause { reason, until }))
    }

    pub(super) fn resume(call: &Call, _: &str) -> Result<Command, Problem> {
        refuse_preconditions(call).map(|()| Command::Resume)
    }

    pub(super) fn read_pause(call: &Call, _: &str) -> Result<Command, Problem> {
        Query::parse(call.query()).end().map(|()| Command::ReadPause)
    }
}

impl Api {
    pub(super) fn pause(&self, asked: &Asked<'_>, new: &NewPause) -> Replied {
        let call = asked.call;
        let Some(pause) = self.jobs.pause(asked.deadline, new, call.actor.as_deref())? else {
            let rule = "`until` has passed already, by the database's clock";
            return Err(Problem::invalid_request("until", rule).into());
        };
        let (request_id, by, reason) = (&call.request_id, call.by(), &pause.reason);
        info!("event=all_paused request_id={request_id}{by} reason={reason:?}");
        Ok(Reply::json(200, &Paused { pause: Some(pause) }))
    }

    pub(super) fn resume(&self, asked: &Asked<'_>) -> Replied {
        self.jobs.resume(asked.deadline)?;
        let (request_id, by) = (&asked.call.request_id, asked.call.by());
        info!("event=all_resumed request_id={request_id}{by}");
        Ok(Reply::json(200, &Paused { pause: None }))
    }

    pub(super) fn read_pause(&self, asked: &Asked<'_>) -> Replied {
        Ok(Reply::json(200, &Paused { pause: self.jobs.paused(asked.deadline)? }))
    }
}
