//! The paths of a listener, and what surrounds every handler.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use axum::{
    Extension, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};

use tower::Service;

use super::{
    answer::Answer,
    health, misdirected, probes,
    service::Reserved,
    state::{App, Front, Side},
    status, waiting, webhook,
};

/// What a listener serves at the moment: it listens before the store is open.
#[derive(Clone)]
pub struct Routes(Arc<ArcSwap<Router>>);

impl Routes {
    /// Answers that the store is not open yet.
    #[must_use]
    pub fn waiting(front: &Arc<Front>, side: Side) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(surrounded(waiting::router(front, side), front, side))))
    }

    /// Serves everything from now on, also on connections that are open.
    pub fn open(&self, app: &Arc<App>, side: Side) {
        self.0.store(Arc::new(surrounded(all(app, side), app.front(), side)));
    }
}

impl Service<Request> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<Request>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Router::clone(&self.0.load()).call(request)
    }
}

/// All paths of one listener.
fn all(app: &Arc<App>, side: Side) -> Router {
    let router = match side {
        Side::Main { .. } => {
            Router::new().route("/alerts", any(webhook::post)).route("/alerts/{route}", any(webhook::post_to))
        }
        Side::Admin => Router::new(),
    };
    router
        .route("/", get(status::page))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/healthz", get(health::healthz))
        .route("/healthz/delivery", get(health::delivery))
        .route("/metrics", get(probes::metrics))
        .fallback(misdirected::not_found)
        .method_not_allowed_fallback(misdirected::not_allowed)
        .with_state(Arc::clone(app))
}

/// What surrounds every handler of a listener.
fn surrounded(router: Router, front: &Arc<Front>, side: Side) -> Router {
    let router = match side {
        Side::Main { .. } => router,
        Side::Admin => router.layer(middleware::from_fn_with_state(Arc::clone(front), status::admit)),
    };
    let router = router
        .layer(middleware::from_fn(keep_reserved))
        .layer(middleware::from_fn_with_state(Arc::clone(front), count))
        .layer(Extension(side));
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
    State(front): State<Arc<Front>>,
    Extension(side): Extension<Side>,
    request: Request,
    next: Next,
) -> Response {
    let (handler, is_post) = (handler(&request), request.method() == Method::POST);
    // Any POST to another path is lost, whatever it was meant for.
    let lost = (is_post && handler != "alerts").then(|| misdirected::LostWebhook::of(&front, side, &request));
    let mut response = next.run(request).await.into_response();
    if front.health.is_stopping() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    if let Some(lost) = &lost {
        lost.warn(&front, status);
    }
    let handler = if lost.is_some() { "alerts" } else { handler };
    front.metrics.http_requests.with_label_values(&[handler, status.as_str()]).inc();
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
