//! `login`, `logout`, and a password that logs in by itself.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;

use super::{assert_sealed, wait_signed};
use crate::harness::{DEADLINE, Payload, Reader, Receiver, ReceiverBuilder, Scene, User};

fn stored_device(receiver: &Receiver) -> String {
    let text = fs::read_to_string(receiver.store_path().join("session.json")).expect("a stored session");
    let session: Value = serde_json::from_str(&text).expect("JSON");
    session["device_id"].as_str().expect("a device").to_owned()
}

async fn devices(user: &User) -> Vec<String> {
    let json = user.get("/v3/devices").await;
    let ids = json["devices"].as_array().into_iter().flatten().filter_map(|device| device["device_id"].as_str());
    ids.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn login_then_serve_then_logout() {
    let scene = Scene::encrypted().await;
    let reader = Reader::strict(&scene.sre).await;
    let builder =
        ReceiverBuilder::of(&scene).without_credentials().without("matrix.homeserver").without("matrix.user_id");
    let password = builder.file("password", &format!("{}\n", scene.bot.password));
    let homeserver = scene.synapse.url();
    let config = format!("[matrix]\nhomeserver = {homeserver:?}\nuser_id = {:?}\n", scene.bot.user_id);
    let mut receiver = builder.unstarted();
    let login = ["login", "--homeserver", &homeserver, "--user", &scene.bot.user_id, "--password-file", &password];
    let done = receiver.cli(&login).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let device = stored_device(&receiver);
    for words in [device.as_str(), &scene.bot.user_id, "shown this once", "[matrix]", "clients show no warning"] {
        assert!(said.contains(words), "{words} in:\n{said}");
    }
    assert!(!said.contains(&scene.bot.password));
    let session = receiver.store_path().join("session.json");
    assert_eq!(fs::metadata(&session).expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(!receiver.store_path().join("recovery-key").exists(), "it was printed");
    // Again: the same device, and no second key.
    let done = receiver.cli(&login).await;
    let again = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!((done.status.code(), stored_device(&receiver)), (Some(0), device.clone()), "{done:?}");
    assert!(!again.contains("shown this once"), "{again}");

    receiver.reconfigure(&config);
    receiver.spawn();
    receiver.ready().await.expect("it starts");
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    reader.reads(&scene.room, "DiskFull").await;
    assert_eq!(wait_signed(&receiver).await["notice"], Value::Null);
    assert!(devices(&scene.bot).await.contains(&device));
    let refused = receiver.cli(&["logout"]).await;
    assert_eq!(refused.status.code(), Some(1), "it runs");
    receiver.sigterm(DEADLINE).await;

    let done = receiver.cli(&["logout"]).await;
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(!devices(&scene.bot).await.contains(&device));
    assert!(!session.exists() && !receiver.store_path().join("matrix").join(&device).exists());
    let done = receiver.cli(&["logout"]).await;
    assert!(String::from_utf8_lossy(&done.stdout).contains("Nobody is logged in"), "{done:?}");
    assert_sealed(&scene.room, &["DiskFull"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_leaves_nothing_behind() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene);
    let password = builder.file("password", "not the password\n");
    let receiver = builder.unstarted();
    let before = devices(&scene.bot).await;
    let refused = receiver.cli(&["login", "--password-file", &password]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("login refused: 403 M_FORBIDDEN") && !said.contains("not the password"), "{said}");
    assert!(!receiver.store_path().join("session.json").exists());
    assert_eq!(devices(&scene.bot).await, before);
    // Without a terminal there is nobody to ask.
    let refused = receiver.cli(&["login"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--password-file"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_keeps_one_device_over_five_restarts() {
    let scene = Scene::encrypted().await;
    let reader = Reader::strict(&scene.sre).await;
    let others = devices(&scene.bot).await;
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token");
    let password = builder.file("password", &scene.bot.password);
    let mut receiver = builder.set("matrix.password_file", password.as_str()).start().await;
    receiver.accept("default", Payload::group("Start").firing(&["n01"])).await;
    reader.reads(&scene.room, "Start").await;
    let device = stored_device(&receiver);
    for n in 1..=5 {
        // The second by a crash, the third without its session file: the store knows the device as well.
        if n == 2 {
            receiver.kill9();
        }
        if n == 3 {
            receiver.sigterm(DEADLINE).await;
            fs::remove_file(receiver.store_path().join("session.json")).expect("the session");
        }
        receiver.restart().await;
        receiver.accept("default", Payload::group(&format!("Restart{n}")).firing(&["n01"])).await;
        reader.reads(&scene.room, &format!("Restart{n}")).await;
        assert_eq!(stored_device(&receiver), device, "restart {n}");
    }
    // With a store that replicas can share there is their device as well.
    let known = |device: &String| others.contains(device) || device.starts_with("MAR-SHARED-");
    let new: Vec<_> = devices(&scene.bot).await.into_iter().filter(|device| !known(device)).collect();
    assert_eq!(new, [device]);
    assert_sealed(&scene.room, &["Start", "Restart"]).await;
}

/// With the password at hand a lost store costs a device, not the room.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_and_lost_keys_make_a_new_device() {
    let scene = Scene::encrypted().await;
    let reader = Reader::strict(&scene.sre).await;
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token");
    let password = builder.file("password", &scene.bot.password);
    let mut receiver = builder.set("matrix.password_file", password.as_str()).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    reader.reads(&scene.room, "Before").await;
    let device = stored_device(&receiver);
    receiver.sigterm(DEADLINE).await;
    fs::remove_dir_all(receiver.store_path().join("matrix")).expect("the keys");
    receiver.restart().await;
    receiver.accept("default", Payload::group("After").firing(&["n01"])).await;
    reader.reads(&scene.room, "After").await;
    assert_ne!(stored_device(&receiver), device);
    wait_signed(&receiver).await;
    receiver.restart().await;
    receiver.accept("default", Payload::group("Later").firing(&["n01"])).await;
    reader.reads(&scene.room, "Later").await;
    assert_sealed(&scene.room, &["Before", "After", "Later"]).await;
}
