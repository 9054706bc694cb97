//! One database on a server.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AnyConnection, Connection as _};

use super::{PASSWORD, ROLE, program::psql};

/// A database of a test; dropped with the value, whoever still uses it.
#[derive(Debug)]
pub struct Database {
    port: u16,
    name: String,
}

impl Database {
    pub(super) fn create(port: u16, copy_of: Option<&str>, tablespace: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let place = tablespace.map(|name| format!(" TABLESPACE {name}")).unwrap_or_default();
        let from = copy_of.unwrap_or("template0");
        let sql = format!("CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {from}{place}");
        psql(port, "postgres", &sql).unwrap_or_else(|error| panic!("no database was made: {error}"));
        Self { port, name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// For a receiver: as the role that owns it.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same database behind another port: a proxy's, PgBouncer's, a standby's.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{port}/{}", self.name)
    }

    /// A superuser's look into it.
    pub async fn look(&self) -> AnyConnection {
        self.look_at(self.port).await
    }

    /// A superuser's look into the copy that another server has of it.
    pub async fn look_at(&self, port: u16) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let url = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/{}", self.name);
        AnyConnection::connect(&url).await.expect("PostgreSQL lets a superuser in")
    }

    /// A copy of all that is in it by now. Sessions end: a pooler keeps them when their client is gone.
    pub fn copy(&self) -> Self {
        let sql =
            format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'", self.name);
        psql(self.port, "postgres", &sql).unwrap_or_else(|error| panic!("its sessions go on: {error}"));
        Self::create(self.port, Some(&self.name), None)
    }

    /// Puts `copy` in its place, under its name.
    pub fn replace_by(&self, copy: &Self) {
        for sql in [
            format!("DROP DATABASE {} WITH (FORCE)", self.name),
            format!("ALTER DATABASE {} RENAME TO {}", copy.name, self.name),
        ] {
            psql(self.port, "postgres", &sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    /// Statements by the superuser; their rows, columns separated by `|`.
    pub fn sql(&self, sql: &str) -> String {
        psql(self.port, &self.name, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Its server may be gone.
        let _ = psql(self.port, "postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}
