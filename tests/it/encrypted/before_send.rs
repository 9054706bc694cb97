//! Requests that go before a send fail while sends work: the room waits for its keys, and nobody blames the event.

use std::time::{Duration, Instant};

use crate::harness::{
    DEADLINE, Exchange, Fault, FaultProxy, Kind, Match, Outcome, Payload, Reader, ReceiverBuilder, Reply, RoomView,
    Scene, eventually, store::Engine,
};

/// A request for keys in front of a send to another user's devices.
#[derive(Debug, Clone, Copy)]
enum Before {
    Members,
    Query,
    Claim,
    ToDevice,
}

impl Before {
    /// `reader`: whose devices they are. The receiver asks for its own account's keys as well, to sign its device.
    fn is(self, one: &Exchange, reader: &str) -> bool {
        match self {
            Self::Members => one.path.ends_with("/members"),
            Self::Query => one.path.ends_with("/keys/query") && one.body.to_string().contains(reader),
            Self::Claim => one.path.ends_with("/keys/claim"),
            Self::ToDevice => one.path.contains("/sendToDevice/"),
        }
    }
}

fn faults() -> [Fault; 4] {
    // Larger than the homeserver takes, as far as a status tells: the key, not the event.
    let large = Fault::Respond(Reply::error(413, "M_TOO_LARGE"));
    [Fault::error(500, "M_UNKNOWN"), Fault::error(400, "M_BAD_JSON"), large, Fault::Hang]
}

fn once(needle: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(needle).len() == 1
}

async fn keys_alone_fail(before: Before, fault: Fault) {
    let what = format!("{before:?} meets {fault:?}");
    let scene = Scene::encrypted().await;
    let plain = scene.another_room("plain").await;
    let mut reader = Reader::new(&scene.sre).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).route("plain", &[&plain.id]);
    let receiver = builder.start().await;
    super::wait_signed(&receiver).await;

    let sre = scene.sre.user_id.clone();
    proxy.fault(Match::when(move |one| before.is(one, &sre)), fault);
    proxy.forget();
    let met = async || proxy.wait_for(&what, DEADLINE, |one| before.is(one, &scene.sre.user_id)).await;
    if let Before::Query = before {
        // Those of the first device are known since the first sync; they are asked for again when another comes.
        reader = Reader::new(&scene.sre.on_a_new_device().await).await;
        met().await;
    }
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    met().await;
    receiver.accept("plain", Payload::group("Open").firing(&["n01"])).await;
    plain.wait_for("plain rooms go on", DEADLINE, once("Open")).await;
    // The one that hangs is waited for for 20 s.
    let held = eventually(&what, 2 * DEADLINE, async || {
        let json = super::health(&receiver).await;
        let room = json["parts"]["routes"]["default"]["rooms"]["default/1"].clone();
        let reason = room["reason"].as_str().unwrap_or_default();
        let reported = reason.contains("keys_not_ready") && reason.contains("the room's keys");
        (room["keys"] == "not_ready" && reported).then_some((json, room))
    });
    let (json, room) = held.await;
    assert_eq!((&json["status"], &room["waiting"]), (&"degraded".into(), &1.into()), "{what}: {json:#}");
    assert_eq!(json["parts"]["routes"]["plain"]["rooms"]["plain/1"]["status"], "ok", "{what}: {json:#}");
    let labels = [("room", "default/1"), ("reason", "not_ready")];
    assert_eq!(receiver.metric("rooms_without_keys", &labels).await, 1.0, "{what}");
    let sends = proxy.exchanges().into_iter().filter(|one| one.room.as_ref() == Some(&scene.room.id)).count();
    assert_eq!(sends, 0, "{what}: sent without its keys");
    // Others still get through.
    receiver.accept("plain", Payload::group("Open").resolved(&["n01"])).await;
    plain.wait_for("with edits", DEADLINE, |view| view.card().has("RESOLVED")).await;

    proxy.heal();
    // A second try may have begun to hang.
    let released = async || (receiver.metric("rooms_without_keys", &labels).await == 0.0).then_some(());
    eventually(&what, 2 * DEADLINE, released).await;
    reader.reads(&scene.room, "Secret").await;
    let metrics = receiver.metrics().await;
    for state in ["in_doubt", "parked", "dead"] {
        assert_eq!(metrics.sum("outbox_ops", &[("state", state)]), 0.0, "{what}: {state}");
    }
    for name in ["dead_letters_total", "possible_duplicates_total"] {
        assert_eq!(metrics.sum(name, &[]), 0.0, "{what}: {name}");
    }
    receiver.wait_metric("rooms_without_keys", &[], |held| held == 0.0).await;
    let quiet = Duration::from_secs(1);
    scene.room.assert_settled("one event", quiet, |raw| super::sent(raw) == 1).await;
    assert!(once("Secret")(&reader.view(&scene.room).await), "{what}");
    super::assert_sealed(&scene.room, &["Secret"]).await;
}

