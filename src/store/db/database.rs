//! Which database it is, and all in which the two differ: how to connect, how a transaction of the writer begins and ends,
//! and in which words the schema is made. Every other statement is the same on both.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Once,
    time::Duration,
};

use sqlx::{
    AnyConnection, AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _,
    any::{AnyConnectOptions, AnyPoolOptions},
    sqlite::SqliteConnectOptions,
};
use tokio::time::timeout;

use super::{
    error::{is_closed, no_answer},
    readers::Readers,
    statement::{self, SqlBuilder, forget_statements},
};
use crate::{clock::Mark, config::Secret, model::Timestamp, store::StoreError};

/// How long a statement waits for a lock that another process (a backup, say) holds.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// KiB of pages that the writer keeps: those of one full batch of webhooks, so that none is written before its commit.
const WRITER_CACHE: u32 = 4_096;
/// How long to wait for a connection to PostgreSQL.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// PostgreSQL: how long a statement of ours may take, wait for a lock, or be waited for by the server inside a transaction, so
/// that a replica that was stopped blocks the others for no longer.
const LIMITS: &str = "SET LOCAL lock_timeout = '3s'; SET LOCAL statement_timeout = '3s'; \
     SET LOCAL idle_in_transaction_session_timeout = '3s'";
/// Pages in the write-ahead log from which on SQLite makes the writer copy them after a commit; by then they have been copied
/// beside it, unless that fails.
const WRITER_CHECKPOINT: u32 = 4_000;
/// The size in bytes that the write-ahead log is truncated to after a checkpoint, so that one large batch does not leave
/// it large. The file itself never shrinks, but reuses free pages.
const WAL_BYTES: &str = "16777216";
/// Channels of PostgreSQL's NOTIFY: a room may be behind; the lease was given back; an alert is absent (payload: a number that
/// the process gave itself, and the route).
pub(crate) const WAKE: &str = "mar_wake";
pub(crate) const LEASE: &str = "mar_lease";
pub(crate) const ABSENT: &str = "mar_absent";
/// How long statements that run alone may take.
const ALONE_TIMEOUT: Duration = Duration::from_secs(3);
/// Key of the advisory lock that a migration holds.
const MIGRATING: i64 = 0x6d61_7231;

#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// This file.
    Sqlite(PathBuf),
    /// PostgreSQL at the URL that the secret holds.
    Postgres(Secret),
}

/// Where SQLite keeps the pages that a job or a statement may undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UndoPlace {
    Memory,
    File,
}

/// What the writer's transaction found when it began.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// The store's counter, where other processes may have counted.
    pub seq: Option<i64>,
    /// The time by the database, where several processes share it, and the mark of the store's time.
    pub time: Option<(Timestamp, Option<Mark>)>,
    /// The epoch of whoever leads or led last.
    pub epoch: Option<String>,
}

