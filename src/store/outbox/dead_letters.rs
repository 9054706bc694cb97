//! Dead letters: what the homeserver refused in every form, kept until somebody decides or a month has passed.

use serde_json::Value;
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{
    dead_letter::{DeadLetter, Follows},
    sql::{end_op, make_due},
};
use crate::store::db::statement;
use crate::{
    model::{CardId, Op, OpKind, OpState, Timestamp, TxnId},
    store::{
        Store, StoreError,
        db::{rows, writer::WriteContext},
    },
};

/// Dead letters that one list holds at most, the oldest.
const LISTED: i64 = 1_000;

impl Store {
    /// The oldest dead letters, and how many there are in all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dead_letters(&self) -> Result<(Vec<DeadLetter>, i64), StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        // The second condition on the state is that of the index.
        let total = statement::query_scalar(
            "SELECT count(*) FROM op WHERE state = 'dead' AND state NOT IN ('done', 'refused')",
        )
        .fetch_one(&mut *connection);
        let total: i64 = total.await?;
        let letters = statement::query("SELECT * FROM op WHERE state = 'dead' AND state NOT IN ('done', 'refused') ORDER BY ended_at, txn_id LIMIT $1")
            .bind(LISTED)
            .fetch_all(&mut *connection)
            .await?
            .iter()
            .map(letter)
            .collect::<Result<_, _>>()?;
        Ok((letters, total))
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn dead_letter(&self, id: &TxnId) -> Result<Option<DeadLetter>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        find(&mut connection, id).await
    }

    /// Drops a dead letter with its content; `None` if there is no dead letter with this id.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn drop_dead_letter(&self, id: &TxnId) -> Result<Option<DeadLetter>, StoreError> {
        let id = id.clone();
        self.writer
            .write(move |connection, context| Box::pin(async move { end_dead_letter(connection, context, &id).await }))
            .await
    }

    /// Makes the card of a dead letter due again, so that its newest state is sent in full; `None` if there is no dead
    /// letter with this id. What a reply said is lost.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn retry_dead_letter(&self, id: &TxnId) -> Result<Option<(DeadLetter, Follows)>, StoreError> {
        let id = id.clone();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let Some(letter) = end_dead_letter(connection, context, &id).await? else { return Ok(None) };
                    let Some((card, mut follows)) = card_for(connection, &letter.op).await? else {
                        return Ok(Some((letter, Follows::Nothing)));
                    };
                    if letter.op.kind == OpKind::Post {
                        // No edit would follow, so the card is posted again.
                        statement::query("UPDATE card SET root_event = NULL WHERE id = $1")
                            .bind(card.as_str())
                            .execute(&mut *connection)
                            .await?;
                        follows = Follows::Card;
                    }
                    unshow(connection, &card).await?;
                    make_due(connection, &card, letter.op.since).await?;
                    context.behind.add_all();
                    Ok(Some((letter, follows)))
                })
            })
            .await
    }
}

/// The newest dead letters, and how many there are in all. The second condition on the state is that of the index.
pub(crate) async fn newest(connection: &mut AnyConnection, most: i64) -> Result<(Vec<DeadLetter>, i64), StoreError> {
    const DEAD: &str = "FROM op WHERE state = 'dead' AND state NOT IN ('done', 'refused')";
    let sql = format!("SELECT count(*) {DEAD}");
    let total: i64 = statement::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
    let sql = format!("SELECT * {DEAD} ORDER BY ended_at DESC, txn_id LIMIT $1");
    let letters = statement::query(sqlx::AssertSqlSafe(sql))
        .bind(most)
        .fetch_all(connection)
        .await?
        .iter()
        .map(letter)
        .collect::<Result<_, _>>()?;
    Ok((letters, total))
}

fn letter(row: &AnyRow) -> Result<DeadLetter, StoreError> {
    let op = rows::op(row)?;
    let at = row.try_get::<Option<i64>, _>("ended_at")?.map_or(op.since, Timestamp);
    Ok(DeadLetter { op, error: row.try_get::<Option<String>, _>("error")?.unwrap_or_default(), at })
}

async fn find(connection: &mut AnyConnection, id: &TxnId) -> Result<Option<DeadLetter>, StoreError> {
    let row = statement::query("SELECT * FROM op WHERE txn_id = $1 AND state = 'dead'")
        .bind(id.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(letter).transpose()
}

/// Ends a dead letter as a refused op.
async fn end_dead_letter(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    id: &TxnId,
) -> Result<Option<DeadLetter>, StoreError> {
    let Some(letter) = find(connection, id).await? else { return Ok(None) };
    end_op(connection, context, id, (OpState::Refused, &letter.error), letter.at).await?;
    Ok(Some(letter))
}

/// The card that shows the op's incident in its room. Mostly the op's own, but a card that never came into the room gives
/// its incidents to a digest.
async fn card_for(connection: &mut AnyConnection, op: &Op) -> Result<Option<(CardId, Follows)>, StoreError> {
    // Left, so that the few cards in question come first and not all of the room.
    let found = statement::query(
        "SELECT card.id, card.root_event FROM (SELECT card FROM card_incident WHERE card = $2 \
         UNION SELECT card FROM card_incident WHERE incident = $3) AS known \
         LEFT JOIN card ON card.id = known.card AND card.room = $1 AND card.state = 'live' \
         ORDER BY CASE WHEN card.id IS NULL THEN 2 WHEN card.id = $2 THEN 0 ELSE 1 END, card.id LIMIT 1",
    )
    .bind(op.room.as_str())
    .bind(op.card.as_str())
    .bind(op.incident.as_str())
    .fetch_optional(connection)
    .await?;
    let Some(row) = found else { return Ok(None) };
    let Some(card) = row.try_get("id")? else { return Ok(None) };
    let is_posted = row.try_get::<Option<String>, _>("root_event")?.is_some();
    Ok(Some((CardId(card), if is_posted { Follows::Edit } else { Follows::Card })))
}

/// Undoes that the dead letter counted as shown; for a reply, an edit stands in.
async fn unshow(connection: &mut AnyConnection, card: &CardId) -> Result<(), StoreError> {
    statement::query(
        "UPDATE card_incident SET shown_rev = (SELECT rev FROM incident WHERE incident.id = card_incident.incident) - 1 \
         WHERE card = $1 \
         AND shown_rev >= (SELECT rev FROM incident WHERE incident.id = card_incident.incident)",
    )
    .bind(card.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

impl DeadLetter {
    /// The first line of its text; empty if the content has none.
    #[must_use]
    pub fn first_line(&self) -> String {
        let content: Value = serde_json::from_str(&self.op.content).unwrap_or_default();
        // The body of an edit is that of its fallback.
        let shown = content.get("m.new_content").unwrap_or(&content);
        shown["body"].as_str().and_then(|body| body.lines().next()).unwrap_or_default().to_owned()
    }

    /// Whether it was something said in the thread or room, which no newer state of the card brings back.
    #[must_use]
    pub fn was_said_once(&self) -> bool {
        matches!(self.op.kind, OpKind::Reply | OpKind::Notice)
    }
}
