//! Numbers for metrics and health.

use std::collections::BTreeMap;

use crate::model::{OpState, RoomAddress, Timestamp};

/// As it was read, for whichever rooms.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(super) open: Vec<(String, i64)>,
    /// Cards that are behind, and the oldest change that they do not show, by room; a room may be there twice.
    pub(super) behind: Vec<(String, i64, Option<i64>)>,
    pub(super) ops: Vec<Ops>,
}

#[derive(Debug)]
pub(super) struct Ops {
    pub(super) room: String,
    pub(super) state: OpState,
    pub(super) count: i64,
    pub(super) since: i64,
    pub(super) ended: Option<i64>,
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

pub(super) fn of_rooms(numbers: &Numbers, rooms: &[RoomAddress]) -> Stats {
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
