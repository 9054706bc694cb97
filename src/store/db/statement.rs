//! How statements are made: with values in places that have numbers, and without names on PostgreSQL, where a pooler may
//! give each transaction another session.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

use sqlx::{
    Any, AnyConnection, Arguments as _, AssertSqlSafe, Database as _, Encode, FromRow, SqlSafeStr, Type,
    any::{AnyArguments, AnyRow},
    query::{Query, QueryScalar},
};

/// Whether the database keeps statements under names, so that each is parsed once.
static NAMED: AtomicBool = AtomicBool::new(true);

/// From now on no statement of this process is kept.
pub(crate) fn forget_statements() {
    NAMED.store(false, Ordering::Relaxed);
}

fn named() -> bool {
    NAMED.load(Ordering::Relaxed)
}

pub(crate) fn query(sql: impl SqlSafeStr) -> Query<'static, Any, AnyArguments> {
    sqlx::query(sql).persistent(named())
}

pub(crate) fn query_scalar<O>(sql: impl SqlSafeStr) -> QueryScalar<'static, Any, O, AnyArguments>
where
    (O,): for<'r> FromRow<'r, AnyRow>,
{
    sqlx::query_scalar(sql).persistent(named())
}

/// A statement with lists of values. sqlx's own builder writes `?` for a value with the `Any` driver, which PostgreSQL does
/// not take.
pub(crate) struct SqlBuilder {
    sql: String,
    arguments: AnyArguments,
    places: usize,
    /// Whether places have numbers. SQLite looks through all of them for each value, so that those of 30 alerts cost it as
    /// much as writing the alerts.
    is_numbered: bool,
}

impl SqlBuilder {
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), arguments: AnyArguments::default(), places: 0, is_numbered: !named() }
    }

    /// Appends a part of the statement, which is never a value.
    pub fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Appends a place, and the value for it.
    pub fn push_bind<'t, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'t, Any> + Type<Any>,
    {
        // Texts and numbers are always taken; a place without its value would make the statement fail.
        drop(self.arguments.add(value));
        self.places += 1;
        if self.is_numbered {
            let _ = write!(self.sql, "${}", self.places);
        } else {
            self.sql.push('?');
        }
        self
    }

    /// Appends the values with commas between them and the bracket that ends the list.
    pub fn push_list<'t, T>(&mut self, values: impl IntoIterator<Item = T>) -> &mut Self
    where
        T: Encode<'t, Any> + Type<Any>,
    {
        for (n, value) in values.into_iter().enumerate() {
            self.push(if n == 0 { "" } else { ", " }).push_bind(value);
        }
        self.push(")")
    }

    /// The same for a list that a value may be in twice: SQLite, which keeps statements, shall know but a few lengths.
    pub fn push_padded(&mut self, mut values: Vec<&str>) -> &mut Self {
        if let (Some(last), false) = (values.last().copied(), self.is_numbered) {
            values.resize(values.len().next_power_of_two(), last);
        }
        self.push_list(values)
    }

    fn take(&mut self) -> (AssertSqlSafe<String>, AnyArguments) {
        // Parts are literals, and places are numbers.
        (AssertSqlSafe(std::mem::take(&mut self.sql)), std::mem::take(&mut self.arguments))
    }

    pub fn build(&mut self) -> Query<'static, Any, AnyArguments> {
        let (sql, arguments) = self.take();
        sqlx::query_with(sql, arguments).persistent(named())
    }

    pub fn build_query_scalar<O>(&mut self) -> QueryScalar<'static, Any, O, AnyArguments>
    where
        (O,): for<'r> FromRow<'r, AnyRow>,
    {
        let (sql, arguments) = self.take();
        sqlx::query_scalar_with(sql, arguments).persistent(named())
    }
}

impl SqlBuilder {
    /// Executes several statements, in one call on SQLite, where each costs a trip to the database's thread and back.
    pub async fn execute_all(
        statements: impl IntoIterator<Item = Self>,
        connection: &mut AnyConnection,
    ) -> Result<(), sqlx::Error> {
        let mut all = Self::new("");
        for mut statement in statements {
            // Numbers would mean the values of the first one.
            if statement.is_numbered || all.is_numbered {
                // In their order.
                if !all.sql.is_empty() {
                    all.build().execute(&mut *connection).await?;
                }
                statement.build().execute(&mut *connection).await?;
                continue;
            }
            all.push(if all.sql.is_empty() { "" } else { "; " }).push(&statement.sql);
            all.arguments.values.0.append(&mut statement.arguments.values.0);
        }
        if !all.sql.is_empty() {
            all.build().execute(connection).await?;
        }
        Ok(())
    }
}

/// Parts of rows that go into one statement each. SQLite, which keeps statements, knows but a few lengths of them.
pub(crate) fn parts<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    const MOST: usize = 128;
    let mut rest = rows;
    let named = named();
    std::iter::from_fn(move || {
        let length = if named { 1 << rest.len().checked_ilog2()? } else { rest.len() };
        let (part, after) = rest.split_at_checked(length.min(MOST)).filter(|(part, _)| !part.is_empty())?;
        rest = after;
        Some(part)
    })
}

/// Several statements that share their values: in one call on SQLite, where each costs a trip to the database's thread and
/// back.
pub(crate) struct Together {
    sql: &'static str,
    arguments: AnyArguments,
}

impl Together {
    /// Statements with `; ` between them.
    pub fn new(sql: &'static str) -> Self {
        Self { sql, arguments: AnyArguments::default() }
    }

    pub fn bind<'t, T>(mut self, value: T) -> Self
    where
        T: Encode<'t, Any> + Type<Any>,
    {
        // Texts and numbers are always taken; a place without its value would make the statement fail.
        drop(self.arguments.add(value));
        self
    }

    pub async fn execute(self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        let is_sqlite = connection.backend_name() == sqlx::Sqlite::NAME;
        let parts: Vec<&'static str> = if is_sqlite { vec![self.sql] } else { self.sql.split("; ").collect() };
        for sql in parts {
            let mut arguments = AnyArguments::default();
            arguments.values.0.clone_from(&self.arguments.values.0);
            sqlx::query_with(sql, arguments).persistent(named()).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_of_it_in_order() {
        for length in [0, 1, 2, 3, 30, 128, 129, 900] {
            let rows: Vec<usize> = (0..length).collect();
            let parts: Vec<&[usize]> = parts(&rows).collect();
            assert_eq!(parts.concat(), rows);
            assert!(parts.iter().all(|part| (1..=128).contains(&part.len())), "{parts:?}");
        }
    }

    #[test]
    fn places_are_numbered_through_lists_where_the_database_needs_it() {
        for (is_numbered, expected) in [
            (true, "SELECT 1 WHERE a = $1 AND b IN ($2, $3) AND c = $4"),
            (false, "SELECT 1 WHERE a = ? AND b IN (?, ?) AND c = ?"),
        ] {
            let mut builder = SqlBuilder { is_numbered, ..SqlBuilder::new("SELECT 1 WHERE a = ") };
            builder.push_bind(1_i64).push(" AND b IN (").push_list(["x", "y"]).push(" AND c = ").push_bind("z");
            assert_eq!(builder.sql, expected);
            assert_eq!(builder.arguments.values.0.len(), 4);
        }
    }
}
