//! The clients of the Alertmanagers that the active config names.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    alertmanager::client::Client, clock::Clock, config::Config, delivery::Settings, health::Health, metrics::Metrics,
    model::RouteName,
};

/// The clients of the active config's Alertmanagers, made once for each config.
pub struct Clients {
    settings: watch::Receiver<Arc<Settings>>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
    made: Mutex<Option<Made>>,
}

impl Clients {
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        metrics: &Arc<Metrics>,
        health: &Arc<Health>,
        clock: &Clock,
    ) -> Self {
        let (metrics, health, clock) = (Arc::clone(metrics), Arc::clone(health), clock.clone());
        Self { settings, metrics, health, clock, made: Mutex::default() }
    }

    /// The client of a route's Alertmanager, if it has one.
    pub fn of(&self, route: &RouteName) -> Option<Client> {
        self.made(|clients| clients.get(route).cloned())
    }

    pub fn all(&self) -> Vec<Client> {
        self.made(|clients| clients.values().cloned().collect())
    }

    fn made<T>(&self, take: impl FnOnce(&BTreeMap<RouteName, Client>) -> T) -> T {
        let config = Arc::clone(&self.settings.borrow().config);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let current = made.take().filter(|made| Arc::ptr_eq(&made.config, &config)).unwrap_or_else(|| {
            let clients = Client::of_routes(&config, &self.metrics, &self.health, &self.clock);
            Made { config, clients }
        });
        take(&made.insert(current).clients)
    }
}

/// The clients of one config.
struct Made {
    config: Arc<Config>,
    clients: BTreeMap<RouteName, Client>,
}
