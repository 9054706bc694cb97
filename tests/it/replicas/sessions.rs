//! `login` and `logout` where several receivers share a database: each has its own session, and one is everybody's.

use std::{fs, process::Output, sync::Arc};

use serde_json::Value;

use crate::harness::{
    DEADLINE, Database, Payload, Postgres, Receiver, ReceiverBuilder, RoomView, Scene, only_sqlite, postgres,
};

fn shown(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(postgres::PASSWORD), "a password is shown: {text}");
    text
}

/// What the command says, with each of `lines` in it.
async fn checks(receiver: &Receiver, command: &[&str], code: i32, lines: &[&str]) -> String {
    let done = receiver.cli(command).await;
    let said = shown(&done);
    assert_eq!(done.status.code(), Some(code), "{said}");
    for line in lines {
        assert!(said.contains(line), "{line} is not in:\n{said}");
    }
    said
}

fn own_session(receiver: &Receiver) -> Value {
    let text = fs::read_to_string(receiver.store_path().join("session.json")).expect("a session");
    serde_json::from_str(&text).expect("JSON")
}

fn shared_session(database: &Database) -> Value {
    let text = database.sql("SELECT value FROM meta WHERE key = 'shared_session'");
    serde_json::from_str(text.trim()).expect("JSON")
}

fn shows(needle: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(needle).len() == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn login_makes_a_device_of_each_replica_and_one_for_all() {
    let scene = Scene::new().await;
    let database = Arc::new(Postgres::shared().database());
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token").on(&database, &database.url());
    let password = builder.file("password", &scene.bot.password);
    let key = builder.file("recovery-key", "");
    let builder = builder.set("store.replica", "first");
    let second = builder.replica("second").set("matrix.recovery_key_file", key.as_str());
    let (mut first, mut second) = (builder.unstarted(), second.unstarted());
    let login = ["login", "--password-file", &password];
    checks(&first, &["check"], 0, &["note   account: this replica has no own session", "check --online looks at it"])
        .await;
    checks(&first, &["check", "--online"], 1, &["FAULT  account: the database has no session", "1 fault"]).await;

    let done = first.cli(&login).await;
    let said = shown(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    let shared = shared_session(&database);
    let device = shared["device_id"].as_str().expect("a device").to_owned();
    assert!(device.starts_with("MAR-SHARED-"), "{device}");
    for words in [&format!("{device}, is logged in"), "Run login on each replica", "shown this once"] {
        assert!(said.contains(words), "{words} in:\n{said}");
    }
    let recovery = said.lines().find_map(|line| line.strip_prefix("    ").filter(|line| line.split(' ').count() > 5));
    fs::write(&key, recovery.expect("the recovery key")).expect("written");

    let done = second.cli(&login).await;
    let said = shown(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("{device}, has a session that works")), "{said}");
    assert_eq!(shared_session(&database), shared);
    let accepted = format!("ok     account: the session that all replicas share is accepted, device {device}");
    let lines = ["ok     account: this replica's own session is in store.path", &accepted];
    checks(&second, &["check", "--online"], 0, &lines).await;
    let own = [own_session(&first)["device_id"].clone(), own_session(&second)["device_id"].clone()];
    assert!(own[0] != own[1] && own.iter().all(|own| *own != device.as_str()), "{own:?}");

    // A running replica takes the session that another one renews.
    first.spawn();
    first.ready().await.expect("it starts");
    first.accept("default", Payload::group("Before").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("Before")).await;
    let done = second.cli(&["login", "--password-file", &password, "--shared"]).await;
    let said = shown(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    let renewed = shared_session(&database);
    assert!(renewed["device_id"] == device.as_str() && renewed["access_token"] != shared["access_token"]);
    assert_eq!(own_session(&second)["device_id"], own[1], "the device keeps its keys");
    first.accept("default", Payload::group("After").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("After")).await;

    // The other one's logout ends its own session only.
    let done = second.cli(&["logout"]).await;
    let said = shown(&done);
    assert!(done.status.success() && said.contains("stays logged in"), "{said}");
    first.accept("default", Payload::group("Still").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("Still")).await;
    let without = "note   account: this replica has no own session";
    checks(&second, &["check"], 0, &[without]).await;
    checks(&second, &["check", "--online"], 0, &[without, &accepted, "joined, may send"]).await;
    second.spawn();
    second.ready().await.expect("it starts without a session too");
    second.wait_log(&["encrypted rooms held", "no_own_device"]).await;
    for receiver in [&first, &second] {
        let log = receiver.logs();
        for secret in [&shared["access_token"], &renewed["access_token"]] {
            assert!(!log.contains(secret.as_str().expect("a token")), "a token is logged");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_the_shared_session_has_ended() {
    let scene = Scene::new().await;
    let database = Arc::new(Postgres::shared().database());
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token").on(&database, &database.url());
    let password = builder.file("password", &scene.bot.password);
    let receiver = builder.unstarted();
    let done = receiver.cli(&["login", "--password-file", &password]).await;
    assert_eq!(done.status.code(), Some(0), "{}", shown(&done));
    let token = shared_session(&database)["access_token"].as_str().expect("a token").to_owned();
    database
        .sql(&format!("UPDATE meta SET value = replace(value, '{token}', 'syt_ended') WHERE key = 'shared_session'"));
    let refused = "FAULT  account: the session that all replicas share is refused: 401 M_UNKNOWN_TOKEN";
    let said = checks(&receiver, &["check", "--online"], 1, &[refused, "run login --shared", "joined, may send"]).await;
    assert!(!said.contains("syt_"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn login_says_what_it_lacks() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token");
    let password = builder.file("password", &scene.bot.password);
    if only_sqlite("a store of this receiver alone") {
        let receiver = builder.without("store.database_url_file").unstarted();
        let alone = receiver.cli(&["login", "--password-file", &password, "--shared"]).await;
        assert!(!alone.status.success() && shown(&alone).contains("no store.database_url"), "{}", shown(&alone));
    }

    let database = Arc::new(Postgres::shared().database());
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token");
    let password = builder.file("password", &scene.bot.password);
    let away = builder.on(&database, "postgres://receiver:x@127.0.0.1:9/receiver").unstarted();
    let away = away.cli(&["login", "--password-file", &password]).await;
    let said = shown(&away);
    assert!(!away.status.success() && said.contains("store.database_url"), "{said}");
    assert!(!said.contains("receiver:x@"), "{said}");
}
