//! Events whose answer never came: found out about, not guessed.

use std::{sync::Mutex, time::Duration};

use sqlx::Connection as _;

use crate::harness::{
    DEADLINE, Exchange, Fault, FaultProxy, Homeserver, Kind, Match, NewRoom, Payload, Receiver, ReceiverBuilder, Reply,
    Room, RoomView, Scene,
};

/// How long a room is watched for a second message that must not come.
const QUIET: Duration = Duration::from_secs(2);

fn one_card(view: &RoomView, needle: &str) -> bool {
    view.cards().len() == 1 && view.card().has(needle)
}

/// A receiver that was killed before the answer to its first send came, with the event in the room or not.
async fn killed_in_doubt(scene: &Scene, proxy: &FaultProxy, arrived: bool) -> Receiver {
    let mut receiver = ReceiverBuilder::of(scene).homeserver(&proxy.url()).start().await;
    let mut answers = proxy.hold(Match::sends());
    if !arrived {
        proxy.fault(Match::sends(), Fault::Hang);
    }
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    if arrived {
        let held = answers.next(DEADLINE).await;
        receiver.kill9();
        held.cut();
    } else {
        proxy.wait_for("the send", DEADLINE, |exchange| exchange.kind == Kind::Send).await;
        receiver.kill9();
    }
    proxy.heal();
    receiver
}

/// As if the first try of every op had been that long ago.
async fn age(receiver: &mut Receiver, hours: i64) {
    let ops = "UPDATE op SET first_try = first_try - $1 WHERE state IN ('in_flight', 'in_doubt')";
    change(receiver, ops, hours).await;
}

/// Changes one row of the stopped receiver's store.
async fn change(receiver: &mut Receiver, sql: &'static str, hours: i64) {
    receiver.sigterm(DEADLINE).await;
    let mut store = receiver.store().open().await;
    let changed = sqlx::query(sql).bind(hours * 3_600_000).execute(&mut store).await.expect("changed");
    assert_eq!(changed.rows_affected(), 1, "one row: {sql}");
    store.close().await.expect("closed");
}

/// A receiver, stopped, whose store is a copy from before the card that the room has for a group that still fires.
async fn restored(scene: &Scene, proxy: &FaultProxy) -> Receiver {
    let mut receiver = ReceiverBuilder::of(scene).homeserver(&proxy.url()).start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    proxy.down().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    receiver.sigterm(DEADLINE).await;
    let copy = receiver.store().backup();
    proxy.up().await;
    receiver.restart().await;
    scene.room.wait_for("its card", DEADLINE, |view| view.cards().len() == 2).await;
    receiver.sigterm(DEADLINE).await;
    receiver.store().restore(copy);
    receiver
}

async fn on_another_device(receiver: &mut Receiver, scene: &Scene) {
    let token = scene.bot.on_a_new_device().await.access_token;
    receiver.reconfigure(&format!("[matrix]\naccess_token = {token:?}"));
}

async fn adopted(receiver: &Receiver) {
    receiver.wait_metric("room_events_total", &[("outcome", "adopted")], |adopted| adopted == 1.0).await;
}

async fn duplicates(receiver: &Receiver) -> f64 {
    receiver.metric("possible_duplicates_total", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn older_than_a_day_and_in_the_room_is_not_sent_again() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = killed_in_doubt(&scene, &proxy, true).await;
    age(&mut receiver, 25).await;
    proxy.forget();
    receiver.restart().await;
    adopted(&receiver).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    scene.room.wait_for("green", DEADLINE, |view| one_card(view, "RESOLVED")).await;
    let sends = proxy.seen(Kind::Send);
    assert!(sends.iter().all(|send| send.body.get("m.relates_to").is_some()), "no card again: {sends:#?}");
    assert_eq!(duplicates(&receiver).await, 0.0);
}

/// Nobody remembers the transaction id here: only reading the room prevents a second card.
#[tokio::test(flavor = "multi_thread")]
async fn another_device_finds_what_the_first_one_sent() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = killed_in_doubt(&scene, &proxy, true).await;
    on_another_device(&mut receiver, &scene).await;
    receiver.restart().await;
    adopted(&receiver).await;
    scene.room.assert_settled("one card", QUIET, |view| view.cards().len() == 1).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    scene.room.wait_for("green", DEADLINE, |view| one_card(view, "RESOLVED")).await;
    assert_eq!(duplicates(&receiver).await, 0.0);
}

