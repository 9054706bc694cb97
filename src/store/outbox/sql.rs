//! The statements that several changes of ops have in common.

use sqlx::AnyConnection;

use crate::store::db::statement;
use crate::{
    model::{CardId, Form, IncidentId, NotificationId, Op, OpKind, OpState, RoomAddress, Timestamp, TxnId},
    store::{StoreError, cards::superseded::point_to, db::writer::WriteContext},
};

/// Notifications that one acknowledged event names in the log at most.
pub const COVERED: i64 = 20;

/// An op about to be frozen.
#[derive(Clone, Debug)]
pub struct NewOp {
    pub txn_id: TxnId,
    pub card: CardId,
    pub room: RoomAddress,
    pub kind: OpKind,
    pub content: String,
    pub rev: i64,
    pub last_edit: bool,
    pub form: Form,
    pub speaks: bool,
    pub since: Timestamp,
    pub notification: NotificationId,
    pub incident: IncidentId,
    pub device: Option<String>,
    /// When it is frozen, which is when its first try begins.
    pub first_try: Timestamp,
    /// The notes that it says, or that a card's first event makes needless; part of it from now on.
    pub notes: Vec<i64>,
    /// The only alert that it is about, by its fingerprint.
    pub alert: Option<String>,
}

impl NewOp {
    /// As the store holds it once it is frozen, as the `frozen_seq`th.
    fn frozen(&self, frozen_seq: i64) -> Op {
        Op {
            txn_id: self.txn_id.clone(),
            card: self.card.clone(),
            room: self.room.clone(),
            kind: self.kind,
            content: self.content.clone(),
            rev: self.rev,
            last_edit: self.last_edit,
            form: self.form,
            speaks: self.speaks,
            since: self.since,
            notification: self.notification.clone(),
            incident: self.incident.clone(),
            device: self.device.clone(),
            state: OpState::InFlight,
            first_try: Some(self.first_try),
            attempts: 1,
            frozen_seq,
            alone: false,
        }
    }
}

/// How much of a card its room shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Shown {
    /// As much as before.
    Same,
    /// Its incidents up to this revision.
    Rev(i64),
    /// All that it ever will.
    LastEdit,
}

/// What a room shows of the card once `op` is in it; a reply shows nothing of the card.
pub(super) fn shown_by(op: &Op) -> Shown {
    match op.kind {
        _ if op.last_edit => Shown::LastEdit,
        OpKind::Card | OpKind::Edit | OpKind::Post => Shown::Rev(op.rev),
        OpKind::Reply | OpKind::Notice => Shown::Same,
    }
}

