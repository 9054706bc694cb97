//! An unchanged payload: when it is said again that something still fires, and when it is not.

use std::time::Duration;

use crate::harness::{DEADLINE, Payload, ReceiverBuilder, RoomView, Scene};

const QUIET: Duration = Duration::from_secs(2);
/// So long that a repeat comes before it is over, also where the machine is slow.
const REMIND_AFTER: &str = "4s";
/// More than that, from when a message is seen: it counts from when its send was answered.
const LONGER: Duration = Duration::from_secs(5);

/// The reasons are those of Alertmanager 0.32 (notify/notify.go); Debian's 0.25 gives none, so payloads are made by hand.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_repeat_reminds_and_only_after_a_while() {
    let scene = Scene::new().await;
    let never = scene.another_room("never").await;
    let receiver = ReceiverBuilder::of(&scene)
        .set("routes.default.remind_after", REMIND_AFTER)
        .route("never", &[&never.id])
        .set("routes.never.remind_after", "never")
        .start()
        .await;
    let group = || Payload::group("DiskFull").firing(&["n01", "n02"]);
    let post = async |payload: Payload| {
        receiver.accept("default", &payload).await;
        receiver.accept("never", &payload).await;
    };
    post(group().reason("first notification")).await;
    never.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let root = view.card().event_id().to_owned();
    let replies = |count: usize| {
        let root = &root;
        move |view: &RoomView| view.cards().len() == 1 && view.thread_of(root).len() == count
    };

    post(group().reason("repeat interval elapsed")).await;
    scene.room.assert_settled("too early", LONGER, replies(0)).await;
    for reason in ["new alerts added", "some alerts resolved", "unknown", "something newer"] {
        post(group().reason(reason)).await;
    }
    let outcome = async |route: &str, outcome: &str| {
        receiver.metric("notifications_total", &[("route", route), ("outcome", outcome)]).await
    };
    assert_eq!(outcome("default", "reminded").await, 0.0, "none of these reminds, late as it is");
    post(group().reason("repeat interval elapsed")).await;
    let view = scene.room.wait_for("a reminder", DEADLINE, |view| !view.thread_of(&root).is_empty()).await;
    let reminder = &view.thread_of(&root)[0];
    assert!(reminder.first_line().starts_with("🔁 DiskFull: still firing on 2, since "), "{}", view.text());
    assert_eq!((reminder.msgtype(), reminder.mentions()), ("m.text", Some(vec![])));

    scene.room.assert_settled("silent for long enough", LONGER, replies(1)).await;
    post(group()).await;
    scene.room.wait_for("a reminder without a reason", DEADLINE, replies(2)).await;
    post(group()).await;
    let view = scene.room.assert_settled("no third one right after", QUIET / 4, replies(2)).await;
    assert_eq!(view.card().edits, 0, "nothing has changed:\n{}", view.text());

    assert_eq!((outcome("default", "reminded").await, outcome("default", "unchanged").await), (2.0, 6.0));
    assert_eq!((outcome("never", "reminded").await, outcome("never", "unchanged").await), (0.0, 8.0));
    assert_eq!(never.view().await.by_bot().count(), 1);
}