/// Our clock was ahead of the homeserver's by hours, or behind it: by which of the two an event is dated must not matter.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_disagrees_with_the_homeservers_makes_no_second_card() {
    for hours in [-3, 3] {
        let scene = Scene::new().await;
        let proxy = FaultProxy::start(&scene.synapse.url()).await;
        let mut receiver = killed_in_doubt(&scene, &proxy, true).await;
        on_another_device(&mut receiver, &scene).await;
        age(&mut receiver, hours).await;
        receiver.restart().await;
        adopted(&receiver).await;
        scene.room.assert_settled("one card", QUIET, |view| view.cards().len() == 1).await;
        assert_eq!(duplicates(&receiver).await, 0.0);
    }
}

/// A homeserver of an unknown kind may have lost its memory with a restart, as Dendrite does: the room is read first.
#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_of_an_unknown_kind_is_read_before_a_resend() {
    let mut synapse = Homeserver::private().await;
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
    let proxy = FaultProxy::start(&synapse.url()).await;
    let versions = Match::when(|request| request.path.ends_with("/client/versions"));
    proxy.fault(versions, Fault::Respond(Reply::new(200, "application/json", r#"{"versions":["v1.2"]}"#)));
    let builder = ReceiverBuilder::new(&bot).route("default", &[&room.id]).homeserver(&proxy.url());
    let receiver = builder.start().await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    // The answer is lost, and so is the homeserver's memory: the receiver itself lives on.
    synapse.forget_transactions().await;
    proxy.heal();
    held.cut();
    receiver.wait_metric("room_events_total", &[("outcome", "adopted")], |adopted| adopted == 1.0).await;
    room.assert_settled("one card", QUIET, |view| view.cards().len() == 1).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    room.wait_for("green", DEADLINE, |view| one_card(view, "RESOLVED")).await;
    assert_eq!(duplicates(&receiver).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_forgets_transaction_ids_gets_no_second_card() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = killed_in_doubt(&scene, &proxy, true).await;
    on_another_device(&mut receiver, &scene).await;
    age(&mut receiver, 25).await;
    // More of a room than one page holds lies between.
    for n in 0..120 {
        scene.sre.send_text(&scene.room.id, &format!("talk {n}")).await;
    }
    receiver.restart().await;
    adopted(&receiver).await;
    scene.room.assert_settled("one card", QUIET, |view| view.cards().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_arrived_is_sent_once() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = killed_in_doubt(&scene, &proxy, false).await;
    on_another_device(&mut receiver, &scene).await;
    age(&mut receiver, 25).await;
    receiver.restart().await;
    scene.room.wait_for("the card", DEADLINE, |view| one_card(view, "DiskFull")).await;
    scene.room.assert_settled("one card", QUIET, |view| view.cards().len() == 1).await;
    assert!(!proxy.seen(Kind::Read).is_empty(), "the room was read first");
    assert_eq!(duplicates(&receiver).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_room_cannot_be_read_a_repeat_is_counted() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = killed_in_doubt(&scene, &proxy, true).await;
    on_another_device(&mut receiver, &scene).await;
    proxy.fault(Match::kind(Kind::Read), Fault::error(403, "M_FORBIDDEN"));
    receiver.restart().await;
    scene.room.wait_for("a repeat, which beats a loss", DEADLINE, |view| view.cards().len() == 2).await;
    assert_eq!(duplicates(&receiver).await, 1.0);
    scene.room.assert_settled("no third", QUIET, |view| view.cards().len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_than_a_day_and_not_to_be_read_a_repeat_is_counted() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = killed_in_doubt(&scene, &proxy, false).await;
    age(&mut receiver, 25).await;
    proxy.fault(Match::kind(Kind::Read), Fault::error(403, "M_FORBIDDEN"));
    receiver.restart().await;
    scene.room.wait_for("the card", DEADLINE, |view| one_card(view, "DiskFull")).await;
    assert_eq!(duplicates(&receiver).await, 1.0, "counted, since nobody can know");
}

/// The device is the same, so that only the age of the op tells that its transaction id is worth nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_has_really_forgotten_gets_no_second_card() {
    let mut synapse = Homeserver::private().await;
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
    let proxy = FaultProxy::start(&synapse.url()).await;
    let builder = ReceiverBuilder::new(&bot).route("default", &[&room.id]).homeserver(&proxy.url());
    let mut receiver = builder.start().await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    receiver.kill9();
    held.cut();
    proxy.heal();
    age(&mut receiver, 25).await;
    synapse.forget_transactions().await;
    receiver.restart().await;
    adopted(&receiver).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    room.wait_for("green", DEADLINE, |view| one_card(view, "RESOLVED")).await;
    assert_eq!(duplicates(&receiver).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restored_from_an_older_copy_counts_what_it_cannot_look_for() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = restored(&scene, &proxy).await;
    change(&mut receiver, "UPDATE card SET dirty_since = dirty_since - $1 WHERE dirty_since IS NOT NULL", 1).await;
    proxy.fault(Match::kind(Kind::Read), Fault::error(403, "M_FORBIDDEN"));
    receiver.restart().await;
    scene.room.wait_for("a repeat, which beats a loss", DEADLINE, |view| view.cards_with("DiskFull").len() == 2).await;
    assert_eq!(duplicates(&receiver).await, 1.0);
    scene.room.assert_settled("no third", QUIET, |view| view.cards().len() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restored_from_an_older_copy_knows_its_cards_again() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = restored(&scene, &proxy).await;
    receiver.restart().await;
    adopted(&receiver).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    let green = |view: &RoomView| view.cards().len() == 2 && view.cards_with("DiskFull")[0].has("RESOLVED");
    scene.room.wait_for("the same card in green", DEADLINE, green).await;
    scene.room.assert_settled("two cards", QUIET, green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_alone_fails_is_set_aside_and_arrives_in_a_plainer_form() {
    let scene = Scene::new().await;
    let team = scene.another_room("team").await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).route("team", &[&team.id]).homeserver(&proxy.url()).start().await;
    let poison: Mutex<Option<String>> = Mutex::new(None);
    let is_poison = Match::when(move |request| {
        let mut poison = poison.lock().expect("a lock");
        if request.kind == Kind::Send && poison.is_none() && request.body.to_string().contains("Poison") {
            poison.clone_from(&request.txn);
        }
        request.kind == Kind::Send && request.txn == *poison
    });
    proxy.fault(is_poison, Fault::Respond(Reply::error(500, "M_UNKNOWN")));
    receiver.accept("default", Payload::group("Poison").firing(&["n01", "n02"])).await;
    receiver.accept("default", Payload::group("Behind").firing(&["n01"])).await;
    receiver.wait_log(&["not shown yet", "server_error"]).await;
    // The homeserver answers others all the while.
    let mut cards = 0;
    while receiver.metric("room_events_total", &[("outcome", "parked")]).await == 0.0 {
        cards += 1;
        assert!(cards < 60, "not parked");
        receiver.accept("team", Payload::group(&format!("Other{cards:02}")).firing(&["n01"])).await;
        team.wait_for("others go on", DEADLINE / 2, |view| view.cards().len() == cards).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let both = |view: &RoomView| view.cards_with("Poison").len() == 1 && view.cards_with("Behind").len() == 1;
    scene.room.wait_for("both cards", DEADLINE, both).await;
    let view = scene.room.assert_settled("and nothing more", QUIET, |view| both(view) && view.cards().len() == 2).await;
    let poison = view.cards_with("Poison")[0].event_id().to_owned();
    let sends = proxy.seen(Kind::Send);
    let html = |send: &Exchange| send.body["formatted_body"].as_str().map_or(0, str::len);
    let meant = sends.iter().find(|send| send.body.to_string().contains("Poison")).expect("a send");
    let plainer = sends.iter().find(|send| send.event_id.as_ref() == Some(&poison)).expect("a send");
    assert!(plainer.txn != meant.txn && html(plainer) < html(meant), "{meant:#?}\n{plainer:#?}");
    assert!(!proxy.seen(Kind::Read).is_empty(), "its absence was proven");
    receiver.wait_metric("outbox_ops", &[("state", "parked")], |parked| parked == 0.0).await;
    assert_eq!((duplicates(&receiver).await, receiver.metric("dead_letters_total", &[]).await), (0.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_homeserver_costs_one_timeout_at_a_time() {
    let scene = Scene::new().await;
    let team = scene.another_room("team").await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).route("team", &[&team.id]).homeserver(&proxy.url()).start().await;
    proxy.fault(Match::sends(), Fault::Hang);
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    receiver.accept("team", Payload::group("B").firing(&["n01"])).await;
    // Each lane finds out for itself, at the same time.
    for room in [&scene.room.id, &team.id] {
        proxy.wait_for("a send", DEADLINE, |one| one.room.as_ref() == Some(room)).await;
        proxy.wait_for("given up", 3 * DEADLINE, |one| one.room.as_ref() == Some(room) && one.ended.is_some()).await;
    }
    proxy.forget();
    proxy.wait_for("one room again", 3 * DEADLINE, |one| one.kind == Kind::Send && one.ended.is_some()).await;
    let first = proxy.seen(Kind::Send)[0].room.clone();
    proxy.wait_for("then the other", 3 * DEADLINE, |one| one.kind == Kind::Send && one.room != first).await;
    assert_eq!(proxy.most_at_once(Kind::Send), 1);
    assert_eq!(receiver.post("default", Payload::group("C").firing(&["n01"])).await.status, 200);
    proxy.heal();
}
