//! An op's life: it is frozen, tried, and ends.

use sqlx::{AnyConnection, Row as _};

use super::sql::{
    NewOp, Shown, covered, drop_notes, end_op, end_shown, insert_op, make_due, mark_shown, release_notes, settle,
    shown_by,
};
use crate::store::db::statement::{self, SqlBuilder};
use crate::{
    model::{CardId, NotificationId, Op, OpState, RoomAddress, Timestamp, TxnId},
    store::{
        Store, StoreError,
        db::{rows, writer::WriteContext},
    },
};

/// In one statement, since a lane asks before each event, and hardly ever is there one. The second condition on the state is
/// that of the index.
const OPEN_OPS: &str = "SELECT * FROM op WHERE room = $1 AND state IN ('in_flight', 'in_doubt') \
     UNION ALL SELECT * FROM (SELECT * FROM op WHERE room = $1 AND state = 'parked' \
     AND state NOT IN ('done', 'refused') ORDER BY next_try LIMIT 1) AS parked \
     UNION ALL SELECT * FROM (SELECT * FROM op WHERE room = $1 AND state = 'dead' \
     AND state NOT IN ('done', 'refused') AND reason IS NOT NULL \
     ORDER BY coalesce(next_try, 0), txn_id LIMIT 1) AS dead";

/// The ops that a room's lane sees to before it makes another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOps {
    /// The one that may be under way or in doubt.
    pub unfinished: Option<Op>,
    /// The parked one that is to be looked for next, and when.
    pub parked: Option<(Op, Timestamp)>,
    /// The dead letter that a fault of the homeserver made and that is to be tried again next, and when.
    pub dead: Option<(TxnId, Timestamp)>,
}

