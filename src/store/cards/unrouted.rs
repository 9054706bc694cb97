//! What the config no longer routes: incidents of routes that are gone, and cards in rooms that their routes do not name
//! any more. A card that is in the room owes it one last event; what was never posted is dropped.
//!
//! Such a card is unrouted: nothing is said in its thread, and as with a superseded card there is one last edit to make.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, Row as _};

use crate::store::db::statement;
use crate::{
    model::{CardId, IncidentId, OpState, RoomAddress, RouteName, Timestamp},
    store::{Store, StoreError, cards::severity, db::writer::WriteContext, incidents::takings},
};

/// Cards, or incidents, that one transaction closes.
const BATCH: i64 = 100;

/// The rooms of each route.
pub type Routing = BTreeMap<RouteName, Vec<RoomAddress>>;

/// What no route covers any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unrouted {
    /// Cards that were closed, or digests that lost a part.
    pub cards: usize,
    /// Incidents that no room shows any more.
    pub incidents: u64,
    /// Rooms that no route names and that still wait for events.
    pub rooms: BTreeSet<RoomAddress>,
}

impl Store {
    /// Closes what `routing` does not lead anywhere: to be called when it has changed, and again for what was accepted
    /// meanwhile.
    ///
    /// # Errors
    /// When it cannot be committed; what was closed until then stays closed.
    pub async fn close_unrouted(&self, routing: &Routing) -> Result<Unrouted, StoreError> {
        let mut unrouted = Unrouted::default();
        for (route, room) in self.pairs().await? {
            if routing.get(&route).is_some_and(|rooms| rooms.contains(&room)) {
                continue;
            }
            unrouted.cards += self.close_cards(&route, &room, routing).await?;
        }
        unrouted.incidents = self.close_incidents().await?;
        let served: BTreeSet<&RoomAddress> = routing.values().flatten().collect();
        unrouted.rooms = self.rooms_with_work().await?.into_iter().filter(|room| !served.contains(room)).collect();
        Ok(unrouted)
    }

