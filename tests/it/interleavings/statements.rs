//! The program's own statements, read from its source so that no copy of them can fall behind.

use std::fs;

use crate::tidy::ROOT;

/// A statement and what it is called with.
pub(super) struct Statement {
    pub(super) name: &'static str,
    pub(super) sql: String,
    /// By session, 1 or 2, as text between the parentheses of EXECUTE.
    pub(super) arguments: fn(usize) -> String,
}

impl Statement {
    /// The same with one part of its text replaced.
    pub(super) fn with(&self, part: &str, other: &str) -> Statement {
        assert_eq!(self.sql.matches(part).count(), 1, "{} has not once {part:?}", self.name);
        Statement { sql: self.sql.replace(part, other), ..*self }
    }
}

/// A step of a run, which begins with holding the lease.
pub(super) const STEP: &str = "STEP";
/// A change of somebody else's balance.
pub(super) const NEIGHBOUR: &str = "CHANGE OF THE NEIGHBOUR";

/// A set of two others' balances, under the key of a set of the user's.
pub(super) const OTHERS: &str = "SET OF OTHERS";

/// The text of a constant of the program.
pub(crate) fn text(file: &str, name: &str) -> String {
    let source = fs::read_to_string(format!("{ROOT}/{file}")).expect(file);
    let start = format!("\nconst {name}: &str = \"\\\n");
    let found = source.split_once(&start).and_then(|(_, rest)| rest.split_once("\";\n"));
    let sql = found.unwrap_or_else(|| panic!("{file} has no such constant: {name}")).0;
    // The specification's text ends at a brace, and Rust's escapes are not read here.
    assert!(!sql.contains(['\\', '{', '}']), "{file}: {name} cannot be put into a specification");
    sql.to_owned()
}

/// Every write to a lease and to an open run, and every one by which people steer a job. What the
/// old run does, it does as `old#1` with the token 7 in either session.
pub(super) fn leases() -> Vec<Statement> {
    let lease = |name| text("src/cron/lease.rs", name);
    let offer = |name| text("src/cron/lease/offer.rs", name);
    let mend = |name| text("src/cron/lease/mend.rs", name);
    let job = |name| text("src/cron/job.rs", name);
    let save = |name| text("src/cron/job/save.rs", name);
    let statement = |name, sql, arguments| Statement { name, sql, arguments };
    let after = "insert into trial.steps select 7";
    vec![
        statement("OFFER", offer("OFFER"), |_| {
            "array['quick'], 60, 100, array[1e9], array[now()], 500".to_owned()
        }),
        statement("FREE", offer("FREE"), |_| {
            "1, 'every 1h', clock_timestamp() + interval '1 h'".to_owned()
        }),
        statement("MEND", mend("MEND"), |_| "500".to_owned()),
        statement("MEND_SLOTS", mend("MEND_SLOTS"), |_| {
            "array[1], array[trial.written_at()], array[trial.slot()]".to_owned()
        }),
        statement("CLAIM", text("src/cron/lease/claim.rs", "CLAIM"), |session| {
            format!("array['quick'], 0, 'new#{session}', 'new', 900, array[]::bigint[], 0")
        }),
        statement("RENEW", lease("RENEW"), |_| {
            "array[1], array[7], array['old#1'], 900, array['8']".to_owned()
        }),
        statement("TELL", text("src/cron/lease/tell.rs", "TELL"), |_| {
            "array[1], array[7], array['old#1'], array[0.5], array[1], array[1], array[1], \
             array[1], array[0], array['said']"
                .to_owned()
        }),
        statement(
            STEP,
            format!(
                "with lease as materialized ({}) {after} from lease where is_alive",
                lease("HOLD")
            ),
            |_| "1, 7, 'old#1'".to_owned(),
        ),
        statement("END", text("src/cron/lease/end.rs", "END"), |_| {
            "1, 7, 'old#1', 1, 'every 1h', clock_timestamp() + interval '1 h', false, false, \
             'succeeded', 'done', 1, clock_timestamp(), '9'"
                .to_owned()
        }),
        statement("PATCH", save("CHANGE"), |_| {
            let settings = settings("every 2h", true);
            format!(
                "{settings}, 1, trial.tag(), clock_timestamp() + interval '2 h', 'ci', 'id', ''"
            )
        }),
        statement("PAUSE", save("CHANGE"), |_| {
            format!("{}, 1, trial.tag(), null, 'ci', 'id', ''", settings("every 1h", false))
        }),
        statement("RUN_NOW", job("RUN_NOW"), |_| "'job', null".to_owned()),
        statement("DELETE", job("DELETE"), |_| "'job', null, 'ci', 'id'".to_owned()),
        statement("STOP", job("STOP"), |_| "'job', null, 1".to_owned()),
        statement("CREATE", save("CREATE"), |_| {
            let settings = settings("every 1h", true);
            format!("{settings}, 'job', clock_timestamp() + interval '1 h', 'ci', 'id'")
        }),
    ]
}

/// What CREATE and CHANGE write. A brace would end the step in the specification.
fn settings(schedule: &str, enabled: bool) -> String {
    format!(
        "'quick', jsonb_build_object()::text, '{schedule}', {enabled}, null, null, null, 0, 10, \
         null, 'one', null"
    )
}

/// Every change of a balance. Those with a key are of 61, all others of 60; a set adds as much to
/// the partner's balance as it takes from the user's.
pub(super) fn changes() -> Vec<Statement> {
    let change = |name, constant, arguments| Statement {
        name,
        sql: text("src/balance.rs", constant),
        arguments,
    };
    let set = |name, arguments| Statement {
        name,
        sql: text("src/balance/set.rs", "CHANGE_ALL"),
        arguments,
    };
    vec![
        change("CHANGE -60", "CHANGE", |_| "1, -60, null, null".to_owned()),
        change("CHANGE +60", "CHANGE", |_| "1, 60, null, null".to_owned()),
        change("CHANGE_LOCKED -60", "CHANGE_LOCKED", |_| "1, -60, null, null".to_owned()),
        change("CHANGE_LOCKED +60", "CHANGE_LOCKED", |_| "1, 60, null, null".to_owned()),
        change("CHANGE_ONCE -61", "CHANGE_ONCE", |_| "1, -61, null, null, 'key'".to_owned()),
        change("CHANGE_ONCE +61", "CHANGE_ONCE", |_| "1, 61, null, null, 'key'".to_owned()),
        set("SET -60", |_| "array[1, 3], array[-60, 60], null, null, null".to_owned()),
        set("SET +60", |_| "array[3, 1], array[-60, 60], null, null, null".to_owned()),
        set("SET -61", |_| "array[3, 1], array[61, -61], null, null, 'key'".to_owned()),
        set(OTHERS, |_| "array[4, 5], array[-61, 61], null, null, 'key'".to_owned()),
        change(NEIGHBOUR, "CHANGE", |_| "2, -60, null, null".to_owned()),
    ]
}
