//! Copies what a stopped receiver's SQLite file holds into PostgreSQL.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, AssertSqlSafe, Executor as _};

use super::{
    advice::{place, with_advice},
    tables::{self, Content, Table, Value},
};
use crate::store::db::statement;
use crate::{
    config::Secret,
    store::{
        StoreError,
        db::{
            database::Database,
            error::in_words,
            meta::WAKES,
            open::{MIGRATIONS, lock_folder},
        },
    },
};

/// Rows and bytes that one statement inserts.
const BATCH_ROWS: usize = 200;
const BATCH_BYTES: usize = 4 << 20;
/// Locks the row that every writer locks first, so that no receiver comes in between. A large store takes its time.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = 0; \
     SET LOCAL idle_in_transaction_session_timeout = 0; SELECT value FROM meta WHERE key = 'seq' FOR UPDATE";
/// A wait for a standby must not end by a timeout.
const COMMIT: &str = "SET LOCAL statement_timeout = 0; COMMIT";
const META: &str = "meta";

/// What was copied, or was there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Rows of each table.
    pub tables: Vec<(String, u64)>,
    /// Characters U+0000, which PostgreSQL does not take, and which became U+FFFD.
    pub replaced: u64,
    /// The database held exactly this already; nothing was written.
    pub was_there: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("there is no store to copy: {} does not exist; store.path names its folder", .0.display())]
    NoStore(PathBuf),
    #[error("the store cannot be read: {0}")]
    Source(StoreError),
    #[error("cannot use the database {place}: {reason}")]
    Target { place: String, reason: String },
    #[error(
        "the receiver {leader} runs on the database {place}: stop all replicas, empty the database (DROP DATABASE, CREATE \
         DATABASE), and copy before the first of them starts"
    )]
    InUse { place: String, leader: String },
    #[error(
        "the database {place} has other content already ({what}): stop all replicas, empty the database (DROP DATABASE, \
         CREATE DATABASE), and copy before the first of them starts"
    )]
    NotEmpty { place: String, what: String },
    #[error("table {0} differs from the original after copying; nothing was kept in the database")]
    Differs(String),
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Source(error)
    }
}

/// Copies the store in `folder` into the database, in one transaction. The file stays as it is, but for its schema, which
/// becomes this version's, as at a start.
///
/// # Errors
/// When a receiver uses either, the database has other content, or something cannot be read or written. Then the database has
/// got nothing but empty tables.
pub async fn copy(folder: &Path, database: &Secret) -> Result<Copied, CopyError> {
    let source = Database::in_folder(folder);
    if let Database::Sqlite(file) = &source
        && !file.is_file()
    {
        return Err(CopyError::NoStore(file.clone()));
    }
    let _alone = lock_folder(folder)?;
    let mut source_connection = source.connect(|options| options).await.map_err(StoreError::from)?;
    source.migrate(&mut source_connection, &MIGRATIONS).await?;
    let tables = tables::of_sqlite(&mut source_connection).await?;

    let target = Target { place: place(database.expose()), database: Database::Postgres(database.clone()) };
    let mut connection = target.database.connect(|options| options).await.map_err(|error| target.fault(&error))?;
    let migrated = target.database.migrate(&mut connection, &MIGRATIONS).await;
    migrated.map_err(|error| target.refused(&error.to_string()))?;
    connection.execute(sqlx::raw_sql(BEGIN)).await.map_err(|error| target.fault(&error))?;
    // Whatever fails from here on ends with the connection, and undoes all.
    let copied = target.fill(&mut connection, &tables, &mut source_connection).await?;
    connection.execute(sqlx::raw_sql(COMMIT)).await.map_err(|error| target.fault(&error))?;
    Ok(copied)
}

/// The database that is filled.
struct Target {
    /// As errors name it.
    place: String,
    database: Database,
}

impl Target {
    fn refused(&self, words: &str) -> CopyError {
        CopyError::Target { place: self.place.clone(), reason: with_advice(words) }
    }

    fn fault(&self, error: &sqlx::Error) -> CopyError {
        self.refused(&in_words(error))
    }

    async fn fill(
        &self,
        connection: &mut AnyConnection,
        tables: &[Table],
        source: &mut AnyConnection,
    ) -> Result<Copied, CopyError> {
        let there = self.contents(connection, tables).await?;
        if let Some(what) = self.other_content(connection, tables, &there).await? {
            let mut replaced = 0;
            let mut original = Vec::new();
            for table in tables {
                original.push(content(source, table, &mut replaced).await?);
            }
            if original == there {
                return Ok(Copied { tables: counted(tables, &there), replaced, was_there: true });
            }
            return Err(match self.leader(connection).await? {
                Some(leader) => CopyError::InUse { place: self.place.clone(), leader },
                None => CopyError::NotEmpty { place: self.place.clone(), what },
            });
        }
        let mut replaced = 0;
        let mut original = Vec::new();
        for table in tables {
            original.push(self.copy_table(connection, table, source, &mut replaced).await?);
        }
        let there = self.contents(connection, tables).await?;
        let differs = tables.iter().zip(original.iter().zip(&there)).find(|(_, (original, copy))| original != copy);
        match differs {
            Some((table, _)) => Err(CopyError::Differs(table.name.clone())),
            None => Ok(Copied { tables: counted(tables, &there), replaced, was_there: false }),
        }
    }

