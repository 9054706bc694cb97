//! What a lane sent lately: it spaces the edits of a card, and leaves evidence out where there is much else.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    delivery::plan,
    model::{CardId, Op, OpKind},
};

/// This many cards within the window leave no room for evidence.
const STORM: usize = 4;
const STORM_WINDOW: Duration = Duration::from_secs(10);
/// At this many cards, those whose last edit no longer matters are dropped.
const EDITS: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct RecentSends {
    /// When each card was edited last.
    edits: HashMap<CardId, Instant>,
    /// When the last few cards were posted, the newest first.
    cards: VecDeque<Instant>,
}

impl RecentSends {
    /// Records an op that is in the room now.
    pub fn record(&mut self, op: &Op) {
        self.record_at(op.kind, &op.card, Instant::now());
    }

    fn record_at(&mut self, kind: OpKind, card: &CardId, now: Instant) {
        match kind {
            OpKind::Card => {
                self.cards.push_front(now);
                self.cards.truncate(STORM);
            }
            OpKind::Edit => {
                if self.edits.len() >= EDITS {
                    self.edits.retain(|_, at| now.duration_since(*at) < plan::EDIT_EVERY);
                }
                self.edits.insert(card.clone(), now);
            }
            OpKind::Reply | OpKind::Post | OpKind::Notice => {}
        }
    }

    pub fn since_edit_of(&self, card: &CardId) -> Option<Duration> {
        self.edits.get(card).map(Instant::elapsed)
    }

    /// How long ago the last card was posted.
    pub fn since_card(&self) -> Duration {
        self.cards.front().map_or(Duration::MAX, Instant::elapsed)
    }

    /// Whether several cards went out within the last seconds.
    pub fn is_storm(&self) -> bool {
        self.is_storm_at(Instant::now())
    }

    fn is_storm_at(&self, now: Instant) -> bool {
        self.cards.iter().filter(|at| now.duration_since(**at) < STORM_WINDOW).count() >= STORM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_cards_within_ten_seconds_are_a_storm() {
        let (mut recent, start, card) = (RecentSends::default(), Instant::now(), CardId("c".to_owned()));
        let at = |second| start + Duration::from_secs(second);
        for second in [0, 7, 8] {
            recent.record_at(OpKind::Card, &card, at(second));
        }
        recent.record_at(OpKind::Reply, &card, at(8));
        assert!(!recent.is_storm_at(at(8)), "three cards");
        recent.record_at(OpKind::Card, &card, at(9));
        assert!(recent.is_storm_at(at(9)));
        assert!(!recent.is_storm_at(at(10)), "the first is too old");
    }

    #[test]
    fn only_edits_that_still_matter_are_kept_once_there_are_many() {
        let (mut recent, start) = (RecentSends::default(), Instant::now());
        for n in 0..EDITS {
            recent.record_at(OpKind::Edit, &CardId(n.to_string()), start);
        }
        recent.record_at(OpKind::Edit, &CardId("last".to_owned()), start + plan::EDIT_EVERY);
        assert_eq!(recent.edits.len(), 1);
        assert!(recent.since_edit_of(&CardId("last".to_owned())).is_some());
        assert!(recent.since_edit_of(&CardId("0".to_owned())).is_none());
    }
}
