//! Migrations: the numbered files of `sql/`, compiled into the program. One replica applies them in
//! order, while the others wait.
//!
//! All pending files are applied in one transaction under an advisory lock, so a file that fails
//! leaves nothing behind. An applied file must not be changed: its checksum is compared at every
//! start. A schema newer than the program is only a warning, so that an old replica can restart
//! during a deploy.

mod fault;

use std::time::Duration;

use log::{info, warn};
use postgres::{Client, Transaction};

use crate::db::{Limits, Target};
use crate::shutdown::Signal;
pub use fault::Fault;
use fault::{refused, unreachable};

/// One file of `sql/`.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The file's name, such as `0001_users.sql`; its number gives the order.
    pub name: &'static str,
    /// The file's text: one or more statements.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$(Migration { name: $name, sql: include_str!(concat!("../sql/", $name)) }),*]
    };
}

/// Every file of `sql/`, in order.
pub const MIGRATIONS: &[Migration] = migrations![
    "0001_users.sql",
    "0002_idempotency_keys.sql",
    "0003_cron.sql",
    "0004_sample_jobs.sql",
    "0005_creation_keys.sql",
    "0006_settings_tag.sql",
    "0007_write_instants.sql",
    "0008_numbers.sql",
    "0009_cheaper_rows.sql",
    "0010_jobs.sql",
    "0011_no_earlier_build.sql",
    "0012_bad_ends.sql",
];

/// The pause between two tries to take the lock while another replica holds it.
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// The pause between two tries to reach the database.
const CONNECT_RETRY: Duration = Duration::from_millis(500);
/// The number of the advisory lock, the same in every version: "balanced" in ASCII.
const LOCK: i64 = 0x62616c616e636564;

const CREATE_LIST: &str = "create table if not exists schema_migrations (
    number integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
)";
const LIST: &str = "select number, name, checksum from schema_migrations order by number";
const CHECKSUM: &str = "select encode(sha256(convert_to($1::text, 'UTF8')), 'hex')";
const RECORD: &str = "insert into schema_migrations (number, name, checksum) values ($1, $2, $3)";
/// Lists the rights that this program's statements need and its user lacks. A
/// table that does not exist belongs to another build, and is left out.
const MISSING: &str = "\
select current_user::text as name, string_agg(
    lower(needed.action) || ' in ' || needed.relation, ', ' order by relation, action
) as missing
from (
    select relation, unnest(string_to_array(actions, ' ')) as action
    from (values
        ('users', 'SELECT INSERT UPDATE'),
        ('balance_changes', 'SELECT INSERT'),
        ('idempotency_keys', 'SELECT INSERT UPDATE DELETE'),
        ('creation_keys', 'SELECT INSERT UPDATE DELETE'),
        ('set_keys', 'SELECT INSERT UPDATE DELETE'),
        ('external_ids', 'SELECT INSERT'),
        ('cron_jobs', 'SELECT INSERT UPDATE DELETE'),
        ('cron_runs', 'SELECT INSERT UPDATE DELETE'),
        ('cron_run_lines', 'SELECT INSERT DELETE'),
        ('cron_pause', 'SELECT INSERT UPDATE DELETE'),
        ('cron_job_changes', 'SELECT INSERT DELETE'),
        ('daily_totals', 'SELECT INSERT UPDATE')
    ) as rights (relation, actions)
) as needed
where to_regclass(relation) is not null and not case action
    when 'DELETE' then has_table_privilege(relation, action)
    else has_any_column_privilege(relation, action)
end";
const TRY_LOCK: &str = "select pg_try_advisory_xact_lock($1)";

/// Applies all pending migrations. Waits while the database is away, until `stop` begins.
///
/// # Errors
/// [`Fault::Refused`] with a sentence that says what to do, or [`Fault::Stopped`].
pub fn run_until_done(
    target: &Target,
    migrations: &[Migration],
    stop: &Signal,
) -> Result<(), Fault> {
    let mut told = String::new();
    loop {
        match run(target, migrations, stop) {
            Err(Fault::Unreachable(reason)) if reason != told => {
                warn!("event=migrations_waiting reason={reason:?}");
                told = reason;
            }
            Err(Fault::Away(_) | Fault::Unreachable(_)) => {}
            result => return result,
        }
        if stop.wait_for(CONNECT_RETRY) {
            return Err(Fault::Stopped);
        }
    }
}

/// Applies all pending migrations; waits only while another replica applies them.
///
/// # Errors
/// Any [`Fault`].
pub fn run(target: &Target, migrations: &[Migration], stop: &Signal) -> Result<(), Fault> {
    check_numbers(migrations)?;
    let client = target.open(Limits::FOR_MIGRATIONS, 0);
    let mut client = client.map_err(|error| Fault::Away(error.reason().to_owned()))?;
    let mut waited = false;
    loop {
        let mut transaction = client.transaction().map_err(|error| unreachable(&error))?;
        let row = transaction.query_one(TRY_LOCK, &[&LOCK]).map_err(|error| unreachable(&error))?;
        if row.get(0) {
            apply(&mut transaction, migrations)?;
            transaction.commit().map_err(|error| unreachable(&error))?;
            return may_work(&mut client);
        }
        if !waited {
            info!("event=migrations_waiting reason=\"another replica is applying them\"");
            waited = true;
        }
        transaction.rollback().map_err(|error| unreachable(&error))?;
        if stop.wait_for(LOCK_RETRY) {
            return Err(Fault::Stopped);
        }
    }
}

