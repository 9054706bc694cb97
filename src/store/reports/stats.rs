//! Numbers for metrics and health, read when they are asked for.

use std::collections::BTreeMap;

use sqlx::{Connection as _, Row as _, SqlitePool};

use crate::{
    model::{OpState, RoomAddress, Timestamp},
    store::{Store, StoreError},
};

/// Each question is answered by an index that has only what is open, due or unfinished. A card is behind while it is due,
/// and also while the op that will bring it up to date is not acknowledged.
const OPEN: &str = "SELECT route, count(*) FROM incident WHERE closed_at IS NULL GROUP BY route";
const DUE: &str = "SELECT room, count(*), min(dirty_since) FROM card WHERE dirty_since IS NOT NULL GROUP BY room";
const UNDER_WAY: &str = "SELECT room, count(*) FROM (\
       SELECT DISTINCT op.card AS card, op.room AS room FROM op \
       WHERE op.state IN ('in_flight', 'in_doubt', 'parked') AND op.state NOT IN ('done', 'refused')\
     ) AS live WHERE EXISTS (SELECT 1 FROM card WHERE card.id = live.card AND card.dirty_since IS NULL) GROUP BY room";
const OPS: &str = "SELECT room, state, count(*), min(since), max(ended_at) FROM op \
     WHERE state NOT IN ('done', 'refused') GROUP BY room, state";

/// As it was read, for whichever rooms.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    open: Vec<(String, i64)>,
    /// Cards that are behind, and the oldest change that they do not show, by room; a room may be there twice.
    behind: Vec<(String, i64, Option<i64>)>,
    ops: Vec<Ops>,
}

#[derive(Debug)]
struct Ops {
    room: String,
    state: OpState,
    count: i64,
    since: i64,
    ended: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open incidents by route.
    pub incidents_open: Vec<(String, i64)>,
    /// Cards whose room is behind.
    pub waiting: i64,
    /// The same by room address.
    pub waiting_by_room: Vec<(String, i64)>,
    /// The oldest accepted change that each of these rooms does not show.
    pub oldest_by_room: Vec<(String, Timestamp)>,
    /// Unacknowledged ops by state: `in_flight`, `in_doubt`, `parked`, `dead`.
    pub ops: Vec<(OpState, i64)>,
    /// The oldest accepted change that a room does not show.
    pub oldest: Option<Timestamp>,
    /// When something was last set aside as a dead letter.
    pub last_dead: Option<Timestamp>,
}

impl Store {
    /// The numbers of these rooms, as they were a second ago or later. What waits for a room that the config no longer
    /// names is a last edit, and nobody's backlog.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stats(&self, rooms: &[RoomAddress]) -> Result<Stats, StoreError> {
        let monitoring = self.monitoring.clone();
        let numbers = self.numbers.get((), &self.commits, async move { read(&monitoring).await }).await?;
        Ok(of_rooms(&numbers, rooms))
    }
}

async fn read(monitoring: &SqlitePool) -> Result<Numbers, StoreError> {
    let mut connection = monitoring.acquire().await?;
    // One transaction, so that all of it is of one instant.
    let mut transaction = connection.begin().await?;
    let mut numbers = Numbers::default();
    for row in &sqlx::query(OPEN).fetch_all(&mut *transaction).await? {
        numbers.open.push((row.try_get(0)?, row.try_get(1)?));
    }
    for row in &sqlx::query(DUE).fetch_all(&mut *transaction).await? {
        numbers.behind.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    for row in &sqlx::query(UNDER_WAY).fetch_all(&mut *transaction).await? {
        numbers.behind.push((row.try_get(0)?, row.try_get(1)?, None));
    }
    for row in &sqlx::query(OPS).fetch_all(&mut *transaction).await? {
        let Some(state) = OpState::parse(row.try_get(1)?) else { continue };
        let (room, count, since, ended) = (row.try_get(0)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        numbers.ops.push(Ops { room, state, count, since, ended });
    }
    transaction.commit().await?;
    Ok(numbers)
}

fn of_rooms(numbers: &Numbers, rooms: &[RoomAddress]) -> Stats {
    let served = |room: &str| rooms.iter().any(|served| served.as_str() == room);
    let mut stats = Stats { incidents_open: numbers.open.clone(), ..Stats::default() };
    let mut oldest: BTreeMap<&str, i64> = BTreeMap::new();
    let mut waiting: BTreeMap<&str, i64> = BTreeMap::new();
    let mut note = |room, since: i64| {
        let known = oldest.entry(room).or_insert(since);
        *known = since.min(*known);
    };
    for (room, count, since) in numbers.behind.iter().filter(|(room, ..)| served(room)) {
        *waiting.entry(room.as_str()).or_default() += count;
        if let Some(since) = since {
            note(room.as_str(), *since);
        }
    }
    for ops in &numbers.ops {
        if ops.state == OpState::Dead {
            stats.last_dead = stats.last_dead.max(ops.ended.map(Timestamp));
        } else if served(&ops.room) {
            note(&ops.room, ops.since);
        } else {
            continue;
        }
        match stats.ops.iter_mut().find(|(known, _)| *known == ops.state) {
            Some((_, sum)) => *sum += ops.count,
            None => stats.ops.push((ops.state, ops.count)),
        }
    }
    stats.waiting = waiting.values().sum();
    stats.waiting_by_room = waiting.into_iter().map(|(room, count)| (room.to_owned(), count)).collect();
    stats.oldest = oldest.values().min().copied().map(Timestamp);
    stats.oldest_by_room = oldest.into_iter().map(|(room, since)| (room.to_owned(), Timestamp(since))).collect();
    stats
}
