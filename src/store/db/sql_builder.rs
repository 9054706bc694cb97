//! Statements with lists of values. sqlx's own builder writes `?` for a value with the `Any` driver, which PostgreSQL does
//! not take.

use std::fmt::Write as _;

use sqlx::{
    Any, AssertSqlSafe, Encode, Type,
    any::AnyArguments,
    query::{Query, QueryScalar},
};

/// A statement and the values for its places.
pub(crate) struct SqlBuilder {
    sql: String,
    arguments: AnyArguments,
    places: usize,
}

impl SqlBuilder {
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), arguments: AnyArguments::default(), places: 0 }
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
        use sqlx::Arguments as _;
        // Texts and numbers are always taken; a place without its value would make the statement fail.
        drop(self.arguments.add(value));
        self.places += 1;
        let _ = write!(self.sql, "${}", self.places);
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

    fn take(&mut self) -> (AssertSqlSafe<String>, AnyArguments) {
        // Parts are literals, and places are numbers.
        (AssertSqlSafe(std::mem::take(&mut self.sql)), std::mem::take(&mut self.arguments))
    }

    pub fn build(&mut self) -> Query<'static, Any, AnyArguments> {
        let (sql, arguments) = self.take();
        sqlx::query_with(sql, arguments)
    }

    pub fn build_query_scalar<O>(&mut self) -> QueryScalar<'static, Any, O, AnyArguments>
    where
        (O,): for<'r> sqlx::FromRow<'r, sqlx::any::AnyRow>,
    {
        let (sql, arguments) = self.take();
        sqlx::query_scalar_with(sql, arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbered_through_lists() {
        let mut builder = SqlBuilder::new("SELECT 1 WHERE a = ");
        builder.push_bind(1_i64).push(" AND b IN (").push_list(["x", "y"]).push(" AND c = ").push_bind("z");
        assert_eq!(builder.sql, "SELECT 1 WHERE a = $1 AND b IN ($2, $3) AND c = $4");
        assert_eq!(builder.arguments.values.0.len(), 4);
    }
}
