//! One alert, all the way: accepted means kept, and in the room once, whatever crashes in between.

use std::time::Duration;

use crate::harness::{
    Alertmanager, AlertmanagerConfig, DEADLINE, Fault, FaultProxy, Homeserver, Kind, Match, NewRoom, Payload,
    Prometheus, PrometheusConfig, ReceiverBuilder, Room, RoomView, Scene, Switch, view::Message,
};

/// How long a room is watched for a second message that must not come.
const QUIET: Duration = Duration::from_secs(2);

const RULES: &str = r"
groups:
- name: demo
  rules:
  - alert: PodCrashLooping
    expr: demo_restarts > 3
    labels: { severity: critical }
    annotations:
      summary: Pod {{ $labels.namespace }}/{{ $labels.pod }} is crash looping
      description: Restarted {{ $value }} times.
      runbook_url: https://runbooks.example/crash
      logs_url: https://grafana.example/explore?schemaVersion=1&orgId=1&panes=%7B%22abc%22%3A%7B%22datasource%22%3A%22loki%22%2C%22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22expr%22%3A%22%7Bnamespace%3D%5C%22{{ $labels.namespace }}%5C%22%7D%22%7D%5D%7D%7D
";

fn one_card(view: &RoomView, needle: &str) -> bool {
    view.cards().len() == 1 && view.card().has(needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_fires_and_resolves_and_the_card_turns_green() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).webhook_token("hook-token").start().await;
    let config = AlertmanagerConfig::webhook(&receiver.webhook_url("default")).bearer("hook-token");
    let alertmanager = Alertmanager::start(config).await;
    let switch = Switch::start().await;
    let series = |pod: &str| format!(r#"demo_restarts{{namespace="media",pod="{pod}"}}"#);
    switch.set(&series("jellyfin-0"), 5.0);
    let prometheus =
        Prometheus::start(PrometheusConfig::new(RULES).alertmanager(&alertmanager).scrape("pods", &switch)).await;

    let view = scene.room.wait_for("the card", DEADLINE, |view| one_card(view, "CRITICAL")).await;
    let card = view.card();
    assert_eq!(card.first_line(), "🔴 CRITICAL PodCrashLooping — Pod media/jellyfin-0 is crash looping");
    assert_eq!(card.msgtype(), "m.text");
    assert_eq!(card.mentions(), Some(vec![]));
    for wanted in [">Logs</a>", ">Source</a>", ">Runbook</a>", ">Silence</a>", "<code>namespace=media</code>"] {
        assert!(card.formatted_body().contains(wanted), "{wanted} in {}", card.formatted_body());
    }
    let root = card.event_id().to_owned();

    switch.set(&series("sonarr-0"), 7.0);
    let view = scene.room.wait_for("the second pod", DEADLINE, |view| one_card(view, "2 firing")).await;
    assert!(view.card().has("sonarr-0"), "{}", view.text());
    let news =
        scene.room.wait_for("its reply", DEADLINE, |view| view.thread_of(&root).len() == 1).await.thread_of(&root);
    assert_eq!((news[0].msgtype(), news[0].has("sonarr-0")), ("m.text", true), "{}", news[0].body());

    switch.set(&series("jellyfin-0"), 0.0);
    switch.set(&series("sonarr-0"), 0.0);
    let green = |view: &RoomView| {
        one_card(view, "RESOLVED") && view.thread_of(&root).last().is_some_and(|m| m.msgtype() == "m.notice")
    };
    scene.room.wait_for("the green card and its notice", DEADLINE, green).await;
    let view = scene.room.assert_settled("green, and nothing more", QUIET, green).await;
    assert_eq!(view.card().event_id(), root, "the same card");
    assert!(view.card().first_line().starts_with("🟢 RESOLVED PodCrashLooping after "), "{}", view.text());
    assert!(receiver.metric("room_events_total", &[("kind", "card"), ("outcome", "sent")]).await >= 1.0);
    drop(prometheus);
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_and_killed_before_delivery_is_in_the_room_once() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    proxy.fault(Match::sends(), Fault::Hang);
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    receiver.kill9();
    proxy.heal();
    receiver.restart().await;
    scene.room.wait_for("the card", DEADLINE, |view| one_card(view, "DiskFull")).await;
    scene.room.assert_settled("one card", QUIET, |view| view.cards().len() == 1).await;
}

/// Killed between the commit of the webhook and anything else: the process never gets to talk to the homeserver.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_without_any_homeserver_survives_the_kill() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    proxy.down().await;
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    for instance in ["n01", "n02", "n03"] {
        receiver.accept("default", Payload::group(&format!("Disk{instance}")).firing(&[instance])).await;
    }
    receiver.kill9();
    proxy.up().await;
    receiver.restart().await;
    scene.room.wait_for("three cards", DEADLINE, |view| view.cards().len() == 3).await;
    scene.room.assert_settled("three cards", QUIET, |view| view.cards().len() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_answer_and_its_record_is_in_the_room_once() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    receiver.kill9();
    held.cut();
    proxy.heal();
    scene.room.wait_for("the event that nobody recorded", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.restart().await;
    let software = scene.synapse.software();
    receiver.wait_log(&[software.settles_doubt_by()]).await;
    scene.room.assert_settled("still one card", QUIET, |view| view.cards().len() == 1).await;
    let sends = proxy.seen(Kind::Send);
    assert_eq!(sends.len() >= 2, software.remembers_transactions(), "{sends:#?}");
    assert!(sends.iter().all(|send| send.txn == sends[0].txn && send.body == sends[0].body), "{sends:#?}");
    // And the card is known: what comes next is an edit of it.
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    scene.room.wait_for("green", DEADLINE, |view| one_card(view, "RESOLVED")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_off_on_the_wire_makes_no_second_message() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    let settled = scene.synapse.software().settles_doubt_by();
    // The card, then the reply and the edit: each arrives, and none of the first answers does.
    proxy.fault_times(1, Match::sends(), Fault::CutAfter);
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let root =
        scene.room.wait_for("the card", DEADLINE, |view| one_card(view, "n01")).await.card().event_id().to_owned();
    receiver.wait_log(&["kind=\"card\"", settled]).await;
    proxy.fault_times(2, Match::sends(), Fault::CutAfter);
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01", "n02"])).await;
    let whole = |view: &RoomView| {
        view.cards().len() == 1 && view.edits_of(&root).len() == 1 && view.thread_of(&root).len() == 1
    };
    scene.room.wait_for("one edit and one reply", DEADLINE, whole).await;
    receiver.wait_log(&["kind=\"edit\"", settled]).await;
    scene.room.assert_settled("one of each", QUIET, whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_was_down_gets_the_newest_state_once() {
    let mut synapse = Homeserver::private().await;
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
    let receiver = ReceiverBuilder::new(&bot).route("default", &[&room.id]).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    room.wait_for("the first card", DEADLINE, |view| view.cards().len() == 1).await;

    synapse.stop().await;
    // Found down before anything is sent: on a connection from before it may be in doubt, and is then sent once more.
    receiver.wait_metric("homeserver_up", &[], |up| up == 0.0).await;
    receiver.accept("default", Payload::group("Before").firing(&["n01", "n02"])).await;
    receiver.wait_log(&["kind=\"reply\"", "not shown yet"]).await;
    receiver.accept("default", Payload::group("Before").resolved(&["n01", "n02"])).await;
    receiver.accept("default", Payload::group("During").firing(&["n01"])).await;
    receiver.accept("default", Payload::group("During").resolved(&["n01"])).await;
    receiver.accept("default", Payload::group("Still").firing(&["n03"])).await;
    synapse.start().await;

    let newest = |view: &RoomView| {
        let shows = |name: &str, state: &str| {
            let cards = view.cards_with(name);
            cards.len() == 1 && cards[0].has(state)
        };
        view.cards().len() == 3
            && shows("Before", "RESOLVED")
            && shows("During", "RESOLVED")
            && shows("Still", "WARNING")
    };
    room.wait_for("the newest state of all three", DEADLINE * 2, newest).await;
    let view = room.assert_settled("and nothing more", QUIET, newest).await;
    let thread = view.thread_of(view.cards_with("Before")[0].event_id());
    assert_eq!(thread.iter().map(Message::msgtype).collect::<Vec<_>>(), ["m.notice"], "no replay: {}", view.text());
    let during = &view.cards_with("During")[0];
    assert_eq!((during.msgtype(), during.edits), ("m.notice", 0), "over before it was shown: one resolved card");
    receiver.wait_metric("homeserver_up", &[], |up| up == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_webhooks_lose_nothing_and_share_commits() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let commits = receiver.metric("store_commit_seconds_count", &[]).await;
    let groups = ["One", "Two", "Three", "Four"];
    let posts = (0..64_usize).map(|n| {
        // Each payload is the whole group so far, as Alertmanager would send it.
        let instances: Vec<String> = (0..=n / 4).map(|i| format!("n{i:02}")).collect();
        let names: Vec<&str> = instances.iter().map(String::as_str).collect();
        receiver.try_post("default", Payload::group(groups[n % 4]).firing(&names))
    });
    for answer in futures_util::future::join_all(posts).await {
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let mut notifications = 0.0;
    for outcome in ["opened", "changed", "unchanged"] {
        notifications += receiver.metric("notifications_total", &[("outcome", outcome)]).await;
    }
    assert_eq!(notifications, 64.0);
    let view = scene.room.wait_for("four cards", DEADLINE, |view| view.cards().len() == 4).await;
    for group in groups {
        assert_eq!(view.cards_with(group).len(), 1, "{}", view.text());
    }
    let shared = receiver.metric("store_commit_commands_total", &[]).await
        / (receiver.metric("store_commit_seconds_count", &[]).await - commits);
    assert!(shared > 1.2, "{shared} commands for each commit");
    // The state is that of some order: sending each group's largest payload last settles it.
    for group in groups {
        let all: Vec<String> = (0..16).map(|i| format!("n{i:02}")).collect();
        let names: Vec<&str> = all.iter().map(String::as_str).collect();
        receiver.accept("default", Payload::group(group).firing(&names)).await;
    }
    scene
        .room
        .wait_for("all sixteen on each card", DEADLINE, |view| {
            view.cards().len() == 4 && view.cards().iter().all(|card| card.has("16 firing"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_out() {
    let scene = Scene::limited().await;
    let receiver = ReceiverBuilder::of(&scene).set("routes.default.digest_above", 0).start().await;
    for n in 0..13 {
        receiver.accept("default", Payload::group(&format!("Group{n:02}")).firing(&["n01"])).await;
    }
    scene.room.wait_for("all thirteen", DEADLINE * 2, |view| view.cards().len() == 13).await;
    // Nothing is sent while the limit holds: no more refusals than there were waits.
    let limited = receiver.metric("rate_limited_total", &[]).await;
    assert!((1.0..=5.0).contains(&limited), "{limited} answers with 429 for three messages over the burst");
    scene.room.assert_settled("thirteen", QUIET, |view| view.cards().len() == 13).await;
    receiver.wait_metric("outbox_ops", &[("state", "waiting")], |waiting| waiting == 0.0).await;
}
