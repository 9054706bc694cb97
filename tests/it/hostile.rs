//! Hostile and odd webhooks through the running program: what can be read is in the room, once and harmless.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Payload, Receiver, ReceiverBuilder, RoomView, Scene, http::Answer, view::Message};

const MARKUP: &str = r#"<img src=x onerror=alert(1)><b>bold</b> & "quoted" </strong><a href='http://evil.example'>"#;

/// A webhook about one alert in a group called `name`.
fn webhook(name: &str, alert: &Value) -> Value {
    let mut labels = json!({ "alertname": name, "severity": "critical" });
    let mut whole = json!({
        "status": "firing", "annotations": {}, "startsAt": "2026-11-22T18:19:58Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "", "fingerprint": name,
    });
    for (key, value) in alert.as_object().into_iter().flatten() {
        match value.as_object().filter(|_| key == "labels") {
            Some(more) => labels.as_object_mut().expect("an object").extend(more.clone()),
            None => whole[key] = value.clone(),
        }
    }
    if whole.get("labels").is_none() {
        whole["labels"] = labels;
    }
    json!({
        "version": "4", "receiver": "matrix", "status": "firing", "groupKey": format!("{{}}:{name}"),
        "groupLabels": { "alertname": name }, "commonLabels": {}, "commonAnnotations": {}, "truncatedAlerts": 0,
        "externalURL": "http://user:hunter2@alertmanager.example:9093", "alerts": [whole],
    })
}

async fn post(receiver: &Receiver, body: impl Into<reqwest::Body>) -> Answer {
    Answer::to(receiver.request(Method::POST, "/alerts/default").body(body)).await.expect("an answer")
}

/// Only tags and attributes that we set, only links that may be clicked, nothing that moves a cursor or turns text.
pub fn assert_harmless(card: &Message) {
    let html = card.formatted_body();
    for (at, _) in html.match_indices('<') {
        let end = html[at..].find('>').expect("a whole tag");
        let tag = &html[at + 1..at + end];
        let plain = ["strong", "em", "del", "code", "ul", "li", "br", "a", "span"]
            .iter()
            .any(|name| tag == *name || tag.strip_prefix('/') == Some(name));
        let colored = tag.strip_prefix("span data-mx-color=\"#").is_some_and(|color| color.len() == 7);
        let link = tag.strip_prefix("a href=\"").and_then(|rest| rest.strip_suffix('"'));
        let safe = link.is_some_and(|url| {
            (url.starts_with("http://") || url.starts_with("https://")) && !url.contains(['@', '"', '\'', '<', ' '])
        });
        assert!(plain || colored || safe, "<{tag}> in {html}");
    }
    for text in [card.body(), html] {
        for bad in ["javascript:", "data:text", "hunter2"] {
            assert!(!text.contains(bad), "{bad:?} in {text}");
        }
        let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}' | '\u{2067}' | '\u{200e}' | '\u{200f}');
        assert!(!text.chars().any(|c| turns(c) || (c.is_control() && c != '\n')), "{text:?}");
    }
    assert!(!html.contains('\n') && card.first_line().chars().count() <= 110, "{}", card.body());
}

