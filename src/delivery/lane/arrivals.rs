//! Remembers which incidents came into the room lately, also those that it shows already.

use std::{collections::HashMap, time::Duration};

use crate::{
    delivery::storm::{Pace, WINDOW, recent},
    model::{CardId, Timestamp},
    store::DueCard,
};

/// The most cards that are remembered; more are a storm in any case.
const MOST: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// When the cards of the last two seconds were accepted.
    accepted: HashMap<CardId, Timestamp>,
}

impl Arrivals {
    /// Records the new cards that wait, and returns how fast such come.
    pub fn pace(&mut self, new: &[DueCard], now: Timestamp, since_card: Duration) -> Pace {
        self.accepted.retain(|_, at| now.since(*at) < WINDOW);
        let mut waiting = 0;
        for (card, at) in recent(new, now) {
            if self.accepted.contains_key(card) || self.accepted.len() < MOST {
                self.accepted.insert(card.clone(), at);
                waiting += 1;
            }
        }
        Pace::of(self.accepted.values().copied(), waiting, now, since_card)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(names: &[&str], since: i64) -> Vec<DueCard> {
        let card = |name: &&str| DueCard {
            card: CardId((*name).to_owned()),
            severity: 1,
            dirty_since: Timestamp(since),
            notes: None,
        };
        names.iter().map(card).collect()
    }

    #[test]
    fn what_waits_no_more_counts_for_two_seconds() {
        let (mut arrivals, mut pace) = (Arrivals::default(), None);
        for (names, since) in [(&["a", "b"][..], 1_000), (&["c"], 2_000)] {
            pace = Some(arrivals.pace(&waiting(names, since), Timestamp(since), Duration::ZERO));
        }
        let expected =
            Pace { last_second: 1, in_window: 3, shown: 2, quiet: Duration::ZERO, since_card: Duration::ZERO };
        assert_eq!(pace, Some(expected));
        let later = arrivals.pace(&waiting(&["old"], 0), Timestamp(3_000), Duration::ZERO);
        assert_eq!((later.in_window, later.shown), (1, 1), "what came long ago was not fast");
    }

    #[test]
    fn a_bounded_number_is_remembered() {
        let mut arrivals = Arrivals::default();
        for n in 0..=MOST {
            arrivals.pace(&waiting(&[n.to_string().as_str()], 1), Timestamp(1), Duration::ZERO);
        }
        assert_eq!(arrivals.accepted.len(), MOST);
    }
}