    /// Nothing more is sent to a room that no route names: its cards stay as they are. Returns how many were behind.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn give_up_room(&self, room: &RoomAddress, error: &str) -> Result<u64, StoreError> {
        let (room, error, now) = (room.clone(), error.to_owned(), self.clock.now());
        self.writer
            .write(move |connection, _| Box::pin(async move { give_up(connection, &room, &error, now).await }))
            .await
    }

    /// Routes and rooms of live cards that show something open, or wait to be posted.
    pub(crate) async fn pairs(&self) -> Result<Vec<(RouteName, RoomAddress)>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        let rows = statement::query(
            // Left, so that what is open comes first and not all that ever was; without a card there is nothing to see.
            "SELECT incident.route AS route, card.room AS room FROM incident \
             LEFT JOIN card_incident ON card_incident.incident = incident.id \
             LEFT JOIN card ON card.id = card_incident.card AND card.state = 'live' \
             WHERE incident.closed_at IS NULL \
             UNION SELECT incident.route, card.room FROM card \
             LEFT JOIN card_incident ON card_incident.card = card.id \
             LEFT JOIN incident ON incident.id = card_incident.incident \
             WHERE card.dirty_since IS NOT NULL AND card.root_event IS NULL AND card.state = 'live'",
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut pairs = Vec::with_capacity(rows.len());
        for row in &rows {
            let (Some(route), Some(room)) = (row.try_get("route")?, row.try_get("room")?) else { continue };
            if let (Ok(route), Ok(room)) = (RouteName::parse(route), RoomAddress::parse(room)) {
                pairs.push((route, room));
            }
        }
        Ok(pairs)
    }

    /// Rooms with a card that is behind, or with an event that is on its way.
    async fn rooms_with_work(&self) -> Result<Vec<RoomAddress>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        let rooms: Vec<String> = statement::query_scalar(
            "SELECT room FROM card WHERE dirty_since IS NOT NULL UNION SELECT room FROM op \
             WHERE state IN ('in_flight', 'in_doubt', 'parked') AND state NOT IN ('done', 'refused')",
        )
        .fetch_all(&mut *connection)
        .await?;
        Ok(rooms.iter().filter_map(|room| RoomAddress::parse(room).ok()).collect())
    }

    async fn close_cards(&self, route: &RouteName, room: &RoomAddress, routing: &Routing) -> Result<usize, StoreError> {
        let mut closed = 0;
        loop {
            let (route, room, now) = (route.clone(), room.clone(), self.clock.now());
            let served: Vec<String> = routing
                .iter()
                .filter(|(_, rooms)| rooms.contains(&room))
                .map(|(name, _)| name.as_str().to_owned())
                .collect();
            let batch = self
                .writer
                .write(move |connection, context| {
                    Box::pin(async move {
                        let cards = cards_of(connection, &route, &room).await?;
                        for card in &cards {
                            close_card(connection, context, card, &served, now).await?;
                        }
                        Ok(cards.len())
                    })
                })
                .await?;
            closed += batch;
            // What comes in meanwhile is found the next time.
            if batch < usize::try_from(BATCH).unwrap_or(0) {
                return Ok(closed);
            }
        }
    }

    /// Closes incidents without a live card as stale. No notification will resolve those of a removed route, and those of
    /// a route whose rooms were all replaced open again, in the new rooms, with their next notification.
    async fn close_incidents(&self) -> Result<u64, StoreError> {
        const HIDDEN: &str = "incident.closed_at IS NULL AND NOT EXISTS (SELECT 1 FROM card_incident \
             JOIN card ON card.id = card_incident.card \
             WHERE card_incident.incident = incident.id AND card.state = 'live')";
        let mut connection = self.monitoring.acquire().await?;
        let find = format!("SELECT count(*) FROM incident WHERE {HIDDEN}");
        // Made of literals only, here and below.
        let hidden: i64 = statement::query_scalar(sqlx::AssertSqlSafe(find)).fetch_one(&mut *connection).await?;
        drop(connection);
        if hidden == 0 {
            return Ok(0);
        }
        let mut closed = 0;
        loop {
            let now = self.clock.now();
            let batch = self
                .writer
                .write(move |connection, _| {
                    Box::pin(async move {
                        let close = format!(
                            "UPDATE incident SET state = 'stale', closed_at = $1 WHERE id IN \
                             (SELECT id FROM incident WHERE {HIDDEN} LIMIT $2) RETURNING id"
                        );
                        let closed: Vec<String> = statement::query_scalar(sqlx::AssertSqlSafe(close))
                            .bind(now.0)
                            .bind(BATCH)
                            .fetch_all(&mut *connection)
                            .await?;
                        let count = closed.len() as u64;
                        for incident in closed.into_iter().map(IncidentId) {
                            takings::end(connection, &incident, now).await?;
                        }
                        Ok(count)
                    })
                })
                .await?;
            closed += batch;
            if batch < BATCH.unsigned_abs() {
                return Ok(closed);
            }
        }
    }
}

/// Live cards of `room` that show something open of `route`, or wait to be posted with something of it.
async fn cards_of(
    connection: &mut AnyConnection,
    route: &RouteName,
    room: &RoomAddress,
) -> Result<Vec<CardId>, StoreError> {
    let cards: Vec<String> = statement::query_scalar(
        // Left, so that what is open comes first and not all that the room ever saw.
        "SELECT id FROM (SELECT card.id FROM incident LEFT JOIN card_incident ON card_incident.incident = incident.id \
           LEFT JOIN card ON card.id = card_incident.card AND card.room = $1 AND card.state = 'live' \
           WHERE incident.route = $2 AND incident.closed_at IS NULL \
           UNION SELECT card.id FROM card WHERE card.room = $1 AND card.dirty_since IS NOT NULL \
           AND card.root_event IS NULL AND card.state = 'live' AND EXISTS \
           (SELECT 1 FROM card_incident JOIN incident ON incident.id = card_incident.incident \
            WHERE card_incident.card = card.id AND incident.route = $2)) AS live WHERE id IS NOT NULL LIMIT $3",
    )
    .bind(room.as_str())
    .bind(route.as_str())
    .bind(BATCH)
    .fetch_all(connection)
    .await?;
    Ok(cards.into_iter().map(CardId).collect())
}

