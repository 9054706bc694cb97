//! Who takes care of an incident. No Alertmanager is needed for it.

use super::{ACTIONS, QUIET, is_ticked, joined, message};
use crate::harness::{DEADLINE, FaultProxy, Match, Payload, ReceiverBuilder, RoomView, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_taken_given_back_and_lost_to_a_new_alert() {
    let scene = Scene::new().await;
    let oncall = joined(&scene, "oncall", 50).await;
    let mut receiver = ReceiverBuilder::of(&scene).toml(ACTIONS).start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let (card, room) = (view.card().event_id().to_owned(), scene.room.id.clone());
    let by = format!("taken by {} at ", oncall.local());
    let is_taken = |view: &RoomView| message(view, &card).has(&by);

    let tick = oncall.react(&room, &card, "✅").await;
    scene.room.wait_for("taken", DEADLINE, is_taken).await;
    oncall.redact(&room, &tick).await;
    scene.room.wait_for("given back", DEADLINE, |view| !message(view, &card).has("taken by")).await;

    let ack = oncall.say_in_thread(&room, &card, "!ack looking at the node").await;
    let with_words =
        |view: &RoomView| is_taken(view) && message(view, &card).has(": looking at the node") && is_ticked(view, &ack);
    scene.room.wait_for("taken with a word to the others", DEADLINE, with_words).await;
    receiver.kill9();
    receiver.restart().await;
    // An edit after the restart is made from what is stored.
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"]).resolved(&["n02"])).await;
    scene.room.assert_settled("taken over a restart", QUIET, with_words).await;

    let unack = scene.sre.say_in_thread(&room, &card, "!unack").await;
    let given_back = |view: &RoomView| is_ticked(view, &unack) && !message(view, &card).has("taken by");
    scene.room.wait_for("given back", DEADLINE, given_back).await;

    oncall.react(&room, &card, "👀").await;
    scene.room.wait_for("taken again", DEADLINE, is_taken).await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01", "n03"])).await;
    let lost = |view: &RoomView| message(view, &card).has("n03") && !message(view, &card).has("taken by");
    scene.room.assert_settled("nobody has taken the new alert", QUIET, lost).await;
}

/// The homeserver has the card and shows it, and nobody has said so to the receiver.
#[tokio::test(flavor = "multi_thread")]
async fn a_card_whose_send_is_not_answered_is_taken_all_the_same() {
    let scene = Scene::new().await;
    let oncall = joined(&scene, "oncall", 50).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).toml(ACTIONS).start().await;
    receiver.wait_log(&["in sync with the homeserver"]).await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    proxy.heal();
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let (card, room) = (view.card().event_id().to_owned(), scene.room.id.clone());
    let reaction = oncall.react(&room, &card, "✅").await;
    receiver.wait_log(&["about an event whose send is not answered yet", &reaction]).await;
    held.cut();
    let by = format!("taken by {} at ", oncall.local());
    let view = scene.room.wait_for("taken", DEADLINE, |view| message(view, &card).has(&by)).await;
    assert_eq!(view.cards().len(), 1, "{}", view.text());
}
