//! The commands beside `serve`: what they say, what they exit with, and that no secret is in it.

use std::{path::Path, process::Command};

use reqwest::Method;
use serde_json::json;

use crate::harness::{DEADLINE, NewRoom, Receiver, ReceiverBuilder, Scene, Synapse, User};

const HOOK_TOKEN: &str = "hook-token-of-the-test";

/// What a command did.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: std::process::Output, secrets: &[&str]) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let ran =
            Self { code: output.status.code().expect("it ended"), out: text(output.stdout), err: text(output.stderr) };
        for secret in secrets {
            assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "a secret is in:\n{}", ran.all());
        }
        ran
    }

    fn all(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }

    /// Exits with `code`, and for each of `lines` there is a line that has all its words.
    fn says(&self, code: i32, lines: &[&[&str]]) -> &Self {
        assert_eq!(self.code, code, "{}", self.all());
        assert!(!self.err.contains("panicked"), "{}", self.all());
        let text = format!("{}{}", self.out, self.err);
        for words in lines {
            let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
            assert!(found, "no line has {words:?}:\n{}", self.all());
        }
        self
    }

    fn faults(&self) -> usize {
        self.err.lines().filter(|line| line.starts_with("FAULT")).count()
    }
}

async fn run(receiver: &Receiver, bot: &User, args: &[&str]) -> Ran {
    Ran::of(receiver.cli(args).await, &[&bot.access_token, &bot.password, HOOK_TOKEN])
}

/// The binary with a clean environment and no config of its own.
fn bare(args: &[&str], env: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
    Ran::of(command.env_clear().envs(env.iter().copied()).args(args).output().expect("it starts"), &[HOOK_TOKEN])
}

