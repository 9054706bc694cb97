//! Whether a room tells the truth: everything that was taken, once, as it last was.

use std::collections::BTreeSet;

use super::{
    plan::{Planned, Step},
    sender::Sent,
};
use crate::harness::{RoomView, view::Message};

/// What is wrong with a room, a line each, and where nothing is, nothing.
pub fn faults(room: usize, view: &RoomView, all: &[Sent]) -> Vec<String> {
    let mut faults = repeated(view);
    let cards: Vec<Message> = view.cards().into_iter().filter(|card| !is_notice(card)).collect();
    for sent in all.iter().filter(|sent| sent.is_in(room)) {
        let name = &sent.group.name;
        let roots: Vec<&Message> = cards.iter().filter(|card| line(card, name).is_some()).collect();
        match (&roots[..], sent.last()) {
            // It may have been taken without the sender's learning it.
            ([] | [_], None) => {}
            ([root], Some(step)) => faults.extend(untrue(view, sent, root, step)),
            ([], Some(_)) => faults.push(format!("lost: {name}")),
            (many, _) => faults.push(format!("repeated: {name} has {} cards", many.len())),
        }
    }
    faults.into_iter().map(|fault| format!("room {room}: {fault}")).collect()
}

/// The notice that several cards turn green, which is not a card.
fn is_notice(card: &Message) -> bool {
    card.first_line().starts_with("🟢")
        && card.first_line().contains(" resolved")
        && card.first_line().contains(" incident")
}

/// The line of a card or digest that is about this group.
fn line<'a>(card: &'a Message, name: &str) -> Option<&'a str> {
    card.own_lines().find(|line| line.split(' ').any(|word| word == name))
}

/// Events that say the same as another.
fn repeated(view: &RoomView) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ops = BTreeSet::new();
    for event in view.by_bot() {
        let op = event.content["matrix_alertmanager_receiver"]["op"].as_str().unwrap_or_default();
        if op.is_empty() || !ops.insert(op) {
            faults.push(format!("repeated: the event of op {op:?}: {}", event.content["body"]));
        }
    }
    for card in view.cards() {
        let mut said = BTreeSet::new();
        for reply in view.thread_of(card.event_id()) {
            if !said.insert(reply.body().to_owned()) {
                faults.push(format!("repeated: said twice in a thread: {:?}", reply.body()));
            }
        }
    }
    faults
}

/// Where the card differs from the last step that was taken.
fn untrue(view: &RoomView, sent: &Sent, root: &Message, step: &Step) -> Vec<String> {
    let mut faults = Vec::new();
    let line = line(root, &sent.group.name).expect("it was found by it");
    let (firing, resolved) = (sent.group.count(step, true), sent.group.count(step, false));
    let is_true = if firing == 0 {
        line.contains("🟢")
    } else {
        line.contains(&format!("· {firing} firing"))
            && (if resolved == 0 {
                !line.contains(" resolved")
            } else {
                line.contains(&format!(", {resolved} resolved"))
            })
    };
    if !is_true {
        faults.push(format!("stale: {firing} firing and {resolved} resolved is shown as {line:?}"));
    }
    // A card of hundreds counts most of them.
    if !is_digest(root) && sent.group.ballast == 0 {
        faults.extend(
            step.alerts
                .iter()
                .filter(|alert| is_untold(view, sent, root, alert))
                .map(|alert| format!("lost: {} was never shown in {:?}", alert.instance, sent.group.name)),
        );
    }
    faults
}

fn is_digest(card: &Message) -> bool {
    card.first_line().contains(" incident")
}

/// An alert that fires and was neither on the card when it was posted nor in a reply that notifies. Where something has
/// fired again the replies speak of the incident as a whole.
fn is_untold(view: &RoomView, sent: &Sent, root: &Message, alert: &Planned) -> bool {
    let again =
        sent.group.steps.iter().any(|step| step.count(true) == 0 || step.alerts.iter().any(|alert| alert.again));
    let first = root.event.content["body"].as_str().unwrap_or_default();
    let reported = || {
        view.thread_of(root.event_id())
            .iter()
            .any(|reply| reply.msgtype() == "m.text" && reply.body().contains(&alert.instance))
    };
    alert.firing() && !again && !first.contains(&alert.instance) && !reported()
}
