//! Decides what a room gets next. Pure.

use std::time::Duration;

use super::{
    queue::Priority,
    storm::{Pace, URGENT_EVERY, is_urgent, oldest},
};
use crate::{
    model::{CardId, Timestamp},
    store::{DueCard, DueCards},
};

/// The least time between two edits of one card, so that a busy group does not fill the room's history.
pub const EDIT_EVERY: Duration = Duration::from_secs(1);
/// How long the first of many cards that could turn green together waits for the others. It notifies nobody.
pub const GATHER_GREEN: Duration = Duration::from_millis(1_500);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Card(CardId),
    /// One card for all new incidents.
    Digest,
    Reply(CardId),
    /// One notice for all cards that turn green.
    Green,
    Edit(CardId),
    /// An answer to somebody in the room.
    Answer,
    /// Nothing can go out before that.
    Wait(Duration),
    Nothing,
}

/// What a plan depends on besides the cards that are due.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub now: Timestamp,
    /// `digest_above` of the room's routes; 0: never merge.
    pub digest_above: usize,
    /// A rate limit was just waited out: what gathered behind it merges.
    pub limited: bool,
    /// Under a limit, this send belongs to the oldest waiting edit.
    pub edits_turn: bool,
    /// How fast new incidents come.
    pub pace: Pace,
    /// The homeserver takes more events than a default limit allows.
    pub ample: bool,
    /// How many more new cards there are than are listed; not more than decides.
    pub new_beyond: usize,
    /// Cards in the room that show something open, and so could turn green together.
    pub live: usize,
}

/// Chooses new cards first (the room does not know them at all), then replies, then edits, then answers. `edited_ago`
/// returns how long ago a card was edited last.
pub fn next(due: &DueCards, conditions: &Conditions, edited_ago: impl Fn(&CardId) -> Option<Duration>) -> Step {
    let choices = [
        if conditions.edits_turn { edit(due, &edited_ago) } else { Step::Nothing },
        new_cards(due, conditions),
        reply(due, conditions),
        edit(due, &edited_ago),
    ];
    let mut shortest = None;
    for step in choices {
        match step {
            Step::Nothing => {}
            Step::Wait(wait) => shortest = Some(shortest.map_or(wait, |known: Duration| known.min(wait))),
            go => return go,
        }
    }
    if due.answer.is_some() && may_answer(due, conditions, shortest) {
        return Step::Answer;
    }
    shortest.map_or(Step::Nothing, Step::Wait)
}

/// Answers come last of all. Edits that wait for their second do not hold them, or a busy group would for as long as it is
/// busy; under a rate limit they do.
fn may_answer(due: &DueCards, conditions: &Conditions, waits: Option<Duration>) -> bool {
    let only_edits = due.new.is_empty() && due.notes.is_empty();
    waits.is_none() || (only_edits && !conditions.limited)
}

/// The priority of a room among others: that of what notifies by its severity, else that of all the rest by its age.
pub fn priority(due: &DueCards) -> Priority {
    let loud = due.notes.iter().filter(|card| card.notes.is_some_and(|notes| notes.loud));
    let notifying = due.new.iter().chain(loud).map(|card| (card.severity, card.dirty_since)).min();
    let mut all = due.new.iter().chain(&due.notes).chain(&due.edits).peekable();
    if all.peek().is_none() {
        let severity = if due.unasked { Priority::EVIDENCE } else { Priority::ANSWER };
        return Priority { severity, since: due.answer.unwrap_or(Timestamp(i64::MAX)), edit: None };
    }
    let (severity, since) =
        notifying.unwrap_or((Priority::CALM, all.map(|card| card.dirty_since).min().unwrap_or(Timestamp(i64::MAX))));
    Priority { severity, since, edit: due.edits.iter().map(|card| card.dirty_since).min() }
}