impl Database {
    /// SQLite in the folder of the store.
    pub fn in_folder(folder: &Path) -> Self {
        Self::Sqlite(folder.join("receiver.sqlite3"))
    }

    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// A statement's expression for the database's own time in milliseconds.
    pub fn now_sql(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// How it is reached. A secret file is read again each time, so that a new password needs no restart.
    pub fn options(&self, read_only: bool) -> Result<AnyConnectOptions, sqlx::Error> {
        install_drivers();
        let url = match self {
            Self::Sqlite(file) => {
                let options = SqliteConnectOptions::new().filename(file).create_if_missing(!read_only);
                options.read_only(read_only).to_url_lossy()
            }
            Self::Postgres(secret) => {
                let mut url = renewed(secret).parse::<url::Url>().map_err(|_| {
                    sqlx::Error::Configuration("store.database_url is not a URL such as postgres://…".into())
                })?;
                // Named statements do not survive a pooler that gives each transaction another session.
                forget_statements();
                if !url.query_pairs().any(|(key, _)| key == "application_name") {
                    url.query_pairs_mut().append_pair("application_name", env!("CARGO_PKG_NAME"));
                }
                url
            }
        };
        Ok(AnyConnectOptions::from_url(&url)?.disable_statement_logging())
    }

    /// Opens a connection for the writer.
    pub async fn connect(
        &self,
        adapt: impl FnOnce(AnyConnectOptions) -> AnyConnectOptions,
    ) -> Result<AnyConnection, sqlx::Error> {
        let options = adapt(self.options(false)?);
        let mut connection = match self {
            Self::Sqlite(_) => options.connect().await?,
            Self::Postgres(_) => timeout(CONNECT_TIMEOUT, options.connect())
                .await
                .map_err(|_| no_answer("connect", CONNECT_TIMEOUT))??,
        };
        self.prepare(&mut connection).await?;
        Ok(connection)
    }

    /// Settings of a connection that no URL can hold.
    async fn prepare(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        if let Self::Sqlite(_) = self {
            // What a webhook may undo is kept in memory: in a file it is three quarters of all that a batch of them writes.
            let settings = format!(
                "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = {WAL_BYTES}; PRAGMA temp_store = MEMORY; \
                 PRAGMA cache_size = -{WRITER_CACHE}; PRAGMA wal_autocheckpoint = {WRITER_CHECKPOINT}",
                BUSY_TIMEOUT.as_millis()
            );
            // Made of literals only.
            connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await?;
        }
        Ok(())
    }

    /// At most `most` connections for reading, or for statements that run alone.
    pub async fn readers(
        &self,
        most: u32,
        read_only: bool,
        adapt: impl FnOnce(AnyConnectOptions) -> AnyConnectOptions,
    ) -> Result<Readers, sqlx::Error> {
        let options = adapt(self.options(read_only)?);
        let pool = AnyPoolOptions::new()
            .max_connections(most)
            // A file does not hang up; asking whether it is there costs as much as most of what is read. On PostgreSQL the
            // beginning of a transaction asks.
            .test_before_acquire(false)
            .acquire_timeout(BUSY_TIMEOUT);
        Ok(match self {
            Self::Sqlite(_) => {
                let pool = pool.after_connect(|connection, _| {
                    let settings = format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis());
                    Box::pin(async move { connection.execute(sqlx::raw_sql(AssertSqlSafe(settings))).await.map(drop) })
                });
                let pool = if read_only { pool.connect_with(options).await? } else { pool.connect_lazy_with(options) };
                Readers::new(pool, None)
            }
            Self::Postgres(_) => {
                // Of one instant, however many statements read it.
                let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {LIMITS}");
                Readers::new(pool.connect_lazy_with(options), Some(begin.into()))
            }
        })
    }

    /// Has SQLite keep what the writer's next transactions may undo in memory or, for large ones, in a file.
    pub async fn keep_undo_in(&self, place: UndoPlace, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        let sql = match (self, place) {
            (Self::Postgres(_), _) => return Ok(()),
            (Self::Sqlite(_), UndoPlace::Memory) => "PRAGMA temp_store = MEMORY",
            (Self::Sqlite(_), UndoPlace::File) => "PRAGMA temp_store = FILE",
        };
        connection.execute(sqlx::raw_sql(sql)).await.map(drop)
    }

    /// Begins the writer's transaction, and the savepoint of its first job. On PostgreSQL it waits for the writers of other
    /// replicas, which lock the counter's row first as well.
    pub async fn begin(&self, connection: &mut AnyConnection) -> Result<Begun, sqlx::Error> {
        match self {
            // Two statements at once: each call costs a trip to the database's thread and back.
            Self::Sqlite(_) => {
                statement::query("BEGIN IMMEDIATE; SAVEPOINT job").execute(connection).await?;
                Ok(Begun::default())
            }
            Self::Postgres(_) => {
                // What was committed while it waited for the lock is seen by the statement after it only.
                let sql = format!(
                    "BEGIN; {LIMITS}; SELECT value FROM meta WHERE key = 'seq' FOR UPDATE; \
                     SELECT (SELECT value FROM meta WHERE key = 'seq') AS seq, \
                     (SELECT value FROM meta WHERE key = 'clock') AS mark, \
                     (SELECT epoch FROM lease WHERE name = 'leader') AS epoch, {} AS wall; SAVEPOINT job",
                    self.now_sql()
                );
                let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await?;
                let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
                let seq: Option<String> = row.try_get("seq")?;
                let mark: Option<String> = row.try_get("mark")?;
                let mark = mark.and_then(|mark| mark.parse().ok());
                Ok(Begun {
                    seq: Some(seq.and_then(|seq| seq.parse().ok()).unwrap_or(0)),
                    time: Some((Timestamp(row.try_get("wall")?), mark)),
                    epoch: row.try_get("epoch")?,
                })
            }
        }
    }

