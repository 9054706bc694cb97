//! What listener and workers share.

use std::sync::Arc;

use tokio::sync::watch;

use super::{limits::Limits, rooms::Rooms};
use crate::{
    alertmanager::client::Client,
    clock::Clock,
    config::Config,
    evidence::make::Maker,
    metrics::Metrics,
    model::{ActKind, RouteName},
    render::Style,
    store::Store,
};

/// The config in force.
#[derive(Clone)]
pub struct ActSettings {
    pub config: Arc<Config>,
    pub style: Arc<Style>,
}

/// The client of a route's Alertmanager, if it has one.
pub type Clients = Arc<dyn Fn(&RouteName) -> Option<Client> + Send + Sync>;

/// Everything that acts use.
#[derive(Clone)]
pub struct ActContext {
    /// Called for each event and each act, so that a reload counts at once.
    pub settings: Arc<dyn Fn() -> ActSettings + Send + Sync>,
    pub store: Store,
    pub rooms: Arc<dyn Rooms>,
    /// The client of a route's Alertmanager; `None`: it has none.
    pub clients: Clients,
    /// Has the route's Alertmanager polled at once.
    pub poll_now: Arc<dyn Fn(&RouteName) + Send + Sync>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub limits: Arc<Limits>,
    /// Makes what `!logs` and `!graph` show.
    pub evidence: Arc<Maker>,
    /// Counts commits after which something may be due.
    pub asked: watch::Sender<u64>,
}

impl ActContext {
    /// Counts what became of an act, or of something that was not even made one.
    pub fn count(&self, route: &RouteName, kind: ActKind, outcome: &str) {
        self.metrics.acts.with_label_values(&[route.as_str(), kind.as_str(), outcome]).inc();
    }
}
