//! Where keys cannot be had: never plaintext, and plain rooms go on.

use std::{collections::BTreeSet, fs, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{assert_sealed, wait_health, wait_signed};
use crate::harness::{
    DEADLINE, Fault, FaultProxy, Kind, Match, NewRoom, Payload, Reader, ReceiverBuilder, Room, Scene, User, only_sqlite,
};

/// The public keys of a user's devices, as the homeserver has them.
async fn keys_of(asker: &User, user: &User) -> Value {
    let body = json!({ "device_keys": { user.user_id.as_str(): [] } });
    let answer = asker.call(Method::POST, "/v3/keys/query", Some(&body)).await.expect_ok("keys/query");
    answer["device_keys"][&user.user_id].clone()
}

async fn one_time_keys(user: &User) -> Value {
    user.call(Method::POST, "/v3/keys/upload", Some(&json!({}))).await.expect_ok("keys/upload")
}

/// The first sync with members makes the SDK request all of them, which makes a new key. Of an event just before that, a
/// crash would leave a key that no backup has.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_events_of_a_device_share_a_key() {
    let scene = Scene::encrypted().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let reader = Reader::new(&scene.sre).await;
    let mut syncs = proxy.hold(Match::kind(Kind::Sync));
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    syncs.next(DEADLINE).await.release();
    let with_members = syncs.next(DEADLINE).await;
    receiver.accept("default", Payload::group("First").firing(&["n01"])).await;
    // Time enough for an event that does not wait.
    let early = tokio::time::timeout(Duration::from_secs(3), receiver.wait_log(&["shown in the room"])).await;
    assert!(early.is_err(), "sent before the sync with members: {early:?}");
    proxy.heal();
    with_members.release();
    reader.reads(&scene.room, "First").await;
    receiver.accept("default", Payload::group("Second").firing(&["n01"])).await;
    reader.reads(&scene.room, "Second").await;
    let raw = scene.room.view().await;
    let own = raw.events.iter().filter(|event| event.event_type == "m.room.encrypted" && event.sender == raw.bot);
    let keys: Vec<String> = own.map(|event| event.raw["content"]["session_id"].to_string()).collect();
    assert_eq!((keys.len(), keys.iter().collect::<BTreeSet<_>>().len()), (2, 1), "{keys:?}");
}

