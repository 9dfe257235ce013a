//! Brings the schema up to date, and refuses databases that it does not understand.

use rusqlite::{Connection, TransactionBehavior};

use crate::OpenError;

/// In order; a database's `user_version` says how many it has seen.
const MIGRATIONS: &[(&str, &str)] =
    &[("0001_core", include_str!("../../../migrations/sqlite/0001_core.sql"))];

/// `WNDL`: how a Windlass database is told from any other.
const APPLICATION_ID: u32 = 0x574e_444c;

fn known() -> u32 {
    MIGRATIONS.len() as u32
}

/// Before anything is written: is this file ours, and do we understand it?
pub(crate) fn refuse_strangers(connection: &Connection) -> Result<(), OpenError> {
    let found = version_of(connection)?;
    let application: u32 = connection.query_row("pragma application_id", [], |row| row.get(0))?;
    let has_tables: bool =
        connection.query_row("select exists (select 1 from sqlite_schema)", [], |row| row.get(0))?;
    if has_tables && application != APPLICATION_ID {
        return Err(OpenError::Foreign);
    }
    if found > known() {
        return Err(OpenError::Newer { found, known: known() });
    }
    Ok(())
}

pub(crate) fn bring_up_to_date(connection: &Connection) -> Result<(), OpenError> {
    let seen = version_of(connection)?;
    for (number, (name, sql)) in (1..).zip(MIGRATIONS).skip(seen as usize) {
        // Each as a whole or not at all: SQLite's schema changes are transactional, its pragmas here, too.
        let transaction = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
        tracing::debug!(migration = name, "The database schema was brought up to date");
    }
    Ok(())
}

/// For those who only look: the schema must be exactly ours.
pub(crate) fn check_current(connection: &Connection) -> Result<(), OpenError> {
    refuse_strangers(connection)?;
    let found = version_of(connection)?;
    if found < known() { Err(OpenError::Older { found, known: known() }) } else { Ok(()) }
}

/// Writes what stands there already: the smallest change that a disk can refuse.
pub(crate) fn write_version(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", version_of(connection)?)
}

fn version_of(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("pragma user_version", [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use windlass_model::EventBody;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_migration_in_order() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations/sqlite");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(files, MIGRATIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    /// The guards in the database name events by code; the model says which codes they must be.
    #[test]
    fn the_codes_in_the_guards_are_those_of_the_model() {
        let codes_named = |index: &str| -> Vec<&'static str> {
            let connection = Connection::open_in_memory().unwrap();
            connection.pragma_update(None, "foreign_keys", true).unwrap();
            bring_up_to_date(&connection).unwrap();
            let sql: String = connection
                .query_row("select sql from sqlite_schema where name = ?1", [index], |row| row.get(0))
                .unwrap();
            let range = sql.split_once("code between ").unwrap().1;
            let mut words = range.split([' ', '\n']);
            let first: i16 = words.next().unwrap().parse().unwrap();
            let last: i16 = words.nth(1).unwrap().parse().unwrap();
            EventBody::KINDS
                .iter()
                .filter(|(code, _)| (first..=last).contains(code))
                .map(|kind| kind.1)
                .collect()
        };
        assert_eq!(codes_named("workflow_run_events_end"), names_where(EventBody::is_terminal));
        assert_eq!(codes_named("workflow_run_events_outcome"), names_where(EventBody::is_outcome));
    }

    /// Names of the events of which this is true, by building one of each.
    fn names_where(is: impl Fn(&EventBody) -> bool) -> Vec<&'static str> {
        let data = r#"{"inputs":null,"session":"00000000-0000-0000-0000-000000000000","reason":"requested","deaths":1,"count":1,
            "error":{"type":"timeout","message":""},"then":{"do":"pause"},"retry":true,"on":"timer",
            "at":"2026-01-01T00:00:00Z","until":"2026-01-01T00:00:00Z","digest":"","action":"reject","name":"","type":"",
            "run_id":"00000000-0000-0000-0000-000000000000","workflow":"","status":"completed","because":"timeout",
            "after":"failed","order":"reverse","steps":[],"found":[],"held_by":[],"assigned":{},"failed":[]}"#;
        let others = r#"{"reason":"need","rule":"","action":"fail",
            "event":"","cause":{"kind":"start"},"is_taken":true,"configuration":[]}"#;
        let bodies = EventBody::KINDS.iter().map(|(code, name)| {
            EventBody::from_stored(*code, data)
                .or_else(|_| EventBody::from_stored(*code, others))
                .unwrap_or_else(|problem| panic!("{name}: {problem}"))
        });
        bodies.filter(|body| is(body)).map(|body| body.name()).collect()
    }
}
