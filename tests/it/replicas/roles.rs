//! One leads, the others follow: take-over, what followers do, and a database that is not there yet.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::Value;

use crate::harness::{
    Browser, DEADLINE, Exchange, Fault, FaultProxy, Kind, Match, NARROW, Payload, PgBouncer, Postgres, PostgresConfig,
    Receiver, ReceiverBuilder, Scene, WIDE, eventually,
    http::Answer,
    replicas::{Replicas, name},
};

/// How long a room is watched for a second message that must not come.
const QUIET: Duration = Duration::from_secs(2);
/// A lease that is not given back ends 3.5 s after a stop at the earliest.
const GIVEN_BACK: Duration = Duration::from_secs(3);
/// Longer than a lease, the sends of its term, and the patience of most who wait.
const LONG_STOP: Duration = Duration::from_secs(30);

async fn two(scene: &Scene) -> Replicas {
    Replicas::start(ReceiverBuilder::of(scene), 2, Postgres::shared().database()).await
}

/// What `/healthz` says of replicas, once it is all well.
async fn role(receiver: &Receiver) -> Value {
    let json = eventually("all well", DEADLINE, async || {
        let json = receiver.get("/healthz").await.json();
        Some(json).filter(|json| json["status"] == "ok" && json["parts"]["replica"]["leader"].is_string())
    })
    .await;
    json["parts"]["replica"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_takes_webhooks_and_leads_within_a_second_when_the_leader_stops() {
    let scene = Scene::new().await;
    let mut replicas = two(&scene).await;
    let old = replicas.leader().await;
    let new = 1 - old;
    let (leader, follower) = (role(&replicas.all[old]).await, role(&replicas.all[new]).await);
    assert_eq!((&leader["name"], &leader["leads"]), (&name(old).into(), &true.into()), "{leader}");
    assert_eq!((&follower["name"], &follower["leads"]), (&name(new).into(), &false.into()), "{follower}");
    assert_eq!((&leader["leader"], &follower["leader"]), (&name(old).into(), &name(old).into()));
    assert_eq!(replicas.all[new].get("/readyz").await.status, 200);

    replicas.all[new].accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let root = view.card().event_id().to_owned();
    replicas.all[old].wait_log(&["shown in the room"]).await;
    let shown = |receiver: &Receiver| receiver.logs().matches("shown in the room").count();
    assert_eq!((shown(&replicas.all[old]), shown(&replicas.all[new])), (1, 0), "the leader alone sends");

    let stopped = Instant::now();
    let ended = replicas.all[old].sigterm(DEADLINE);
    ended.await;
    eventually("the other leads", DEADLINE, async || (replicas.leaders().await == [new]).then_some(())).await;
    assert!(stopped.elapsed() < GIVEN_BACK, "{:?}: the lease was not given back", stopped.elapsed());
    assert_eq!(replicas.all[new].metric("leader_changes_total", &[]).await, 1.0);
    replicas.all[new].accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    let green = |view: &crate::harness::RoomView| view.cards().len() == 1 && view.card().has("RESOLVED");
    let view = scene.room.wait_for("the end", DEADLINE, green).await;
    assert_eq!(view.card().event_id(), root);

    // Back again, it follows.
    replicas.all[old].spawn();
    replicas.all[old].ready().await.expect("ready");
    assert_eq!(role(&replicas.all[old]).await["leader"], name(new));
    assert_eq!(replicas.leader().await, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_follower_takes_reaches_the_room_without_notifications_too() {
    let scene = Scene::new().await;
    let database = Postgres::shared().database();
    let url = database.url_at(PgBouncer::shared().port());
    let replicas = Replicas::start_at(ReceiverBuilder::of(&scene), 2, database, &url).await;
    let follower = 1 - replicas.leader().await;
    role(&replicas.all[follower]).await;
    // An idle lane looks by itself once a minute; it must be the poll that wakes it.
    for number in 1..=3 {
        let posted = Instant::now();
        replicas.all[follower].accept("default", Payload::group(&format!("Disk{number}")).firing(&["n01"])).await;
        scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == number).await;
        assert!(posted.elapsed() < Duration::from_secs(20), "{:?}", posted.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_changes_nothing_after_it_was_replaced() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url());
    let mut replicas = Replicas::start(builder, 2, Postgres::shared().database()).await;
    let old = replicas.leader().await;
    let new = 1 - old;
    role(&replicas.all[old]).await;
    // Frozen and sent, with an answer that does not come.
    proxy.fault_times(1, Match::sends(), Fault::HangAfter);
    replicas.all[new].accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let is_on_its_way = |one: &Exchange| one.kind == Kind::Send && one.upstream.is_some();
    proxy.wait_for("it is on its way", DEADLINE, is_on_its_way).await;
    let since = Instant::now();
    replicas.all[old].signal("STOP");
    let leads = async || (replicas.all[new].metric("leader", &[("replica", &name(new))]).await == 1.0).then_some(());
    eventually("the other leads", DEADLINE, leads).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    replicas.all[new].accept("default", Payload::group("HostDown").firing(&["n02"])).await;
    scene.room.wait_for("the second", DEADLINE, |view| view.cards().len() == 2).await;
    tokio::time::sleep(LONG_STOP.saturating_sub(since.elapsed())).await;

    replicas.all[old].signal("CONT");
    replicas.all[old].wait_log(&["lease not renewed in time"]).await;
    // It asks who leads with its next look.
    let knows = async || (role(&replicas.all[old]).await["leader"] == name(new)).then_some(());
    eventually("it knows who leads", DEADLINE, knows).await;
    scene.room.assert_settled("nothing twice", QUIET, |view| view.cards().len() == 2).await;
    assert_eq!(replicas.leader().await, new);
    let logs = replicas.all[old].logs();
    assert!(!logs.contains("shown in the room") && !logs.contains("may be in the room twice"), "{logs}");
}

async fn refused(receiver: &Receiver, path: &str) -> (u16, String) {
    let answer = receiver.get(path).await;
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_start_waits_and_says_so() {
    let scene = Scene::new().await;
    let mut postgres = Postgres::with(&PostgresConfig::durable());
    let database = Arc::new(postgres.database());
    let url = database.url();
    let mut receiver = ReceiverBuilder::of(&scene).on(&database, &url).set("store.replica", "A").unstarted();
    postgres.kill9();
    receiver.spawn();
    receiver.wait_log(&["ERROR", "cannot open the store; will retry"]).await;
    assert_eq!(refused(&receiver, "/livez").await.0, 200);
    for path in ["/readyz", "/healthz", "/healthz/delivery", "/"] {
        let (status, body) = refused(&receiver, path).await;
        assert_eq!(status, 503, "{path}: {body}");
        assert!(body.contains("database_url"), "{path}: {body}");
    }
    assert_eq!(refused(&receiver, "/metrics").await.0, 200);
    let post =
        receiver.request(Method::POST, "/alerts/default").json(&Payload::group("DiskFull").firing(&["n01"]).json());
    let answer = Answer::to(post).await.expect("an answer");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.body);
    assert!(receiver.exit_status().is_none(), "it waits");
    // A stop is not held up.
    assert!(receiver.sigterm(DEADLINE).await.success());

    receiver.spawn();
    receiver.wait_log(&["will retry"]).await;
    postgres.start();
    receiver.ready().await.expect("ready");
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    assert_eq!(role(&receiver).await["leads"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_shows_the_same_page_and_takes_commands() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let heartbeat = "[[routes.default.heartbeats]]\nname = \"prometheus\"\nmatch = { alertname = \"Watchdog\" }\n";
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).toml(heartbeat);
    let replicas = Replicas::start(builder, 2, Postgres::shared().database()).await;
    let number = replicas.leader().await;
    let (leader, follower) = (&replicas.all[number], &replicas.all[1 - number]);
    role(follower).await;
    proxy.fault_times(3, Match::sends(), Fault::error(413, "M_TOO_LARGE"));
    follower.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    leader.wait_metric("dead_letters_total", &[], |dead| dead == 1.0).await;
    proxy.heal();
    follower.accept("default", Payload::group("Watchdog").firing(&["prometheus"])).await;

    let browser = Browser::start().await;
    browser.open(&follower.url()).await;
    let text = browser.wait_text("the follower's page", |text| text.contains("default/prometheus")).await;
    let roles = format!("replica replica-{}, leader is replica-{number}", 1 - number);
    for wanted in [roles.as_str(), "DiskFull", "Dead letters 1"] {
        assert!(text.replace('\n', " ").contains(wanted), "{wanted:?} in {text}");
    }
    for size in [NARROW, WIDE] {
        browser.resize(size).await;
        assert_eq!(browser.overflow().await, 0, "wider than {size:?}");
    }
    browser.open(&leader.url()).await;
    let text = browser.text().await;
    assert!(text.contains(&format!("replica replica-{number} leads")), "{text}");

    let run = async |args: &[&str]| {
        let output = follower.cli(args).await;
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{args:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let letters: Value = serde_json::from_str(&run(&["dead-letters", "list", "--json"]).await).expect("JSON");
    run(&["dead-letters", "retry", letters[0]["id"].as_str().expect("an id")]).await;
    scene.room.wait_for("the card, by the leader", DEADLINE, |view| view.cards_with("DiskFull").len() == 1).await;
    run(&["heartbeats", "forget", "prometheus"]).await;
    let state = async |receiver: &Receiver| {
        eventually("the switch is disarmed", DEADLINE, async || {
            let reason = receiver.get("/healthz").await.json()["parts"]["heartbeats"]["reason"].to_string();
            reason.contains("no beat has come yet").then_some(())
        })
        .await;
    };
    state(leader).await;
    state(follower).await;
}
