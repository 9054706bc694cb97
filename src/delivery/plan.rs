//! What a room gets next. Pure.

use std::time::Duration;

use crate::{
    model::CardId,
    store::{DueCard, DueCards},
};

/// Edits of one card are at least this far apart, so that a busy group does not fill the room's history.
pub const EDIT_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Card(CardId),
    Reply(CardId),
    Edit(CardId),
    /// Only edits that must wait a little; how long the first of them must.
    Wait(Duration),
    Nothing,
}

/// New cards go first (they are what a room knows nothing of), then what is said in threads, then edits. `edited_ago`
/// tells how long ago a card was edited last.
pub fn next(due: &DueCards, edited_ago: impl Fn(&CardId) -> Option<Duration>) -> Step {
    if let Some(first) = due.new.first() {
        return Step::Card(first.card.clone());
    }
    if let Some(first) = due.notes.first() {
        return Step::Reply(first.card.clone());
    }
    let wait = |due: &DueCard| edited_ago(&due.card).map_or(Duration::ZERO, |ago| EDIT_EVERY.saturating_sub(ago));
    match due.edits.iter().map(|due| (wait(due), due)).min_by_key(|(wait, _)| *wait) {
        None => Step::Nothing,
        Some((wait, due)) if wait.is_zero() => Step::Edit(due.card.clone()),
        Some((wait, _)) => Step::Wait(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn due(name: &str) -> DueCard {
        DueCard { card: CardId(name.to_owned()), severity: 0, dirty_since: Timestamp(0) }
    }

    #[test]
    fn cards_before_replies_before_edits() {
        let never = |_: &CardId| None;
        let mut all = DueCards { new: vec![due("n")], notes: vec![due("r")], edits: vec![due("e")] };
        assert_eq!(next(&all, never), Step::Card(CardId("n".to_owned())));
        all.new.clear();
        assert_eq!(next(&all, never), Step::Reply(CardId("r".to_owned())));
        all.notes.clear();
        assert_eq!(next(&all, never), Step::Edit(CardId("e".to_owned())));
        all.edits.clear();
        assert_eq!(next(&all, never), Step::Nothing);
    }

    #[test]
    fn an_edit_waits_for_its_own_card_only() {
        let edits = DueCards { edits: vec![due("busy"), due("calm")], ..DueCards::default() };
        let busy = |card: &CardId| (card.as_str() == "busy").then(|| Duration::from_millis(300));
        assert_eq!(next(&edits, busy), Step::Edit(CardId("calm".to_owned())));
        let both = |_: &CardId| Some(Duration::from_millis(300));
        assert_eq!(next(&edits, both), Step::Wait(EDIT_EVERY.checked_sub(Duration::from_millis(300)).unwrap()));
    }
}
