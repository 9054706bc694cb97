//! What is said, and how often, while nothing happens or nothing can be done: the log, and health.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    DEADLINE, Exchange, Fault, FaultProxy, Homeserver, Kind, Match, NewRoom, Outcome, Payload, Receiver,
    ReceiverBuilder, Reply, Room, RoomView, Scene, eventually, only_sqlite,
};

const IDLE: Duration = Duration::from_mins(1);

fn shows(needle: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(needle).len() == 1
}

async fn health(receiver: &Receiver) -> Value {
    receiver.get("/healthz").await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_plain_room_is_no_reason_to_warn() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).set("log.filter", "info").start().await;
    // A start with a session of an earlier run has more to say.
    receiver.restart().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("Before")).await;
    // The minute is what is tested.
    tokio::time::sleep(IDLE).await;
    let log = receiver.logs();
    let loud: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert!(log.contains(" INFO ") && loud.is_empty(), "{loud:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_logged_once_and_not_with_its_text_doubled() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene).without("matrix.access_token").set("log.filter", "info");
    let file = builder.file("token", &scene.bot.access_token);
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = builder.homeserver(&proxy.url());
    let receiver = builder.set("matrix.access_token_file", file.as_str()).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("Before")).await;
    // What is in doubt asks for the session each time that it is tried.
    proxy.fault(Match::sends(), Fault::CutAfter);
    receiver.accept("default", Payload::group("Doubt").firing(&["n01"])).await;
    receiver.wait_log(&["not shown yet", "in_doubt=true"]).await;
    scene.bot.call(Method::POST, "/v3/logout", Some(&json!({}))).await.expect_ok("logout");
    let reported = if only_sqlite("the device that sends also hears") {
        "cannot send to the homeserver"
    } else {
        // What the shared device asks for is sends.
        proxy.heal();
        "cannot use the shared device"
    };
    for n in 0..3 {
        receiver.accept("default", Payload::group(&format!("During{n}")).firing(&["n01"])).await;
    }
    receiver.wait_log(&[reported, "M_UNKNOWN_TOKEN"]).await;
    // Some tries of the lane, and one of the account.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let log = receiver.logs();
    let reported: Vec<&str> = log.lines().filter(|line| line.contains("M_UNKNOWN_TOKEN")).collect();
    assert_eq!(reported.len(), 1, "{reported:#?}");
    let twice = |line: &str| line.matches("token rejected").count() + line.matches("token_rejected: ").count() > 1;
    assert!(!log.lines().any(twice), "{log}");
    let shown = health(&receiver).await.to_string();
    assert!(!shown.contains("token_rejected: token rejected"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_cannot_be_entered_shows_before_its_first_alert() {
    let scene = Scene::new().await;
    let closed = scene.sre.create_room(NewRoom::named("closed")).await;
    let builder = ReceiverBuilder::of(&scene).route("closed", &[&closed]);
    let receiver = builder.start().await;
    let room = |health: &Value| health["parts"]["routes"]["closed"]["rooms"]["closed/1"].clone();
    let held = eventually("held", DEADLINE, async || {
        let json = health(&receiver).await;
        (room(&json)["status"] == "degraded").then_some(json)
    });
    let held = held.await;
    assert_eq!(held["status"], "degraded");
    assert!(room(&held)["reason"].as_str().is_some_and(|reason| reason.contains("not joined")), "{held:#}");
    let failing = receiver.get("/healthz/delivery").await;
    assert_eq!(failing.status, 503, "{failing:?}");

    scene.sre.invite(&closed, &scene.bot).await;
    eventually("entered", DEADLINE, async || (room(&health(&receiver).await)["status"] == "ok").then_some(())).await;
    assert_eq!(receiver.get("/healthz/delivery").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_hangs_shows_soon() {
    let mut synapse = Homeserver::private().await;
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
    let receiver = ReceiverBuilder::new(&bot).route("default", &[&room.id]).start().await;
    receiver.wait_log(&["in sync with the homeserver"]).await;
    let degraded = async |wanted: bool| {
        let json = health(&receiver).await;
        ((json["parts"]["homeserver"]["status"] == "degraded") == wanted).then_some(())
    };
    eventually("up", DEADLINE, async || degraded(false).await).await;
    synapse.freeze();
    // 15 s, and room for a busy machine; a long poll of half a minute would take longer.
    eventually("seen to hang", Duration::from_secs(25), async || degraded(true).await).await;
    synapse.thaw();
    eventually("up again", DEADLINE * 2, async || degraded(false).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_polls_that_a_proxy_cuts_are_no_fault_and_get_shorter() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    proxy.fault(Match::kind(Kind::Sync), Fault::CutAt(Duration::from_secs(10)));
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    receiver.wait_log(&["in sync with the homeserver"]).await;
    let is_up = |json: &Value| json["parts"]["homeserver"]["status"] == "ok" && json["parts"]["sync"]["status"] == "ok";
    eventually("up", DEADLINE, async || is_up(&health(&receiver).await).then_some(())).await;
    let cut = |proxy: &FaultProxy| proxy.seen(Kind::Sync).iter().filter(|sync| sync.outcome == Outcome::Cut).count();
    let watched = eventually("cut, then not any more", DEADLINE * 2, async || {
        let json = health(&receiver).await;
        assert!(is_up(&json), "{json:#}");
        let seen = proxy.seen(Kind::Sync);
        let last = seen.iter().rposition(|sync| sync.outcome == Outcome::Cut)?;
        (seen.len() > last + 3).then_some(())
    });
    watched.await;
    assert_eq!(cut(&proxy), 1, "learned from the first");
    assert!(!receiver.logs().contains("sync failed"), "{}", receiver.log_tail());
    // What is really gone still shows.
    proxy.down().await;
    eventually("down", DEADLINE, async || (health(&receiver).await["status"] == "degraded").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_joins_is_shown_as_that_and_holds_no_other_room() {
    let scene = Scene::new().await;
    let asked = scene.sre.create_room(NewRoom::named("asked").invite(&[&scene.bot])).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let joins = |request: &Exchange| request.method == Method::POST && request.path.contains("/join");
    proxy.fault(Match::when(joins), Fault::limited(Duration::from_millis(500)));
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).route("asked", &[&asked]);
    let receiver = builder.start().await;
    let room = |health: &Value| health["parts"]["routes"]["asked"]["rooms"]["asked/1"].clone();
    eventually("limited", DEADLINE, async || {
        let reported = room(&health(&receiver).await)["reason"].clone();
        reported.as_str().is_some_and(|reason| reason.starts_with("join_limited")).then_some(())
    })
    .await;
    assert_eq!(receiver.get("/healthz/delivery").await.status, 200, "a budget is not a fault");
    receiver.accept("default", Payload::group("Other").firing(&["n01"])).await;
    scene.room.wait_for("the other room's card", DEADLINE, shows("Other")).await;

    receiver.accept("asked", Payload::group("Late").firing(&["n01"])).await;
    let tried = || proxy.exchanges().iter().filter(|exchange| joins(exchange)).count();
    let before = tried();
    eventually("tried again and again", DEADLINE, async || (tried() > before + 3).then_some(())).await;
    proxy.heal();
    let asked = Room::new(&asked, &scene.sre, &scene.bot);
    asked.wait_for("the late card", DEADLINE, shows("Late")).await;
    assert!(!receiver.logs().contains("room_refused"), "{}", receiver.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_says_when_to_come_again_is_obeyed() {
    let wait = Duration::from_secs(6);
    for status in [429, 503] {
        let scene = Scene::new().await;
        let proxy = FaultProxy::start(&scene.synapse.url()).await;
        let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
        receiver.wait_log(&["in sync with the homeserver"]).await;
        let later = Reply::new(status, "text/html", "<html>later</html>").header("retry-after", "6");
        proxy.fault_times(1, Match::sends(), Fault::Respond(later));
        receiver.accept("default", Payload::group("Patience").firing(&["n01"])).await;
        scene.room.wait_for("the card", DEADLINE, shows("Patience")).await;
        let sends = proxy.seen(Kind::Send);
        let first = sends[0].ended.expect("answered");
        assert_eq!(sends[0].outcome, Outcome::Answered(status));
        assert!(sends[1..].iter().all(|send| send.began.duration_since(first) >= wait), "{status}: {sends:#?}");
    }
}
