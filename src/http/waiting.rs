//! What is served while the store is not open yet: the database is away, or refuses us. Nothing is lost meanwhile, since
//! Alertmanager tries again.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{any, get},
};
use serde_json::json;

use super::{
    answer::Answer,
    probes,
    state::{Front, Side},
};

pub fn router(front: &Arc<Front>, side: Side) -> Router {
    let router = match side {
        Side::Main { .. } => Router::new().route("/alerts", any(refuse)).route("/alerts/{route}", any(refuse)),
        Side::Admin => Router::new(),
    };
    router
        .route("/livez", get(async || Answer::health(true, json!({ "status": "ok" }))))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/healthz/delivery", get(delivery))
        .route("/metrics", get(async |State(front): State<Arc<Front>>| probes::encoded(&front)))
        .fallback(page)
        .with_state(Arc::clone(front))
}

/// A webhook.
async fn refuse(State(front): State<Arc<Front>>) -> Answer {
    front.refusals.note(front.clock.now());
    Answer::unavailable("cannot commit: the store is not open yet")
}

async fn page(State(front): State<Arc<Front>>) -> Answer {
    Answer::unavailable(&reason(&front))
}

async fn readyz(State(front): State<Arc<Front>>) -> Answer {
    Answer::health(false, json!({ "status": "failing", "reason": reason(&front) }))
}

async fn healthz(State(front): State<Arc<Front>>) -> Answer {
    let store = json!({ "status": "failing", "reason": reason(&front) });
    Answer::health(false, json!({ "status": "failing", "parts": { "store": store } }))
}

async fn delivery(State(front): State<Arc<Front>>) -> Answer {
    Answer::health(false, json!({ "status": "failing", "reasons": [reason(&front)] }))
}

fn reason(front: &Front) -> String {
    let fault = front.health.snapshot().store_fault;
    let fault = fault.as_deref().unwrap_or("it is being opened");
    format!("webhooks cannot be committed: the store is not open yet: {fault}")
}
