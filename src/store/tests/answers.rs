//! Answers, and what an event of ours is about.

use super::*;
use crate::model::ResolvedRoom;

pub(super) fn new_answer(txn: &str) -> NewAnswer {
    NewAnswer {
        act: "act".to_owned(),
        room: room(),
        card: None,
        event_type: "m.room.message".to_owned(),
        content: "{}".to_owned(),
        txn_id: TxnId(txn.to_owned()),
        at: Timestamp(7),
    }
}

#[tokio::test]
async fn answers_wait_in_order_until_they_end() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let mut wake = store.wake_ups();
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

#[tokio::test]
async fn an_event_names_its_card_in_its_own_room_only() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let due = store.due(&room()).await.expect("due").new;
    let snapshot = store.snapshot(&due[0].card).await.expect("read").expect("a card");
    let op = store.freeze(op_for(&snapshot, OpKind::Card, "card")).await.expect("frozen");
    assert_eq!(store.rooms_due().await.expect("read"), [room()]);
    store.finish(&op, "$root").await.expect("recorded");
    assert!(store.rooms_due().await.expect("read").is_empty());
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let snapshot = store.snapshot(&op.card).await.expect("read").expect("a card");
    let about = NewOp { alert: Some("a".to_owned()), ..op_for(&snapshot, OpKind::Reply, "reply") };
    let reply = store.freeze(about).await.expect("frozen");
    store.finish(&reply, "$reply").await.expect("recorded");
    let answer = NewAnswer { card: Some(op.card.clone()), ..new_answer("answer") };
    store.freeze_answer(answer).await.expect("committed");
    let answer = store.next_answer(&room()).await.expect("read").expect("one");
    store.finish_answer(&answer, "$answer").await.expect("committed");

    let target = async |room: &RoomAddress, event: &str| store.event_target(room, event).await.expect("read");
    let root = target(&room(), "$root").await.expect("the card");
    assert_eq!((&root.card, root.incidents.len(), root.alert.clone()), (&op.card, 1, None));
    assert_eq!(root.root_event.as_deref(), Some("$root"));
    assert_eq!(target(&room(), "$reply").await.expect("the card").alert.as_deref(), Some("a"));
    assert_eq!(target(&room(), "$answer").await, Some(root));
    assert_eq!(target(&room(), "$other").await, None);

    let alias = RoomAddress::parse("#ops:example.org").expect("a room");
    assert_eq!(target(&alias, "$root").await, None, "another room");
    for address in [room(), alias.clone()] {
        let resolved = ResolvedRoom { first: "!room:example.org".to_owned(), successor: None };
        store.set_resolved_room(address, resolved).await.expect("committed");
    }
    assert!(target(&alias, "$root").await.is_some(), "the same room by another address");
}
