//! A real Alertmanager, and what an operator does to it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    ClusterLink, DEADLINE, POLL, eventually,
    http::{Answer, client},
    process::{Process, Scratch, describe, free_port, tail},
};

/// Its config file, as JSON, which is YAML.
#[derive(Debug, Clone)]
pub struct AlertmanagerConfig {
    pub json: Value,
    peers: Vec<u16>,
    clustered: bool,
    /// Advertised and real port of a link in front of it.
    link: Option<(u16, u16)>,
    program: Option<PathBuf>,
    /// Of its URL.
    prefix: String,
    /// What `--web.config.file` names, as JSON: TLS and basic authentication.
    web: Option<Value>,
}

impl AlertmanagerConfig {
    /// Everything goes to one webhook, grouped by alert name, as fast as Alertmanager can.
    pub fn webhook(url: &str) -> Self {
        let json = json!({
            "route": {
                "receiver": "matrix",
                "group_by": ["alertname"],
                "group_wait": "100ms",
                "group_interval": "1s",
                "repeat_interval": "4h",
            },
            "receivers": [{ "name": "matrix", "webhook_configs": [{ "url": url, "send_resolved": true }] }],
        });
        let prefix = String::new();
        Self { json, peers: Vec::new(), clustered: false, link: None, program: None, prefix, web: None }
    }

    /// Runs `program` in place of Debian's; see [`Alertmanager::newest`].
    pub fn run_by(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Serves everything below this path, such as `/alertmanager`.
    pub fn prefix(mut self, path: &str) -> Self {
        path.clone_into(&mut self.prefix);
        self
    }

    /// What it demands of its clients and shows them: `basic_auth_users`, `tls_server_config`. The harness itself then cannot
    /// ask it.
    pub fn web(mut self, web: Value) -> Self {
        self.web = Some(web);
        self
    }

    /// A setting of the route: `repeat_interval`, `group_by`, …
    pub fn route(mut self, key: &str, value: Value) -> Self {
        self.json["route"][key] = value;
        self
    }

    /// A setting of the webhook: `max_alerts`, `send_resolved`, …
    pub fn webhook_setting(mut self, key: &str, value: Value) -> Self {
        self.json["receivers"][0]["webhook_configs"][0][key] = value;
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.webhook_setting("http_config", json!({ "authorization": { "credentials": token } }))
    }

    /// The first of a cluster.
    pub fn clustered(mut self) -> Self {
        self.clustered = true;
        self
    }

    /// A further one of `other`'s cluster.
    pub fn peer_of(mut self, other: &Alertmanager) -> Self {
        self.clustered = true;
        self.peers.push(other.advertised_port);
        self
    }

    /// The others of its cluster reach it through `link`.
    pub fn behind(mut self, link: &ClusterLink) -> Self {
        self.link = Some((link.advertised, link.target));
        self
    }
}

#[derive(Debug)]
pub struct Alertmanager {
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
    /// Where the others of its cluster find it.
    advertised_port: u16,
    args: Vec<String>,
    program: PathBuf,
    prefix: String,
    /// It answers the harness with 401, or by TLS.
    guarded: bool,
}

impl Alertmanager {
    /// The program of the newest version that the tests know, where `make tools` could build it.
    pub fn newest() -> Option<PathBuf> {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/alertmanager/alertmanager"));
        let there = path.exists();
        if !there {
            eprintln!("skipped: no .tools/alertmanager, which `make tools` builds where Go is new enough");
        }
        there.then_some(path)
    }

    /// Debian's program.
    pub fn debian() -> PathBuf {
        std::env::var("MAR_TEST_ALERTMANAGER").map_or_else(|_| "prometheus-alertmanager".into(), PathBuf::from)
    }

    /// The programs to test against, oldest first.
    pub fn versions() -> Vec<PathBuf> {
        [Some(Self::debian()), Self::newest()].into_iter().flatten().collect()
    }

    pub async fn start(config: AlertmanagerConfig) -> Self {
        let port = free_port();
        let (advertised_port, cluster_port) = config.link.unwrap_or_else(|| {
            let port = free_port();
            (port, port)
        });
        let scratch = Scratch::new("alertmanager");
        scratch.write("alertmanager.yml", &config.json.to_string());
        let mut args = vec![
            "--config.file=alertmanager.yml".to_owned(),
            "--storage.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        if config.clustered {
            args.push(format!("--cluster.listen-address=127.0.0.1:{cluster_port}"));
            args.push(format!("--cluster.advertise-address=127.0.0.1:{advertised_port}"));
            // What a second replica waits before it notifies as well; 15 s by default.
            args.push("--cluster.peer-timeout=2s".to_owned());
            // A start waits this long for the cluster to stop changing; a minute by default.
            args.push("--cluster.settle-timeout=2s".to_owned());
            args.extend(config.peers.iter().map(|peer| format!("--cluster.peer=127.0.0.1:{peer}")));
        } else {
            args.push("--cluster.listen-address=".to_owned());
        }
        if !config.prefix.is_empty() {
            args.push(format!("--web.external-url=http://127.0.0.1:{port}{}", config.prefix));
        }
        if let Some(web) = &config.web {
            scratch.write("web.yml", &web.to_string());
            args.push("--web.config.file=web.yml".to_owned());
        }
        let program = config.program.unwrap_or_else(Self::debian);
        let (prefix, guarded) = (config.prefix, config.web.is_some());
        let mut alertmanager = Self { port, advertised_port, args, scratch, process: None, program, prefix, guarded };
        alertmanager.launch().await;
        alertmanager
    }

