//! Dead man's switches: a real Prometheus and Alertmanager beat, and stop beating.

use std::{process::Output, time::Duration};

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

use crate::harness::{
    Alert, Alertmanager, AlertmanagerConfig, DEADLINE, Exchange, Fault, FaultProxy, Match, Payload, Prometheus,
    PrometheusConfig, Receiver, ReceiverBuilder, RoomView, Scene, eventually, view::mentions,
};

/// Longer than `RESOLVED_FOR`, and what leads to it.
const AFTER_RESOLVED: Duration = Duration::from_mins(2);
const QUIET: Duration = Duration::from_secs(3);
const RULES: &str = r"
groups:
- name: watchdog
  rules:
  - alert: Watchdog
    expr: vector(1)
    labels: { severity: none, cluster: the-cluster }
";
const MISSING: &str = "💔 No heartbeat from prometheus (the-cluster) for ";

fn watching(scene: &Scene, timeout: &str, more: &str) -> ReceiverBuilder {
    let heartbeat = format!(
        "[[routes.default.heartbeats]]\nname = \"prometheus\"\nmatch = {{ alertname = \"Watchdog\" }}\n\
         by = [\"cluster\"]\ntimeout = \"{timeout}\"\n{more}"
    );
    ReceiverBuilder::of(scene).toml(&heartbeat)
}

/// As docs/HEARTBEATS.md has it, in seconds in place of minutes.
fn beating(webhook_url: &str) -> AlertmanagerConfig {
    AlertmanagerConfig::webhook(webhook_url)
        .route("group_wait", json!("0s"))
        .route("group_interval", json!("1s"))
        .route("repeat_interval", json!("900ms"))
}

async fn alertmanager_of(receiver: &Receiver) -> Alertmanager {
    Alertmanager::start(beating(&receiver.webhook_url("default"))).await
}

/// Two Alertmanagers of one cluster, which post through `link`.
async fn cluster_of_two(link: &FaultProxy) -> (Alertmanager, Alertmanager) {
    let config = beating(&format!("{}/alerts/default", link.url()));
    let first = Alertmanager::start(config.clone().clustered()).await;
    let second = Alertmanager::start(config.peer_of(&first)).await;
    eventually("a cluster of two", DEADLINE, async || (second.cluster_size().await == 2).then_some(())).await;
    (first, second)
}

async fn prometheus_of(alertmanager: &Alertmanager) -> Prometheus {
    Prometheus::start(PrometheusConfig::new(RULES).resend_each_second().alertmanager(alertmanager)).await
}

/// A notification of a Watchdog.
fn beat() -> Payload {
    beat_of("the-cluster")
}

fn beat_of(cluster: &str) -> Payload {
    Payload::group("Watchdog").alert(Alert::firing("").label("alertname", "Watchdog").label("cluster", cluster))
}

async fn beats(receiver: &Receiver) -> f64 {
    receiver.metric("notifications_total", &[("route", "default"), ("outcome", "beat")]).await
}

async fn beats_on(receiver: &Receiver) {
    let before = beats(receiver).await;
    receiver
        .wait_metric("notifications_total", &[("route", "default"), ("outcome", "beat")], |now| now > before + 1.0)
        .await;
}

async fn part(receiver: &Receiver) -> Value {
    receiver.get("/healthz").await.json()["parts"]["heartbeats"].clone()
}

fn has_no_card(view: &RoomView) -> bool {
    view.cards().is_empty()
}

fn is_missing(view: &RoomView) -> bool {
    view.cards().len() == 1 && view.card().first_line().starts_with(MISSING)
}

/// The seconds in the first line of a card, which must be these words and no others.
fn silent_seconds(line: &str) -> u64 {
    let seconds = line.strip_prefix(MISSING).and_then(|rest| rest.strip_suffix(" s: alerts may not reach this room"));
    seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| panic!("another first line: {line}"))
}

