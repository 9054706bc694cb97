//! Looks at the database without changing anything, for `check --online`.

use std::time::Duration;

use sqlx::{AnyConnection, Executor as _, Row as _, any::AnyRow};
use tokio::time::timeout;

use super::{
    advice::{place, ssl_mode, with_advice},
    session::SESSION,
};
use crate::{
    config::Secret,
    store::db::{
        database::Database,
        error::{in_words, no_answer},
        meta,
        open::MIGRATIONS,
    },
};

/// Connections that one replica opens at most: writer, readers, monitoring, lease, listener.
pub const CONNECTIONS_OF_A_REPLICA: i64 = 8;
/// How long all questions may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often to compare two connections' sessions: others may take the one that was given back.
const TRIES: usize = 3;

/// What the database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one answer of the database")]
pub struct DatabaseFacts {
    /// User, host, port, database; no password.
    pub place: String,
    /// As `server_version_num` says it: 150018.
    pub version: i64,
    pub version_words: String,
    pub encoding: String,
    pub schema: SchemaState,
    /// Whether the role may make tables where they would be made.
    pub may_create: bool,
    /// A standby, or a server that was made read-only.
    pub read_only: bool,
    pub fsync: bool,
    pub synchronous_commit: String,
    pub synchronous_standby_names: String,
    /// How many further connections the role may open, those of running replicas included.
    pub connections_left: i64,
    /// Of the connection as the server sees it.
    pub encrypted: bool,
    /// `sslmode` of the URL.
    pub ssl_mode: String,
    /// Whether two connections of ours are one session of the server's: PgBouncer in transaction mode, or the like.
    pub pooled: bool,
}

/// How the schema compares with this version's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The first start makes it.
    Missing,
    Current,
    /// The next start brings it up to date.
    Older,
    /// A newer version made it, and lets this one work with it.
    Newer,
    /// A newer version made it, and this one cannot work with it.
    TooNew,
}

const FACTS: &str = "SELECT \
     CAST(current_setting('server_version_num') AS BIGINT) AS version, \
     current_setting('server_version') AS version_words, \
     current_setting('server_encoding') AS encoding, \
     coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, \
     pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only, \
     current_setting('fsync') = 'on' AS fsync, \
     current_setting('synchronous_commit') AS synchronous_commit, \
     current_setting('synchronous_standby_names') AS synchronous_standby_names, \
     coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted, \
     to_regclass('schema_step') IS NOT NULL AS has_schema, \
     CAST(current_setting('max_connections') AS BIGINT) \
         - CAST(current_setting('superuser_reserved_connections') AS BIGINT) \
         - CAST(coalesce(current_setting('reserved_connections', true), '0') AS BIGINT) AS most, \
     (SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL AND usename IS DISTINCT FROM current_user) AS others, \
     CAST((SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS BIGINT) AS of_database, \
     CAST((SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS BIGINT) AS of_role";

/// Asks the database.
///
/// # Errors
/// With what is wrong and what may help, naming the place and not the password.
pub async fn look(url: &Secret) -> Result<DatabaseFacts, String> {
    let at = place(url.expose());
    let asked = timeout(TIMEOUT, ask(url, at.clone())).await.unwrap_or_else(|_| Err(no_answer("answer", TIMEOUT)));
    asked.map_err(|error| format!("{at}: {}", with_advice(&in_words(&error))))
}

/// Reads the session that replicas share. It holds a token.
///
/// # Errors
/// As [`look`].
pub async fn look_for_session(url: &Secret) -> Result<Option<String>, String> {
    let read = async {
        let mut connection = Database::Postgres(url.clone()).connect(|options| options).await?;
        let row = one_row(&mut connection, "SELECT to_regclass('meta') IS NOT NULL AS has_meta").await?;
        if row.try_get("has_meta")? { meta::read(&mut connection, SESSION).await } else { Ok(None) }
    };
    let read = timeout(TIMEOUT, read).await.unwrap_or_else(|_| Err(no_answer("answer", TIMEOUT)));
    read.map_err(|error| format!("{}: {}", place(url.expose()), with_advice(&in_words(&error))))
}

async fn ask(url: &Secret, place: String) -> Result<DatabaseFacts, sqlx::Error> {
    let database = Database::Postgres(url.clone());
    let mut connection = database.connect(|options| options).await?;
    let row = one_row(&mut connection, FACTS).await?;
    let schema = if row.try_get("has_schema")? { schema(&mut connection).await? } else { SchemaState::Missing };
    Ok(DatabaseFacts {
        place,
        version: row.try_get("version")?,
        version_words: row.try_get("version_words")?,
        encoding: row.try_get("encoding")?,
        schema,
        may_create: row.try_get("may_create")?,
        read_only: row.try_get("read_only")?,
        fsync: row.try_get("fsync")?,
        synchronous_commit: row.try_get("synchronous_commit")?,
        synchronous_standby_names: row.try_get("synchronous_standby_names")?,
        connections_left: connections_left(&row)?,
        encrypted: row.try_get("encrypted")?,
        ssl_mode: ssl_mode(url.expose()),
        pooled: is_pooled(&database, &mut connection).await?,
    })
}

async fn one_row(connection: &mut AnyConnection, sql: &'static str) -> Result<AnyRow, sqlx::Error> {
    // Without places, so that no statement is prepared.
    let rows = connection.fetch_all(sqlx::raw_sql(sql)).await?;
    rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

fn connections_left(row: &AnyRow) -> Result<i64, sqlx::Error> {
    let (most, others): (i64, i64) = (row.try_get("most")?, row.try_get("others")?);
    let limits: [i64; 2] = [row.try_get("of_database")?, row.try_get("of_role")?];
    // -1: none.
    let limits = limits.into_iter().filter(|limit| *limit >= 0);
    Ok(limits.fold(most - others, i64::min).max(0))
}

async fn schema(connection: &mut AnyConnection) -> Result<SchemaState, sqlx::Error> {
    let row = one_row(connection, "SELECT max(version) AS newest, max(needs) AS needs FROM schema_step").await?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    Ok(compared(row.try_get("newest")?, row.try_get("needs")?, known))
}

fn compared(newest: Option<i64>, needs: Option<i64>, known: i64) -> SchemaState {
    match newest {
        None => SchemaState::Missing,
        Some(newest) if newest == known => SchemaState::Current,
        Some(newest) if newest < known => SchemaState::Older,
        Some(_) if needs.is_some_and(|needs| needs > known) => SchemaState::TooNew,
        Some(_) => SchemaState::Newer,
    }
}

/// A pooler gives the session that one connection has just left to the next that asks.
pub(super) async fn is_pooled(database: &Database, one: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    const SESSION: &str = "SELECT CAST(pg_backend_pid() AS BIGINT) AS session";
    // The second connection may be one too many; the number of those is judged elsewhere.
    let Ok(mut other) = database.connect(|options| options).await else { return Ok(false) };
    for _ in 0..TRIES {
        let session: i64 = one_row(one, SESSION).await?.try_get("session")?;
        if session == one_row(&mut other, SESSION).await?.try_get::<i64, _>("session")? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_compared_with_this_versions() {
        for (newest, needs, expected) in [
            (None, None, SchemaState::Missing),
            (Some(10), Some(10), SchemaState::Current),
            (Some(9), Some(9), SchemaState::Older),
            (Some(11), Some(10), SchemaState::Newer),
            (Some(12), Some(11), SchemaState::TooNew),
        ] {
            assert_eq!(compared(newest, needs, 10), expected, "{newest:?}");
        }
    }
}
