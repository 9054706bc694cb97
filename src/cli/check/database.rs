//! `check` of the database that replicas share.

use super::report::Report;
use crate::{
    config::Config,
    store::{self, CONNECTIONS_OF_A_REPLICA, DatabaseFacts, SchemaState},
};

/// Versions of PostgreSQL: the oldest that is tested, and the oldest that still gets fixes or nearly so.
const TESTED: i64 = 150_000;
const OLD: i64 = 130_000;
/// How many replicas there should at least be room for: two, and one more while one is replaced.
const REPLICAS: i64 = 3;

/// A line of the report.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Ok(String),
    Note(String),
    Fault(String),
}

/// Notes what can be said without asking.
pub(super) fn understood(config: &Config, report: &mut Report) {
    if config.store.database_url.is_some() {
        report.ok(format!("store: shared in PostgreSQL; this replica is {}", config.store.replica));
    }
}

/// Asks the database.
pub(super) async fn check(config: &Config, report: &mut Report) {
    let Some(url) = &config.store.database_url else { return };
    match store::look(url).await {
        Err(fault) => report.fault(format!("database: {fault}")),
        Ok(facts) => {
            for finding in findings(&facts) {
                match finding {
                    Finding::Ok(line) => report.ok(format!("database: {line}")),
                    Finding::Note(line) => report.note(format!("database: {line}")),
                    Finding::Fault(line) => report.fault(format!("database: {line}")),
                }
            }
        }
    }
}

fn findings(facts: &DatabaseFacts) -> Vec<Finding> {
    let mut found = vec![version(facts)];
    found.extend(writable(facts));
    found.push(schema(facts));
    found.extend(durable(facts));
    found.push(connections(facts));
    found.push(encrypted(facts));
    if facts.pooled {
        found.push(Finding::Ok(
            "through PgBouncer or the like, in transaction mode: replicas see each other's commits within a second"
                .to_owned(),
        ));
    }
    found
}

fn version(facts: &DatabaseFacts) -> Finding {
    let line = format!("{}, PostgreSQL {}", facts.place, facts.version_words);
    match facts.version {
        TESTED.. => Finding::Ok(line),
        OLD..TESTED => Finding::Note(format!("{line}: 15 and newer are tested")),
        _ => Finding::Note(format!("{line}: too old to be sure of -> upgrade it to 15 or newer")),
    }
}

fn writable(facts: &DatabaseFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    if facts.read_only {
        found.push(Finding::Fault(
            "it only reads, so that no alert could be accepted -> name the primary, or let the URL lead to whichever is that"
                .to_owned(),
        ));
    }
    if facts.encoding != "UTF8" {
        found.push(Finding::Fault(format!(
            "its encoding is {} -> make it with ENCODING 'UTF8' TEMPLATE template0",
            facts.encoding
        )));
    }
    found
}

fn schema(facts: &DatabaseFacts) -> Finding {
    let may_not = "the role may not make tables -> let it own the database, or GRANT CREATE ON SCHEMA public";
    match facts.schema {
        SchemaState::Missing | SchemaState::Older if !facts.may_create => Finding::Fault(may_not.to_owned()),
        SchemaState::Missing => Finding::Ok("no tables yet; the first start makes them".to_owned()),
        SchemaState::Older => {
            Finding::Ok("tables of an older version; the next start brings them up to date".to_owned())
        }
        SchemaState::Current => Finding::Ok("the tables are there and up to date".to_owned()),
        SchemaState::Newer => Finding::Note(
            "tables of a newer version, with which this one can work: upgrade the other replicas".to_owned(),
        ),
        SchemaState::TooNew => Finding::Fault(
            "tables of a newer version, with which this one cannot work -> start that version or a newer one"
                .to_owned(),
        ),
    }
}

/// Whether a 200 outlives a crash, and a fail-over.
fn durable(facts: &DatabaseFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    if !facts.fsync {
        found.push(Finding::Fault(
            "fsync is off: accepted alerts are lost when its machine crashes -> set fsync = on".to_owned(),
        ));
    }
    let commit = facts.synchronous_commit.as_str();
    if commit == "off" {
        found.push(Finding::Fault(
            "synchronous_commit is off: accepted alerts are lost when it crashes -> ALTER ROLE … SET synchronous_commit = on"
                .to_owned(),
        ));
    } else if facts.synchronous_standby_names.is_empty() {
        found.push(Finding::Note(
            "no synchronous standby: should it fail over to a standby, what was accepted last may be lost -> set \
             synchronous_standby_names, if it has standbys"
                .to_owned(),
        ));
    } else if matches!(commit, "local" | "remote_write") {
        found.push(Finding::Note(format!(
            "synchronous_commit is {commit}: should it fail over, what was accepted last may be lost -> ALTER ROLE … SET \
             synchronous_commit = on"
        )));
    } else {
        found.push(Finding::Ok(format!(
            "a commit waits for a standby ({}), so that a fail-over loses nothing",
            facts.synchronous_standby_names
        )));
    }
    found
}

