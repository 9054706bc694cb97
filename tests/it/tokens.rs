//! Access tokens that are revoked, rotated and renewed under a running receiver.

use std::{fs, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    DEADLINE, Payload, Receiver, ReceiverBuilder, RoomView, Scene, User, eventually, only_sqlite, user::login,
};

const QUIET: Duration = Duration::from_secs(1);

fn group(name: &str) -> Payload {
    Payload::group(name).firing(&["n01"])
}

fn shows(needle: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(needle).len() == 1
}

/// As a secret mount does it: whole, or not at all.
fn replace(path: &str, text: &str) {
    fs::write(format!("{path}.new"), text).expect("written");
    fs::rename(format!("{path}.new"), path).expect("renamed");
}

async fn log_out(user: &User) {
    user.call(Method::POST, "/v3/logout", Some(&json!({}))).await.expect_ok("logout");
}

async fn again(user: &User) -> User {
    login(&user.homeserver, user.local(), &user.password).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_and_rotated_while_alerts_arrive_loses_none() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token").set("routes.default.digest_above", 0);
    let file = builder.file("token", &format!("{}\n", scene.bot.access_token));
    let receiver = builder.set("matrix.access_token_file", file.as_str()).start().await;
    receiver.accept("default", group("Before")).await;
    scene.room.wait_for("a card", DEADLINE, shows("Before")).await;

    let next = again(&scene.bot).await;
    for n in 0..10 {
        receiver.accept("default", group(&format!("Alert{n:02}"))).await;
        if n == 3 {
            log_out(&scene.bot).await;
        }
    }
    let reported = eventually("told", DEADLINE, async || {
        let part = receiver.get("/healthz").await.json()["parts"]["homeserver"].clone();
        part["reason"].as_str().is_some_and(|reason| reason.contains("M_UNKNOWN_TOKEN")).then_some(part)
    });
    let reported = reported.await.to_string();
    assert!(reported.contains("matrix.access_token_file"), "{reported}");
    let logged = if only_sqlite("the device that sends also hears") {
        assert!(reported.contains("token rejected"), "{reported}");
        ["cannot send to the homeserver", "token rejected"]
    } else {
        assert!(reported.contains("the shared device"), "{reported}");
        ["cannot use the shared device", "token_rejected"]
    };
    receiver.wait_log(&[logged[0], logged[1], "matrix.access_token_file"]).await;
    assert_eq!(receiver.get("/healthz/delivery").await.status, 503);
    for n in 10..20 {
        receiver.accept("default", group(&format!("Alert{n:02}"))).await;
    }
    replace(&file, &next.access_token);
    let all = |view: &RoomView| {
        view.cards().len() == 21 && (0..20).all(|n| view.cards_with(&format!("Alert{n:02}")).len() == 1)
    };
    scene.room.assert_settled("all, once", QUIET, all).await;
    let log = receiver.logs();
    assert!(!log.contains(&next.access_token));
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
    assert_eq!(receiver.metric("outbox_ops", &[("state", "dead")]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_in_the_file_is_taken_while_the_old_one_is_good() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token");
    let file = builder.file("token", &scene.bot.access_token);
    let receiver = builder.set("matrix.access_token_file", file.as_str()).start().await;
    receiver.accept("default", group("Before")).await;
    scene.room.wait_for("a card", DEADLINE, shows("Before")).await;
    // An invalid one changes nothing.
    replace(&file, "syt_wrong");
    receiver.wait_log(&["new access token refused"]).await;
    receiver.accept("default", group("Wrong")).await;
    scene.room.wait_for("a card", DEADLINE, shows("Wrong")).await;

    // Neither does one with something about it.
    let next = again(&scene.bot).await;
    replace(&file, &format!("\"{}\"\n", next.access_token));
    receiver.wait_log(&["keeping the previous one", &file, "stands in quotes"]).await;
    receiver.accept("default", group("Quoted")).await;
    scene.room.wait_for("a card", DEADLINE, shows("Quoted")).await;

    replace(&file, &next.access_token);
    let taken = if only_sqlite("the device that sends also hears") {
        "connected to the homeserver"
    } else {
        "shared device ready"
    };
    receiver.wait_log(&[taken, &next.device_id]).await;
    log_out(&scene.bot).await;
    receiver.accept("default", group("After")).await;
    scene.room.assert_settled("the next", QUIET, shows("After")).await;
    assert!(!receiver.logs().contains("token rejected"), "nothing was ever held");
}

fn session_of(receiver: &Receiver) -> Value {
    let text = fs::read_to_string(receiver.store_path().join("session.json")).expect("a stored session");
    serde_json::from_str(&text).expect("JSON")
}

/// A session as a homeserver gives it whose tokens end: here after 8 seconds.
async fn short_session(user: &User) -> Value {
    let body = json!({
        "type": "m.login.password", "identifier": { "type": "m.id.user", "user": user.local() },
        "password": user.password, "refresh_token": true,
    });
    let made = user.call(Method::POST, "/v3/login", Some(&body)).await.expect_ok("login");
    let now = jiff::Timestamp::now().as_millisecond();
    json!({
        "user_id": user.user_id, "device_id": made["device_id"], "access_token": made["access_token"],
        "homeserver": format!("{}/", user.homeserver), "refresh_token": made["refresh_token"],
        "expires_at": now + made["expires_in_ms"].as_i64().expect("a token that ends"),
    })
}

fn with_session(builder: ReceiverBuilder, session: &Value) -> Receiver {
    let receiver = builder.without("matrix.access_token").unstarted();
    fs::create_dir_all(receiver.store_path()).expect("a folder");
    fs::write(receiver.store_path().join("session.json"), session.to_string()).expect("written");
    receiver
}

async fn is_over(user: &User, token: &str) {
    let user = User { access_token: token.to_owned(), ..user.clone() };
    eventually("the token ends", DEADLINE, async || {
        (user.call(Method::GET, "/v3/account/whoami", None).await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_tokens_end_is_renewed_in_time() {
    if !only_sqlite("the device that login makes sends to plain rooms") {
        return;
    }
    let scene = Scene::new().await;
    let first = short_session(&scene.bot).await;
    let mut receiver = with_session(ReceiverBuilder::of(&scene), &first);
    receiver.spawn();
    receiver.ready().await.expect("it starts");
    receiver.accept("default", group("First")).await;
    scene.room.wait_for("a card", DEADLINE, shows("First")).await;
    for n in 0..2 {
        let before = session_of(&receiver)["access_token"].clone();
        eventually("renewed", DEADLINE, async || (session_of(&receiver)["access_token"] != before).then_some(())).await;
        receiver.accept("default", group(&format!("Renewed{n}"))).await;
        scene.room.wait_for("a card", DEADLINE, shows(&format!("Renewed{n}"))).await;
    }
    assert!(!receiver.logs().contains("token rejected"), "{}", receiver.log_tail());
    // Over while nobody was there to renew it.
    receiver.sigterm(DEADLINE).await;
    let last = session_of(&receiver);
    is_over(&scene.bot, last["access_token"].as_str().expect("a token")).await;
    receiver.restart().await;
    receiver.accept("default", group("Later")).await;
    scene.room.assert_settled("a card", QUIET, shows("Later")).await;
    assert_eq!(session_of(&receiver)["device_id"], first["device_id"]);
    for secret in [&last["refresh_token"], &last["access_token"], &first["refresh_token"]] {
        assert!(!receiver.logs().contains(secret.as_str().expect("a secret")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_soft_logout_the_password_goes_on_with_the_same_device() {
    let scene = Scene::new().await;
    let mut session = short_session(&scene.bot).await;
    // Nothing renews this one, so that it ends in a soft logout.
    session.as_object_mut().expect("an object").remove("refresh_token");
    let builder = ReceiverBuilder::of(&scene);
    let password = builder.file("password", &scene.bot.password);
    let mut receiver = with_session(builder.set("matrix.password_file", password.as_str()), &session);
    receiver.spawn();
    receiver.ready().await.expect("it starts");
    receiver.accept("default", group("First")).await;
    scene.room.wait_for("a card", DEADLINE, shows("First")).await;
    is_over(&scene.bot, session["access_token"].as_str().expect("a token")).await;
    receiver.accept("default", group("Soft")).await;
    scene.room.assert_settled("a card", QUIET, shows("Soft")).await;
    let soft = session_of(&receiver);
    assert_eq!(soft["device_id"], session["device_id"]);

    // A logout takes the device and its keys away: another one is made.
    let user = User { access_token: soft["access_token"].as_str().expect("a token").to_owned(), ..scene.bot.clone() };
    log_out(&user).await;
    receiver.accept("default", group("Hard")).await;
    scene.room.assert_settled("a card", QUIET, shows("Hard")).await;
    assert_ne!(session_of(&receiver)["device_id"], session["device_id"]);
}
