//! Sends that succeed, wait, are refused or panic.

use super::*;

#[tokio::test]
async fn a_card_its_reply_its_edit_and_its_end() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.post("a b").await;
    harness.settled().await;
    harness.post("-a -b").await;
    let sent = harness.settled().await;
    assert_eq!(
        kinds(&sent),
        ["card m.text", "m.thread m.text", "m.replace m.text", "m.thread m.notice", "m.replace m.notice"]
    );
    assert_eq!(sent[3].content["m.relates_to"]["event_id"], "$1");
    assert_eq!(sent[3].content["m.relates_to"]["m.in_reply_to"]["event_id"], "$2");
    assert_eq!(sent[4].content["m.relates_to"]["event_id"], "$1");
    assert!(sent.iter().all(|sent| sent.content["matrix_alertmanager_receiver"]["op"] == sent.txn_id.as_str()));
}

#[tokio::test]
async fn what_was_over_before_it_could_be_shown_is_one_resolved_card() {
    let mut harness = Harness::new(ROOM).await;
    harness.post("a").await;
    harness.post("a b").await;
    harness.post("-a -b").await;
    harness.start();
    assert_eq!(kinds(&harness.settled().await), ["card m.notice"]);
}

#[tokio::test]
async fn an_outage_is_followed_by_the_newest_state_not_by_a_replay() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[Some(Err(Reason::Unreachable))]);
    harness.start();
    harness.post("a").await;
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    harness.post("-a").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text failed", "card m.notice"]);
    assert_ne!(sent[0].txn_id, sent[1].txn_id, "what certainly did not arrive is frozen again");
}

#[tokio::test]
async fn an_op_in_doubt_goes_out_again_as_it_was() {
    for reason in [Reason::NoAnswer, Reason::ServerError, Reason::Unreadable] {
        let mut harness = Harness::new(ROOM).await;
        // Once in doubt, not even a definite fault that is not its own requeues it.
        harness.script(&[Some(Err(reason)), Some(Err(Reason::RateLimited))]);
        harness.start();
        harness.post("a").await;
        while harness.sent().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        harness.post("-a").await;
        let sent = harness.settled().await;
        assert_eq!(
            kinds(&sent),
            ["card m.text failed", "card m.text failed", "card m.text", "m.thread m.notice", "m.replace m.notice"],
            "{reason:?}"
        );
        assert!(sent[..3].iter().all(|s| s.txn_id == sent[0].txn_id && s.content == sent[0].content));
    }
}

#[tokio::test]
async fn what_is_refused_is_sent_plainer_and_then_a_dead_letter() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[Some(Err(Reason::TooLarge)), Some(Err(Reason::BadEvent)), Some(Err(Reason::BadEvent))]);
    harness.start();
    harness.post("a").await;
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text failed"; 3]);
    let dead = harness.context.store.stats(&[]).await.expect("stats").ops;
    assert_eq!(dead, [(OpState::Dead, 1)]);
    harness.post("a b").await;
    assert_eq!(kinds(&harness.settled().await)[3..], ["card m.text"], "its next change gets through");
}

#[tokio::test]
async fn a_rate_limit_holds_the_account_and_merges_what_waits() {
    let mut harness = Harness::new("!one:example.org,!two:example.org").await;
    harness.script(&[Some(Err(Reason::RateLimited))]);
    harness.post("a").await;
    harness.start();
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    harness.post("a b").await;
    let sent = harness.settled().await;
    let accepted: Vec<&Sent> = sent.iter().filter(|sent| sent.accepted).collect();
    assert_eq!(harness.context.metrics.rate_limited.get(), 1);
    // The room that was refused shows both alerts on its first card.
    let refused = &sent.iter().find(|sent| !sent.accepted).expect("one").room;
    let of_refused: Vec<Sent> = accepted.iter().filter(|s| s.room == *refused).map(|s| (*s).clone()).collect();
    assert_eq!(kinds(&of_refused), ["card m.text"]);
    assert!(harness.context.health.snapshot().account_hold.is_none());
}

#[tokio::test]
async fn a_room_that_refuses_holds_nobody_else() {
    let mut harness = Harness::new("!one:example.org,!two:example.org").await;
    let first = RoomAddress::parse("!one:example.org").expect("a room");
    harness.transport.refusing.lock().expect("a lock").push(first.clone());
    harness.start();
    harness.post("a").await;
    let sent = harness.settled().await;
    assert_eq!(sent.iter().filter(|sent| sent.accepted).count(), 1);
    let hold = loop {
        match harness.context.health.snapshot().rooms[&first].hold.clone() {
            Some(hold) => break hold,
            None => sleep(Duration::from_millis(5)).await,
        }
    };
    assert!(hold.reason.contains("room_refused"), "{hold:?}");
    assert!(harness.context.health.snapshot().account_hold.is_none());
    assert_eq!(harness.context.store.due(&first).await.expect("due").new.len(), 1, "nothing is dropped");
}

#[tokio::test]
async fn a_panic_in_a_lane_is_caught_and_the_lane_goes_on() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[None]);
    harness.start();
    harness.post("a").await;
    assert_eq!(kinds(&harness.settled().await), ["card m.text"]);
    assert_eq!(harness.context.metrics.lane_panics.get(), 1);
}
