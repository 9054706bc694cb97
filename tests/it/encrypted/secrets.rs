//! No secret in anything that the receiver says, however much it is asked to say.

use std::fs;

use super::wait_signed;
use crate::harness::{DEADLINE, Payload, Reader, ReceiverBuilder, Scene, eventually};

/// Everything, of every crate that handles a secret.
const FILTER: &str = "trace,matrix_sdk=trace,matrix_sdk_base=trace,matrix_sdk_crypto=trace,matrix_sdk_sqlite=trace,\
    matrix_sdk_common=trace,hyper=trace,hyper_util=trace,reqwest=trace,h2=trace,rustls=trace,sqlx=trace,tower_http=trace,\
    axum=trace,ruma=trace,vodozemac=trace";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_at_any_level() {
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    let builder =
        ReceiverBuilder::of(&scene).without("matrix.access_token").set("log.filter", FILTER).set("log.format", "json");
    let password = builder.file("password", &scene.bot.password);
    let passphrase = builder.file("passphrase", "correct horse battery staple");
    let mut receiver = builder
        .set("matrix.password_file", password.as_str())
        .set("matrix.store_passphrase_file", passphrase.as_str())
        .start()
        .await;
    wait_signed(&receiver).await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    reader.reads(&scene.room, "DiskFull").await;
    let read = |name: &str| fs::read_to_string(receiver.store_path().join(name)).expect(name);
    let key = read("recovery-key").trim().to_owned();
    let session: serde_json::Value = serde_json::from_str(&read("session.json")).expect("JSON");
    let token = session["access_token"].as_str().expect("a token").to_owned();
    // Recovery by that key, and a refusal of a wrong one, say nothing either.
    let named = receiver.store_path().with_file_name("key");
    fs::write(&named, format!("{key}\n")).expect("a file");
    receiver.reconfigure(&format!("[matrix]\nrecovery_key_file = {:?}", named.display().to_string()));
    receiver.sigterm(DEADLINE).await;
    fs::remove_dir_all(receiver.store_path().join("matrix")).expect("the keys");
    receiver.restart().await;
    wait_signed(&receiver).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    reader.wait_for(&scene.room, "green", |view| view.card().has("RESOLVED")).await;
    let session: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(receiver.store_path().join("session.json")).expect("a session"))
            .expect("JSON");
    let second = session["access_token"].as_str().expect("a token").to_owned();
    let wrong = "EsTj 3yST y93F SLpB jJsz eAXc 2XzA ygD3 w69H fGaN TKBj jXEd";
    fs::write(&named, wrong).expect("a file");
    receiver.restart().await;
    eventually("the refusal of the key", 3 * DEADLINE, async || {
        receiver.logs().contains("the recovery key does not open").then_some(())
    })
    .await;

    let all = [
        ("the log", receiver.logs()),
        ("/healthz", receiver.get("/healthz").await.body),
        ("/healthz/delivery", receiver.get("/healthz/delivery").await.body),
        ("/metrics", receiver.get("/metrics").await.body),
    ];
    assert!(all[0].1.contains("TRACE") && all[0].1.contains("matrix_sdk"), "the filter works");
    let groups = |key: &str| key.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let secrets = [
        ("password", scene.bot.password.clone()),
        ("token", token),
        ("second token", second),
        ("passphrase", "correct horse".to_owned()),
        ("recovery key", groups(&key)),
        ("recovery key without blanks", key.replace(' ', "")),
        ("wrong recovery key", groups(wrong)),
    ];
    for (place, text) in &all {
        for (name, secret) in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "the {name} is in {place}: {}", line.unwrap_or_default());
        }
    }
}