/// Group, alert, and what must be read in the card's text.
fn hostile() -> Vec<(&'static str, Value, Vec<String>)> {
    let long = "x".repeat(300);
    let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    vec![
        (
            "Markup",
            json!({ "labels": { "pod": MARKUP, "<i>": "<u>" }, "annotations": { "summary": MARKUP, "description": MARKUP } }),
            text(&["<b>bold</b> & \"quoted\"", "<i>=<u>"]),
        ),
        (
            "Links",
            json!({
                "generatorURL": "javascript:alert(1)", "silenceURL": "data:text/html,x",
                "annotations": {
                    "summary": "links", "logs_url": "http://user:hunter2@grafana.example/explore?a={b=\"c\"}",
                    "runbook_url": " JaVaScRiPt:alert(1)", "dashboard_url": "https://d.example/\" onclick=\"alert(1)",
                },
            }),
            text(&["Logs: http://grafana.example/explore?a=%7Bb=%22c%22%7D", "Dashboard: https://d.example/"]),
        ),
        (
            "RightToLeft",
            json!({ "annotations": { "summary": "הדיסק מלא \u{202e}drawkcab\u{202c} and on" } }),
            text(&["\u{2068}הדיסק מלא drawkcab and on\u{2069}"]),
        ),
        (
            "Control",
            json!({ "labels": { "pod": "a\u{0}b" }, "annotations": { "summary": "one\r\ntwo\u{1b}[31m\u{7} three" } }),
            text(&["a\u{fffd}b — one", "\ntwo [31m three\n"]),
        ),
        ("Long", json!({ "labels": { "pod": long, long.clone(): "v" } }), text(&["xxxxxxxxxxxx", "…"])),
        (
            "Bare",
            json!({ "annotations": null, "generatorURL": null, "startsAt": null, "fingerprint": null }),
            text(&[]),
        ),
        (
            "Types",
            json!({
                "status": 7, "labels": { "pod": 5, "zone": null, "x": ["y"] }, "annotations": ["z"],
                "startsAt": "yesterday", "endsAt": {}, "generatorURL": [], "fingerprint": {},
            }),
            text(&["5", "x=[\"y\"]"]),
        ),
        ("NoAlert", json!({ "labels": "none", "status": null }), text(&[])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hostile_or_odd_arrives_once_readable_and_harmless() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 0).start().await;
    let cases = hostile();
    for (name, alert, _) in &cases {
        let body = webhook(name, alert);
        // Twice, as a retry or a twin would.
        receiver.accept("default", body.clone()).await;
        receiver.accept("default", body).await;
    }
    let surrogates = webhook("Surrogates", &json!({ "annotations": { "summary": "lone SURROGATE here" } })).to_string();
    assert_eq!(post(&receiver, surrogates.replace("SURROGATE", r"\ud83d")).await.status, 200);
    let mut bytes =
        webhook("Bytes", &json!({ "annotations": { "summary": "no UTF-8 @ here" } })).to_string().into_bytes();
    bytes.iter_mut().filter(|byte| **byte == b'@').for_each(|byte| *byte = 0xff);
    assert_eq!(post(&receiver, bytes).await.status, 200);
    // One after the other, since each lane goes in order: what follows is not held up.
    receiver.accept("default", Payload::group("Normal").firing(&["n01"])).await;

    let count = cases.len() + 3;
    let view = scene.room.wait_for("all of them", DEADLINE, |view| view.cards().len() == count).await;
    let card = |name: &str| {
        let found = view.cards_with(name);
        assert_eq!(found.len(), 1, "{name}, in:\n{}", view.text());
        found.into_iter().next().expect("one")
    };
    view.cards().iter().for_each(assert_harmless);
    for (name, _, readable) in &cases {
        for text in readable {
            assert!(card(name).body().contains(text.as_str()), "{name}: {text:?} in {}", card(name).body());
        }
    }
    assert!(card("Surrogates").has("lone \u{fffd} here"));
    assert!(card("Bytes").has("no UTF-8 \u{fffd} here"));
    assert!(card("Normal").has("summary of n01"));
    assert!(receiver.metric("odd_fields_total", &[]).await >= 1.0);
    let settled = |view: &RoomView| view.by_bot().count() == count;
    scene.room.assert_settled("each once", std::time::Duration::from_secs(1), settled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_is_accepted_and_says_nothing_of_an_unknown_group() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("Empty")).await;
    receiver.accept("default", Payload::group("Known").firing(&["n01"])).await;
    // Of a known group it says that Alertmanager no longer lists what was firing.
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.accept("default", Payload::group("Known")).await;
    let quiet = |view: &RoomView| view.cards().len() == 1 && view.card().has("🔕 NO LONGER REPORTED Known");
    scene.room.wait_for("no longer reported", DEADLINE, quiet).await;
    let view = scene.room.assert_settled("an edit, no more", std::time::Duration::from_secs(1), quiet).await;
    assert_eq!(view.by_bot().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_broken_envelope_is_refused_and_the_answer_says_where() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let good = || webhook("Good", &json!({}));
    let with = |key: &str, value: Value| {
        let mut body = good();
        body[key] = value;
        body.to_string()
    };
    for (body, says) in [
        (String::new(), "line 1 column 0"),
        ("<html>".to_owned(), "line 1 column 1"),
        ("null".to_owned(), "null"),
        ("\"text\"".to_owned(), "a string"),
        (with("alerts", json!(null)), "alerts"),
        (with("alerts", json!({})), "alerts"),
        (with("groupKey", json!(5)), "groupKey"),
        (with("receiver", json!(null)), "receiver"),
        (with("groupLabels", json!([])), "groupLabels"),
        (with("truncatedAlerts", json!(-1)), "truncatedAlerts"),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "found a list"),
    ] {
        let answer = post(&receiver, body.clone()).await;
        let start: String = body.chars().take(80).collect();
        assert_eq!(answer.status, 400, "{start}: {}", answer.body);
        assert!(answer.body.contains(says), "{start}: {}", answer.body);
    }
    for body in
        [with("externalURL", json!(7)), with("commonLabels", json!("odd")), with("notification_reason", json!({}))]
    {
        assert_eq!(post(&receiver, body).await.status, 200);
    }
    scene.room.wait_for("one card", DEADLINE, |view| view.cards().len() == 1 && view.card().has("Good")).await;
}
