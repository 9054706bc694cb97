//! Errors of the store.

use std::{path::PathBuf, time::Duration};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot use the database of store.database_url: {reason}")]
    Unreachable { reason: String },
    #[error("{} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "{} is damaged: {reason}. It was left as it is. Restore it from a backup, or move receiver.sqlite3 and its -wal and \
         -shm files out of the way to start with an empty one: rooms keep what they show, and what still fires gets a new \
         card with Alertmanager's next notification", path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "cannot commit to the store in {}: {reason}. Nothing could be accepted: look whether its file system is read-only \
         or out of space, and whether the folder and all files in it belong to the receiver's user", path.display()
    )]
    Unusable { path: PathBuf, reason: String },
    #[error("{0}")]
    Database(String),
    #[error("the store did not answer within {0} s")]
    Late(u64),
    #[error("internal error (a panic, logged above); its changes were undone")]
    Panic,
    #[error("the store has stopped")]
    Stopped,
    #[error("another replica leads")]
    NotLeader,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(in_words(&error))
    }
}

/// Reduces an error to the database's own message and code; sqlx wraps them in more than an operator needs.
pub(crate) fn in_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => {
            let advice = match code(error) {
                Some(CORRUPT | NO_DATABASE) => "; the file is damaged; restart for details",
                _ if whole_code(error) == Some(NO_TEMPORARY_FOLDER) => "; no folder for temporary files is writable",
                _ => "",
            };
            match database.code() {
                // PostgreSQL's codes have five characters. Its details may quote rows.
                Some(code) if code.len() == 5 => format!("{} (SQLSTATE {code})", database.message()),
                Some(code) => format!("{} (SQLite code {code}){advice}", database.message()),
                None => database.message().to_owned(),
            }
        }
        other => other.to_string(),
    }
}

/// `SQLITE_FULL`, `SQLITE_CORRUPT`, `SQLITE_NOTADB`, and `SQLITE_IOERR_GETTEMPPATH`.
const FULL: i32 = 13;
const CORRUPT: i32 = 11;
const NO_DATABASE: i32 = 26;
const NO_TEMPORARY_FOLDER: i32 = 6410;

pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(CORRUPT | NO_DATABASE))
}

pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    code(error) == Some(FULL)
}

/// The primary result code, without the higher bits of the extended one.
fn code(error: &sqlx::Error) -> Option<i32> {
    whole_code(error).map(|code| code & 0xff)
}

fn whole_code(error: &sqlx::Error) -> Option<i32> {
    match error {
        sqlx::Error::Database(database) => {
            database.code().filter(|code| code.len() < 5).and_then(|code| code.parse().ok())
        }
        _ => None,
    }
}

pub(crate) fn no_answer(what: &str, after: Duration) -> sqlx::Error {
    let text = format!("the database did not {what} within {} s", after.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// Whether PostgreSQL may have committed although its answer says or shows otherwise.
pub(crate) fn is_unsure(error: &sqlx::Error) -> bool {
    match error {
        // Shut down or restarted by the operator, connection lost in the server's eyes.
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        _ => true,
    }
}

/// Whether the server had hung up before it was asked.
pub(crate) fn is_closed(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() != std::io::ErrorKind::TimedOut,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// Whether a connection can be used after `error`.
pub(crate) fn is_broken(error: &sqlx::Error) -> bool {
    let broken = is_unsure(error);
    if broken {
        tracing::debug!(error = in_words(error), "the connection to the database is given up");
    }
    broken
}

/// Whether an error, in words, is PostgreSQL's of class 53 (no room, or too little of something else).
pub(crate) fn is_without_room(words: &str) -> bool {
    words.contains("(SQLSTATE 53")
}

/// Whether an error, in words, is the database's and not that of one piece of work: besides those of
/// [`is_without_room`], a database that is read-only (25006) or whose disk fails (class 58).
pub(crate) fn concerns_all(words: &str) -> bool {
    is_without_room(words) || words.contains("(SQLSTATE 25006)") || words.contains("(SQLSTATE 58")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_database_concerns_all_and_one_of_a_row_does_not() {
        for (words, all) in [
            ("could not extend file \"base/1/2\": No space left on device (SQLSTATE 53100)", true),
            ("cannot execute INSERT in a read-only transaction (SQLSTATE 25006)", true),
            ("could not read block 3 (SQLSTATE 58030)", true),
            ("duplicate key value violates unique constraint (SQLSTATE 23505)", false),
            ("database or disk is full (SQLite code 13)", false),
        ] {
            assert_eq!(concerns_all(words), all, "{words}");
        }
    }
}
