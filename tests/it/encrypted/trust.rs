//! The bot's identity, its devices signed by it, and the recovery key.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use matrix_sdk::deserialized_responses::{ShieldState, ShieldStateCode};
use reqwest::Method;
use serde_json::{Value, json};

use super::{assert_sealed, sent, wait_health, wait_signed};
use crate::harness::{
    DEADLINE, Exchange, Fault, FaultProxy, Kind, Match, Payload, Reader, Receiver, ReceiverBuilder, Reply, Scene, User,
    eventually, only_sqlite,
};

/// The public half of a user's identity, as the homeserver has it.
pub async fn master_key(user: &User) -> Value {
    let body = json!({ "device_keys": { user.user_id.as_str(): [] } });
    let answer = user.call(Method::POST, "/v3/keys/query", Some(&body)).await.expect_ok("keys/query");
    answer["master_keys"][&user.user_id]["keys"].clone()
}

/// Waits until the keys of what the bot has encrypted so far are in its backup.
async fn backed_up(bot: &User) {
    eventually("a key in the backup", DEADLINE, async || {
        bot.get("/v3/room_keys/version").await["count"].as_u64().filter(|count| *count > 0)
    })
    .await;
}

fn recovery_key(receiver: &Receiver) -> String {
    fs::read_to_string(receiver.store_path().join("recovery-key")).expect("the recovery key")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_no_warning() {
    let scene = Scene::encrypted().await;
    let (reader, strict) = (Reader::new(&scene.sre).await, scene.synapse.user("strict").await);
    scene.sre.invite(&scene.room.id, &strict).await;
    strict.join(&scene.room.id).await;
    let strict = Reader::strict(&strict).await;
    assert_eq!(master_key(&scene.bot).await, Value::Null, "a new account");
    let receiver = ReceiverBuilder::of(&scene).start().await;
    wait_signed(&receiver).await;
    // One of the two verifies the bot, as one does by comparing emoji.
    strict.identity_of(&scene.bot.user_id).await.expect("an identity").verify().await.expect("signed");
    assert!(strict.identity_of(&scene.bot.user_id).await.expect("an identity").is_verified());
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    strict.reads(&scene.room, "DiskFull").await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01", "n02"])).await;
    for reader in [&reader, &strict] {
        reader.wait_for(&scene.room, "the edit", |view| view.cards().len() == 1 && view.card().has("2 firing")).await;
    }
    assert!(reader.sees_signed(&scene.bot.user_id, &receiver.own_device()).await);

    let shields = reader.shields(&scene.room).await;
    assert!(shields.len() >= 3, "a card, a reply, an edit: {shields:?}");
    for shield in shields {
        assert_eq!(shield.lax, ShieldState::None);
        let unverified = matches!(shield.strict, ShieldState::Red { code: ShieldStateCode::UnverifiedIdentity, .. });
        assert!(unverified, "the only thing left is that this user has not verified the bot: {shield:?}");
    }
    let shields = strict.shields(&scene.room).await;
    assert!(shields.len() >= 3, "{shields:?}");
    for shield in shields {
        assert_eq!((shield.lax, shield.strict), (ShieldState::None, ShieldState::None));
    }
}

/// Events wait for the signature: a client judges them when they arrive.
#[tokio::test(flavor = "multi_thread")]
async fn the_very_first_event_is_signed_already() {
    let scene = Scene::encrypted().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let strict = Reader::strict(&scene.sre).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    let signing = Match::when(|one| one.path.contains("/keys/device_signing/upload"));
    proxy.fault(signing, Fault::Delay(Duration::from_secs(2)));
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    strict.reads(&scene.room, "DiskFull").await;
    scene.room.assert_settled("one event", Duration::from_secs(1), |raw| sent(raw) == 1).await;
    let seen = proxy.exchanges();
    let signed = seen.iter().position(|one| one.path.contains("/keys/signatures/upload")).expect("a signature");
    let first = seen.iter().position(|one| one.kind == Kind::Send).expect("a send");
    assert!(signed < first, "signed first, then sent");
}

/// 401 as of a homeserver that wants the password before it takes the first identity.
fn wants_a_password() -> Fault {
    let body = json!({ "session": "s1", "flows": [{ "stages": ["m.login.password"] }], "params": {} });
    Fault::Respond(Reply::new(401, "application/json", &body.to_string()))
}

fn uploads_an_identity(one: &Exchange) -> bool {
    one.path.ends_with("/keys/device_signing/upload")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_wants_the_password_for_the_first_identity_is_given_it() {
    let scene = Scene::encrypted().await;
    let strict = Reader::strict(&scene.sre).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).without_credentials();
    let password = builder.file("password", &format!("{}\n", scene.bot.password));
    let mut receiver = builder.unstarted();
    proxy.fault(Match::when(|one| uploads_an_identity(one) && one.body["auth"].is_null()), wants_a_password());
    let login = ["login", "--password-file", &password];
    let done = receiver.cli(&login).await;
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("recovery key, shown this once") && said.contains("clients show no warning"), "{said}");
    let identity = master_key(&scene.bot).await;
    assert_ne!(identity, Value::Null, "the homeserver has it");
    let uploads: Vec<_> = proxy.exchanges().into_iter().filter(uploads_an_identity).collect();
    let [first, second] = &uploads[..] else { panic!("one refused, one taken: {uploads:?}") };
    assert_eq!(
        (&second.body["auth"]["session"], &second.body["auth"]["type"]),
        (&"s1".into(), &"m.login.password".into())
    );
    assert_eq!(first.body["master_key"]["keys"], second.body["master_key"]["keys"], "the same identity");
    assert_eq!(second.body["master_key"]["keys"], identity);

    // Again: nothing is made or replaced, and that is said.
    let done = receiver.cli(&login).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(!said.contains("shown this once") && said.contains("its recovery key stays as it is"), "{said}");
    assert_eq!(master_key(&scene.bot).await, identity);
    receiver.spawn();
    receiver.ready().await.expect("it starts");
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    strict.reads(&scene.room, "DiskFull").await;
    wait_signed(&receiver).await;
}

