//! Several routes in a room, and reloads.

use serde_json::json;
use toml::Table;

use super::{QUIET, World, answers};
use crate::harness::{AlertToPost, AlertmanagerConfig, DEADLINE, ReceiverBuilder, RoomView, Scene, eventually};

/// `Quiet…` goes to the second route, by a receiver of its own.
async fn two_routes() -> World {
    let scene = Scene::new().await;
    let room = scene.room.id.clone();
    let receiver = |builder: ReceiverBuilder| builder.route("quiet", &[&room]).set("routes.quiet.actions", false);
    let alertmanager = |mut config: AlertmanagerConfig| {
        let url = config.json["receivers"][0]["webhook_configs"][0]["url"].as_str().expect("a URL").to_owned();
        let url = url.replace("/alerts/default", "/alerts/quiet");
        let quiet = json!({ "name": "quiet", "webhook_configs": [{ "url": url, "send_resolved": true }] });
        config.json["receivers"].as_array_mut().expect("a list").push(quiet);
        config.route("routes", json!([{ "matchers": ["alertname = Quiet"], "receiver": "quiet" }]))
    };
    World::build(scene, "", receiver, alertmanager).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_actions_hears_nothing_beside_one_that_has_them() {
    let world = two_routes().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    world.alertmanager.post_alerts(&[AlertToPost::firing(&[("alertname", "Quiet"), ("severity", "warning")])]).await;
    let view = world.wait("its card", |view| !view.cards_with("Quiet").is_empty()).await;
    let quiet = view.cards_with("Quiet")[0].event_id().to_owned();
    for key in ["✅", "🔕"] {
        world.oncall.react(&room, &quiet, key).await;
    }
    for words in ["!ack", "!silence", "!why", "!help", "!frobnicate"] {
        world.oncall.say_in_thread(&room, &quiet, words).await;
    }
    world.oncall.reply(&room, &quiet, "!silence").await;
    let view = world.settled(&card).await;
    assert!(view.thread_of(&quiet).is_empty() && view.replies_to(&quiet).is_empty(), "{}", view.text());
    assert_eq!((world.made().await, world.all_acts().await), (0, 1.0));
    // What is open in the room is all of it.
    let question = world.member.send_text(&room, "!alerts").await;
    let answer = world.answered(&question, "2 incidents are open here").await;
    assert!(answer.has("DiskFull") && answer.has("Quiet"), "{}", answer.body());
    let reaction = world.oncall.react(&room, &card, "🔕").await;
    world.silences_are(1).await;
    world.oncall.redact(&room, &reaction).await;
    world.silences_are(0).await;
}

/// Changes the config and waits until that is in force.
async fn reload(world: &mut World, change: impl FnOnce(&mut Table)) {
    let reloads = |world: &World| world.receiver.logs().matches("config reloaded").count();
    let before = reloads(world);
    world.receiver.swap_config(change);
    eventually("reloaded", DEADLINE, async || (reloads(world) > before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_prefix_and_turns_actions_off_and_on() {
    let mut world = World::new().await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    world.settled(&card).await;
    reload(&mut world, |config| {
        config["actions"].as_table_mut().expect("a table").insert("prefix".to_owned(), "bot:".into());
    })
    .await;
    world.moderator.say_in_thread(&room, &card, "!silence").await;
    let command = world.moderator.say_in_thread(&room, &card, "bot:ack by another prefix").await;
    world.ticked(&command).await;
    world.moderator.say_in_thread(&room, &card, "bot:frobnicate").await;
    world.answered(&card, "There is no bot:frobnicate; bot:help lists what there is").await;
    assert_eq!(world.made().await, 0);

    let mut kept = None;
    reload(&mut world, |config| kept = config.remove("actions")).await;
    let acts = world.all_acts().await;
    let reaction = world.moderator.react(&room, &card, "🔕").await;
    world.moderator.say_in_thread(&room, &card, "bot:silence").await;
    world.moderator.send_text(&room, "bot:help").await;
    world.moderator.redact(&room, &reaction).await;
    let said = answers(&world.scene.room.view().await, &card, "").len();
    let calm = |view: &RoomView| answers(view, &card, "").len() == said;
    world.scene.room.assert_settled("nothing", QUIET, calm).await;
    assert_eq!((world.made().await, world.all_acts().await), (0, acts));

    reload(&mut world, |config| drop(config.insert("actions".to_owned(), kept.expect("a table")))).await;
    world.moderator.react(&room, &card, "🔕").await;
    world.silences_are(1).await;
}

/// A receiver without actions listens to nobody, and asks Alertmanager for nothing on their behalf.
#[tokio::test(flavor = "multi_thread")]
async fn without_actions_nothing_is_heard() {
    let world = World::build(Scene::new().await, "", |builder| builder.without("actions"), |config| config).await;
    let (room, card) = (world.room().to_owned(), world.fires(&["n01"]).await);
    for key in ["✅", "🔕"] {
        world.scene.sre.react(&room, &card, key).await;
    }
    for words in ["!ack", "!silence", "!help"] {
        world.scene.sre.say_in_thread(&room, &card, words).await;
        world.scene.sre.send_text(&room, words).await;
    }
    let calm = |view: &RoomView| {
        view.by_bot().count() == 1
            && !view.events.iter().any(|event| event.event_type == "m.reaction" && event.sender == view.bot)
    };
    world.scene.room.assert_settled("nothing", QUIET, calm).await;
    assert_eq!((world.made().await, world.all_acts().await), (0, 0.0));
}
