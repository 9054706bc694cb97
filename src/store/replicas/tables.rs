//! What tables the schema has, and their rows, whichever database holds them.

use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, any::AnyRow};

use crate::store::StoreError;
use crate::store::db::statement;

/// The schema's tables that hold nothing of a store: the migrations' own, and who leads.
const NOT_CONTENT: [&str; 3] = ["_sqlx_migrations", "schema_step", "lease"];

/// A table of the schema, as the migrations have made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// Tables whose rows must be there before.
    after: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Value {
    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Number(_) => 8,
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
        }
    }
}

/// All tables with content in an SQLite file, in an order in which foreign keys let them be filled.
pub(super) async fn of_sqlite(connection: &mut AnyConnection) -> Result<Vec<Table>, StoreError> {
    let names: Vec<String> = statement::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut tables = Vec::new();
    for name in names.into_iter().filter(|name| !NOT_CONTENT.contains(&name.as_str())) {
        let rows = statement::query("SELECT name, type FROM pragma_table_info($1) ORDER BY cid");
        let columns =
            rows.bind(name.clone()).fetch_all(&mut *connection).await?.iter().map(column).collect::<Result<_, _>>()?;
        let after = statement::query_scalar("SELECT \"table\" FROM pragma_foreign_key_list($1)");
        let after = after.bind(name.clone()).fetch_all(&mut *connection).await?;
        tables.push(Table { name, columns, after });
    }
    in_order(tables)
}

fn column(row: &AnyRow) -> Result<Column, StoreError> {
    let (name, words): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let kind = match words.as_str() {
        "BIGINT" => Kind::Number,
        "TEXT" => Kind::Text,
        "BLOB" => Kind::Bytes,
        other => {
            return Err(StoreError::Database(format!("column {name} is of the type {other}, which is not copied")));
        }
    };
    Ok(Column { name, kind })
}

/// Puts each table behind those that its foreign keys name.
fn in_order(mut left: Vec<Table>) -> Result<Vec<Table>, StoreError> {
    let mut ordered: Vec<Table> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let is_ready = |table: &Table| {
            table.after.iter().all(|name| *name == table.name || ordered.iter().any(|before| before.name == *name))
        };
        let Some(at) = left.iter().position(is_ready) else {
            return Err(StoreError::Database("foreign keys of the schema form a circle".to_owned()));
        };
        ordered.push(left.remove(at));
    }
    Ok(ordered)
}

impl Table {
    /// The statement that reads all rows.
    pub fn select(&self) -> AssertSqlSafe<String> {
        // Names come from the schema.
        AssertSqlSafe(format!("SELECT {} FROM \"{}\"", self.names(), self.name))
    }

    /// The columns, separated by commas.
    pub fn names(&self) -> String {
        self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
    }

    /// The cells of a row that [`Table::select`] gave.
    pub fn values(&self, row: &AnyRow) -> Result<Vec<Value>, StoreError> {
        let cell = |(at, column): (usize, &Column)| {
            Ok(match column.kind {
                Kind::Number => Value::Number(row.try_get(at)?),
                Kind::Text => Value::Text(row.try_get(at)?),
                Kind::Bytes => Value::Bytes(row.try_get(at)?),
            })
        };
        self.columns.iter().enumerate().map(cell).collect()
    }
}

/// The content of a table, whatever the order of its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub rows: u64,
    sum: u128,
}

impl Content {
    pub fn add(&mut self, row: &[Value]) {
        let mut hash = Sha256::new();
        for value in row {
            let bytes = match value {
                Value::Number(number) => number.map(|number| number.to_be_bytes().to_vec()),
                Value::Text(text) => text.as_ref().map(|text| text.as_bytes().to_vec()),
                Value::Bytes(bytes) => bytes.clone(),
            };
            // Lengths keep "ab", "c" and "a", "bc" apart; nothing is no length.
            hash.update(bytes.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
            hash.update(bytes.unwrap_or_default());
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finalize()[..16]);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(u128::from_be_bytes(half));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::db::{database::Database, open::MIGRATIONS};

    fn table(name: &str, after: &[&str]) -> Table {
        Table { name: name.to_owned(), columns: Vec::new(), after: after.iter().map(|&name| name.to_owned()).collect() }
    }

    #[test]
    fn tables_come_after_those_that_they_name() {
        let tables = vec![table("a", &["c", "a"]), table("b", &[]), table("c", &["b"])];
        let names: Vec<_> = in_order(tables).unwrap().into_iter().map(|table| table.name).collect();
        assert_eq!(names, ["b", "c", "a"]);
        assert!(in_order(vec![table("a", &["b"]), table("b", &["a"])]).is_err());
    }

    /// A table that a migration adds is copied, and so is each column, unless it is named here.
    #[tokio::test]
    async fn every_table_of_the_schema_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::in_folder(folder.path());
        let mut connection = database.connect(|options| options).await.unwrap();
        database.migrate(&mut connection, &MIGRATIONS).await.unwrap();
        let tables = of_sqlite(&mut connection).await.unwrap();
        let mut left_out: Vec<String> =
            statement::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        left_out.retain(|name| tables.iter().all(|table| table.name != *name));
        assert_eq!(left_out, ["_sqlx_migrations", "lease"]);
        let at = |name: &str| tables.iter().position(|table| table.name == name).expect("a table");
        assert!(at("incident") < at("alert") && at("card") < at("op") && at("act") < at("silence"));
        for table in &tables {
            let sql = format!("SELECT count(*) FROM pragma_table_info('{}')", table.name);
            let columns: i64 = statement::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
            assert_eq!(table.columns.len(), usize::try_from(columns).unwrap(), "{}", table.name);
        }
    }

    #[test]
    fn content_is_what_the_rows_hold_in_any_order() {
        let text = |text: &str| Value::Text(Some(text.to_owned()));
        let of = |rows: &[&[Value]]| {
            let mut content = Content::default();
            for row in rows {
                content.add(row);
            }
            content
        };
        let (one, two) = ([text("a"), Value::Number(Some(1))], [text("b"), Value::Number(None)]);
        assert_eq!(of(&[&one, &two]), of(&[&two, &one]));
        assert_ne!(of(&[&one, &one]), of(&[&one]));
        assert_ne!(of(&[&[text("ab"), text("c")]]), of(&[&[text("a"), text("bc")]]));
        assert_ne!(of(&[&[Value::Text(None)]]), of(&[&[text("")]]));
        assert_ne!(of(&[&[Value::Number(Some(0))]]), of(&[&[Value::Number(None)]]));
    }
}
