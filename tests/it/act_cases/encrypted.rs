//! Encrypted rooms: what the homeserver could make up does not act.

use super::{World, disk_full, has_tick, matchers};
use crate::harness::{Reader, RoomView, Scene, caught_up};

/// Somebody's device, and another of the same person that is not signed.
struct Devices {
    signed: Reader,
    unsigned: Reader,
}

async fn encrypted(toml: &str) -> World {
    World::with(Scene::encrypted().await, toml).await
}

/// `DiskFull` fires; returns its card's event id.
async fn fires(world: &World, reader: &Reader) -> String {
    caught_up(&world.receiver, &world.scene.room).await;
    world.alertmanager.post_alerts(&[disk_full("n01")]).await;
    let view = reader.reads(&world.scene.room, "DiskFull").await;
    view.cards_with("DiskFull")[0].event_id().to_owned()
}

/// Waits for an answer in the thread that only those with the keys can read.
async fn answered(world: &World, reader: &Reader, card: &str, command: &str, needle: &str) -> RoomView {
    let is_answer =
        |view: &RoomView| view.thread_of(card).iter().any(|m| m.event.in_reply_to() == Some(command) && m.has(needle));
    let view = reader.wait_for(&world.scene.room, needle, is_answer).await;
    let raw = world.scene.room.view().await;
    assert!(!raw.text().contains(needle), "not sealed: {}", raw.text());
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_acts_if_it_came_encrypted_from_a_signed_device_and_once() {
    let world = encrypted("").await;
    let room = &world.scene.room;
    let oncall = Devices { signed: Reader::new(&world.oncall).await, unsigned: Reader::unsigned(&world.oncall).await };
    let card = fires(&world, &oncall.signed).await;

    let command = world.oncall.say_in_thread(&room.id, &card, "!silence 1h").await;
    let refusal = "This room is encrypted and the command was not: send it encrypted";
    answered(&world, &oncall.signed, &card, &command, refusal).await;
    let command = oncall.unsigned.say_in_thread(room, &card, "!silence 1h").await;
    answered(&world, &oncall.signed, &card, &command, "The command came from a device that is not verified").await;
    let command = oncall.signed.say_in_thread(room, &card, "!why not encrypted").await;
    answered(&world, &oncall.signed, &card, &command, "Nobody has taken it.").await;
    assert_eq!(world.made().await, 0);

    let command = oncall.signed.say_in_thread(room, &card, "!silence 1h disk is replaced").await;
    let view = answered(&world, &oncall.signed, &card, &command, "DiskFull").await;
    assert!(has_tick(&world.scene.room.view().await, &command), "{}", view.text());
    let silences = world.silences_are(1).await;
    assert_eq!(matchers(&silences[0]), [r#"alertname="DiskFull""#]);
    let ended = oncall.signed.say_in_thread(room, &card, "!unsilence").await;
    world.ticked(&ended).await;
    world.silences_are(0).await;

    // The homeserver sends it once more.
    let copy = world.oncall.replay(&room.id, &command).await;
    let before = world.all_acts().await;
    let question = oncall.signed.say(room, "!alerts").await;
    answered(&world, &oncall.signed, &question, &question, "1 incident is open here").await;
    assert_eq!((world.made().await, world.all_acts().await), (1, before + 1.0));
    assert!(!has_tick(&world.scene.room.view().await, &copy));
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_and_power_levels_are_the_homeservers_word() {
    let mut world = encrypted("").await;
    let room = world.scene.room.clone();
    let oncall = Reader::new(&world.oncall).await;
    let moderator = Reader::new(&world.moderator).await;
    let card = fires(&world, &oncall).await;

    // Who runs the homeserver could send these: they carry no proof.
    world.oncall.react(&room.id, &card, "✅").await;
    let taken = format!("taken by {}", world.oncall.local());
    oncall.wait_for(&room, "taken", |view| view.card().has(&taken)).await;
    world.oncall.react(&room.id, &card, "🔕").await;
    let refusal = "Use !silence here: reactions are not encrypted";
    answered(&world, &oncall, &card, &card, refusal).await;
    let command = moderator.say_in_thread(&room, &card, "!silence 1h").await;
    let refusal = "In an encrypted room a silence needs your name in actions.allow.users";
    answered(&world, &oncall, &card, &command, refusal).await;
    assert_eq!(world.made().await, 0);
    let command = moderator.say_in_thread(&room, &card, "!ack it is mine").await;
    world.ticked(&command).await;

    // A reload trusts them.
    world.receiver.swap_config(|config| {
        let actions = config["actions"].as_table_mut().expect("a table");
        actions.insert("trust_power".to_owned(), true.into());
        actions.insert("trust_reactions".to_owned(), true.into());
    });
    world.receiver.wait_log(&["INFO", "config reloaded"]).await;
    let command = moderator.say_in_thread(&room, &card, "!silence 1h").await;
    world.ticked(&command).await;
    world.silences_are(1).await;
    let command = moderator.say_in_thread(&room, &card, "!unsilence").await;
    world.ticked(&command).await;
    world.silences_are(0).await;
    world.oncall.react(&room.id, &card, "🔕\u{FE0F}").await;
    let silences = world.silences_are(1).await;
    assert_eq!(silences[0]["createdBy"], world.oncall.user_id.as_str());
    let silenced = format!("silenced by {}", world.oncall.local());
    oncall.wait_for(&room, "silenced", |view| view.card().has(&silenced)).await;
}
