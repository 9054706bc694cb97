//! A real Prometheus, and a metrics page that makes its rules fire.

use std::{
    collections::BTreeMap,
    fmt::Write,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, extract::State, routing::get};
use serde_json::{Value, json};

use super::{
    Alertmanager,
    alertmanager::{READY, start_server},
    http::{Answer, client},
    process::{Process, Scratch, free_port},
    webhook::Served,
};

/// Its config file, as JSON, which is YAML, and its rules.
#[derive(Debug, Clone)]
pub struct PrometheusConfig {
    pub json: Value,
    rules: String,
    args: Vec<String>,
}

impl PrometheusConfig {
    /// Scrapes and evaluates each second. `rules` is the text of a rule file.
    pub fn new(rules: &str) -> Self {
        let json = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": ["rules.yml"],
            "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": [] }] }] },
            "scrape_configs": [],
        });
        Self { json, rules: rules.to_owned(), args: Vec::new() }
    }

    /// Sends its alerts there; call it for each of a cluster.
    pub fn alertmanager(self, alertmanager: &Alertmanager) -> Self {
        self.alertmanager_at(&alertmanager.url())
    }

    /// Sends its alerts to `http://HOST:PORT`: a proxy in front of an Alertmanager.
    pub fn alertmanager_at(mut self, url: &str) -> Self {
        let targets = &mut self.json["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"];
        targets.as_array_mut().expect("an array").push(json!(host_and_port(url)));
        self
    }

    /// Sends what fires again each second, so that Alertmanager takes it for over four seconds after the last time.
    pub fn resend_each_second(mut self) -> Self {
        self.args.push("--rules.alert.resend-delay=1s".to_owned());
        self
    }

    /// Scrapes the switch, as `job`.
    pub fn scrape(self, job: &str, switch: &Switch) -> Self {
        self.scrape_target(job, &format!("127.0.0.1:{}", switch.served.port))
    }

    /// Scrapes `/metrics` of `host:port`, as `job`.
    pub fn scrape_target(mut self, job: &str, target: &str) -> Self {
        let config = json!({ "job_name": job, "static_configs": [{ "targets": [target] }] });
        self.json["scrape_configs"].as_array_mut().expect("an array").push(config);
        self
    }
}

#[derive(Debug)]
pub struct Prometheus {
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
    args: Vec<String>,
}

impl Prometheus {
    pub async fn start(config: PrometheusConfig) -> Self {
        let (port, scratch) = (free_port(), Scratch::new("prometheus"));
        scratch.write("prometheus.yml", &config.json.to_string());
        scratch.write("rules.yml", &config.rules);
        let mut prometheus = Self { process: None, scratch, port, args: config.args };
        prometheus.launch(&program()).await;
        prometheus
    }

    async fn launch(&mut self, program: &str) {
        let mut command = Command::new(program);
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]).current_dir(self.scratch.path());
        command.arg(format!("--web.listen-address=127.0.0.1:{}", self.port)).args(&self.args);
        self.process = Some(start_server(program, READY, &mut command, &self.scratch, &self.url()).await);
    }

    /// Ends it without a word, as a node that is lost.
    pub fn kill9(&mut self) {
        drop(self.process.take());
    }

    /// Starts it again on its port and its data.
    pub async fn restart(&mut self) {
        self.kill9();
        self.launch(&program()).await;
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The result of an instant query.
    pub async fn query(&self, expr: &str) -> Value {
        let request = client().get(format!("{}/api/v1/query", self.url())).query(&[("query", expr)]);
        let json = Answer::to(request).await.expect("Prometheus answers").expect_ok("query");
        json["data"]["result"].clone()
    }
}

fn program() -> String {
    std::env::var("MAR_TEST_PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned())
}

/// A metrics page with gauges that a test sets.
#[derive(Debug)]
pub struct Switch {
    served: Served,
    gauges: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl Switch {
    pub async fn start() -> Self {
        let gauges = Arc::<Mutex<BTreeMap<String, f64>>>::default();
        let router = Router::new().route("/metrics", get(page)).with_state(gauges.clone());
        Self { served: Served::start(router).await, gauges }
    }

    /// Sets a series, written as in the page: `demo_up{node="n01"}`.
    pub fn set(&self, series: &str, value: f64) {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).insert(series.to_owned(), value);
    }

    /// Takes a series off the page.
    pub fn remove(&self, series: &str) {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner).remove(series);
    }
}

async fn page(State(gauges): State<Arc<Mutex<BTreeMap<String, f64>>>>) -> String {
    let mut page = String::new();
    for (series, value) in gauges.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = writeln!(page, "{series} {value}");
    }
    page
}

fn host_and_port(url: &str) -> &str {
    url.trim_start_matches("http://")
}
