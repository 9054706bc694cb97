//! Answers to what people ask for.

use super::*;

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
