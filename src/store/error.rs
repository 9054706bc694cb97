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
        sqlx::Error::Database(database) => match database.code() {
            Some(code) => format!("{} (SQLite code {code})", database.message()),
            None => database.message().to_owned(),
        },
        other => other.to_string(),
    }
}
