//! Storms under Synapse's default limits: everything is visible in seconds, and everything turns green.

use std::time::Duration;

use crate::harness::{Alert, DEADLINE, FaultProxy, Payload, Receiver, ReceiverBuilder, RoomView, Scene};

const GROUPS: usize = 200;
/// Every so many of them are critical.
const CRITICAL: usize = 20;
/// From the first webhook until each group, and each critical one, is named.
const NAMED: Duration = Duration::from_secs(12);
const CRITICAL_NAMED: Duration = Duration::from_secs(6);

fn name(n: usize) -> String {
    format!("Storm{n:03}")
}

fn group(n: usize, firing: bool) -> Payload {
    (0..5).map(|node| format!("node{node}")).fold(Payload::group(&name(n)), |payload, node| {
        let alert = if firing { Alert::firing(&node) } else { Alert::resolved(&node) };
        payload.alert(if n % CRITICAL == 7 { alert.critical() } else { alert })
    })
}

/// Named on a line of its own, on a card or in a digest.
fn named(view: &RoomView) -> usize {
    (0..GROUPS).filter(|n| view.named_at(&name(*n)).is_some()).count()
}

/// Until the last of these groups was named.
fn took(view: &RoomView, since: jiff::Timestamp, groups: impl Iterator<Item = usize>) -> Duration {
    let last = groups.filter_map(|n| view.named_at(&name(n))).max().expect("a group");
    Duration::from_millis(u64::try_from(last - since.as_millisecond()).unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_groups_are_named_within_seconds_in_few_events() {
    let scene = Scene::limited().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let begun = jiff::Timestamp::now();
    let posts = (0..GROUPS).map(|n| {
        let receiver = &receiver;
        async move {
            tokio::time::sleep(Duration::from_millis(n as u64 * 9)).await;
            receiver.accept("default", group(n, true)).await
        }
    });
    futures_util::future::join_all(posts).await;
    scene.room.wait_for("all of them named", DEADLINE, |view| named(view) == GROUPS).await;
    let view =
        scene.room.assert_settled("and nothing more", Duration::from_secs(7), |view| named(view) == GROUPS).await;
    let events = view.by_bot().count();
    assert!(events <= 12, "{events} events\n{}", view.text());
    let (all, critical) = (took(&view, begun, 0..GROUPS), took(&view, begun, (7..GROUPS).step_by(CRITICAL)));
    eprintln!("{GROUPS} groups named after {all:?}, the critical ones after {critical:?}, in {events} events");
    assert!(all <= NAMED && critical <= CRITICAL_NAMED, "{all:?}, critical {critical:?}\n{}", view.text());
    receiver.wait_metric("outbox_ops", &[("state", "waiting")], |waiting| waiting == 0.0).await;
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

/// More than the list of what is due holds: what gathered while the homeserver was away is more than `digest_above` all the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn a_high_digest_above_is_a_number_and_not_never() {
    const MANY: usize = 80;
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 70);
    let mut receiver = builder.homeserver("http://127.0.0.1:9").start().await;
    for n in 0..MANY {
        receiver.accept("default", Payload::group(&name(n)).alert(Alert::firing("n01"))).await;
    }
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    receiver.reconfigure(&format!("[matrix]\nhomeserver = \"{}\"", scene.bot.homeserver));
    receiver.restart().await;
    let all = |view: &RoomView| (0..MANY).all(|n| view.named_at(&name(n)).is_some());
    let view = scene.room.wait_for("all of them named", DEADLINE * 2, all).await;
    let events = view.by_bot().count();
    assert!(events <= 4, "{events} events\n{}", view.text());
}

/// A receiver with a card for each of so many groups, which makes digests of what comes from now on.
async fn with_cards(scene: &Scene, homeserver: &str, cards: usize) -> Receiver {
    let mut receiver =
        ReceiverBuilder::of(scene).homeserver(homeserver).set("routes.default.digest_above", 0).start().await;
    for n in 0..cards {
        receiver.accept("default", group(n, true)).await;
    }
    scene.room.wait_for("a card each", 2 * DEADLINE, |view| view.cards().len() == cards).await;
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    receiver.reconfigure("[routes.default]\ndigest_above = 8");
    receiver.restart().await;
    receiver
}

fn green(view: &RoomView) -> usize {
    view.cards().iter().filter(|card| card.first_line().starts_with("🟢 RESOLVED")).count()
}

/// One notice that names them all, an edit for each, and no more.
fn assert_green(view: &RoomView, cards: usize) {
    let notices: Vec<_> =
        view.cards().into_iter().filter(|card| card.msgtype() == "m.notice" && card.edits == 0).collect();
    assert_eq!(notices.len(), 1, "{}", view.text());
    for n in 0..cards {
        assert!(notices[0].own_lines().any(|line| line.contains(&name(n))), "{}", notices[0].body());
    }
    assert!(view.cards().iter().all(|card| view.thread_of(card.event_id()).is_empty()), "{}", view.text());
    assert_eq!(view.by_bot().count(), cards + 1 + cards, "cards, one notice, an edit each");
}

/// Many cards resolve at once: one notice names them all, the edits follow.
#[tokio::test(flavor = "multi_thread")]
async fn many_turning_green_are_named_in_one_notice_first() {
    const CARDS: usize = 30;
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = with_cards(&scene, &proxy.url(), CARDS).await;
    // Nothing is sent before the last is there, however slow the machine is.
    proxy.down().await;
    futures_util::future::join_all((0..CARDS).map(|n| receiver.accept("default", group(n, false)))).await;
    proxy.up().await;
    let view = scene.room.wait_for("all green", DEADLINE * 2, |view| green(view) >= CARDS).await;
    assert_green(&view, CARDS);
}

/// The same at the pace of Synapse's default limits.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes five minutes: make test-long"]
async fn sixty_cards_turn_green_under_the_default_limits() {
    const CARDS: usize = 60;
    let scene = Scene::new().await;
    let receiver = with_cards(&scene, &scene.bot.homeserver, CARDS).await;
    scene.synapse.set_ratelimit(&scene.bot, None).await;
    let begun = jiff::Timestamp::now().as_millisecond();
    futures_util::future::join_all((0..CARDS).map(|n| receiver.accept("default", group(n, false)))).await;
    scene.room.wait_for("all green", Duration::from_secs(400), |view| green(view) >= CARDS).await;
    let view = scene.room.assert_settled("all green", Duration::from_secs(11), |view| green(view) >= CARDS).await;
    assert_green(&view, CARDS);
    let mut after: Vec<i64> = view.by_bot().skip(CARDS).map(|event| event.origin_server_ts - begun).collect();
    after.sort_unstable();
    eprintln!("{CARDS} cards: the notice after {} ms, the last edit after {} ms", after[0], after[CARDS]);
    assert!(view.by_bot().nth(CARDS).is_some_and(|event| event.content["msgtype"] == "m.notice"), "the notice first");
    assert!(after[0] <= 6_000 && after[CARDS] <= 310_000, "{after:?}");
}
