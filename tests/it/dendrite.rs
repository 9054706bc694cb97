//! The receiver on Dendrite, which is not Synapse: transaction ids are forgotten with a restart, the first identity needs
//! a password, and an event is found in whatever room it is asked for. `make test-dendrite`.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    DEADLINE, FaultProxy, Match, NewRoom, Payload, Reader, ReceiverBuilder, Room, RoomView, User,
    dendrite::DendriteScene,
};

/// How long a room is watched for a second message that must not come.
const QUIET: Duration = Duration::from_secs(2);

fn shows(needle: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(needle).len() == 1
}

/// The keys of the account's identity and of one device, as the homeserver shows them to others.
async fn shown(asker: &User, user: &User, device: &str) -> (Value, Value, Value) {
    let body = json!({ "device_keys": { user.user_id.as_str(): [] } });
    let answer = asker.call(Method::POST, "/v3/keys/query", Some(&body)).await.expect_ok("keys/query");
    let id = user.user_id.as_str();
    let device = answer["device_keys"][id][device].clone();
    (answer["master_keys"][id]["keys"].clone(), answer["self_signing_keys"][id]["keys"].clone(), device)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Dendrite: make test-dendrite"]
async fn an_alert_fires_changes_and_turns_green() {
    let scene = DendriteScene::with(NewRoom::named("ops")).await;
    let receiver = ReceiverBuilder::new(&scene.bot).route("default", &[&scene.room.id]).start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("DiskFull")).await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01", "n02"])).await;
    scene.room.wait_for("its edit", DEADLINE, |view| view.cards().len() == 1 && view.card().has("2 firing")).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01", "n02"])).await;
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().has("RESOLVED");
    scene.room.assert_settled("one green card", QUIET, green).await;
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Dendrite: make test-dendrite"]
async fn login_gives_the_account_an_identity_that_others_see() {
    let scene = DendriteScene::with(NewRoom::named("secret ops").encrypted()).await;
    let strict = Reader::strict(&scene.sre).await;
    let builder = ReceiverBuilder::new(&scene.bot).route("default", &[&scene.room.id]).without("matrix.access_token");
    let password = builder.file("password", &format!("{}\n", scene.bot.password));
    let mut receiver = builder.unstarted();
    let login = ["login", "--password-file", &password];
    let done = receiver.cli(&login).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(said.contains("shown this once") && said.contains("clients show no warning"), "{said}");
    let session = std::fs::read_to_string(receiver.store_path().join("session.json")).expect("a session");
    let session: Value = serde_json::from_str(&session).expect("JSON");
    let device = session["device_id"].as_str().expect("a device");
    let (master, signer, keys) = shown(&scene.sre, &scene.bot, device).await;
    assert!(master.is_object() && signer.is_object(), "Dendrite has an identity: {master} {signer}");
    let signer = signer.as_object().and_then(|keys| keys.keys().next()).expect("a key");
    assert!(keys["signatures"][&scene.bot.user_id][signer].is_string(), "and shows the signature: {keys:#}");

    let done = receiver.cli(&login).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(!said.contains("shown this once") && said.contains("its recovery key stays as it is"), "{said}");
    assert_eq!(shown(&scene.sre, &scene.bot, device).await.0, master, "the same identity");

    receiver.spawn();
    receiver.ready().await.expect("it starts");
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    strict.reads(&scene.room, "DiskFull").await;
    receiver.wait_metric("device_signed", &[], |signed| signed == 1.0).await;
    assert!(strict.sees_signed(&scene.bot.user_id, device).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Dendrite: make test-dendrite"]
async fn an_open_incident_gets_a_card_in_the_room_that_replaces_its_own() {
    let scene = DendriteScene::with(NewRoom::named("old")).await;
    let (old, sre, bot) = (&scene.room, &scene.sre, &scene.bot);
    let receiver = ReceiverBuilder::new(bot).route("default", &[&old.id]).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    old.wait_for("a card", DEADLINE, shows("Before")).await;
    let new = Room::new(&sre.upgrade(&old.id, "11").await, sre, bot);
    sre.invite(&new.id, bot).await;
    receiver.wait_log(&["room was upgraded", &new.id]).await;
    receiver.accept("default", Payload::group("Before").firing(&["n01", "n02"])).await;
    new.assert_settled("the old incident", QUIET, shows("Before")).await;
    receiver.accept("default", Payload::group("Before").resolved(&["n01", "n02"])).await;
    new.wait_for("green", DEADLINE, |view| view.card().has("RESOLVED")).await;
}

/// Dendrite has the event, its answer is cut, and with the restart it forgets the transaction id.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Dendrite: make test-dendrite"]
async fn an_event_in_doubt_across_a_restart_is_in_the_room_once() {
    let mut scene = DendriteScene::with(NewRoom::named("ops")).await;
    let proxy = FaultProxy::start(&scene.dendrite.url()).await;
    let builder = ReceiverBuilder::new(&scene.bot).homeserver(&proxy.url());
    let receiver = builder.route("default", &[&scene.room.id]).start().await;
    receiver.accept("default", Payload::group("First").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("First")).await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    assert_eq!(held.exchange.upstream, Some(200), "Dendrite has it");
    scene.dendrite.stop().await;
    held.cut();
    proxy.heal();
    receiver.wait_log(&["not shown yet", "in_doubt=true"]).await;
    scene.dendrite.start().await;
    receiver.wait_metric("outbox_ops", &[("state", "waiting")], |waiting| waiting == 0.0).await;
    receiver.accept("default", Payload::group("Later").firing(&["n01"])).await;
    scene.room.wait_for("and the next", 2 * DEADLINE, shows("Later")).await;
    scene.room.assert_settled("once", QUIET, shows("DiskFull")).await;
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
}
