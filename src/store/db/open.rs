//! Opens the store: the folder, its lock, the file, its schema.

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

use super::{
    error::{in_words, is_damage, is_full},
    meta,
    monitoring::{CONNECTIONS, Commits, Shared},
    timeline, writer,
};
use crate::{
    clock::Clock,
    health::Health,
    metrics::Metrics,
    store::{Store, StoreError},
};

pub(crate) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

const READERS: u32 = 3;
/// The size in bytes that the write-ahead log is truncated to after a checkpoint, so that one large batch does not leave
/// it large. The file itself never shrinks, but reuses free pages.
const WAL_BYTES: &str = "16777216";
/// A file of at most this size is checked at start, so that damage shows then and not with a later webhook.
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
        Self::open_as(folder, clock, metrics, health, SqliteConnectOptions::disable_statement_logging).await
    }

    /// Like [`Store::open`], with connection options changed by `adapt`.
    pub(crate) async fn open_as(
        folder: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        adapt: impl FnOnce(SqliteConnectOptions) -> SqliteConnectOptions,
    ) -> Result<Self, StoreError> {
        let lock = lock(folder)?;
        let file = folder.join("receiver.sqlite3");
        let opened = |source: Box<dyn std::error::Error + Send + Sync>| match damage_in(source.as_ref()) {
            Some(reason) => StoreError::Damaged { path: file.clone(), reason },
            None => StoreError::Open { path: file.clone(), source },
        };
        let options = adapt(options(&file));
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(|error| opened(Box::new(error)))?;
        keep_temporary_files(&mut connection, folder).await.map_err(|error| opened(Box::new(error)))?;
        let size = std::fs::metadata(&file).map_or(0, |file| file.len());
        if size <= CHECKED_BYTES {
            let found = check(&mut connection).await.map_err(|error| opened(Box::new(error)))?;
            if let Some(reason) = found {
                return Err(StoreError::Damaged { path: file, reason });
            }
        }
        MIGRATIONS.run(&mut connection).await.map_err(|error| opened(Box::new(error)))?;
        let away = timeline::resume(&mut connection, &clock).await.map_err(|error| opened(Box::new(error)))?;
        if let Err(error) = rehearse(&mut connection).await {
            let reason = in_words(&error);
            // A full disk may get space again, and the writer retries; everything else needs the operator.
            if !is_full(&error) {
                return Err(StoreError::Unusable { path: folder.to_owned(), reason });
            }
            tracing::error!(reason, "the store cannot commit; webhooks are answered 503");
            health.update(|health| health.store_fault = Some(reason));
        }
        let options = options.read_only(true).create_if_missing(false);
        let pool = async |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                // A file does not hang up; asking whether it is there costs as much as most of what is read.
                .test_before_acquire(false)
                .acquire_timeout(BUSY_TIMEOUT)
                .connect_with(options.clone())
                .await
                .map_err(|error| opened(Box::new(error)))
        };
        let (readers, monitoring) = (pool(READERS).await?, pool(CONNECTIONS).await?);
        let (wake, commits) = (watch::Sender::new(0), Commits::default());
        let writer = writer::start(connection, clock.clone(), metrics, health, wake.clone(), commits.clone()).await?;
        let (numbers, overview) = (Shared::default(), Shared::default());
        let (lock, large) = (Arc::new(lock), Arc::new(Semaphore::new(1)));
        let absences = watch::Sender::default();
        let store = Self {
            readers,
            monitoring,
            numbers,
            overview,
            commits,
            writer,
            clock,
            wake,
            absences,
            large,
            away,
            _lock: lock,
        };
        store.ensure_identity().await?;
        Ok(store)
    }

    /// Waits until everything handed to the writer is committed, then closes the file.
    pub async fn close(&self) {
        // The writer last: only the last connection copies the write-ahead log into the file, and readers may not.
        self.readers.close().await;
        self.monitoring.close().await;
        self.writer.close().await;
    }
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(128)
        .pragma("journal_size_limit", WAL_BYTES)
}

/// All of SQLite's temporary files in this process, those of the SDK's stores among them, lie in `folder` from now on. Each
/// transaction of some size needs one, and nobody promises that another folder than `store.path` can be written.
///
/// # Errors
/// When the folder cannot be written.
pub async fn keep_temporary_files_in(folder: &Path) -> Result<(), StoreError> {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().in_memory(true)).await?;
    keep_temporary_files(&mut connection, folder).await?;
    Ok(connection.close().await?)
}

async fn keep_temporary_files(connection: &mut SqliteConnection, folder: &Path) -> Result<(), sqlx::Error> {
    if cfg!(test) {
        // It is the process's, and unit tests have many stores in one, of which each goes with its folder.
        return Ok(());
    }
    // Deprecated, but the only way to set SQLite's variable without unsafe code; the environment's is for the operator.
    let folder = folder.display().to_string().replace('\'', "''");
    let sql = format!("PRAGMA temp_store_directory = '{folder}'");
    // The path is the operator's own.
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// Does what every webhook does: writes a temporary file and commits.
async fn rehearse(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    // More than the cache holds, so that some of it goes to the file.
    const SPILL: &str = "CREATE TEMP TABLE spill (bytes BLOB); PRAGMA temp.cache_size = 1; \
         INSERT INTO spill VALUES (zeroblob(262144)); DROP TABLE spill";
    sqlx::raw_sql(SPILL).execute(&mut *connection).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    meta::write_opened(&mut transaction).await?;
    transaction.commit().await
}

/// Tries in `folder` what the receiver will do in it, with a store of its own that is gone afterwards.
///
/// # Errors
/// What does not work there.
pub async fn probe(folder: &Path) -> Result<(), StoreError> {
    let scratch = folder.join(format!(".check-{}", ulid::Ulid::new()));
    let fault = |source| StoreError::Folder { path: folder.to_owned(), source };
    std::fs::create_dir(&scratch).map_err(fault)?;
    let tried = async {
        let mut connection = SqliteConnection::connect_with(&options(&scratch.join("receiver.sqlite3"))).await?;
        keep_temporary_files(&mut connection, &scratch).await?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| StoreError::Database(error.to_string()))?;
        rehearse(&mut connection).await?;
        Ok(connection.close().await?)
    };
    let tried = tried.await;
    std::fs::remove_dir_all(&scratch).map_err(fault)?;
    tried
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
pub fn lock_folder(folder: &Path) -> Result<File, StoreError> {
    lock(folder)
}

/// Locks the folder: two receivers on one store would send everything twice.
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