    /// The same where openings come first. They are undone with the transaction: for a savepoint SQLite would copy each page
    /// that they change.
    pub async fn begin_with_openings(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => statement::query("BEGIN IMMEDIATE").execute(connection).await.map(drop),
            Self::Postgres(_) => self.begin(connection).await.map(drop),
        }
    }

    /// Begins the savepoint of the first job after openings.
    pub async fn first_job(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => statement::query("SAVEPOINT job").execute(connection).await.map(drop),
            Self::Postgres(_) => self.next_job(connection).await,
        }
    }

    /// Undoes openings, with which the transaction began, and begins the savepoint of the first job.
    pub async fn undo_openings(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => {
                statement::query("ROLLBACK; BEGIN IMMEDIATE; SAVEPOINT job").execute(connection).await.map(drop)
            }
            Self::Postgres(_) => self.undo_job(connection).await,
        }
    }

    /// Ends the savepoint of a job that succeeded, and begins the next one's.
    pub async fn next_job(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        const NEXT: &str = "RELEASE SAVEPOINT job; SAVEPOINT job";
        match self {
            Self::Sqlite(_) => statement::query(NEXT).execute(connection).await.map(drop),
            Self::Postgres(_) => connection.execute(sqlx::raw_sql(NEXT)).await.map(drop),
        }
    }

    /// Undoes a job. Its savepoint stays, for the next one.
    pub async fn undo_job(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        const UNDO: &str = "ROLLBACK TO SAVEPOINT job";
        match self {
            Self::Sqlite(_) => statement::query(UNDO).execute(connection).await.map(drop),
            Self::Postgres(_) => connection.execute(sqlx::raw_sql(UNDO)).await.map(drop),
        }
    }

    /// Commits the writer's transaction.
    ///
    /// `wake`: of a commit that leaves rooms behind the number of this process, and their addresses or nothing.
    pub async fn commit(&self, connection: &mut AnyConnection, wake: Option<&str>) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => statement::query("COMMIT").execute(connection).await.map(drop),
            Self::Postgres(_) => {
                let notify =
                    wake.map(|words| format!("NOTIFY {WAKE}, '{}'; ", words.replace('\'', "''"))).unwrap_or_default();
                // A commit that waits for a standby must not end by a timeout: PostgreSQL would call it committed although no
                // standby has it.
                let sql = format!("{notify}SET LOCAL statement_timeout = 0; COMMIT");
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
            }
        }
    }

    /// Executes these as a transaction of the writer, in one trip. Only where no other process writes.
    pub async fn commit_all(
        &self,
        connection: &mut AnyConnection,
        mut statements: Vec<SqlBuilder>,
    ) -> Result<(), sqlx::Error> {
        statements.insert(0, SqlBuilder::new("BEGIN IMMEDIATE"));
        self.commit_after(connection, statements).await
    }

    /// Executes these and commits the writer's transaction, in one trip. Only where no other process writes.
    pub async fn commit_after(
        &self,
        connection: &mut AnyConnection,
        statements: Vec<SqlBuilder>,
    ) -> Result<(), sqlx::Error> {
        SqlBuilder::execute_all(statements.into_iter().chain([SqlBuilder::new("COMMIT")]), connection).await
    }

    pub async fn roll_back(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => statement::query("ROLLBACK").execute(connection).await.map(drop),
            Self::Postgres(_) => connection.execute(sqlx::raw_sql("ROLLBACK")).await.map(drop),
        }
    }

    /// Runs statements without places in a short transaction, in one trip, and gives their rows.
    pub async fn run_alone(&self, readers: &Readers, sql: String) -> Result<Vec<sqlx::any::AnyRow>, sqlx::Error> {
        let whole = match self {
            Self::Sqlite(_) => sql,
            Self::Postgres(_) => format!("BEGIN; {LIMITS}; {sql}; COMMIT"),
        };
        let mut tries = readers.pool.options().get_max_connections() + 1;
        loop {
            tries -= 1;
            let mut connection = readers.pool.acquire().await?;
            // Made of literals and of what its caller has cleaned.
            let rows = sqlx::raw_sql(AssertSqlSafe(whole.clone())).fetch_all(&mut *connection);
            match timeout(ALONE_TIMEOUT, rows).await.unwrap_or_else(|_| Err(no_answer("answer", ALONE_TIMEOUT))) {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    // Its transaction may be open, or its answer on the way.
                    drop(connection.detach());
                    // It may be one that the server has closed meanwhile.
                    if tries == 0 || !is_closed(&error) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Brings the schema up to date.
    pub async fn migrate(
        &self,
        connection: &mut AnyConnection,
        migrations: &sqlx::migrate::Migrator,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => {
                migrations.run(connection).await.map_err(|error| StoreError::Database(error.to_string()))
            }
            Self::Postgres(_) => migrate_shared(connection, migrations).await,
        }
    }
}

/// The oldest migration that a version must know to work with this schema. It grows with a migration that takes away or
/// changes what older versions use; see docs/UPGRADING.md.
pub(crate) const SCHEMA_NEEDS: i64 = 12;

/// Every step is a separate transaction, and replicas that start at once wait for each other in each.
async fn migrate_shared(
    connection: &mut AnyConnection,
    migrations: &sqlx::migrate::Migrator,
) -> Result<(), StoreError> {
    const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_step (version BIGINT NOT NULL PRIMARY KEY, \
         description TEXT NOT NULL, checksum TEXT NOT NULL, needs BIGINT NOT NULL)";
    let lock = format!("BEGIN; SET LOCAL lock_timeout = '60s'; SELECT pg_advisory_xact_lock({MIGRATING})");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("{lock}; {TABLE}; COMMIT")))).await?;
    let newest_known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    connection.execute(sqlx::raw_sql("BEGIN")).await?;
    let newest: Option<i64> =
        statement::query_scalar("SELECT max(version) FROM schema_step").fetch_one(&mut *connection).await?;
    let needs: Option<i64> =
        statement::query_scalar("SELECT max(needs) FROM schema_step").fetch_one(&mut *connection).await?;
    connection.execute(sqlx::raw_sql("COMMIT")).await?;
    if newest.is_some_and(|newest| newest > newest_known) && needs.is_some_and(|needs| needs > newest_known) {
        return Err(StoreError::Database(format!(
            "the schema of the database is that of a newer version (step {}, this one knows {newest_known}): start that \
             version or a newer one",
            newest.unwrap_or(0)
        )));
    }
    for migration in migrations.iter() {
        let (version, checksum) = (migration.version, hex::encode(&migration.checksum));
        connection.execute(sqlx::raw_sql(AssertSqlSafe(lock.clone()))).await?;
        let known: Option<String> = statement::query_scalar("SELECT checksum FROM schema_step WHERE version = $1")
            .bind(version)
            .fetch_optional(&mut *connection)
            .await?;
        match known {
            Some(known) if known != checksum => {
                connection.execute(sqlx::raw_sql("ROLLBACK")).await?;
                return Err(StoreError::Database(format!(
                    "step {version} of the database's schema is not this version's"
                )));
            }
            Some(_) => {}
            None => {
                let sql = in_postgres(migration.sql.as_str());
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
                statement::query(
                    "INSERT INTO schema_step (version, description, checksum, needs) VALUES ($1, $2, $3, $4)",
                )
                .bind(version)
                .bind(migration.description.as_ref())
                .bind(checksum)
                .bind(SCHEMA_NEEDS.min(version))
                .execute(&mut *connection)
                .await?;
            }
        }
        connection.execute(sqlx::raw_sql("COMMIT")).await?;
    }
    let counter =
        format!("{lock}; INSERT INTO meta (key, value) VALUES ('seq', '0') ON CONFLICT (key) DO NOTHING; COMMIT");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(counter))).await?;
    Ok(())
}

