//! Numbers for metrics and health, read when they are asked for.

use std::collections::BTreeMap;

use sqlx::Row as _;

use super::{Store, StoreError};
use crate::model::{OpState, RoomAddress, Timestamp};

/// A card is behind while it is due, and also while the op that will bring it up to date is not acknowledged.
const BEHIND: &str = "SELECT room, count(*), min(dirty_since) FROM card WHERE dirty_since IS NOT NULL \
     OR id IN (SELECT card FROM op WHERE state IN ('in_flight', 'in_doubt', 'parked')) GROUP BY room";
const OPS: &str = "SELECT room, state, count(*), min(since), max(ended_at) FROM op \
     WHERE state NOT IN ('done', 'refused') GROUP BY room, state";

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
    /// The numbers of these rooms. What waits for a room that the config no longer names is a last edit, and nobody's
    /// backlog.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stats(&self, rooms: &[RoomAddress]) -> Result<Stats, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let incidents = sqlx::query("SELECT route, count(*) FROM incident WHERE closed_at IS NULL GROUP BY route")
            .fetch_all(&mut *connection)
            .await?;
        let behind = sqlx::query(BEHIND).fetch_all(&mut *connection).await?;
        let ops = sqlx::query(OPS).fetch_all(&mut *connection).await?;
        let served = |room: &str| rooms.iter().any(|served| served.as_str() == room);
        let mut stats = Stats::default();
        for row in &incidents {
            stats.incidents_open.push((row.try_get(0)?, row.try_get(1)?));
        }
        let mut oldest: BTreeMap<String, i64> = BTreeMap::new();
        let mut note = |room: &str, since: i64| {
            let known = oldest.entry(room.to_owned()).or_insert(since);
            *known = since.min(*known);
        };
        for row in &behind {
            let (room, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            if served(&room) {
                stats.waiting += count;
                if let Some(since) = row.try_get(2)? {
                    note(&room, since);
                }
                stats.waiting_by_room.push((room, count));
            }
        }
        for row in &ops {
            let Some(left) = OpState::parse(row.try_get(1)?) else { continue };
            if left == OpState::Dead {
                stats.last_dead = stats.last_dead.max(row.try_get::<Option<i64>, _>(4)?.map(Timestamp));
            } else if served(row.try_get(0)?) {
                note(row.try_get(0)?, row.try_get(3)?);
            } else {
                continue;
            }
            let count: i64 = row.try_get(2)?;
            match stats.ops.iter_mut().find(|(known, _)| *known == left) {
                Some((_, sum)) => *sum += count,
                None => stats.ops.push((left, count)),
            }
        }
        stats.oldest = oldest.values().min().copied().map(Timestamp);
        stats.oldest_by_room = oldest.into_iter().map(|(room, since)| (room, Timestamp(since))).collect();
        Ok(stats)
    }
}
