//! How fast new incidents come decides whether they are gathered. The clock stands still unless it is moved, so that what
//! waits for a time waits for ever.

use super::*;

const BETWEEN: Duration = Duration::from_millis(150);

async fn post_critical(harness: &Harness, group: &str) {
    let rooms = vec![RoomAddress::parse(ROOM).expect("a room")];
    harness.post_to(rooms, group, group, "critical").await;
}

#[tokio::test]
async fn a_drip_of_new_incidents_waits_for_nothing() {
    let clock = Clock::manual(Timestamp(1_800_000_000_000));
    let mut harness = Harness::at(ROOM, clock.clone()).await;
    harness.start();
    for n in 0..12 {
        harness.post_group(&format!("g{n}"), "a").await;
        assert_eq!(harness.settled().await.len(), n + 1);
        clock.advance(Duration::from_millis(500));
    }
}

#[tokio::test]
async fn what_comes_fast_is_gathered_and_what_is_urgent_passes_it() {
    let clock = Clock::manual(Timestamp(1_800_000_000_000));
    let mut harness = Harness::at(ROOM, clock.clone()).await;
    harness.start();
    for n in 0..4 {
        harness.post_group(&format!("g{n}"), "a").await;
        harness.settled().await;
        clock.advance(BETWEEN);
    }
    for (n, group) in ["first", "second", "third"].into_iter().enumerate() {
        harness.post_group(group, group).await;
        clock.advance(BETWEEN);
        post_critical(&harness, &format!("urgent {group}")).await;
        while harness.sent().len() < 5 + n {
            sleep(Duration::from_millis(5)).await;
        }
        let last = harness.sent().pop().expect("one").content["body"].clone();
        assert!(last.as_str().is_some_and(|body| body.contains("urgent")), "{last}");
    }
    clock.advance(Duration::from_secs(1));
    let sent = harness.settled().await;
    let digest = sent[7].content["body"].as_str().expect("text");
    assert!(sent.len() == 8 && ["first", "second", "third"].iter().all(|name| digest.contains(name)), "{digest}");
}