pub(super) async fn insert_op(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    op: &NewOp,
) -> Result<Op, StoreError> {
    let frozen = op.frozen(context.next());
    statement::query(
        "INSERT INTO op (txn_id, card, room, kind, content, rev, form, last_edit, speaks, since, notification, incident, \
         device, first_try, frozen_seq, alert, state, attempts) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 'in_flight', 1)",
    )
    .bind(op.txn_id.as_str())
    .bind(op.card.as_str())
    .bind(op.room.as_str())
    .bind(op.kind.as_str())
    .bind(&op.content)
    .bind(op.rev)
    .bind(op.form.as_str())
    .bind(i64::from(op.last_edit))
    .bind(i64::from(op.speaks))
    .bind(op.since.0)
    .bind(op.notification.as_str())
    .bind(op.incident.as_str())
    .bind(&op.device)
    .bind(op.first_try.0)
    .bind(frozen.frozen_seq)
    .bind(&op.alert)
    .execute(&mut *connection)
    .await?;
    for note in &op.notes {
        statement::query("UPDATE note SET op = $2 WHERE id = $1")
            .bind(note)
            .bind(op.txn_id.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(frozen)
}

pub(in crate::store) async fn end_op(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    txn_id: &TxnId,
    state: OpState,
    event_id: Option<&str>,
    error: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    // A dead letter keeps what it wanted to say; of the others the room (or the plainer form) has it.
    statement::query(
        "UPDATE op SET state = $2, event_id = $3, error = $4, ended_at = $5, ended_seq = $6, \
         content = CASE WHEN $2 = 'dead' THEN content ELSE '' END WHERE txn_id = $1",
    )
    .bind(txn_id.as_str())
    .bind(state.as_str())
    .bind(event_id)
    .bind(error)
    .bind(now.0)
    .bind(context.next())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn drop_notes(connection: &mut AnyConnection, txn_id: &TxnId) -> Result<(), StoreError> {
    statement::query("DELETE FROM note WHERE op = $1").bind(txn_id.as_str()).execute(connection).await?;
    Ok(())
}

/// The notifications about the op's incident that were accepted between its oldest change and its freezing.
pub(super) async fn covered(connection: &mut AnyConnection, op: &Op) -> Result<Vec<NotificationId>, StoreError> {
    let mut ids: Vec<String> = statement::query_scalar(
        "SELECT notification.id FROM notification JOIN incident ON incident.route = notification.route \
         AND incident.group_hash = notification.group_hash WHERE incident.id = $1 AND notification.at >= $2 \
         AND notification.at <= $3 AND notification.body IS NOT NULL \
         ORDER BY notification.at DESC, notification.id DESC LIMIT $4",
    )
    .bind(op.incident.as_str())
    .bind(op.since.0)
    .bind(op.first_try.map_or(i64::MAX, |at| at.0))
    .bind(COVERED)
    .fetch_all(connection)
    .await?;
    ids.reverse();
    Ok(ids.into_iter().map(NotificationId).collect())
}

/// What the room shows now that `op` is in it as `event_id`.
pub(super) async fn show(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    op: &Op,
    event_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let frozen_at = op.first_try.unwrap_or(now).0;
    let update = match op.kind {
        OpKind::Card => Some(
            // An unrouted card owes its last edit from now on.
            statement::query(
                "UPDATE card SET root_event = $2, root_at = $3, spoke_at = $4, last_reply = NULL, \
                 dirty_since = CASE WHEN state = 'unrouted' THEN $5 ELSE dirty_since END WHERE id = $1",
            )
            .bind(op.card.as_str())
            .bind(event_id)
            .bind(frozen_at)
            .bind(now.0)
            .bind(op.since.0),
        ),
        OpKind::Reply | OpKind::Post => Some(
            statement::query(
                "UPDATE card SET last_reply = $2, root_at = coalesce(root_at, $3), spoke_at = $4 WHERE id = $1",
            )
            .bind(op.card.as_str())
            .bind(event_id)
            .bind(frozen_at)
            .bind(now.0),
        ),
        OpKind::Edit | OpKind::Notice => None,
    };
    if let Some(update) = update {
        update.execute(&mut *connection).await?;
    }
    drop_notes(connection, &op.txn_id).await?;
    if op.kind == OpKind::Card {
        point_to(connection, context, &op.card, op.since).await?;
    }
    mark_shown(connection, &op.card, shown_by(op)).await
}

pub(super) async fn mark_shown(connection: &mut AnyConnection, card: &CardId, shown: Shown) -> Result<(), StoreError> {
    let statement = match shown {
        Shown::Same => return Ok(()),
        Shown::Rev(rev) => {
            statement::query("UPDATE card_incident SET shown_rev = $2 WHERE card = $1 AND shown_rev < $2")
                .bind(card.as_str())
                .bind(rev)
        }
        Shown::LastEdit => statement::query("UPDATE card SET state = 'retired' WHERE id = $1").bind(card.as_str()),
    };
    statement.execute(connection).await?;
    Ok(())
}

/// Gives back the notes of an op that did not arrive. Nothing is said any more on cards that are not live; a notice
/// speaks of many.
pub(in crate::store) async fn release_notes(connection: &mut AnyConnection, txn_id: &TxnId) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM note WHERE op = $1 AND EXISTS \
         (SELECT 1 FROM card WHERE card.id = note.card AND card.state <> 'live')",
        // Its own card is due anyway; one that took the card's place has whom to call from it.
        "UPDATE card SET dirty_since = coalesce(dirty_since, (SELECT min(at) FROM note WHERE op = $1)) \
         WHERE state = 'live' AND id IN (SELECT card FROM note WHERE op = $1 AND kind = 'escalation')",
        "UPDATE note SET op = NULL WHERE op = $1",
    ] {
        statement::query(sql).bind(txn_id.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(in crate::store) async fn make_due(
    connection: &mut AnyConnection,
    card: &CardId,
    since: Timestamp,
) -> Result<(), StoreError> {
    // An unrouted card that never came into the room owes it nothing.
    statement::query(
        "UPDATE card SET dirty_since = CASE WHEN dirty_since < $2 THEN dirty_since ELSE $2 END \
         WHERE id = $1 AND state <> 'retired' AND (state <> 'unrouted' OR root_event IS NOT NULL)",
    )
    .bind(card.as_str())
    .bind(since.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Clears `dirty_since` if nothing is left that an op does not cover: no note and, beyond what is shown and what the op
/// on its way will show (`covered`), no revision of a live card and no last edit of another.
pub(in crate::store) async fn settle(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    card: &CardId,
    covered: Shown,
) -> Result<(), StoreError> {
    let left: i64 = statement::query_scalar(
        "SELECT (SELECT count(*) FROM note WHERE card = $1 AND op IS NULL) + \
         CASE (SELECT state FROM card WHERE id = $1) WHEN 'retired' THEN 0 WHEN 'live' THEN \
         (SELECT count(*) FROM card_incident JOIN incident ON incident.id = card_incident.incident \
          WHERE card_incident.card = $1 AND incident.rev > card_incident.shown_rev AND incident.rev > $2) \
         ELSE $3 END",
    )
    .bind(card.as_str())
    .bind(if let Shown::Rev(rev) = covered { rev } else { -1 })
    .bind(i64::from(covered != Shown::LastEdit))
    .fetch_one(&mut *connection)
    .await?;
    if left == 0 {
        statement::query("UPDATE card SET dirty_since = NULL WHERE id = $1")
            .bind(card.as_str())
            .execute(connection)
            .await?;
        return Ok(());
    }
    context.behind.add_all();
    Ok(())
}
