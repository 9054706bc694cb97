//! Why the store could not do it.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
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
    #[error("{0}")]
    Database(String),
    #[error("the store did not answer within {0} s")]
    Late(u64),
    #[error("a panic, which is a bug of the receiver; what caused it was undone")]
    Panic,
    #[error("the store has stopped")]
    Stopped,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(in_words(&error))
    }
}

/// SQLite's own words say what is wrong with the disk; sqlx wraps them in more than an operator needs.
pub(super) fn in_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(database) => {
            let advice = if is_damage(error) { "; the file is damaged, a restart tells more" } else { "" };
            match database.code() {
                Some(code) => format!("{} (SQLite code {code}){advice}", database.message()),
                None => database.message().to_owned(),
            }
        }
        other => other.to_string(),
    }
}

/// `SQLITE_CORRUPT` and `SQLITE_NOTADB`, with what SQLite adds to them in the higher bits.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    let code = match error {
        sqlx::Error::Database(database) => database.code().and_then(|code| code.parse::<i32>().ok()),
        _ => None,
    };
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}