/// As it was with a homeserver that refused the upload: the SDK's store has an identity, the homeserver has none.
#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_only_the_store_has_is_not_taken_for_one() {
    let scene = Scene::encrypted().await;
    let reader = Reader::strict(&scene.sre).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    proxy.fault(Match::when(uploads_an_identity), wants_a_password());
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    let reported = |json: &Value| json.to_string().contains("requires the account's password for a new identity");
    wait_health(&receiver, "told", reported).await;
    receiver.restart().await;
    wait_health(&receiver, "still told", reported).await;
    assert_eq!(receiver.metric("device_signed", &[]).await, 0.0);
    assert_eq!(master_key(&scene.bot).await, Value::Null);
    assert!(!receiver.store_path().join("recovery-key").exists(), "of nothing");
    receiver.sigterm(DEADLINE).await;
    // The homeserver takes it after all.
    proxy.heal();
    receiver.restart().await;
    wait_signed(&receiver).await;
    let identity = master_key(&scene.bot).await;
    assert_ne!(identity, Value::Null);
    let made: Vec<_> = proxy.exchanges().into_iter().filter(uploads_an_identity).collect();
    assert!(made.iter().all(|one| one.body["master_key"]["keys"] == identity), "never a second identity");
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    reader.reads(&scene.room, "DiskFull").await;
}

