//! The history: what was asked, what was answered, and between which two instants.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

/// The format of histories that this crate writes, and the only one that it reads.
const VERSION: u32 = 1;

/// One request, as its client saw it. A client that gave up waiting has ended it, too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// Who asked: a connection, a thread, a process. It is shown to people, and decides nothing.
    pub client: u64,
    /// Nanoseconds of the one monotonic clock, at or before the first byte was sent.
    pub begun: u64,
    /// Nanoseconds of the same clock, at or after the last byte of the answer had come.
    pub ended: u64,
    /// What was asked.
    pub request: Request,
    /// What was answered.
    pub answer: Answer,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// One change, or a set of changes of different users, all or none.
    Change {
        /// One for `POST /api/balance`, more for `POST /api/changes`.
        changes: Vec<Amount>,
        /// The idempotency key. That of a single change belongs to its user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// The balance as it is now.
    Read {
        /// Whose.
        user_id: i64,
    },
    /// The balance as a change of the past left it. A list of changes is several of these.
    At {
        /// Whose.
        user_id: i64,
        /// Which change.
        number: i64,
    },
}

/// A change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Whose balance.
    pub user_id: i64,
    /// What is added to it; a withdrawal is negative.
    pub amount: i64,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Answer {
    /// The changes were made; one state for each of them, in their order.
    Changed {
        /// The users' states right after.
        states: Vec<State>,
        /// Whether this is the stored answer to an earlier request.
        #[serde(default)]
        replayed: bool,
    },
    /// Insufficient funds: nothing was changed.
    Refused {
        /// Whose balance does not cover.
        user_id: i64,
        /// The balance that does not cover.
        balance: i64,
        /// Whether this is the stored answer to an earlier request.
        #[serde(default)]
        replayed: bool,
    },
    /// The balance that was asked for.
    Balance {
        /// The balance.
        balance: i64,
        /// Which change left it, where that was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<i64>,
    },
    /// Nothing was changed or read by this request, and nothing will be: any other refusal.
    NotApplied,
    /// A change was made, or will be, or not: no answer, or one that says so.
    Unknown,
}

/// A user's state, as a change left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Whose.
    pub user_id: i64,
    /// The balance.
    pub balance: i64,
    /// How many changes the user has had: the number of the last one.
    pub number: i64,
}

#[derive(Deserialize, Serialize)]
struct Head {
    history: u32,
}

/// Writes the first line of a history.
///
/// # Errors
/// Those of the writer.
pub fn write_head(writer: &mut impl Write) -> io::Result<()> {
    write_line(writer, &Head { history: VERSION })
}

/// Writes a line.
///
/// # Errors
/// Those of the writer.
pub fn write_record(writer: &mut impl Write, record: &Record) -> io::Result<()> {
    write_line(writer, record)
}

fn write_line(writer: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}

/// Reads a whole history; the record at index i stands on line i + 2.
///
/// # Errors
/// A sentence with the number of the first line that is not of this format, or cannot be read.
pub fn read(mut reader: impl BufRead) -> Result<Vec<Record>, String> {
    let (mut records, mut line) = (Vec::new(), String::new());
    for number in 1.. {
        line.clear();
        let at = |error: &dyn std::fmt::Display| format!("line {number}: {error}");
        if reader.read_line(&mut line).map_err(|error| at(&error))? == 0 && number > 1 {
            break;
        }
        if number > 1 {
            records.push(serde_json::from_str(&line).map_err(|error| at(&error))?);
            continue;
        }
        match serde_json::from_str::<Head>(&line) {
            Ok(Head { history: VERSION }) => {}
            _ => return Err(at(&format!("not {{\"history\":{VERSION}}}, with which it begins"))),
        }
    }
    Ok(records)
}