/// `served`: the routes that still lead into the card's room.
async fn close_card(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    card: &CardId,
    served: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    let rows = statement::query(
        "SELECT incident.id, incident.route, card.root_event FROM card_incident \
         JOIN incident ON incident.id = card_incident.incident JOIN card ON card.id = card_incident.card \
         WHERE card.id = $1 ORDER BY incident.id",
    )
    .bind(card.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let (mut stays, mut goes) = (Vec::new(), Vec::new());
    for row in &rows {
        let (id, route): (String, String) = (row.try_get("id")?, row.try_get("route")?);
        if served.contains(&route) { stays.push(id) } else { goes.push(id) }
    }
    context.behind.add_all();
    match stays.first() {
        None => retire(connection, card, now).await,
        Some(one) => lose_incidents(connection, context, card, &goes, one, now).await,
    }
}

/// Makes a card unrouted: it owes the room a last edit.
pub(crate) async fn retire(connection: &mut AnyConnection, card: &CardId, now: Timestamp) -> Result<(), StoreError> {
    statement::query("DELETE FROM note WHERE card = $1 AND op IS NULL")
        .bind(card.as_str())
        .execute(&mut *connection)
        .await?;
    unroute_predecessors(connection, card, now).await?;
    // Should its first event be on its way, it is due once that is known to be in the room.
    statement::query(
        "UPDATE card SET state = 'unrouted', dirty_since = CASE WHEN root_event IS NULL THEN NULL ELSE $2 END \
         WHERE id = $1",
    )
    .bind(card.as_str())
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Cards that this one was to supersede, but has not yet: they become unrouted themselves.
async fn unroute_predecessors(connection: &mut AnyConnection, card: &CardId, now: Timestamp) -> Result<(), StoreError> {
    statement::query(
        "UPDATE card SET state = 'unrouted', superseded_by = NULL, dirty_since = $2 \
         WHERE superseded_by = $1 AND root_event IS NOT NULL \
         AND EXISTS (SELECT 1 FROM card AS next WHERE next.id = $1 AND next.root_event IS NULL)",
    )
    .bind(card.as_str())
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes incidents off a digest that goes on without them.
pub(crate) async fn lose_incidents(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    card: &CardId,
    goes: &[String],
    stays: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    for incident in goes {
        for sql in [
            "DELETE FROM note WHERE card = $1 AND incident = $2 AND op IS NULL",
            "DELETE FROM card_incident WHERE card = $1 AND incident = $2",
        ] {
            statement::query(sql).bind(card.as_str()).bind(incident).execute(&mut *connection).await?;
        }
    }
    severity::set(connection, card).await?;
    // The revision grows, so that an edit in flight does not count as showing this.
    statement::query("UPDATE incident SET rev = $2 WHERE id = $1")
        .bind(stays)
        .bind(context.next())
        .execute(&mut *connection)
        .await?;
    statement::query("UPDATE card SET dirty_since = coalesce(dirty_since, $2) WHERE id = $1")
        .bind(card.as_str())
        .bind(now.0)
        .execute(connection)
        .await?;
    Ok(())
}

async fn give_up(
    connection: &mut AnyConnection,
    room: &RoomAddress,
    error: &str,
    now: Timestamp,
) -> Result<u64, StoreError> {
    statement::query(
        "UPDATE op SET state = $2, error = $3, ended_at = $4, content = '' WHERE room = $1 \
         AND state IN ('in_flight', 'in_doubt', 'parked') AND state NOT IN ('done', 'refused')",
    )
    .bind(room.as_str())
    .bind(OpState::Refused.as_str())
    .bind(error)
    .bind(now.0)
    .execute(&mut *connection)
    .await?;
    statement::query("DELETE FROM note WHERE card IN (SELECT id FROM card WHERE room = $1)")
        .bind(room.as_str())
        .execute(&mut *connection)
        .await?;
    statement::query("UPDATE card SET state = 'retired' WHERE room = $1 AND state <> 'live'")
        .bind(room.as_str())
        .execute(&mut *connection)
        .await?;
    let behind = statement::query("UPDATE card SET dirty_since = NULL WHERE room = $1 AND dirty_since IS NOT NULL")
        .bind(room.as_str())
        .execute(connection)
        .await?;
    Ok(behind.rows_affected())
}
