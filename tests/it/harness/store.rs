//! Where the receivers of a run keep what they know: in SQLite, or, with `MAR_TEST_STORE=postgres` or `pgbouncer`, each in a
//! database of the PostgreSQL that all tests share.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::{Database, PgBouncer, Postgres};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    /// PostgreSQL behind PgBouncer in transaction mode.
    PgBouncer,
}

impl Engine {
    /// Of the receivers whose test does not choose one.
    ///
    /// # Panics
    /// When `MAR_TEST_STORE` names none.
    pub fn of_this_run() -> Self {
        match std::env::var("MAR_TEST_STORE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok("pgbouncer") => Self::PgBouncer,
            Ok(other) => panic!("MAR_TEST_STORE={other}: expected sqlite, postgres or pgbouncer"),
        }
    }
}

/// Whether a test of what SQLite alone has (a file that is copied, damaged, locked) can run; says so where it cannot.
pub fn only_sqlite(what: &str) -> bool {
    let here = Engine::of_this_run() == Engine::Sqlite;
    if !here {
        eprintln!("only SQLite: {what}");
    }
    here
}

/// The database of a receiver, which those that are started on the same `store.path` share, as they would a file.
pub(super) fn database_of(store_path: &str) -> Option<(Arc<Database>, String)> {
    static GIVEN: Mutex<Option<HashMap<String, Weak<Database>>>> = Mutex::new(None);
    let engine = Engine::of_this_run();
    if engine == Engine::Sqlite {
        return None;
    }
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let known = given.get(store_path).and_then(Weak::upgrade);
    let database = known.unwrap_or_else(|| {
        let new = Arc::new(Postgres::shared().database());
        given.insert(store_path.to_owned(), Arc::downgrade(&new));
        new
    });
    let url = if engine == Engine::PgBouncer { database.url_at(PgBouncer::shared().port()) } else { database.url() };
    Some((database, url))
}

/// A look into a receiver's store, whatever it is in; statements that both databases take.
#[derive(Debug, Clone)]
pub enum Look {
    /// This file.
    Sqlite(PathBuf),
    Postgres(Arc<Database>),
}

impl Look {
    pub(super) fn at_file(store_path: &Path) -> Self {
        Self::Sqlite(store_path.join("receiver.sqlite3"))
    }

    pub async fn open(&self) -> AnyConnection {
        match self {
            Self::Sqlite(file) => {
                sqlx::any::install_default_drivers();
                let url = format!("sqlite://{}", file.display());
                AnyConnection::connect(&url).await.expect("the store's file")
            }
            Self::Postgres(database) => database.look().await,
        }
    }
}

/// A copy of a stopped receiver's store, as an operator's backup.
#[derive(Debug)]
pub enum Backup {
    /// The files, those that are not there as well.
    Files(Vec<(PathBuf, Option<Vec<u8>>)>),
    Database(Database),
}

impl Look {
    /// Of a receiver that is stopped.
    pub fn backup(&self) -> Backup {
        match self {
            Self::Sqlite(file) => {
                let path = |ending| PathBuf::from(format!("{}{ending}", file.display()));
                let files = ["", "-wal", "-shm"].map(path).into_iter();
                Backup::Files(files.map(|path| (path.clone(), std::fs::read(path).ok())).collect())
            }
            Self::Postgres(database) => Backup::Database(database.copy()),
        }
    }

    /// Puts the copy in its place.
    pub fn restore(&self, backup: Backup) {
        match (self, backup) {
            (Self::Sqlite(_), Backup::Files(files)) => {
                for (path, content) in files {
                    match content {
                        Some(content) => std::fs::write(path, content).expect("restored"),
                        None => drop(std::fs::remove_file(path)),
                    }
                }
            }
            (Self::Postgres(database), Backup::Database(copy)) => database.replace_by(&copy),
            (look, backup) => panic!("{look:?} has no {backup:?}"),
        }
    }

    /// Holds the lock that whoever writes needs, so that nothing can be committed until it is dropped or rolled back.
    pub async fn lock(&self) -> AnyConnection {
        let mut store = self.open().await;
        let sql = match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN; SELECT value FROM meta WHERE key = 'seq' FOR UPDATE",
        };
        store.execute(sqlx::raw_sql(sql)).await.expect("locked");
        store
    }
}
