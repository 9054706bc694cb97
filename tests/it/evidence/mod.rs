//! Log lines and graphs in the threads of cards: what the second user sees, and what a broken source, a crash or a storm
//! makes of it.

mod asked;
mod hostile;
mod kills;
mod left_out;
mod shown;

use std::time::Duration;

use crate::harness::{Alert, Payload, RoomView, Scene, Source, view::Message};

/// From the card to what is shown beside it.
const SOON: Duration = Duration::from_secs(10);
/// Longer than a piece of evidence takes where nothing is slow.
const QUIET: Duration = Duration::from_secs(3);
/// Longer than evidence may come after its notification.
const TOO_LATE: Duration = Duration::from_secs(125);
/// What the picture of a graph measures.
const SIZE: (u32, u32) = (1200, 420);

/// Where evidence comes from.
fn sources(loki: &str, prometheus: &str) -> String {
    format!("[evidence]\nloki = {{ url = {loki:?} }}\nprometheus = {{ url = {prometheus:?} }}\n")
}

/// Both kinds for cards of a warning or worse.
fn shows(route: &str) -> String {
    format!("[routes.{route}.evidence]\nlogs = 10\ngraph = true\nmin_severity = \"warning\"\n")
}

/// From one stand-in for both.
fn all_from(source: &Source) -> String {
    format!("{}{}", sources(&source.url(), &source.url()), shows("default"))
}

/// A link to Grafana's Explore with this LogQL.
fn logs_url(query: &str) -> String {
    let panes = serde_json::json!({ "abc": {
        "datasource": "loki",
        "queries": [{ "refId": "A", "datasource": { "type": "loki", "uid": "loki" }, "expr": query }],
        "range": { "from": "now-1h", "to": "now" },
    } });
    let panes = panes.to_string();
    format!("https://grafana.example.org/explore?schemaVersion=1&orgId=1&panes={}", urlencoding::encode(&panes))
}

/// An alert that says where its lines and its numbers are.
fn alert(instance: &str) -> Alert {
    Alert::firing(instance)
        .annotation("logs_url", &logs_url("{app=\"shop\"}"))
        .generator_url("http://prometheus.example:9090/graph?g0.expr=queue_length+%3E+40&g0.tab=1")
}

/// A group with one of them.
fn group(name: &str) -> Payload {
    Payload::group(name).alert(alert("n01"))
}

fn card(view: &RoomView, name: &str) -> Option<Message> {
    view.cards().into_iter().find(|card| card.first_line().contains(name))
}

/// The notices with log lines in the thread of a card.
fn logs(view: &RoomView, root: &str) -> Vec<Message> {
    let mut found = view.thread_of(root);
    found.retain(|message| message.msgtype() == "m.notice" && message.first_line().starts_with("📜 Logs"));
    found
}

/// The pictures in the thread of a card.
fn graphs(view: &RoomView, root: &str) -> Vec<Message> {
    let mut found = view.thread_of(root);
    found.retain(|message| message.msgtype() == "m.image");
    found
}

/// How many pieces of evidence the room has.
fn pieces(view: &RoomView) -> usize {
    let is_piece = |content: &serde_json::Value| {
        content["msgtype"] == "m.image" || content["body"].as_str().is_some_and(|body| body.starts_with("📜 Logs"))
    };
    view.by_bot().filter(|event| is_piece(&event.content)).count()
}

/// Whether the card of this name has log lines and a graph, each once.
fn is_complete(view: &RoomView, name: &str) -> bool {
    card(view, name)
        .is_some_and(|card| logs(view, card.event_id()).len() == 1 && graphs(view, card.event_id()).len() == 1)
}

/// Width and height of a PNG.
fn size_of(png: &[u8]) -> (u32, u32) {
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && &png[12..16] == b"IHDR", "not a PNG");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}

/// Waits for a card, and returns its id and how long after `since` the homeserver had it.
async fn card_after(scene_room: &crate::harness::Room, name: &str, since: jiff::Timestamp) -> (Message, Duration) {
    let view = scene_room.wait_for("the card", crate::harness::DEADLINE, |view| card(view, name).is_some()).await;
    let card = card(&view, name).expect("a card");
    let took = card.event.origin_server_ts - since.as_millisecond();
    (card, Duration::from_millis(u64::try_from(took).unwrap_or(0)))
}

async fn receiver(scene: &Scene, source: &Source) -> crate::harness::Receiver {
    crate::harness::ReceiverBuilder::of(scene).toml(&all_from(source)).start().await
}
