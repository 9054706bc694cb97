//! A config that changes under a running receiver, or between two runs.

use std::{fs, path::Path};

use toml::{Table, Value};

use crate::harness::{DEADLINE, NewRoom, Payload, Receiver, ReceiverBuilder, Room, RoomView, Scene, eventually};

const GONE: &str = "no longer routed here, and no longer updated";
const IN_FORCE: &str = "config reloaded";

fn group(name: &str) -> Payload {
    Payload::group(name).firing(&["n01"])
}

fn shows(needle: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(needle).len() == 1
}

/// The one card that names it has had its last edit.
fn is_closed(name: &str) -> impl Fn(&RoomView) -> bool {
    move |view| view.cards_with(name).iter().any(|card| card.first_line() == format!("🔌 {name}: {GONE}"))
}

fn routes(config: &mut Table) -> &mut Table {
    config["routes"].as_table_mut().expect("a table")
}

/// A route into one room.
fn route(room: &Room) -> Value {
    Value::Table(Table::from_iter([("rooms".to_owned(), Value::from(vec![room.id.as_str()]))]))
}

/// How often the log has a line with these words.
fn times_logged(receiver: &Receiver, words: &str) -> usize {
    receiver.logs().matches(words).count()
}

/// Reads the config again by SIGHUP and waits until it is in force.
async fn hang_up(receiver: &mut Receiver) {
    let before = times_logged(receiver, IN_FORCE);
    receiver.signal("HUP");
    eventually("in force", DEADLINE, async || (times_logged(receiver, IN_FORCE) > before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_file_brings_routes_and_rooms_and_takes_them_away() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", group("Before")).await;
    scene.room.wait_for("a card", DEADLINE, shows("Before")).await;
    assert_eq!(receiver.post("web", group("Early")).await.status, 404);

    // Private, and the bot is merely invited.
    let id = scene.sre.create_room(NewRoom::named("web").invite(&[&scene.bot])).await;
    let web = Room::new(&id, &scene.sre, &scene.bot);
    receiver.swap_config(|config| drop(routes(config).insert("web".to_owned(), route(&web))));
    receiver.wait_log(&[IN_FORCE, "changed files", "rooms_added=1", "routes_added=1"]).await;
    assert_eq!(receiver.metric("notifications_total", &[("route", "web")]).await, 0.0);
    assert!(receiver.get("/metrics").await.body.contains("route=\"web\""));
    receiver.accept("web", group("First")).await;
    receiver.accept("web", Payload::group("Second").resolved(&["n01"])).await;
    web.wait_for("both cards", DEADLINE, |view| shows("First")(view) && shows("Second")(view)).await;
    assert_eq!(receiver.get("/healthz").await.json()["parts"]["routes"]["web"]["rooms"]["web/1"]["status"], "ok");

    receiver.swap_config(|config| drop(routes(config).remove("web")));
    let view = web.wait_for("its last edit", DEADLINE, is_closed("First")).await;
    assert!(view.cards_with("Second")[0].first_line().contains("RESOLVED"), "what was over says so: {}", view.text());
    assert_eq!(receiver.post("web", group("Late")).await.status, 404);
    receiver.wait_log(&[IN_FORCE, "rooms_removed=1", "routes_removed=1"]).await;
    let metrics = receiver.get("/metrics").await.body;
    assert!(!metrics.contains("\"web\"") && !metrics.contains("web/1"), "{metrics}");
    assert!(receiver.get("/healthz").await.json()["parts"]["routes"].get("web").is_none());
    receiver.accept("default", group("After")).await;
    scene.room.wait_for("the other goes on", DEADLINE, |view| shows("Before")(view) && shows("After")(view)).await;
    assert!(!is_closed("Before")(&scene.room.view().await));
    assert_eq!(receiver.metric("config_last_reload_successful", &[]).await, 1.0);

    // And back: what it has shown it has shown, the next notification makes a new card.
    receiver.swap_config(|config| drop(routes(config).insert("web".to_owned(), route(&web))));
    eventually("the route is back", DEADLINE, async || {
        (receiver.post("web", group("First")).await.status == 200).then_some(())
    })
    .await;
    let firing = |view: &RoomView| view.cards_with("First").len() == 2 && view.cards_with("First")[1].has("WARNING");
    web.wait_for("a new card", DEADLINE, firing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_gone_closes_its_own_cards_in_a_room_that_another_uses() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).route("ops", &[&scene.room.id]).start().await;
    receiver.accept("default", group("Stays")).await;
    receiver.accept("ops", group("Goes")).await;
    scene.room.wait_for("both cards", DEADLINE, |view| shows("Stays")(view) && shows("Goes")(view)).await;
    receiver.swap_config(|config| drop(routes(config).remove("ops")));
    hang_up(&mut receiver).await;
    scene.room.wait_for("its last edit", DEADLINE, is_closed("Goes")).await;
    receiver.accept("default", Payload::group("Stays").firing(&["n01", "n02"])).await;
    let grown = |view: &RoomView| shows("Stays")(view) && view.cards_with("Stays")[0].has("2 firing");
    scene.room.wait_for("the other goes on", DEADLINE, grown).await;
    assert!(!receiver.get("/metrics").await.body.contains("route=\"ops\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_config_is_refused_once_and_the_one_before_goes_on() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene);
    let template = builder.file("card.j2", "{% if %}");
    let mut receiver = builder.start().await;
    let refused = "config is refused; the previous one stays active";
    let good = receiver.metric("config_last_reload_success_timestamp_seconds", &[]).await;
    receiver.swap_config(|config| {
        drop(config.insert(
            "templates".to_owned(),
            Value::Table(Table::from_iter([("card_html".to_owned(), template.as_str().into())])),
        ));
    });
    receiver.wait_log(&["ERROR", refused, "card.j2:1:"]).await;
    receiver.wait_log(&["config is still refused"]).await;
    assert_eq!(times_logged(&receiver, refused), 1, "said once");
    assert_eq!(receiver.metric("config_last_reload_successful", &[]).await, 0.0);
    let health = receiver.get("/healthz").await;
    let part = &health.json()["parts"]["config"];
    assert_eq!((health.status, &part["status"]), (200, &"degraded".into()), "{part:#}");
    assert!(
        part["reason"].as_str().is_some_and(|reason| reason.contains("is refused (faults: 1, which the log names)")),
        "{part:#}"
    );
    // Two faults at once, none of which may apply although the rest is good.
    receiver.swap_config(|config| {
        drop(config.remove("templates"));
        drop(config["http"].as_table_mut().expect("a table").insert("max_body_bytes".to_owned(), 1024.into()));
        let routes = routes(config);
        drop(routes.insert("web".to_owned(), route(&scene.room)));
        drop(routes["web"].as_table_mut().expect("a table").insert("updats".to_owned(), "edit".into()));
        drop(routes["web"].as_table_mut().expect("a table").insert("stale_after".to_owned(), "soon".into()));
    });
    receiver.wait_log(&["ERROR", refused, "routes.web.updats", "routes.web.updates"]).await;
    receiver.wait_log(&["ERROR", refused, "routes.web.stale_after"]).await;
    assert_eq!(receiver.post("web", group("A")).await.status, 404);
    receiver.accept("default", Payload::group("B").firing(&["n01", "n02", "n03", "n04", "n05"])).await;
    scene.room.wait_for("a card", DEADLINE, shows("B")).await;
    // A file that is gone for a while.
    let away = receiver.config_path().with_extension("away");
    fs::rename(receiver.config_path(), &away).expect("renamed");
    receiver.wait_log(&[refused, "cannot read"]).await;
    receiver.swap_config(|config| drop(routes(config).remove("web")));
    receiver.wait_metric("config_last_reload_successful", &[], |value| value == 1.0).await;
    assert!(receiver.metric("config_last_reload_success_timestamp_seconds", &[]).await > good);
    assert_eq!(receiver.get("/healthz").await.json()["parts"]["config"]["status"], "ok");
    assert_eq!(times_logged(&receiver, refused), 4, "one for each fault");
    let large = Payload::group("C").firing(&["n01", "n02", "n03", "n04", "n05"]);
    assert_eq!(receiver.post("default", large).await.status, 413, "the rest of it applies now");
}

/// What was wrong need not be in a file that the config in force names.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_in_a_template_is_mended_in_the_template() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene);
    let template = builder.file("card.j2", "{% if %}");
    let mut receiver = builder.start().await;
    receiver.reconfigure(&format!("[templates]\ncard_text = {template:?}"));
    receiver.signal("HUP");
    receiver.wait_log(&["config is refused", "SIGHUP"]).await;
    fs::write(&template, "⚡ {{ name }}").expect("written");
    receiver.wait_metric("config_last_reload_successful", &[], |value| value == 1.0).await;
    receiver.accept("default", group("A")).await;
    scene.room.wait_for("its own form", DEADLINE, |view| view.cards().iter().any(|card| card.body() == "⚡ A")).await;
    // It is one of those now that are looked at.
    fs::write(&template, "🚀 {{ name }}").expect("written");
    receiver.wait_log(&[IN_FORCE, "changed files"]).await;
    let times_logged =
        eventually("the changed template", DEADLINE, async || (times_logged(&receiver, IN_FORCE) >= 2).then_some(()));
    times_logged.await;
    receiver.accept("default", group("B")).await;
    scene.room.wait_for("the new form", DEADLINE, |view| view.cards().iter().any(|card| card.body() == "🚀 B")).await;
}

/// Written beside it and renamed over it, as those who rotate do.
fn replace(path: &str, text: &str) {
    let new = format!("{path}.new");
    fs::write(&new, text).expect("written");
    fs::rename(new, Path::new(path)).expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_token_is_rotated_without_a_restart() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene).webhook_token("first-t0ken").without("http.auth");
    let file = builder.file("webhook-token", "first-t0ken\n");
    let mut receiver = builder.set("http.auth.bearer_token_file", file.as_str()).start().await;
    receiver.accept("default", group("A")).await;
    replace(&file, "second-t0ken\n");
    let old = eventually("the old one is refused", DEADLINE, async || {
        Some(receiver.post("default", group("A")).await.status).filter(|status| *status != 200)
    });
    assert_eq!(old.await, 401);
    receiver.use_webhook_token("second-t0ken");
    receiver.accept("default", group("B")).await;
    // An empty file does not hold a credential.
    replace(&file, "");
    receiver.wait_log(&["config is refused", "webhook-token", "is empty"]).await;
    receiver.accept("default", group("C")).await;
    assert!(!receiver.logs().contains("t0ken\""), "no log tells it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wants_a_restart_is_told_and_the_rest_applies_at_once() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.reconfigure(
        "[http]\nlisten = \"127.0.0.1:1\"\nmax_body_bytes = 1024\n[log]\nformat = \"json\"\nfilter = \"warn\"\n\
         [matrix]\nuser_id = \"@other:localhost\"",
    );
    receiver.signal("HUP");
    let line = receiver.wait_log(&["WARN", "require a restart"]).await;
    assert!(line.contains("keys=\"http.listen, matrix.user_id, log.format\""), "{line}");
    let large = Payload::group("C").firing(&["n01", "n02", "n03", "n04", "n05"]);
    assert_eq!(receiver.post("default", large).await.status, 413);
    let part = receiver.get("/healthz").await.json()["parts"]["config"].clone();
    assert_eq!(part["status"], "ok", "{part:#}");
    assert!(
        part["notice"].as_str().is_some_and(|notice| notice.ends_with("http.listen, matrix.user_id, log.format")),
        "{part:#}"
    );
    assert_eq!(receiver.metric("config_restart_required", &[]).await, 1.0);
    receiver.accept("default", group("Small")).await;
    scene.room.wait_for("a card", DEADLINE, shows("Small")).await;
    let log = receiver.logs();
    let after = log.split("require a restart").nth(1).expect("what followed");
    assert!(!after.contains("accepted"), "log.filter applies: {after}");

    receiver.reconfigure("[log]\nformat = \"text\"\nfilter = \"info\"");
    receiver.signal("HUP");
    receiver.wait_log(&["require a restart", "keys=\"http.listen, matrix.user_id\""]).await;
    receiver.reconfigure(&format!(
        "[http]\nlisten = {:?}\n[matrix]\nuser_id = {:?}",
        receiver.url().replace("http://", ""),
        scene.bot.user_id
    ));
    hang_up(&mut receiver).await;
    assert_eq!(receiver.metric("config_restart_required", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_webhooks_during_reloads_loses_nothing() {
    let scene = Scene::new().await;
    let extra = scene.another_room("extra").await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    let names: Vec<String> = (0..60).map(|n| format!("Storm{n:02}")).collect();
    for (round, some) in names.chunks(6).enumerate() {
        receiver.swap_config(|config| {
            let routes = routes(config);
            if round % 2 == 0 {
                drop(routes.insert("extra".to_owned(), route(&extra)));
            } else {
                drop(routes.remove("extra"));
            }
        });
        receiver.signal("HUP");
        let posts = some.iter().map(|name| receiver.post("default", group(name)));
        let answers = futures_util::future::join_all(posts).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        // Its route may be there or not.
        let status = receiver.post("extra", group(&format!("Extra{round}"))).await.status;
        assert!([200, 404].contains(&status), "{status}");
    }
    hang_up(&mut receiver).await;
    let all = |view: &RoomView| names.iter().all(|name| view.named_at(name).is_some());
    scene.room.wait_for("every one of them", DEADLINE, all).await;
    // Whatever came there in between, nothing of it is left firing.
    let closed = |view: &RoomView| view.cards().iter().all(|card| card.has(GONE));
    extra.wait_for("all is closed", DEADLINE, closed).await;
    assert_eq!(receiver.metric("lane_panics_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_out_while_it_was_stopped_is_closed_at_the_start() {
    let scene = Scene::new().await;
    let (ops, web) = (scene.another_room("ops").await, scene.another_room("web").await);
    let builder = ReceiverBuilder::of(&scene).route("ops", &[&ops.id]).route("default", &[&scene.room.id, &web.id]);
    let mut receiver = builder.start().await;
    receiver.accept("default", group("Both")).await;
    receiver.accept("ops", group("Ops")).await;
    for (room, name) in [(&scene.room, "Both"), (&web, "Both"), (&ops, "Ops")] {
        room.wait_for("a card", DEADLINE, shows(name)).await;
    }
    receiver.sigterm(DEADLINE).await;
    receiver.take_key("routes.ops");
    receiver.reconfigure(&format!("[routes.default]\nrooms = [{:?}]", scene.room.id));
    receiver.restart().await;
    web.wait_for("its last edit", DEADLINE, is_closed("Both")).await;
    ops.wait_for("its last edit", DEADLINE, is_closed("Ops")).await;
    receiver.accept("default", Payload::group("Both").firing(&["n01", "n02"])).await;
    let grown = |view: &RoomView| shows("Both")(view) && view.cards_with("Both")[0].has("2 firing");
    scene.room.wait_for("the other goes on", DEADLINE, grown).await;
    assert_eq!(web.view().await.cards().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_shut_the_bot_out_is_given_up() {
    let scene = Scene::new().await;
    let ops = scene.another_room("ops").await;
    let mut receiver = ReceiverBuilder::of(&scene).route("ops", &[&ops.id]).start().await;
    receiver.accept("ops", group("Ops")).await;
    ops.wait_for("a card", DEADLINE, shows("Ops")).await;
    scene.sre.kick(&ops.id, &scene.bot).await;
    receiver.swap_config(|config| drop(routes(config).remove("ops")));
    hang_up(&mut receiver).await;
    receiver.wait_log(&["WARN", "could not close cards", "cards=1", "refuses"]).await;
    let metrics = receiver.get("/metrics").await.body;
    assert!(!metrics.contains("\"ops\"") && !metrics.contains("ops/1"), "{metrics}");
    assert_eq!(receiver.get("/healthz/delivery").await.status, 200, "nobody waits for it");
}

/// A config whose route names this room.
fn names(receiver: &mut Receiver, rooms: &[&str]) {
    let rooms: Vec<Value> = rooms.iter().map(|room| Value::from(*room)).collect();
    receiver.swap_config(|config| {
        drop(config["routes"]["default"].as_table_mut().expect("a table").insert("rooms".to_owned(), rooms.into()));
    });
}

/// The one card there is shows so many alerts, and nothing was ever said to be routed elsewhere.
fn one_card(firing: usize) -> impl Fn(&RoomView) -> bool {
    move |view| {
        assert!(!view.text().contains(GONE), "{}", view.text());
        view.cards().len() == 1 && view.card().has(&format!("{firing} firing"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_named_by_its_alias_instead_keeps_its_cards() {
    let scene = Scene::new().await;
    let (id, alias) = (scene.room.id.clone(), format!("#swap-{}:localhost", scene.bot.local()));
    scene.sre.point_alias(&alias, &id).await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    let fires = |count: usize| Payload::group("Swap").firing(&["n01", "n02", "n03", "n04", "n05", "n06"][..count]);
    receiver.accept("default", fires(2)).await;
    scene.room.wait_for("a card", DEADLINE, one_card(2)).await;

    // The alias was never looked up.
    names(&mut receiver, &[&alias]);
    hang_up(&mut receiver).await;
    receiver.accept("default", fires(3)).await;
    scene.room.wait_for("the same card", DEADLINE, one_card(3)).await;
    names(&mut receiver, &[&id]);
    hang_up(&mut receiver).await;
    receiver.accept("default", fires(4)).await;
    scene.room.wait_for("and back", DEADLINE, one_card(4)).await;

    // And between two runs.
    receiver.sigterm(DEADLINE).await;
    names(&mut receiver, &[&alias]);
    receiver.restart().await;
    receiver.accept("default", fires(5)).await;
    scene.room.wait_for("after a restart", DEADLINE, one_card(5)).await;
    receiver.accept("default", Payload::group("Swap").resolved(&["n01", "n02", "n03", "n04", "n05"])).await;
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().has("RESOLVED");
    scene.room.wait_for("green", DEADLINE, green).await;
    assert!(receiver.logs().contains("cards moved to the room's new address"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_is_looked_up_for_the_first_time_at_a_start_keeps_the_cards() {
    let scene = Scene::new().await;
    let alias = format!("#late-{}:localhost", scene.bot.local());
    scene.sre.point_alias(&alias, &scene.room.id).await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    receiver.accept("default", Payload::group("Late").firing(&["n01", "n02"])).await;
    scene.room.wait_for("a card", DEADLINE, one_card(2)).await;
    receiver.sigterm(DEADLINE).await;
    names(&mut receiver, &[&alias]);
    receiver.restart().await;
    receiver.wait_log(&["cards moved to the room", "cards=1"]).await;
    receiver.accept("default", Payload::group("Late").firing(&["n01", "n02", "n03"])).await;
    scene.room.wait_for("the same card", DEADLINE, one_card(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_a_route_names_twice_is_told_of_and_posted_to_once() {
    let scene = Scene::new().await;
    let alias = format!("#twin-{}:localhost", scene.bot.local());
    scene.sre.point_alias(&alias, &scene.room.id).await;
    let mut receiver = ReceiverBuilder::of(&scene).route("default", &[&scene.room.id, &alias]).start().await;
    receiver.wait_log(&["WARN", "names one room twice", &alias]).await;
    let notice = |health: &serde_json::Value| {
        health["parts"]["routes"]["default"]["rooms"]["default/2"]["notice"].as_str().unwrap_or_default().to_owned()
    };
    let health = eventually("a notice", DEADLINE, async || {
        let health = receiver.get("/healthz").await.json();
        notice(&health).contains("the same room as default/1").then_some(health)
    });
    let health = health.await;
    assert_eq!(health["status"], "ok");
    receiver.accept("default", Payload::group("Twin").firing(&["n01", "n02"])).await;
    receiver.accept("default", Payload::group("Twin").firing(&["n01", "n02", "n03"])).await;
    receiver.accept("default", group("Last")).await;
    let both =
        |view: &RoomView| shows("Last")(view) && shows("Twin")(view) && view.cards_with("Twin")[0].has("3 firing");
    scene.room.wait_for("each once", DEADLINE, both).await;
    assert_eq!(times_logged(&receiver, "names one room twice"), 1);

    names(&mut receiver, &[&alias]);
    hang_up(&mut receiver).await;
    assert_eq!(notice(&receiver.get("/healthz").await.json()), "");
    receiver.accept("default", Payload::group("Twin").firing(&["n01", "n02", "n03", "n04"])).await;
    let grown = |view: &RoomView| view.cards().len() == 2 && view.cards_with("Twin")[0].has("4 firing");
    let view = scene.room.wait_for("the one that is left goes on", DEADLINE, grown).await;
    assert!(!view.text().contains(GONE), "{}", view.text());
}
