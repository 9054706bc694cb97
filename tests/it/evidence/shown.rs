//! A rule of a real Prometheus fires, a real Alertmanager says so, and a real Loki has the lines.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use matrix_sdk::{
    media::{MediaFormat, MediaRequestParameters},
    ruma::events::room::{EncryptedFile, MediaSource},
};
use serde_json::json;

use super::{QUIET, SIZE, SOON, card, graphs, is_complete, logs, logs_url, shows, size_of, sources};
use crate::{
    encrypted::assert_sealed,
    harness::{
        Alertmanager, AlertmanagerConfig, DEADLINE, Loki, Prometheus, PrometheusConfig, Reader, Receiver,
        ReceiverBuilder, RoomView, Scene, Switch, caught_up, eventually, view::Message,
    },
};

/// In each line of the alert's log. Those of the encrypted room are nowhere else in the homeserver.
const PLAIN: &str = "queue-runner-8841 cannot deliver";
const SEALED: &str = "queue-runner-3106 cannot deliver";
const SECRETS: [&str; 3] = ["hunter2-of-mail", "c2VjcmV0LW9mLW1haWw", "s3cret-in-url"];

struct World {
    scene: Scene,
    receiver: Receiver,
    _alertmanager: Alertmanager,
    prometheus: Prometheus,
    switch: Switch,
    loki: Loki,
}

fn rules() -> String {
    json!({ "groups": [{ "name": "mail", "rules": [{
        "alert": "QueueLong",
        "expr": "queue_length{queue=\"mail\"} > 100",
        "labels": { "severity": "critical" },
        "annotations": { "summary": "Mail waits", "logs_url": logs_url("{app=\"mail\"}") },
    }] }] })
    .to_string()
}

impl World {
    /// Nothing fires, and Prometheus has seen the value for a while.
    async fn new(scene: Scene, loki: Loki) -> Self {
        let mut receiver = ReceiverBuilder::of(&scene).unstarted();
        let config = AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
        let alertmanager = Alertmanager::start(config).await;
        let switch = Switch::start().await;
        switch.set("queue_length{queue=\"mail\"}", 40.0);
        let config = PrometheusConfig::new(&rules()).alertmanager(&alertmanager).scrape("mail", &switch);
        let prometheus = Prometheus::start(config).await;
        receiver.reconfigure(&format!("{}{}", sources(&loki.url(), &prometheus.url()), shows("default")));
        receiver.spawn();
        receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
        eventually("some values", DEADLINE, async || {
            let found = prometheus.query("count_over_time(queue_length[1m]) >= 3").await;
            (found.as_array().is_some_and(|found| !found.is_empty())).then_some(())
        })
        .await;
        Self { scene, receiver, _alertmanager: alertmanager, prometheus, switch, loki }
    }

    /// Lines of two streams, with secrets, colours and markup.
    async fn logs(&self, words: &str) {
        let ago = |seconds: i64| Timestamp::now() - SignedDuration::from_secs(seconds);
        let password = format!("{words}: password={} refused", SECRETS[0]);
        let bearer = format!("\u{1b}[31m{words}\u{1b}[0m: Authorization: Bearer {}", SECRETS[1]);
        let url = format!("{words} to smtp://mail:{}@relay.example/ <b>now</b>", SECRETS[2]);
        let first = [(ago(40), password.as_str()), (ago(10), url.as_str())];
        self.loki.push(&[("app", "mail"), ("pod", "mail-0")], &first).await;
        self.loki.push(&[("app", "mail"), ("pod", "mail-1")], &[(ago(25), bearer.as_str())]).await;
        self.loki.push(&[("app", "other")], &[(ago(5), "not of this alert")]).await;
    }

    fn fires(&self) {
        self.switch.set("queue_length{queue=\"mail\"}", 250.0);
    }
}

/// How long after the card a piece came, by the homeserver's clock.
fn after(card: &Message, piece: &Message) -> Duration {
    let took = piece.event.origin_server_ts - card.event.origin_server_ts;
    Duration::from_millis(u64::try_from(took).expect("after the card"))
}

/// What people see of the lines.
fn check_logs(words: &str, card: &Message, lines: &Message) {
    assert!(after(card, lines) < SOON, "{:?}", after(card, lines));
    assert_eq!((lines.msgtype(), lines.mentions()), ("m.notice", Some(vec![])));
    assert_eq!(lines.event.in_reply_to(), Some(card.event_id()), "for clients without threads");
    assert_eq!(lines.content["m.relates_to"]["is_falling_back"], true);
    let html = lines.formatted_body();
    assert!(html.contains("<pre><code>") && html.contains("https://grafana.example.org/explore?"), "{html}");
    assert!(html.contains("&#60;b&#62;now&#60;/b&#62;") && !html.contains("<b>now"), "{html}");
    for text in [lines.body(), html] {
        assert_eq!(text.matches(words).count(), 3, "{text}");
        assert!(text.matches("***").count() >= 3 && !text.contains('\u{1b}'), "{text}");
        assert!(!text.contains("not of this alert"), "{text}");
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        let at = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("{needle} in {text}"));
        assert!(at("password=") < at("Authorization") && at("Authorization") < at("smtp://"), "oldest first: {text}");
    }
}

