//! What real Alertmanagers say beyond their webhooks, and what a card makes of it.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Fault, FaultProxy, Match, Receiver, ReceiverBuilder,
    Reply, RoomView, Scene, Silence, eventually,
};

/// Longer than some polls take, and than a webhook and an edit.
const QUIET: Duration = Duration::from_secs(5);
const N01: &[(&str, &str)] = &[("alertname", "DiskFull"), ("instance", "n01"), ("severity", "critical")];
const N02: &[(&str, &str)] = &[("alertname", "DiskFull"), ("instance", "n02"), ("severity", "critical")];
const N03: &[(&str, &str)] = &[("alertname", "DiskFull"), ("instance", "n03"), ("severity", "critical")];
const CAUSE: &[(&str, &str)] = &[("alertname", "NodeDown"), ("instance", "n01"), ("severity", "critical")];

/// A receiver that is not started, so that Alertmanager can be configured to post to it.
fn unstarted(scene: &Scene) -> Receiver {
    ReceiverBuilder::of(scene).unstarted()
}

/// Starts it with these peers.
async fn start(receiver: &mut Receiver, peers: &[String], poll: &str) {
    receiver.reconfigure(&format!("[alertmanager]\nurls = {peers:?}\npoll = \"{poll}\"\n"));
    receiver.spawn();
    receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn alertmanager_of(receiver: &Receiver) -> Alertmanager {
    Alertmanager::start(AlertmanagerConfig::webhook(&receiver.webhook_url("default"))).await
}

/// From now on this peer says that it has run for years.
fn has_run_for_long(proxy: &FaultProxy) {
    let status = json!({
        "uptime": "2020-01-01T00:00:00.000Z",
        "cluster": { "status": "ready", "peers": [] },
        "config": { "original": "receivers:\n- name: matrix\n" },
        "versionInfo": { "version": "0.25.0" },
    });
    let reply = Reply::new(200, "application/json", &status.to_string());
    proxy.fault(Match::when(|request| request.path.ends_with("/api/v2/status")), Fault::Respond(reply));
}

/// From now on this peer lists nothing.
fn lists_nothing(proxy: &FaultProxy) {
    let reply = Reply::new(200, "application/json", "[]");
    proxy.fault(Match::when(|request| request.path.ends_with("/api/v2/alerts/groups")), Fault::Respond(reply));
}

/// Whether the only card is an edit that begins so, and nothing was said in its thread.
fn is_edited_to<'a>(root: &'a str, start: &'a str, needles: &'a [&'a str]) -> impl Fn(&RoomView) -> bool {
    move |view| {
        let card = view.card();
        view.cards().len() == 1
            && card.event_id() == root
            && card.first_line().starts_with(start)
            && needles.iter().all(|needle| card.has(needle))
            && view.thread_of(root).is_empty()
    }
}

/// Posts these alerts and waits for their card; returns its id.
async fn fires(scene: &Scene, alertmanager: &Alertmanager, alerts: &[&[(&str, &str)]]) -> String {
    let posted: Vec<AlertToPost> = alerts.iter().map(|labels| AlertToPost::firing(labels)).collect();
    alertmanager.post_alerts(&posted).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    view.card().event_id().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn silences_made_in_alertmanagers_own_page_show_and_their_end_too() {
    let scene = Scene::new().await;
    let mut receiver = unstarted(&scene);
    let alertmanager = alertmanager_of(&receiver).await;
    start(&mut receiver, &[alertmanager.url()], "1s").await;
    let root = fires(&scene, &alertmanager, &[N01, N02]).await;
    scene.room.wait_for("both", DEADLINE, is_edited_to(&root, "🔴", &["n01", "n02"])).await;

    // The whole group: no webhook says so.
    let bob = alertmanager.silence(Silence::of(&[("instance", "n01")]).by("bob", "disk is replaced")).await;
    let eve = alertmanager.silence(Silence::of(&[("instance", "n02")]).by("eve", "")).await;
    let silenced =
        is_edited_to(&root, "🔕 SILENCED", &["silenced by bob until ", ": disk is replaced", "silenced by eve until "]);
    scene.room.wait_for("silenced", DEADLINE, silenced).await;

    alertmanager.expire_silence(&bob).await;
    let one = is_edited_to(&root, "🔴", &["1 firing, 1 silenced", "silenced by eve until "]);
    scene.room.wait_for("one fires again", DEADLINE, one).await;
    alertmanager.expire_silence(&eve).await;
    let both = is_edited_to(&root, "🔴", &["2 firing"]);
    scene.room.assert_settled("both fire again, by edits alone", QUIET, &both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_leaves_something_out_is_explained_at_once() {
    let scene = Scene::new().await;
    let mut receiver = unstarted(&scene);
    let alertmanager = alertmanager_of(&receiver).await;
    start(&mut receiver, &[alertmanager.url()], "1h").await;
    let root = fires(&scene, &alertmanager, &[N01, N02]).await;
    scene.room.wait_for("both", DEADLINE, |view| view.card().has("2 firing")).await;
    alertmanager.silence(Silence::of(&[("instance", "n01")]).by("bob", "disk is replaced")).await;
    alertmanager.post_alerts(&[AlertToPost::firing(N03)]).await;
    let explained = |view: &RoomView| {
        let card = view.card();
        card.event_id() == root && card.has("n01 silenced by bob until ") && card.has("2 firing, 1 silenced")
    };
    scene.room.wait_for("explained", DEADLINE, explained).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_ends_while_silenced_is_gone_by_the_rules_and_found_when_it_begins_again() {
    let scene = Scene::new().await;
    let mut receiver = unstarted(&scene);
    let alertmanager = alertmanager_of(&receiver).await;
    let proxy = FaultProxy::start(&alertmanager.url()).await;
    start(&mut receiver, &[proxy.url()], "1s").await;
    let root = fires(&scene, &alertmanager, &[N01]).await;
    let silence = alertmanager.silence(Silence::of(&[("instance", "n01")]).by("bob", "x")).await;
    scene.room.wait_for("silenced", DEADLINE, is_edited_to(&root, "🔕 SILENCED", &[])).await;
    alertmanager.post_alerts(&[AlertToPost::resolved(N01)]).await;

    // It has run for seconds, and may have lost what it knew.
    let unheard = is_edited_to(&root, "🔕 SILENCED", &["not heard of since"]);
    scene.room.assert_settled("not to be known", QUIET, &unheard).await;

    has_run_for_long(&proxy);
    let gone = is_edited_to(&root, "⚪ NO LONGER IN ALERTMANAGER DiskFull", &[]);
    scene.room.assert_settled("gone, by an edit", QUIET, &gone).await;

    // It begins again. To Alertmanager it never ended, so that it does not notify before `repeat_interval`.
    alertmanager.expire_silence(&silence).await;
    alertmanager.post_alerts(&[AlertToPost::firing(N01)]).await;
    let again = is_edited_to(&root, "🔴", &["DiskFull"]);
    scene.room.assert_settled("it fires again, by an edit", QUIET, again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_alertmanager_with_an_empty_memory_nothing_is_concluded() {
    let scene = Scene::new().await;
    let mut receiver = unstarted(&scene);
    let mut alertmanager = alertmanager_of(&receiver).await;
    start(&mut receiver, &[alertmanager.url()], "1s").await;
    let root = fires(&scene, &alertmanager, &[N01]).await;
    alertmanager.silence(Silence::of(&[("instance", "n01")]).by("bob", "x")).await;
    scene.room.wait_for("silenced", DEADLINE, is_edited_to(&root, "🔕 SILENCED", &[])).await;
    alertmanager.restart().await;
    let unheard = is_edited_to(&root, "🔕 SILENCED", &["not heard of since"]);
    scene.room.assert_settled("nothing is concluded", QUIET, &unheard).await;
    // Prometheus sends it again; the silence was lost with the rest.
    alertmanager.post_alerts(&[AlertToPost::firing(N01)]).await;
    scene.room.assert_settled("it fires", QUIET, is_edited_to(&root, "🔴", &["DiskFull"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_peers_that_disagree_the_one_that_has_it_is_believed() {
    let scene = Scene::new().await;
    let mut receiver = unstarted(&scene);
    let config = AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
    let first = Alertmanager::start(config.clone().clustered()).await;
    let second = Alertmanager::start(config.peer_of(&first)).await;
    let size = async || (first.cluster_size().await == 2 && second.cluster_size().await == 2).then_some(());
    eventually("a cluster of two", DEADLINE, size).await;
    let (liar, honest) = (FaultProxy::start(&first.url()).await, FaultProxy::start(&second.url()).await);
    has_run_for_long(&liar);
    has_run_for_long(&honest);
    lists_nothing(&liar);
    start(&mut receiver, &[liar.url(), honest.url()], "1s").await;
    first.post_alerts(&[AlertToPost::firing(N01)]).await;
    let root = fires(&scene, &second, &[N01]).await;
    second.silence(Silence::of(&[("instance", "n01")]).by("bob", "x")).await;
    let silenced = is_edited_to(&root, "🔕 SILENCED", &[]);
    scene.room.assert_settled("not gone", QUIET, &silenced).await;
    // Once both say so it is believed.
    lists_nothing(&honest);
    scene.room.wait_for("gone", DEADLINE, is_edited_to(&root, "⚪ NO LONGER IN ALERTMANAGER", &[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inhibited_alert_names_its_cause() {
    let scene = Scene::new().await;
    let mut receiver = unstarted(&scene);
    let mut config = AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
    config.json["inhibit_rules"] = json!([{
        "source_matchers": ["alertname = NodeDown"], "target_matchers": ["alertname = DiskFull"], "equal": ["instance"],
    }]);
    // The cause goes to another receiver, which posts nowhere.
    config.json["receivers"].as_array_mut().expect("a list").push(json!({ "name": "none" }));
    let config = config.route("routes", json!([{ "matchers": ["alertname = NodeDown"], "receiver": "none" }]));
    let alertmanager = Alertmanager::start(config).await;
    start(&mut receiver, &[alertmanager.url()], "1s").await;
    let root = fires(&scene, &alertmanager, &[N01]).await;
    alertmanager.post_alerts(&[AlertToPost::firing(CAUSE)]).await;
    let inhibited = is_edited_to(&root, "🔕 INHIBITED DiskFull", &["inhibited by NodeDown"]);
    scene.room.wait_for("inhibited", DEADLINE, inhibited).await;
    alertmanager.post_alerts(&[AlertToPost::resolved(CAUSE)]).await;
    scene.room.assert_settled("it fires again", QUIET, is_edited_to(&root, "🔴", &["DiskFull"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_that_cannot_be_reached_is_said_once_and_what_was_known_stays() {
    let scene = Scene::new().await;
    let mut receiver = unstarted(&scene);
    let alertmanager = alertmanager_of(&receiver).await;
    let proxy = FaultProxy::start(&alertmanager.url()).await;
    start(&mut receiver, &[proxy.url()], "1s").await;
    let root = fires(&scene, &alertmanager, &[N01]).await;
    alertmanager.silence(Silence::of(&[("instance", "n01")]).by("bob", "x")).await;
    scene.room.wait_for("silenced", DEADLINE, is_edited_to(&root, "🔕 SILENCED", &[])).await;
    proxy.down().await;
    let unheard = is_edited_to(&root, "🔕 SILENCED", &["not heard of since"]);
    scene.room.assert_settled("not heard of", QUIET, &unheard).await;
    // A poll that was under way says that its answer was cut.
    let logs = receiver.logs();
    let warnings =
        logs.lines().filter(|line| line.contains("Alertmanager does not answer") && line.contains("cannot connect"));
    assert_eq!(warnings.count(), 1, "{}", receiver.log_tail());
    proxy.up().await;
    receiver.wait_log(&["INFO", "Alertmanager answers again"]).await;
    let heard =
        |view: &RoomView| is_edited_to(&root, "🔕 SILENCED", &[])(view) && !view.card().has("not heard of since");
    scene.room.wait_for("heard of again", DEADLINE, heard).await;
}
