//! Where there is none: below the route's severity, in digests and storms, under a rate limit, and late.

use std::time::Duration;

use super::{QUIET, SOON, TOO_LATE, alert, all_from, card, group, is_complete, pieces};
use crate::harness::{DEADLINE, Fault, FaultProxy, Match, Payload, Receiver, ReceiverBuilder, RoomView, Scene, Source};

#[tokio::test(flavor = "multi_thread")]
async fn below_min_severity_nobody_is_asked() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let toml = all_from(&source).replace("\"warning\"", "\"critical\"");
    let receiver = ReceiverBuilder::of(&scene).toml(&toml).start().await;
    receiver.accept("default", group("Warning")).await;
    let only = |view: &RoomView| card(view, "Warning").is_some() && pieces(view) == 0;
    scene.room.assert_settled("a card alone", QUIET, only).await;
    assert!(source.asked().is_empty(), "{:?}", source.asked());
    // One alert of several suffices.
    let mixed = Payload::group("Mixed").alert(alert("n01")).alert(alert("n02").critical());
    receiver.accept("default", mixed).await;
    scene.room.wait_for("evidence", DEADLINE, |view| is_complete(view, "Mixed") && pieces(view) == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_the_table_shows_none_and_a_source_that_is_not_named_is_not_asked() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let other = scene.another_room("other").await;
    let toml = format!(
        "[evidence]\nprometheus = {{ url = {:?} }}\n[routes.default.evidence]\nmin_severity = \"warning\"\n",
        source.url()
    );
    let receiver = ReceiverBuilder::of(&scene).route("other", &[&other.id]).toml(&toml).start().await;
    receiver.accept("other", group("Plain")).await;
    receiver.accept("default", group("Shown")).await;
    scene.room.wait_for("a graph", DEADLINE, |view| pieces(view) == 1).await;
    other.assert_settled("a card alone", QUIET, |view| card(view, "Plain").is_some() && pieces(view) == 0).await;
    assert!(source.asked().iter().all(|asked| !asked.contains("/loki/")), "{:?}", source.asked());
    assert_eq!(pieces(&scene.room.view().await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_and_its_digest_show_none() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let builder = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 2).toml(&all_from(&source));
    let receiver = builder.start().await;
    let names: Vec<String> = (0..30).map(|n| format!("Storm{n:02}")).collect();
    futures_util::future::join_all(names.iter().map(|name| receiver.accept("default", group(name)))).await;
    let named = |view: &RoomView| names.iter().all(|name| view.named_at(name).is_some());
    scene.room.wait_for("all of them named", DEADLINE, named).await;
    let view = scene.room.assert_settled("and nothing more", QUIET, named).await;
    let digests = view.cards().into_iter().filter(|card| card.first_line().starts_with('🌩'));
    let digests: Vec<_> = digests.collect();
    assert!(!digests.is_empty(), "{}", view.text());
    for digest in &digests {
        assert!(view.thread_of(digest.event_id()).iter().all(|reply| reply.msgtype() != "m.image"), "{}", view.text());
    }
    // A card that went out before it was a storm may have its two.
    let cards = view.cards().len() - digests.len();
    assert!(pieces(&view) <= 2 * cards && pieces(&view) <= 4, "{} pieces\n{}", pieces(&view), view.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_cards_of_a_storm_have_none_although_each_is_a_card_of_its_own() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let builder = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 0).toml(&all_from(&source));
    let receiver = builder.start().await;
    let names: Vec<String> = (0..12).map(|n| format!("Storm{n:02}")).collect();
    for name in &names {
        receiver.accept("default", group(name)).await;
    }
    let all = |view: &RoomView| view.cards().len() == names.len();
    scene.room.wait_for("a card each", DEADLINE, all).await;
    let view = scene.room.assert_settled("and little else", QUIET, all).await;
    let mut cards = view.cards();
    cards.sort_by_key(|card| card.event.origin_server_ts);
    let beside: Vec<usize> = cards.iter().map(|card| view.thread_of(card.event_id()).len()).collect();
    assert!(beside[4..].iter().all(|pieces| *pieces == 0), "{beside:?}\n{}", view.text());
}

async fn behind(proxy: &FaultProxy, scene: &Scene, source: &Source) -> Receiver {
    ReceiverBuilder::of(scene).homeserver(&proxy.url()).toml(&all_from(source)).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_met_a_rate_limit_gets_none() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = behind(&proxy, &scene, &source).await;
    proxy.fault_times(1, Match::sends(), Fault::limited(Duration::from_secs(1)));
    receiver.accept("default", group("Behind")).await;
    let only = |view: &RoomView| card(view, "Behind").is_some() && pieces(view) == 0;
    scene.room.assert_settled("a card alone", QUIET, only).await;
    assert!(source.asked().is_empty(), "{:?}", source.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_meets_a_rate_limit_is_dropped_and_costs_no_card() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = behind(&proxy, &scene, &source).await;
    for words in ["m.image", "📜"] {
        proxy.fault(Match::sends_with(words), Fault::limited(Duration::from_secs(20)));
    }
    receiver.accept("default", group("Before")).await;
    receiver.wait_metric("evidence_total", &[("outcome", "limited")], |count| count == 2.0).await;
    // Not severe enough for evidence.
    receiver.accept("default", Payload::group("After").alert(alert("n01").label("severity", "info"))).await;
    let both = |view: &RoomView| card(view, "Before").is_some() && card(view, "After").is_some();
    scene.room.wait_for("the next card, without a wait", SOON, both).await;
    proxy.heal();
    scene.room.assert_settled("and no evidence", QUIET, |view| both(view) && pieces(view) == 0).await;
    receiver.wait_metric("outbox_ops", &[("state", "waiting")], |waiting| waiting == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn a_card_that_was_held_up_for_two_minutes_gets_none() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).toml(&all_from(&source));
    let receiver = builder.start().await;
    proxy.down().await;
    receiver.accept("default", group("Late")).await;
    tokio::time::sleep(TOO_LATE).await;
    proxy.up().await;
    scene.room.wait_for("the card", 4 * DEADLINE, |view| card(view, "Late").is_some()).await;
    scene.room.assert_settled("alone", QUIET, |view| pieces(view) == 0).await;
    assert!(source.asked().is_empty(), "{:?}", source.asked());
    receiver.accept("default", group("InTime")).await;
    scene.room.wait_for("evidence again", DEADLINE, |view| is_complete(view, "InTime")).await;
}
