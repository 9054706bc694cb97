//! Every status of the table, and the order of the checks.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{
    DEADLINE, Payload, Receiver, ReceiverBuilder, Scene, eventually, fixture, http::Answer, only_sqlite,
};

async fn receiver(scene: &Scene) -> Receiver {
    ReceiverBuilder::of(scene)
        .webhook_token("hook-token")
        .set("http.max_body_bytes", 20_000)
        .toml("[routes.team]\nrooms = [\"!elsewhere:example.org\"]\nreceivers = [\"a.b\"]")
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_of_the_table_in_the_order_of_the_checks() {
    let scene = Scene::new().await;
    let receiver = receiver(&scene).await;
    let good = Payload::group("A").firing(&["n01"]).json().to_string();
    let large = "x".repeat(20_001);
    for (method, path, token, body, status, says) in [
        (Method::POST, "/alerts/default", Some("hook-token"), good.as_str(), 200, "\"status\":\"accepted\""),
        (Method::POST, "/alerts", Some("hook-token"), &good, 200, "notification"),
        (Method::GET, "/alerts/nowhere", None, "", 405, "POST"),
        (Method::PUT, "/alerts", None, &large, 405, "POST"),
        (Method::POST, "/alerts/nowhere", None, &large, 401, "credentials"),
        (Method::POST, "/alerts", Some("hook-tokem"), &good, 401, "credentials"),
        (Method::POST, "/alerts/nowhere", Some("hook-token"), &large, 404, "nowhere"),
        (Method::POST, "/alerts/NoRoute", Some("hook-token"), &good, 404, "NoRoute"),
        (Method::GET, "/alerts/%FF", None, "", 405, "POST"),
        (Method::POST, "/alerts/%FF", None, &large, 401, "credentials"),
        (Method::POST, "/alerts/%FF", Some("hook-token"), &large, 404, "UTF-8"),
        (Method::POST, "/alerts/default", Some("hook-token"), &large, 413, "20000"),
        (Method::POST, "/alerts/default", Some("hook-token"), "{", 400, "line 1 column 1"),
        (Method::POST, "/alerts/default", Some("hook-token"), "{}", 400, "alerts is missing"),
        (Method::POST, "/alerts/default", Some("hook-token"), "[1]", 400, "a list"),
        (Method::POST, "/nothing/here", Some("hook-token"), &good, 404, "not found"),
        (Method::POST, "/livez", None, "", 405, "GET"),
        (Method::GET, "/livez", None, "", 200, "ok"),
        (Method::GET, "/readyz", None, "", 200, "ok"),
        (Method::GET, "/metrics", None, "", 200, "matrix_alertmanager_receiver_build_info"),
    ] {
        let mut request = receiver.request(method.clone(), path).body(body.to_owned());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("an answer");
        let got = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        assert_eq!(got, status, "{method} {path}: {text}");
        assert!(text.contains(says), "{method} {path}: {says:?} in {text}");
    }
    for (encoding, body, status, says) in [
        (Some("gzip"), good.as_bytes(), 415, "Content-Encoding: gzip"),
        (Some("identity, deflate"), good.as_bytes(), 415, "Content-Encoding: deflate"),
        (Some("identity"), good.as_bytes(), 200, "accepted"),
        (None, b"\x1f\x8b\x08\0\0\0\0\0", 400, "compressed with gzip"),
        (None, b"\xff\xfe{\0", 400, "UTF-16"),
    ] {
        let request = receiver.request(Method::POST, "/alerts/default").bearer_auth("hook-token").body(body.to_owned());
        let request = encoding.into_iter().fold(request, |request, it| request.header("content-encoding", it));
        let answer = request.send().await.expect("an answer");
        let (got, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        assert!(got == status && text.contains(says), "{encoding:?} {body:?}: {got} {text}");
    }
    // What is lost is in the log, whyever it is.
    let logs = receiver.logs();
    for why in ["missing or wrong credentials", "no route named", "too large limit=20000", "not JSON", "compressed"] {
        assert!(logs.lines().any(|line| line.contains("WARN webhook rejected") && line.contains(why)), "{why}: {logs}");
    }
    for code in ["200", "400", "401", "404", "405", "413", "415"] {
        assert!(
            receiver.metric("http_requests_total", &[("handler", "alerts"), ("code", code)]).await >= 1.0,
            "{code}"
        );
    }
}

/// A slash too many loses nothing, and what is lost by another path is said, counted and answered with the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_to_another_path_is_taken_or_answered_with_the_right_one() {
    let scene = Scene::new().await;
    let room = urlencoding::encode(&scene.room.id).into_owned();
    let receiver = ReceiverBuilder::of(&scene)
        .webhook_token("hook-token")
        .set("compat.room_paths", true)
        .toml("[compat.names]\nOld_Name = \"default\"")
        .start()
        .await;
    let good = Payload::group("A").firing(&["n01"]).json().to_string();
    let ask = async |method: Method, path: &str, token: &str| {
        let request = receiver.request(method, path).bearer_auth(token).body(good.clone());
        Answer::to(request).await.expect("an answer")
    };
    for path in [
        "/alerts/default/".to_owned(),
        "//alerts/default".to_owned(),
        "/alerts//default//".to_owned(),
        "/alerts/".to_owned(),
        "//alerts//".to_owned(),
        format!("/alerts/{room}"),
        format!("/alerts/{room}/"),
        format!("//alerts/{}/", scene.room.id),
        "/alerts/Old_Name/".to_owned(),
        "/alerts/default/?a=/b/".to_owned(),
    ] {
        let answer = ask(Method::POST, &path, "hook-token").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    }
    for (method, path, token, status) in [
        (Method::GET, "/alerts/default/", "hook-token", 405),
        (Method::POST, "//alerts/default", "wrong", 401),
        (Method::POST, "/alerts/nowhere/", "hook-token", 404),
    ] {
        assert_eq!(ask(method, path, token).await.status, status, "{path}");
    }
    assert!(!receiver.logs().contains("webhook lost"), "so far all were paths of webhooks");

    let count = async |handler: &str, code: &str| {
        receiver.metric("http_requests_total", &[("handler", handler), ("code", code)]).await
    };
    let before = (count("alerts", "404").await, count("alerts", "405").await);
    for (path, status, right) in [
        ("/webhook", 404, "/alerts/default"),
        ("/default", 404, "/alerts/default"),
        ("/webhook/default/", 404, "/alerts/default"),
        ("/alerts/default/more", 404, "/alerts/default"),
        ("/", 405, "/alerts/default"),
        ("/metrics", 405, "/alerts/default"),
        ("/webhook", 404, "/alerts/default"),
    ] {
        let answer = ask(Method::POST, path, "hook-token").await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains(&format!("post webhooks to {right}\"")), "{path}: {}", answer.body);
        let shown = format!("path=\"{path}\"");
        receiver.wait_log(&["WARN webhook lost: this path takes none", &shown, right]).await;
    }
    assert_eq!((count("alerts", "404").await, count("alerts", "405").await), (before.0 + 5.0, before.1 + 2.0));
    let said = receiver.logs().matches("path=\"/webhook\"").count();
    assert_eq!(said, 1, "once a minute:\n{}", receiver.log_tail());

    // Strangers learn no names and fill no log.
    for number in 0..20 {
        let answer = ask(Method::POST, &format!("/scan/{number}/default"), "wrong").await;
        assert_eq!(answer.status, 404);
        assert!(answer.body.contains("/alerts/<route>") && !answer.body.contains("default"), "{}", answer.body);
    }
    assert_eq!(receiver.logs().matches("path=\"/scan/").count(), 1, "{}", receiver.log_tail());
    assert_eq!(receiver.logs().matches("webhook lost").count(), 7);

    // What is not posted is not a webhook.
    let alerts = count("alerts", "404").await;
    for (method, path, status) in [
        (Method::GET, "/webhook", 404),
        (Method::HEAD, "/webhook", 404),
        (Method::PUT, "/webhook", 404),
        (Method::GET, "/alerts/a/b", 404),
        (Method::GET, "/metrics/", 404),
    ] {
        let answer = ask(method.clone(), path, "hook-token").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.body.contains("webhooks"), "{}", answer.body);
    }
    assert_eq!((count("alerts", "404").await, count("other", "404").await), (alerts, 5.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_of_the_payload_chooses_the_route() {
    let scene = Scene::new().await;
    let receiver = receiver(&scene).await;
    let post = async |payload: serde_json::Value| receiver.post("", payload).await;
    assert_eq!(post(Payload::group("A").receiver(r"a\.b").firing(&["n01"]).json()).await.status, 200);
    assert_eq!(post(Payload::group("A").receiver("other").firing(&["n01"]).json()).await.status, 200);
    assert_eq!(receiver.metric("notifications_total", &[("route", "team"), ("outcome", "opened")]).await, 1.0);
    assert_eq!(receiver.metric("notifications_total", &[("route", "default"), ("outcome", "opened")]).await, 1.0);
    scene.room.wait_for("only the other's card", DEADLINE, |view| view.cards().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_default_route_an_unknown_receiver_is_404() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::new(&scene.bot).route("team", &[&scene.room.id]).start().await;
    let answer = receiver.post("", Payload::group("A").receiver("nobody").firing(&["n01"])).await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("nobody"), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_auth_lets_in_who_knows_the_password() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene)
        .set("http.auth.username", "alertmanager")
        .set("http.auth.password", "basic-secret")
        .start()
        .await;
    let status = async |password: Option<&str>| {
        let request =
            receiver.request(Method::POST, "/alerts").body(Payload::group("A").firing(&["n"]).json().to_string());
        let request = match password {
            Some(password) => request.basic_auth("alertmanager", Some(password)),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.headers().get("www-authenticate").is_some())
    };
    assert_eq!(status(Some("basic-secret")).await, (200, false));
    assert_eq!(status(Some("wrong")).await, (401, true));
    assert_eq!(status(None).await, (401, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_state_again_gets_the_same_id_and_stays_silent() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let payload = fixture("webhook-firing-single");
    let first = receiver.accept("default", payload.clone()).await;
    let again = receiver.accept("default", payload.clone()).await;
    assert_eq!(first, again);
    // A twin differs in externalURL alone.
    let mut twin = payload;
    twin["externalURL"] = json!("http://other-peer:9093");
    assert_eq!(receiver.accept("default", twin).await, first);
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let view = scene.room.assert_settled("one event", Duration::from_secs(2), |view| view.by_bot().count() == 1).await;
    assert_eq!(view.card().first_line(), "🔴 CRITICAL DiskFull — Disk full on n01");
    receiver.accept("default", fixture("webhook-resolved-single")).await;
    scene.room.wait_for("green", DEADLINE, |view| view.card().has("RESOLVED")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_hold_up_nobody() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let address = receiver.url().trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for n in 0..64 {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        let begun: &[u8] = if n % 2 == 0 {
            b"POST /alerts HTTP/1.1\r\nHost: x\r\n"
        } else {
            b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        };
        stream.write_all(begun).await.expect("written");
        slow.push(stream);
    }
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    assert_eq!(receiver.get("/livez").await.status, 200);
    // A body that does not come is answered so that Alertmanager tries again.
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(DEADLINE, slow[1].read(&mut answer)).await.expect("in time").expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 503"), "{:?}", &answer[..read]);
}

/// A backup that locks the file, a disk that is full: nothing is accepted that is not kept, and it passes by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_commit_is_503_until_it_can() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut other = receiver.store().lock().await;
    let refused = receiver.post("default", Payload::group("A").firing(&["n01"])).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    // The webhook may be given up before the database is.
    let health = eventually("the store's fault", DEADLINE, async || {
        Some(receiver.get("/healthz").await).filter(|health| health.status == 503)
    });
    let health = health.await;
    assert!(["locked", "timeout"].iter().any(|says| health.body.contains(says)), "{}", health.body);
    // Another replica may be able to.
    let ready = if only_sqlite("one receiver") { 200 } else { 503 };
    assert_eq!((receiver.get("/livez").await.status, receiver.get("/readyz").await.status), (200, ready));
    sqlx::query("ROLLBACK").execute(&mut other).await.expect("unlocked");
    eventually("health recovers without any webhook", DEADLINE, async || {
        (receiver.get("/healthz").await.status == 200).then_some(())
    })
    .await;
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
}

/// A body whose length nobody announced is counted while it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_over_the_limit_is_413_as_well() {
    let scene = Scene::new().await;
    let receiver = receiver(&scene).await;
    let mut stream =
        tokio::net::TcpStream::connect(receiver.url().trim_start_matches("http://")).await.expect("a connection");
    let chunk = format!("5000\r\n{}\r\n", "x".repeat(0x5000));
    let request =
        "POST /alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hook-token\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(format!("{request}{chunk}").as_bytes()).await.expect("written");
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await.expect("in time").expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 413"), "{:?}", &answer[..read]);
}
