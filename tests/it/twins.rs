//! Two real Alertmanagers of one cluster, which disagree and die.

use std::time::Duration;

use crate::harness::{
    AlertToPost, Alertmanager, AlertmanagerConfig, ClusterLink, DEADLINE, ReceiverBuilder, RoomView, Scene, eventually,
};

const QUIET: Duration = Duration::from_secs(2);
const N01: &[(&str, &str)] = &[("alertname", "DiskFull"), ("instance", "n01"), ("severity", "critical")];
const N02: &[(&str, &str)] = &[("alertname", "DiskFull"), ("instance", "n02"), ("severity", "critical")];

/// Gossip goes through forwarders that the test closes: the twins run on and hear nothing of each other, which is what a
/// partition is. (One stopped by a signal would not notify at all.) Each then believes that it alone has to notify.
#[tokio::test(flavor = "multi_thread")]
async fn parted_twins_say_it_once_and_the_survivor_turns_the_card_green() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let (mut to_first, mut to_second) = (ClusterLink::start().await, ClusterLink::start().await);
    let config = AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
    let mut first = Alertmanager::start(config.clone().clustered().behind(&to_first)).await;
    let second = Alertmanager::start(config.behind(&to_second).peer_of(&first)).await;
    let size = async || (first.cluster_size().await == 2 && second.cluster_size().await == 2).then_some(());
    eventually("a cluster of two", DEADLINE, size).await;
    let both = async |alerts: &[AlertToPost]| {
        first.post_alerts(alerts).await;
        second.post_alerts(alerts).await;
    };

    both(&[AlertToPost::firing(N01)]).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let root = view.card().event_id().to_owned();
    // Longer than the second twin waits for the first one's word.
    scene.room.assert_settled("one card", Duration::from_secs(3), |view| view.by_bot().count() == 1).await;
    let heard = receiver.metric("notifications_total", &[]).await;
    assert_eq!(heard, 1.0, "while they hear each other, one of them notifies");

    to_first.cut().await;
    to_second.cut().await;
    both(&[AlertToPost::firing(N02)]).await;
    receiver.wait_metric("notifications_total", &[], |heard| heard >= 3.0).await;
    let reported = |view: &RoomView| {
        let thread = view.thread_of(&root);
        view.cards().len() == 1
            && view.card().has("2 firing")
            && view.edits_of(&root).len() == 1
            && thread.len() == 1
            && thread[0].has("new on n02")
    };
    scene.room.assert_settled("both have notified, and it is said once", QUIET, reported).await;

    first.kill9();
    second.post_alerts(&[AlertToPost::resolved(N01), AlertToPost::resolved(N02)]).await;
    let green = |view: &RoomView| {
        let thread = view.thread_of(&root);
        view.cards().len() == 1
            && view.card().has("RESOLVED")
            && thread.len() == 2
            && thread[1].msgtype() == "m.notice"
            && thread[1].has("resolved after")
    };
    let view = scene.room.wait_for("green by the survivor", DEADLINE, green).await;
    assert_eq!(view.card().event_id(), root, "the same card");
    scene.room.assert_settled("and nothing more", QUIET, green).await;
}
