//! The lease of whoever leads: a row that ends by the database's clock unless it is renewed.

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use crate::store::db::statement;
use crate::{
    model::{Epoch, Leader},
    store::{
        Store, StoreError,
        db::database::{Database, LEASE},
    },
};

/// How long a lease lasts without renewal, in milliseconds.
const LASTS: i64 = 5_000;

impl Store {
    /// Whether other replicas may have the store open too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    /// Who holds a lease that has not ended.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        let now = self.database.now_sql();
        let sql = format!(
            "SELECT holder, epoch, until - {now} AS remains FROM lease \
             WHERE name = 'leader' AND until > {now} AND until <= {now} + {}",
            2 * LASTS
        );
        let rows = self.database.run_alone(&self.lease, sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let left: i64 = row.try_get("remains")?;
        Ok(Some(Leader {
            replica: row.try_get("holder")?,
            epoch: Epoch::new(row.try_get("epoch")?),
            left: Duration::from_millis(u64::try_from(left).unwrap_or(0)),
        }))
    }

    /// Begins a term if nobody leads. No commit of another leader comes after it.
    ///
    /// # Errors
    /// When the database cannot be asked or does not commit.
    pub async fn take_lead(&self, replica: &str) -> Result<Option<Epoch>, StoreError> {
        let (replica, database) = (replica.to_owned(), self.database.clone());
        let epoch = ulid::Ulid::new().to_string();
        let text = epoch.clone();
        let taken = self
            .writer
            .write(move |connection, _| Box::pin(async move { take(connection, &database, &replica, &text).await }))
            .await?;
        Ok(taken.then(|| Epoch::new(&epoch)))
    }

    /// Renews the lease for five seconds. `false`: it is another epoch's by now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_lead(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        // Epochs are ours: letters and digits.
        let sql = format!(
            "UPDATE lease SET until = {} + {LASTS} WHERE name = 'leader' AND epoch = '{}' RETURNING holder",
            self.database.now_sql(),
            escaped(epoch.as_str())
        );
        Ok(!self.database.run_alone(&self.lease, sql).await?.is_empty())
    }

    /// Ends the term, and wakes the others.
    ///
    /// # Errors
    /// When the database does not answer; then the lease ends by itself.
    pub async fn give_up_lead(&self, epoch: &Epoch) -> Result<(), StoreError> {
        let notify = if self.is_shared() { format!("; NOTIFY {LEASE}") } else { String::new() };
        let sql = format!(
            "UPDATE lease SET until = 0, epoch = '' WHERE name = 'leader' AND epoch = '{}'{notify}",
            escaped(epoch.as_str())
        );
        self.database.run_alone(&self.lease, sql).await?;
        Ok(())
    }

    /// A handle for what only the leader does: its commits fail with [`StoreError::NotLeader`] once another epoch leads.
    #[must_use]
    pub fn as_leader(&self, epoch: Epoch) -> Self {
        Self { writer: self.writer.fenced(epoch), ..self.clone() }
    }

    /// Counts how often the lease was given back, as far as that was heard.
    #[must_use]
    pub fn lease_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.leases.subscribe()
    }
}

fn escaped(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// An end that is too far away is that of a clock that was set back since.
async fn take(
    connection: &mut AnyConnection,
    database: &Database,
    replica: &str,
    epoch: &str,
) -> Result<bool, StoreError> {
    let now = database.now_sql();
    let sql = format!(
        "INSERT INTO lease (name, holder, epoch, until) VALUES ('leader', $1, $2, {now} + {LASTS}) \
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, epoch = excluded.epoch, until = excluded.until \
         WHERE lease.until <= {now} OR lease.until > {now} + {}",
        2 * LASTS
    );
    // Made of literals only.
    let done = statement::query(AssertSqlSafe(sql)).bind(replica).bind(epoch).execute(connection).await?;
    Ok(done.rows_affected() == 1)
}