fn connections(facts: &DatabaseFacts) -> Finding {
    let (left, each) = (facts.connections_left, CONNECTIONS_OF_A_REPLICA);
    let line = format!("{left} connections for this role, enough for {} replicas of {each} each", left / each);
    match left / each {
        _ if facts.pooled => Finding::Ok(format!("{left} connections for this role, shared by PgBouncer's clients")),
        0 => Finding::Fault(format!("{line} -> raise max_connections or the role's limit, or use PgBouncer")),
        room if room < REPLICAS => Finding::Note(format!("{line}: tight for a rolling update")),
        _ => Finding::Ok(line),
    }
}

fn encrypted(facts: &DatabaseFacts) -> Finding {
    let mode = facts.ssl_mode.as_str();
    match (facts.encrypted || facts.pooled, mode) {
        (_, "verify-full") => Finding::Ok("by TLS, with the server's certificate and name checked".to_owned()),
        (false, _) => Finding::Note(
            "without TLS: alerts and the password's proof cross the network in the clear -> sslmode=verify-full, unless it is \
             this machine's"
                .to_owned(),
        ),
        (true, mode) => Finding::Note(format!(
            "sslmode={mode}: the server's certificate is not fully checked -> sslmode=verify-full, with sslrootcert=FILE for \
             an authority of yours"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> DatabaseFacts {
        DatabaseFacts {
            place: "a@db:5432/receiver".to_owned(),
            version: 170_006,
            version_words: "17.6".to_owned(),
            encoding: "UTF8".to_owned(),
            schema: SchemaState::Current,
            may_create: true,
            read_only: false,
            fsync: true,
            synchronous_commit: "on".to_owned(),
            synchronous_standby_names: "ANY 1 (b, c)".to_owned(),
            connections_left: 97,
            encrypted: true,
            ssl_mode: "verify-full".to_owned(),
            pooled: false,
        }
    }

    /// The worst line about something, as the report would show it.
    fn said(change: impl FnOnce(&mut DatabaseFacts)) -> String {
        let mut facts = good();
        change(&mut facts);
        let lines = findings(&facts).into_iter().filter_map(|finding| match finding {
            Finding::Ok(_) => None,
            Finding::Note(line) => Some(format!("note {line}")),
            Finding::Fault(line) => Some(format!("FAULT {line}")),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_good_database_is_not_warned_of() {
        assert_eq!(said(|_| {}), "");
        assert_eq!(said(|facts| facts.schema = SchemaState::Missing), "");
        assert_eq!(said(|facts| facts.synchronous_commit = "remote_apply".to_owned()), "");
    }

    #[test]
    fn each_fault_is_named_with_what_to_do() {
        type Change = fn(&mut DatabaseFacts);
        let cases: &[(Change, &str)] = &[
            (|facts| facts.version = 140_011, "note a@db:5432/receiver, PostgreSQL 17.6: 15 and newer are tested"),
            (|facts| facts.version = 120_001, "too old to be sure of"),
            (|facts| facts.read_only = true, "FAULT it only reads"),
            (|facts| facts.encoding = "SQL_ASCII".to_owned(), "FAULT its encoding is SQL_ASCII"),
            (|facts| facts.schema = SchemaState::TooNew, "FAULT tables of a newer version"),
            (|facts| facts.schema = SchemaState::Newer, "note tables of a newer version"),
            (|facts| facts.fsync = false, "FAULT fsync is off"),
            (|facts| facts.synchronous_commit = "off".to_owned(), "FAULT synchronous_commit is off"),
            (|facts| facts.synchronous_commit = "local".to_owned(), "note synchronous_commit is local"),
            (|facts| facts.synchronous_standby_names.clear(), "note no synchronous standby"),
            (|facts| facts.connections_left = 7, "FAULT 7 connections for this role, enough for 0 replicas"),
            (|facts| facts.connections_left = 20, "note 20 connections for this role, enough for 2 replicas"),
            (|facts| (facts.encrypted, facts.ssl_mode) = (false, "prefer".to_owned()), "note without TLS"),
            (|facts| facts.ssl_mode = "require".to_owned(), "note sslmode=require"),
        ];
        for (change, expected) in cases {
            let said = said(change);
            assert!(said.contains(expected) && said.lines().count() == 1, "{expected}: {said}");
        }
        let no_right = said(|facts| (facts.schema, facts.may_create) = (SchemaState::Missing, false));
        assert!(no_right.starts_with("FAULT the role may not make tables"), "{no_right}");
        // What is there needs no right to make it.
        assert_eq!(said(|facts| facts.may_create = false), "");
    }
}