fn new_cards(due: &DueCards, conditions: &Conditions) -> Step {
    let Conditions { now, digest_above, limited, pace, ample, new_beyond, .. } = *conditions;
    let Some(first) = due.new.first() else { return Step::Nothing };
    let card = || Step::Card(first.card.clone());
    let waiting = due.new.len() + new_beyond;
    let is_storm = !limited && pace.is_storm(digest_above);
    let gather = if is_storm { pace.gather(oldest(&due.new, now), now) } else { Duration::ZERO };
    if gather.is_zero() {
        let together = limited || (is_storm && pace.is_above(digest_above));
        let merges = digest_above > 0 && (waiting > digest_above || (together && waiting > 1));
        return if merges { Step::Digest } else { card() };
    }
    if !is_urgent(first) {
        return Step::Wait(gather);
    }
    // All that is urgent goes out together, unless the homeserver is known to take one event for each.
    let wait = if ample { Duration::ZERO } else { URGENT_EVERY.saturating_sub(pace.since_card).min(gather) };
    let is_alone = !due.new.get(1).is_some_and(is_urgent);
    match wait {
        Duration::ZERO if waiting <= digest_above && (ample || is_alone) => card(),
        Duration::ZERO => Step::Digest,
        wait => Step::Wait(wait),
    }
}

fn reply(due: &DueCards, conditions: &Conditions) -> Step {
    // What notifies never waits for what does not.
    if let Some(loud) = due.notes.iter().find(|card| card.notes.is_some_and(|notes| notes.loud)) {
        return Step::Reply(loud.card.clone());
    }
    let Some(first) = due.notes.first() else { return Step::Nothing };
    let merges = conditions.digest_above > 0 && conditions.live > conditions.digest_above;
    if !merges {
        return Step::Reply(first.card.clone());
    }
    let oldest = due.notes.iter().filter_map(|card| card.notes).map(|notes| notes.oldest).min();
    let wait = GATHER_GREEN.saturating_sub(conditions.now.since(oldest.unwrap_or(conditions.now)));
    if !wait.is_zero() && !conditions.limited {
        return Step::Wait(wait);
    }
    let green = due.notes.iter().filter(|card| card.notes.is_some_and(|notes| notes.green)).count();
    if green + due.green_beyond > conditions.digest_above { Step::Green } else { Step::Reply(first.card.clone()) }
}

