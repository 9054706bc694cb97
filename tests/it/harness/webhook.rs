//! Small servers of the tests' own, on the test's runtime.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use super::eventually;

/// A server that ends with its owner.
#[derive(Debug)]
pub struct Served {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Served {
    /// Serves `router` on a free loopback port.
    pub async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        Self { port, task }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Captured {
    posts: Mutex<Vec<(Option<String>, Value)>>,
    /// 0 for 200.
    status: AtomicU16,
}

/// Takes webhooks in the receiver's place and keeps them: what Alertmanager really sends.
#[derive(Debug)]
pub struct WebhookCapture {
    served: Served,
    captured: Arc<Captured>,
}

impl WebhookCapture {
    pub async fn start() -> Self {
        let captured = Arc::new(Captured::default());
        let router = Router::new().route("/", post(capture)).with_state(captured.clone());
        Self { served: Served::start(router).await, captured }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.served.port)
    }

    /// What the next webhooks are answered with; they are kept all the same.
    pub fn answer(&self, status: u16) {
        self.captured.status.store(status, Ordering::Relaxed);
    }

    /// The payloads so far.
    pub fn payloads(&self) -> Vec<Value> {
        self.posts().into_iter().map(|(_, payload)| payload).collect()
    }

    /// `Authorization` header and payload of each webhook so far.
    pub fn posts(&self) -> Vec<(Option<String>, Value)> {
        self.captured.posts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a payload like this.
    pub async fn wait_for(&self, what: &str, deadline: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, deadline, async || self.payloads().into_iter().find(|payload| wanted(payload))).await
    }
}

async fn capture(State(captured): State<Arc<Captured>>, headers: HeaderMap, Json(payload): Json<Value>) -> StatusCode {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    captured.posts.lock().unwrap_or_else(PoisonError::into_inner).push((authorization, payload));
    StatusCode::from_u16(captured.status.load(Ordering::Relaxed)).unwrap_or(StatusCode::OK)
}
