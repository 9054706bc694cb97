//! Probes and metrics. They read recorded state and never wait for the components.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    answer::Answer,
    state::{App, Front, Settings},
};
use crate::{
    model::{OpState, Timestamp},
    store::Stats,
};

/// A writer without a beat for this long is stuck: it beats every second, and a commit is bounded.
const WRITER_STUCK: Duration = Duration::from_mins(1);
/// A scrape never waits longer than this for the store's numbers.
const STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// 200 while the process answers and its writer works. The only liveness probe, since a restart helps here and nowhere
/// else.
pub async fn livez(State(app): State<Arc<App>>) -> Answer {
    let health = app.health.snapshot();
    let now = app.clock.now();
    let still = health.writer_beat.map_or(Duration::ZERO, |beat| now.since(beat));
    if still > WRITER_STUCK {
        let reason = format!("the store's writer has not moved for {} s", still.as_secs());
        return Answer::health(false, json!({ "status": "failing", "reason": reason }));
    }
    Answer::health(true, json!({ "status": "ok" }))
}

/// 200 once webhooks can be accepted. Independent of the homeserver, and where there is one replica of its store: without
/// the endpoint Alertmanager's alerts would be lost. Of several, one that does not reach the database leaves webhooks to the
/// others.
pub async fn readyz(State(app): State<Arc<App>>) -> Answer {
    let health = app.health.snapshot();
    let fault = health.store_fault.filter(|_| app.store.is_shared());
    let reason = if health.stopping {
        "shutting down".to_owned()
    } else if let Some(fault) = fault {
        format!("webhooks cannot be committed: {fault}")
    } else {
        return Answer::health(true, json!({ "status": "ok" }));
    };
    Answer::health(false, json!({ "status": "failing", "reason": reason }))
}

/// Text exposition format 0.0.4.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let settings = app.settings();
    // Stale numbers are better than no scrape at all.
    if let Ok(Ok(stats)) = timeout(STATS_TIMEOUT, app.store.stats(&settings.rooms)).await {
        set_gauges(&app, &settings, &stats);
    }
    encoded(&app)
}

pub(super) fn encoded(front: &Front) -> Response {
    match front.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn set_gauges(app: &App, settings: &Settings, stats: &Stats) {
    for route in settings.config.routes.keys() {
        let open = stats.incidents_open.iter().find(|(name, _)| name == route.as_str()).map_or(0, |(_, count)| *count);
        app.metrics.incidents_open.with_label_values(&[route.as_str()]).set(open);
    }
    app.metrics.outbox_ops.with_label_values(&["waiting"]).set(stats.waiting);
    for state in [OpState::InFlight, OpState::InDoubt, OpState::Parked, OpState::Dead] {
        let count = stats.ops.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count);
        app.metrics.outbox_ops.with_label_values(&[state.as_str()]).set(count);
    }
    let age = |since: Timestamp| app.clock.now().since(since).as_secs_f64();
    app.metrics.outbox_oldest_seconds.set(stats.oldest.map_or(0.0, age));
}