/// Fails if the program's user lacks a right that the program's statements need.
fn may_work(client: &mut Client) -> Result<(), Fault> {
    let row = client.query_one(MISSING, &[]).map_err(|error| unreachable(&error))?;
    match row.get::<_, Option<String>>("missing") {
        None => Ok(()),
        Some(missing) => Err(Fault::Refused(format!(
            "the user {} lacks the right to {missing}; docs/configuration.md lists what it \
             needs, under \"A user with few rights\"",
            row.get::<_, String>("name")
        ))),
    }
}

/// Checks the numbers in the names, which must be 1, 2, 3 …
fn check_numbers(migrations: &[Migration]) -> Result<(), Fault> {
    for (expected, migration) in (1..).zip(migrations) {
        let number = migration.name.split_once('_').and_then(|(number, _)| number.parse().ok());
        if number != Some(expected) {
            let name = migration.name;
            return Err(Fault::Refused(format!(
                "sql/{name} stands where number {expected:04} belongs: a file of sql/ is missing, \
                 doubled or out of order"
            )));
        }
    }
    Ok(())
}

fn apply(transaction: &mut Transaction<'_>, migrations: &[Migration]) -> Result<(), Fault> {
    let no_list = |error: postgres::Error| {
        refused(
            &error,
            "the list of migrations cannot be read or made; may this user create tables?",
        )
    };
    if !list_exists(transaction).map_err(no_list)? {
        transaction.batch_execute(CREATE_LIST).map_err(no_list)?;
    }
    let applied = transaction.query(LIST, &[]).map_err(no_list)?;
    let applied: Vec<(i32, String, String)> =
        applied.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    for (number, name, _) in &applied {
        if (1..).zip(migrations).all(|(known, _)| known != *number) {
            warn!(
                "event=schema_newer migration={name} hint=\"a newer program has migrated this \
                 database; this one goes on with what it knows\""
            );
        }
    }
    for (number, migration) in (1..).zip(migrations) {
        let checksum: String =
            transaction.query_one(CHECKSUM, &[&migration.sql]).map_err(no_list)?.get(0);
        match applied.iter().find(|(known, ..)| *known == number) {
            Some((_, name, known)) => unchanged(migration, &checksum, name, known)?,
            None => {
                in_order(number, migration, &applied)?;
                execute(transaction, migration)?;
                let recorded = transaction.execute(RECORD, &[&number, &migration.name, &checksum]);
                recorded.map_err(no_list)?;
                info!("event=migration_applied migration={}", migration.name);
            }
        }
    }
    Ok(())
}

/// Asked first, because a migrated database may be read-only, or let its user create no table.
fn list_exists(transaction: &mut Transaction<'_>) -> Result<bool, postgres::Error> {
    let row = transaction.query_one("select to_regclass('schema_migrations') is not null", &[])?;
    Ok(row.get(0))
}

fn unchanged(
    migration: &Migration,
    checksum: &str,
    applied_name: &str,
    applied_checksum: &str,
) -> Result<(), Fault> {
    let name = migration.name;
    if name != applied_name {
        return Err(Fault::Refused(format!(
            "the database was migrated with sql/{applied_name}, and this program has sql/{name} \
             under the same number: restore that file, or use another database"
        )));
    }
    if checksum != applied_checksum {
        return Err(Fault::Refused(format!(
            "sql/{name} was changed after it had been applied (checksum {applied_checksum} then, \
             {checksum} now): restore it, and put the change into a new file"
        )));
    }
    Ok(())
}

/// Fails if this file is pending although a later one was applied.
fn in_order(
    number: i32,
    migration: &Migration,
    applied: &[(i32, String, String)],
) -> Result<(), Fault> {
    match applied.iter().find(|(known, ..)| *known > number) {
        Some((_, later, _)) => Err(Fault::Refused(format!(
            "sql/{later} was applied and sql/{}, which comes before it, was not: the table \
             schema_migrations was edited, or the file was added late; give it the next number",
            migration.name
        ))),
        None => Ok(()),
    }
}

fn execute(transaction: &mut Transaction<'_>, migration: &Migration) -> Result<(), Fault> {
    transaction.batch_execute(migration.sql).map_err(|error| {
        let place = error.as_db_error().and_then(|refusal| match refusal.position() {
            Some(postgres::error::ErrorPosition::Original(offset)) => {
                Some(format!(" at line {}", line_of(migration.sql, *offset)))
            }
            _ => None,
        });
        let place = place.unwrap_or_default();
        refused(&error, &format!("sql/{} fails{place} and was rolled back", migration.name))
    })
}

/// The line of the character at `offset`; both count from 1.
fn line_of(sql: &str, offset: u32) -> usize {
    1 + sql.chars().take(offset.saturating_sub(1) as usize).filter(|c| *c == '\n').count()
}

#[cfg(test)]
mod tests;
