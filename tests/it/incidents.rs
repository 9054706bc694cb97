//! What Alertmanager can say about a group, and what the room then shows: on the real chain, read by a second user.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Alert, AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Payload, Receiver, ReceiverBuilder, RoomView,
    Scene, Silence,
};

const QUIET: Duration = Duration::from_secs(2);
/// A little more than the second that tests set `remind_after` and `reopen_after` to.
const OVER_A_SECOND: Duration = Duration::from_millis(1200);

type Labels = &'static [(&'static str, &'static str)];
const N01: Labels = &[("alertname", "DiskFull"), ("instance", "n01"), ("severity", "critical")];
const N02: Labels = &[("alertname", "DiskFull"), ("instance", "n02"), ("severity", "warning")];

/// An Alertmanager that mentions a group again and again, so that a silence is heard of.
async fn repeating_alertmanager(receiver: &Receiver) -> Alertmanager {
    let config = AlertmanagerConfig::webhook(&receiver.webhook_url("default")).route("repeat_interval", json!("1s"));
    Alertmanager::start(config).await
}

/// Kind and first line of everything in the card's thread.
fn thread(view: &RoomView, root: &str) -> Vec<(String, String)> {
    view.thread_of(root).iter().map(|said| (said.msgtype().to_owned(), said.first_line().to_owned())).collect()
}

fn said(kind: &str, line: &str) -> (String, String) {
    (kind.to_owned(), line.to_owned())
}