/// An account for what asks no homeserver; nothing listens there.
fn nobody() -> User {
    User {
        user_id: "@alerts:localhost".to_owned(),
        access_token: "syt_token_of_nobody".to_owned(),
        device_id: "D".to_owned(),
        password: "password of nobody".to_owned(),
        homeserver: "http://127.0.0.1:9".to_owned(),
    }
}

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
            &["ok", "store", "will be made"],
            &["check --online"],
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
        // Beside a running receiver, which has the store.
        .start()
        .await;
    let may_mention = "joined, may send, may mention @room, not encrypted";
    let joined_by_serve = async || bot.joined_rooms().await.len() == 7;
    crate::harness::eventually("serve joins", DEADLINE, async || joined_by_serve().await.then_some(())).await;
    bot.leave(&open).await;
    sre.kick(&invited, bot).await;
    sre.invite(&invited, bot).await;
    drop(receiver);
    let receiver = ReceiverBuilder::of(&scene)
        .route("other", &[&encrypted.id, &alias, &invited, &open])
        .route("room", &[&own, &added])
        .toml("[routes.room.mentions]\nroom = true")
        .unstarted();
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
    ran.says(1, &[&["FAULT", "account", "M_UNKNOWN_TOKEN", "make a new access token"], &["1 fault"]]);
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
    let scene = Scene::new().await;
    let bot = &scene.bot;
    let devices = async || bot.get("/v3/devices").await["devices"].as_array().map_or(0, Vec::len);
    let receiver = ReceiverBuilder::of(&scene).without("matrix.access_token").unstarted();
    run(&receiver, bot, &["check", "--online"]).await.says(1, &[&["FAULT", "account", "no credential"]]);

    let with_password = || ReceiverBuilder::of(&scene).without("matrix.access_token");
    let receiver = with_password().set("matrix.password", bot.password.as_str()).unstarted();
    let check = async || run(&receiver, bot, &["check", "--online"]).await;
    check().await.says(0, &[&["note", "password and rooms were not checked", "start the receiver"]]);
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
    check().await.says(0, &[&["note", "no longer taken"], &["note", "rooms were not checked"]]);
    store(&bot.access_token, "@other:localhost");
    check().await.says(0, &[&["note", "@other:localhost", "not used"], &["note", "rooms were not checked"]]);
    assert_eq!(devices().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn send_test_shows_a_card_that_turns_green() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).webhook_token(HOOK_TOKEN).start().await;
    let seen = scene.room.wait_for("the test fires", DEADLINE, |view| !view.cards_with("ReceiverTest").is_empty());
    let (ran, seen) = tokio::join!(run(&receiver, &scene.bot, &["send-test", "default", "--for", "1s"]), seen);
    ran.says(
        0,
        &[
            &["firing: accepted", "/alerts/default", "notification 0"],
            &["look for", "ReceiverTest", &scene.room.id],
            &["resolved: accepted", "notification 0"],
            &["look for", "green"],
        ],
    );
    assert!(seen.card().has("INFO") && seen.card().has("this is a test"), "{}", seen.text());
    scene.room.wait_for("green", DEADLINE, |view| view.card().has("RESOLVED")).await;

    // A run of its own has a card of its own.
    run(&receiver, &scene.bot, &["send-test", "default", "--for", "0s"]).await.says(0, &[]);
    scene.room.wait_for("another card", DEADLINE, |view| view.cards_with("RESOLVED").len() == 2).await;

    let wrong = ReceiverBuilder::of(&scene).webhook_token("hook-token-of-another").unstarted();
    let url = receiver.url();
    let to_it = ["send-test", "default", "--url", &url];
    run(&wrong, &scene.bot, &to_it).await.says(1, &[&["error", "401", "other credentials"]]);
    let none = ReceiverBuilder::of(&scene).unstarted();
    run(&none, &scene.bot, &to_it).await.says(1, &[&["error", "401", "this config has none"]]);
    run(&none, &scene.bot, &["send-test", "default"]).await.says(1, &[&["error", "refused", "does the receiver run"]]);
    run(&receiver, &scene.bot, &["send-test", "nowhere"]).await.says(1, &[&["error", "404", "no such route"]]);
    let elsewhere = ["send-test", "default", "--url", &scene.synapse.url()];
    run(&none, &scene.bot, &elsewhere).await.says(1, &[&["error", "404"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_send_test_does_not_fire_on() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let child = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"))
        .args(["send-test", "default", "--for", "1h", "--config"])
        .arg(receiver.config_path())
        .env_clear()
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    scene.room.wait_for("the test fires", DEADLINE, |view| view.cards_with("ReceiverTest").len() == 1).await;
    let killed = Command::new("sh").args(["-c", "kill -INT \"$0\"", &child.id().to_string()]).status();
    assert!(killed.expect("sh starts").success());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("no panic").expect("ended");
    Ran::of(output, &[]).says(0, &[&["SIGINT", "resolving"], &["resolved: accepted"]]);
    scene.room.wait_for("green", DEADLINE, |view| view.card().has("RESOLVED")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_needs_neither_secrets_nor_a_whole_config() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).webhook_token(HOOK_TOKEN).start().await;
    let url = receiver.url();
    let port = url.rsplit(':').next().expect("a port").to_owned();
    let listen = format!("0.0.0.0:{port}");
    let env = [("MAR_HTTP__LISTEN", listen.as_str()), ("WEBHOOK_TOKEN_FILE", "/nowhere/secret")];
    let well = |ran: Ran| assert!(ran.code == 0 && ran.out.is_empty() && ran.err.is_empty(), "{}", ran.all());
    let ill = |ran: &Ran, words: &[&str]| {
        ran.says(1, &[words]);
        assert_eq!((ran.out.as_str(), ran.err.lines().count()), ("", 1), "{}", ran.all());
    };
    well(run(&receiver, &scene.bot, &["healthcheck"]).await);
    well(bare(&["healthcheck"], &env));
    // A proxy that is not there: loopback is never asked through one.
    well(bare(&["healthcheck", "--url", &url], &[("http_proxy", "http://127.0.0.1:9")]));

    receiver.signal("STOP");
    ill(&bare(&["healthcheck"], &env), &["unhealthy", "no answer in time"]);
    receiver.signal("CONT");
    receiver.sigterm(DEADLINE).await;
    ill(&run(&receiver, &scene.bot, &["healthcheck"]).await, &["unhealthy", "cannot connect", "refused"]);
    let wrong = [("MAR_HTTP__LISTEN", "nonsense"), ("MAR_HTTP__MAX_BODY_BYTES", "1")];
    ill(&bare(&["healthcheck"], &wrong), &["unhealthy", "config", "there is more"]);
    let synapse = Synapse::shared().await.url();
    ill(&bare(&["healthcheck", "--url", &synapse], &[]), &["unhealthy", "404"]);
}

#[test]
fn completions_for_each_shell() {
    for (shell, has) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c"), ("elvish", "edit:")] {
        let ran = bare(&["completions", shell], &[]);
        assert!(ran.code == 0 && ran.err.is_empty(), "{}", ran.all());
        for word in [has, "send-test", "healthcheck", "--online", "--config"] {
            assert!(ran.out.contains(word.trim_start_matches("--")), "{shell}: {word}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_version_and_exit_codes() {
    for args in [
        &["check", "--offline"][..],
        &["send-test"],
        &["send-test", "No Route"],
        &["send-test", "default", "--for", "5"],
        &["send-test", "default", "--url", "localhost:9088"],
        &["healthcheck", "--url", "http://u:p@localhost"],
        &["completions", "cmd.exe"],
        &["chekc"],
    ] {
        bare(args, &[]).says(2, &[&["error"]]);
    }
    let version = bare(&["--version"], &[]);
    let commit = version.says(0, &[]).out.split(['(', ')']).nth(1).map(str::to_owned);
    assert!(commit.is_some_and(|commit| commit.len() >= 7), "{}", version.out);
    for command in ["serve", "check", "render", "send-test", "healthcheck", "completions"] {
        bare(&[command, "--help"], &[]).says(0, &[&["Example"], &[&format!("matrix-alertmanager-receiver {command}")]]);
        bare(&["--help"], &[]).says(0, &[&[command]]);
    }
    // The config before and after the command, and by its variable; the command line wins.
    let receiver = ReceiverBuilder::new(&nobody()).route("default", &["!abc:localhost"]).unstarted();
    let path = receiver.config_path();
    let path = path.to_str().expect("UTF-8");
    let read = [&["ok", "config: read from", path][..]];
    bare(&["--config", path, "check"], &[]).says(0, &read);
    bare(&["check", "--config", path], &[]).says(0, &read);
    bare(&["check"], &[("MAR_CONFIG", path)]).says(0, &read);
    bare(&["--config", path, "check"], &[("MAR_CONFIG", "/nowhere")]).says(0, &read);
    bare(&["check", "--config", path], &[("MAR_CONFIG", "/nowhere")]).says(0, &read);
    bare(&["check", "--config", "/nowhere"], &[]).says(1, &[&["FAULT", "/nowhere", "cannot read"]]);
    assert!(!Path::new("/nowhere").exists());
}
