//! Answers to what people ask for.

use super::*;
use crate::model::{CardId, EvidenceKind};

pub(super) fn new_answer(txn: &str) -> NewAnswer {
    NewAnswer {
        act: "act".to_owned(),
        room: room(),
        card: None,
        event_type: "m.room.message".to_owned(),
        content: "{}".to_owned(),
        txn_id: TxnId(txn.to_owned()),
        at: Timestamp(7),
        unasked: None,
    }
}

/// Evidence for the thread of a card whose first event is `root`.
pub(super) fn new_evidence(txn: &str, root: &str, card: &CardId, route: &RouteName) -> NewAnswer {
    let until = Timestamp(1_000_000).plus(Duration::from_mins(2));
    NewAnswer {
        act: root.to_owned(),
        card: Some(card.clone()),
        unasked: Some(Unasked { kind: EvidenceKind::Logs, route: route.clone(), until }),
        ..new_answer(txn)
    }
}

#[tokio::test]
async fn evidence_is_frozen_once_for_each_first_event_and_goes_last() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let due = store.due(&room()).await.expect("due").new.remove(0).card;
    let snapshot = store.snapshot(&due).await.expect("read").expect("a card");
    let op = store.freeze(op_for(&snapshot, OpKind::Card, "card")).await.expect("frozen");
    let card = op.card.clone();
    let (incident, route) = store.only_incident(&card).await.expect("read").expect("one");
    assert_eq!((&incident, route.as_str()), (&op.incident, "default"));
    let new = |txn: &str, root: &str| new_evidence(txn, root, &card, &route);
    let freeze = |new: NewAnswer, kind| store.freeze_evidence(new, kind);
    assert!(!freeze(new("early", "$card"), EvidenceKind::Logs).await.expect("committed"), "it is not in the room yet");
    store.finish(&op, "$card").await.expect("recorded");
    let elsewhere = NewAnswer { room: RoomAddress::parse("!old:example.org").expect("a room"), ..new("logs", "$card") };
    assert!(freeze(elsewhere, EvidenceKind::Logs).await.expect("committed"));
    assert!(!freeze(new("twice", "$card"), EvidenceKind::Logs).await.expect("committed"));
    assert!(!freeze(new("other", "$other"), EvidenceKind::Graph).await.expect("committed"), "another first event");
    assert!(freeze(new("graph", "$card"), EvidenceKind::Graph).await.expect("committed"));
    assert!(store.due(&room()).await.expect("due").unasked);
    store.freeze_answer(new_answer("asked")).await.expect("committed");
    assert!(!store.due(&room()).await.expect("due").unasked);
    let mut order = Vec::new();
    while let Some(next) = store.next_answer(&room()).await.expect("read") {
        order.push((next.txn_id.as_str().to_owned(), next.unasked.clone().map(|unasked| unasked.kind)));
        store.finish_answer(&next, &format!("${}", next.txn_id.as_str())).await.expect("committed");
    }
    let expected = [("asked", None), ("logs", Some(EvidenceKind::Logs)), ("graph", Some(EvidenceKind::Logs))];
    assert_eq!(order, expected.map(|(txn, kind)| (txn.to_owned(), kind)));
    assert!(!freeze(new("again", "$card"), EvidenceKind::Logs).await.expect("committed"), "it was shown");
    let target = store.act_target("$logs").await.expect("read").expect("a reaction to it means its card");
    assert_eq!((target.card, target.incidents[0].id.clone()), (card, incident));
}

#[tokio::test]
async fn answers_wait_in_order_until_they_end() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let mut wake = store.wake_ups(&room());
    wake.mark_unchanged();
    for txn in ["first", "second"] {
        store.freeze_answer(new_answer(txn)).await.expect("committed");
    }
    assert!(wake.has_changed().expect("open"), "lanes wake up");
    assert_eq!(store.due(&room()).await.expect("due").answer, Some(Timestamp(7)));
    let first = store.next_answer(&room()).await.expect("read").expect("one");
    assert_eq!((first.txn_id.as_str(), first.in_doubt, first.attempts), ("first", false, 0));
    store.record_answer_try(&first, "D".to_owned()).await.expect("committed");
    store.record_answer_try(&first, "E".to_owned()).await.expect("committed");
    let tried = store.next_answer(&room()).await.expect("read").expect("one");
    assert_eq!((tried.in_doubt, tried.attempts, tried.device.as_deref()), (true, 2, Some("D")));
    store.requeue_answer(&first).await.expect("committed");
    let again = store.next_answer(&room()).await.expect("read").expect("one");
    assert_eq!((again.in_doubt, again.device), (false, None));
    store.finish_answer(&first, "$1").await.expect("committed");
    let second = store.next_answer(&room()).await.expect("read").expect("one");
    assert_eq!(second.txn_id.as_str(), "second");
    store.refuse_answer(&second).await.expect("committed");
    assert_eq!(store.next_answer(&room()).await.expect("read"), None);
    assert_eq!(store.due(&room()).await.expect("due").answer, None);
    let known = store.recorded(&room(), 0, Timestamp(0)).await.expect("read");
    assert_eq!(known.later, ["$1"], "read-back knows it");
    clock.advance(Duration::from_hours(2));
    store.freeze_answer(NewAnswer { at: clock.now(), ..new_answer("third") }).await.expect("committed");
    assert_eq!(store.prune(Duration::from_hours(1)).await.expect("committed"), 2, "what has ended");
    clock.advance(Duration::from_hours(2));
    assert_eq!(store.prune(Duration::from_hours(1)).await.expect("committed"), 1, "what nobody sends any more");
}
