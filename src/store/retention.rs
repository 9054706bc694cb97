//! Forgetting. Counts from closing; an open incident, its cards and its ops are never touched.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{Store, StoreError};
use crate::model::Timestamp;

/// Incidents that one transaction forgets, so that no webhook waits for a large clean-up.
const BATCH: i64 = 100;
/// Dead letters stay longer than the incidents they belong to, or until they are dropped.
const DEAD_LETTERS: Duration = Duration::from_hours(720);

impl Store {
    /// Forgets what has been over for `retention`; returns how many incidents and notifications that was.
    ///
    /// # Errors
    /// When it cannot be committed; what was forgotten until then stays forgotten.
    pub async fn prune(&self, retention: Duration) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let (before, dead_before) = (now.minus(retention), now.minus(DEAD_LETTERS));
        let mut total = 0;
        loop {
            let forgotten =
                self.writer.write(move |connection, _| Box::pin(prune_some(connection, before, dead_before))).await?;
            total += forgotten;
            if forgotten == 0 {
                return Ok(total);
            }
        }
    }
}

async fn prune_some(
    connection: &mut SqliteConnection,
    before: Timestamp,
    dead_before: Timestamp,
) -> Result<u64, StoreError> {
    // Their months are counted from when they were set aside, also those of an incident that is still open. The second
    // condition on the state is that of the index, here and below.
    let dead = sqlx::query(
        "DELETE FROM op WHERE txn_id IN (SELECT txn_id FROM op WHERE state = 'dead' \
         AND state NOT IN ('done', 'refused') AND ended_at < $1 LIMIT $2)",
    )
    .bind(dead_before.0)
    .bind(BATCH)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    // A younger dead letter keeps its card, and the incident that it is about: the two may have parted, since an incident
    // can move to a digest.
    let incidents = sqlx::query(
        "DELETE FROM incident WHERE id IN (\
           SELECT incident.id FROM incident WHERE incident.closed_at < $1 AND NOT EXISTS (\
             SELECT 1 FROM card_incident JOIN card ON card.id = card_incident.card \
             WHERE card_incident.incident = incident.id AND (\
               card.dirty_since IS NOT NULL \
               OR EXISTS (SELECT 1 FROM card_incident AS other JOIN incident AS neighbour \
                          ON neighbour.id = other.incident \
                          WHERE other.card = card.id AND (neighbour.closed_at IS NULL OR neighbour.closed_at >= $1)) \
               OR EXISTS (SELECT 1 FROM op WHERE op.card = card.id AND (op.state IN ('in_flight', 'in_doubt', 'parked') \
                          OR (op.state = 'dead' AND op.ended_at >= $2))))) \
           AND incident.id NOT IN (SELECT op.incident FROM op WHERE op.state = 'dead' \
                                   AND op.state NOT IN ('done', 'refused') AND op.ended_at >= $2) \
           LIMIT $3)",
    )
    .bind(before.0)
    .bind(dead_before.0)
    .bind(BATCH)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let cards = sqlx::query(
        "DELETE FROM card WHERE id IN (SELECT id FROM card WHERE NOT EXISTS \
         (SELECT 1 FROM card_incident WHERE card_incident.card = card.id) AND NOT EXISTS \
         (SELECT 1 FROM op WHERE op.card = card.id AND op.state NOT IN ('done', 'refused')) LIMIT $1)",
    )
    .bind(BATCH * 4)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let notifications = sqlx::query(
        "DELETE FROM notification WHERE id IN (SELECT id FROM notification WHERE at < $1 \
         AND id NOT IN (SELECT notification FROM incident) LIMIT $2)",
    )
    .bind(before.0)
    .bind(BATCH * 4)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    Ok(dead + incidents + cards + notifications)
}
