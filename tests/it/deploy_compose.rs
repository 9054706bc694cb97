//! What lies in `deploy/compose/`, as far as it goes without a container engine: the setup step makes accounts, room and
//! secrets on a real Synapse with the config beside, twice, and the receiver delivers with what it made.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::harness::{
    DEADLINE, Payload, Postgres, Room, User, eventually,
    http::client,
    process::{Process, Scratch, free_port},
    synapse::python,
    user::login,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/compose")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// One machine's worth: a folder each for secrets and data.
struct Machine {
    /// Before the folder.
    synapse: Option<Process>,
    scratch: Scratch,
    port: u16,
}

impl Machine {
    fn new() -> Self {
        let (scratch, port) = (Scratch::new("compose"), free_port());
        for name in ["secrets", "data"] {
            fs::create_dir(scratch.join(name)).expect("a folder");
        }
        Self { synapse: None, scratch, port }
    }

    fn homeserver(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn secret(&self, name: &str) -> String {
        read(&self.scratch.join("secrets").join(name)).trim_end().to_owned()
    }

    async fn setup(&self, step: &str) -> Output {
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-B").arg(folder().join("setup.py")).arg(step);
        command.env("SECRETS", self.scratch.join("secrets")).env("DATA", self.scratch.join("data"));
        command.env("HOMESERVER", self.homeserver());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        output.expect("no panic").expect("python starts")
    }

    /// The config with this machine's folders and port in it, and limits that do not slow a test.
    fn start_synapse(&mut self) {
        let path = |name: &str| self.scratch.join(name).display().to_string();
        let config = read(&folder().join("homeserver.yaml"))
            .replace("/run/secrets", &path("secrets/synapse"))
            .replace("/data", &path("data"))
            .replace("port: 8008", &format!("port: {}", self.port))
            .replace("0.0.0.0", "127.0.0.1")
            + "\nrc_login:\n  address: &no_limit { per_second: 1000, burst_count: 1000 }\n  account: *no_limit\n";
        let file = self.scratch.write("homeserver.yaml", &config);
        let synapse = || {
            let mut command = Command::new(python());
            command.args(["-m", "synapse.app.homeserver", "-c"]).arg(&file).current_dir(self.scratch.path());
            command
        };
        stdout(&synapse().arg("--generate-keys").output().expect("Synapse's python starts"));
        self.synapse = Some(Process::spawn(&mut synapse(), &self.scratch.join("synapse.log")).expect("it starts"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_makes_what_the_receiver_needs_and_twice_changes_nothing() {
    let mut machine = Machine::new();
    stdout(&machine.setup("secrets").await);
    let token = machine.secret("receiver/webhook-token");
    assert_eq!(token, machine.secret("alertmanager/webhook-token"));
    assert!(token.len() > 30);
    let (password, url) = (machine.secret("postgres/password"), machine.secret("receiver/database-url"));
    assert!(password.len() > 30);
    assert_eq!(url, format!("postgres://receiver:{password}@postgres/receiver?sslmode=disable"));
    machine.start_synapse();
    // It waits for the homeserver by itself.
    let said = stdout(&machine.setup("accounts").await);
    assert!(said.contains("made the room #alerts:localhost"), "{said}");
    let before =
        ["receiver/access-token", "receiver/room-id", "receiver/webhook-token"].map(|name| machine.secret(name));

    stdout(&machine.setup("secrets").await);
    assert_eq!(url, machine.secret("receiver/database-url"));
    let said = stdout(&machine.setup("accounts").await);
    assert!(!said.contains("made"), "{said}");
    let after =
        ["receiver/access-token", "receiver/room-id", "receiver/webhook-token"].map(|name| machine.secret(name));
    assert_eq!(before, after);
    assert!(!said.contains(&before[0]) && !said.contains(&before[2]), "{said}");

    // A token that was revoked is replaced.
    let logout = client().post(format!("{}/_matrix/client/v3/logout", machine.homeserver()));
    assert_eq!(
        logout.bearer_auth(&before[0]).json(&serde_json::json!({})).send().await.expect("an answer").status(),
        200
    );
    stdout(&machine.setup("accounts").await);
    assert_ne!(machine.secret("receiver/access-token"), before[0]);
    let room = room(&machine).await;
    delivers(&machine, &room).await;
    two_deliver(&machine, &room).await;
}

/// A receiver with the config and the variables of compose.yaml, and further ones.
struct Container {
    /// Ends with the value.
    process: Process,
    url: String,
    log: PathBuf,
}

impl Container {
    async fn start(machine: &Machine, name: &str, variables: &[(&str, String)]) -> Self {
        let compose = read(&folder().join("compose.yaml"));
        let config = read(&folder().join("receiver.toml")).replace("http://synapse:8008", &machine.homeserver());
        let url = format!("http://127.0.0.1:{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
        command.env_clear().env("MAR_CONFIG", machine.scratch.write("config.toml", &config));
        command.env("MAR_HTTP__LISTEN", url.trim_start_matches("http://"));
        command.env("MAR_STORE__PATH", machine.scratch.join(&format!("store-{name}")));
        for line in compose.lines().map(str::trim).filter(|line| line.contains(": /run/secrets/")) {
            let (name, path) = line.split_once(": /run/secrets/").expect("a path");
            command.env(name, machine.scratch.join("secrets/receiver").join(path));
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let log = machine.scratch.join(&format!("{name}.log"));
        let process = Process::spawn(&mut command, &log).expect("the receiver starts");
        let ready = async || match client().get(format!("{url}/readyz")).send().await {
            Ok(answer) if answer.status() == 200 => Some(()),
            _ => None,
        };
        eventually("the receiver is ready", DEADLINE, ready).await;
        Self { process, url, log }
    }

    async fn accepts(&self, machine: &Machine, group: &str) {
        let payload = Payload::group(group).firing(&["n01"]);
        let request = client().post(format!("{}/alerts/default", self.url)).json(&serde_json::Value::from(payload));
        let answer = request.bearer_auth(machine.secret("alertmanager/webhook-token")).send().await;
        assert_eq!(answer.expect("an answer").status(), 200, "{}", read(&self.log));
    }
}

async fn room(machine: &Machine) -> Room {
    let operator = login(&machine.homeserver(), "operator", &machine.secret("setup/operator-password")).await;
    let bot = User { user_id: "@alerts:localhost".to_owned(), ..operator.clone() };
    Room::new(&machine.secret("receiver/room-id"), &operator, &bot)
}

async fn delivers(machine: &Machine, room: &Room) {
    let receiver = Container::start(machine, "receiver", &[]).await;
    receiver.accepts(machine, "DiskFull").await;
    room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1 && view.card().has("DiskFull")).await;
}

/// With the variables of compose.replicas.yaml, and another server of the same kind.
async fn two_deliver(machine: &Machine, room: &Room) {
    let database = Postgres::shared().database();
    let file = machine.scratch.write("database-url", &database.url()).display().to_string();
    // A container's host name.
    let password = machine.scratch.join("secrets/receiver/matrix-password").display().to_string();
    let variables = |name: &str| {
        [
            ("MAR_STORE__DATABASE_URL_FILE", file.clone()),
            ("MAR_STORE__REPLICA", name.to_owned()),
            ("MATRIX_ACCESS_TOKEN_FILE", String::new()),
            ("MATRIX_PASSWORD_FILE", password.clone()),
        ]
    };
    let mut first = Container::start(machine, "receiver-a", &variables("receiver-a")).await;
    let second = Container::start(machine, "receiver-b", &variables("receiver-b")).await;
    second.accepts(machine, "OnTheSecond").await;
    room.wait_for("its card", DEADLINE, |view| !view.cards_with("OnTheSecond").is_empty()).await;
    first.process.kill9();
    second.accepts(machine, "OnTheOneThatIsLeft").await;
    let view = room.wait_for("its card", DEADLINE, |view| !view.cards_with("OnTheOneThatIsLeft").is_empty()).await;
    assert_eq!(view.cards_with("OnTheSecond").len(), 1);
}

#[test]
fn prometheus_and_alertmanager_take_their_configs() {
    let succeeds = |program: &str, args: &[&str]| {
        stdout(&Command::new(program).args(args).current_dir(folder()).output().expect("it starts"))
    };
    for file in ["prometheus.yml", "prometheus.replicas.yml"] {
        succeeds("promtool", &["check", "config", file]);
    }
    let (alone, replicas) = (read(&folder().join("prometheus.yml")), read(&folder().join("prometheus.replicas.yml")));
    assert_eq!(alone.replace("\"receiver:9088\"", "\"receiver-a:9088\", \"receiver-b:9088\""), replicas);
    succeeds("amtool", &["check-config", "alertmanager.yml"]);
    let routed =
        |label: &str| succeeds("amtool", &["config", "routes", "test", "--config.file=alertmanager.yml", label]);
    assert_eq!(routed("alertname=Watchdog"), "dead-mans-switch\n");
    assert_eq!(routed("alertname=PrometheusTargetDown"), "matrix\n");
}

/// Two receivers on one PostgreSQL, laid over the file for one.
#[test]
fn the_file_with_replicas_is_valid() {
    let scratch = Scratch::new("compose-replicas");
    let good = read(&folder().join("compose.replicas.yaml"));
    let check = |text: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/validate.py");
        let file = scratch.write("compose.replicas.yaml", text);
        let mut command = Command::new(python());
        command.arg("-B").arg(script).arg("--compose").arg(folder().join("compose.yaml")).arg(file);
        command.output().expect("python starts")
    };
    stdout(&check(&good));
    for (from, to, word) in [
        ("- receiver-b:/var", "- receiver:/var", "one store"),
        ("postgres: { condition", "database: { condition", "database"),
        ("hostname: receiver-b", "host_name: receiver-b", "host_name"),
        ("./prometheus.replicas.yml:", "./prometheus-replicas.yml:", "prometheus-replicas.yml"),
        ("127.0.0.1:9089:9088", "9089:9088", "open to all"),
    ] {
        assert!(good.contains(from), "{from}");
        let output = check(&good.replacen(from, to, 1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(word), "{from} -> {to}: {stderr:?}");
    }
    // What the name `receiver` stands for, and what both replicas are given, is the same.
    let alone = read(&folder().join("compose.yaml"));
    let variables = |text: &str| {
        let lines =
            text.lines().map(str::trim).filter(|line| line.contains(": /run/secrets/") || line.starts_with("MAR_"));
        lines.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    // Replicas log in by password.
    let alone = alone.replace("MATRIX_ACCESS_TOKEN_FILE: /run/secrets/access-token", "");
    let second = good.split_once("\n  receiver-b:").expect("a second replica").1;
    assert!(variables(second).is_superset(&variables(alone.split_once("\n  receiver:").expect("a receiver").1)));
    assert_eq!(good.matches("MAR_STORE__DATABASE_URL_FILE: /run/secrets/database-url\n").count(), 2);
    assert!(second.contains("aliases: [receiver] "), "{second}");
}

/// Against the schema that the compose specification publishes; each file it mounts is there or is made by the setup.
#[test]
fn the_compose_file_is_valid() {
    let check = |file: &Path| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/validate.py");
        Command::new(python()).arg("-B").arg(script).arg("--compose").arg(file).output().expect("python starts")
    };
    stdout(&check(&folder().join("compose.yaml")));
    let scratch = Scratch::new("compose-faults");
    let good = read(&folder().join("compose.yaml"));
    for (from, to, word) in [
        ("read_only: true", "readonly: true", "readonly"),
        ("condition: service_healthy", "condition: healthy", "healthy"),
        ("./receiver.toml:", "./config.toml:", "config.toml"),
        ("synapse: { condition", "homeserver: { condition", "homeserver"),
        ("- receiver:/var", "- store:/var", "store"),
    ] {
        assert!(good.contains(from), "{from}");
        let file = scratch.write("compose.yaml", &good.replacen(from, to, 1));
        let output = check(&file);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(word), "{from} -> {to}: {stderr:?}");
    }
}
