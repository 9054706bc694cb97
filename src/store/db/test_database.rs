//! The database of a unit test: SQLite, or PostgreSQL where the environment names a server. Every folder has its own, which
//! stays the folder's when its store is opened again.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Mutex,
};

use sqlx::{Connection as _, Executor as _};

use super::database::Database;
use crate::config::Secret;

/// URL of a superuser.
const SERVER: &str = "MAR_TEST_DATABASE_URL";

static KNOWN: Mutex<Option<HashMap<PathBuf, Known>>> = Mutex::new(None);

#[derive(Clone, Debug)]
struct Known {
    url: String,
    /// Whether the folder was there; when it is gone afterwards, its test is over.
    was_there: bool,
}

pub(crate) async fn of(folder: &Path) -> Database {
    let Ok(server) = std::env::var(SERVER) else { return Database::in_folder(folder) };
    let known = KNOWN.lock().expect("no panic").get_or_insert_default().get(folder).cloned();
    let url = if let Some(known) = known { known.url } else { make(&server).await };
    let known = Known { url: url.clone(), was_there: folder.exists() };
    KNOWN.lock().expect("no panic").get_or_insert_default().insert(folder.to_owned(), known);
    Database::Postgres(Secret::new(url))
}

/// Databases of tests that are over. A thousand of them take as many times eight megabytes.
fn take_gone() -> Vec<String> {
    let mut known = KNOWN.lock().expect("no panic");
    let known = known.get_or_insert_default();
    for (folder, known) in known.iter_mut() {
        known.was_there |= folder.exists();
    }
    known.extract_if(|folder, known| known.was_there && !folder.exists()).map(|(_, known)| known.url).collect()
}

/// Whether stores of tests are in PostgreSQL, where a file cannot be looked at.
pub(crate) fn is_shared() -> bool {
    std::env::var_os(SERVER).is_some()
}

async fn make(server: &str) -> String {
    let name = format!("test_{}", ulid::Ulid::new().to_string().to_lowercase());
    let mut connection = sqlx::PgConnection::connect(server).await.expect("the server of MAR_TEST_DATABASE_URL");
    for gone in take_gone() {
        let name = gone.rsplit('/').next().expect("a name");
        let sql = format!("DROP DATABASE {name} WITH (FORCE)");
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("dropped");
    }
    let sql = format!("CREATE DATABASE {name}");
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("a database");
    connection.close().await.expect("closed");
    let mut url: url::Url = server.parse().expect("a URL");
    url.set_path(&format!("/{name}"));
    url.to_string()
}
