//! Storms under Synapse's default limits: everything is visible in seconds, and everything turns green.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{DEADLINE, Payload, ReceiverBuilder, RoomView, Scene};

const GROUPS: usize = 200;

fn group(n: usize, firing: bool) -> Payload {
    let names: Vec<String> = (0..5).map(|i| format!("node{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let payload = Payload::group(&format!("Storm{n:03}"));
    if firing { payload.firing(&names) } else { payload.resolved(&names) }
}

/// Named on a line of its own, on a card or in a digest.
fn named(view: &RoomView) -> usize {
    let texts: Vec<String> = view.cards().iter().map(|card| card.body().to_owned()).collect();
    let on_a_line = |name: &str| texts.iter().any(|text| text.lines().any(|line| line.contains(name)));
    (0..GROUPS).filter(|n| on_a_line(&format!("Storm{n:03}"))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_groups_are_named_within_seconds_in_few_events() {
    let scene = Scene::limited().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let begun = Instant::now();
    let posts = (0..GROUPS).map(|n| {
        let receiver = &receiver;
        async move {
            tokio::time::sleep(Duration::from_millis(n as u64 * 9)).await;
            receiver.accept("default", group(n, true)).await
        }
    });
    futures_util::future::join_all(posts).await;
    scene.room.wait_for("all of them named", DEADLINE, |view| named(view) == GROUPS).await;
    let took = begun.elapsed();
    let view =
        scene.room.assert_settled("and nothing more", Duration::from_secs(7), |view| named(view) == GROUPS).await;
    let events = view.by_bot().filter(|event| event.event_type == "m.room.message").count();
    assert!(events <= 12, "{events} events\n{}", view.text());
    // Told to who asks, not asserted on: times on shared machines lie.
    eprintln!("{GROUPS} groups named after {took:?} in {events} events");
    assert_eq!(receiver.metric("outbox_ops", &[("state", "waiting")]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_follows_its_incidents_and_turns_green() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 2).start().await;
    scene.synapse.set_ratelimit(&scene.bot, None).await;
    let payloads = |firing: bool| (0..12).map(move |n| group(n, firing));
    futures_util::future::join_all(payloads(true).map(|payload| receiver.accept("default", payload))).await;
    let all_named = |view: &RoomView| {
        (0..12).all(|n| view.cards().iter().any(|card| card.body().contains(&format!("Storm{n:03}"))))
    };
    let view = scene.room.wait_for("all twelve", DEADLINE, all_named).await;
    let digest = view.cards().into_iter().find(|card| card.first_line().starts_with('🌩')).expect("a digest");
    futures_util::future::join_all(payloads(false).map(|payload| receiver.accept("default", payload))).await;
    let green = |view: &RoomView| view.cards().iter().all(|card| card.first_line().starts_with('🟢'));
    let view = scene.room.wait_for("everything green", DEADLINE * 3, green).await;
    let digest = view.cards().into_iter().find(|card| card.event_id() == digest.event_id()).expect("the same card");
    assert!(digest.first_line().contains("RESOLVED"), "{}", digest.body());
}

/// Sixty cards resolve at once: one notice names them all, the edits follow at the pace that the limit allows.
#[tokio::test(flavor = "multi_thread")]
async fn many_turning_green_are_named_in_one_notice_first() {
    const CARDS: usize = 30;
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 0).start().await;
    for n in 0..CARDS {
        receiver.accept("default", group(n, true)).await;
    }
    scene.room.wait_for("a card each", DEADLINE, |view| view.cards().len() == CARDS).await;
    let mut receiver = receiver;
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    receiver.reconfigure("[routes.default]\ndigest_above = 8");
    receiver.restart().await;
    futures_util::future::join_all((0..CARDS).map(|n| receiver.accept("default", group(n, false)))).await;
    let green = |view: &RoomView| view.cards().iter().filter(|card| card.first_line().starts_with("🟢")).count();
    // The notice is green as well.
    let view = scene.room.wait_for("all green", DEADLINE * 2, |view| green(view) > CARDS).await;
    let notices: Vec<_> =
        view.cards().into_iter().filter(|card| card.msgtype() == "m.notice" && card.edits == 0).collect();
    assert_eq!(notices.len(), 1, "{}", view.text());
    for n in 0..CARDS {
        assert!(notices[0].body().contains(&format!("Storm{n:03}")), "{}", notices[0].body());
    }
    assert!(view.cards().iter().all(|card| view.thread_of(card.event_id()).is_empty()), "{}", view.text());
    let events = view.by_bot().filter(|event| event.event_type == "m.room.message").count();
    assert_eq!(events, CARDS + 1 + CARDS, "cards, one notice, an edit each");
}
