//! Who learns of a commit: the lanes of the rooms that it may leave behind, and no others. Each lane that looks asks the
//! database, which with a thousand rooms costs more than the commit.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::model::RoomAddress;

/// The rooms, by the addresses that their cards have, that may be behind once something is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behind {
    #[default]
    None,
    Rooms(BTreeSet<String>),
    /// Or whichever: not known.
    All,
}

impl Behind {
    /// This room as well.
    pub fn add(&mut self, room: &str) {
        match self {
            Self::None => *self = Self::Rooms(BTreeSet::from([room.to_owned()])),
            Self::Rooms(rooms) if !rooms.contains(room) => {
                rooms.insert(room.to_owned());
            }
            Self::Rooms(_) | Self::All => {}
        }
    }

    pub fn add_all(&mut self) {
        *self = Self::All;
    }

    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// What other replicas are sent of it: nothing stands for all. Where it is longer than `most` bytes, all.
    pub fn as_words(&self, most: usize) -> String {
        let Self::Rooms(rooms) = self else { return String::new() };
        let words: String = rooms.iter().flat_map(|room| [" ", room]).collect();
        if words.len() <= most { words } else { String::new() }
    }

    pub fn of_words<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let rooms: BTreeSet<String> = words.map(ToOwned::to_owned).collect();
        if rooms.is_empty() { Self::All } else { Self::Rooms(rooms) }
    }
}

/// Counts for each room that somebody watches what concerns it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wakes(Arc<Mutex<HashMap<String, Counts>>>);

#[derive(Debug, Default)]
struct Counts {
    /// The commits that may leave it behind.
    commits: watch::Sender<u64>,
    /// What came for it and is about to be committed, if it is new.
    coming: watch::Sender<u64>,
}

impl Wakes {
    pub fn of(&self, room: &RoomAddress) -> watch::Receiver<u64> {
        self.watch(room, |counts| &counts.commits)
    }

    pub fn coming(&self, room: &RoomAddress) -> watch::Receiver<u64> {
        self.watch(room, |counts| &counts.coming)
    }

    fn watch(&self, room: &RoomAddress, which: impl Fn(&Counts) -> &watch::Sender<u64>) -> watch::Receiver<u64> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = rooms.get(room.as_str()) {
            return which(counts).subscribe();
        }
        which(rooms.entry(room.as_str().to_owned()).or_default()).subscribe()
    }

    /// Something new came for these rooms.
    pub fn announce(&self, named: &[RoomAddress]) {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for counts in named.iter().filter_map(|room| rooms.get(room.as_str())) {
            counts.coming.send_modify(|webhooks| *webhooks += 1);
        }
    }

    pub fn wake(&self, behind: &Behind) {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |counts: &Counts| counts.commits.send_modify(|commits| *commits += 1);
        match behind {
            Behind::None => {}
            Behind::Rooms(named) => named.iter().filter_map(|room| rooms.get(room)).for_each(count),
            Behind::All => rooms.values().for_each(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woken(wakes: &mut [watch::Receiver<u64>; 2]) -> [bool; 2] {
        wakes.each_mut().map(|wake| {
            let changed = wake.has_changed().expect("a sender");
            wake.mark_unchanged();
            changed
        })
    }

    #[test]
    fn rooms_that_are_named_are_woken_and_all_where_nobody_knows() {
        let wakes = Wakes::default();
        let rooms = ["!a:example.org", "!b:example.org"].map(|room| RoomAddress::parse(room).expect("a room"));
        let mut both = [wakes.of(&rooms[0]), wakes.of(&rooms[1])];
        let mut behind = Behind::default();
        wakes.wake(&behind);
        assert!(behind.is_none());
        assert_eq!(woken(&mut both), [false, false]);
        behind.add("!b:example.org");
        behind.add("!b:example.org");
        behind.add("!nobody:example.org");
        wakes.wake(&behind);
        assert_eq!(woken(&mut both), [false, true]);
        behind.add_all();
        behind.add("!a:example.org");
        assert_eq!(behind, Behind::All);
        wakes.wake(&behind);
        assert_eq!(woken(&mut both), [true, true]);
    }

    #[test]
    fn what_other_replicas_are_sent_says_the_same_or_all() {
        let mut behind = Behind::default();
        behind.add("!b:example.org");
        behind.add("#a:example.org");
        let words = behind.as_words(100);
        assert_eq!(words, " !b:example.org #a:example.org");
        assert_eq!(Behind::of_words(words.split_whitespace()), behind);
        for all in [behind.as_words(29), Behind::All.as_words(100)] {
            assert_eq!(Behind::of_words(all.split_whitespace()), Behind::All);
        }
    }
}
