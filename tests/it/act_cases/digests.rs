//! Acts on one of many incidents that share a card.

use super::{World, answers, matchers};
use crate::harness::{AlertToPost, DEADLINE, FaultProxy, RoomView, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn on_a_digest_the_alert_has_to_be_named() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let url = proxy.url();
    let receiver =
        |builder: crate::harness::ReceiverBuilder| builder.homeserver(&url).set("routes.default.digest_above", 2);
    let world = World::build(scene, "", receiver, |config| config).await;
    let room = world.room().to_owned();
    let names: Vec<String> = (0..6).map(|n| format!("Storm{n}")).collect();
    let alerts: Vec<AlertToPost> =
        names.iter().map(|name| AlertToPost::firing(&[("alertname", name), ("severity", "warning")])).collect();
    proxy.down().await;
    world.alertmanager.post_alerts(&alerts).await;
    world.receiver.wait_metric("notifications_total", &[("outcome", "opened")], |count| count == 6.0).await;
    proxy.up().await;
    // One of them may have been on its way.
    let digest = |view: &RoomView| view.cards().into_iter().find(|card| card.first_line().starts_with('🌩'));
    let view = world.scene.room.wait_for("a digest", 2 * DEADLINE, |view| digest(view).is_some()).await;
    let digest = digest(&view).expect("a digest");
    let card = digest.event_id().to_owned();
    let names: Vec<&String> = names.iter().filter(|name| digest.has(name)).collect();
    assert!(names.len() >= 5, "{}", view.text());
    let (first, one) = (names[0], names[3]);

    world.moderator.react(&room, &card, "🔕").await;
    world.answered(&card, &format!("Say which alert of this message: !silence {first}")).await;
    for words in ["!silence", "!silence 2h"] {
        let command = world.moderator.say_in_thread(&room, &card, words).await;
        let hint = "Say which alert of this message: !silence ALERTNAME";
        let hinted = |view: &RoomView| {
            answers(view, &card, hint).iter().any(|answer| answer.event.in_reply_to() == Some(&command))
        };
        world.wait("a hint", hinted).await;
    }
    world.moderator.say_in_thread(&room, &card, "!silence Nothing 2h").await;
    world.answered(&card, &format!("Nothing here is called Nothing; there are: {first}, ")).await;
    assert_eq!(world.made().await, 0);

    let command = world
        .moderator
        .say_in_thread(&room, &card, &format!("!silence {} 2h until the rain ends", one.to_lowercase()))
        .await;
    world.ticked(&command).await;
    let silences = world.silences_are(1).await;
    assert_eq!(matchers(&silences[0]), [format!("alertname={one:?}")]);
    let named = |view: &RoomView| {
        view.cards()
            .iter()
            .any(|card| card.body().lines().any(|line| line.contains(one.as_str()) && line.contains("🔕")))
    };
    world.wait("the line says so", named).await;
    let command = world.moderator.say_in_thread(&room, &card, &format!("!unsilence {one}")).await;
    world.ticked(&command).await;
    world.silences_are(0).await;

    // A taking is of all of it.
    let reaction = world.moderator.react(&room, &card, "✅").await;
    let taken = format!("👀 {}", world.moderator.local());
    world.acts_are("take", "done", 1.0).await;
    world.wait("taken", |view| view.cards().iter().any(|card| card.has(&taken))).await;
    world.moderator.redact(&room, &reaction).await;
    world.wait("given back", |view| !view.cards().iter().any(|card| card.has(&taken))).await;
}
