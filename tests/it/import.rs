//! Moving in: `import`, and the URLs of other receivers, as a real Alertmanager posts to them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use reqwest::Method;
use serde_json::json;

use crate::{
    commands::{Ran, bare, nobody},
    harness::{
        AlertToPost, Alertmanager, AlertmanagerConfig, DEADLINE, Payload, Receiver, ReceiverBuilder, RoomView, Scene,
    },
};

const SECRET: &str = "very+very&secret key";

/// metio's config in a folder of its own, whose name no report has.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(yaml: &str) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::write(folder.path("config.yaml"), yaml).expect("written");
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// `import --from metio`, started in the folder.
    fn import(&self, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
        command.env_clear().current_dir(self.0.path()).args(["import", "--from", "metio"]).args(args);
        Ran::of(command.output().expect("it starts"), &[])
    }

    /// `check` of a config whose secret files lie in the folder, and so does its store.
    fn check(&self, toml: &str) -> Ran {
        fs::create_dir_all(self.path("secrets")).expect("made");
        for name in ["matrix-token", "webhook-password"] {
            fs::write(self.path("secrets/") + name, "x\n").expect("written");
        }
        let path = self.path("checked.toml");
        fs::write(&path, toml.replace("/run/secrets", &self.path("secrets"))).expect("written");
        bare(&["check", "--config", &path], &[("MAR_STORE__PATH", &self.path("store"))])
    }
}

fn small(port: u16, token: &str) -> String {
    format!(
        "http:\n  address: 127.0.0.1\n  port: {port}\nmatrix:\n  homeserver-url: https://m.example.org\n  \
         user-id: '@alerts:example.org'\n  access-token: {token}\n  room-mapping:\n    ops: '!abc:example.org'\n\
         templating:\n  firing-template: '{{{{ .Alert.Status }}}}'\n"
    )
}

#[test]
fn toml_and_report_go_separate_ways_and_the_code_tells_whether_a_hand_is_needed() {
    let folder = Folder::with(&small(9000, "syt_of_the_test"));
    let ran = folder.import(&["config.yaml"]);
    ran.says(1, &[&["config.yaml:7: matrix.access-token -> matrix.access_token_file: needs your hand"]]);
    assert!(ran.out.contains("access_token_file = \"/run/secrets/matrix-token\""), "{}", ran.all());
    assert!(!ran.out.contains("needs your hand") && !ran.err.contains("[matrix]"), "{}", ran.all());
    assert!(!ran.all().contains("syt_of_the_test"), "{}", ran.all());

    // With the secrets nothing is left to do, and the result is what `check` takes.
    let ran = folder.import(&["--with-secrets", "--output", "receiver.toml", "config.yaml"]);
    ran.says(0, &[&["next: ", "check --online --config receiver.toml"]]);
    assert!(ran.out.is_empty() && !ran.err.contains("syt_of_the_test"), "{}", ran.all());
    let mode = fs::metadata(folder.path("receiver.toml")).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let store = folder.path("store");
    let check = bare(&["check", "--config", &folder.path("receiver.toml")], &[("MAR_STORE__PATH", &store)]);
    let compat = &["note", "compat: webhooks are also accepted by a room's id"];
    check.says(0, &[&["ok", "listens on 127.0.0.1:9000"], &["ok", "route ops", "!abc:example.org"], compat]);

    let before = fs::read(folder.path("receiver.toml")).expect("written");
    let again = &["--output", "receiver.toml", "config.yaml"];
    folder.import(again).says(2, &[&["error: receiver.toml: exists already; --force replaces it"]]);
    assert_eq!(fs::read(folder.path("receiver.toml")).expect("still there"), before);
    folder.import(&[&["--force"], &again[..]].concat()).says(1, &[]);
    assert!(!fs::read_to_string(folder.path("receiver.toml")).expect("there").contains("syt_of_the_test"));
}

#[test]
fn what_cannot_be_read_writes_nothing() {
    let folder = Folder::with("http:\n  port: [1]\n  address: {}\n");
    for (args, lines) in [
        (
            &["config.yaml"][..],
            &[&["error: config.yaml:2:9: http.port: expected a text"][..], &["config.yaml:3:12:"]][..],
        ),
        (&["nowhere.yaml"], &[&["error: nowhere.yaml: cannot read"]]),
        (&["/dev/zero"], &[&["error: /dev/zero: is larger than 8 MiB"]]),
        (&["."], &[&["is a folder"]]),
        (&["--force", "config.yaml"], &[&["--output"]]),
        (&["--output", "no/folder/x.toml", "config.yaml"], &[&["error"]]),
    ] {
        let ran = folder.import(args);
        ran.says(2, lines);
        assert!(ran.out.is_empty(), "{}", ran.all());
    }
    assert_eq!(fs::read_dir(folder.0.path()).expect("a folder").count(), 1);
    bare(&["import", "--from", "jaywink", "x"], &[]).says(2, &[&["invalid value", "jaywink"]]);
    bare(&["import", "--help"], &[]).says(0, &[&["docs/MIGRATING.md"], &["Exit codes"]]);
}

