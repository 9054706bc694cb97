//! The HTTP side: webhooks in, probes and metrics out. Nothing here waits for the homeserver.

mod admission;
mod answer;
mod auth;
mod certificate;
mod connection;
mod control_socket;
mod health;
mod in_flight;
mod misdirected;
mod probes;
mod server;
mod status;
mod tls;
mod webhook;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{
    Extension, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
pub use certificate::Pair;
pub use control_socket::{CONTROL_SOCKET, ControlSocket};
pub use server::{Bound, Side, bind};
pub use status::sample;
pub use tls::Tls;

use self::{answer::Answer, auth::Guard, connection::Reserved, in_flight::BodyBudget, status::History};
use crate::{
    clock::Clock, config::Config, health::Health, metrics::Metrics, model::RoomAddress, pacing::LogLimit, store::Store,
};

/// What every handler may use.
pub struct App {
    settings: ArcSwap<Settings>,
    pub store: Store,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    refusals: LogLimit,
    /// Connections that were closed for want of a place.
    crowded: LogLimit,
    /// Bodies that were answered 503 for want of a place.
    flooded: LogLimit,
    /// Who asked for the status page with wrong credentials.
    intruders: LogLimit,
    /// Where webhooks were posted to in vain.
    misdirected: LogLimit,
    body_budget: BodyBudget,
    history: History,
}

/// All that depends on the config; a reload puts another in its place, as a whole.
pub struct Settings {
    pub config: Arc<Config>,
    /// All that the config names.
    rooms: Vec<RoomAddress>,
    guard: Guard,
    /// Part of every content hash. A start or a reload may bring other severities or a newer version, so that what was made of
    /// a notification before is not taken for granted.
    run: String,
}

impl Settings {
    fn new(config: Arc<Config>) -> Self {
        let guard = Guard::new(&config.http.auth, &config.compat);
        let rooms = config.rooms().into_iter().map(|(room, _)| room).collect();
        Self { config, rooms, guard, run: ulid::Ulid::new().to_string() }
    }
}

impl App {
    #[must_use]
    pub fn new(config: Arc<Config>, store: Store, clock: Clock, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        let body_budget = BodyBudget::new(config.http.max_body_bytes);
        let settings = ArcSwap::from_pointee(Settings::new(config));
        let [refusals, crowded, flooded, intruders] = [(); 4].map(|()| LogLimit::default());
        let (misdirected, history) = (misdirected::log_limit(), History::default());
        Self {
            settings,
            store,
            clock,
            metrics,
            health,
            refusals,
            crowded,
            flooded,
            intruders,
            misdirected,
            body_budget,
            history,
        }
    }

    /// The config in force and what is made of it. Taken once per request, so that a request never sees two.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The config in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings.load().config)
    }

    /// Puts another config in force for every request from now on; those under way go on with theirs.
    pub fn reload(&self, config: Arc<Config>) {
        self.body_budget.make_room(config.http.max_body_bytes);
        self.settings.store(Arc::new(Settings::new(config)));
    }
}

/// All that the receiver answers to on one of its listeners.
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
        .fallback(misdirected::nothing_here)
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
    // Around all, since a path is looked up before the layers of a router have their say.
    Router::new().fallback_service(router).layer(middleware::map_request(misdirected::without_more_slashes))
}

/// On a reserved place only what must go on in a flood is answered.
async fn keep_reserved(request: Request, next: Next) -> Response {
    if request.extensions().get::<Reserved>().is_some() && !["alerts", "livez"].contains(&handler(&request)) {
        return Answer::unavailable("too many connections: only webhooks and /livez are answered").into_response();
    }
    next.run(request).await
}

/// Counts requests by handler, never by path: paths come from strangers.
async fn count(
    State(app): State<Arc<App>>,
    Extension(side): Extension<Side>,
    request: Request,
    next: Next,
) -> Response {
    let (handler, is_post) = (handler(&request), request.method() == Method::POST);
    // What somebody posts here is lost, whatever it was meant for.
    let lost = (is_post && handler != "alerts").then(|| misdirected::Post::of(&app, side, &request));
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