/// The account's secret storage is somebody's; its identity is not there (any more).
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_key_that_replaces_another_is_not_printed_without_a_word() {
    let scene = Scene::encrypted().await;
    let content = json!({ "key": "of-somebody" });
    let path = format!("/v3/user/{}/account_data/m.secret_storage.default_key", scene.bot.user_id);
    scene.bot.call(Method::PUT, &path, Some(&content)).await.expect_ok("account data");
    let builder = ReceiverBuilder::of(&scene).without_credentials();
    let password = builder.file("password", &format!("{}\n", scene.bot.password));
    let receiver = builder.unstarted();
    let done = receiver.cli(&["login", "--password-file", &password]).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(said.contains("shown this once") && said.contains("had a recovery key already"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recovery_key_is_left_for_the_operator_who_is_reminded_until_it_is_taken() {
    let scene = Scene::encrypted().await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    let part = wait_signed(&receiver).await;
    assert!(part["notice"].as_str().is_some_and(|notice| notice.contains("matrix.recovery_key_file")), "{part:#}");
    receiver.wait_log(&["WARN", "recovery key", "keep a copy"]).await;
    let path = receiver.store_path().join("recovery-key");
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let key = recovery_key(&receiver);
    assert!(key.trim().len() > 40, "a recovery key");
    assert!(!receiver.logs().contains(key.trim()) && !super::health(&receiver).await.to_string().contains(key.trim()));

    let identity = master_key(&scene.bot).await;
    receiver.restart().await;
    wait_health(&receiver, "still reminded", |json| json["parts"]["encryption"]["notice"].is_string()).await;
    // A copy that is named, and one that is not this account's.
    let named = path.with_file_name("copy");
    fs::write(&named, &key).expect("a copy");
    receiver.reconfigure(&format!("[matrix]\nrecovery_key_file = {:?}", named.display().to_string()));
    receiver.restart().await;
    assert_eq!(wait_signed(&receiver).await["notice"], Value::Null);
    fs::write(&named, "EsTj 3yST y93F SLpB jJsz eAXc 2XzA ygD3 w69H fGaN TKBj jXEd\n").expect("another key");
    receiver.restart().await;
    let json = wait_health(&receiver, "told", |json| json["parts"]["encryption"]["status"] == "degraded").await;
    assert!(json.to_string().contains("the recovery key does not open"), "{json:#}");
    // Taken away: the operator has it.
    fs::write(&named, &key).expect("a copy");
    fs::remove_file(&path).expect("the key");
    receiver.restart().await;
    assert_eq!(wait_signed(&receiver).await["notice"], Value::Null);
    assert!(!path.exists(), "and no other is made");
    assert_eq!(master_key(&scene.bot).await, identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_device_goes_on_where_the_old_one_was() {
    if !only_sqlite("the token is the device that encrypts") {
        return;
    }
    let scene = Scene::encrypted().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let reader = Reader::strict(&scene.sre).await;
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    reader.reads(&scene.room, "Before").await;
    wait_signed(&receiver).await;
    let identity = master_key(&scene.bot).await;
    backed_up(&scene.bot).await;
    // One in doubt: the homeserver has it, and the receiver does not know.
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("Doubtful").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    receiver.kill9();
    held.cut();
    proxy.heal();

    let rotated = scene.bot.on_a_new_device().await;
    scene.bot.logout().await;
    receiver.take_key("matrix.password_file");
    receiver.reconfigure(&format!("[matrix]\naccess_token = {:?}", rotated.access_token));
    receiver.restart().await;
    receiver.wait_log(&["found in the room"]).await;
    receiver.accept("default", Payload::group("After").firing(&["n01"])).await;
    reader.reads(&scene.room, "After").await;
    receiver.accept("default", Payload::group("Before").resolved(&["n01"])).await;
    reader
        .wait_for(&scene.room, "an older card turns green", |view| {
            view.cards_with("Before").first().is_some_and(|card| card.has("RESOLVED"))
        })
        .await;
    assert!(reader.sees_signed(&rotated.user_id, &rotated.device_id).await);
    assert_eq!(master_key(&rotated).await, identity, "the same identity");
    let view = reader.view(&scene.room).await;
    for group in ["Before", "Doubtful", "After"] {
        assert_eq!(view.cards_with(group).len(), 1, "{group} in\n{}", view.text());
    }
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
    assert_sealed(&scene.room, &["Before", "Doubtful", "After"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_is_made_up_for_by_the_recovery_key() {
    let scene = Scene::encrypted().await;
    let reader = Reader::strict(&scene.sre).await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    reader.reads(&scene.room, "Before").await;
    wait_signed(&receiver).await;
    let (key, identity) = (recovery_key(&receiver), master_key(&scene.bot).await);
    receiver.sigterm(DEADLINE).await;
    drop(receiver);

    let rotated = scene.bot.on_a_new_device().await;
    let builder = ReceiverBuilder::new(&rotated).route("default", &[&scene.room.id]);
    let file = builder.file("key", &key);
    let receiver = builder.set("matrix.recovery_key_file", file.as_str()).start().await;
    receiver.accept("default", Payload::group("After").firing(&["n01"])).await;
    reader.reads(&scene.room, "After").await;
    assert_eq!(wait_signed(&receiver).await["notice"], Value::Null);
    assert!(reader.sees_signed(&rotated.user_id, &receiver.own_device()).await);
    assert_eq!(master_key(&rotated).await, identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_is_there_is_not_replaced_unless_that_is_said() {
    let scene = Scene::encrypted().await;
    let (reader, strict) = (Reader::new(&scene.sre).await, scene.synapse.user("strict").await);
    scene.sre.invite(&scene.room.id, &strict).await;
    strict.join(&scene.room.id).await;
    let strict = Reader::strict(&strict).await;
    // Somebody uses the account with another client, which has given it an identity.
    let _element = Reader::new(&scene.bot.on_a_new_device().await).await;
    let identity = master_key(&scene.bot).await;
    assert_ne!(identity, Value::Null);
    let mut receiver = ReceiverBuilder::of(&scene).by_token().start().await;
    receiver.accept("default", Payload::group("Unsigned").firing(&["n01"])).await;
    let json = wait_health(&receiver, "told", |json| json["parts"]["encryption"]["status"] == "degraded").await;
    assert!(json.to_string().contains("matrix.recovery_key_file") && json.to_string().contains("--reset-identity"));
    receiver.wait_log(&["WARN", "clients show a warning", "--reset-identity"]).await;
    reader.reads(&scene.room, "Unsigned").await;
    assert!(reader.shields(&scene.room).await.iter().any(|shield| shield.lax != ShieldState::None), "a warning");
    assert_eq!(strict.view(&scene.room).await.cards().len(), 0, "and some read nothing");
    assert_eq!(master_key(&scene.bot).await, identity);

    // Not while the receiver runs.
    let password = receiver.store_path().with_file_name("password");
    fs::write(&password, &scene.bot.password).expect("a file");
    let login = ["login", "--reset-identity", "--password-file", password.to_str().expect("UTF-8")];
    let refused = receiver.cli(&login).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use by another process"), "{refused:?}");
    receiver.sigterm(DEADLINE).await;
    let done = receiver.cli(&login).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(said.contains("recovery key, shown this once"), "{said}");
    assert!(!only_sqlite("a token beats a login") || said.contains("a token in the config beats"), "{said}");
    assert_ne!(master_key(&scene.bot).await, identity, "now it was said");

    receiver.take_key("matrix.access_token");
    receiver.restart().await;
    receiver.accept("default", Payload::group("Signed").firing(&["n01"])).await;
    strict.reads(&scene.room, "Signed").await;
    assert_eq!(wait_signed(&receiver).await["notice"], Value::Null, "the key was printed, and is not kept here");
    assert!(!receiver.store_path().join("recovery-key").exists());
    let count = sent(&assert_sealed(&scene.room, &["Unsigned", "Signed"]).await);
    scene.room.assert_settled("nothing more", Duration::from_secs(1), |raw| sent(raw) == count).await;
}
