//! The receiver itself: the built binary as a child process, so that it can be killed like one.

use std::{
    fmt,
    path::PathBuf,
    process::{Command, ExitStatus, Output},
    time::Duration,
};

use serde_json::Value;
use sqlx::Connection as _;
use tokio::time::Instant;
use toml::Table;

use super::{
    DEADLINE, POLL, ReceiverBuilder, Samples, eventually,
    http::{Answer, client},
    process::{Process, describe, tail},
    receiver_config::{clean_command, merge, parse, without},
    store::Look,
};

/// Lines of the log that a failure shows.
const TAIL: usize = 80;

#[derive(Debug)]
pub struct Receiver {
    with: ReceiverBuilder,
    process: Option<Process>,
}

/// A receiver that ended, or hung, before it was ready.
#[derive(Debug)]
pub struct StartFailure {
    /// `None`: it ran on, but was not ready at the deadline.
    pub status: Option<ExitStatus>,
    pub log: String,
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the receiver did not get ready ({}):\n{}", describe(self.status), self.log)
    }
}

impl Receiver {
    pub(super) fn new(with: ReceiverBuilder) -> Self {
        let receiver = Self { with, process: None };
        receiver.write_config();
        receiver
    }

    fn write_config(&self) {
        self.with.scratch.write("config.toml", &self.with.config.to_string());
    }

    /// The device that hears and encrypts: the token's, with a store that replicas can share the one that was logged in
    /// beside it, and without a token the one of the stored session.
    pub fn own_device(&self) -> String {
        if let Some(own) = &self.with.own_device {
            return own.device_id.clone();
        }
        let matrix = self.with.config.get("matrix").and_then(toml::Value::as_table);
        if matrix.is_some_and(|matrix| matrix.contains_key("access_token")) {
            return self.with.bot.device_id.clone();
        }
        let text = std::fs::read_to_string(self.store_path().join("session.json")).expect("a stored session");
        let session: Value = serde_json::from_str(&text).expect("JSON");
        session["device_id"].as_str().expect("a device").to_owned()
    }

    pub fn config_path(&self) -> PathBuf {
        self.with.scratch.join("config.toml")
    }

    /// The folder of the store.
    pub fn store_path(&self) -> PathBuf {
        self.with.scratch.join("store")
    }

    /// Its store, in whichever database it is.
    pub fn store(&self) -> Look {
        self.with.look()
    }

