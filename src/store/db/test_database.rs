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

static KNOWN: Mutex<Option<HashMap<PathBuf, String>>> = Mutex::new(None);

pub(crate) async fn of(folder: &Path) -> Database {
    let Ok(server) = std::env::var(SERVER) else { return Database::in_folder(folder) };
    let known = KNOWN.lock().expect("no panic").get_or_insert_default().get(folder).cloned();
    let url = if let Some(url) = known { url } else { make(&server).await };
    KNOWN.lock().expect("no panic").get_or_insert_default().insert(folder.to_owned(), url.clone());
    Database::Postgres(Secret::new(url))
}

/// Whether stores of tests are in PostgreSQL, where a file cannot be looked at.
pub(crate) fn is_shared() -> bool {
    std::env::var_os(SERVER).is_some()
}

/// Drops the databases of folders that are gone: each takes megabytes.
async fn sweep(connection: &mut sqlx::PgConnection) {
    let gone: Vec<String> = {
        let mut known = KNOWN.lock().expect("no panic");
        let known = known.get_or_insert_default();
        let gone: Vec<PathBuf> = known.keys().filter(|folder| !folder.exists()).cloned().collect();
        gone.iter().filter_map(|folder| known.remove(folder)).collect()
    };
    for url in gone {
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        connection.execute(sqlx::AssertSqlSafe(sql)).await.expect("dropped");
    }
}

async fn make(server: &str) -> String {
    let name = format!("test_{}", ulid::Ulid::new().to_string().to_lowercase());
    let mut connection = sqlx::PgConnection::connect(server).await.expect("the server of MAR_TEST_DATABASE_URL");
    sweep(&mut connection).await;
    let sql = format!("CREATE DATABASE {name}");
    connection.execute(sqlx::AssertSqlSafe(sql)).await.expect("a database");
    connection.close().await.expect("closed");
    let mut url: url::Url = server.parse().expect("a URL");
    url.set_path(&format!("/{name}"));
    url.to_string()
}