/// What people see of the picture, but for the picture.
fn check_image(card: &Message, graph: &Message) {
    assert!(after(card, graph) < SOON, "{:?}", after(card, graph));
    let content = &graph.content;
    assert_eq!((&content["msgtype"], &content["filename"]), (&json!("m.image"), &json!("graph.png")));
    assert_eq!(graph.event.in_reply_to(), Some(card.event_id()));
    assert_eq!(graph.mentions(), Some(vec![]));
    let (info, body) = (&content["info"], graph.body());
    assert_eq!((&info["w"], &info["h"], &info["mimetype"]), (&json!(SIZE.0), &json!(SIZE.1), &json!("image/png")));
    // The worst value and the threshold, for whoever does not see the picture.
    assert!(body.contains("queue_length") && body.contains("is 250") && body.contains("> 100"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_fires_and_log_lines_and_a_graph_follow_its_card() {
    let Some(loki) = Loki::start().await else { return };
    let mut world = World::new(Scene::new().await, loki).await;
    world.logs(PLAIN).await;
    world.fires();
    let room = &world.scene.room;
    let complete = |view: &RoomView| is_complete(view, "QueueLong");
    room.wait_for("log lines and a graph", DEADLINE, complete).await;
    let view = room.assert_settled("and each once", QUIET, complete).await;
    let shown = card(&view, "QueueLong").expect("a card");
    check_logs(PLAIN, &shown, &logs(&view, shown.event_id())[0]);
    let graph = &graphs(&view, shown.event_id())[0];
    check_image(&shown, graph);
    let (kind, png) = world.scene.sre.download(graph.content["url"].as_str().expect("an upload")).await;
    assert_eq!((kind.as_str(), size_of(&png)), ("image/png", SIZE));
    assert_eq!(graph.content["info"]["size"], png.len());
    assert_eq!(tiny_skia::Pixmap::decode_png(&png).map(|picture| picture.width()).ok(), Some(SIZE.0), "it is whole");
    for kind in ["logs", "graph"] {
        let labels = [("route", "default"), ("kind", kind), ("outcome", "sent")];
        world.receiver.wait_metric("evidence_total", &labels, |count| count == 1.0).await;
    }
    // Resolved: the same card, and nothing more beside it.
    world.switch.set("queue_length{queue=\"mail\"}", 1.0);
    let green = |view: &RoomView| card(view, "QueueLong").is_some_and(|card| card.first_line().starts_with('🟢'));
    room.wait_for("green", DEADLINE, green).await;
    room.assert_settled("nothing more", QUIET, |view| green(view) && complete(view)).await;

    // Both sources are gone: the next card is as good as ever.
    world.loki.kill9();
    world.prometheus.kill9();
    world.receiver.accept("default", super::group("WithoutSources")).await;
    room.wait_for("a card", SOON, |view| card(view, "WithoutSources").is_some()).await;
    for kind in ["logs", "graph"] {
        let labels = [("kind", kind), ("outcome", "failed")];
        world.receiver.wait_metric("evidence_total", &labels, |count| count == 1.0).await;
    }
}

/// The picture as this device has it.
async fn picture(reader: &Reader, file: &serde_json::Value) -> Vec<u8> {
    let file: EncryptedFile = serde_json::from_value(file.clone()).expect("an encrypted file");
    let request = MediaRequestParameters { source: MediaSource::Encrypted(Box::new(file)), format: MediaFormat::File };
    reader.client.media().get_media_content(&request, false).await.expect("decrypted")
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_encrypted_room_lines_and_picture_are_for_its_members_alone() {
    let Some(loki) = Loki::start().await else { return };
    let scene = Scene::encrypted().await;
    let second = scene.synapse.user("second").await;
    scene.sre.invite(&scene.room.id, &second).await;
    second.join(&scene.room.id).await;
    let world = World::new(scene, loki).await;
    let room = &world.scene.room;
    let readers = [Reader::new(&world.scene.sre).await, Reader::new(&second).await];
    caught_up(&world.receiver, room).await;
    world.logs(SEALED).await;
    world.fires();
    let mut pictures = Vec::new();
    let mut file = json!(null);
    for reader in &readers {
        let view = reader.wait_for(room, "log lines and a graph", |view| is_complete(view, "QueueLong")).await;
        let shown = card(&view, "QueueLong").expect("a card");
        check_logs(SEALED, &shown, &logs(&view, shown.event_id())[0]);
        let graph = &graphs(&view, shown.event_id())[0];
        check_image(&shown, graph);
        assert!(graph.content.get("url").is_none(), "{:#}", graph.content);
        file = graph.content["file"].clone();
        let png = picture(reader, &file).await;
        assert_eq!((size_of(&png), &graph.content["info"]["size"]), (SIZE, &json!(png.len())));
        pictures.push(png);
    }
    assert_eq!(pictures[0], pictures[1], "the same bytes on both devices");
    assert!(tiny_skia::Pixmap::decode_png(&pictures[0]).is_ok(), "it is whole");

    let mut words = vec![SEALED, "queue_length", "graph.png", "image/png", "📜"];
    words.extend(SECRETS);
    let raw = assert_sealed(room, &words).await;
    assert_eq!(raw.events.iter().filter(|event| event.sender == raw.bot && !event.is_state).count(), 3);
    let (kind, sealed) = world.scene.sre.download(file["url"].as_str().expect("an upload")).await;
    assert_ne!(kind, "image/png", "not even what it is");
    let has = |needle: &[u8]| sealed.windows(needle.len()).any(|window| window == needle);
    assert!(!has(b"PNG") && !has(b"IHDR") && !has(&pictures[0][100..116]), "the homeserver can see it");
    assert!(!world.scene.synapse.holds(SEALED), "the homeserver has the log lines");
}
