//! `--history FILE`: every change that is sent, as `loadtest check` reads it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use checker::{Amount, Record, Request, State, write_head, write_record};
use nix::time::{ClockId, clock_gettime};

use crate::client::Answer;
use crate::outcome::{Change, Problem};

/// A history that is being written.
pub(crate) struct History {
    path: String,
    writer: BufWriter<File>,
    /// An instant of CLOCK_MONOTONIC, which all processes of a machine share, between two of this
    /// process. Beginnings count from the later one, and ends from the earlier: so neither is
    /// told better than it was.
    clock: Duration,
    between: (Instant, Instant),
    /// The first thing that went wrong.
    fault: Option<String>,
}

impl History {
    /// Begins a file, in place of what was there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn create(path: &str) -> Result<History, String> {
        let failed = |error: io::Error| format!("--history {path}: {error}");
        let mut writer = BufWriter::new(File::create(path).map_err(failed)?);
        write_head(&mut writer).map_err(failed)?;
        let earlier = Instant::now();
        let clock =
            clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|error| failed(error.into()))?;
        let between = (earlier, Instant::now());
        Ok(History { path: path.to_owned(), writer, clock: clock.into(), between, fault: None })
    }

    /// Notes a change and its answer, which has just come; none if none will.
    pub(crate) fn change(
        &mut self,
        client: usize,
        begun: Instant,
        Change { user_id, amount }: Change,
        answer: Option<&Answer<'_>>,
    ) {
        let answer = answer.map_or(checker::Answer::Unknown, |answer| self.told(user_id, answer));
        let changes = vec![Amount { user_id, amount }];
        self.note(client, begun, Request::Change { changes, key: None }, answer);
    }

    /// Notes a balance that has just been read.
    pub(crate) fn balance(&mut self, begun: Instant, user_id: i64, balance: i64) {
        let answer = checker::Answer::Balance { balance, number: None };
        self.note(0, begun, Request::Read { user_id }, answer);
    }

    /// The file is written.
    ///
    /// # Errors
    /// It is not, or what the service has told is not enough to be checked.
    pub(crate) fn end(mut self) -> Result<(), String> {
        if let Err(error) = self.writer.flush() {
            self.fault(&error.to_string());
        }
        self.fault.map_or(Ok(()), Err)
    }

    fn told(&mut self, user_id: i64, answer: &Answer<'_>) -> checker::Answer {
        if answer.status == 200 {
            if let Ok(state) = serde_json::from_slice::<State>(answer.body) {
                return checker::Answer::Changed { states: vec![state], replayed: false };
            }
            self.fault("a change was answered without its number; is the service an old one?");
            return checker::Answer::Unknown;
        }
        let problem: Option<Problem> = serde_json::from_slice(answer.body).ok();
        let code = problem.as_ref().and_then(|problem| problem.code.as_deref());
        let outcome = problem.as_ref().and_then(|problem| problem.outcome.as_deref());
        match (answer.status, code, problem.as_ref().and_then(|problem| problem.balance)) {
            (409, Some("insufficient_funds"), Some(balance)) => {
                checker::Answer::Refused { user_id, balance, replayed: false }
            }
            (408 | 500.., ..) if outcome != Some("not_applied") => checker::Answer::Unknown,
            _ => checker::Answer::NotApplied,
        }
    }

    fn note(&mut self, client: usize, begun: Instant, request: Request, answer: checker::Answer) {
        let (earlier, later) = self.between;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let begun = nanos(self.clock + begun.saturating_duration_since(later));
        let ended = nanos(self.clock + earlier.elapsed());
        let record = Record { client: client as u64, begun, ended, request, answer };
        if let Err(error) = write_record(&mut self.writer, &record) {
            self.fault(&error.to_string());
        }
    }

    fn fault(&mut self, reason: &str) {
        let path = &self.path;
        self.fault.get_or_insert_with(|| format!("--history {path}: {reason}"));
    }
}