/// What stands in docs/MIGRATING.md below `<!-- NAME -->`, in a fence.
fn example(name: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/MIGRATING.md")).expect("a page");
    let (_, rest) = page.split_once(&format!("<!-- {name} -->\n```")).unwrap_or_else(|| panic!("no {name}"));
    let (_, rest) = rest.split_once('\n').expect("a fence");
    rest.split_once("```\n").expect("an end").0.to_owned()
}

#[test]
fn the_example_of_the_documentation_is_what_happens() {
    let folder = Folder::with(&example("import: in"));
    let ran = folder.import(&["config.yaml"]);
    assert_eq!((ran.code, &ran.out, &ran.err), (1, &example("import: out"), &example("import: report")));
    // And what it says to do by hand is all there is to do.
    folder.check(&ran.out).says(0, &[&["ok", "route team-web"], &["ok", "webhooks need the user \"alertmanager\""]]);
    let note = &["note", "with the secret in the URL"];
    folder.check(&example("jaywink: out")).says(0, &[&["ok", "route receiver2", "for the receivers receiver2"], note]);
}

/// A receiver whose whole config is what `import` made of metio's.
async fn moved(scene: &Scene, rooms: &[(&str, &str)]) -> Receiver {
    let builder = ReceiverBuilder::new(&scene.bot);
    let yaml = builder.file("metio.yaml", "");
    let store = yaml.replace("metio.yaml", "store");
    let mut receiver = builder.env("MAR_STORE__PATH", &store).unstarted();
    let port = receiver.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let mapping: Vec<_> = rooms.iter().map(|(name, room)| format!("    {name}: '{room}'\n")).collect();
    let text = small(port, &scene.bot.access_token)
        .replace("https://m.example.org", &scene.bot.homeserver)
        .replace("@alerts:example.org", &scene.bot.user_id)
        .replace("    ops: '!abc:example.org'\n", &mapping.concat());
    fs::write(&yaml, text).expect("written");
    let path = receiver.config_path().display().to_string();
    let args = ["import", "--from", "metio", "--with-secrets", "--force", "--output", &path, &yaml];
    bare(&args, &[]).says(0, &[]);
    receiver.spawn();
    receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    receiver
}