/// As an operator does who copies the token out of Element.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_copied_from_another_client_leaves_that_client_alone() {
    if !only_sqlite("the token is the device that encrypts") {
        return;
    }
    let scene = Scene::encrypted().await;
    let plain = scene.another_room("plain").await;
    let element = Reader::new(&scene.bot).await;
    let before = (keys_of(&scene.sre, &scene.bot).await, one_time_keys(&scene.bot).await);
    let receiver = ReceiverBuilder::of(&scene).by_token().route("plain", &[&plain.id]).start().await;
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    receiver.accept("plain", Payload::group("Open").firing(&["n01"])).await;
    plain.wait_for("plain rooms go on", DEADLINE, |view| view.cards_with("Open").len() == 1).await;
    receiver.accept("plain", Payload::group("Open").resolved(&["n01"])).await;
    plain.wait_for("with edits", DEADLINE, |view| view.card().has("RESOLVED")).await;

    let held = |json: &Value| json["parts"]["routes"]["default"]["rooms"]["default/1"]["keys"] == "foreign_device";
    let json = wait_health(&receiver, "held", held).await;
    let room = &json["parts"]["routes"]["default"]["rooms"]["default/1"];
    assert!(room["reason"].as_str().is_some_and(|reason| reason.contains("run the command login")), "{json:#}");
    assert_eq!((&json["status"], &room["waiting"]), (&"degraded".into(), &1.into()), "{json:#}");
    assert_eq!(json["parts"]["encryption"]["keys"], "foreign_device");
    assert_eq!(json["parts"]["sync"]["status"], "ok", "{json:#}");
    receiver.wait_log(&["held", "another client made", "run the command login"]).await;
    let labels = [("room", "default/1"), ("reason", "foreign_device")];
    receiver.wait_metric("rooms_without_keys", &labels, |held| held == 1.0).await;
    let page = receiver.get("/healthz/delivery").await;
    assert_eq!(page.status, 503);
    assert!(page.body.contains("default/1: encrypted"), "{}", page.body);

    assert_sealed(&scene.room, &["Secret"]).await;
    assert_eq!(scene.room.view().await.by_bot().count(), 0, "nothing was sent");
    assert_eq!((keys_of(&scene.sre, &scene.bot).await, one_time_keys(&scene.bot).await), before);
    assert!(!receiver.store_path().join("matrix").join(&scene.bot.device_id).exists(), "no keys were made");
    // That client still gets keys, and reads with them: nobody took its messages away.
    let sre = Reader::new(&scene.sre).await;
    let room = matrix_sdk::ruma::RoomId::parse(&scene.room.id).expect("a room id");
    let content = json!({ "msgtype": "m.text", "body": "can you read this?" });
    sre.client.get_room(&room).expect("the room").send_raw("m.room.message", content).await.expect("sent");
    receiver.accept("plain", Payload::group("Another").firing(&["n01"])).await;
    plain.wait_for("a send after it", DEADLINE, |view| view.cards_with("Another").len() == 1).await;
    let readable =
        |view: &crate::harness::RoomView| view.events.iter().any(|event| event.content["body"] == "can you read this?");
    element.wait_for(&scene.room, "the message", readable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_keys_hold_encrypted_rooms_and_come_back_with_a_backup() {
    let scene = Scene::encrypted().await;
    let plain = scene.another_room("plain").await;
    let reader = Reader::new(&scene.sre).await;
    let mut receiver = ReceiverBuilder::of(&scene).by_token().route("plain", &[&plain.id]).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    reader.reads(&scene.room, "Before").await;
    let keys = keys_of(&scene.sre, &scene.bot).await;
    receiver.sigterm(DEADLINE).await;
    let (folder, backup) = (receiver.store_path().join("matrix"), receiver.store_path().join("matrix.backup"));
    fs::rename(&folder, &backup).expect("the SDK's store");

    receiver.restart().await;
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    receiver.accept("plain", Payload::group("Open").firing(&["n01"])).await;
    plain.wait_for("plain rooms go on", DEADLINE, |view| view.cards_with("Open").len() == 1).await;
    let held = |json: &Value| json["parts"]["routes"]["default"]["rooms"]["default/1"]["keys"] == "store_lost";
    let json = wait_health(&receiver, "held", held).await;
    assert!(json.to_string().contains("from a backup"), "{json:#}");
    assert_eq!(keys_of(&scene.sre, &scene.bot).await, keys, "nothing was replaced");
    assert!(!folder.exists());
    assert_sealed(&scene.room, &["Secret", "Before"]).await;

    receiver.sigterm(DEADLINE).await;
    fs::rename(&backup, &folder).expect("the backup");
    receiver.restart().await;
    reader.reads(&scene.room, "Secret").await;
    receiver.wait_metric("rooms_without_keys", &[], |held| held == 0.0).await;
    assert_sealed(&scene.room, &["Secret", "Before"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_device_serves_plain_rooms_only_and_once() {
    if !only_sqlite("the token is the device that encrypts") {
        return;
    }
    let scene = Scene::encrypted().await;
    let plain = scene.another_room("plain").await;
    let path = format!("/_synapse/admin/v1/users/{}/login", scene.bot.user_id);
    let puppet = scene.synapse.admin(Method::POST, &path, json!({})).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene)
        .homeserver(&proxy.url())
        .route("plain", &[&plain.id])
        .set("matrix.access_token", puppet["access_token"].as_str().expect("a token"))
        .start()
        .await;
    let held = |json: &Value| json["parts"]["routes"]["default"]["rooms"]["default/1"]["keys"] == "no_device";
    wait_health(&receiver, "held before the first alert", held).await;
    // Without a device nobody remembers transaction ids for long, so the room is looked at before anything goes out again.
    proxy.fault_times(2, Match::sends(), Fault::CutAfter);
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    receiver.accept("plain", Payload::group("Open").firing(&["n01"])).await;
    receiver.wait_log(&["found in the room"]).await;
    plain.assert_settled("one card", Duration::from_secs(1), |view| view.cards_with("Open").len() == 1).await;
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
    assert_sealed(&scene.room, &["Secret"]).await;
    assert_eq!(scene.room.view().await.by_bot().count(), 0);
}

/// A room that the receiver did not know while its syncs failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_becomes_encrypted_gets_no_plaintext_even_without_a_sync() {
    let scene = Scene::new().await;
    let reader = Reader::new(&scene.sre).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    receiver.accept("default", Payload::group("Open").firing(&["n01"])).await;
    scene.room.wait_for("in the clear", DEADLINE, |view| view.cards_with("Open").len() == 1).await;

    let syncs = || Match::when(|one| one.path.contains("/sync"));
    proxy.fault(syncs(), Fault::error(500, "M_UNKNOWN"));
    scene.sre.send_text(&scene.room.id, "ends the long poll").await;
    receiver.wait_log(&["sync failed"]).await;
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    scene.sre.set_state(&scene.room.id, "m.room.encryption", "", algorithm).await;
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    receiver.wait_log(&["keys_not_ready", "encrypted"]).await;
    receiver.wait_metric("rooms_without_keys", &[("reason", "not_ready")], |held| held == 1.0).await;
    proxy.heal();
    reader.reads(&scene.room, "Secret").await;
    let raw = scene.room.view().await;
    assert!(!raw.events.iter().any(|event| event.raw.to_string().contains("Secret")), "{}", raw.text());
    receiver.wait_metric("rooms_without_keys", &[], |held| held == 0.0).await;
}

/// What is prepared while the event before it is on its way: an answer that the room is plain counts for a moment only.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_becomes_encrypted_between_two_events_gets_no_plaintext() {
    let scene = Scene::new().await;
    let reader = Reader::new(&scene.sre).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).set("routes.default.digest_above", 0);
    let receiver = builder.start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    scene.room.wait_for("in the clear", DEADLINE, |view| view.cards_with("Before").len() == 1).await;
    proxy.fault(Match::when(|one| one.path.contains("/sync")), Fault::error(500, "M_UNKNOWN"));
    scene.sre.send_text(&scene.room.id, "ends the long poll").await;
    receiver.wait_log(&["sync failed"]).await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("First").firing(&["n01"])).await;
    let first = answers.next(DEADLINE).await;
    receiver.accept("default", Payload::group("Open").firing(&["n01"])).await;
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    first.release();
    let second = answers.next(DEADLINE).await;
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    scene.sre.set_state(&scene.room.id, "m.room.encryption", "", algorithm).await;
    // Longer than the answer of the first counts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.release();
    receiver.wait_log(&["keys_not_ready", "encrypted"]).await;
    proxy.heal();
    reader.reads(&scene.room, "Secret").await;
    let raw = scene.room.view().await;
    assert!(!raw.events.iter().any(|event| event.raw.to_string().contains("Secret")), "{}", raw.text());
}

