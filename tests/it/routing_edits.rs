//! A routing tree that is edited while something fires: with a real Alertmanager, read by a second user.

use serde_json::{Value, json};
use toml::{Table, Value as Toml};

use crate::harness::{
    AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Receiver, ReceiverBuilder, RoomView, Scene,
};

fn labels<'a>(name: &'a str, instance: &'a str) -> [(&'a str, &'a str); 3] {
    [("alertname", name), ("instance", instance), ("severity", "critical")]
}

/// Every card that names it is green.
fn is_over(name: &str, cards: usize) -> impl Fn(&RoomView) -> bool {
    move |view| {
        let shown = view.cards_with(name);
        shown.len() == cards && shown.iter().all(|card| card.first_line().starts_with(&format!("🟢 RESOLVED {name}")))
    }
}

/// Two alerts fire, the tree is edited, both go on firing on `cards` cards, and then they are resolved one by one.
async fn fires_through_an_edit(
    scene: &Scene,
    receiver: &Receiver,
    name: &str,
    cards: usize,
    edit: impl Fn(&mut Value),
) {
    let mut config = AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
    let alertmanager = Alertmanager::start(config.clone()).await;
    alertmanager.post_alerts(&["n01", "n02"].map(|instance| AlertToPost::firing(&labels(name, instance)))).await;
    scene.room.wait_for("a card", DEADLINE, |view| view.cards_with(name).iter().any(|card| card.has("2 firing"))).await;
    edit(&mut config.json);
    alertmanager.reload(&config).await;
    scene.room.wait_for("what the edit makes", DEADLINE, |view| view.cards_with(name).len() == cards).await;
    alertmanager.post_alerts(&[AlertToPost::resolved(&labels(name, "n01"))]).await;
    let partly = |view: &RoomView| {
        let shown = view.cards_with(name);
        shown.iter().any(|card| card.has("1 firing, 1 resolved")) && !shown.iter().any(|card| card.has("2 firing"))
    };
    scene.room.wait_for("one of two is over on the old card as well", DEADLINE, partly).await;
    alertmanager.post_alerts(&[AlertToPost::resolved(&labels(name, "n02"))]).await;
    scene.room.wait_for("nothing is red", DEADLINE, is_over(name, cards)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_edited_while_something_fires_leaves_nothing_red() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    fires_through_an_edit(&scene, &receiver, "Label", 3, |config| {
        config["route"]["group_by"] = json!(["alertname", "instance"]);
    })
    .await;
    fires_through_an_edit(&scene, &receiver, "Child", 2, |config| {
        config["route"]["routes"] = json!([{ "match": { "instance": "n01" }, "receiver": "matrix" }]);
    })
    .await;
    fires_through_an_edit(&scene, &receiver, "Renamed", 2, |config| {
        config["receivers"][0]["name"] = json!("renamed");
        config["route"]["receiver"] = json!("renamed");
    })
    .await;
    assert_eq!(receiver.metric("incidents_open", &[("route", "default")]).await, 0.0);
}

/// The receiver "matrix" gets a route of its own by a reload of our config.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_moves_to_another_route_goes_on_there_and_the_old_card_points_to_the_new() {
    let scene = Scene::new().await;
    let web = scene.another_room("web").await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    let alertmanager = Alertmanager::start(AlertmanagerConfig::webhook(&format!("{}/alerts", receiver.url()))).await;
    let [n01, n02] = ["n01", "n02"].map(|instance| labels("Moved", instance));
    alertmanager.post_alerts(&[AlertToPost::firing(&n01)]).await;
    scene.room.wait_for("a card", DEADLINE, |view| view.cards_with("CRITICAL Moved").len() == 1).await;
    receiver.swap_config(|config| {
        let route = Table::from_iter([
            ("rooms".to_owned(), Toml::from(vec![web.id.as_str()])),
            ("receivers".to_owned(), Toml::from(vec!["matrix"])),
        ]);
        drop(config["routes"].as_table_mut().expect("a table").insert("web".to_owned(), route.into()));
    });
    receiver.signal("HUP");
    let words = "⏩ Moved: goes on with the route web, and is no longer updated here";
    scene.room.wait_for("in plain words", DEADLINE, |view| view.card().first_line() == words).await;
    assert_eq!(receiver.metric("incidents_open", &[("route", "default")]).await, 0.0);

    alertmanager.post_alerts(&[AlertToPost::firing(&n02)]).await;
    let view = web.wait_for("the new card", DEADLINE, |view| view.cards_with("2 firing").len() == 1).await;
    let event = view.card().event_id().trim_start_matches('$').to_owned();
    let points = |view: &RoomView| view.cards().len() == 1 && view.card().has("Continued: ") && view.card().has(&event);
    let view = scene.room.wait_for("a link", DEADLINE, points).await;
    assert_eq!(view.card().first_line(), words);
    alertmanager.post_alerts(&[AlertToPost::resolved(&n01), AlertToPost::resolved(&n02)]).await;
    web.wait_for("nothing is red", DEADLINE, is_over("Moved", 1)).await;
}
