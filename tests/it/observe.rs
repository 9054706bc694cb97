//! What the operator sees: health, metrics, logs.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    DEADLINE, Fault, FaultProxy, Homeserver, Match, NewRoom, Payload, Prometheus, PrometheusConfig, Receiver,
    ReceiverBuilder, Room, Scene, eventually,
};

async fn health(receiver: &Receiver) -> (u16, Value) {
    let answer = receiver.get("/healthz").await;
    (answer.status, answer.json())
}

async fn wait_health(receiver: &Receiver, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    // Twice, since a sync after an outage may be half a minute away.
    eventually(what, 2 * DEADLINE, async || Some(health(receiver).await.1).filter(|json| wanted(json))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn healthz_tells_what_is_wrong_and_delivery_pages() {
    let mut synapse = Homeserver::private().await;
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
    let locked = Room::with(&sre, &bot, NewRoom::named("locked")).await;
    let receiver = ReceiverBuilder::new(&bot).route("default", &[&room.id]).route("team", &[&locked.id]).start().await;
    wait_health(&receiver, "all well", |json| json["status"] == "ok").await;
    assert_eq!(receiver.get("/healthz/delivery").await.status, 200);

    sre.kick(&locked.id, &bot).await;
    receiver.accept("team", Payload::group("A").firing(&["n01"])).await;
    let is_held = |json: &Value| {
        let held = &json["parts"]["routes"]["team"]["rooms"]["team/1"];
        held["status"] == "degraded" && held["waiting"] == 1 && held["reason"].is_string()
    };
    let json = wait_health(&receiver, "the room is held", is_held).await;
    assert_eq!(json["status"], "degraded");
    let held = &json["parts"]["routes"]["team"]["rooms"]["team/1"];
    assert!(held["reason"].as_str().is_some_and(|reason| reason.contains("room_refused")), "{json:#}");
    assert_eq!(json["parts"]["routes"]["default"]["status"], "ok");
    assert!(!json.to_string().contains(&locked.id) && !json.to_string().contains(&bot.user_id), "{json:#}");
    let page = receiver.get("/healthz/delivery").await;
    assert_eq!(page.status, 503);
    assert!(page.body.contains("team/1"), "{}", page.body);
    receiver.accept("default", Payload::group("B").firing(&["n01"])).await;
    room.wait_for("the other room goes on", DEADLINE, |view| view.cards().len() == 1).await;

    synapse.stop().await;
    let json =
        wait_health(&receiver, "homeserver down", |json| json["parts"]["homeserver"]["status"] == "degraded").await;
    assert_eq!(json["status"], "degraded");
    assert_eq!(health(&receiver).await.0, 200, "webhooks can still be committed");
    assert_eq!(receiver.get("/readyz").await.status, 200);
    synapse.start().await;
    wait_health(&receiver, "homeserver back", |json| json["parts"]["homeserver"]["status"] == "ok").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_degraded_but_pages_nobody() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    wait_health(&receiver, "all well", |json| json["status"] == "ok").await;
    proxy.fault(Match::sends(), Fault::limited(Duration::from_secs(20)));
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    let json = wait_health(&receiver, "limited", |json| json["parts"]["homeserver"]["status"] == "degraded").await;
    assert_eq!(json["status"], "degraded");
    let homeserver = &json["parts"]["homeserver"];
    assert!(homeserver["reason"].as_str().is_some_and(|reason| reason.contains("limits our rate")), "{json:#}");
    assert!(homeserver["until"].is_string(), "{json:#}");
    let page = receiver.get("/healthz/delivery").await;
    assert_eq!(page.status, 200, "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_pages() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    proxy.fault_times(3, Match::sends(), Fault::error(413, "M_TOO_LARGE"));
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    receiver.wait_metric("dead_letters_total", &[("reason", "too_large")], |dead| dead == 1.0).await;
    // Counted before it is stored, and paged from the store.
    let page = eventually("it pages", DEADLINE, async || {
        Some(receiver.get("/healthz/delivery").await).filter(|page| page.status == 503)
    });
    let page = page.await;
    assert!(page.body.contains("dead letter"), "{}", page.body);
    assert_eq!(health(&receiver).await.1["status"], "degraded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_and_promtool_is_content() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let text = receiver.get("/metrics").await.body;
    // Known before anything happened: what can only appear with the first fault cannot be alerted on.
    for wanted in [
        r#"notifications_total{outcome="opened",route="default"} 0"#,
        r#"alerts_total{route="default",status="firing"} 0"#,
        r#"http_requests_total{code="503",handler="alerts"} 0"#,
        r#"room_events_total{kind="card",outcome="sent",room="default/1"} 0"#,
        "delivery_seconds_count 0",
        r#"outbox_ops{state="in_doubt"} 0"#,
        "outbox_oldest_seconds 0",
        "rate_limited_total 0",
        r#"incidents_open{route="default"} 0"#,
        r#"dead_letters_total{reason="too_large"} 0"#,
        "possible_duplicates_total 0",
    ] {
        assert!(text.contains(&format!("matrix_alertmanager_receiver_{wanted}\n")), "{wanted} in\n{text}");
    }
    for wanted in ["homeserver_up", "last_sync_timestamp_seconds", "store_commit_seconds_count", "build_info{commit="] {
        assert!(text.contains(&format!("matrix_alertmanager_receiver_{wanted}")), "{wanted} in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    let checked = promtool_check(&text);
    assert!(checked.is_empty(), "promtool check metrics: {checked}");

    receiver.accept("default", Payload::group("A").firing(&["n01", "n02"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let target = receiver.url().trim_start_matches("http://").to_owned();
    let prometheus = Prometheus::start(PrometheusConfig::new("groups: []").scrape_target("receiver", &target)).await;
    for (query, expected) in [
        ("matrix_alertmanager_receiver_incidents_open", "1"),
        (r#"matrix_alertmanager_receiver_room_events_total{kind="card",outcome="sent"}"#, "1"),
        ("matrix_alertmanager_receiver_delivery_seconds_count", "1"),
        ("matrix_alertmanager_receiver_homeserver_up", "1"),
    ] {
        let found = eventually(query, DEADLINE, async || {
            let result = prometheus.query(query).await;
            let value = result["data"]["result"][0]["value"][1].as_str().or_else(|| result[0]["value"][1].as_str());
            // Counted after the room shows it.
            value.filter(|value| *value == expected).map(drop)
        });
        found.await;
    }
}

/// What `promtool check metrics` has to say.
fn promtool_check(text: &str) -> String {
    use std::{io::Write as _, process::Stdio};
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (make tools)");
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned() + if output.status.success() { "" } else { " (failed)" }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_the_life_of_a_notification_by_its_id() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).set("log.format", "json").start().await;
    wait_health(&receiver, "all well", |json| json["status"] == "ok").await;
    proxy.fault_times(1, Match::sends(), Fault::error(502, "M_UNKNOWN"));
    let id = receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    let event =
        scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await.card().event_id().to_owned();
    receiver.wait_log(&[&id, "shown in the room"]).await;
    receiver.wait_log(&[&id, "accepted"]).await;
    let mut lines: Vec<Value> = receiver
        .logs()
        .lines()
        .filter(|line| line.contains(&id))
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    // The room may be tried before the webhook is answered.
    lines.sort_by_key(|line| line["message"] != "accepted");
    let reported: Vec<&str> = lines.iter().map(|line| line["message"].as_str().expect("a message")).collect();
    assert_eq!(reported, ["accepted", "not shown yet, will try again", "shown in the room"]);
    assert!(lines[1]["reason"].as_str().is_some_and(|reason| reason.starts_with("server_error")), "{:#}", lines[1]);
    assert!(lines[1]["retry_in_ms"].is_u64(), "{:#}", lines[1]);
    assert_eq!(lines[2]["event"], event.as_str());
    assert!(lines[2]["after_ms"].is_u64());
    assert!(lines.iter().all(|line| line["incident"] == lines[0]["incident"] && line["notification"] == id.as_str()));
}

/// Two notifications that one event shows: a search for either finds it.
#[tokio::test(flavor = "multi_thread")]
async fn merged_notifications_are_all_named_where_they_are_shown() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    proxy.fault(Match::sends(), Fault::limited(Duration::from_secs(1)));
    let first = receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    receiver.wait_metric("rate_limited_total", &[], |limited| limited >= 1.0).await;
    let second = receiver.accept("default", Payload::group("A").firing(&["n01", "n02"])).await;
    proxy.heal();
    receiver.wait_log(&["shown in the room", &first, &second]).await;
    scene.room.wait_for("one card with both", DEADLINE, |view| view.card().has("2 firing")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_of_the_log_says_whether_it_is_http_the_token_or_the_room() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).webhook_token("hook-token").start().await;
    let refused =
        receiver.request(reqwest::Method::POST, "/alerts").bearer_auth("wrong").send().await.expect("an answer");
    assert_eq!(refused.status(), 401);
    receiver.wait_log(&["webhook rejected: missing or wrong credentials"]).await;

    let bad = ReceiverBuilder::of(&scene).set("matrix.access_token", "syt_not_a_token").start().await;
    bad.accept("default", Payload::group("A").firing(&["n01"])).await;
    bad.wait_log(&["token_rejected"]).await;
    let page = bad.get("/healthz/delivery").await;
    assert_eq!(page.status, 503, "{}", page.body);

    scene.sre.kick(&scene.room.id, &scene.bot).await;
    receiver.accept("default", Payload::group("B").firing(&["n01"])).await;
    receiver.wait_log(&["not shown yet", "room_refused"]).await;
}

/// At the highest level, foreign crates included, no secret is logged. The harness searches the log of every receiver
/// for its secrets; this one gives them the most chances.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_at_any_level() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene)
        .webhook_token("hook-token-nobody-may-see")
        .set("log.filter", "trace,matrix_sdk=trace,matrix_sdk_base=trace,hyper=trace,hyper_util=trace,reqwest=trace,axum=trace,sqlx=trace,h2=trace,rustls=trace")
        .start()
        .await;
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let log = receiver.logs();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the level was applied");
    for secret in [scene.bot.access_token.as_str(), "hook-token-nobody-may-see", scene.bot.password.as_str()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
    assert!(!receiver.get("/metrics").await.body.contains(&scene.room.id));
}
