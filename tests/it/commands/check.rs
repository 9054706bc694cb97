//! `check`, without and with `--online`.

use reqwest::Method;
use serde_json::json;

use super::{HOOK_TOKEN, nobody, run};
use crate::harness::{
    Alertmanager, AlertmanagerConfig, DEADLINE, NewRoom, Payload, Prometheus, PrometheusConfig, Reader,
    ReceiverBuilder, Scene, eventually, only_sqlite,
};

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_it_understood_and_touches_nothing() {
    let bot = nobody();
    let receiver = ReceiverBuilder::new(&bot)
        .webhook_token(HOOK_TOKEN)
        .route("team-a", &["!abc:localhost", "#ops:localhost"])
        .set("routes.team-a.receivers", vec!["a", "b"])
        .unstarted();
    run(&receiver, &bot, &["check"]).await.says(
        0,
        &[
            &["ok", "config", "config.toml"],
            &["ok", "listens on 127.0.0.1:", "bearer token"],
            &["ok", "@alerts:localhost on http://127.0.0.1:9/", "access token"],
            &["ok", "/alerts/team-a", "!abc:localhost (team-a/1)", "#ops:localhost (team-a/2)", "receivers a, b"],
            &["note", "no route default"],
            &["ok", "store", "will be created"],
            &["the config is good", "--online"],
        ],
    );
    assert!(!receiver.store_path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_all_faults_a_line_each() {
    let bot = nobody();
    let receiver = ReceiverBuilder::new(&bot)
        .toml("[http]\nlisten = \"0.0.0.0:1\"\nmax_body_byte = 5\n[routes.default]\nremind_after = \"often\"")
        .unstarted();
    let ran = run(&receiver, &bot, &["check", "--online"]).await;
    ran.says(
        1,
        &[
            &["FAULT", "http.max_body_byte", "http.max_body_bytes"],
            &["FAULT", "http.listen", "WEBHOOK_TOKEN"],
            &["FAULT", "routes.default.rooms"],
            &["FAULT", "routes.default.remind_after", "often"],
            &["4 faults"],
        ],
    );
    assert_eq!(ran.faults(), 4, "{}", ran.all());

    let receiver = ReceiverBuilder::new(&bot).route("default", &["!abc:localhost"]).unstarted();
    std::fs::write(receiver.store_path(), "a file").expect("written");
    run(&receiver, &bot, &["check"]).await.says(1, &[&["FAULT", "store", "is not a folder", "store.path"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_is_content_with_rooms_that_work() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let encrypted = scene.another_room("encrypted").await;
    sre.set_state(&encrypted.id, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
    let old = NewRoom::named("old").version("10").alias(&format!("old-{}", bot.local())).invite(&[bot]);
    let alias = format!("#old-{}:localhost", bot.local());
    let old = sre.create_room(old).await;
    bot.join(&old).await;
    // The creator of a room of version 12 stands in no power level.
    let own = bot.create_room(NewRoom::named("own").version("12")).await;
    let added = NewRoom::named("added").version("12").invite(&[bot]);
    let added = added.with("creation_content", json!({ "additional_creators": [bot.user_id] }));
    let added = sre.create_room(added).await;
    bot.join(&added).await;
    let invited = sre.create_room(NewRoom::named("invited").invite(&[bot])).await;
    let open = sre.create_room(NewRoom::named("open").public()).await;
    let receiver = ReceiverBuilder::of(&scene)
        .route("other", &[&encrypted.id, &alias, &invited, &open])
        .route("room", &[&own, &added])
        .toml("[routes.room.mentions]\nroom = true")
        .unstarted();
    let may_mention = "joined, may send, may mention @room, not encrypted";
    run(&receiver, bot, &["check", "--online"]).await.says(
        0,
        &[
            &["ok", "homeserver", "answers"],
            &["ok", "account", &bot.user_id, &bot.device_id],
            &["ok", "default/1", &scene.room.id, "joined, may send, not encrypted"],
            &["ok", "other/1", &encrypted.id, "joined, may send, encrypted"],
            &["ok", "other/2", &alias, "joined, may send, not encrypted"],
            &["note", "other/3", &invited, "invited; serve will join"],
            &["note", "other/4", &open, "anyone may join"],
            &["ok", "room/1", &own, may_mention],
            &["ok", "room/2", &added, may_mention],
            &["all is well"],
        ],
    );
}

/// Who reads, and whether they see a warning, before and after the receiver has set up its trust.
#[tokio::test(flavor = "multi_thread")]
async fn check_online_tells_who_can_read_an_encrypted_room() {
    if !only_sqlite("the token is the device that encrypts") {
        return;
    }
    let scene = Scene::encrypted().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let without_keys = scene.synapse.user("nokeys").await;
    sre.invite(&scene.room.id, &without_keys).await;
    without_keys.join(&scene.room.id).await;
    // Signed by its owner's identity.
    let reader = Reader::strict(sre).await;
    let receiver = ReceiverBuilder::of(&scene).unstarted();
    let ran = run(&receiver, bot, &["check", "--online"]).await;
    let who = "1 of 1 devices of 2 other members will be able to read; 1 of the members have no device that can";
    ran.says(
        0,
        &[
            &["ok", "default/1", "joined, may send, encrypted"],
            &["note", "default/1", who],
            &["note", "trust", "no keys yet"],
        ],
    );
    let mut receiver = receiver;
    receiver.spawn();
    receiver.ready().await.expect("it starts");
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    reader.reads(&scene.room, "A").await;
    let signed = async || {
        let json = receiver.get("/healthz").await.json();
        (json["parts"]["encryption"]["reason"] == "the device is signed by the account's identity").then_some(())
    };
    eventually("a signed device", 3 * DEADLINE, signed).await;
    let trusted: &[&[&str]] = &[
        &["note", "default/1", who],
        &["ok", "trust", "clients show no warning"],
        &["ok", "trust", "a key backup", "recovery key"],
        &["all is well"],
    ];
    run(&receiver, bot, &["check", "--online"]).await.says(0, trusted);
    // The same token where its keys are not: with another store.
    let stranger = ReceiverBuilder::of(&scene).unstarted();
    let ran = run(&stranger, bot, &["check", "--online"]).await;
    ran.says(1, &[&["FAULT", "trust", "another client's", "login"], &["1 fault"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_follows_upgrades() {
    let scene = Scene::new().await;
    let old = scene.another_room("old").await.id;
    let next = scene.sre.upgrade(&old, "11").await;
    scene.sre.invite(&next, &scene.bot).await;
    scene.bot.join(&next).await;
    let receiver = ReceiverBuilder::new(&scene.bot).route("default", &[&old]).unstarted();
    let ran = run(&receiver, &scene.bot, &["check", "--online"]).await;
    ran.says(0, &[&["note", &old, "upgraded to", &next], &["ok", "default/1", "joined, may send, not encrypted"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_tells_each_room_that_does_not_work() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let local = bot.local();
    let uninvited = sre.create_room(NewRoom::named("uninvited")).await;
    let banned = scene.another_room("banned").await.id;
    sre.ban(&banned, bot).await;
    let mute = scene.another_room("mute").await.id;
    sre.set_power_to_send(&mute, 50).await;
    let mute_encrypted = scene.another_room("mute encrypted").await.id;
    sre.set_state(&mute_encrypted, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
    sre.change_power(&mute_encrypted, |levels| levels["events"]["m.room.encrypted"] = json!(30)).await;
    let replaced = scene.another_room("replaced").await.id;
    let next = sre.upgrade(&replaced, "11").await;
    let twin = NewRoom::named("twin").alias(&format!("twin-{local}")).invite(&[bot]);
    let twin_id = sre.create_room(twin).await;
    bot.join(&twin_id).await;
    let twin_alias = format!("#twin-{local}:localhost");
    let nowhere = format!("#nowhere-{local}:localhost");
    let receiver = ReceiverBuilder::of(&scene)
        .toml("[routes.default.mentions]\nroom = true")
        .route("bad", &[&uninvited, &banned, &mute, &mute_encrypted, &replaced, &nowhere, &twin_id, &twin_alias])
        .unstarted();
    let ran = run(&receiver, bot, &["check", "--online"]).await;
    let invite = format!("/invite {}", bot.user_id);
    ran.says(
        1,
        &[
            &["FAULT", "bad/1", &uninvited, "not in the room and not invited", &invite],
            &["FAULT", "bad/2", &banned, "banned", "/unban", &invite],
            &["FAULT", "bad/3", &mute, "may not send", "power level 0", "needs 50"],
            &["note", "bad/3", "joined, not encrypted"],
            &["FAULT", "bad/4", &mute_encrypted, "may not send", "needs 30"],
            &["note", "bad/4", "joined, encrypted"],
            &["FAULT", "bad/5", &replaced, "replaced", &next],
            &["FAULT", "bad/6", &nowhere, "no room has this alias"],
            &["ok", "bad/7", &twin_id, "joined, may send"],
            &["FAULT", "bad/8", &twin_alias, "same room as", &twin_id, "routes.bad.rooms"],
            &["FAULT", "default/1", "may not mention @room", "needs 50", "routes.default.mentions.room"],
            &["8 faults"],
        ],
    );
    assert_eq!(ran.faults(), 8, "{}", ran.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_tells_what_is_wrong_with_homeserver_and_account() {
    let scene = Scene::new().await;
    let (sre, bot) = (&scene.sre, &scene.bot);
    let online = async |builder: ReceiverBuilder| run(&builder.unstarted(), bot, &["check", "--online"]).await;
    let of = || ReceiverBuilder::of(&scene);

    let ran = online(of().homeserver("http://127.0.0.1:9")).await;
    ran.says(1, &[&["FAULT", "http://127.0.0.1:9/", "cannot connect", "refused"], &["1 fault"]]);
    let ran = online(of().homeserver("http://no.homeserver.invalid")).await;
    ran.says(1, &[&["FAULT", "no.homeserver.invalid", "cannot connect"], &["1 fault"]]);
    let ran = online(of().homeserver(&format!("{}/elsewhere", scene.synapse.url()))).await;
    ran.says(1, &[&["FAULT", "/elsewhere", "404", "matrix.homeserver"], &["1 fault"]]);

    let ran = online(of().set("matrix.access_token", "syt_wrong")).await;
    ran.says(1, &[&["FAULT", "account", "M_UNKNOWN_TOKEN", "create a new access token"], &["1 fault"]]);
    assert!(!ran.all().contains("syt_wrong"), "{}", ran.all());
    let ran = online(of().set("matrix.user_id", sre.user_id.as_str())).await;
    ran.says(1, &[&["FAULT", "account", &bot.user_id, &sre.user_id, "matrix.user_id"], &["1 fault"]]);
    let path = format!("/_synapse/admin/v1/users/{}/login", bot.user_id);
    let puppet = scene.synapse.admin(Method::POST, &path, json!({})).await;
    let ran = online(of().set("matrix.access_token", puppet["access_token"].as_str().expect("a token"))).await;
    ran.says(1, &[&["FAULT", "account", "no device"], &["ok", "default/1", "may send"], &["1 fault"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_uses_a_stored_session_and_never_logs_in() {
    if !only_sqlite("a replica can do without the session in store.path") {
        return;
    }
    let scene = Scene::new().await;
    let bot = &scene.bot;
    let devices = async || bot.get("/v3/devices").await["devices"].as_array().map_or(0, Vec::len);
    let receiver = ReceiverBuilder::of(&scene).without("matrix.access_token").unstarted();
    for args in [&["check"][..], &["check", "--online"]] {
        run(&receiver, bot, args).await.says(1, &[&["FAULT", "account", "no credential", "run login"], &["1 fault"]]);
    }

    let with_password = || ReceiverBuilder::of(&scene).without("matrix.access_token");
    let receiver = with_password().set("matrix.password", bot.password.as_str()).unstarted();
    let check = async || run(&receiver, bot, &["check", "--online"]).await;
    check().await.says(
        0,
        &[&["note", "password and rooms were not checked", "start the receiver"], &["no fault in what was checked"]],
    );
    let store = |token: &str, user: &str| {
        std::fs::create_dir_all(receiver.store_path()).expect("a folder");
        let session = json!({
            "user_id": user, "device_id": bot.device_id, "access_token": token,
            "homeserver": format!("{}/", scene.synapse.url()),
        });
        std::fs::write(receiver.store_path().join("session.json"), session.to_string()).expect("written");
    };
    store(&bot.access_token, &bot.user_id);
    check().await.says(0, &[&["ok", "account", "stored session"], &["ok", "default/1", "may send"]]);
    store("syt_old", &bot.user_id);
    check().await.says(0, &[&["note", "no longer accepted"], &["note", "rooms were not checked"]]);
    store(&bot.access_token, "@other:localhost");
    check().await.says(0, &[&["note", "@other:localhost", "not used"], &["note", "rooms were not checked"]]);
    assert_eq!(devices().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_actions_need() {
    let bot = nobody();
    let receiver = ReceiverBuilder::new(&bot)
        .route("default", &["!abc:localhost"])
        .toml(
            "[actions]\n[routes.off]\nrooms = [\"!abc:localhost\"]\nactions = false\nalertmanager = { urls = [\"http://am:9093\"] }\n\
             escalate = [{ after = \"1m\", room = true }]\n",
        )
        .unstarted();
    run(&receiver, &bot, &["check"]).await.says(
        0,
        &[
            &["note", "route default", "can be taken", "not silenced", "alertmanager.urls"],
            &["ok", "route off", "http://am:9093"],
            &["note", "route off", "escalate always calls"],
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_asks_every_alertmanager() {
    let scene = Scene::new().await;
    for program in Alertmanager::versions() {
        let hides = Alertmanager::newest().is_some_and(|newest| newest == program);
        let posts_here = AlertmanagerConfig::webhook("http://receiver:9088/alerts/default").run_by(&program);
        let elsewhere = AlertmanagerConfig::webhook("http://receiver:9088/alerts/other").run_by(&program);
        let (posts_here, elsewhere) = (Alertmanager::start(posts_here).await, Alertmanager::start(elsewhere).await);
        let route = |title: &'static str, old: &'static [&'static str]| {
            if hides { vec!["note", title, "hides the URLs"] } else { [&[title][..], old].concat() }
        };
        let receiver = ReceiverBuilder::of(&scene)
            .toml(&format!(
                "[actions]\n[alertmanager]\nurls = [{:?}]\n[routes.ops]\nrooms = [{:?}]\n\
                 alertmanager = {{ urls = [{:?}, {:?}] }}\n",
                posts_here.url(),
                scene.room.id,
                elsewhere.url(),
                posts_here.url(),
            ))
            .unstarted();
        let (default, ops) = (
            route("route default", &["ok", "receiver matrix posts here"]),
            route("route ops", &["note", "no webhook", "/alerts/ops"]),
        );
        run(&receiver, &scene.bot, &["check", "--online"]).await.says(
            0,
            &[
                &["ok", "alertmanager of default: 127.0.0.1:", "answers, version 0.", "cluster disabled"],
                &["ok", "alertmanager of default: a silence could be made"],
                &["note", "alertmanager of ops: the peers are not clustered"],
                &default,
                &ops,
            ],
        );
        assert_eq!(posts_here.silences().await, json!([]), "check leaves nothing behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_says_why_an_alertmanager_cannot_be_asked() {
    let bot = nobody();
    let guarded = AlertmanagerConfig::webhook("http://receiver:9088/alerts/default")
        .web(json!({ "basic_auth_users": { "mar": "$2b$04$KqyM3ABkQJQmvPKxoJ/BfOzhDCTDwgOyvYbSqbIZsGn2l2BFT0QO." } }));
    let guarded = Alertmanager::start(guarded).await;
    let open = AlertmanagerConfig::webhook("http://receiver:9088/alerts/default").prefix("/alertmanager");
    let open = Alertmanager::start(open).await;
    let receiver = ReceiverBuilder::new(&bot)
        .route("default", &["!abc:localhost"])
        .toml(&format!(
            "[alertmanager]\nurls = [{:?}, \"http://127.0.0.1:9\", {:?}]\nusername = \"mar\"\npassword = \"pa55-word\"\n",
            guarded.url(),
            open.url().replace("/alertmanager", ""),
        ))
        .unstarted();
    let ran = run(&receiver, &bot, &["check", "--online"]).await;
    ran.says(
        1,
        &[
            &["FAULT", "refused our credentials (401)", "-> check username and password"],
            &["FAULT", "127.0.0.1:9: cannot connect", "-> check alertmanager.urls"],
            &["FAULT", "has no API at this URL (404)", "-> a path is part of the URL"],
        ],
    );
    assert!(!ran.all().contains("pa55-word"), "{}", ran.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_asks_the_sources_of_evidence() {
    let prometheus = Prometheus::start(PrometheusConfig::new("groups: []\n")).await;
    let bot = nobody();
    let receiver = ReceiverBuilder::new(&bot)
        .route("default", &["!abc:localhost"])
        .toml(&format!(
            "[evidence]\nprometheus = {{ url = {:?} }}\n\
             loki = {{ url = {:?}, username = \"mar\", password = \"pa55-word\" }}\n\
             [routes.ops]\nrooms = [\"!abc:localhost\"]\nevidence = {{ logs = 5, encrypted_only = true }}\n\
             heartbeats = [{{ name = \"prom\", match = {{ alertname = \"Watchdog\" }}, by = [\"cluster\"], timeout = \"1h\" }}]\n",
            prometheus.url(),
            // Has another API at this URL.
            prometheus.url(),
        ))
        .unstarted();
    let ran = run(&receiver, &bot, &["check", "--online"]).await;
    ran.says(
        1,
        &[
            &["ok", "evidence.loki: asks http://127.0.0.1:"],
            &["ok", "route ops: cards get 5 log lines and a graph, in encrypted rooms only"],
            &["ok", "route ops: heartbeat prom within 1 h, for each cluster"],
            &["ok", "evidence.prometheus: 127.0.0.1:", "answers"],
            &["FAULT", "evidence.loki: 127.0.0.1:", "has no API at this URL (404)", "-> a path is part of the URL"],
        ],
    );
    assert!(!ran.all().contains("pa55-word"), "{}", ran.all());
}