    /// The number that a query of its store finds.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let mut store = self.store().open().await;
        let count = sqlx::query_scalar(sql).fetch_one(&mut store).await.expect("counted");
        store.close().await.expect("closed");
        count
    }

    /// `http://127.0.0.1:PORT`, or https.
    pub fn url(&self) -> String {
        let scheme = if self.with.trusting.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.with.port)
    }

    fn client(&self) -> &reqwest::Client {
        self.with.trusting.as_ref().unwrap_or_else(|| client())
    }

    /// Where Alertmanager posts for a route.
    pub fn webhook_url(&self, route: &str) -> String {
        format!("{}/alerts/{route}", self.url())
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) {
        self.with.log_in_own_device();
        let mut command = clean_command(&self.with.binary, &self.with.env);
        command.arg("serve").arg("--config").arg(self.config_path()).current_dir(self.with.scratch.path());
        self.process = Some(Process::spawn(&mut command, &self.log_path()).expect("the receiver's binary starts"));
    }

    pub(super) async fn launch(&mut self) -> Result<(), StartFailure> {
        self.spawn();
        self.ready().await
    }

    /// Waits until `/readyz` says 200.
    pub async fn ready(&mut self) -> Result<(), StartFailure> {
        let end = Instant::now() + DEADLINE;
        loop {
            let status = self.process().exit_status();
            if status.is_some() || Instant::now() >= end {
                return Err(StartFailure { status, log: tail(&self.log_path(), TAIL) });
            }
            if matches!(self.client().get(format!("{}/readyz", self.url())).send().await, Ok(answer) if answer.status() == 200)
            {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the receiver was started")
    }

    /// The running process, for what /proc tells of it.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the receiver was started").pid()
    }

    /// SIGKILL: what a crash, the OOM killer or a power cut leave is all that is left.
    pub fn kill9(&mut self) {
        self.process().kill9();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it still runs at the deadline.
    pub async fn sigterm(&mut self, deadline: Duration) -> ExitStatus {
        self.process().signal("TERM");
        let status = self.process().wait(deadline).await;
        status.unwrap_or_else(|| panic!("still running {deadline:?} after SIGTERM:\n{}", self.log_tail()))
    }

    /// Any other signal ("STOP", "CONT", "HUP").
    pub fn signal(&mut self, signal: &str) {
        self.process().signal(signal);
    }

    /// `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process().exit_status()
    }

    /// Starts again on the same store and port, after a SIGTERM if it still runs, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.sigterm(DEADLINE).await;
        self.launch().await.unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Lays TOML over the config that the next start reads.
    pub fn reconfigure(&mut self, text: &str) {
        merge(&mut self.with.config, parse(text));
        self.write_config();
    }

    /// Takes a key out of the config that the next start reads, by its path.
    pub fn take_key(&mut self, path: &str) {
        without(&mut self.with.config, path);
        self.write_config();
    }

    /// Puts the config where the running receiver reads it, as Kubernetes changes a mounted ConfigMap: a new folder, and a
    /// link to it that takes the place of the one before in one step.
    pub fn swap_config(&mut self, change: impl FnOnce(&mut Table)) {
        change(&mut self.with.config);
        let folder = self.with.scratch.path();
        let version = (1..1_000).find(|n| !folder.join(format!("..{n}")).exists()).expect("a free name");
        let version = format!("..{version}");
        std::fs::create_dir(folder.join(&version)).expect("a folder");
        std::fs::write(folder.join(&version).join("config.toml"), self.with.config.to_string()).expect("written");
        for (link, to) in [("..data", version.as_str()), ("config.toml", "..data/config.toml")] {
            let new = folder.join("..new");
            std::os::unix::fs::symlink(to, &new).expect("a link");
            std::fs::rename(&new, folder.join(link)).expect("renamed");
        }
    }

    /// Posts with this bearer token from now on.
    pub fn use_webhook_token(&mut self, token: &str) {
        self.with.bearer = Some(token.to_owned());
    }

    /// Runs another command of the binary with this config, beside a running `serve` or without one.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let mut command: Command = clean_command(&self.with.binary, &self.with.env);
        command.arg("--config").arg(self.config_path()).args(args).current_dir(self.with.scratch.path());
        // Off this thread: the proxy that the command may need runs on it.
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        output.expect("no panic").expect("the receiver's binary starts")
    }

    /// Posts a notification to `/alerts/{route}`, or to `/alerts` if `route` is empty.
    ///
    /// # Panics
    /// When the receiver cannot be reached or closes the connection.
    pub async fn post(&self, route: &str, payload: impl Into<Value>) -> Answer {
        let answer = self.try_post(route, payload).await;
        answer.unwrap_or_else(|error| panic!("no answer: {error:?}\n{}", self.log_tail()))
    }

    /// As Alertmanager posts: an error is one of the network, such as a receiver killed meanwhile.
    pub async fn try_post(&self, route: &str, payload: impl Into<Value>) -> reqwest::Result<Answer> {
        let path = if route.is_empty() { "/alerts".to_owned() } else { format!("/alerts/{route}") };
        let mut request = self.request(reqwest::Method::POST, &path).json(&payload.into());
        if let Some(token) = &self.with.bearer {
            request = request.bearer_auth(token);
        }
        Answer::to(request).await
    }

    /// [`Receiver::post`] that must be accepted; returns the notification id.
    pub async fn accept(&self, route: &str, payload: impl Into<Value>) -> String {
        let answer = self.post(route, payload).await;
        let notification = answer.json()["notification"].as_str().map(str::to_owned);
        match notification {
            Some(id) if answer.status == 200 => id,
            _ => panic!("not accepted: {} {}\n{}", answer.status, answer.body, self.log_tail()),
        }
    }

    /// Any request, without credentials.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client().request(method, format!("{}{path}", self.url()))
    }

    /// GET, without credentials.
    pub async fn get(&self, path: &str) -> Answer {
        let answer = Answer::to(self.request(reqwest::Method::GET, path)).await;
        answer.unwrap_or_else(|error| panic!("GET {path}: {error:?}\n{}", self.log_tail()))
    }

    /// `/metrics`, parsed.
    pub async fn metrics(&self) -> Samples {
        Samples::parse(&self.get("/metrics").await.body)
    }

    /// The sum of the samples called `name` (the prefix may be left out) that have all of `labels`; 0 without any.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().await.sum(name, labels)
    }

    /// Waits until [`Receiver::metric`] is as wanted; returns it.
    pub async fn wait_metric(&self, name: &str, labels: &[(&str, &str)], wanted: impl Fn(f64) -> bool) -> f64 {
        let what = format!("{name}{labels:?} as wanted");
        eventually(&what, DEADLINE, async || Some(self.metric(name, labels).await).filter(|value| wanted(*value))).await
    }

    /// Waits until `/healthz` has a notice of the store with `words`; returns it.
    pub async fn health_notice(&self, words: &str) -> String {
        eventually(&format!("a notice with {words:?}"), DEADLINE, async || {
            let health = self.get("/healthz").await.json();
            let notice = health["parts"]["store"]["notice"].as_str().map(str::to_owned);
            notice.filter(|notice| notice.contains(words))
        })
        .await
    }

    fn log_path(&self) -> PathBuf {
        self.with.scratch.join("receiver.log")
    }

    /// All it has written to stdout and stderr, over all its starts.
    pub fn logs(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The end of the log, for failure messages.
    pub fn log_tail(&self) -> String {
        tail(&self.log_path(), TAIL)
    }

    /// Waits until a line of the log has all of `needles`; returns the line.
    pub async fn wait_log(&self, needles: &[&str]) -> String {
        let found = |line: &&str| needles.iter().all(|needle| line.contains(needle));
        let what = format!("a log line with {needles:?}");
        eventually(&what, DEADLINE, async || self.logs().lines().find(found).map(str::to_owned)).await
    }
}

impl Drop for Receiver {
    /// Whatever a test is about: no panic in the log, and no secret.
    fn drop(&mut self) {
        drop(self.process.take());
        if std::thread::panicking() {
            eprintln!("--- the receiver's log\n{}\n---", self.log_tail());
            return;
        }
        let logs = self.logs();
        let bad = |line: &&str| self.with.forbidden.iter().any(|forbidden| line.contains(forbidden.as_str()));
        if let Some(line) = logs.lines().find(bad) {
            panic!("the receiver's log must not have this line: {line}\n{}", self.log_tail());
        }
    }
}