/// The one card shows `needle`, and its thread holds `count` messages.
fn shows<'a>(root: &'a str, needle: &'a str, count: usize) -> impl Fn(&RoomView) -> bool + 'a {
    move |view| view.cards().len() == 1 && view.card().has(needle) && view.thread_of(root).len() == count
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_alert_over_a_silence_to_green_and_back() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let alertmanager = repeating_alertmanager(&receiver).await;
    let room = &scene.room;

    alertmanager.post_alerts(&[AlertToPost::firing(N01).annotation("summary", "90% used")]).await;
    let view = room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    assert_eq!(view.card().first_line(), "🔴 CRITICAL DiskFull n01 — 90% used");
    let root = view.card().event_id().to_owned();

    alertmanager.post_alerts(&[AlertToPost::firing(N02).annotation("summary", "80% used")]).await;
    let view = room.wait_for("a second alert: edit and reply", DEADLINE, shows(&root, "2 firing", 1)).await;
    let new = said("m.text", "🟠 DiskFull: new on n02 — 80% used");
    assert_eq!(thread(&view, &root), std::slice::from_ref(&new));

    let silence = alertmanager.silence(Silence::of(&[("instance", "n02")])).await;
    let view = room.wait_for("absent: an edit", DEADLINE, shows(&root, "1 no longer reported", 1)).await;
    assert!(view.card().formatted_body().contains("<em>n02</em> no longer reported"), "{}", view.text());

    alertmanager.expire_silence(&silence).await;
    room.wait_for("back soon: an edit", DEADLINE, shows(&root, "2 firing", 1)).await;
    let view = room.assert_settled("and no reply", QUIET, shows(&root, "2 firing", 1)).await;
    assert_eq!(thread(&view, &root), std::slice::from_ref(&new));

    alertmanager.post_alerts(&[AlertToPost::resolved(N02)]).await;
    let view = room.wait_for("partly resolved: edit and notice", DEADLINE, shows(&root, "1 resolved", 2)).await;
    let (kind, line) = &thread(&view, &root)[1];
    assert_eq!(kind, "m.notice");
    assert!(line.starts_with("🟢 DiskFull: n02 resolved after "), "{line}");

    alertmanager.post_alerts(&[AlertToPost::resolved(N01)]).await;
    let view = room.wait_for("green", DEADLINE, shows(&root, "🟢 RESOLVED DiskFull after ", 3)).await;
    let (kind, line) = &thread(&view, &root)[2];
    assert_eq!(kind, "m.notice");
    assert!(line.starts_with("🟢 DiskFull: resolved after "), "{line}");

    alertmanager.post_alerts(&[AlertToPost::firing(N01)]).await;
    let view = room.wait_for("firing again on the same card", DEADLINE, shows(&root, "CRITICAL", 4)).await;
    let again = said("m.text", "🔴 DiskFull: firing again on n01 (2nd time)");
    assert_eq!(thread(&view, &root)[3], again);
    let cards = ["opened", "changed", "resolved", "reopened"].map(|outcome| [("outcome", outcome)]);
    for (outcome, count) in cards.iter().zip([1.0, 4.0, 1.0, 1.0]) {
        assert_eq!(receiver.metric("notifications_total", outcome).await, count, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn back_after_a_long_silence_is_said_and_a_late_recurrence_is_a_new_card() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene)
        .set("routes.default.remind_after", "1s")
        .set("routes.default.reopen_after", "1s")
        .start()
        .await;
    let alertmanager = repeating_alertmanager(&receiver).await;
    let room = &scene.room;
    // Reminders come as well, each second; this test is not about them.
    let news = |view: &RoomView, root: &str| {
        let mut thread = thread(view, root);
        thread.retain(|(_, line)| !line.contains("still firing"));
        thread
    };

    alertmanager.post_alerts(&[AlertToPost::firing(N01), AlertToPost::firing(N02)]).await;
    let view = room.wait_for("the card", DEADLINE, |view| view.cards_with("2 firing").len() == 1).await;
    let root = view.card().event_id().to_owned();
    let silence = alertmanager.silence(Silence::of(&[("instance", "n02")])).await;
    let absent = |view: &RoomView| view.card().has("1 no longer reported") && news(view, &root).is_empty();
    room.wait_for("absent: an edit", DEADLINE, absent).await;
    room.assert_settled("for more than a second", OVER_A_SECOND, absent).await;

    alertmanager.expire_silence(&silence).await;
    let back = |view: &RoomView| view.card().has("2 firing") && news(view, &root).len() == 1;
    let view = room.wait_for("back late: edit and reply", DEADLINE, back).await;
    let (kind, line) = &news(&view, &root)[0];
    assert_eq!(kind, "m.text");
    assert!(line.starts_with("🟠 DiskFull: firing again on n02, was not reported for "), "{line}");
    assert!(line.ends_with(" s"), "{line}");

    alertmanager.post_alerts(&[AlertToPost::resolved(N01), AlertToPost::resolved(N02)]).await;
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().has("RESOLVED");
    room.wait_for("green", DEADLINE, green).await;
    room.assert_settled("for more than a second", OVER_A_SECOND, green).await;
    alertmanager.post_alerts(&[AlertToPost::firing(N01)]).await;
    let view = room.wait_for("a card of its own", DEADLINE, |view| view.cards().len() == 2).await;
    assert!(view.cards()[0].has("RESOLVED") && view.cards()[1].has("CRITICAL"), "{}", view.text());
    assert!(news(&view, &root).iter().all(|(_, line)| !line.contains("time)")), "{}", view.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_max_alerts_leaves_out_is_counted_and_never_called_resolved() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let config = AlertmanagerConfig::webhook(&receiver.webhook_url("default")).webhook_setting("max_alerts", json!(2));
    let alertmanager = Alertmanager::start(config).await;
    let names = ["n01", "n02", "n03", "n04", "n05"];
    let labels = |name: &'static str| [("alertname", "DiskFull"), ("instance", name), ("severity", "critical")];
    let all = |post: fn(&[(&str, &str)]) -> AlertToPost| names.map(|name| post(&labels(name)));

    alertmanager.post_alerts(&all(AlertToPost::firing)).await;
    let truncated = |view: &RoomView| view.cards().len() == 1 && view.card().has("2 firing, 3 not listed");
    let view = scene.room.wait_for("two listed, three counted", DEADLINE, truncated).await;
    let root = view.card().event_id().to_owned();

    alertmanager.post_alerts(&all(AlertToPost::resolved)).await;
    let open = |view: &RoomView| view.card().has("all listed are resolved, 3 not listed");
    let view = scene.room.wait_for("the listed are resolved", DEADLINE, open).await;
    assert!(view.card().first_line().starts_with("⚪ DiskFull"), "{}", view.text());
    receiver.wait_metric("incidents_open", &[("route", "default")], |open| open == 1.0).await;

    // Made by hand as Alertmanager 0.32 does (notify/notify.go), which says why it notifies; Debian's 0.25 does not.
    let listed = Payload::group("DiskFull").truncated(3).alert(Alert::resolved("n01").critical());
    receiver.accept("default", listed.reason("all alerts resolved")).await;
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().has("RESOLVED");
    let view = scene.room.wait_for("all are resolved, listed or not", DEADLINE, green).await;
    assert_eq!(view.card().event_id(), root);
    receiver.wait_metric("incidents_open", &[("route", "default")], |open| open == 0.0).await;
}

/// Made by hand as Alertmanager 0.32 does (notify/notify.go): an alert that is known, firing and not listed is resolved
/// with the others when all are, and keeps its state otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_alert_keeps_its_state_until_all_are_resolved() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let group = || Payload::group("DiskFull");
    receiver.accept("default", group().firing(&["n01", "n02"]).reason("first notification")).await;
    receiver.accept("default", group().resolved(&["n01"]).truncated(1).reason("some alerts resolved")).await;
    let partly = |view: &RoomView| view.cards().len() == 1 && view.card().has("1 firing, 1 resolved, 1 not listed");
    scene.room.wait_for("the unlisted one still fires", DEADLINE, partly).await;
    receiver.accept("default", group().resolved(&["n01"]).truncated(1).reason("all alerts resolved")).await;
    scene.room.wait_for("green", DEADLINE, |view| view.card().has("🟢 RESOLVED DiskFull")).await;
    receiver.wait_metric("incidents_open", &[("route", "default")], |open| open == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resolved_without_an_incident_is_a_resolved_card_that_wakes_nobody() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    assert_eq!((view.card().msgtype(), view.card().mentions()), ("m.notice", Some(vec![])));
    assert!(view.card().first_line().starts_with("🟢 RESOLVED DiskFull"), "{}", view.text());
}

/// A receiver without `send_resolved`, or a group that is silenced for good: it is closed, but never called resolved.
#[tokio::test(flavor = "multi_thread")]
async fn an_incident_nobody_mentions_any_more_is_closed_as_no_news() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).set("routes.default.stale_after", "2s").start().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let stale = |view: &RoomView| view.cards().len() == 1 && view.card().first_line().contains("NO NEWS");
    let view = scene.room.wait_for("closed as no news", DEADLINE, stale).await;
    assert!(!view.card().has("RESOLVED"), "{}", view.text());
    receiver.wait_metric("incidents_open", &[("route", "default")], |open| open == 0.0).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    scene.room.wait_for("reported resolved later: green", DEADLINE, |view| view.card().has("RESOLVED")).await;
    receiver.accept("default", Payload::group("Other").firing(&["n01"])).await;
    scene
        .room
        .wait_for("the other one, closed too", DEADLINE, |view| !view.cards_with("NO NEWS Other").is_empty())
        .await;
    receiver.accept("default", Payload::group("Other").firing(&["n01"])).await;
    scene.room.wait_for("firing later is a new card", DEADLINE, |view| view.cards_with("Other").len() == 2).await;
}
