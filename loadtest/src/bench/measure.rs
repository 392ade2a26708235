//! What a bench sends and counts: a warm-up that is left out, then all that counts.
//! Without a schedule the next request is due when a connection is free.

use std::time::{Duration, Instant};

use super::Options;
use super::open_loop::{Kept, Schedule};
use super::people::People;
use super::series::{Second, Series};
use super::traffic::{Free, Next, Script};
use crate::client::{Answer, Request, Target, quoted_key};
use crate::history::History;
use crate::outcome::{Change, Failure, Outcome};
use crate::process;
use crate::random::Random;
use crate::report::{ErrorCount, Figures, Tally, grouped};

/// Room for this many answers a second is made before, so that making it stops nothing.
const ANSWERS_PER_SECOND: u64 = 20_000;
/// 16 MB of latencies are made room for at most; what is beyond is made room for while it runs.
const ANSWERS_MAX: u64 = 4_000_000;

/// The script of a bench.
pub(super) struct Measure<'a> {
    requests: Vec<Request>,
    people: &'a People,
    turns: Vec<Turn>,
    amount: Option<i64>,
    random: Random,
    /// Nothing: no keys. Otherwise what tells this run's keys from any other's.
    key_run: Option<u64>,
    keys_sent: u64,
    key: Vec<u8>,
    /// From here on it counts.
    begin: Instant,
    end: Instant,
    last: Instant,
    /// Of an open loop.
    schedule: Option<Schedule>,
    cpu_seconds_before: Option<f64>,
    warmup: Tally,
    tally: Tally,
    series: Series,
    history: Option<History>,
}

/// What a connection is at.
struct Turn {
    change: Change,
    begun: Instant,
    counts: bool,
}

/// What came of it.
pub(super) struct Measured {
    pub(super) figures: Figures,
    pub(super) series: Vec<Second>,
    pub(super) warmup_requests: u64,
    /// Failures of the warm-up, each kind in a sentence.
    pub(super) warmup_faults: Vec<String>,
    /// What is wrong with the history.
    pub(super) history_fault: Option<String>,
    /// Of an open loop.
    pub(super) kept: Option<Kept>,
}

impl<'a> Measure<'a> {
    /// The clock starts now.
    pub(super) fn new(
        options: &Options,
        targets: &[Target],
        people: &'a People,
        history: Option<History>,
    ) -> Measure<'a> {
        let token = options.token.as_deref();
        let mut random = Random::new();
        let room = (options.duration.as_secs() * ANSWERS_PER_SECOND).min(ANSWERS_MAX);
        // The first change of a connection is the other way round: it starts with +1.
        let before_first = Change { user_id: 0, amount: -1 };
        let start = Instant::now();
        let turns = (0..options.connections)
            .map(|_| Turn { change: before_first, begun: start, counts: false })
            .collect();
        let key_run = options.keys.then(|| random.next());
        let begin = start + options.warmup;
        let end = begin + options.duration;
        Measure {
            schedule: options
                .rate
                .map(|rate| Schedule::new(rate, options.timeout, start, begin..end)),
            requests: targets
                .iter()
                .map(|target| Request::new(target, token, "POST", "/api/balance"))
                .collect(),
            people,
            turns,
            amount: options.amount,
            random,
            key_run,
            keys_sent: 0,
            key: Vec::new(),
            begin,
            end,
            last: begin,
            cpu_seconds_before: None,
            warmup: Tally::default(),
            tally: Tally::with_capacity(usize::try_from(room).unwrap_or_default()),
            series: Series::new(begin),
            history,
        }
    }

    /// Sums up. The CPU time is that since the warm-up.
    pub(super) fn end(self) -> Measured {
        let cpu_seconds = process::cpu_seconds() - self.cpu_seconds_before.unwrap_or_default();
        // A rate may be more than the servers can do from the first second on.
        let wrong = |error: &ErrorCount| !(error.shed && self.schedule.is_some());
        let warmup_faults = self.warmup.errors().into_iter().filter(wrong).map(|error| {
            let (count, kind) = (grouped(error.count), error.kind);
            format!("failed in the warm-up: {count} × {kind}, e.g. {}", error.example)
        });
        Measured {
            warmup_faults: warmup_faults.collect(),
            history_fault: self.history.and_then(|history| history.end().err()),
            kept: self.schedule.map(Schedule::end),
            warmup_requests: self.warmup.requests(),
            figures: self.tally.figures(self.last - self.begin, cpu_seconds),
            series: self.series.end(),
        }
    }
}

impl Script for Measure<'_> {
    fn next(&mut self, number: usize, free: Free, request: &mut Vec<u8>) -> Next {
        let due = self.next_due().unwrap_or(free.now);
        if due >= self.end {
            return Next::End;
        }
        if due > free.now {
            return Next::Wait;
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.leave(free);
        }
        let turn = &mut self.turns[number];
        (turn.begun, turn.counts) = (free.now, due >= self.begin);
        if turn.counts && self.cpu_seconds_before.is_none() {
            self.cpu_seconds_before = Some(process::cpu_seconds());
        }
        let user_id = match self.people.ids.as_slice() {
            [only] => *only,
            ids => ids[self.random.below(ids.len())],
        };
        turn.change = Change { user_id, amount: self.amount.unwrap_or(-turn.change.amount) };
        if let Some(run) = self.key_run {
            self.keys_sent += 1;
            quoted_key(&mut self.key, run, self.keys_sent);
        }
        let Change { user_id, amount } = turn.change;
        let of_target = number % self.requests.len();
        self.requests[of_target].write_change(request, &self.key, user_id, amount);
        Next::Send(due)
    }

    fn next_due(&self) -> Option<Instant> {
        self.schedule.as_ref().map(Schedule::next)
    }

    fn ended(
        &mut self,
        number: usize,
        due: Instant,
        now: Instant,
        result: Result<&Answer<'_>, Failure>,
    ) {
        let turn = &self.turns[number];
        let tally = if turn.counts { &mut self.tally } else { &mut self.warmup };
        if let Some(history) = &mut self.history {
            history.change(number, turn.begun, turn.change, result.as_ref().ok().copied());
        }
        let result = result.and_then(|answer| {
            tally.add_server(answer.served_by);
            Outcome::judge(turn.change, answer)
        });
        let answered = tally.add(&result, now - due);
        if turn.counts && answered {
            self.series.add(now, now - due);
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.came(&result, now, (now - due, turn.counts));
        }
        if turn.counts {
            self.last = now;
        }
    }

    fn so_far(&self) -> String {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.begin);
        if since == Duration::ZERO {
            return format!("warm-up: {} answers", grouped(self.warmup.answers()));
        }
        let seconds = since.as_secs_f64();
        let (answers, failed) = (self.tally.answers(), self.tally.failed());
        format!(
            "{seconds:.0} s of {} s: {} answers, {}/s, {} failed",
            (self.end - self.begin).as_secs(),
            grouped(answers),
            grouped((answers as f64 / seconds) as u64),
            grouped(failed),
        )
    }
}
