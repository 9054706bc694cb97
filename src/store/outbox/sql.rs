//! The statements that several changes of ops have in common.

use sqlx::AnyConnection;

use crate::store::db::statement::{self, SqlBuilder};
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

/// Ends an op that is not in the room.
pub(in crate::store) async fn end_op(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    txn_id: &TxnId,
    (state, error): (OpState, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    ended(context, txn_id, state, None, Some(error), now).build().execute(connection).await?;
    Ok(())
}

fn ended(
    context: &mut WriteContext,
    txn_id: &TxnId,
    state: OpState,
    event_id: Option<&str>,
    error: Option<&str>,
    now: Timestamp,
) -> SqlBuilder {
    let mut sql = SqlBuilder::new("UPDATE op SET state = ");
    sql.push_bind(state.as_str()).push(", event_id = ").push_bind(event_id).push(", error = ").push_bind(error);
    sql.push(", ended_at = ").push_bind(now.0).push(", ended_seq = ").push_bind(context.next());
    if state != OpState::Dead {
        // A dead letter keeps what it wanted to say; of the others the room (or the plainer form) has it.
        sql.push(", content = ''");
    }
    sql.push(" WHERE txn_id = ").push_bind(txn_id.as_str());
    sql
}

pub(super) fn drop_notes(txn_id: &TxnId) -> SqlBuilder {
    let mut sql = SqlBuilder::new("DELETE FROM note WHERE op = ");
    sql.push_bind(txn_id.as_str());
    sql
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

/// The op is done: `event_id` is in the room, which shows what it shows.
pub(super) async fn end_shown(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    op: &Op,
    event_id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let frozen_at = op.first_try.unwrap_or(now).0;
    let mut all = vec![ended(context, &op.txn_id, OpState::Done, Some(event_id), None, now)];
    match op.kind {
        OpKind::Card => {
            let mut sql = SqlBuilder::new("UPDATE card SET root_event = ");
            sql.push_bind(event_id).push(", root_at = ").push_bind(frozen_at).push(", spoke_at = ").push_bind(now.0);
            // An unrouted card owes its last edit from now on.
            sql.push(", last_reply = NULL, dirty_since = CASE WHEN state = 'unrouted' THEN ").push_bind(op.since.0);
            sql.push(" ELSE dirty_since END WHERE id = ").push_bind(op.card.as_str());
            all.push(sql);
        }
        OpKind::Reply | OpKind::Post => {
            let mut sql = SqlBuilder::new("UPDATE card SET last_reply = ");
            sql.push_bind(event_id).push(", root_at = coalesce(root_at, ").push_bind(frozen_at);
            sql.push("), spoke_at = ").push_bind(now.0).push(" WHERE id = ").push_bind(op.card.as_str());
            all.push(sql);
        }
        OpKind::Edit | OpKind::Notice => {}
    }
    all.push(drop_notes(&op.txn_id));
    all.extend(mark_shown(&op.card, shown_by(op)));
    SqlBuilder::execute_all(all, connection).await?;
    if op.kind == OpKind::Card {
        point_to(connection, context, &op.card, op.since).await?;
    }
    Ok(())
}

pub(super) fn mark_shown(card: &CardId, shown: Shown) -> Option<SqlBuilder> {
    let mut sql;
    match shown {
        Shown::Same => return None,
        Shown::Rev(rev) => {
            sql = SqlBuilder::new("UPDATE card_incident SET shown_rev = ");
            sql.push_bind(rev).push(" WHERE shown_rev < ").push_bind(rev).push(" AND card = ");
        }
        Shown::LastEdit => sql = SqlBuilder::new("UPDATE card SET state = 'retired' WHERE id = "),
    }
    sql.push_bind(card.as_str());
    Some(sql)
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
    let settled = statement::query(
        "UPDATE card SET dirty_since = NULL WHERE id = $1 \
         AND NOT EXISTS (SELECT 1 FROM note WHERE note.card = $1 AND note.op IS NULL) \
         AND CASE state WHEN 'retired' THEN 0 WHEN 'live' THEN \
         (SELECT count(*) FROM card_incident JOIN incident ON incident.id = card_incident.incident \
          WHERE card_incident.card = $1 AND incident.rev > card_incident.shown_rev AND incident.rev > $2) \
         ELSE $3 END = 0",
    )
    .bind(card.as_str())
    .bind(if let Shown::Rev(rev) = covered { rev } else { -1 })
    .bind(i64::from(covered != Shown::LastEdit))
    .execute(connection)
    .await?;
    if settled.rows_affected() == 0 {
        context.behind.add_all();
    }
    Ok(())
}
