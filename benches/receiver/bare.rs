//! The same server without a store: same settings, same checks, same decoding, same rules, same answer, same log line.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, StatusCode, header},
    routing::any,
};
use hyper_util::rt::TokioTimer;
use matrix_alertmanager_receiver::{
    clock::Clock,
    config::{Config, Purpose, environment},
    intake::{self, Rules},
    metrics::Metrics,
    telemetry,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::load::TOKEN;
use crate::harness::{
    DEADLINE, eventually,
    process::{Process, Scratch, free_port},
};

/// Makes the program the server. Not `MAR_…`: those are the receiver's settings.
const CONFIG: &str = "BENCH_BARE_CONFIG";
const LISTEN: &str = "BENCH_BARE_LISTEN";
const READING: &str = "BENCH_BARE_READING";

/// How the baseline reads bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As the receiver does.
    Same,
    /// As 0.1.0 did, when bounds were set that are shares of what this server does.
    InParts,
}

/// The baseline server as a child process.
pub struct Bare {
    process: Process,
    pub port: u16,
    /// Holds its log; after the process, which writes it.
    _scratch: Scratch,
}

impl Bare {
    /// With the receiver's own config.
    pub async fn start(config: &Path, reading: Reading) -> Self {
        let (scratch, port) = (Scratch::new("bare"), free_port());
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.env_clear().env(CONFIG, config).env(LISTEN, format!("127.0.0.1:{port}"));
        command.env(READING, format!("{reading:?}"));
        let process = Process::spawn(&mut command, &scratch.join("bare.log")).expect("our own program starts");
        eventually("the baseline listens", DEADLINE, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { process, port, _scratch: scratch }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// What this process is, if it is the server.
pub struct Role {
    config: PathBuf,
    listen: SocketAddr,
    reading: Reading,
}

struct Parts {
    config: Config,
    token: [u8; 32],
    clock: Clock,
    metrics: Metrics,
    reading: Reading,
}

impl Role {
    pub fn from_environment() -> Option<Self> {
        let config = std::env::var_os(CONFIG)?.into();
        let listen = std::env::var(LISTEN).ok()?.parse().expect("an address");
        let is_same = std::env::var(READING).is_ok_and(|reading| reading == format!("{:?}", Reading::Same));
        Some(Self { config, listen, reading: if is_same { Reading::Same } else { Reading::InParts } })
    }

    /// Until it is killed.
    pub async fn serve(self) {
        let config = Config::load(Some(&self.config), &environment(), Purpose::Serve).expect("the receiver's config");
        telemetry::init(false, &config.log.filter).expect("a log");
        let routes: Vec<_> = config.routes.keys().cloned().collect();
        let metrics = Metrics::new(&routes, &[], "bare", "bare");
        let parts = Parts {
            config,
            token: Sha256::digest(TOKEN).into(),
            clock: Clock::system(),
            metrics,
            reading: self.reading,
        };
        let app = Router::new().route("/alerts/{route}", any(accept)).with_state(Arc::new(parts));
        let listener = std::net::TcpListener::bind(self.listen).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let mut server = axum_server::from_tcp(listener).expect("a socket");
        let patience = Duration::from_secs(30);
        server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(patience);
        server.serve(app.into_make_service()).await.expect("it serves");
    }
}

async fn accept(
    State(parts): State<Arc<Parts>>,
    UrlPath(named): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, StatusCode> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let known = given.is_some_and(|token| Sha256::digest(token).as_slice().ct_eq(&parts.token).into());
    if !known {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let webhook = match parts.reading {
        Reading::Same => intake::decode(&body),
        Reading::InParts => intake::decode_in_parts(&body),
    };
    let webhook = webhook.map_err(|_| StatusCode::BAD_REQUEST)?;
    let route = intake::choose_route(&parts.config.routes, Some(&named), &webhook.receiver);
    let route = route.map_err(|_| StatusCode::NOT_FOUND)?;
    let rules = Rules::of(route, &parts.config.display);
    let changes = intake::reconcile(None, &webhook, &rules, parts.clock.now());
    let (name, outcome) = (route.name.as_str(), changes.outcome.as_str());
    parts.metrics.notifications.with_label_values(&[name, outcome]).inc();
    parts.metrics.alerts.with_label_values(&[name, "firing"]).inc_by(webhook.alerts.len() as u64);
    parts.metrics.http_requests.with_label_values(&["alerts", "200"]).inc();
    let notification = ulid::Ulid::new().to_string();
    tracing::info!(
        notification,
        incident = notification,
        route = name,
        outcome,
        firing = webhook.alerts.len(),
        resolved = 0,
        odd_fields = webhook.odd,
        "accepted"
    );
    Ok(Json(json!({ "status": "accepted", "notification": notification })))
}
