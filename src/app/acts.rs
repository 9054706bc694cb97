//! Starts what takes and carries out what people ask for in rooms.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{
    acts::{ActContext, ActSettings, Clients, Limits, Listener, rooms::Rooms, worker},
    clock::Clock,
    delivery::Settings,
    lifecycle::Lifecycle,
    metrics::Metrics,
    model::{RoomEvents, RouteName},
    store::Store,
};

/// What acts are made of.
pub struct Acts {
    pub settings: watch::Receiver<Arc<Settings>>,
    pub store: Store,
    pub rooms: Arc<dyn Rooms>,
    /// What others do in rooms.
    pub events: mpsc::Receiver<RoomEvents>,
    pub clients: Clients,
    pub poll_now: Arc<dyn Fn(&RouteName) + Send + Sync>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

impl Acts {
    /// Starts listener and workers. Where no route has actions, both only wait.
    pub fn start(self, lifecycle: &Lifecycle) {
        let Self { settings, store, rooms, events, clients, poll_now, clock, metrics } = self;
        let settings = move || {
            let settings = settings.borrow();
            ActSettings { config: Arc::clone(&settings.config), style: Arc::clone(&settings.style) }
        };
        let context = ActContext {
            settings: Arc::new(settings),
            store,
            rooms,
            clients,
            poll_now,
            clock,
            metrics,
            limits: Arc::new(Limits::default()),
            asked: watch::Sender::new(0),
        };
        lifecycle.spawn(worker::run(context.clone(), lifecycle.stop()));
        lifecycle.spawn(Listener::new(context).run(events, lifecycle.stop()));
    }
}