    async fn contents(&self, connection: &mut AnyConnection, tables: &[Table]) -> Result<Vec<Content>, CopyError> {
        let mut contents = Vec::new();
        for table in tables {
            let found = content(connection, table, &mut 0).await;
            contents.push(found.map_err(|error| self.refused(&error.to_string()))?);
        }
        Ok(contents)
    }

    /// What is there beside what a database has whose schema has just been made.
    async fn other_content(
        &self,
        connection: &mut AnyConnection,
        tables: &[Table],
        there: &[Content],
    ) -> Result<Option<String>, CopyError> {
        let mut filled = tables.iter().zip(there).filter(|(table, content)| table.name != META && content.rows > 0);
        if let Some((table, content)) = filled.next() {
            return Ok(Some(format!("{} rows in the table {}", content.rows, table.name)));
        }
        let started = "SELECT count(*) FROM meta WHERE NOT (key = 'seq' AND value = '0')";
        let started: i64 =
            statement::query_scalar(started).fetch_one(connection).await.map_err(|error| self.fault(&error))?;
        Ok((started > 0).then(|| "a receiver was started on it".to_owned()))
    }

    /// Who holds a lease that has not ended.
    async fn leader(&self, connection: &mut AnyConnection) -> Result<Option<String>, CopyError> {
        let sql = format!("SELECT holder FROM lease WHERE until > {}", self.database.now_sql());
        statement::query_scalar(AssertSqlSafe(sql)).fetch_optional(connection).await.map_err(|error| self.fault(&error))
    }

    /// Copies the rows of a table. Returns what they hold, as it was written.
    async fn copy_table(
        &self,
        connection: &mut AnyConnection,
        table: &Table,
        source: &mut AnyConnection,
        replaced: &mut u64,
    ) -> Result<Content, CopyError> {
        let mut content = Content::default();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut rows = statement::query(table.select()).fetch(source);
        while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
            let values = clean(table.values(&row)?, replaced);
            if is_not_the_stores(table, &values) {
                continue;
            }
            content.add(&values);
            bytes += values.iter().map(Value::size).sum::<usize>();
            batch.push(values);
            if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                self.insert(connection, table, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.insert(connection, table, batch).await?;
        }
        Ok(content)
    }

    async fn insert(
        &self,
        connection: &mut AnyConnection,
        table: &Table,
        batch: Vec<Vec<Value>>,
    ) -> Result<(), CopyError> {
        let width = table.columns.len();
        let row = |at: usize| {
            let places: Vec<_> = (1..=width).map(|column| format!("${}", at * width + column)).collect();
            format!("({})", places.join(", "))
        };
        let rows: Vec<_> = (0..batch.len()).map(row).collect();
        // The counter's row is locked, and stays.
        let over = if table.name == META { " ON CONFLICT (key) DO UPDATE SET value = excluded.value" } else { "" };
        let sql = format!("INSERT INTO \"{}\" ({}) VALUES {}{over}", table.name, table.names(), rows.join(", "));
        let mut query = statement::query(AssertSqlSafe(sql));
        for value in batch.into_iter().flatten() {
            query = match value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query.execute(connection).await.map(drop).map_err(|error| self.fault(&error))
    }
}

/// What a table holds, as it is or would be in PostgreSQL.
async fn content(connection: &mut AnyConnection, table: &Table, replaced: &mut u64) -> Result<Content, StoreError> {
    let mut content = Content::default();
    let mut rows = statement::query(table.select()).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let values = clean(table.values(&row)?, replaced);
        if !is_not_the_stores(table, &values) {
            content.add(&values);
        }
    }
    Ok(content)
}

/// Whether a row belongs to the database or to one replica, and not to the store.
fn is_not_the_stores(table: &Table, values: &[Value]) -> bool {
    let (key, value) = match values {
        [Value::Text(Some(key)), Value::Text(Some(value))] if table.name == META => (key.as_str(), value.as_str()),
        _ => return false,
    };
    // A counter that has not counted is there from the beginning on the one, and later on the other.
    let uncounted = (key, value) == ("seq", "0");
    uncounted || key == "shared_session" || key.starts_with(WAKES) || key.starts_with("commit/")
}

/// PostgreSQL takes no U+0000 in a text.
fn clean(mut values: Vec<Value>, replaced: &mut u64) -> Vec<Value> {
    for value in &mut values {
        if let Value::Text(Some(text)) = value
            && text.contains('\0')
        {
            *replaced += text.matches('\0').count() as u64;
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    values
}

fn counted(tables: &[Table], contents: &[Content]) -> Vec<(String, u64)> {
    tables.iter().zip(contents).map(|(table, content)| (table.name.clone(), content.rows)).collect()
}
