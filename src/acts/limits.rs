//! How often a room is answered, so that chatter fills neither the room nor the store. Kept in memory only: a restart
//! costs one answer more.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::model::Timestamp;

/// One refusal for want of the right, for each sender in a room.
const REFUSAL: Duration = Duration::from_mins(10);
/// What somebody without the right asks is not asked of the homeserver again within this time.
const KNOWN: Duration = Duration::from_secs(10);
/// Between two questions (`!why` and the like) that a room is answered.
const READ: Duration = Duration::from_secs(10);
/// Questions wait for their turn at most this long; further ones are only counted.
const READ_QUEUE: Duration = Duration::from_mins(1);
/// What one sender may ask in a room at once, and how long it takes until one more may be asked.
const BURST: u32 = 30;
const REFILL: Duration = Duration::from_secs(2);
/// Senders and rooms that are remembered.
const MOST: usize = 2_000;

type Sender = (String, String);

#[derive(Debug, Default)]
pub struct Limits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When each was refused last, and until when that need not be asked again.
    refused: HashMap<Sender, (Timestamp, Timestamp)>,
    /// When the next question of a room is answered.
    reads: HashMap<String, Timestamp>,
    /// What each may still ask, as of then.
    asked: HashMap<Sender, (u32, Timestamp)>,
}

/// What is known of a sender who was refused lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not lately.
    No,
    /// A moment ago: it is the same still.
    JustNow,
    /// The right may have been given since.
    AskAgain,
}

impl Limits {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a refusal for want of the right is to be said, which then counts as said.
    pub fn may_refuse(&self, room: &str, sender: &str, now: Timestamp) -> bool {
        let mut state = self.state();
        let key = (room.to_owned(), sender.to_owned());
        let last = state.refused.get(&key).map(|(at, _)| *at);
        let may = last.is_none_or(|at| now.since(at) >= REFUSAL || now < at);
        let at = if may { now } else { last.unwrap_or(now) };
        bound(&mut state.refused, |(at, _)| now.since(*at) >= REFUSAL);
        state.refused.insert(key, (at, now.plus(KNOWN)));
        may
    }

    #[must_use]
    pub fn refused(&self, room: &str, sender: &str, now: Timestamp) -> Refused {
        match self.state().refused.get(&(room.to_owned(), sender.to_owned())) {
            Some((at, known)) if now.since(*at) < REFUSAL => {
                if now < *known {
                    Refused::JustNow
                } else {
                    Refused::AskAgain
                }
            }
            _ => Refused::No,
        }
    }

    /// When a question is answered; `None`: too many wait.
    pub fn read_slot(&self, room: &str, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.state();
        let slot = state.reads.get(room).copied().filter(|at| *at > now && at.since(now) <= READ_QUEUE + READ);
        let slot = slot.unwrap_or(now);
        if slot.since(now) > READ_QUEUE {
            return None;
        }
        bound(&mut state.reads, |at| *at <= now);
        state.reads.insert(room.to_owned(), slot.plus(READ));
        Some(slot)
    }

    /// Whether a sender may ask for one more thing.
    pub fn may_ask(&self, room: &str, sender: &str, now: Timestamp) -> bool {
        let mut state = self.state();
        let key = (room.to_owned(), sender.to_owned());
        let (left, at) = state.asked.get(&key).copied().unwrap_or((BURST, now));
        let refilled = u32::try_from(now.since(at).as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        let at = if refilled > 0 { now } else { at };
        let left = left.saturating_add(refilled).min(BURST);
        bound(&mut state.asked, |(_, at)| now.since(*at) >= REFILL * BURST);
        state.asked.insert(key, (left.saturating_sub(1), at));
        left > 0
    }
}

/// Makes room for one more: what is over goes first, then anything.
fn bound<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, is_over: impl Fn(&V) -> bool) {
    if map.len() < MOST {
        return;
    }
    map.retain(|_, value| !is_over(value));
    while map.len() >= MOST {
        let Some(key) = map.keys().next().cloned() else { return };
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(1_000_000 + second * 1_000)
    }

    #[test]
    fn one_refusal_in_ten_minutes_for_each_sender() {
        let limits = Limits::default();
        assert_eq!(limits.refused("r", "a", at(0)), Refused::No);
        assert!(
            limits.may_refuse("r", "a", at(0))
                && limits.may_refuse("r", "b", at(0))
                && limits.may_refuse("s", "a", at(0))
        );
        assert!(!limits.may_refuse("r", "a", at(599)));
        assert_eq!(limits.refused("r", "a", at(300)), Refused::JustNow, "as it was found at 599, said earlier");
        assert_eq!(limits.refused("r", "b", at(11)), Refused::AskAgain);
        assert_eq!(limits.refused("r", "b", at(600)), Refused::No);
        assert!(limits.may_refuse("r", "a", at(600)));
    }

    #[test]
    fn questions_of_a_room_wait_for_their_turn() {
        let limits = Limits::default();
        let slots: Vec<_> = (0..9).map(|_| limits.read_slot("r", at(0))).collect();
        let expected: Vec<_> = (0..9).map(|n| (n < 7).then(|| at(n * 10))).collect();
        assert_eq!(slots, expected);
        assert_eq!(limits.read_slot("other", at(0)), Some(at(0)));
        assert_eq!(limits.read_slot("r", at(70)), Some(at(70)));
    }

    #[test]
    fn a_sender_may_ask_for_many_things_but_not_for_ever() {
        let limits = Limits::default();
        assert_eq!((0..100).filter(|_| limits.may_ask("r", "a", at(0))).count(), 30);
        assert!(limits.may_ask("r", "b", at(0)));
        assert!(!limits.may_ask("r", "a", at(1)) && limits.may_ask("r", "a", at(3)));
    }

    #[test]
    fn memory_is_bounded() {
        let limits = Limits::default();
        for n in 0..5_000 {
            limits.may_refuse("r", &n.to_string(), at(0));
            limits.may_ask("r", &n.to_string(), at(0));
            limits.read_slot(&n.to_string(), at(0));
        }
        let state = limits.state();
        assert!([state.refused.len(), state.asked.len(), state.reads.len()].into_iter().all(|len| len <= MOST));
    }
}