async fn whatever_it_meets(before: Before) {
    let [server, refusal, large, silence] = faults().map(|fault| Box::pin(keys_alone_fail(before, fault)));
    tokio::join!(server, refusal, large, silence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_members_that_cannot_be_had_holds_the_room() {
    whatever_it_meets(Before::Members).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_devices_that_cannot_be_had_hold_the_room() {
    whatever_it_meets(Before::Query).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_time_keys_that_cannot_be_had_hold_the_room() {
    whatever_it_meets(Before::Claim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_key_that_cannot_be_shared_holds_the_room() {
    whatever_it_meets(Before::ToDevice).await;
}

/// The keys are there, and the send itself gets no answer: that is in doubt as ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_an_encrypted_room_that_is_cut_is_still_in_doubt_and_comes_once() {
    let scene = Scene::encrypted().await;
    let reader = Reader::new(&scene.sre).await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    proxy.fault_times(1, Match::sends(), Fault::CutAfter);
    receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
    receiver.wait_log(&["not shown yet", "in_doubt=true"]).await;
    reader.reads(&scene.room, "Secret").await;
    scene.room.assert_settled("one event", Duration::from_secs(1), |raw| super::sent(raw) == 1).await;
    assert_eq!(receiver.metric("possible_duplicates_total", &[]).await, 0.0);
}

/// The SDK drops the header of a page that is not Matrix's, so that it is asked for by another request.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_says_when_to_come_again_is_obeyed_by_encrypted_rooms() {
    let wait = Duration::from_secs(6);
    for status in [429, 503] {
        let scene = Scene::encrypted().await;
        let reader = Reader::new(&scene.sre).await;
        let proxy = FaultProxy::start(&scene.synapse.url()).await;
        let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
        super::wait_signed(&receiver).await;
        let later = Fault::Respond(Reply::new(status, "text/html", "<html>later</html>").header("retry-after", "6"));
        proxy.fault_times(1, Match::sends(), later.clone());
        proxy.fault(Match::kind(Kind::Whoami), later);
        receiver.accept("default", Payload::group("Secret").firing(&["n01"])).await;
        reader.reads(&scene.room, "Secret").await;
        let sends = proxy.seen(Kind::Send);
        let first = sends[0].ended.expect("answered");
        assert_eq!(sends[0].outcome, Outcome::Answered(status));
        assert!(sends[1..].iter().all(|send| send.began.duration_since(first) >= wait), "{status}: {sends:#?}");
    }
}

/// As above, for the requests that connect: who the token belongs to, and which keys its device has.
#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_refuses_to_connect_in_odd_ways_refuses_no_event() {
    for (path, status) in [("/account/whoami", 400), ("/keys/query", 400), ("/keys/query", 404), ("/keys/query", 413)] {
        let scene = Scene::new().await;
        let proxy = FaultProxy::start(&scene.synapse.url()).await;
        let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
        receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
        scene.room.wait_for("a card", DEADLINE, once("Before")).await;
        proxy.fault(Match::when(move |one| one.path.ends_with(path)), Fault::error(status, "M_BAD_JSON"));
        receiver.restart().await;
        receiver.wait_log(&["cannot send to the homeserver", "as the test wants"]).await;
        receiver.accept("default", Payload::group("Held").firing(&["n01"])).await;
        // With a device that replicas share, nothing is even tried before it is confirmed.
        let held: &[&str] = match Engine::of_this_run() {
            Engine::Sqlite => &["not shown yet", "as the test wants", "in_doubt=false"],
            Engine::Postgres | Engine::PgBouncer => &["delivery stopped; will retry", "as the test wants"],
        };
        receiver.wait_log(held).await;
        assert_eq!(receiver.metric("dead_letters_total", &[]).await, 0.0, "{path} {status}");
        proxy.heal();
        scene.room.wait_for("what was held", DEADLINE, once("Held")).await;
        assert!(!receiver.logs().contains("plainer form"), "{path} {status}");
    }
}

/// A room's only request before a send in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_room_that_cannot_be_asked_whether_it_is_encrypted_loses_nothing() {
    let scene = Scene::new().await;
    let other = scene.another_room("other").await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).route("other", &[&other.id]);
    let receiver = builder.start().await;
    receiver.accept("default", Payload::group("Before").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, once("Before")).await;
    let room = scene.room.id.clone();
    let asks = move |one: &Exchange| one.path.contains(&room) && one.path.contains("/state/m.room.encryption");
    proxy.fault(Match::when(asks), Fault::error(400, "M_BAD_JSON"));
    receiver.accept("default", Payload::group("Held").firing(&["n01"])).await;
    receiver.wait_log(&["not shown yet", "keys_not_ready", "whether the room is encrypted"]).await;
    receiver.accept("other", Payload::group("Open").firing(&["n01"])).await;
    other.wait_for("others go on", DEADLINE, once("Open")).await;
    proxy.heal();
    scene.room.wait_for("what was held", DEADLINE, once("Held")).await;
    assert_eq!(receiver.metric("dead_letters_total", &[]).await, 0.0);
}

/// The homeserver is asked for an event that is due, and not for each of those that follow it at once; what makes these wait
/// is their own way into the room, since the question for the next one is asked while one is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_go_out_together_ask_rarely_whether_the_room_is_encrypted() {
    // Far more than go out while an answer is good.
    const GROUPS: usize = 40;
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let builder = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).set("routes.default.digest_above", 0);
    let receiver = builder.start().await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("First").firing(&["n01"])).await;
    let first = answers.next(DEADLINE).await;
    for n in 0..GROUPS {
        receiver.accept("default", Payload::group(&format!("Next{n}")).firing(&["n01"])).await;
    }
    proxy.heal();
    let is_ask = |one: &Exchange| one.path.contains("/state/m.room.encryption");
    let asks = || proxy.exchanges().iter().filter(|one| is_ask(one)).count();
    let before = asks();
    assert!(before >= 1, "nothing was sent without having asked");
    let began = Instant::now();
    first.release();
    scene.room.wait_for("a card each", DEADLINE, |view| view.cards().len() == GROUPS + 1).await;
    let (asked, took) = (asks() - before, began.elapsed());
    // An answer is good for 250 ms, and some events may not have been prepared in time. Where sends take 85 ms, each asks.
    let most = 2 + 3 * usize::try_from(took.as_millis() / 250).expect("seconds");
    assert!((1..=most).contains(&asked), "{asked} times in {took:?}");
    let sends = proxy.seen(Kind::Send);
    let is_beside = |ask: &&Exchange| {
        sends.iter().any(|send| ask.began > send.began && send.ended.is_some_and(|ended| ask.began < ended))
    };
    let exchanges = proxy.exchanges();
    let beside = exchanges.iter().filter(|one| one.began > began.into() && is_ask(one)).filter(is_beside).count();
    // A send that took long, or what was not prepared in time, asks for itself.
    let one_took = took / u32::try_from(GROUPS).expect("some");
    assert!(one_took > Duration::from_millis(200) || 2 * beside > asked, "{beside} of {asked} beside a send");
}
