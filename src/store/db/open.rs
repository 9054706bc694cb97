//! Opens the store: the folder, its lock, the file, its schema.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use sqlx::{AnyConnection, Connection as _, Executor as _, any::AnyConnectOptions, sqlite::SqliteConnectOptions};
use tokio::sync::{Semaphore, watch};

use super::{
    checkpoints::WriteAheadLog,
    clean_stop,
    database::Database,
    error::{in_words, is_damage, is_full},
    meta,
    monitoring::{CONNECTIONS, Commits, Shared, Watching},
    timeline,
    wakes::Wakes,
    writer,
};
use crate::store::db::statement;
use crate::{
    clock::Clock,
    config,
    health::Health,
    metrics::Metrics,
    store::{Store, StoreError, incidents::met::MetGroups, replicas::advice::with_advice},
};

pub(crate) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

const READERS: u32 = 3;
/// A file of at most this size is checked at start unless it was closed as it is, so that damage shows then and not with a later
/// webhook.
const CHECKED_BYTES: u64 = 256 << 20;

impl Store {
    /// Opens the store that the config describes, and starts its writer, which ends when the last handle is dropped or
    /// [`Store::close`] is called. A database that is not there can be tried again.
    ///
    /// # Errors
    /// When the folder cannot be used, another process has it, the file is damaged, the database cannot be reached, or it
    /// was made by a newer version.
    pub async fn open_as_configured(
        config: &config::Store,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        let database = match &config.database_url {
            Some(url) => Database::Postgres(url.clone()),
            None => Database::in_folder(&config.path),
        };
        let place = Place { folder: &config.path, database, replica: &config.replica };
        Self::open_place(place, clock, metrics, health, |options| options).await
    }

    /// Opens the SQLite store in `folder`, making both if need be.
    ///
    /// # Errors
    /// As for [`Store::open_as_configured`].
    pub async fn open(
        folder: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Result<Self, StoreError> {
        Self::open_as(folder, clock, metrics, health, |options| options).await
    }

    /// Like [`Store::open`], with connection options changed by `adapt`.
    pub(crate) async fn open_as(
        folder: &Path,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        adapt: impl Fn(AnyConnectOptions) -> AnyConnectOptions,
    ) -> Result<Self, StoreError> {
        #[cfg(test)]
        let database = super::test_database::of(folder).await;
        #[cfg(not(test))]
        let database = Database::in_folder(folder);
        let place = Place { folder, database, replica: "test" };
        Self::open_place(place, clock, metrics, health, adapt).await
    }

    async fn open_place(
        place: Place<'_>,
        clock: Clock,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        adapt: impl Fn(AnyConnectOptions) -> AnyConnectOptions,
    ) -> Result<Self, StoreError> {
        let Place { folder, database, replica } = place;
        let lock = lock(folder)?;
        let opened = |source: Box<dyn std::error::Error + Send + Sync>| database.open_fault(source);
        let is_as_closed = is_as_closed(&lock, &database);
        let mut connection = database.connect(&adapt).await.map_err(|error| opened(Box::new(error)))?;
        if let Database::Sqlite(file) = &database {
            keep_temporary_files(&mut connection, folder).await.map_err(|error| opened(Box::new(error)))?;
            let size = std::fs::metadata(file).map_or(0, |file| file.len());
            if size <= CHECKED_BYTES && !is_as_closed {
                let found = check(&mut connection).await.map_err(|error| opened(Box::new(error)))?;
                if let Some(reason) = found {
                    return Err(StoreError::Damaged { path: file.clone(), reason });
                }
            }
        }
        database.migrate(&mut connection, &MIGRATIONS).await.map_err(|error| opened(Box::new(error)))?;
        let away =
            timeline::resume(&mut connection, &database, &clock).await.map_err(|error| opened(Box::new(error)))?;
        if let Database::Sqlite(_) = &database
            && let Err(error) = rehearse(&mut connection).await
        {
            let reason = in_words(&error);
            // A full disk may get space again, and the writer retries; everything else needs the operator.
            if !is_full(&error) {
                return Err(StoreError::Unusable { path: folder.to_owned(), reason });
            }
            tracing::error!(reason, "the store cannot commit; webhooks are answered 503");
            health.update(|health| health.store_fault = Some(reason));
        }
        let pool = async |connections, read_only| {
            database.readers(connections, read_only, &adapt).await.map_err(|error| opened(Box::new(error)))
        };
        let (readers, monitoring) = (pool(READERS, true).await?, pool(CONNECTIONS, true).await?);
        let (lease, checkpoints) = (pool(1, false).await?, pool(1, false).await?);
        let (log, watching) = (WriteAheadLog::default(), Watching::default());
        if let Database::Sqlite(_) = &database {
            log.copy_when_due(checkpoints.clone(), watching.token());
        }
        let (wakes, commits, process) = (Wakes::default(), Commits::default(), rand::random());
        let writer = writer::start(writer::Parts {
            database: database.clone(),
            connection,
            replica: replica.to_owned(),
            clock: clock.clone(),
            metrics,
            health,
            wakes: wakes.clone(),
            commits: commits.clone(),
            log,
            process,
        });
        let writer = writer.await?;
        let (numbers, overview) = (Shared::default(), Shared::default());
        let (lock, large) = (Arc::new(lock), Arc::new(Semaphore::new(1)));
        let (absences, leases) = (watch::Sender::default(), watch::Sender::new(0));
        let store = Self {
            database,
            readers,
            monitoring,
            lease,
            checkpoints,
            numbers,
            overview,
            commits,
            met: MetGroups::default(),
            writer,
            clock,
            wakes,
            leases,
            absences,
            large,
            process,
            away,
            watching,
            lock,
        };
        store.ensure_identity().await?;
        if store.is_shared() {
            store.watch_others(replica, store.watching.token());
        }
        Ok(store)
    }

    /// Waits until everything handed to the writer is committed, then closes the file.
    pub async fn close(&self) {
        // The writer last: only the last connection copies the write-ahead log into the file, and readers may not.
        self.watching.end();
        self.lease.close().await;
        self.checkpoints.close().await;
        self.readers.close().await;
        self.monitoring.close().await;
        self.writer.close().await;
        if let Database::Sqlite(file) = &self.database
            && let Err(error) = clean_stop::note(&self.lock, file)
        {
            tracing::debug!(%error, "the next start checks the store");
        }
    }
}

/// Whether nobody has touched the file since a receiver closed it.
fn is_as_closed(lock: &File, database: &Database) -> bool {
    match database {
        Database::Sqlite(file) => clean_stop::take(lock, file).unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot tell how the store was closed");
            false
        }),
        Database::Postgres(_) => false,
    }
}

