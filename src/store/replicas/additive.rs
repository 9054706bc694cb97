//! Tests that migrations keep to what docs/UPGRADING.md promises: an old and a new version work beside each other.

use std::collections::BTreeSet;

use crate::store::db::{database::SCHEMA_NEEDS, open::MIGRATIONS};

/// What a migration does that a version from before it could not work with; `None`: it only adds.
fn more_than_adds(sql: &str) -> Option<String> {
    let text: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let (mut tables, mut columns) = (BTreeSet::new(), BTreeSet::new());
    for statement in text.join(" ").split(';') {
        let words: Vec<String> = statement.split_whitespace().map(str::to_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let has = |word: &str| words.iter().any(|known| known.trim_matches(['(', ')', ',']) == word);
        let adds = match words.as_slice() {
            // An index changes how fast a statement is, and never what it does; but for a unique one.
            [] | ["CREATE", "INDEX", ..] => true,
            ["DROP", "INDEX", name] => !is_unique(name),
            ["CREATE", "TABLE", name, ..] => tables.insert((*name).to_owned()),
            // Of a table that it has made: rows of the old version may not be unique, nor does it expect others.
            ["CREATE", "UNIQUE", "INDEX", _, "ON", name, ..] | ["INSERT", "INTO", name, ..] => tables.contains(*name),
            ["ALTER", "TABLE", _, "ADD", "COLUMN", name, ..] => {
                columns.insert((*name).to_owned());
                !has("NOT") || has("DEFAULT")
            }
            // Fills what it has added.
            ["UPDATE", _, "SET", name, "=", ..] => columns.contains(*name),
            _ => false,
        };
        if !adds {
            return Some(words.join(" "));
        }
    }
    None
}

fn is_unique(index: &str) -> bool {
    let made = format!("CREATE UNIQUE INDEX {index} ");
    MIGRATIONS.iter().any(|migration| migration.sql.as_str().to_uppercase().contains(&made))
}

#[test]
fn migrations_after_the_one_that_is_needed_only_add() {
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > SCHEMA_NEEDS) {
        let more = more_than_adds(migration.sql.as_str());
        assert!(
            more.is_none(),
            "migration {} is more than an addition: raise SCHEMA_NEEDS, and see docs/UPGRADING.md: {more:?}",
            migration.version
        );
    }
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
    assert!(newest >= Some(SCHEMA_NEEDS), "SCHEMA_NEEDS names a migration that does not exist");
}

#[test]
fn what_more_than_adds_is_seen() {
    for sql in [
        "-- DROP TABLE a;\nCREATE TABLE b (id TEXT NOT NULL PRIMARY KEY);\nCREATE UNIQUE INDEX b_id ON b (id);",
        "ALTER TABLE op ADD COLUMN a TEXT; ALTER TABLE op ADD COLUMN b BIGINT NOT NULL DEFAULT 0; CREATE INDEX i ON op (a);",
        "DROP INDEX incident_state;",
        "ALTER TABLE op ADD COLUMN a TEXT; UPDATE op SET a = kind; CREATE TABLE c (id TEXT); INSERT INTO c SELECT id FROM op;",
    ] {
        assert_eq!(more_than_adds(sql), None, "{sql}");
    }
    for sql in [
        "DROP TABLE op;",
        "DROP INDEX incident_open;",
        "ALTER TABLE op DROP COLUMN rev;",
        "ALTER TABLE op RENAME COLUMN rev TO revision;",
        "ALTER TABLE op ADD COLUMN a BIGINT NOT NULL;",
        "CREATE UNIQUE INDEX op_rev ON op (rev);",
        "UPDATE op SET kind = 'other';",
        "DELETE FROM note;",
        "INSERT INTO meta VALUES ('a', 'b');",
    ] {
        assert!(more_than_adds(sql).is_some(), "{sql}");
    }
    let seven = MIGRATIONS.iter().find(|migration| migration.version == 7).expect("a migration");
    assert!(more_than_adds(seven.sql.as_str()).is_some_and(|more| more.contains("DROP COLUMN PLAINNESS")));
}
