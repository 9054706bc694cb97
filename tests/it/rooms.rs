//! Addresses and the rooms behind them: aliases, invitations, upgrades, kicks and bans.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::harness::{
    DEADLINE, Fault, FaultProxy, Match, NewRoom, Payload, Receiver, ReceiverBuilder, Reply, Room, RoomView, Scene,
    eventually,
};

const QUIET: Duration = Duration::from_secs(1);

fn group(name: &str) -> Payload {
    Payload::group(name).firing(&["n01"])
}

fn shows(needle: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(needle).len() == 1
}

async fn room_part(receiver: &Receiver) -> Value {
    receiver.get("/healthz").await.json()["parts"]["routes"]["default"]["rooms"]["default/1"].clone()
}

/// Waits until the room is held for a reason that has all of `words`, and no Matrix id.
async fn held(receiver: &Receiver, words: &[&str]) {
    let what = format!("held for {words:?}");
    let part = eventually(&what, DEADLINE, async || {
        let part = room_part(receiver).await;
        let reason = part["reason"].as_str().unwrap_or_default();
        words.iter().all(|word| reason.contains(word)).then_some(part)
    });
    let part = part.await;
    assert_eq!(part["status"], "degraded", "{part:#}");
    assert!(!part.to_string().contains(":localhost"), "{part:#}");
    assert_eq!(receiver.get("/healthz/delivery").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_keeps_the_room_that_it_led_to_first() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let alias = format!("#ops-{}:localhost", bot.local());
    sre.point_alias(&alias, &scene.room.id).await;
    let mut receiver = ReceiverBuilder::new(bot).route("default", &[&alias]).start().await;
    receiver.accept("default", group("Before")).await;
    scene.room.wait_for("a card", DEADLINE, shows("Before")).await;
    receiver.sigterm(DEADLINE).await;

    let other = Room::new(&sre.create_room(NewRoom::named("elsewhere").public()).await, sre, bot);
    sre.point_alias(&alias, &other.id).await;
    receiver.restart().await;
    receiver.accept("default", group("Moved")).await;
    held(&receiver, &["leads to", "matrix.aliases"]).await;
    receiver.wait_log(&["matrix.aliases", &alias, &other.id]).await;
    assert!(!bot.joined_rooms().await.contains(&other.id));
    receiver.sigterm(DEADLINE).await;

    // The operator means it.
    receiver.reconfigure(&format!("[matrix.aliases]\n\"{alias}\" = \"{}\"", other.id));
    receiver.restart().await;
    other.assert_settled("what was held", QUIET, shows("Moved")).await;
    assert!(scene.room.view().await.cards_with("Moved").is_empty());
    receiver.sigterm(DEADLINE).await;
    // That is kept as well: the config need not say it for ever.
    receiver.take_key("matrix.aliases");
    receiver.restart().await;
    receiver.accept("default", group("Later")).await;
    other.wait_for("the next", DEADLINE, shows("Later")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_room_is_followed_to_its_successor() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let old = Room::with(sre, bot, NewRoom::named("old").version("10")).await;
    let mut receiver = ReceiverBuilder::new(bot).route("default", &[&old.id]).start().await;
    receiver.accept("default", group("Before")).await;
    old.wait_for("a card", DEADLINE, shows("Before")).await;

    // A private room's successor is private as well: the bot has to be invited.
    let new = Room::new(&sre.upgrade(&old.id, "11").await, sre, bot);
    receiver.accept("default", group("Between")).await;
    held(&receiver, &["replaced by", "invite the account there"]).await;
    sre.invite(&new.id, bot).await;
    new.assert_settled("what was held", QUIET, shows("Between")).await;
    receiver.wait_log(&["room was upgraded", &old.id, &new.id]).await;
    eventually("well, and upgraded", DEADLINE, async || {
        let part = room_part(&receiver).await;
        (part["status"] == "ok" && part["notice"].to_string().contains("upgraded")).then_some(())
    })
    .await;

    // What began in the old room goes on in the new one.
    receiver.accept("default", Payload::group("Before").firing(&["n01", "n02"])).await;
    new.assert_settled("the old incident", QUIET, shows("Before")).await;
    receiver.sigterm(DEADLINE).await;
    receiver.restart().await;
    receiver.accept("default", group("After")).await;
    new.assert_settled("after a restart", QUIET, shows("After")).await;
    assert!(room_part(&receiver).await["notice"].to_string().contains("upgraded"));
    assert_eq!(old.view().await.cards().len(), 1);
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
}

/// Dendrite finds an event in whatever room it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_found_in_the_replaced_room_is_not_in_the_new_one() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let old = Room::with(sre, bot, NewRoom::named("old").version("10")).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::new(bot).homeserver(&proxy.url()).route("default", &[&old.id]);
    let receiver = builder.start().await;
    receiver.accept("default", group("Before")).await;
    let card = old.wait_for("a card", DEADLINE, shows("Before")).await.card().event.raw.clone();
    assert_eq!(card["room_id"], old.id.as_str());
    let new = Room::new(&sre.upgrade(&old.id, "11").await, sre, bot);
    let id = new.id.clone();
    let asked = Match::when(move |one| one.path.contains(&format!("/rooms/{id}/event/")));
    proxy.fault(asked, Fault::Respond(Reply::new(200, "application/json", &card.to_string())));
    sre.invite(&new.id, bot).await;
    receiver.wait_log(&["room was upgraded", &new.id]).await;
    receiver.accept("default", Payload::group("Before").firing(&["n01", "n02"])).await;
    new.assert_settled("a card of its own", QUIET, shows("Before")).await;
}

/// Whoever may write a tombstone could name any room.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_does_not_name_its_predecessor_is_not_followed() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let other = sre.create_room(NewRoom::named("elsewhere").public()).await;
    let tombstone = json!({ "body": "moved", "replacement_room": other });
    sre.set_state(&scene.room.id, "m.room.tombstone", "", tombstone).await;
    receiver.wait_log(&["not following", &other]).await;
    receiver.accept("default", group("A")).await;
    scene.room.wait_for("a card", DEADLINE, shows("A")).await;
    eventually("the bot has left", DEADLINE, async || (!bot.joined_rooms().await.contains(&other)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kicked_stays_out_until_invited() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    // Public: it could come back by itself.
    let room = Room::with(sre, bot, NewRoom::named("public").public()).await;
    let receiver = ReceiverBuilder::new(bot).route("default", &[&room.id]).start().await;
    receiver.accept("default", group("First")).await;
    room.wait_for("a card", DEADLINE, shows("First")).await;
    sre.kick(&room.id, bot).await;
    receiver.accept("default", group("Kicked")).await;
    held(&receiver, &["kicked by", "invite it"]).await;
    assert!(!bot.joined_rooms().await.contains(&room.id));
    sre.invite(&room.id, bot).await;
    room.assert_settled("what was held", QUIET, shows("Kicked")).await;
    sre.ban(&room.id, bot).await;
    receiver.accept("default", group("Banned")).await;
    held(&receiver, &["banned by", "lift the ban"]).await;
    sre.unban(&room.id, bot).await;
    sre.invite(&room.id, bot).await;
    room.assert_settled("what was held", QUIET, shows("Banned")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_accepted_to_configured_rooms_only() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let ours = Room::new(&sre.create_room(NewRoom::named("ours")).await, sre, bot);
    let foreign = sre.create_room(NewRoom::named("foreign")).await;
    let receiver = ReceiverBuilder::new(bot).route("default", &[&ours.id]).start().await;
    receiver.accept("default", group("A")).await;
    receiver.wait_log(&["cannot join the room", &ours.id]).await;
    sre.invite(&foreign, bot).await;
    receiver.wait_log(&["ignored an invitation", &foreign]).await;
    sre.invite(&ours.id, bot).await;
    ours.assert_settled("what was held", QUIET, shows("A")).await;
    assert!(!bot.joined_rooms().await.contains(&foreign));
    assert_eq!(receiver.logs().matches("ignored an invitation").count(), 1);
}

/// The same for a session without keys, which asks for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn without_keys_upgrades_are_followed_and_aliases_kept_as_well() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let path = format!("/_synapse/admin/v1/users/{}/login", bot.user_id);
    let puppet = scene.synapse.admin(reqwest::Method::POST, &path, json!({})).await;
    let token = puppet["access_token"].as_str().expect("a token without a device");
    let old = Room::with(sre, bot, NewRoom::named("old").version("10")).await;
    let alias = format!("#bare-{}:localhost", bot.local());
    sre.point_alias(&alias, &old.id).await;
    let builder = ReceiverBuilder::new(bot).set("matrix.access_token", token).route("default", &[&alias]);
    let mut receiver = builder.start().await;
    receiver.accept("default", group("Before")).await;
    old.wait_for("a card", DEADLINE, shows("Before")).await;
    // Takes the alias along.
    let new = Room::new(&sre.upgrade(&old.id, "11").await, sre, bot);
    sre.invite(&new.id, bot).await;
    receiver.accept("default", group("Between")).await;
    new.assert_settled("followed", QUIET, shows("Between")).await;
    receiver.sigterm(DEADLINE).await;
    sre.point_alias(&alias, &scene.room.id).await;
    receiver.restart().await;
    receiver.accept("default", group("Moved")).await;
    held(&receiver, &["leads to", "matrix.aliases"]).await;
    assert!(scene.room.view().await.cards().is_empty());
}

/// The SDK keeps each member that it ever sees, some ten KiB apiece; in a plain room nobody needs them.
#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_plain_room_are_not_kept() {
    let scene = Scene::new().await;
    let mut users = Vec::new();
    for _ in 0..20 {
        let user = scene.synapse.user("talker").await;
        scene.sre.invite(&scene.room.id, &user).await;
        user.join(&scene.room.id).await;
        users.push(user);
    }
    // Far enough back not to be part of the first sync.
    for n in 0..12 {
        scene.sre.send_text(&scene.room.id, &format!("quiet {n}")).await;
    }
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", group("First")).await;
    scene.room.wait_for("a card", DEADLINE, shows("First")).await;
    for user in &users {
        user.send_text(&scene.room.id, "talk").await;
    }
    // While syncs wait for something new.
    for _ in 0..10 {
        let user = scene.synapse.user("comer").await;
        scene.sre.invite(&scene.room.id, &user).await;
        user.join(&scene.room.id).await;
        scene.sre.kick(&scene.room.id, &user).await;
    }
    // A first sync does not wait, and brings what has come meanwhile.
    receiver.restart().await;
    receiver.accept("default", group("Second")).await;
    scene.room.wait_for("another card", DEADLINE, shows("Second")).await;
    receiver.sigterm(DEADLINE).await;
    let file = receiver.store_path().join("matrix").join(receiver.own_device()).join("matrix-sdk-state.sqlite3");
    let options = SqliteConnectOptions::new().filename(&file).read_only(true);
    let mut store = SqliteConnection::connect_with(&options).await.expect("the SDK's store opens");
    let members: i64 = sqlx::query_scalar("SELECT count(*) FROM member").fetch_one(&mut store).await.expect("counted");
    store.close().await.expect("closed");
    // The first sync of a session has ten events, some of which may be those of people who came.
    assert!(members <= 11, "{members} members");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kick_shows_before_the_next_alert() {
    let scene = Scene::new().await;
    let room = Room::with(&scene.sre, &scene.bot, NewRoom::named("public").public()).await;
    let receiver = ReceiverBuilder::new(&scene.bot).route("default", &[&room.id]).start().await;
    receiver.accept("default", group("First")).await;
    room.wait_for("a card", DEADLINE, shows("First")).await;
    scene.sre.kick(&room.id, &scene.bot).await;
    held(&receiver, &["kicked by", "invite it"]).await;
    assert_eq!(receiver.get("/healthz/delivery").await.status, 503);
    scene.sre.invite(&room.id, &scene.bot).await;
    eventually("well again", DEADLINE, async || (receiver.get("/healthz/delivery").await.status == 200).then_some(()))
        .await;
}
