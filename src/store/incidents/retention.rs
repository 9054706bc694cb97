//! Prunes closed incidents once `store.retention` has passed since they closed. Open incidents and their cards stay; of
//! their ops, those that ended that long ago and that no read-back needs are pruned.

use std::time::Duration;

use sqlx::AnyConnection;

use crate::store::db::statement;
use crate::{
    model::Timestamp,
    store::{Store, StoreError, outbox::answers::prune_answers},
};

/// How many incidents one transaction prunes, so that no webhook waits for a large clean-up.
const BATCH: i64 = 100;
/// How many cards one transaction prunes.
const CARDS: i64 = BATCH * 4;
/// Selects cards without incidents and without dead letters, unfinished or parked ops.
const OF_NOTHING: &str = "NOT EXISTS (SELECT 1 FROM card_incident WHERE card_incident.card = card.id) AND NOT EXISTS \
     (SELECT 1 FROM op WHERE op.card = card.id AND op.state NOT IN ('done', 'refused'))";
/// Dead letters stay longer than the incidents they belong to, or until they are dropped.
const DEAD_LETTERS: Duration = Duration::from_hours(720);

impl Store {
    /// Prunes what has been closed for `retention`. Returns how many rows were deleted.
    ///
    /// # Errors
    /// When it cannot be committed; what was pruned until then stays pruned.
    pub async fn prune(&self, retention: Duration) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let (before, dead_before) = (now.minus(retention), now.minus(DEAD_LETTERS));
        let mut total = self.prune_acts(retention).await?;
        loop {
            // A hundred incidents may have as many thousands of alerts.
            let forgotten = self
                .writer
                .write_large(move |connection, _| Box::pin(prune_some(connection, before, dead_before)))
                .await?;
            total += forgotten;
            if forgotten == 0 {
                break;
            }
        }
        loop {
            let cards = self.cards_of_nothing().await?;
            if cards.is_empty() {
                return Ok(total);
            }
            let forgotten = self.writer.write(move |connection, _| Box::pin(forget_cards(connection, cards))).await?;
            total += forgotten;
            if forgotten == 0 {
                return Ok(total);
            }
        }
    }

    /// Cards whose incidents are all pruned. Finding them scans all cards, which must not block the writer.
    async fn cards_of_nothing(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        let sql = format!("SELECT id FROM card WHERE {OF_NOTHING} LIMIT $1");
        // Made of literals only, here and below.
        let cards = statement::query_scalar(sqlx::AssertSqlSafe(sql)).bind(CARDS).fetch_all(&mut *connection).await?;
        Ok(cards)
    }
}

async fn prune_some(
    connection: &mut AnyConnection,
    before: Timestamp,
    dead_before: Timestamp,
) -> Result<u64, StoreError> {
    // Their months are counted from when they were set aside, also those of an incident that is still open. The second
    // condition on the state is that of the index, here and below.
    let dead = statement::query(
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
    let incidents = statement::query(
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
    let notifications = statement::query(
        "DELETE FROM notification WHERE id IN (SELECT id FROM notification WHERE at < $1 \
         AND NOT EXISTS (SELECT 1 FROM incident WHERE incident.notification = notification.id) LIMIT $2)",
    )
    .bind(before.0)
    .bind(BATCH * 4)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let answers = prune_answers(connection, before, BATCH * 4).await?;
    Ok(dead + incidents + notifications + answers + prune_ops(connection, before).await?)
}

/// Those of a group that never closes would pile up. What a read-back needs stays: it ends at the last event that its room
/// acknowledged before the first try of an op that is unfinished or set aside, and knows those since.
async fn prune_ops(connection: &mut AnyConnection, before: Timestamp) -> Result<u64, StoreError> {
    let ops = statement::query(
        "DELETE FROM op WHERE txn_id IN (\
           SELECT txn_id FROM op WHERE state IN ('done', 'refused') AND ended_at < $1 AND (state = 'refused' OR EXISTS (\
             SELECT 1 FROM op AS later WHERE later.room = op.room AND later.state = 'done' \
             AND later.event_id IS NOT NULL AND later.ended_at > op.ended_at AND NOT EXISTS (\
               SELECT 1 FROM op AS unsure WHERE unsure.room = op.room \
               AND unsure.state IN ('in_flight', 'in_doubt', 'parked') AND unsure.state NOT IN ('done', 'refused') \
               AND unsure.first_try < later.ended_at))) \
           LIMIT $2)",
    )
    .bind(before.0)
    .bind(BATCH * 4)
    .execute(connection)
    .await?;
    Ok(ops.rows_affected())
}

async fn forget_cards(connection: &mut AnyConnection, cards: Vec<String>) -> Result<u64, StoreError> {
    let mut forgotten = 0;
    for card in cards {
        let sql = format!("DELETE FROM card WHERE id = $1 AND {OF_NOTHING}");
        let done = statement::query(sqlx::AssertSqlSafe(sql)).bind(card).execute(&mut *connection).await?;
        forgotten += done.rows_affected();
    }
    Ok(forgotten)
}
