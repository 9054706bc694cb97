//! Receivers that the config moved to another route. What is open on the old route goes on there as a new incident with
//! its own cards, and the old cards say so.

use sqlx::{AnyConnection, Row as _};

use super::takings;
use crate::store::db::statement;
use crate::{
    model::{CardId, IncidentId, IncidentKey, RouteName, Timestamp},
    store::{
        Store, StoreError,
        cards::unrouted::{lose_incidents, retire},
        db::writer::WriteContext,
    },
};

/// Incidents that one transaction closes.
const BATCH: usize = 100;
/// Selects what a receiver has left open on its previous route.
const LEFT: &str = "closed_at IS NULL AND route = $1 AND receiver = $2 AND by_receiver = 1";

/// A receiver that takes another route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub from: RouteName,
    pub receiver: String,
    pub to: RouteName,
}

impl Store {
    /// Routes and receivers of what is open and came without a route in the URL.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn open_receivers(&self) -> Result<Vec<(RouteName, String)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let rows = statement::query(
            "SELECT DISTINCT route, receiver FROM incident WHERE closed_at IS NULL AND by_receiver = 1",
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Ok(route) = RouteName::parse(row.try_get("route")?) {
                found.push((route, row.try_get("receiver")?));
            }
        }
        Ok(found)
    }

    /// Closes what a receiver has left open on its old route; returns how many incidents.
    ///
    /// # Errors
    /// When it cannot be committed; what was closed until then stays closed.
    pub async fn close_moved(&self, moved: &Move) -> Result<usize, StoreError> {
        let mut closed = 0;
        loop {
            let (moved, now) = (moved.clone(), self.clock.now());
            let batch = self
                .writer
                .write(move |connection, context| {
                    Box::pin(async move { close_some(connection, context, &moved, now).await })
                })
                .await?;
            closed += batch;
            if batch < BATCH {
                return Ok(closed);
            }
        }
    }
}

async fn close_some(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    moved: &Move,
    now: Timestamp,
) -> Result<usize, StoreError> {
    // Made of literals only.
    let find =
        sqlx::AssertSqlSafe(format!("SELECT id, group_key, group_hash FROM incident WHERE {LEFT} LIMIT {BATCH}"));
    let rows =
        statement::query(find).bind(moved.from.as_str()).bind(&moved.receiver).fetch_all(&mut *connection).await?;
    let mut closed = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: String = row.try_get("id")?;
        close_cards(connection, context, moved, &id, now).await?;
        closed.push((id, row));
    }
    for (id, row) in &closed {
        statement::query("UPDATE incident SET state = 'stale', closed_at = $2, rev = $3, moved_to = $4 WHERE id = $1")
            .bind(id)
            .bind(now.0)
            .bind(context.next())
            .bind(moved.to.as_str())
            .execute(&mut *connection)
            .await?;
        takings::end(connection, &IncidentId(id.clone()), now).await?;
        let hash: String = row.try_get("group_hash")?;
        let key = IncidentKey {
            route: moved.to.clone(),
            receiver: moved.receiver.clone(),
            group_key: row.try_get("group_key")?,
        };
        // It may have begun there before.
        if let Some(there) = super::find::newest_incident(connection, &key, &hash).await?
            && there.state.is_open()
        {
            go_on(connection, &key, &hash, &there.id, now).await?;
        }
        context.behind.add_all();
    }
    Ok(closed.len())
}

/// Closes the live cards of an incident; a digest that shows other incidents too goes on without it.
async fn close_cards(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    moved: &Move,
    incident: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let cards: Vec<String> = statement::query_scalar(
        "SELECT card.id FROM card JOIN card_incident ON card_incident.card = card.id \
         WHERE card_incident.incident = $1 AND card.state = 'live'",
    )
    .bind(incident)
    .fetch_all(&mut *connection)
    .await?;
    for card in cards.into_iter().map(CardId) {
        let stays: Option<String> = statement::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT id FROM incident JOIN card_incident ON card_incident.incident = incident.id \
             WHERE card_incident.card = $3 AND NOT ({LEFT}) ORDER BY id LIMIT 1"
        )))
        .bind(moved.from.as_str())
        .bind(&moved.receiver)
        .bind(card.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        match stays {
            Some(stays) => lose_incidents(connection, context, &card, &[incident.to_owned()], &stays, now).await?,
            None => retire(connection, &card, now).await?,
        }
    }
    Ok(())
}

/// The cards of the group that other routes have left point to a card of this incident: one in the same room, if there is
/// one. They are due once its first event is in the room.
pub(crate) async fn go_on(
    connection: &mut AnyConnection,
    key: &IncidentKey,
    group_hash: &str,
    incident: &IncidentId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let left = statement::query(
        "SELECT card.id, card.room FROM incident JOIN card_incident ON card_incident.incident = incident.id \
         JOIN card ON card.id = card_incident.card WHERE incident.moved_to = $1 AND incident.receiver = $2 \
         AND incident.group_hash = $3 AND card.kind = 'incident' AND card.state IN ('unrouted', 'retired') AND card.superseded_by IS NULL \
         AND card.root_event IS NOT NULL",
    )
    .bind(key.route.as_str())
    .bind(&key.receiver)
    .bind(group_hash)
    .fetch_all(&mut *connection)
    .await?;
    for row in &left {
        let (old, room): (String, String) = (row.try_get("id")?, row.try_get("room")?);
        let next = statement::query(
            "SELECT card.id, CASE WHEN card.root_event IS NULL THEN 0 ELSE 1 END AS posted FROM card \
             JOIN card_incident ON card_incident.card = card.id \
             WHERE card_incident.incident = $1 AND card.state = 'live' AND card.id <> $2 \
             ORDER BY CASE WHEN card.room = $3 THEN 0 ELSE 1 END, card.id LIMIT 1",
        )
        .bind(incident.as_str())
        .bind(&old)
        .bind(&room)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(next) = next else { continue };
        statement::query(
            "UPDATE card SET state = 'superseded', superseded_by = $2, \
             dirty_since = CASE WHEN $3 = 1 THEN $4 ELSE dirty_since END WHERE id = $1",
        )
        .bind(&old)
        .bind(next.try_get::<String, _>("id")?)
        .bind(next.try_get::<i64, _>("posted")?)
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
