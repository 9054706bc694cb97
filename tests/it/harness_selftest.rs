//! The harness tested on itself: a fault that it does not inject, or a message that it does not see, would make every
//! other test pass in vain.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{
    Alert, AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Homeserver, NewRoom, Payload, Prometheus,
    PrometheusConfig, ReceiverBuilder, Room, Samples, Scene, Silence, Switch, WebhookCapture, at, eventually, fixture,
    payload::fingerprint,
    process::{Process, Scratch},
};

#[tokio::test]
async fn a_view_folds_edits_and_finds_threads() {
    let Scene { bot, sre, room, .. } = Scene::new().await;
    let root = bot.send_text(&room.id, "one").await;
    let thread = json!({ "rel_type": "m.thread", "event_id": root, "is_falling_back": true });
    bot.send(&room.id, json!({ "msgtype": "m.notice", "body": "more", "m.relates_to": thread })).await;
    for text in ["two", "three"] {
        let new =
            json!({ "msgtype": "m.text", "body": text, "m.mentions": { "user_ids": [sre.user_id], "room": true } });
        let replace = json!({ "rel_type": "m.replace", "event_id": root });
        let edit = json!({ "msgtype": "m.text", "body": "* edit", "m.new_content": new, "m.relates_to": replace });
        bot.send(&room.id, edit).await;
    }
    let reply = json!({ "m.in_reply_to": { "event_id": root } });
    bot.send(&room.id, json!({ "msgtype": "m.text", "body": "a reply", "m.relates_to": reply })).await;
    let gone = bot.send_text(&room.id, "gone").await;
    sre.redact(&room.id, &gone).await;
    sre.send_text(&room.id, "from somebody else").await;

    let view = room.wait_for("the last message", DEADLINE, |view| view.text().contains("somebody else")).await;

    let card = view.card();
    assert_eq!((card.body(), card.msgtype(), card.edits), ("three", "m.text", 2));
    assert_eq!(card.mentions(), Some(vec![sre.user_id.as_str(), "@room"]));
    assert_eq!(view.edits_of(&root).len(), 2);
    let bodies = |messages: Vec<crate::harness::view::Message>| {
        messages.iter().map(|message| message.body().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(bodies(view.thread_of(&root)), ["more"]);
    assert_eq!(bodies(view.replies_to(&root)), ["a reply"]);
    assert!(view.event(&gone).expect("still an event").redacted);
    assert_eq!(view.events[0].event_type, "m.room.create", "the first page is not the whole room");
    let text = view.text();
    assert!(text.contains("m.text one\n     (edited 2 times, now: three)"), "{text}");
    assert!(text.contains("(redacted)"), "{text}");
}

#[tokio::test]
#[should_panic(expected = "no longer so: nothing")]
async fn a_settled_room_that_speaks_up_fails() {
    let Scene { bot, room, .. } = Scene::new().await;
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bot.send_text(&room.id, "late").await;
    };
    tokio::join!(room.assert_settled("nothing", DEADLINE, |view| view.cards().is_empty()), late);
}

#[tokio::test]
async fn the_eleventh_quick_message_of_a_limited_user_is_refused() {
    let Scene { synapse, bot, room, .. } = Scene::limited().await;
    let text = json!({ "msgtype": "m.text", "body": "one of many" });
    let (mut taken, begun) = (0, Instant::now());
    let answer = loop {
        let answer = bot.try_send(&room.id, &text).await;
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        // Each five seconds make room for another.
        assert!(taken <= 11 + begun.elapsed().as_secs() / 5, "{taken} were taken");
    };
    assert!(taken >= 10, "{taken} were taken");
    assert_eq!((answer.status, answer.json()["errcode"].as_str()), (429, Some("M_LIMIT_EXCEEDED")));
    assert!(answer.header("retry-after").is_some());
    synapse.set_ratelimit(&bot, Some((0, 0))).await;
    bot.send(&room.id, text).await;
    assert_eq!(room.view().await.cards().len() as u64, taken + 1);
}

#[tokio::test]
async fn rooms_are_made_and_people_come_and_go() {
    let Scene { bot, sre, synapse, .. } = Scene::new().await;
    let alias = format!("made-by-{}", sre.local());
    let id = sre.create_room(NewRoom::named("made").public().version("11").alias(&alias)).await;
    assert!(id.ends_with(":localhost"), "rooms of version 11 name their server: {id}");
    bot.join(&format!("#{alias}:localhost")).await;
    sre.set_power_to_send(&id, 50).await;
    let text = json!({ "msgtype": "m.text", "body": "x" });
    assert_eq!(bot.try_send(&id, &text).await.json()["errcode"], "M_FORBIDDEN");
    sre.kick(&id, &bot).await;
    assert!(!bot.joined_rooms().await.contains(&id));
    sre.invite(&id, &bot).await;
    bot.join(&id).await;
    sre.ban(&id, &bot).await;
    sre.unban(&id, &bot).await;
    bot.logout().await;
    assert_eq!(bot.try_send(&id, &text).await.json()["errcode"], "M_UNKNOWN_TOKEN");
    let again = bot.on_a_new_device().await;
    assert_ne!(again.device_id, bot.device_id);
    synapse.deactivate(&again).await;
    assert_eq!(again.try_send(&id, &text).await.status, 401);
}

#[tokio::test]
async fn a_private_homeserver_stops_and_comes_back_with_its_data() {
    let mut synapse = Homeserver::private().await;
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
    bot.send_text(&room.id, "before").await;
    synapse.stop().await;
    assert!(crate::harness::http::client().get(synapse.url()).send().await.is_err(), "it still listens");
    synapse.start().await;
    bot.send_text(&room.id, "between").await;
    synapse.kill9();
    synapse.start().await;
    assert_eq!(room.view().await.cards().len(), 2);
}

#[tokio::test]
async fn a_rule_fires_and_resolves_through_real_servers() {
    let (capture, switch) = (WebhookCapture::start().await, Switch::start().await);
    switch.set(r#"demo_up{node="n01"}"#, 1.0);
    let alertmanager = Alertmanager::start(AlertmanagerConfig::webhook(&capture.url()).bearer("the-token")).await;
    let rules = r#"groups: [{ name: g, rules: [{ alert: NodeDown, expr: demo_up == 0,
        labels: { severity: critical }, annotations: { summary: "{{ $labels.node }} is down" } }] }]"#;
    let config = PrometheusConfig::new(rules).alertmanager(&alertmanager).scrape("demo", &switch);
    let prometheus = Prometheus::start(config).await;
    let scraped = async || prometheus.query("demo_up == 1").await.get(0).cloned();
    eventually("the page is scraped", DEADLINE, scraped).await;
    assert!(capture.payloads().is_empty());

    switch.set(r#"demo_up{node="n01"}"#, 0.0);
    let firing = capture.wait_for("firing", DEADLINE, |payload| payload["status"] == "firing").await;
    assert_eq!(firing["alerts"][0]["annotations"]["summary"], "n01 is down");
    assert_eq!(capture.posts()[0].0.as_deref(), Some("Bearer the-token"));
    switch.set(r#"demo_up{node="n01"}"#, 1.0);
    let resolved = capture.wait_for("resolved", DEADLINE, |payload| payload["status"] == "resolved").await;
    assert_eq!(resolved["alerts"][0]["fingerprint"], firing["alerts"][0]["fingerprint"]);
}

#[tokio::test]
async fn two_alertmanagers_form_a_cluster_that_shares_silences() {
    let capture = WebhookCapture::start().await;
    let config = AlertmanagerConfig::webhook(&capture.url());
    let first = Alertmanager::start(config.clone().clustered()).await;
    let second = Alertmanager::start(config.peer_of(&first)).await;
    let size = async || (first.cluster_size().await == 2 && second.cluster_size().await == 2).then_some(());
    eventually("a cluster of two", DEADLINE, size).await;
    let silence = first.silence(Silence::of(&[("alertname", "Quiet")])).await;
    let shared = async || (second.silences().await[0]["id"] == silence.as_str()).then_some(());
    eventually("the second knows the silence", DEADLINE, shared).await;

    let groups = || -> Vec<Value> {
        capture.payloads().into_iter().map(|payload| payload["groupLabels"]["alertname"].clone()).collect()
    };
    let (loud, quiet) = (&[("alertname", "Loud")], &[("alertname", "Quiet")]);
    for alertmanager in [&first, &second] {
        alertmanager.post_alerts(&[AlertToPost::firing(quiet), AlertToPost::firing(loud)]).await;
    }
    capture.wait_for("firing", DEADLINE, |payload| payload["status"] == "firing").await;
    for alertmanager in [&first, &second] {
        alertmanager.post_alerts(&[AlertToPost::resolved(loud)]).await;
    }
    capture.wait_for("resolved", DEADLINE, |payload| payload["status"] == "resolved").await;
    assert!(!groups().contains(&json!("Quiet")), "{:?}", groups());
    first.expire_silence(&silence).await;
    eventually("no longer silenced", DEADLINE, async || groups().contains(&json!("Quiet")).then_some(())).await;
}

#[test]
fn payloads_look_like_captured_ones() {
    let captured = fixture("webhook-firing-single");
    let labels = serde_json::from_value(captured["alerts"][0]["labels"].clone()).expect("labels");
    assert_eq!(fingerprint(&labels), captured["alerts"][0]["fingerprint"]);

    let ours: Value = Payload::group("DiskFull").firing(&["n02"]).alert(Alert::resolved("n01").critical()).into();
    let keys = |value: &Value| {
        let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&ours), keys(&captured));
    assert_eq!(keys(&ours["alerts"][0]), keys(&captured["alerts"][0]));
    assert_eq!(ours["groupKey"], r#"{}:{alertname="DiskFull"}"#);
    assert_eq!(ours["status"], "firing");
    assert_eq!(ours["alerts"][0]["labels"]["instance"], "n01", "sorted by instance");
    assert_eq!(ours["alerts"][0]["endsAt"], at(120).to_string());
    assert_eq!(ours["alerts"][1]["endsAt"], captured["alerts"][0]["endsAt"]);
    assert_eq!(ours["commonLabels"], json!({ "alertname": "DiskFull" }));
}

#[test]
fn metrics_are_read() {
    let text =
        "# HELP x y\nmatrix_alertmanager_receiver_a{b=\"c\",d=\"e \\\"f\\\" }\"} 2\na{b=\"g\"} 1.5\nup 1 1700000000\n";
    let samples = Samples::parse(text);
    assert_eq!(samples.sum("a", &[]).to_string(), "3.5");
    assert_eq!(samples.sum("a", &[("d", "e \"f\" }")]).to_string(), "2");
    assert_eq!(samples.names(), ["a", "matrix_alertmanager_receiver_a", "up"]);
}

#[tokio::test]
async fn a_receiver_that_cannot_start_is_reported_with_its_end() {
    let bot = Homeserver::shared().await.user("alerts").await;
    let failure = ReceiverBuilder::new(&bot).toml("[nonsense]\nx = 1").try_start().await.expect_err("an unknown key");
    assert!(failure.status.is_some(), "{failure}");
}

const REAPED: &str = "MAR_SELFTEST_REAPED";

/// Runs itself once more, kills that, and looks for what it left.
#[tokio::test]
async fn nothing_outlives_a_killed_test_process() {
    let scratch = Scratch::new("selftest");
    let notes = scratch.join("notes");
    if let Some(notes) = std::env::var_os(REAPED) {
        return hold_a_child_until_killed(&PathBuf::from(notes)).await;
    }
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args(["--exact", "harness_selftest::nothing_outlives_a_killed_test_process"]).env(REAPED, &notes);
    let mut inner = Process::spawn(&mut command, &scratch.join("log")).expect("the test binary starts");
    let written = async || std::fs::read_to_string(&notes).ok().filter(|notes| notes.ends_with('\n'));
    let written = eventually("the child runs", DEADLINE, written).await;
    let (pid, folder) = written.trim().split_once(' ').expect("two words");
    let (process, folder) = (format!("/proc/{pid}"), PathBuf::from(folder));
    assert!(Path::new(&process).exists() && folder.exists());
    inner.kill9();
    let gone = async || (!Path::new(&process).exists() && !folder.exists()).then_some(());
    eventually("the child and its folder are gone", DEADLINE, gone).await;
}

async fn hold_a_child_until_killed(notes: &Path) {
    let scratch = Scratch::new("reaped");
    let child = Process::spawn(Command::new("sleep").arg("1000"), &scratch.join("log")).expect("sleep starts");
    std::fs::write(notes, format!("{} {}\n", child.pid(), scratch.path().display())).expect("notes");
    std::future::pending::<()>().await;
}
