//! Rooms that the config names by a new address: their cards move to it.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, Row as _};

use crate::store::db::statement;
use crate::{
    model::{CardId, CardKind, RoomAddress, RoomAliases, RouteName, Timestamp},
    store::{
        Store, StoreError,
        db::{statement::SqlBuilder, writer::WriteContext},
    },
};

/// How many cards one transaction examines.
const BATCH: i64 = 500;

/// Cards that go on under another address of their room.
#[derive(Clone, Debug)]
pub struct AddressChange {
    pub from: RoomAddress,
    pub to: RoomAddress,
    /// The routes that name the room by `to`, and not by `from`.
    pub routes: BTreeSet<RouteName>,
    /// The routes that still name it by `from`; what they share a card with stays.
    pub kept: BTreeSet<RouteName>,
}

/// The result of one transaction.
struct Part {
    moved: usize,
    /// An event is on its way under both addresses: its card waits for the next time.
    waits: bool,
    /// Where to go on; `None`: that was all.
    next: Option<String>,
}

impl Store {
    /// Whether any card has to move.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_cards_of(&self, address_change: &AddressChange) -> Result<bool, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let mut query = SqlBuilder::new(
            "SELECT count(*) FROM (SELECT card.id FROM card JOIN card_incident ON card_incident.card = card.id \
             JOIN incident ON incident.id = card_incident.incident WHERE card.room = ",
        );
        query.push_bind(address_change.from.as_str()).push(" AND incident.route IN (");
        let routes: Vec<String> = address_change.routes.iter().map(ToString::to_string).collect();
        let count: i64 = listed(&mut query, &routes)
            .push(" LIMIT 1) AS known")
            .build_query_scalar()
            .fetch_one(&mut *connection)
            .await?;
        Ok(count > 0)
    }

    /// Moves cards with all their ops, also those on their way: nothing may be sending under `from` meanwhile. Returns how
    /// many, and whether all of them.
    ///
    /// # Errors
    /// When it cannot be committed; what was moved until then stays moved.
    pub async fn change_address(&self, address_change: &AddressChange) -> Result<(usize, bool), StoreError> {
        self.move_acts(&address_change.from, &address_change.to).await?;
        let (mut moved, mut complete, mut after) = (0, true, String::new());
        loop {
            let (address_change, now) = (address_change.clone(), self.clock.now());
            let part = self
                .writer
                .write(move |connection, context| {
                    Box::pin(async move { part(connection, context, &address_change, &after, now).await })
                })
                .await?;
            moved += part.moved;
            complete &= !part.waits;
            match part.next {
                Some(next) => after = next,
                None => return Ok((moved, complete)),
            }
        }
    }
}

/// Reads which addresses stand for the same room, inside a transaction.
pub(crate) async fn room_aliases(connection: &mut AnyConnection) -> Result<RoomAliases, StoreError> {
    Ok(RoomAliases::new(super::read(connection).await?, &BTreeMap::new()))
}

async fn part(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    address_change: &AddressChange,
    after: &str,
    now: Timestamp,
) -> Result<Part, StoreError> {
    // Both addresses stand for one room, so that it does not matter which card an answer belongs to.
    statement::query("UPDATE answer SET room = $2 WHERE room = $1 AND state IN ('waiting', 'in_doubt')")
        .bind(address_change.from.as_str())
        .bind(address_change.to.as_str())
        .execute(&mut *connection)
        .await?;
    let cards: Vec<String> =
        statement::query_scalar("SELECT id FROM card WHERE room = $1 AND id > $2 ORDER BY id LIMIT $3")
            .bind(address_change.from.as_str())
            .bind(after)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
    let next = cards.last().filter(|_| cards.len() as u64 >= BATCH.unsigned_abs()).cloned();
    let mut going = going(connection, address_change, &cards).await?;
    let waiting = doubly_unfinished(connection, address_change).await?;
    let waits = waiting.is_some_and(|card| going.remove(&card));
    let going: Vec<String> = going.into_iter().collect();
    if going.is_empty() {
        return Ok(Part { moved: 0, waits, next });
    }
    merge(connection, address_change, &going, now).await?;
    for sql in ["UPDATE card SET room = ", "UPDATE op SET room = "] {
        let mut update = SqlBuilder::new(sql);
        let by = if sql.contains("op") { " WHERE card IN (" } else { " WHERE id IN (" };
        update.push_bind(address_change.to.as_str()).push(by);
        listed(&mut update, &going).build().execute(&mut *connection).await?;
    }
    context.behind.add_all();
    Ok(Part { moved: going.len(), waits, next })
}

fn listed<'q>(query: &'q mut SqlBuilder, ids: &[String]) -> &'q mut SqlBuilder {
    query.push_list(ids.iter().map(String::as_str))
}