/// With syncs that work, and without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_becomes_encrypted_gets_keys_and_trust() {
    let scene = Scene::new().await;
    let reader = Reader::strict(&scene.sre).await;
    let receiver = ReceiverBuilder::of(&scene).for_an_identity().start().await;
    receiver.accept("default", Payload::group("Open").firing(&["n01"])).await;
    scene.room.wait_for("in the clear", DEADLINE, |view| view.cards_with("Open").len() == 1).await;
    assert_eq!(receiver.metric("device_signed", &[]).await, 0.0, "an account with plain rooms only is left as it is");
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    scene.sre.set_state(&scene.room.id, "m.room.encryption", "", algorithm).await;
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    reader.reads(&scene.room, "Secret").await;
    let raw = scene.room.view().await;
    assert!(!raw.events.iter().any(|event| event.raw.to_string().contains("Secret")), "{}", raw.text());
    receiver.wait_metric("device_signed", &[], |signed| signed == 1.0).await;
}

/// Syncs leave members out as long as no room is encrypted: who joined then has to be asked for, and who joins later is
/// reported.
#[tokio::test(flavor = "multi_thread")]
async fn who_joined_before_a_room_became_encrypted_reads_it_as_well() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("Open").firing(&["n01"])).await;
    scene.room.wait_for("in the clear", DEADLINE, |view| view.cards_with("Open").len() == 1).await;
    let early = scene.synapse.user("early").await;
    let late = scene.synapse.user("late").await;
    scene.sre.invite(&scene.room.id, &early).await;
    early.join(&scene.room.id).await;
    let reads_early = Reader::new(&early).await;
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    scene.sre.set_state(&scene.room.id, "m.room.encryption", "", algorithm).await;
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    reads_early.reads(&scene.room, "Secret").await;
    let reads_late = Reader::new(&late).await;
    scene.sre.invite(&scene.room.id, &late).await;
    late.join(&scene.room.id).await;
    crate::harness::caught_up(&receiver, &scene.room).await;
    receiver.accept("default", Payload::group("Later").firing(&["n01"])).await;
    reads_late.reads(&scene.room, "Later").await;
    reads_early.reads(&scene.room, "Later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_passphrase_holds_encrypted_rooms() {
    let scene = Scene::encrypted().await;
    let plain = Room::with(&scene.sre, &scene.bot, NewRoom::named("plain")).await;
    let reader = Reader::new(&scene.sre).await;
    let builder = ReceiverBuilder::of(&scene).route("plain", &[&plain.id]);
    let (right, wrong) =
        (builder.file("right", "the right passphrase\n"), builder.file("wrong", "a wrong passphrase\n"));
    let mut receiver = builder.set("matrix.store_passphrase_file", right.as_str()).start().await;
    wait_signed(&receiver).await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    reader.reads(&scene.room, "Before").await;
    receiver.reconfigure(&format!("[matrix]\nstore_passphrase_file = {wrong:?}"));
    receiver.restart().await;
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    receiver.accept("plain", Payload::group("Open").firing(&["n01"])).await;
    plain.wait_for("plain rooms go on", DEADLINE, |view| view.cards_with("Open").len() == 1).await;
    let held = |json: &Value| json["parts"]["routes"]["default"]["rooms"]["default/1"]["keys"] == "store_fails";
    wait_health(&receiver, "held", held).await;
    receiver.reconfigure(&format!("[matrix]\nstore_passphrase_file = {right:?}"));
    receiver.restart().await;
    wait_signed(&receiver).await;
    reader.reads(&scene.room, "Secret").await;
    assert_sealed(&scene.room, &["Secret", "Before"]).await;
    let logs = receiver.logs();
    assert!(!logs.contains("right passphrase") && !logs.contains("wrong passphrase"));
}
