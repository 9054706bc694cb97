//! Prunes acts and answers that are over. What is live or not carried out stays.

use std::time::Duration;

use crate::store::db::statement;
use crate::{
    model::Timestamp,
    store::{Store, StoreError},
};

/// Rows that one transaction prunes.
const BATCH: i64 = 400;
/// Acts stay at least this long: an event that is read again must be recognised.
const LEAST: Duration = Duration::from_hours(24);

impl Store {
    /// Prunes acts and answers that ended `retention` ago, or a day if that is longer. Returns how many rows.
    ///
    /// # Errors
    /// When it cannot be committed; what was pruned until then stays pruned.
    pub async fn prune_acts(&self, retention: Duration) -> Result<u64, StoreError> {
        let before = self.clock.now().minus(retention.max(LEAST));
        let mut total = 0;
        loop {
            let pruned = self.prune_some_acts(before).await?;
            total += pruned;
            if pruned == 0 {
                return Ok(total);
            }
        }
    }

    async fn prune_some_acts(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.writer
            .write(move |connection, _| {
                Box::pin(async move {
                    let answers = statement::query(
                        "DELETE FROM answer WHERE id IN (SELECT id FROM answer WHERE ended_at < $1 LIMIT $2)",
                    )
                    .bind(before.0)
                    .bind(BATCH)
                    .execute(&mut *connection)
                    .await?;
                    let acts = statement::query(
                        "DELETE FROM act WHERE id IN (SELECT id FROM act WHERE ended_at < $1 AND NOT EXISTS \
                         (SELECT 1 FROM answer WHERE answer.act = act.id) LIMIT $2)",
                    )
                    .bind(before.0)
                    .bind(BATCH)
                    .execute(&mut *connection)
                    .await?;
                    // Of incidents that nobody can give back any more.
                    let orphaned = statement::query(
                        "UPDATE act SET state = 'ended', ended_at = $1 WHERE id IN (SELECT id FROM act \
                         WHERE state = 'live' AND kind = 'take' AND incident IS NOT NULL \
                         AND NOT EXISTS (SELECT 1 FROM incident WHERE incident.id = act.incident) LIMIT $2)",
                    )
                    .bind(before.0)
                    .bind(BATCH)
                    .execute(&mut *connection)
                    .await?;
                    Ok(answers.rows_affected() + acts.rows_affected() + orphaned.rows_affected())
                })
            })
            .await
    }
}
