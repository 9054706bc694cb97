//! The least that keeping something costs: one SQLite commit of one row, synced to the same disk.

use std::time::{Duration, Instant};

use sqlx::{
    ConnectOptions as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::harness::process::Scratch;

pub struct Commits {
    connection: SqliteConnection,
    row: Vec<u8>,
    /// After the connection, which uses it.
    _scratch: Scratch,
}

impl Commits {
    /// Of rows of `size` bytes.
    pub async fn of(size: usize) -> Self {
        let scratch = Scratch::new("commits");
        let options = SqliteConnectOptions::new()
            .filename(scratch.join("bare.sqlite3"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = options.connect().await.expect("a database");
        sqlx::query("CREATE TABLE kept (body BLOB NOT NULL)").execute(&mut connection).await.expect("a table");
        Self { connection, row: vec![b'x'; size], _scratch: scratch }
    }

    /// How long one takes.
    pub async fn one(&mut self) -> Duration {
        let started = Instant::now();
        sqlx::query("INSERT INTO kept (body) VALUES ($1)")
            .bind(&self.row)
            .execute(&mut self.connection)
            .await
            .expect("a commit");
        started.elapsed()
    }
}
