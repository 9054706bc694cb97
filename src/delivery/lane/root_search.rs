//! Once after the start, a lane searches its room for cards that waited since before it: if the store is an older copy,
//! a later state of it may have posted them.

use super::{context::RoomContext, in_doubt::RESTART, search::AGE_MARGIN};
use crate::{
    delivery::{
        gate::Permit,
        plan,
        transport::{ReadBack, Search},
    },
    model::{OpKind, SendError, Timestamp},
    store::{DueCards, FoundRoot, StoreError},
};

#[derive(Debug)]
pub(super) struct RootSearch {
    /// When the lane started.
    started: Timestamp,
    done: bool,
}

#[derive(Debug)]
pub(super) enum RootSearchResult {
    /// There is nothing to search for, or nothing was found.
    Nothing,
    /// First events were found and recorded.
    Adopted,
    /// The lane must stop.
    Stopped,
    /// The room cannot be read for now.
    Failed(SendError, Permit),
}

impl RootSearch {
    pub fn new(started: Timestamp) -> Self {
        Self { started, done: false }
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    pub async fn run(&mut self, context: &RoomContext, due: &DueCards) -> Result<RootSearchResult, StoreError> {
        let Some(oldest) = self.oldest_from_before(due) else {
            self.done = true;
            return Ok(RootSearchResult::Nothing);
        };
        let Some(permit) = context.enter_gate(plan::priority(due)).await else { return Ok(RootSearchResult::Stopped) };
        let before = context.store.last_recorded(&context.room).await?;
        let older_than = context.clock.now().since(oldest) + AGE_MARGIN;
        let search = Search { wanted: None, after: before.as_deref(), older_than };
        let read = match context.transport.read_back(&context.room, search).await {
            Ok(read) => read,
            Err(error) => return Ok(RootSearchResult::Failed(error, permit)),
        };
        self.done = true;
        if !read.complete || read.events.iter().any(|event| event.op.is_none()) {
            self.count_possible_duplicates(context, due);
        }
        let adopted = context.store.adopt_roots(&context.room, roots_of(read)).await?;
        for (card, root) in &adopted {
            context.count(OpKind::Card, "adopted");
            tracing::info!(
                incident = %root.incident, card = %card, room = %context.name, event = root.event_id,
                "found in the room: the store is outdated"
            );
        }
        Ok(if adopted.is_empty() { RootSearchResult::Nothing } else { RootSearchResult::Adopted })
    }

    /// The room cannot be read although the homeserver answers: its cards are posted without a search.
    pub fn give_up(&mut self, context: &RoomContext, due: &DueCards, error: &SendError) {
        self.done = true;
        tracing::warn!(room = %context.name, reason = %error, "room search failed; posting new cards anyway");
        self.count_possible_duplicates(context, due);
    }

    /// Since when the oldest card waits that is due since before the start.
    fn oldest_from_before(&self, due: &DueCards) -> Option<Timestamp> {
        due.new.iter().map(|card| card.dirty_since).filter(|since| *since < self.started).min()
    }

    fn count_possible_duplicates(&self, context: &RoomContext, due: &DueCards) {
        let cards = self.older_than_a_restart(due);
        if cards > 0 {
            context.metrics.possible_duplicates.inc_by(cards as u64);
            tracing::warn!(room = %context.name, cards, "cannot search the room; cards may appear twice");
        }
    }

    /// Cards that waited for longer than a restart takes: if the store is a copy from back then, the room may have
    /// them.
    fn older_than_a_restart(&self, due: &DueCards) -> usize {
        due.new.iter().filter(|card| self.started.since(card.dirty_since) > RESTART).count()
    }
}

fn roots_of(read: ReadBack) -> Vec<FoundRoot> {
    let roots = read.events.into_iter().filter(|event| event.starts_card);
    roots
        .filter_map(|event| Some(FoundRoot { event_id: event.event_id, op: event.op?, incident: event.incident? }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::transport::OwnEvent,
        model::{CardId, IncidentId, TxnId},
        store::DueCard,
    };

    #[test]
    fn cards_from_before_the_start_are_searched_for_and_old_ones_may_be_duplicates() {
        let search = RootSearch::new(Timestamp(3_600_000));
        let due = |times: &[i64]| {
            let card = |since: &i64| DueCard {
                card: CardId(since.to_string()),
                severity: 0,
                dirty_since: Timestamp(*since),
                notes: None,
            };
            DueCards { new: times.iter().map(card).collect(), ..DueCards::default() }
        };
        assert_eq!(search.oldest_from_before(&due(&[3_600_000, 4_000_000])), None);
        let waiting = due(&[3_599_000, 4_000_000, 60_000]);
        assert_eq!(search.oldest_from_before(&waiting), Some(Timestamp(60_000)));
        assert_eq!(search.older_than_a_restart(&waiting), 1);
    }

    #[test]
    fn only_readable_first_events_are_roots() {
        let event = |id: &str, readable: bool, starts_card| OwnEvent {
            event_id: id.to_owned(),
            op: readable.then(|| TxnId("t".to_owned())),
            incident: readable.then(|| IncidentId("i".to_owned())),
            starts_card,
        };
        let events = vec![event("$reply", true, false), event("$root", true, true), event("$unread", false, true)];
        let roots = roots_of(ReadBack { events, complete: true });
        assert_eq!(roots.iter().map(|root| root.event_id.as_str()).collect::<Vec<_>>(), ["$root"]);
    }
}
