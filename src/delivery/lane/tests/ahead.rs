//! The next event is prepared while one is on its way.

use super::*;

const GROUPS: usize = 8;

#[tokio::test]
async fn recording_one_event_and_freezing_the_next_is_one_commit() {
    let mut harness = Harness::new(ROOM).await;
    // Longer than it takes to prepare the next one, also where much else is going on.
    *harness.transport.takes.lock().expect("a lock") = Duration::from_millis(500);
    for n in 0..GROUPS {
        harness.post_group(&format!("g{n}"), "a").await;
    }
    let commits = || harness.context.metrics.store_commit_seconds.get_sample_count();
    let before = commits();
    harness.start();
    assert_eq!(kinds(&harness.settled().await), ["card m.text"; GROUPS]);
    let commits = harness.context.metrics.store_commit_seconds.get_sample_count() - before;
    // One to freeze the first, one for each, and a few that the writer makes by itself or that something else causes.
    assert!(commits < 2 * GROUPS as u64 - 3, "{commits}");
}

/// Two cards are due, and the first one's answer is held back.
async fn first_of_two_held() -> (Harness, Arc<tokio::sync::Notify>) {
    let mut harness = Harness::new(ROOM).await;
    let held = Arc::new(tokio::sync::Notify::new());
    *harness.transport.holds.lock().expect("a lock") = Some(Arc::clone(&held));
    harness.post_group("g", "a").await;
    harness.post_group("h", "a").await;
    harness.start();
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    (harness, held)
}

#[tokio::test]
async fn what_changes_meanwhile_is_on_the_next_event() {
    let (harness, held) = first_of_two_held().await;
    // Until the other card is prepared, which nothing shows.
    sleep(Duration::from_millis(300)).await;
    harness.post_group("h", "a b").await;
    held.notify_one();
    assert_eq!(kinds(&harness.settled().await), ["card m.text"; 2], "no card without the second alert, and no edit");
}

#[tokio::test]
async fn what_was_prepared_and_got_no_answer_goes_out_again_as_it_was() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[Some(Ok(())), Some(Err(Reason::NoAnswer))]);
    for n in 0..3 {
        harness.post_group(&format!("g{n}"), "a").await;
    }
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text", "card m.text failed", "card m.text", "card m.text"]);
    assert_eq!((&sent[1].txn_id, &sent[1].content), (&sent[2].txn_id, &sent[2].content));
}

#[tokio::test]
async fn whether_the_room_is_plain_is_asked_when_something_new_comes() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    harness.post_group("before", "a").await;
    harness.settled().await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    let (transport, store) = (Arc::clone(&harness.transport), harness.context.store.clone());
    let asked = || transport.asked.lock().expect("a lock").0;
    let announced = async || {
        for _ in 0..20 {
            // Nothing more than a moment ago.
            sleep(Duration::from_millis(300)).await;
            let (began, before) = (Instant::now(), asked());
            store.announce(std::slice::from_ref(&room));
            harness.until("asked", async || asked() > before).await;
            store.announce(std::slice::from_ref(&room));
            sleep(Duration::from_millis(20)).await;
            // Where the machine stands still the two did not come together.
            if began.elapsed() < Duration::from_millis(100) {
                assert_eq!(asked(), before + 1, "once for what comes together");
                return;
            }
        }
        panic!("never together");
    };
    // Where the machine stands still the answer is too old.
    for n in 0..20 {
        announced().await;
        let (posted, before) = (Instant::now(), asked());
        harness.post_group(&format!("g{n}"), "a").await;
        let last = harness.settled().await.pop().expect("a card");
        if last.asked_since.expect("since") < posted {
            assert_eq!(asked(), before, "the card needs no other answer");
            break;
        }
        assert!(n < 19, "the answer counts for the card");
    }
    announced().await;
    sleep(Duration::from_millis(300)).await;
    let (posted, before, sent) = (Instant::now(), asked(), harness.sent().len());
    // Nothing new, so that nothing is announced.
    harness.post_group("before", "a b").await;
    let next = &harness.settled().await[sent];
    assert!(next.asked_since.expect("since") >= posted && asked() > before, "not for long");
    let before = asked();
    harness.context.gate.close(&scripted(Reason::ServerError));
    sleep(Duration::from_millis(300)).await;
    store.announce(std::slice::from_ref(&room));
    sleep(Duration::from_millis(20)).await;
    assert_eq!(asked(), before, "nothing can be sent now");
}

#[tokio::test]
async fn what_came_while_others_were_sent_is_not_asked_for_afterwards() {
    let (harness, held) = first_of_two_held().await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    harness.context.store.announce(std::slice::from_ref(&room));
    held.notify_one();
    let sent = harness.settled().await;
    sleep(Duration::from_millis(50)).await;
    let asked = harness.transport.asked.lock().expect("a lock").1;
    assert!(asked.expect("asked") <= sent[1].at, "nothing comes after the last card");
}

#[tokio::test]
async fn a_lane_that_stops_freezes_nothing_more() {
    let (mut harness, held) = first_of_two_held().await;
    harness.stop.cancel();
    held.notify_one();
    harness.stop().await;
    assert_eq!(kinds(&harness.sent()), ["card m.text"]);
    let room = RoomAddress::parse(ROOM).expect("a room");
    assert_eq!(harness.context.store.open_ops(&room).await.expect("read").unfinished, None);
}