/// An Alertmanager that posts the alerts of each team to a URL of its own.
async fn alertmanager(urls: &[(&str, String)]) -> Alertmanager {
    let mut config = AlertmanagerConfig::webhook(&urls[0].1);
    let receivers: Vec<_> =
        urls.iter().map(|(team, url)| json!({ "name": team, "webhook_configs": [{ "url": url }] })).collect();
    let routes: Vec<_> =
        urls.iter().map(|(team, _)| json!({ "matchers": [format!("team=\"{team}\"")], "receiver": team })).collect();
    config.json["receivers"] = json!(receivers);
    config.json["route"]["receiver"] = json!(urls[0].0);
    config.json["route"]["routes"] = json!(routes);
    Alertmanager::start(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_set_up_for_metio_reaches_the_rooms_as_it_is() {
    let scene = Scene::new().await;
    let (web, strange) = (scene.another_room("web").await, scene.another_room("strange").await);
    let mut receiver = moved(&scene, &[("ops", &scene.room.id), ("Old_Web", &web.id)]).await;
    let encoded = urlencoding::encode(&scene.room.id).into_owned();
    let url = |path: &str| format!("{}/alerts/{path}", receiver.url());
    let urls = [
        ("encoded", url(&encoded)),
        ("raw", url(&scene.room.id)),
        ("web", url("Old_Web")),
        ("strange", url(&strange.id)),
    ];
    let alertmanager = alertmanager(&urls).await;
    let labels = |name| [("alertname", name), ("severity", "critical"), ("team", name)];
    let alerts = ["strange", "encoded", "raw", "web"].map(|name| AlertToPost::firing(&labels(name)));
    alertmanager.post_alerts(&alerts).await;
    let shows = |name: &'static str| move |view: &RoomView| view.cards_with(name).len() == 1;
    scene.room.wait_for("by its encoded id", DEADLINE, shows("CRITICAL encoded")).await;
    scene.room.wait_for("by its id as metio's page has it", DEADLINE, shows("CRITICAL raw")).await;
    web.wait_for("by its mapped name", DEADLINE, shows("CRITICAL web")).await;
    alertmanager.post_alerts(&[AlertToPost::resolved(&labels("web"))]).await;
    web.wait_for("green", DEADLINE, shows("RESOLVED web")).await;
    receiver.wait_metric("compat_notifications_total", &[("shape", "room_path")], |count| count >= 2.0).await;
    receiver.wait_metric("compat_notifications_total", &[("shape", "name")], |count| count >= 2.0).await;
    assert_eq!(receiver.metric("compat_notifications_total", &[("shape", "query_secret")]).await, 0.0);

    // The bot is in that room, but no route names it: a URL must not choose where it speaks.
    receiver.wait_metric("http_requests_total", &[("handler", "alerts"), ("code", "404")], |count| count >= 1.0).await;
    receiver.wait_log(&["webhook rejected", "no route has the room", &strange.id]).await;
    assert_eq!(strange.view().await.by_bot().filter(|event| event.event_type == "m.room.message").count(), 0);

    let path = receiver.config_path();
    let text = fs::read_to_string(&path).expect("the config");
    let (without, _) = text.split_once("[compat]").expect("it comes last");
    fs::write(&path, without).expect("written");
    receiver.restart().await;
    for (path, says) in [(encoded.as_str(), "compat.room_paths = true"), ("Old_Web", "no route named")] {
        let answer = receiver.post(path, Payload::group("Off").firing(&["n01"])).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert!(answer.body.contains(says), "{}", answer.body);
    }
    assert_eq!(receiver.post("ops", Payload::group("Off").firing(&["n01"])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alertmanager_set_up_for_jaywink_reaches_the_room_as_it_is() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::new(&scene.bot)
        .route("ops", &[&scene.room.id])
        .set("routes.ops.receivers", vec!["receiver1"])
        .set("log.filter", "info,matrix_alertmanager_receiver=trace")
        .set("compat.query_secret", true)
        .webhook_token(SECRET)
        .start()
        .await;
    let encoded = urlencoding::encode(SECRET).into_owned();
    let url = format!("{}/alerts?secret={encoded}", receiver.url());
    let alertmanager = alertmanager(&[("receiver1", url)]).await;
    alertmanager.post_alerts(&[AlertToPost::firing(&[("alertname", "Jay"), ("severity", "critical")])]).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards_with("CRITICAL Jay").len() == 1).await;
    receiver.wait_metric("compat_notifications_total", &[("shape", "query_secret")], |count| count >= 1.0).await;

    // Every status, with the right secret and a wrong one, and none of it says the secret.
    let good = Payload::group("A").receiver("receiver1").firing(&["n01"]).json().to_string();
    let wrong = format!("{encoded}x");
    let ask = async |receiver: &Receiver, method: Method, path: &str, body: &str| {
        let answer = receiver.request(method, path).body(body.to_owned()).send().await.expect("an answer");
        let headers = format!("{:?}", answer.headers());
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        assert!(!format!("{headers}{text}").contains("secret key") && !text.contains(&encoded), "{headers} {text}");
        status
    };
    for (method, path, secret, body, status) in [
        (Method::POST, "/alerts", &encoded, good.as_str(), 200),
        (Method::POST, "/alerts/ops", &encoded, &good, 200),
        (Method::GET, "/alerts", &encoded, "", 405),
        (Method::POST, "/alerts", &wrong, &good, 401),
        (Method::POST, "/alerts/nowhere", &wrong, &good, 401),
        (Method::POST, "/alerts/nowhere", &encoded, &good, 404),
        (Method::POST, "/alerts", &encoded, "{", 400),
    ] {
        let path = format!("{path}?secret={secret}");
        assert_eq!(ask(&receiver, method, &path, body).await, status, "{path} {body}");
    }
    let metrics = receiver.get("/metrics").await.body;
    assert!(!metrics.contains(&encoded) && !metrics.contains(SECRET));
    assert!(!receiver.logs().contains(&encoded), "the encoded secret is in the log");

    receiver.reconfigure("[compat]\nquery_secret = false");
    receiver.restart().await;
    let path = format!("/alerts?secret={encoded}");
    assert_eq!(ask(&receiver, Method::POST, &path, &good).await, 401);
    assert!(!receiver.logs().contains(&encoded), "the encoded secret is in the log");
}

#[test]
fn a_secret_in_the_query_needs_one_to_compare_with() {
    let receiver = ReceiverBuilder::new(&nobody()).route("ops", &["!a:b"]).set("compat.query_secret", true).unstarted();
    let path = receiver.config_path().display().to_string();
    bare(&["check", "--config", &path], &[]).says(1, &[&["FAULT", "compat.query_secret: http.auth is \"none\""]]);
}