/// Where a store is.
struct Place<'a> {
    /// It is locked, whichever database it is.
    folder: &'a Path,
    database: Database,
    replica: &'a str,
}

impl Database {
    fn open_fault(&self, source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
        match self {
            Self::Sqlite(file) => match damage_in(source.as_ref()) {
                Some(reason) => StoreError::Damaged { path: file.clone(), reason },
                None => StoreError::Open { path: file.clone(), source },
            },
            Self::Postgres(_) => {
                let words = source.downcast_ref::<sqlx::Error>().map(in_words);
                StoreError::Unreachable { reason: with_advice(&words.unwrap_or_else(|| source.to_string())) }
            }
        }
    }
}

/// All of SQLite's temporary files in this process, those of the SDK's stores among them, lie in `folder` from now on.
/// Large transactions need one, and nobody promises that another folder than `store.path` can be written.
///
/// # Errors
/// When the folder cannot be written.
pub async fn keep_temporary_files_in(folder: &Path) -> Result<(), StoreError> {
    let mut connection = sqlx::SqliteConnection::connect_with(&SqliteConnectOptions::new().in_memory(true)).await?;
    if let Some(sql) = temporary_folder(folder) {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    Ok(connection.close().await?)
}

async fn keep_temporary_files(connection: &mut AnyConnection, folder: &Path) -> Result<(), sqlx::Error> {
    let Some(sql) = temporary_folder(folder) else { return Ok(()) };
    statement::query(sqlx::AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// The path is the operator's own.
fn temporary_folder(folder: &Path) -> Option<String> {
    // It is the process's, and unit tests have many stores in one, of which each goes with its folder.
    if cfg!(test) {
        return None;
    }
    // Deprecated, but the only way to set SQLite's variable without unsafe code; the environment's is for the operator.
    let folder = folder.display().to_string().replace('\'', "''");
    Some(format!("PRAGMA temp_store_directory = '{folder}'"))
}

/// Does what webhooks and pruning do: writes a temporary file and commits.
async fn rehearse(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    // More than the cache holds, so that some of it goes to the file.
    const SPILL: &str = "PRAGMA temp_store = FILE; CREATE TEMP TABLE spill (bytes BLOB); PRAGMA temp.cache_size = 1; \
         INSERT INTO spill VALUES (zeroblob(262144)); DROP TABLE spill; PRAGMA temp_store = MEMORY";
    connection.execute(sqlx::raw_sql(SPILL)).await?;
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
        let database = Database::in_folder(&scratch);
        let mut connection = database.connect(|options| options).await?;
        keep_temporary_files(&mut connection, &scratch).await?;
        database.migrate(&mut connection, &MIGRATIONS).await?;
        rehearse(&mut connection).await?;
        Ok(connection.close().await?)
    };
    let tried = tried.await;
    std::fs::remove_dir_all(&scratch).map_err(fault)?;
    tried
}

/// What is wrong with the file, if anything is.
async fn check(connection: &mut AnyConnection) -> Result<Option<String>, sqlx::Error> {
    let found: String = statement::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await?;
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
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(fault)?;
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