/// Those of `cards` that show something of the routes in question, and nothing of those that are kept.
async fn going(
    connection: &mut AnyConnection,
    address_change: &AddressChange,
    cards: &[String],
) -> Result<BTreeSet<String>, StoreError> {
    let (mut going, mut stay) = (BTreeSet::new(), BTreeSet::new());
    if cards.is_empty() {
        return Ok(going);
    }
    let mut query = SqlBuilder::new(
        "SELECT DISTINCT card_incident.card, incident.route FROM card_incident \
         JOIN incident ON incident.id = card_incident.incident WHERE card_incident.card IN (",
    );
    let rows = listed(&mut query, cards).build().fetch_all(connection).await?;
    for row in &rows {
        let (card, route): (String, &str) = (row.try_get("card")?, row.try_get("route")?);
        if address_change.routes.iter().any(|known| known.as_str() == route) {
            going.insert(card);
        } else if address_change.kept.iter().any(|known| known.as_str() == route) {
            stay.insert(card);
        }
    }
    Ok(going.difference(&stay).cloned().collect())
}

/// A room has one unfinished op at most: the card of the one under the old address, if there is one under the new too.
async fn doubly_unfinished(
    connection: &mut AnyConnection,
    address_change: &AddressChange,
) -> Result<Option<String>, StoreError> {
    const FIND: &str = "SELECT card FROM op WHERE room = $1 AND state IN ('in_flight', 'in_doubt')";
    let new: Option<String> =
        statement::query_scalar(FIND).bind(address_change.to.as_str()).fetch_optional(&mut *connection).await?;
    if new.is_none() {
        return Ok(None);
    }
    Ok(statement::query_scalar(FIND).bind(address_change.from.as_str()).fetch_optional(connection).await?)
}

/// Cards that were made under the new address before it was known which room that is: the older one goes on, unless the
/// newer one is in the room already, or may be.
async fn merge(
    connection: &mut AnyConnection,
    address_change: &AddressChange,
    going: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut query = SqlBuilder::new(
        "SELECT old.id AS old, new.id AS new, CASE WHEN new.root_event IS NULL THEN 0 ELSE 1 END AS posted, new.kind, \
         CASE WHEN new.root_event IS NULL AND NOT EXISTS (SELECT 1 FROM op WHERE op.card = new.id) THEN 1 ELSE 0 END \
         AS unsent \
         FROM card AS old JOIN card_incident AS shown ON shown.card = old.id \
         JOIN card_incident AS again ON again.incident = shown.incident AND again.card <> old.id \
         JOIN card AS new ON new.id = again.card AND new.state = 'live' \
         WHERE old.state = 'live' AND old.kind = 'incident' AND new.room = ",
    );
    query.push_bind(address_change.to.as_str()).push(" AND old.id IN (");
    let pairs = listed(&mut query, going).build().fetch_all(&mut *connection).await?;
    for row in &pairs {
        let (old, new) = (CardId(row.try_get("old")?), CardId(row.try_get("new")?));
        let flag = |column| row.try_get::<i64, _>(column).map(|flag| flag != 0);
        if flag("unsent")? && row.try_get::<&str, _>("kind")? == CardKind::Incident.as_str() {
            take_over(connection, &old, &new).await?;
        } else {
            give_way(connection, &old, &new, flag("posted")?.then_some(now)).await?;
        }
    }
    Ok(())
}

/// The newer card was never sent: the older one takes its notes.
async fn take_over(connection: &mut AnyConnection, old: &CardId, new: &CardId) -> Result<(), StoreError> {
    for sql in [
        "UPDATE note SET card = $1 WHERE card = $2",
        "UPDATE card SET dirty_since = coalesce(dirty_since, (SELECT dirty_since FROM card WHERE id = $2)) WHERE id = $1",
        "UPDATE card SET superseded_by = $1 WHERE superseded_by = $2",
        "DELETE FROM card WHERE id = $2 AND id <> $1",
    ] {
        statement::query(sql).bind(old.as_str()).bind(new.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The newer card supersedes the older one, as with a repost.
async fn give_way(
    connection: &mut AnyConnection,
    old: &CardId,
    new: &CardId,
    due: Option<Timestamp>,
) -> Result<(), StoreError> {
    statement::query("DELETE FROM note WHERE card = $1 AND op IS NULL")
        .bind(old.as_str())
        .execute(&mut *connection)
        .await?;
    statement::query(
        "UPDATE card SET state = 'superseded', superseded_by = $2, \
         dirty_since = CASE WHEN root_event IS NULL THEN NULL ELSE $3 END WHERE id = $1",
    )
    .bind(old.as_str())
    .bind(new.as_str())
    .bind(due.map(|at| at.0))
    .execute(connection)
    .await?;
    Ok(())
}
