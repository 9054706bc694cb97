//! Who can read what, and exactly once.

use std::time::Duration;

use super::{assert_sealed, sent, wait_signed};
use crate::harness::{
    Alert, DEADLINE, Fault, FaultProxy, Kind, Match, Payload, Reader, ReceiverBuilder, RoomEvent, Scene, caught_up,
};

const QUIET: Duration = Duration::from_secs(2);
/// Bytes of a link: two for each of the alerts that a card shows fill its budget.
const LINK: usize = 970;

#[tokio::test(flavor = "multi_thread")]
async fn a_card_its_edit_and_its_replies_are_read_by_members_and_by_nobody_else() {
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["alpha-01"])).await;
    let view = reader.reads(&scene.room, "DiskFull").await;
    let root = view.card().event_id().to_owned();
    receiver.accept("default", Payload::group("DiskFull").firing(&["alpha-01", "bravo-02"])).await;
    let view = reader
        .wait_for(&scene.room, "the edit and the reply", |view| {
            view.card().has("2 firing") && view.thread_of(&root).iter().any(|reply| reply.has("bravo-02"))
        })
        .await;
    assert_eq!(view.card().msgtype(), "m.text");
    receiver.accept("default", Payload::group("DiskFull").resolved(&["alpha-01", "bravo-02"])).await;
    reader
        .wait_for(&scene.room, "green", |view| {
            view.card().has("RESOLVED")
                && view.thread_of(&root).last().is_some_and(|reply| reply.msgtype() == "m.notice")
        })
        .await;

    let raw = assert_sealed(&scene.room, &["DiskFull", "alpha-01", "bravo-02", "RESOLVED", "m.mentions", "body"]).await;
    // Relations are for homeservers as well: these stay readable, as the specification wants.
    let relation = |rel_type: &str| {
        raw.events.iter().filter(|event| event.content["m.relates_to"]["rel_type"] == rel_type).count()
    };
    assert!(relation("m.replace") >= 2 && relation("m.thread") >= 2, "{}", raw.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_encrypted_too() {
    let scene = Scene::encrypted().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let reader = Reader::new(&scene.sre).await;
    let receiver =
        ReceiverBuilder::of(&scene).homeserver(&proxy.url()).set("routes.default.digest_above", 2).start().await;
    receiver.wait_log(&["in sync with the homeserver"]).await;
    proxy.down().await;
    for group in ["Alpha", "Beta", "Gamma", "Delta"] {
        receiver.accept("default", Payload::group(group).firing(&["n01"])).await;
    }
    proxy.up().await;
    let named = |needle: &'static str| move |card: &crate::harness::view::Message| card.has(needle);
    let view = reader
        .wait_for(&scene.room, "the digest", |view| {
            let cards = view.cards();
            ["Alpha", "Beta", "Gamma", "Delta"].iter().all(|group| cards.iter().any(named(group)))
        })
        .await;
    assert!(view.cards().len() < 4, "a digest, not a card each:\n{}", view.text());
    assert_sealed(&scene.room, &["Alpha", "Beta", "Gamma", "Delta"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_device_and_a_later_member_read_the_next_alert() {
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("First").firing(&["n01"])).await;
    reader.reads(&scene.room, "First").await;

    let phone = Reader::new(&scene.sre.on_a_new_device().await).await;
    caught_up(&receiver, &scene.room).await;
    receiver.accept("default", Payload::group("Second").firing(&["n01"])).await;
    reader.reads(&scene.room, "Second").await;
    phone.reads(&scene.room, "Second").await;

    let late = scene.synapse.user("late").await;
    scene.sre.invite(&scene.room.id, &late).await;
    late.join(&scene.room.id).await;
    let late = Reader::new(&late).await;
    caught_up(&receiver, &scene.room).await;
    receiver.accept("default", Payload::group("Third").firing(&["n01"])).await;
    for reader in [&reader, &phone, &late] {
        reader.reads(&scene.room, "Third").await;
    }
    // Keys are for what is sent after one came.
    assert!(phone.view(&scene.room).await.cards_with("First").is_empty());
    assert!(late.view(&scene.room).await.cards_with("Second").is_empty());

    receiver.restart().await;
    let tablet = Reader::new(&scene.sre.on_a_new_device().await).await;
    receiver.wait_log(&["in sync with the homeserver"]).await;
    caught_up(&receiver, &scene.room).await;
    receiver.accept("default", Payload::group("Fourth").firing(&["n01"])).await;
    for reader in [&reader, &phone, &late, &tablet] {
        reader.reads(&scene.room, "Fourth").await;
    }
    receiver.accept("default", Payload::group("First").firing(&["n01", "n02"])).await;
    reader
        .wait_for(&scene.room, "an edit after the restart", |view| {
            view.cards_with("First").first().is_some_and(|card| card.has("2 firing"))
        })
        .await;
    assert_sealed(&scene.room, &["First", "Second", "Third", "Fourth"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_homeserver_took_it_is_in_the_room_once() {
    let scene = Scene::encrypted().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let reader = Reader::new(&scene.sre).await;
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    receiver.kill9();
    held.cut();
    proxy.heal();
    reader.reads(&scene.room, "DiskFull").await;
    receiver.restart().await;
    let software = scene.synapse.software();
    receiver.wait_log(&[software.settles_doubt_by()]).await;
    scene.room.assert_settled("one event", QUIET, |raw| sent(raw) == 1).await;
    let again = proxy.seen(Kind::Send).len() >= 2;
    assert_eq!(again, software.remembers_transactions(), "sent again under its transaction id");
    // The card goes on where it was.
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    reader.wait_for(&scene.room, "green", |view| view.card().has("RESOLVED")).await;
    assert_sealed(&scene.room, &["DiskFull"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_answers_make_no_second_event() {
    let scene = Scene::encrypted().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let reader = Reader::new(&scene.sre).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    proxy.fault_times(3, Match::sends(), Fault::CutAfter);
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    reader.reads(&scene.room, "DiskFull").await;
    let software = scene.synapse.software();
    receiver.wait_log(&[software.settles_doubt_by()]).await;
    scene.room.assert_settled("one event", QUIET, |raw| sent(raw) == 1).await;
    assert_eq!(proxy.sends().0 >= 4, software.remembers_transactions());
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
}

/// The largest card, and an edit that carries it twice, encrypted and in base64: what the budget is for.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_card_and_its_edit_fit() {
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let big = |alerts: usize| {
        (0..alerts).fold(Payload::group("Big"), |payload, n| {
            let link = |what: &str| format!("https://{what}.example/{n}?q={}", "%7Bx%7D".repeat(LINK / 7));
            let alert =
                Alert::firing(&format!("node-{n:04}.example.org")).annotation("summary", &"long 💥 ".repeat(40));
            payload.alert(alert.annotation("logs_url", &link("logs")).annotation("runbook_url", &link("runbook")))
        })
    };
    receiver.accept("default", big(4)).await;
    reader.reads(&scene.room, "Big").await;
    receiver.accept("default", big(5)).await;
    let view = reader.wait_for(&scene.room, "the edit", |view| view.card().edits > 0).await;
    let content = view.card().content;
    let text = content["body"].to_string().len() + content["formatted_body"].to_string().len();
    assert!(text > 20 * 1024, "a test of the budget needs a card that fills it: {text}");
    let raw = assert_sealed(&scene.room, &["node-0001"]).await;
    let bytes = |event: &RoomEvent| {
        let mut event = event.raw.clone();
        // The homeserver puts the newest edit into the card's.
        event.as_object_mut().expect("an event").remove("unsigned");
        event.to_string().len()
    };
    let largest = raw.events.iter().map(bytes).max().unwrap_or_default();
    eprintln!("text of the card {text} bytes, largest event as the client sees it {largest} bytes");
    assert!((50_000..65_536).contains(&largest), "{largest}");
    // No plainer form was needed.
    assert_eq!(receiver.metric("room_events_total", &[("outcome", "refused")]).await, 0.0);
}

/// What the SDK puts before a send is not part of what is in doubt: a failed key exchange sends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_key_exchange_sends_nothing_and_is_made_up_for() {
    let scene = Scene::encrypted().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let reader = Reader::new(&scene.sre).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    receiver.wait_log(&["in sync with the homeserver"]).await;
    proxy.fault_times(2, Match::when(|one| one.path.contains("/sendToDevice/")), Fault::error(500, "M_UNKNOWN"));
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    reader.reads(&scene.room, "DiskFull").await;
    scene.room.assert_settled("one event", QUIET, |raw| sent(raw) == 1).await;
    wait_signed(&receiver).await;
    assert_sealed(&scene.room, &["DiskFull"]).await;
}
