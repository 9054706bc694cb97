//! Incidents that nobody takes: who is called, when, and that it happens once.

use std::time::Duration;

use crate::harness::{
    Alert, DEADLINE, FaultProxy, Payload, Receiver, ReceiverBuilder, RoomView, Scene, eventually, view::Message,
};

const SECOND: &str = "@second:example.org";
const QUIET: Duration = Duration::from_secs(5);
/// What was due before a start is escalated half a minute after it.
const AFTER_A_START: Duration = Duration::from_mins(1);

fn escalating(scene: &Scene, after: &str) -> ReceiverBuilder {
    let step = format!(
        "[[routes.default.escalate]]\nafter = \"{after}\"\nmin_severity = \"critical\"\nusers = [\"{SECOND}\"]\n"
    );
    ReceiverBuilder::of(scene).toml(&step)
}

fn critical(name: &str) -> Payload {
    Payload::group(name).alert(Alert::firing("n01").critical())
}

fn calls(view: &RoomView) -> Vec<Message> {
    let cards = view.cards();
    let replies = cards.iter().flat_map(|card| view.thread_of(card.event_id()));
    replies.filter(|reply| reply.body().contains("nobody took it")).collect()
}

fn called_once(view: &RoomView) -> bool {
    matches!(&calls(view)[..], [one] if one.mentions() == Some(vec![SECOND]) && one.msgtype() == "m.text")
}

/// Somebody takes all that is open, as the acts' worker writes it.
async fn take_all(receiver: &Receiver) {
    let mut store = receiver.store().open().await;
    let taken = sqlx::query(
        "INSERT INTO act (id, event_id, route, room, sender, name, kind, incident, args, state, asked_at) \
         SELECT id, id, route, '!room:x', '@sre:x', 'Sre', 'take', id, '{}', 'live', opened_at FROM incident",
    )
    .execute(&mut store)
    .await
    .expect("taken");
    assert!(taken.rows_affected() > 0, "nothing is open");
}

async fn count(receiver: &Receiver) -> f64 {
    receiver.metric("escalations_total", &[("route", "default")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_is_called_once_for_what_is_severe_and_not_again_after_a_kill() {
    let scene = Scene::new().await;
    let mut receiver = escalating(&scene, "2s").start().await;
    receiver.accept("default", critical("DiskFull")).await;
    receiver.accept("default", Payload::group("Mild").firing(&["n02"])).await;
    let view = scene.room.wait_for("a call", DEADLINE, called_once).await;
    assert!(
        calls(&view)[0].first_line().starts_with("🔴 DiskFull: nobody took it, firing on n01 since "),
        "{}",
        view.text()
    );
    receiver.kill9();
    receiver.restart().await;
    scene.room.assert_settled("one call", Duration::from_secs(40), called_once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_due_while_the_receiver_was_down_is_not_forgotten() {
    let scene = Scene::new().await;
    let mut receiver = escalating(&scene, "20s").set("routes.default.updates", "edit").start().await;
    receiver.accept("default", critical("DiskFull")).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.kill9();
    // The time that the store continues at the start.
    tokio::time::sleep(Duration::from_secs(21)).await;
    receiver.restart().await;
    let view = scene.room.assert_settled("nothing before the first poll", QUIET, |view| calls(view).is_empty()).await;
    assert_eq!(view.cards().len(), 1, "{}", view.text());
    scene.room.wait_for("a call, also where nothing else is ever said", AFTER_A_START, called_once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_called_for_what_somebody_took() {
    let scene = Scene::new().await;
    let receiver = escalating(&scene, "15s").start().await;
    receiver.accept("default", critical("DiskFull")).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    take_all(&receiver).await;
    // A new alert ends the taking, an edit says by whom until then.
    receiver.accept("default", critical("DiskFull").alert(Alert::resolved("n02"))).await;
    let line = "👀 taken by Sre at ";
    scene.room.wait_for("who took it", DEADLINE, |view| view.card().body().contains(line)).await;
    let calm = |view: &RoomView| calls(view).is_empty();
    scene.room.assert_settled("nobody is called", Duration::from_secs(18), calm).await;
    assert_eq!(count(&receiver).await, 0.0);
    receiver.accept("default", critical("DiskFull").alert(Alert::firing("n03").critical())).await;
    // The card's edit is an event after the call.
    let ended = |view: &RoomView| called_once(view) && !view.card().body().contains(line);
    scene.room.wait_for("a call, and that nobody has it", DEADLINE, ended).await;
    receiver.wait_metric("escalations_total", &[("route", "default")], |calls| calls == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_calls_once_for_all_that_it_shows() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = escalating(&scene, "4s").homeserver(&proxy.url());
    let mut receiver = builder.set("routes.default.digest_above", 1).start().await;
    receiver.accept("default", critical("Warm")).await;
    scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.accept("default", Payload::group("Warm").resolved(&["n01"])).await;
    scene.synapse.set_ratelimit(&scene.bot, None).await;
    receiver.kill9();
    receiver.restart().await;
    // One digest has them all if nothing is sent before the last is there.
    proxy.down().await;
    let names: Vec<String> = (0..20).map(|n| format!("Storm{n:02}")).collect();
    futures_util::future::join_all(names.iter().map(|name| receiver.accept("default", critical(name)))).await;
    proxy.up().await;
    let named =
        |view: &RoomView| calls(view).iter().map(|call| call.body().matches("nobody took it").count()).sum::<usize>();
    let digest = |view: &RoomView| view.cards().iter().any(|card| card.first_line().contains("incidents"));
    scene.room.wait_for("a digest", DEADLINE, digest).await;
    let view = scene.room.wait_for("calls", DEADLINE, |view| named(view) > 0).await;
    eventually("all escalated", DEADLINE, async || (count(&receiver).await >= 20.0).then_some(())).await;
    let view = scene.room.assert_settled("few calls", QUIET, |now| calls(now).len() <= calls(&view).len() + 2).await;
    assert!(calls(&view).len() <= 4, "{}", view.text());
}
