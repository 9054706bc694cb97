//! A real Loki, as one process with its data in a folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    DEADLINE,
    alertmanager::start_server,
    eventually,
    http::{Answer, client},
    process::{Process, Scratch, free_port},
};

#[derive(Debug)]
pub struct Loki {
    /// Before the folder, which must not be removed under a running server.
    process: Option<Process>,
    scratch: Scratch,
    port: u16,
}

impl Loki {
    /// `None` where `make tools` could not build it; the test then has nothing to test against.
    pub async fn start() -> Option<Self> {
        if !program().exists() {
            eprintln!("skipped: no .tools/loki, which `make tools` builds where Go is new enough");
            return None;
        }
        let (scratch, port) = (Scratch::new("loki"), free_port());
        scratch.write("loki.yml", &config(scratch.path(), port).to_string());
        let mut loki = Self { process: None, scratch, port };
        loki.restart().await;
        Some(loki)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it without a word.
    pub fn kill9(&mut self) {
        drop(self.process.take());
    }

    /// Starts it again on its port and its data.
    pub async fn restart(&mut self) {
        self.kill9();
        let mut command = Command::new(program());
        command.args(["-config.file=loki.yml", "-log.level=warn"]).current_dir(self.scratch.path());
        self.process = Some(start_server("loki", "/ready", &mut command, &self.scratch, &self.url()).await);
    }

    /// Pushes lines into one stream, each with its time.
    pub async fn push(&self, labels: &[(&str, &str)], lines: &[(Timestamp, &str)]) {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let values: Vec<[String; 2]> =
            lines.iter().map(|(at, line)| [at.as_nanosecond().to_string(), (*line).to_owned()]).collect();
        let body = json!({ "streams": [{ "stream": labels, "values": values }] });
        // Its ring may not have heard of the ingester yet.
        eventually("Loki takes lines", DEADLINE, async || {
            let request = client().post(format!("{}/loki/api/v1/push", self.url())).json(&body);
            let answer = Answer::to(request).await.expect("Loki answers");
            assert!(answer.status != 400, "{}", answer.body);
            (answer.status == 204).then_some(())
        })
        .await;
    }
}

fn program() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.tools/loki/loki"))
}

/// JSON is YAML. It listens on the loopback alone, and knows of nobody else.
fn config(folder: &Path, port: u16) -> Value {
    let path = |name: &str| folder.join(name);
    let ring = json!({ "kvstore": { "store": "inmemory" }, "replication_factor": 1 });
    json!({
        "auth_enabled": false,
        "server": {
            "http_listen_address": "127.0.0.1", "http_listen_port": port,
            "grpc_listen_address": "127.0.0.1", "grpc_listen_port": free_port(),
        },
        "ingester": {
            "max_transfer_retries": 0,
            "lifecycler": { "address": "127.0.0.1", "ring": ring, "final_sleep": "0s", "min_ready_duration": "0s" },
            "wal": { "enabled": true, "dir": path("wal") },
        },
        "schema_config": { "configs": [{
            "from": "2020-01-01", "store": "boltdb", "object_store": "filesystem", "schema": "v11",
            "index": { "prefix": "index_", "period": "168h" },
        }] },
        "storage_config": {
            "boltdb": { "directory": path("index") },
            "filesystem": { "directory": path("chunks") },
        },
        "limits_config": { "reject_old_samples": false },
        "frontend_worker": { "parallelism": 1 },
    })
}