    async fn launch(&mut self) {
        let program = self.program.display().to_string();
        let mut command = Command::new(&self.program);
        command.args(&self.args).current_dir(self.scratch.path());
        if self.guarded {
            self.process = Some(self.start_guarded(&program, &mut command).await);
        } else {
            self.process = Some(start_server(&program, READY, &mut command, &self.scratch, &self.url()).await);
        }
    }

    /// Waits for its port only.
    async fn start_guarded(&self, program: &str, command: &mut Command) -> Process {
        let log = self.scratch.join("output.log");
        let process = Process::spawn(command, &log).unwrap_or_else(|error| panic!("`{program}`: {error}"));
        eventually(&format!("{program} listens"), DEADLINE, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        })
        .await;
        process
    }

    /// Ends it without a word, as a node that is lost.
    pub fn kill9(&mut self) {
        drop(self.process.take());
    }

    /// Starts it again on its port and its data.
    pub async fn restart(&mut self) {
        self.kill9();
        self.launch().await;
    }

    /// Takes over an edited config, as an operator has it do; what fires goes on firing.
    pub async fn reload(&self, config: &AlertmanagerConfig) {
        self.scratch.write("alertmanager.yml", &config.json.to_string());
        let answer = Answer::to(client().post(format!("{}/-/reload", self.url()))).await.expect("Alertmanager answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// `http://127.0.0.1:PORT`, and its prefix.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.prefix)
    }

    /// Posts alerts as Prometheus does.
    pub async fn post_alerts(&self, alerts: &[AlertToPost]) {
        let alerts: Vec<_> = alerts.iter().map(|alert| alert.0.clone()).collect();
        self.api(Method::POST, "/alerts", Some(&json!(alerts))).await;
    }

    /// Silences alerts with these labels for an hour; returns the silence's id.
    pub async fn silence(&self, silence: Silence) -> String {
        let answer = self.api(Method::POST, "/silences", Some(&silence.0)).await;
        answer["silenceID"].as_str().expect("a silence id").to_owned()
    }

    pub async fn expire_silence(&self, id: &str) {
        self.api(Method::DELETE, &format!("/silence/{id}"), None).await;
    }

    /// Its silences.
    pub async fn silences(&self) -> Value {
        self.api(Method::GET, "/silences", None).await
    }

    /// Its alerts, with their state.
    pub async fn alerts(&self) -> Value {
        self.api(Method::GET, "/alerts", None).await
    }

    /// How many members the cluster has, as this one sees it.
    pub async fn cluster_size(&self) -> usize {
        let status = self.api(Method::GET, "/status", None).await;
        status["cluster"]["peers"].as_array().map_or(0, Vec::len)
    }

    async fn api(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let mut request = client().request(method, format!("{}/api/v2{path}", self.url()));
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::to(request).await.expect("Alertmanager answers").expect_ok(path)
    }
}

/// An alert as `POST /api/v2/alerts` takes it.
#[derive(Debug, Clone)]
pub struct AlertToPost(Value);

impl AlertToPost {
    /// Firing from now on, until it is posted as [`AlertToPost::resolved`].
    pub fn firing(labels: &[(&str, &str)]) -> Self {
        let in_an_hour = Timestamp::now() + SignedDuration::from_hours(1);
        Self(json!({ "labels": map(labels), "annotations": {}, "endsAt": in_an_hour.to_string() }))
    }

    /// Ended now.
    pub fn resolved(labels: &[(&str, &str)]) -> Self {
        Self(json!({ "labels": map(labels), "annotations": {}, "endsAt": Timestamp::now().to_string() }))
    }

    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.0["annotations"][name] = json!(value);
        self
    }
}

/// A silence as `POST /api/v2/silences` takes it.
#[derive(Debug, Clone)]
pub struct Silence(Value);

impl Silence {
    /// For all alerts that have these labels.
    pub fn of(labels: &[(&str, &str)]) -> Self {
        let now = Timestamp::now();
        let matcher = |(name, value): &(&str, &str)| json!({ "name": name, "value": value, "isRegex": false });
        Self(json!({
            "matchers": labels.iter().map(matcher).collect::<Vec<_>>(),
            "startsAt": now.to_string(),
            "endsAt": (now + SignedDuration::from_hours(1)).to_string(),
            "createdBy": "test",
            "comment": "test",
        }))
    }

    /// Made by somebody else, for a reason.
    pub fn by(mut self, who: &str, comment: &str) -> Self {
        self.0["createdBy"] = json!(who);
        self.0["comment"] = json!(comment);
        self
    }
}

fn map(labels: &[(&str, &str)]) -> Value {
    labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

/// Where the servers of the Prometheus project say that they are ready.
pub(super) const READY: &str = "/-/ready";

/// Starts a server and waits until it says at `ready` that it is.
pub(super) async fn start_server(
    program: &str,
    ready: &str,
    command: &mut Command,
    scratch: &Scratch,
    url: &str,
) -> Process {
    let log = scratch.join("output.log");
    let mut process = Process::spawn(command, &log)
        .unwrap_or_else(|error| panic!("`{program}` is not installed ({error}); run `make tools`"));
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        let status = process.exit_status();
        let in_time = tokio::time::Instant::now() < end;
        assert!(status.is_none() && in_time, "{program} ({}):\n{}", describe(status), tail(&log, 30));
        let request = client().get(format!("{url}{ready}")).timeout(Duration::from_secs(5));
        if matches!(request.send().await, Ok(answer) if answer.status() == 200) {
            return process;
        }
        tokio::time::sleep(POLL).await;
    }
}
