//! What was said while nobody listened.

use super::{ACTIONS, N01, QUIET, Stage, done, is_ticked, joined, message};
use crate::harness::{DEADLINE, FaultProxy, Payload, ReceiverBuilder, RoomView, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_while_the_receiver_is_down_is_answered_after_the_start() {
    let mut stage = Stage::new().await;
    let card = stage.fires(&[N01]).await;
    for how in ["SIGTERM", "SIGKILL"] {
        match how {
            "SIGTERM" => drop(stage.receiver.sigterm(DEADLINE).await),
            _ => stage.receiver.kill9(),
        }
        let silence = stage.says(&stage.oncall, &card, "!silence 1h").await;
        let ack = stage.says(&stage.oncall, &card, "!ack on it").await;
        stage.receiver.restart().await;
        let answered = |view: &RoomView| {
            done(view, &silence).is_some() && is_ticked(view, &ack) && message(view, &card).has(": on it")
        };
        stage.scene.room.assert_settled(how, QUIET, answered).await;
        stage.silences(1).await;
        let end = stage.says(&stage.oncall, &card, "!unsilence").await;
        let back = stage.says(&stage.oncall, &card, "!unack").await;
        stage.wait_for("as before", |view| is_ticked(view, &end) && is_ticked(view, &back)).await;
        stage.silences(0).await;
    }
}

/// Syncs bring fifty events of a room and leave out what was said before these.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_sync_left_out_is_answered_too() {
    let scene = Scene::new().await;
    let oncall = joined(&scene, "oncall", 50).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).toml(ACTIONS).start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let (card, room) = (view.card().event_id().to_owned(), scene.room.id.clone());
    // So that it is known up to where the room was read.
    let first = oncall.say_in_thread(&room, &card, "!ack first").await;
    scene.room.wait_for("the first", DEADLINE, |view| is_ticked(view, &first)).await;

    proxy.down().await;
    let early = oncall.say_in_thread(&room, &card, "!ack early").await;
    for n in 0..60 {
        oncall.send_text(&room, &format!("chatter {n}")).await;
    }
    let late = oncall.say_in_thread(&room, &card, "!unack").await;
    proxy.forget();
    proxy.up().await;
    let answered = |view: &RoomView| is_ticked(view, &early) && is_ticked(view, &late);
    scene.room.wait_for("both", DEADLINE * 2, answered).await;
    let settled = |view: &RoomView| answered(view) && !message(view, &card).has("taken by");
    scene.room.assert_settled("in their order", QUIET, settled).await;
    let read = |exchange: &crate::harness::Exchange| exchange.path.ends_with("/messages");
    assert!(proxy.exchanges().iter().any(read), "the sync did not leave anything out");
}