/// The schema in PostgreSQL's words. Texts are compared by their bytes, as in SQLite, whatever the database's locale.
pub(crate) fn in_postgres(sql: &str) -> String {
    let types = |line: &str| {
        if line.trim_start().starts_with("--") {
            return line.to_owned();
        }
        line.replace(" BLOB", " BYTEA").replace(" TEXT", " TEXT COLLATE \"C\"")
    };
    sql.lines().map(types).collect::<Vec<_>>().join("\n")
}

/// The secret as its file holds it now; the last known one if that cannot be read.
fn renewed(secret: &Secret) -> String {
    const MOST: u64 = 64 * 1024;
    let read = |file: &Path| {
        let mut bytes = Vec::new();
        File::open(file).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
        secret.renewed(bytes).ok()
    };
    secret.file().and_then(read).map_or_else(|| secret.expose().to_owned(), |secret| secret.expose().to_owned())
}

fn install_drivers() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let drivers = &[sqlx::sqlite::any::DRIVER, sqlx::postgres::any::DRIVER];
        if sqlx::any::install_drivers(drivers).is_err() {
            tracing::debug!("database drivers were installed before");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_said_in_postgresqls_words() {
        let sql = "-- TEXT and BLOB\nCREATE TABLE a (\n    b TEXT NOT NULL,\n    c BLOB\n);\nALTER TABLE a ADD COLUMN d TEXT;";
        let expected = "-- TEXT and BLOB\nCREATE TABLE a (\n    b TEXT COLLATE \"C\" NOT NULL,\n    c BYTEA\n);\n\
             ALTER TABLE a ADD COLUMN d TEXT COLLATE \"C\";";
        assert_eq!(in_postgres(sql), expected);
    }
}
