//! The later life of a card: messages of its own, a new card for an old one, and first events that are gone.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Alert, DEADLINE, NewRoom, Payload, Receiver, ReceiverBuilder, Room, RoomView, Scene, User};

const QUIET: Duration = Duration::from_secs(1);

fn group() -> Payload {
    Payload::group("DiskFull")
}

async fn lost(receiver: &Receiver) -> f64 {
    let labels = [("room", "default/1"), ("kind", "card"), ("outcome", "lost")];
    receiver.metric("room_events_total", &labels).await
}

async fn dead(receiver: &Receiver) -> f64 {
    receiver.metric("outbox_ops", &[("state", "dead")]).await
}

/// One card, and its event.
async fn posted(scene: &Scene, receiver: &Receiver) -> String {
    receiver.accept("default", group().firing(&["n01"])).await;
    let view = scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    view.card().event_id().to_owned()
}

/// The room with one card that shows `line` first, and that is another one than `gone`.
async fn followed_by(room: &Room, gone: &str, line: &str) -> RoomView {
    let new = |view: &RoomView| {
        let cards = view.cards();
        let new: Vec<_> = cards.iter().filter(|card| card.event_id() != gone).collect();
        new.len() == 1 && new[0].first_line().contains(line)
    };
    room.assert_settled(line, QUIET, new).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_updates_post_every_change_is_a_message_that_shows_the_newest_state() {
    let scene = Scene::new().await;
    let oncall = scene.sre.user_id.clone();
    let mut receiver = ReceiverBuilder::of(&scene)
        .set("routes.default.updates", "post")
        .toml(&format!("[routes.default]\nmentions = {{ min_severity = \"critical\", users = [\"{oncall}\"] }}"))
        .start()
        .await;
    let messages = |count: usize| move |view: &RoomView| view.cards().len() == count;
    let critical = |name: &str| Alert::firing(name).critical();
    receiver.accept("default", group().firing(&["n01"])).await;
    scene.room.wait_for("the first", DEADLINE, messages(1)).await;
    receiver.accept("default", group().firing(&["n01"]).alert(critical("n02"))).await;
    scene.room.wait_for("new", DEADLINE, messages(2)).await;
    receiver.accept("default", group().alert(critical("n02"))).await;
    scene.room.assert_settled("no message of what is no longer listed", QUIET, messages(2)).await;
    // Killed with notes that are not sent yet, it sends them once.
    receiver.accept("default", group().resolved(&["n01"]).alert(critical("n02"))).await;
    receiver.kill9();
    receiver.restart().await;
    scene.room.wait_for("partly resolved", DEADLINE, messages(3)).await;
    receiver.accept("default", group().resolved(&["n01"]).alert(Alert::resolved("n02").critical())).await;
    let view = scene.room.assert_settled("all of it", QUIET, messages(4)).await;
    let cards = view.cards();
    let reported: Vec<_> =
        cards.iter().map(|card| (card.msgtype(), card.mentions().expect("mentions").len())).collect();
    assert_eq!(reported, [("m.text", 0), ("m.text", 1), ("m.notice", 0), ("m.notice", 0)], "{}", view.text());
    assert!(cards[1].first_line().starts_with("🔴 DiskFull: new on n02"), "{}", view.text());
    assert!(cards[1].body().contains("2 firing"), "{}", view.text());
    assert!(cards[2].first_line().starts_with("🟢 DiskFull: n01 resolved"), "{}", view.text());
    assert!(cards[3].first_line().starts_with("🟢 RESOLVED DiskFull"), "{}", view.text());
    assert_eq!(view.by_bot().count(), 4, "no edits, no replies: {}", view.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_card_that_gets_a_new_alert_goes_on_on_a_new_one() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).set("routes.default.repost_after", "1s").start().await;
    let old = posted(&scene, &receiver).await;
    scene.room.assert_settled("it grows old", Duration::from_millis(1100), |view| view.cards().len() == 1).await;
    receiver.accept("default", group().firing(&["n01", "n02"])).await;
    let view = scene.room.wait_for("where it goes on", DEADLINE, |view| view.edits_of(&old).len() == 1).await;
    let cards = view.cards();
    let (was, new) = (&cards[0], &cards[1]);
    assert_eq!((new.msgtype(), was.event_id()), ("m.text", old.as_str()));
    assert!(new.body().contains("2 firing"), "{}", view.text());
    assert!(was.first_line().contains("continued below"), "{}", view.text());
    let link =
        format!("https://matrix.to/#/{}/{}", urlencoding::encode(&scene.room.id), urlencoding::encode(new.event_id()));
    assert!(was.body().contains(&link) && was.formatted_body().contains(&link), "{link}\n{}", view.text());
    receiver.accept("default", group().resolved(&["n01", "n02"])).await;
    let green = |view: &RoomView| view.cards().len() == 2 && view.cards()[1].first_line().starts_with("🟢");
    let view = scene.room.assert_settled("only the new one turns green", QUIET, green).await;
    assert_eq!(view.edits_of(&old).len(), 1, "{}", view.text());
    assert!(view.thread_of(&old).is_empty(), "{}", view.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_a_moderator_redacts_is_followed_by_a_new_one() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let root = posted(&scene, &receiver).await;
    scene.sre.redact(&scene.room.id, &root).await;
    // So long that a sync has brought it.
    scene.room.assert_settled("no new card without news", 5 * QUIET, |view| view.cards().is_empty()).await;
    receiver.accept("default", group().firing(&["n01", "n02"])).await;
    let view = followed_by(&scene.room, &root, "2 firing").await;
    assert!(view.thread_of(&root).is_empty() && view.edits_of(&root).is_empty(), "{}", view.text());
    assert_eq!((lost(&receiver).await, dead(&receiver).await), (1.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redaction_while_the_receiver_was_down_is_found_out() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    let root = posted(&scene, &receiver).await;
    receiver.kill9();
    scene.sre.redact(&scene.room.id, &root).await;
    // More than a sync brings.
    for n in 0..30 {
        scene.sre.send_text(&scene.room.id, &format!("talk {n}")).await;
    }
    receiver.restart().await;
    receiver.accept("default", group().resolved(&["n01"])).await;
    let view = followed_by(&scene.room, &root, "RESOLVED").await;
    assert!(view.edits_of(&root).is_empty(), "{}", view.text());
    assert_eq!((lost(&receiver).await, dead(&receiver).await), (1.0, 0.0));
}

/// The homeserver tells nobody of a purge, and answers what hangs on it with 400 M_UNKNOWN.
#[tokio::test(flavor = "multi_thread")]
async fn a_purged_card_is_no_poison() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let root = posted(&scene, &receiver).await;
    // The newest event of a room is never purged.
    let last = scene.sre.send_text(&scene.room.id, "talk").await;
    purge(&scene, &last).await;
    let content = json!({
        "msgtype": "m.text", "body": "x", "m.relates_to": { "rel_type": "m.thread", "event_id": root },
    });
    let answer = scene.sre.try_send(&scene.room.id, &content).await;
    assert_eq!((answer.status, answer.json()["errcode"].as_str()), (400, Some("M_UNKNOWN")), "{}", answer.body);
    receiver.accept("default", group().firing(&["n01", "n02"])).await;
    followed_by(&scene.room, &root, "2 firing").await;
    assert_eq!((lost(&receiver).await, dead(&receiver).await), (1.0, 0.0));
    assert!(receiver.logs().contains("a card's first event is gone"), "{}", receiver.log_tail());
}

/// Everything before `event`.
async fn purge(scene: &Scene, event: &str) {
    let room = urlencoding::encode(&scene.room.id).into_owned();
    let path = format!("/_synapse/admin/v1/purge_history/{room}/{}", urlencoding::encode(event));
    let id = scene.synapse.admin(Method::POST, &path, json!({ "delete_local_events": true })).await;
    let id = id["purge_id"].as_str().expect("an id").to_owned();
    crate::harness::eventually("purged", DEADLINE, async || {
        let status =
            scene.synapse.admin(Method::GET, &format!("/_synapse/admin/v1/purge_history_status/{id}"), json!({})).await;
        assert_ne!(status["status"], "failed", "{status}");
        (status["status"] == "complete").then_some(())
    })
    .await;
}

/// The alias leads to another room after a restart: the card stayed behind in the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_was_replaced_gets_a_card_of_its_own() {
    let scene = Scene::new().await;
    let alias = format!("#{}:localhost", scene.bot.local());
    let path = format!("/v3/directory/room/{}", urlencoding::encode(&alias));
    let point = async |user: &User, room: &str| {
        user.call(Method::PUT, &path, Some(&json!({ "room_id": room }))).await.expect_ok("alias");
    };
    point(&scene.sre, &scene.room.id).await;
    let mut receiver = ReceiverBuilder::new(&scene.bot).route("default", &[&alias]).start().await;
    let root = posted(&scene, &receiver).await;
    let new = Room::with(&scene.sre, &scene.bot, NewRoom::named("new")).await;
    receiver.kill9();
    scene.sre.call(Method::DELETE, &path, None).await.expect_ok("alias");
    point(&scene.sre, &new.id).await;
    // An alias that was moved is followed only by the operator's word.
    receiver.reconfigure(&format!("[matrix.aliases]\n{alias:?} = {:?}", new.id));
    receiver.restart().await;
    receiver.accept("default", group().firing(&["n01", "n02"])).await;
    followed_by(&new, &root, "2 firing").await;
    scene.room.assert_settled("nothing more", QUIET, |view| view.by_bot().count() == 1).await;
    assert_eq!((lost(&receiver).await, dead(&receiver).await), (1.0, 0.0));
}
