//! The wall clock of the receiver's machine is set, by days, while alerts are open and heartbeats are watched.

use crate::harness::{
    DEADLINE, FaultProxy, Match, Payload, Reader, Receiver, ReceiverBuilder, RoomView, Scene, WallClock, only_sqlite,
};

const QUIET: std::time::Duration = std::time::Duration::from_secs(1);
const DAY: i64 = 86_400;

async fn with(scene: &Scene, clock: &WallClock, keys: &str) -> Receiver {
    ReceiverBuilder::of(scene).wall_clock(clock).toml(&format!("[routes.default]\n{keys}")).start().await
}

fn group(name: &str) -> Payload {
    Payload::group(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_by_days_closes_nothing_and_is_told_once() {
    let (scene, clock) = (Scene::new().await, WallClock::new());
    let mut receiver =
        with(&scene, &clock, "stale_after = \"1h\"\nremind_after = \"30m\"\nrepost_after = \"4h\"").await;
    receiver.accept("default", group("DiskFull").firing(&["n01"])).await;
    let view = scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    let root = view.card().event_id().to_owned();
    for (ahead, way) in [(10 * DAY, "ahead by "), (-10 * DAY, "back by ")] {
        clock.set(ahead);
        let health = receiver.health_notice(way).await;
        assert!(health.contains("the clock of this machine was set"), "{health}");
        // What is due at a start is done at once.
        receiver.restart().await;
        receiver.accept("default", group("DiskFull").firing(&["n01"]).reason("repeat interval elapsed")).await;
        let untouched =
            |view: &RoomView| view.cards().len() == 1 && view.card().edits == 0 && view.thread_of(&root).is_empty();
        scene.room.assert_settled("nothing closed, said again or posted again", QUIET, untouched).await;
    }
    let reported = receiver.logs().lines().filter(|line| line.contains("wall clock was set; shown times")).count();
    assert_eq!(reported, 2, "once for each:\n{}", receiver.log_tail());
    receiver.accept("default", group("DiskFull").resolved(&["n01"])).await;
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().first_line().contains("RESOLVED");
    scene.room.wait_for("the card turns green", DEADLINE, green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_closed_by_a_clock_that_was_ahead_fires_again_on_one_card() {
    let (scene, clock) = (Scene::new().await, WallClock::new());
    clock.set(3 * DAY);
    let mut receiver = with(&scene, &clock, "reopen_after = \"0s\"").await;
    receiver.accept("default", group("DiskFull").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.accept("default", group("DiskFull").resolved(&["n01"])).await;
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().first_line().contains("RESOLVED");
    scene.room.wait_for("it is green", DEADLINE, green).await;
    clock.set(0);
    receiver.restart().await;
    receiver.accept("default", group("DiskFull").firing(&["n01"])).await;
    scene.room.wait_for("a second card", DEADLINE, |view| view.cards().len() == 2).await;
    receiver.accept("default", group("DiskFull").firing(&["n01", "n02"])).await;
    receiver.accept("default", group("DiskFull").resolved(&["n01", "n02"])).await;
    let both_green = |view: &RoomView| {
        view.cards().len() == 2 && view.cards().iter().all(|card| card.first_line().contains("RESOLVED"))
    };
    scene.room.assert_settled("two cards, both green", QUIET, both_green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_keeps_no_green_note_waiting() {
    let (scene, clock) = (Scene::new().await, WallClock::new());
    let mut receiver = with(&scene, &clock, "digest_above = 2").await;
    for (count, name) in ["One", "Two", "Three"].into_iter().enumerate() {
        receiver.accept("default", group(name).firing(&["n01"])).await;
        scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == count + 1).await;
    }
    // Accepted by a process that cannot send any more, so that the clock is set while the notes wait.
    receiver.accept("default", group("One").resolved(&["n01"])).await;
    receiver.kill9();
    clock.set(-3 * DAY);
    receiver.spawn();
    receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    let green =
        |view: &RoomView| view.cards().iter().filter(|card| card.first_line().contains("RESOLVED")).count() == 1;
    scene.room.wait_for("the card turns green", DEADLINE, green).await;
    if only_sqlite("the wall clock of before is known") {
        receiver.wait_log(&["wall clock changed while the receiver was stopped"]).await;
    }
}

/// The SDK asks the clock again when it encrypts, and would panic.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_while_a_room_s_keys_are_shared_only_makes_another_key() {
    let (scene, clock) = (Scene::encrypted().await, WallClock::new());
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let reader = Reader::new(&scene.sre).await;
    let mut shared = proxy.hold(Match::when(|one| one.path.contains("/sendToDevice/")));
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).wall_clock(&clock).start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    for ahead in [-DAY, 10 * DAY] {
        let keys = shared.next(DEADLINE).await;
        clock.set(ahead);
        keys.release();
    }
    proxy.heal();
    reader.reads(&scene.room, "DiskFull").await;
    receiver.wait_log(&["the room's key has run out since it was shared"]).await;
    assert_eq!(receiver.metric("lane_panics_total", &[]).await, 0.0);
    let one = |view: &RoomView| {
        let sealed =
            view.events.iter().filter(|event| event.event_type == "m.room.encrypted" && event.sender == view.bot);
        sealed.count() == 1
    };
    scene.room.assert_settled("one event", QUIET, one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_by_days_misses_no_heartbeat_and_hides_none_that_is_missing() {
    let (scene, clock) = (Scene::new().await, WallClock::new());
    let mut receiver = with(
        &scene,
        &clock,
        "heartbeats = [{ name = \"prometheus\", match = { alertname = \"Watchdog\" }, timeout = \"20s\" }]",
    )
    .await;
    let beat = || group("Watchdog").firing(&["n01"]);
    for (ahead, way) in [(10 * DAY, "ahead by "), (-10 * DAY, "back by ")] {
        receiver.accept("default", beat()).await;
        clock.set(ahead);
        receiver.health_notice(way).await;
        // Once while it runs, and once while it is stopped.
        receiver.accept("default", beat()).await;
        scene.room.assert_settled("no alarm", QUIET, |view| view.cards().is_empty()).await;
        receiver.kill9();
        clock.set(0);
        receiver.spawn();
        receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
        receiver.accept("default", beat()).await;
        scene.room.assert_settled("nor after a start", QUIET, |view| view.cards().is_empty()).await;
    }
    clock.set(-DAY);
    let missing = |view: &RoomView| view.cards().len() == 1 && view.card().first_line().starts_with("💔");
    scene.room.wait_for("no beat for 20 s, whatever the clock says", 2 * DEADLINE, missing).await;
}
