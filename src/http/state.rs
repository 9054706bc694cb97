//! What every handler may use, and the active config.

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{
    auth::Guard,
    body_budget::BodyBudget,
    heartbeats::heard::{AcceptedBeats, Refusals},
    status::history::History,
};
use crate::{
    clock::Clock, config::Config, health::Health, metrics::Metrics, model::RoomAddress, pacing::LogLimit, store::Store,
};

/// How many paths of misdirected webhooks are logged within a minute.
const MISDIRECTED_PATHS: usize = 8;

/// What a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Webhooks, health and metrics; the status page as well, unless `has_admin` says that the admin listener serves it.
    Main { address: SocketAddr, has_admin: bool },
    /// All but webhooks, for clients with the credentials of `http.admin`.
    Admin,
}

/// What listeners use, also while the store is not open yet.
pub struct Front {
    settings: ArcSwap<Settings>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub(super) log_limits: LogLimits,
    pub(super) body_budget: BodyBudget,
    pub(super) history: History,
    /// When webhooks were answered 503.
    pub refusals: Refusals,
    /// Switches whose beat was accepted and not yet passed on.
    pub beats: AcceptedBeats,
}

/// What every handler may use.
pub struct App {
    front: Arc<Front>,
    pub store: Store,
}

impl Deref for App {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

/// What clients can cause again and again is logged once a minute.
#[derive(Debug)]
pub(super) struct LogLimits {
    /// Webhooks with missing or wrong credentials.
    pub(super) credentials: LogLimit,
    /// Connections that were closed because all slots were taken.
    pub(super) connections: LogLimit,
    /// Connections that were closed because unread answers took too much memory.
    pub(super) unread: LogLimit,
    /// Webhooks that were answered 503 because the body budget was spent.
    pub(super) bodies: LogLimit,
    /// Requests for the status page with wrong credentials.
    pub(super) status_page: LogLimit,
    /// Heartbeats of a route with more sets of labels than are watched.
    pub(super) heartbeats: LogLimit,
    /// Webhooks posted to a path that takes none; each path is logged once.
    pub(super) misdirected: LogLimit,
}

/// All that depends on the config; a reload replaces it as a whole.
pub struct Settings {
    pub config: Arc<Config>,
    /// All rooms that the config names.
    pub(super) rooms: Vec<RoomAddress>,
    pub(super) guard: Guard,
    /// Part of every content hash. A start or a reload may bring other severities or a newer version, so that what an
    /// earlier run made of a notification does not count as unchanged.
    pub(super) run: String,
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
    pub fn new(front: Arc<Front>, store: Store) -> Self {
        Self { front, store }
    }

    pub(super) fn front(&self) -> &Arc<Front> {
        &self.front
    }
}

impl Front {
    #[must_use]
    pub fn new(config: Arc<Config>, clock: Clock, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        let body_budget = BodyBudget::new(config.http.max_body_bytes);
        let settings = ArcSwap::from_pointee(Settings::new(config));
        let log_limits = LogLimits {
            credentials: LogLimit::default(),
            connections: LogLimit::default(),
            unread: LogLimit::default(),
            bodies: LogLimit::default(),
            status_page: LogLimit::default(),
            heartbeats: LogLimit::default(),
            misdirected: LogLimit::new(Duration::from_mins(1), MISDIRECTED_PATHS),
        };
        let (history, refusals, beats) = (History::default(), Refusals::default(), AcceptedBeats::default());
        Self { settings, clock, metrics, health, log_limits, body_budget, history, refusals, beats }
    }

    /// The active config and what is made of it. A request takes it once, so that it never sees two.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The active config.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.settings.load().config)
    }

    /// Replaces the config for every later request; requests in flight keep theirs.
    pub fn reload(&self, config: Arc<Config>) {
        self.body_budget.make_room(config.http.max_body_bytes);
        self.settings.store(Arc::new(Settings::new(config)));
    }
}
