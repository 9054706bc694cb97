//! Connections for reading.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Transaction, pool::PoolConnection};

use super::error::is_closed;

/// A pool of connections that only read.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    pub pool: AnyPool,
    /// How a reading begins that is a transaction; `None`: it is none.
    begin: Option<Arc<str>>,
}

/// A connection from the pool.
pub(crate) enum Reader {
    Plain(PoolConnection<Any>),
    /// Ends when it is dropped.
    Transaction(Transaction<'static, Any>),
}

impl Readers {
    pub fn new(pool: AnyPool, begin: Option<Arc<str>>) -> Self {
        Self { pool, begin }
    }

    /// Waits for a connection. Where readings are transactions it begins one, also because a pooler between us and the
    /// database keeps to one session for that long only.
    pub async fn acquire(&self) -> Result<Reader, sqlx::Error> {
        let Some(begin) = &self.begin else { return Ok(Reader::Plain(self.pool.acquire().await?)) };
        // Each of the pool's connections may be one that the server has closed meanwhile.
        for _ in 0..self.pool.options().get_max_connections() {
            match self.begin(begin).await {
                Err(error) if is_closed(&error) => {}
                reader => return reader,
            }
        }
        self.begin(begin).await
    }

    /// The same, and all that is read from it until it is dropped is of one instant.
    pub async fn snapshot(&self) -> Result<Reader, sqlx::Error> {
        match self.begin {
            Some(_) => self.acquire().await,
            None => Ok(Reader::Transaction(self.pool.begin().await?)),
        }
    }

    async fn begin(&self, begin: &Arc<str>) -> Result<Reader, sqlx::Error> {
        // Made of literals only.
        let transaction = self.pool.begin_with(AssertSqlSafe(Arc::clone(begin))).await?;
        Ok(Reader::Transaction(transaction))
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Deref for Reader {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match self {
            Self::Plain(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match self {
            Self::Plain(connection) => connection,
            Self::Transaction(transaction) => transaction,
        }
    }
}