fn is_back(view: &RoomView) -> bool {
    let card = view.card();
    view.cards().len() == 1
        && card.first_line().starts_with("🟢 Heartbeat from prometheus (the-cluster) is back after ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_alertmanager_and_a_stopped_prometheus_are_cards_and_a_stopped_receiver_is_none() {
    let scene = Scene::new().await;
    let builder = watching(&scene, "20s", "[routes.default.mentions]\nroom = true\nmin_severity = \"critical\"\n");
    let mut receiver = builder.start().await;
    let mut alertmanager = alertmanager_of(&receiver).await;
    let prometheus = prometheus_of(&alertmanager).await;
    beats_on(&receiver).await;
    eventually("all beat", DEADLINE, async || (part(&receiver).await["reason"] == "all beat").then_some(())).await;

    // The receiver is down for longer than the timeout.
    receiver.kill9();
    tokio::time::sleep(Duration::from_secs(24)).await;
    receiver.restart().await;
    beats_on(&receiver).await;
    scene.room.assert_settled("no alarm", QUIET, has_no_card).await;

    alertmanager.kill9();
    let view = scene.room.wait_for("silence", 2 * DEADLINE, is_missing).await;
    assert!(view.card().first_line().contains(" s: alerts may not reach this room"), "{}", view.text());
    let root = view.card().event_id().to_owned();
    assert_eq!(view.event(&root).expect("the root").content["m.mentions"]["room"], true, "{}", view.text());
    eventually("degraded", DEADLINE, async || (part(&receiver).await["status"] == "degraded").then_some(())).await;
    assert_eq!(receiver.get("/healthz").await.status, 200, "no probe restarts a receiver for it");
    // Said once, whatever crashes.
    receiver.kill9();
    receiver.restart().await;
    scene.room.assert_settled("one alarm", QUIET, is_missing).await;

    alertmanager.restart().await;
    let view = scene.room.wait_for("back", DEADLINE, is_back).await;
    assert_eq!(view.card().event_id(), root, "{}", view.text());
    eventually("a word in the thread", DEADLINE, async || {
        let view = scene.room.view().await;
        let thread = view.thread_of(&root);
        (thread.len() == 1 && thread[0].first_line().contains("resolved after")).then_some(())
    })
    .await;
    drop(prometheus);
    scene.room.wait_for("silence or the word that it is over", 2 * DEADLINE, is_missing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolved_watchdog_is_an_alarm_a_minute_later_whatever_the_timeout() {
    let scene = Scene::new().await;
    let receiver = watching(&scene, "1h", "").start().await;
    let alertmanager = alertmanager_of(&receiver).await;
    let prometheus = prometheus_of(&alertmanager).await;
    beats_on(&receiver).await;
    drop(prometheus);
    let view = scene.room.wait_for("the alarm", AFTER_RESOLVED, is_missing).await;
    assert!(view.card().has("Check whether Prometheus runs"), "{}", view.text());
    let _prometheus = prometheus_of(&alertmanager).await;
    scene.room.wait_for("back", DEADLINE, is_back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_follow_beats_while_the_room_can_be_reached() {
    let (scene, watcher) = (Scene::new().await, MockServer::start().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&watcher).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let ping = format!("ping_url = \"{}/secret-token\"\n", watcher.uri());
    let receiver = watching(&scene, "1h", &ping).homeserver(&proxy.url()).start().await;
    let pings = |outcome: &'static str| [("route", "default"), ("name", "prometheus"), ("outcome", outcome)];
    receiver.wait_metric("homeserver_up", &[], |up| up == 1.0).await;
    receiver.accept("default", beat()).await;
    receiver.wait_metric("heartbeat_pings_total", &pings("sent"), |sent| sent >= 1.0).await;
    let received = watcher.received_requests().await.expect("recorded");
    assert!(received.iter().all(|ping| ping.method.as_str() == "GET" && ping.url.path() == "/secret-token"));

    proxy.fault(Match::all(), Fault::Cut);
    receiver.wait_metric("homeserver_up", &[], |up| up == 0.0).await;
    let before = watcher.received_requests().await.expect("recorded").len();
    for _ in 0..3 {
        receiver.accept("default", beat()).await;
    }
    receiver.wait_metric("heartbeat_pings_total", &pings("withheld"), |withheld| withheld >= 1.0).await;
    assert_eq!(watcher.received_requests().await.expect("recorded").len(), before);
    receiver.wait_log(&["heartbeat pings withheld; rooms are not reached"]).await;
    proxy.heal();
    receiver.wait_metric("homeserver_up", &[], |up| up == 1.0).await;
    receiver.accept("default", beat()).await;
    receiver.wait_metric("heartbeat_pings_total", &pings("sent"), |sent| sent >= 2.0).await;
    assert!(!receiver.logs().contains("secret-token"), "{}", receiver.log_tail());
}

/// `state` of each switch, as the command `heartbeats` lists them.
async fn states(receiver: &Receiver) -> Vec<String> {
    let (code, text) = command(receiver, &["--json"]).await;
    assert_eq!(code, Some(0), "{text}");
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    let state = |one: &Value| one["state"].as_str().expect("a state").to_owned();
    listed.as_array().expect("a list").iter().map(state).collect()
}

async fn command(receiver: &Receiver, args: &[&str]) -> (Option<i32>, String) {
    let all: Vec<&str> = ["heartbeats"].iter().chain(args).copied().collect();
    let Output { status, stdout, stderr } = receiver.cli(&all).await;
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_and_disarms() {
    let scene = Scene::new().await;
    let receiver = watching(&scene, "2s", "").start().await;
    let (code, listed) = command(&receiver, &[]).await;
    assert!(code == Some(0) && listed.contains("unarmed"), "{listed}");
    receiver.accept("default", beat()).await;
    scene.room.wait_for("the alarm", 2 * DEADLINE, is_missing).await;
    let (_, json) = command(&receiver, &["list", "--json"]).await;
    let listed: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&listed[0]["state"], &listed[0]["labels"]["cluster"]), (&json!("missing"), &json!("the-cluster")));
    let silent = receiver.metric("heartbeat_last_seconds", &[("route", "default"), ("name", "prometheus")]).await;
    assert!(silent >= 2.0, "{silent}");
    for (args, expected) in [
        (&["forget", "loki"][..], "no such switch is armed"),
        (&["forget", "prometheus", "cluster=other"], "no such switch is armed"),
        (&["forget", "prometheus", "cluster"], "expected LABEL=VALUE"),
    ] {
        let (code, said) = command(&receiver, args).await;
        assert!(code != Some(0) && said.contains(expected), "{args:?}: {said}");
    }
    let (code, said) = command(&receiver, &["forget", "prometheus", "cluster=the-cluster"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "default prometheus cluster=the-cluster: disarmed\n"));
    let grey = "⚪ Heartbeat from prometheus (the-cluster) is not watched any more since ";
    scene.room.wait_for("grey", DEADLINE, |view| view.card().first_line().starts_with(grey)).await;
    scene.room.assert_settled("and no further alarm", QUIET, |view| view.card().first_line().starts_with(grey)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_alertmanagers_that_prometheus_does_not_reach_is_no_alarm_and_a_stopped_prometheus_is() {
    const TIMEOUT: Duration = Duration::from_secs(20);
    let scene = Scene::new().await;
    let who = &scene.sre.user_id;
    let mention = format!("[routes.default.mentions]\nusers = [\"{who}\"]\nmin_severity = \"critical\"\n");
    let receiver = watching(&scene, "20s", &mention).start().await;
    let webhooks = FaultProxy::start(&receiver.url()).await;
    let (first, second) = cluster_of_two(&webhooks).await;
    let to_first = FaultProxy::start(&first.url()).await;
    let config = PrometheusConfig::new(RULES).resend_each_second();
    let mut prometheus = Prometheus::start(config.alertmanager_at(&to_first.url()).alertmanager(&second)).await;
    beats_on(&receiver).await;
    webhooks.forget();

    to_first.fault(Match::all(), Fault::Cut);
    let says = |status: &'static str| move |exchange: &Exchange| exchange.body["status"] == status;
    webhooks.wait_for("one says that it is over", DEADLINE, says("resolved")).await;
    webhooks.forget();
    webhooks.wait_for("the other beats", DEADLINE, says("firing")).await;
    scene.room.assert_settled("no alarm", TIMEOUT + QUIET, has_no_card).await;
    assert_eq!(states(&receiver).await, ["beating"]);

    prometheus.kill9();
    let view = scene.room.wait_for("the alarm", 2 * DEADLINE, is_missing).await;
    let (root, line) = (view.card().event_id().to_owned(), view.card().first_line().to_owned());
    assert!((20..50).contains(&silent_seconds(&line)), "{line}");
    let sent = view.event(&root).expect("the root");
    assert_eq!(mentions(&sent.content), Some(vec![who.as_str()]), "{}", view.text());
    assert!(view.card().has("Check whether Prometheus runs"), "{}", view.text());
    assert_eq!(states(&receiver).await, ["missing"]);

    to_first.heal();
    prometheus.restart().await;
    let view = scene.room.wait_for("back", DEADLINE, is_back).await;
    assert_eq!((view.card().event_id(), view.card().edits), (root.as_str(), 1), "{}", view.text());
    scene.room.assert_settled("one card", QUIET, is_back).await;
    assert_eq!(states(&receiver).await, ["beating"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_answered_503_for_longer_than_the_timeout_are_no_alarm_and_silence_after_them_is() {
    const TIMEOUT: Duration = Duration::from_secs(20);
    let scene = Scene::new().await;
    let receiver = watching(&scene, "20s", "").start().await;
    let mut alertmanager = alertmanager_of(&receiver).await;
    let _prometheus = prometheus_of(&alertmanager).await;
    beats_on(&receiver).await;
    let refused = [("handler", "alerts"), ("code", "503")];

    let lock = receiver.store().lock().await;
    receiver.wait_metric("http_requests_total", &refused, |count| count >= 1.0).await;
    scene.room.assert_settled("no alarm", TIMEOUT + QUIET, has_no_card).await;
    let before = receiver.metric("http_requests_total", &refused).await;
    receiver.wait_metric("http_requests_total", &refused, |count| count > before).await;
    drop(lock);
    beats_on(&receiver).await;
    scene.room.assert_settled("no alarm", QUIET, has_no_card).await;

    alertmanager.kill9();
    let view = scene.room.wait_for("the alarm", 2 * DEADLINE, is_missing).await;
    assert!((20..50).contains(&silent_seconds(view.card().first_line())), "{}", view.text());
    assert_eq!(states(&receiver).await, ["missing"]);
}

/// When the receiver is killed.
#[derive(Debug)]
enum Kill {
    /// So long after the beat, in milliseconds: before the alarm is committed, or just then.
    After(u64),
    /// It is committed, and perhaps on its way.
    Committed,
    /// The homeserver has the card; its answer is lost.
    Sent,
    /// The card is on its way, and never arrives.
    Lost,
}

async fn kill(receiver: &mut Receiver, proxy: &FaultProxy, cluster: &str, when: &Kill) {
    let card = || Match::sends_with(cluster);
    match when {
        Kill::After(milliseconds) => {
            receiver.accept("default", beat_of(cluster)).await;
            tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            receiver.kill9();
        }
        Kill::Committed => {
            receiver.accept("default", beat_of(cluster)).await;
            receiver.wait_log(&["heartbeat missing", &format!("cluster={cluster}")]).await;
            receiver.kill9();
        }
        Kill::Sent => {
            let mut answers = proxy.hold(card());
            receiver.accept("default", beat_of(cluster)).await;
            let held = answers.next(DEADLINE).await;
            receiver.kill9();
            held.cut();
        }
        Kill::Lost => {
            proxy.fault(card(), Fault::Hang);
            receiver.accept("default", beat_of(cluster)).await;
            let named = |exchange: &Exchange| exchange.body.to_string().contains(cluster);
            proxy.wait_for("the card", DEADLINE, named).await;
            receiver.kill9();
        }
    }
    proxy.heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_whose_receiver_is_killed_at_any_time_is_one_card() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = watching(&scene, "2s", "").homeserver(&proxy.url()).set("routes.default.digest_above", 0);
    let mut receiver = builder.start().await;
    let kills = [Kill::After(2_000), Kill::After(2_500), Kill::After(3_000), Kill::Committed, Kill::Sent, Kill::Lost];
    for (number, when) in kills.iter().enumerate() {
        kill(&mut receiver, &proxy, &format!("killed-{number}"), when).await;
        receiver.restart().await;
    }
    let is = |view: &RoomView, first: &str, rest: &str| {
        view.cards().len() == kills.len()
            && (0..kills.len()).all(|number| {
                let line = format!("{first} prometheus (killed-{number}) {rest}");
                view.cards().iter().filter(|card| card.first_line().starts_with(&line)).count() == 1
            })
    };
    scene.room.assert_settled("one card each", QUIET, |view| is(view, "💔 No heartbeat from", "for ")).await;

    assert_eq!(states(&receiver).await, vec!["missing"; kills.len()]);
    let (code, said) = command(&receiver, &["forget", "prometheus"]).await;
    assert!(code == Some(0) && said.lines().count() == kills.len(), "{said}");
    let grey = |view: &RoomView| is(view, "⚪ Heartbeat from", "is not watched any more since ");
    scene.room.assert_settled("all grey, by edits", QUIET, grey).await;
    assert_eq!(states(&receiver).await, ["unarmed"]);
}