fn edit(due: &DueCards, edited_ago: impl Fn(&CardId) -> Option<Duration>) -> Step {
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
    use crate::{delivery::storm::GATHER_NEW, store::DueNotes};

    const NOW: Timestamp = Timestamp(100_000);
    const CALM: Conditions = Conditions {
        now: NOW,
        digest_above: 3,
        limited: false,
        edits_turn: false,
        pace: Pace::CALM,
        ample: false,
        new_beyond: 0,
        live: 1,
    };

    /// Forty came within a second and go on coming, and a few of them went out.
    const STORM: Pace =
        Pace { last_second: 40, in_window: 40, shown: 4, quiet: Duration::ZERO, since_card: Duration::MAX };

    fn due(name: &str) -> DueCard {
        DueCard { card: CardId(name.to_owned()), severity: 1, dirty_since: Timestamp(99_900), notes: None }
    }

    fn noted(name: &str, loud: bool, green: bool) -> DueCard {
        DueCard { notes: Some(DueNotes { loud, green, oldest: Timestamp(99_900) }), ..due(name) }
    }

    fn many(count: usize, make: impl Fn(&str) -> DueCard) -> Vec<DueCard> {
        (0..count).map(|n| make(&format!("c{n}"))).collect()
    }

    fn never(_: &CardId) -> Option<Duration> {
        None
    }

    fn id(name: &str) -> CardId {
        CardId(name.to_owned())
    }

    #[test]
    fn cards_before_replies_before_edits() {
        let mut all = DueCards {
            new: vec![due("n")],
            notes: vec![noted("r", true, false)],
            edits: vec![due("e")],
            ..DueCards::default()
        };
        assert_eq!(next(&all, &CALM, never), Step::Card(id("n")));
        assert_eq!(next(&all, &Conditions { edits_turn: true, ..CALM }, never), Step::Edit(id("e")));
        all.new.clear();
        assert_eq!(next(&all, &CALM, never), Step::Reply(id("r")));
        all.notes.clear();
        assert_eq!(next(&all, &CALM, never), Step::Edit(id("e")));
        all.edits.clear();
        assert_eq!(next(&all, &CALM, never), Step::Nothing);
    }

    #[test]
    fn an_answer_goes_last_of_all() {
        let asked = || DueCards { answer: Some(NOW), ..DueCards::default() };
        let calm = |due: &DueCards| next(due, &CALM, never);
        assert_eq!(calm(&asked()), Step::Answer);
        for (due, expected) in [
            (DueCards { new: vec![due("n")], ..asked() }, Step::Card(id("n"))),
            (DueCards { notes: vec![noted("r", false, true)], ..asked() }, Step::Reply(id("r"))),
            (DueCards { edits: vec![due("e")], ..asked() }, Step::Edit(id("e"))),
        ] {
            assert_eq!(calm(&due), expected);
            assert!(priority(&due) < priority(&asked()), "no room's answer goes before any room's card");
        }
        let evidence = DueCards { answer: Some(Timestamp(1)), unasked: true, ..DueCards::default() };
        assert!(priority(&asked()) < priority(&evidence), "nobody waits for evidence");
        // What is gathered goes first; an edit that waits for its second does not hold the answer unless sends are scarce.
        let (storm, limited) = (Conditions { pace: STORM, ..CALM }, Conditions { limited: true, ..CALM });
        assert!(matches!(next(&DueCards { new: vec![due("n")], ..asked() }, &storm, never), Step::Wait(_)));
        let (busy, just_now) = (DueCards { edits: vec![due("e")], ..asked() }, |_: &CardId| Some(Duration::ZERO));
        assert_eq!(next(&busy, &CALM, just_now), Step::Answer);
        assert_eq!(next(&busy, &limited, just_now), Step::Wait(EDIT_EVERY));
        assert_eq!(next(&asked(), &limited, never), Step::Answer);
    }

    #[test]
    fn more_than_digest_above_or_a_limit_make_a_digest() {
        let waiting = |count| DueCards { new: many(count, due), ..DueCards::default() };
        let limited = Conditions { limited: true, ..CALM };
        let never_merge = Conditions { digest_above: 0, limited: true, pace: STORM, ..CALM };
        for (count, conditions, expected) in [
            (3, &CALM, Step::Card(id("c0"))),
            (4, &CALM, Step::Digest),
            (1, &limited, Step::Card(id("c0"))),
            (2, &limited, Step::Digest),
            (60, &never_merge, Step::Card(id("c0"))),
        ] {
            assert_eq!(next(&waiting(count), conditions, never), expected, "{count} {conditions:?}");
        }
        // What the list has no space for counts.
        for (new_beyond, expected) in [(36, Step::Card(id("c0"))), (37, Step::Digest)] {
            let high = Conditions { digest_above: 100, new_beyond, ..CALM };
            assert_eq!(next(&waiting(64), &high, never), expected, "{new_beyond}");
        }
    }

    #[test]
    fn a_storm_is_gathered_for_a_moment() {
        let storm = Conditions { pace: STORM, ..CALM };
        let waiting = |count| DueCards { new: many(count, due), ..DueCards::default() };
        assert!(matches!(next(&waiting(40), &storm, never), Step::Wait(_)));
        let and_edits = DueCards { edits: vec![due("e")], ..waiting(40) };
        assert_eq!(next(&and_edits, &storm, never), Step::Edit(id("e")), "others go out meanwhile");
        let second = Conditions { now: NOW.plus(GATHER_NEW), ..storm };
        let over = Conditions { pace: Pace { quiet: GATHER_NEW, ..STORM }, ..storm };
        for (count, expected) in [(40, Step::Digest), (2, Step::Digest), (1, Step::Card(id("c0")))] {
            assert_eq!(next(&waiting(count), &second, never), expected, "{count} after a second");
            assert_eq!(next(&waiting(count), &over, never), expected, "{count} and no more");
        }
        let few = Conditions { pace: Pace { in_window: 3, ..over.pace }, ..over };
        assert_eq!(next(&waiting(2), &few, never), Step::Card(id("c0")), "not more than a digest");
    }

    #[test]
    fn nothing_is_held_back_for_a_drip() {
        let pace = Pace { last_second: 2, in_window: 4, shown: 3, quiet: Duration::ZERO, since_card: Duration::ZERO };
        let drip = Conditions { digest_above: 8, pace, ..CALM };
        assert_eq!(next(&DueCards { new: vec![due("n")], ..DueCards::default() }, &drip, never), Step::Card(id("n")));
    }

    #[test]
    fn what_is_urgent_is_not_gathered() {
        let storm = Conditions { pace: STORM, ..CALM };
        let ample = Conditions { ample: true, ..storm };
        let since_card = Duration::from_millis(100);
        let busy = Conditions { pace: Pace { since_card, ..STORM }, ..storm };
        let urgent = |name: &str| DueCard { severity: 0, ..due(name) };
        let with = |criticals, others| {
            let new = many(criticals, urgent).into_iter().chain(many(others, due)).collect();
            DueCards { new, ..DueCards::default() }
        };
        let card = Step::Card(id("c0"));
        for (criticals, others, conditions, expected) in [
            (1, 2, &storm, &card),
            (2, 1, &storm, &Step::Digest),
            (1, 3, &storm, &Step::Digest),
            (2, 1, &ample, &card),
            (2, 2, &ample, &Step::Digest),
            (1, 2, &busy, &Step::Wait(Duration::from_millis(250))),
            (1, 2, &Conditions { ample: true, ..busy }, &card),
        ] {
            assert_eq!(next(&with(criticals, others), conditions, never), *expected, "{criticals} {others}");
        }
        let soon = Conditions { pace: Pace { since_card: Duration::from_millis(400), ..STORM }, ..storm };
        assert_eq!(next(&with(1, 2), &soon, never), Step::Wait(Duration::from_millis(100)));
    }

    #[test]
    fn many_cards_that_turn_green_become_one_notice() {
        let busy = Conditions { live: 60, ..CALM };
        let later = Conditions { now: NOW.plus(GATHER_GREEN), ..busy };
        let green = |count| DueCards { notes: many(count, |name| noted(name, false, true)), ..DueCards::default() };
        assert_eq!(next(&green(1), &CALM, never), Step::Reply(id("c0")), "in a calm room at once");
        assert_eq!(next(&green(60), &busy, never), Step::Wait(GATHER_GREEN.saturating_sub(Duration::from_millis(100))));
        assert_eq!(next(&green(60), &later, never), Step::Green);
        assert_eq!(next(&green(60), &Conditions { limited: true, ..busy }, never), Step::Green);
        assert_eq!(next(&green(3), &later, never), Step::Reply(id("c0")));
        let high = Conditions { digest_above: 100, live: 200, ..later };
        assert_eq!(next(&DueCards { green_beyond: 36, ..green(64) }, &high, never), Step::Reply(id("c0")));
        assert_eq!(next(&DueCards { green_beyond: 37, ..green(64) }, &high, never), Step::Green);
        let mut mixed = green(60);
        mixed.notes.push(noted("loud", true, false));
        assert_eq!(next(&mixed, &busy, never), Step::Reply(id("loud")), "what notifies does not wait");
    }

    #[test]
    fn an_edit_waits_for_its_own_card_only() {
        let edits = DueCards { edits: vec![due("busy"), due("calm")], ..DueCards::default() };
        let busy = |card: &CardId| (card.as_str() == "busy").then(|| Duration::from_millis(300));
        assert_eq!(next(&edits, &CALM, busy), Step::Edit(id("calm")));
        let both = |_: &CardId| Some(Duration::from_millis(300));
        assert_eq!(next(&edits, &CALM, both), Step::Wait(EDIT_EVERY.saturating_sub(Duration::from_millis(300))));
    }
}