impl Store {
    /// The ops of `room` that its lane sees to before it makes another.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_ops(&self, room: &RoomAddress) -> Result<OpenOps, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let rows = statement::query(OPEN_OPS).bind(room.as_str()).fetch_all(&mut *connection).await?;
        let mut open = OpenOps::default();
        for row in &rows {
            let at = Timestamp(row.try_get::<Option<i64>, _>("next_try")?.unwrap_or_default());
            match OpState::parse(row.try_get("state")?) {
                Some(OpState::Dead) => open.dead = Some((TxnId(row.try_get("txn_id")?), at)),
                Some(OpState::Parked) => open.parked = Some((rows::op(row)?, at)),
                _ => open.unfinished = Some(rows::op(row)?),
            }
        }
        Ok(open)
    }

    /// Freezes an op before its first send.
    ///
    /// # Errors
    /// When it cannot be committed, or when the room has an unfinished op already.
    pub async fn freeze(&self, op: NewOp) -> Result<Op, StoreError> {
        self.writer
            .write(move |connection, context| Box::pin(async move { freeze(connection, context, &op).await }))
            .await
    }

    /// Drops notes that are no longer true.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn drop_notes(&self, card: &CardId, notes: Vec<i64>) -> Result<(), StoreError> {
        let card = card.clone();
        self.write(move |connection, context| {
            Box::pin(async move {
                for note in notes {
                    statement::query("DELETE FROM note WHERE id = $1 AND op IS NULL")
                        .bind(note)
                        .execute(&mut *connection)
                        .await?;
                }
                settle(connection, context, &card, Shown::Same).await
            })
        })
        .await
    }

    /// The card is no longer due unless something is left to show or say.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn settle_card(&self, card: &CardId) -> Result<(), StoreError> {
        let card = card.clone();
        self.write(move |connection, context| {
            Box::pin(async move { settle(connection, context, &card, Shown::Same).await })
        })
        .await
    }

    /// Counts the newest state as shown without sending an event for it.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn pass_over(&self, card: &CardId, rev: i64) -> Result<(), StoreError> {
        let card = card.clone();
        self.write(move |connection, context| {
            Box::pin(async move {
                SqlBuilder::execute_all(mark_shown(&card, Shown::Rev(rev)), connection).await?;
                statement::query("UPDATE card SET state = 'retired' WHERE id = $1 AND state = 'superseded'")
                    .bind(card.as_str())
                    .execute(&mut *connection)
                    .await?;
                settle(connection, context, &card, Shown::Same).await
            })
        })
        .await
    }

    /// Writes down that a try is about to be made.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn record_try(&self, txn_id: &TxnId, device: Option<String>) -> Result<(), StoreError> {
        let (txn_id, now) = (txn_id.clone(), self.clock.now());
        self.write(move |connection, _| {
            Box::pin(async move {
                statement::query(
                    "UPDATE op SET attempts = attempts + 1, first_try = coalesce(first_try, $2), \
                     device = coalesce(device, $3) WHERE txn_id = $1",
                )
                .bind(txn_id.as_str())
                .bind(now.0)
                .bind(device)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// The homeserver acknowledged the op. Returns the notifications whose changes it brought into the room, the newest
    /// last and [`super::sql::COVERED`] at most.
    ///
    /// # Errors
    /// When it cannot be committed. The op then stays in flight, and its next try is answered with the same event.
    pub async fn finish(&self, op: &Op, event_id: &str) -> Result<Vec<NotificationId>, StoreError> {
        let (op, event_id, now) = (op.clone(), event_id.to_owned(), self.clock.now());
        self.writer
            .write(move |connection, context| {
                Box::pin(async move { finish(connection, context, &op, &event_id, now).await })
            })
            .await
    }

    /// Like [`Store::finish`], and freezes the room's next op in the same commit.
    ///
    /// # Errors
    /// When it cannot be committed. Then neither is recorded.
    pub async fn finish_and_freeze(
        &self,
        op: &Op,
        event_id: &str,
        next: NewOp,
    ) -> Result<(Vec<NotificationId>, Op), StoreError> {
        let (op, event_id, now) = (op.clone(), event_id.to_owned(), self.clock.now());
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let covered = finish(connection, context, &op, &event_id, now).await?;
                    Ok((covered, freeze(connection, context, &next).await?))
                })
            })
            .await
    }

    /// The op may be in the room, or it is about to be sent once more.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn mark_in_doubt(&self, txn_id: &TxnId, error: &str) -> Result<(), StoreError> {
        let (txn_id, error) = (txn_id.clone(), error.to_owned());
        self.write(move |connection, _| {
            Box::pin(async move {
                statement::query("UPDATE op SET state = 'in_doubt', error = $2 WHERE txn_id = $1")
                    .bind(txn_id.as_str())
                    .bind(error)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// A try had no usable answer: the event may be in the room. Returns whether another event got through between two
    /// such tries of it.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn record_no_answer(
        &self,
        txn_id: &TxnId,
        reason: &'static str,
        error: &str,
    ) -> Result<bool, StoreError> {
        let (txn_id, error) = (txn_id.clone(), error.to_owned());
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    // An answer to a later try may be one to the first, given from memory: it proves nothing.
                    let alone: Option<i64> = statement::query_scalar(
                        "UPDATE op SET state = 'in_doubt', error = $2, reason = $3, \
                         alone = CASE WHEN EXISTS (SELECT 1 FROM op AS other WHERE other.state = 'done' \
                         AND other.attempts = 1 AND other.ended_seq > op.failed_seq) THEN 1 ELSE alone END, \
                         failed_seq = $4 WHERE txn_id = $1 RETURNING alone",
                    )
                    .bind(txn_id.as_str())
                    .bind(error)
                    .bind(reason)
                    .bind(context.last())
                    .fetch_optional(connection)
                    .await?;
                    Ok(alone.is_some_and(|alone| alone != 0))
                })
            })
            .await
    }

    /// The op was refused for a reason that is not its own (a rate limit, a homeserver that is down, a room that will
    /// not have us) and has surely not arrived: it is thawed, so that the next one shows the newest state.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn requeue(&self, op: &Op) -> Result<(), StoreError> {
        let op = op.clone();
        self.write(move |connection, context| {
            Box::pin(async move {
                release_notes(connection, &op.txn_id).await?;
                statement::query("DELETE FROM op WHERE txn_id = $1")
                    .bind(op.txn_id.as_str())
                    .execute(&mut *connection)
                    .await?;
                make_due(connection, &op.card, op.since).await?;
                context.behind.add_all();
                Ok(())
            })
        })
        .await
    }

    /// The homeserver does not take the event as it is: a plainer form takes its place.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn replace(&self, refused: &Op, plainer: NewOp, error: &str) -> Result<Op, StoreError> {
        let (refused, error, now) = (refused.clone(), error.to_owned(), self.clock.now());
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    end_op(connection, context, &refused.txn_id, (OpState::Refused, &error), now).await?;
                    let frozen = insert_op(connection, context, &plainer).await?;
                    statement::query("UPDATE note SET op = $2 WHERE op = $1")
                        .bind(refused.txn_id.as_str())
                        .bind(plainer.txn_id.as_str())
                        .execute(&mut *connection)
                        .await?;
                    Ok(frozen)
                })
            })
            .await
    }

    /// Not even the plainest form is taken: a dead letter. The room moves on. `retry_at`: when it is tried again by
    /// itself, as one that a fault of the homeserver made.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn mark_dead(&self, op: &Op, error: &str, retry_at: Option<Timestamp>) -> Result<(), StoreError> {
        let (op, error, now) = (op.clone(), error.to_owned(), self.clock.now());
        self.write(move |connection, context| {
            Box::pin(async move {
                end_op(connection, context, &op.txn_id, (OpState::Dead, &error), now).await?;
                let stays = "UPDATE op SET next_try = $2, reason = CASE WHEN $2 IS NULL THEN NULL ELSE reason END \
                     WHERE txn_id = $1";
                statement::query(stays)
                    .bind(op.txn_id.as_str())
                    .bind(retry_at.map(|at| at.0))
                    .execute(&mut *connection)
                    .await?;
                // What it would have shown counts as shown, or the same refusal would follow for ever.
                let shown = mark_shown(&op.card, shown_by(&op));
                SqlBuilder::execute_all([drop_notes(&op.txn_id)].into_iter().chain(shown), connection).await?;
                settle(connection, context, &op.card, Shown::Same).await
            })
        })
        .await
    }
}

async fn freeze(connection: &mut AnyConnection, context: &mut WriteContext, op: &NewOp) -> Result<Op, StoreError> {
    let frozen = insert_op(connection, context, op).await?;
    settle(connection, context, &op.card, shown_by(&frozen)).await?;
    Ok(frozen)
}

async fn finish(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    op: &Op,
    event_id: &str,
    now: Timestamp,
) -> Result<Vec<NotificationId>, StoreError> {
    end_shown(connection, context, op, event_id, now).await?;
    settle(connection, context, &op.card, Shown::Same).await?;
    covered(connection, op).await
}
