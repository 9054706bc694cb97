//! `send-test`, `healthcheck`, `completions`, and what holds for all: help, version, exit codes.

use std::process::{Command, Stdio};

use super::{HOOK_TOKEN, Ran, bare, nobody, run};
use crate::harness::{DEADLINE, Homeserver, Prometheus, PrometheusConfig, ReceiverBuilder, Scene, process::Scratch};

#[tokio::test(flavor = "multi_thread")]
async fn send_test_shows_a_card_that_turns_green() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).webhook_token(HOOK_TOKEN).start().await;
    receiver.wait_log(&["in sync with the homeserver"]).await;
    let seen = scene.room.wait_for("the test fires", DEADLINE, |view| !view.cards_with("ReceiverTest").is_empty());
    let (ran, seen) = tokio::join!(run(&receiver, &scene.bot, &["send-test", "default", "--for", "10s"]), seen);
    ran.says(
        0,
        &[
            &["firing: accepted", "/alerts/default", "notification 0"],
            &["look for", "ReceiverTest", &scene.room.id],
            &["resolved: accepted", "notification 0"],
            &["look for", "green"],
        ],
    );
    // Beside a running receiver, which holds the store.
    let ran = run(&receiver, &scene.bot, &["check", "--online"]).await;
    ran.says(0, &[&["ok", "store", "can be written"], &["ok", "default/1", "may send"]]);
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
        .stdout(Stdio::piped())
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
    let synapse = Homeserver::shared().await.url();
    ill(&bare(&["healthcheck", "--url", &synapse], &[]), &["unhealthy", "404"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_name_of_wget_it_asks_as_runbooks_do() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).webhook_token(HOOK_TOKEN).start().await;
    let folder = Scratch::new("wget");
    let link = folder.join("wget");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"), &link).expect("a link");
    let wget = |args: &[&str]| Ran::of(Command::new(&link).env_clear().args(args).output().expect("it starts"), &[]);
    let silent = |ran: &Ran| ran.out.is_empty() && ran.err.is_empty();

    let versions = format!("{}/_matrix/client/versions", scene.synapse.url());
    let ran = wget(&["-qO-", "--spider", &versions]);
    assert!(ran.code == 0 && silent(&ran), "{}", ran.all());
    let ran = wget(&["-q", "-O", "-", &versions]);
    assert!(ran.out.contains("\"versions\"") && ran.err.is_empty(), "{}", ran.says(0, &[]).all());
    wget(&["--spider", "-S", &versions]).says(0, &[&["200"], &["content-type: application/json"]]);
    // Behind a token, which is not shown.
    let whoami = format!("{}/_matrix/client/v3/account/whoami", scene.synapse.url());
    wget(&["-qO-", &whoami]).says(8, &[&["wget", "whoami", "401"]]);
    let header = format!("Authorization: Bearer {}", scene.bot.access_token);
    wget(&["-qO-", "--header", &header, &whoami]).says(0, &[&[&scene.bot.user_id]]);

    let livez = format!("{}/livez", receiver.url().trim_start_matches("http://"));
    assert!(!wget(&["-qO-", &livez]).says(0, &[]).out.is_empty());
    let ran = wget(&["-qO", "/dev/null", &livez]);
    assert!(silent(ran.says(0, &[])), "{}", ran.all());
    receiver.signal("STOP");
    wget(&["-qO-", "-T1", &livez]).says(4, &[&["wget", "no answer in time"]]);
    receiver.signal("CONT");
    receiver.sigterm(DEADLINE).await;
    wget(&["-qO-", "--spider", &livez]).says(4, &[&["wget", "cannot connect", "refused"]]);
    wget(&["-qO-"]).says(2, &[&["error"]]);
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
    for command in ["serve", "check", "render", "lint-rules", "import", "send-test", "healthcheck", "completions"] {
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
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_draws_an_expression_into_a_file() {
    let prometheus = Prometheus::start(PrometheusConfig::new("groups: []")).await;
    let url = prometheus.url();
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("graph.png");
    let output = file.to_str().expect("UTF-8");
    let graph = |more: &[&str]| {
        let begin = ["graph", "--url", &url, "--output", output];
        bare(&[begin.as_slice(), more].concat(), &[])
    };
    graph(&["vector(7) > 5"]).says(0, &[&["vector(7)", "the value is 7", "threshold > 5"]]);
    let png = std::fs::read(&file).expect("a file");
    assert_eq!((&png[1..4], &png[16..24]), (b"PNG".as_slice(), [0, 0, 4, 176, 0, 0, 1, 164].as_slice()));
    graph(&["vector(8)"]).says(1, &[&["error", "graph.png", "exists already", "--force"]]);
    graph(&["--force", "--range", "6h", "vector(8) < bool 5"]).says(0, &[&["the value is 8", "threshold < 5"]]);
    graph(&["--force", "nothing_has_this_name"]).says(1, &[&["error", "has no values"]]);
    graph(&["--force", "sum("]).says(1, &[&["error", "400", "parse error"]]);
    graph(&["--range", "9d9", "x"]).says(2, &[&["--range", "5m to 31d"]]);
    bare(&["graph", "--url", "http://127.0.0.1:1", "--output", output, "x"], &[]).says(1, &[&["error", "127.0.0.1:1"]]);
    bare(&["graph", "--url", "http://u:p@127.0.0.1:1", "x"], &[]).says(2, &[&["leave user name and password out"]]);
    bare(&["graph", "x"], &[]).says(1, &[&["error", "evidence.prometheus", "--url"]]);
    let configured = [("MAR_EVIDENCE__PROMETHEUS__URL", url.as_str())];
    bare(&["graph", "--force", "--output", output, "vector(9)"], &configured).says(0, &[&["the value is 9"]]);
}
