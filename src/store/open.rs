//! Opening: the folder, its lock, the file, its schema.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{Semaphore, watch};

use super::{Store, StoreError, error::is_damage, writer};
use crate::{clock::Clock, health::Health, metrics::Metrics};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

const READERS: u32 = 3;
/// The write-ahead log is cut back to this many bytes once it has been copied into the file: one large batch must not
/// leave it large for good. Free pages of the file itself are used again; it is as large as the most it ever held.
const WAL_BYTES: &str = "16777216";
/// A file of at most this size is read through at start, so that damage is told then and not by some later webhook.
const CHECKED_BYTES: u64 = 256 << 20;
/// How long a statement waits for a lock that another process (a backup, say) holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);

impl Store {
    /// Opens the store in `folder`, making both if need be, and starts its writer, which ends when the last handle is
    /// dropped or [`Store::close`] is called.
    ///
    /// # Errors
    /// When the folder cannot be used, another process has it, the file is damaged, or it was made by a newer version.
    pub async fn open(
        folder: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        let lock = lock(folder)?;
        let file = folder.join("receiver.sqlite3");
        let opened = |source: Box<dyn std::error::Error + Send + Sync>| match damage_in(source.as_ref()) {
            Some(reason) => StoreError::Damaged { path: file.clone(), reason },
            None => StoreError::Open { path: file.clone(), source },
        };
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(128)
            .pragma("journal_size_limit", WAL_BYTES)
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(|error| opened(Box::new(error)))?;
        let size = std::fs::metadata(&file).map_or(0, |file| file.len());
        if size <= CHECKED_BYTES {
            let found = check(&mut connection).await.map_err(|error| opened(Box::new(error)))?;
            if let Some(reason) = found {
                return Err(StoreError::Damaged { path: file, reason });
            }
        }
        MIGRATIONS.run(&mut connection).await.map_err(|error| opened(Box::new(error)))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            // A file does not hang up; asking whether it is there costs as much as most of what is read.
            .test_before_acquire(false)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(|error| opened(Box::new(error)))?;
        let wake = watch::Sender::new(0);
        let writer = writer::start(connection, clock.clone(), metrics, health, wake.clone()).await?;
        let large = Arc::new(Semaphore::new(1));
        let store = Self { readers, writer, clock, wake, large, _lock: Arc::new(lock) };
        store.ensure_identity().await?;
        Ok(store)
    }

    /// Waits until everything handed to the writer is committed, then closes the file.
    pub async fn close(&self) {
        // The writer last: only the last connection copies the write-ahead log into the file, and readers may not.
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// What is wrong with the file, if anything is.
async fn check(connection: &mut SqliteConnection) -> Result<Option<String>, sqlx::Error> {
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await?;
    Ok((found != "ok").then(|| found.lines().collect::<Vec<_>>().join(" ")))
}

/// SQLite's words, if one of the errors behind `error` says that the file is damaged.
fn damage_in(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error @ sqlx::Error::Database(database)) = error.downcast_ref::<sqlx::Error>()
            && is_damage(error)
        {
            return Some(database.message().to_owned());
        }
        next = error.source();
    }
    None
}

/// Keeps every receiver out of the store in `folder`, which is made if need be, for as long as the value lives. For
/// commands that change what a receiver relies on.
///
/// # Errors
/// When a receiver runs on it, or the folder cannot be used.
pub fn occupy(folder: &Path) -> Result<File, StoreError> {
    lock(folder)
}

/// Two receivers on one store would send everything twice.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let fault = |source| StoreError::Folder { path: folder.to_owned(), source };
    make_private(folder).map_err(fault)?;
    let path: PathBuf = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(fault(source)),
    }
}

/// The folder holds the account's session: nobody else reads it.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
