//! The paths of a listener, and what surrounds every handler.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};

use super::{
    answer::Answer,
    health, misdirected, probes,
    service::Reserved,
    state::{App, Side},
    status, webhook,
};

/// All paths of one listener.
pub fn router(app: Arc<App>, side: Side) -> Router {
    let router = match side {
        Side::Main { .. } => {
            Router::new().route("/alerts", any(webhook::post)).route("/alerts/{route}", any(webhook::post_to))
        }
        Side::Admin => Router::new(),
    };
    let router = router
        .route("/", get(status::page))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/healthz", get(health::healthz))
        .route("/healthz/delivery", get(health::delivery))
        .route("/metrics", get(probes::metrics))
        .fallback(misdirected::not_found)
        .method_not_allowed_fallback(misdirected::not_allowed);
    let router = match side {
        Side::Main { .. } => router,
        Side::Admin => router.layer(middleware::from_fn_with_state(Arc::clone(&app), status::admit)),
    };
    let router = router
        .layer(middleware::from_fn(keep_reserved))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count))
        .layer(Extension(side))
        .with_state(app);
    // Outside of the router, since its layers run after it has matched the path.
    Router::new().fallback_service(router).layer(middleware::map_request(misdirected::without_extra_slashes))
}

/// In a reserved slot only webhooks and `/livez` are answered.
async fn keep_reserved(request: Request, next: Next) -> Response {
    if request.extensions().get::<Reserved>().is_some() && !["alerts", "livez"].contains(&handler(&request)) {
        return Answer::unavailable("too many connections: only webhooks and /livez are answered").into_response();
    }
    next.run(request).await
}

/// Counts requests by handler, never by path, since strangers choose paths.
async fn count(
    State(app): State<Arc<App>>,
    Extension(side): Extension<Side>,
    request: Request,
    next: Next,
) -> Response {
    let (handler, is_post) = (handler(&request), request.method() == Method::POST);
    // Any POST to another path is lost, whatever it was meant for.
    let lost = (is_post && handler != "alerts").then(|| misdirected::LostWebhook::of(&app, side, &request));
    let mut response = next.run(request).await.into_response();
    if app.health.is_stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    if let Some(lost) = &lost {
        lost.warn(&app, status);
    }
    let handler = if lost.is_some() { "alerts" } else { handler };
    app.metrics.http_requests.with_label_values(&[handler, status.as_str()]).inc();
    response
}

fn handler(request: &Request) -> &'static str {
    match request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) {
        Some("/alerts" | "/alerts/{route}") => "alerts",
        Some("/") => "status",
        Some("/livez") => "livez",
        Some("/readyz") => "readyz",
        Some("/healthz") => "healthz",
        Some("/healthz/delivery") => "healthz_delivery",
        Some("/metrics") => "metrics",
        _ => "other",
    }
}
