//! What a change says in threads, and which cards it posts again.

use super::{rules::Rules, step::Transitions};
use crate::{
    intake::webhook::{NotificationReason, Webhook},
    model::{CardId, IncidentState, Known, LiveCard, NewNote, NoteArgs, NoteKind, Timestamp},
};

pub(super) fn notes_of(
    transitions: &Transitions,
    reopened: bool,
    state: IncidentState,
    before: IncidentState,
    flaps: u32,
) -> Vec<NewNote> {
    let mut notes = Vec::new();
    let mut say = |kind, fingerprints: Vec<String>| {
        let flaps = if kind == NoteKind::Again { flaps } else { 0 };
        let gap = (kind == NoteKind::Back).then(|| u64::try_from(transitions.gap.as_millis()).unwrap_or(u64::MAX));
        notes.push(NewNote { kind, args: NoteArgs { fingerprints, flaps, gap_ms: gap, step: None }, cards: None });
    };
    if reopened && state == IncidentState::Firing {
        // On a card that was green, everything that fires does so again, whichever alert of the group it is.
        let mut firing = transitions.again.clone();
        firing.extend(transitions.new.iter().cloned());
        // What was gone and is back had not ended.
        if before != IncidentState::Gone || !firing.is_empty() {
            say(NoteKind::Again, firing);
        }
    } else {
        for (kind, list) in [
            (NoteKind::NewFiring, &transitions.new),
            (NoteKind::Again, &transitions.again),
            (NoteKind::Back, &transitions.back),
        ] {
            if !list.is_empty() {
                say(kind, list.clone());
            }
        }
    }
    if state == IncidentState::Resolved && before != state {
        // Its room has long turned to other things.
        if before != IncidentState::Gone {
            say(NoteKind::Resolved, Vec::new());
        }
    } else if !transitions.resolved.is_empty() {
        say(NoteKind::PartlyResolved, transitions.resolved.clone());
    }
    notes
}

/// The cards that are too old for a reply or an edit to be seen.
pub(super) fn reposts(known: &Known, notes: &[NewNote], rules: &Rules<'_>, now: Timestamp) -> Vec<CardId> {
    let Some(repost_after) = rules.repost_after else { return Vec::new() };
    if !known.incident.state.is_open() || !notes.iter().any(|note| note.kind.mentions()) {
        return Vec::new();
    }
    let is_old = |card: &&LiveCard| card.posted_at.is_some_and(|posted_at| now.since(posted_at) >= repost_after);
    known.cards.iter().filter(is_old).map(|card| card.id.clone()).collect()
}

/// A reminder for cards that have been silent for long, if the payload is unchanged and sent only because time passed, and
/// nobody took the incident.
pub(super) fn reminder(known: &Known, webhook: &Webhook, rules: &Rules<'_>, now: Timestamp) -> Option<NewNote> {
    let remind_after = rules.remind_after?;
    let repeated = matches!(webhook.reason, NotificationReason::RepeatInterval | NotificationReason::Missing);
    if known.taken || !repeated || !webhook.alerts.iter().any(|alert| alert.firing) {
        return None;
    }
    let silent = |card: &&LiveCard| {
        !card.notes_waiting && card.spoke_at.is_some_and(|spoke_at| now.since(spoke_at) >= remind_after)
    };
    let cards: Vec<CardId> = known.cards.iter().filter(silent).map(|card| card.id.clone()).collect();
    (!cards.is_empty()).then(|| NewNote { kind: NoteKind::Reminder, args: NoteArgs::default(), cards: Some(cards) })
}
