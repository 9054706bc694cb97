//! Connects what people say in rooms with what carries it out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    acts::{ActContext, ActSettings, Limits, Listener, silence::surplus::expire_surplus, worker},
    alertmanager::{ListedSilences, PollNow, client::Client},
    clock::Clock,
    config::Config,
    delivery::Settings,
    health::Health,
    lifecycle::Lifecycle,
    matrix::{Account, ActingRooms},
    metrics::Metrics,
    model::RouteName,
    store::Store,
};

/// What acts use of the receiver.
pub struct Parts {
    pub settings: watch::Receiver<Arc<Settings>>,
    pub store: Store,
    pub account: Arc<Account>,
    pub poll_now: PollNow,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

impl Parts {
    /// Starts listening to rooms and carrying out what was asked for. Nothing is asked where no route has actions.
    pub fn start(self, lifecycle: &Lifecycle) {
        let Some(inbox) = self.account.room_events() else { return };
        let Self { settings, store, account, poll_now, clock, metrics, health } = self;
        let clients = ClientsOfConfig::new(settings.clone(), &metrics, &health, &clock);
        let context = ActContext {
            settings: Arc::new(move || {
                let settings = settings.borrow();
                ActSettings { config: Arc::clone(&settings.config), style: Arc::clone(&settings.style) }
            }),
            store,
            rooms: account,
            clients: Arc::new(move |route| clients.of(route)),
            poll_now: Arc::new(move |route| poll_now.poll_now(route)),
            clock,
            metrics,
            limits: Arc::new(Limits::default()),
            asked: watch::Sender::new(0),
        };
        lifecycle.spawn(Listener::new(context.clone()).run(inbox, lifecycle.stop()));
        lifecycle.spawn(worker::run(context, lifecycle.stop()));
    }
}

/// Expires silences of ours that polls find made twice, until `stop`.
pub async fn expire_twins(store: Store, mut listed: mpsc::Receiver<ListedSilences>, stop: CancellationToken) {
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = listed.recv() => next,
        };
        let Some(ListedSilences { client, silences }) = next else { return };
        if let Err(error) = expire_surplus(&store, &client, &silences).await {
            tracing::warn!(%error, "looking for silences made twice failed");
        }
    }
}

/// The rooms from which people may act, with what a command begins with there.
pub fn acting_rooms(config: &Config) -> ActingRooms {
    let mut rooms = ActingRooms::new();
    for route in config.routes.values() {
        let Some(actions) = &route.actions else { continue };
        for room in &route.rooms {
            rooms.entry(room.clone()).or_default().insert(actions.prefix.clone());
        }
    }
    rooms
}

/// The clients of the active config's Alertmanagers, made once for each config.
struct ClientsOfConfig {
    settings: watch::Receiver<Arc<Settings>>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    clock: Clock,
    made: Mutex<Option<(Arc<Config>, BTreeMap<RouteName, Client>)>>,
}

impl ClientsOfConfig {
    fn new(
        settings: watch::Receiver<Arc<Settings>>,
        metrics: &Arc<Metrics>,
        health: &Arc<Health>,
        clock: &Clock,
    ) -> Self {
        let (metrics, health, clock) = (Arc::clone(metrics), Arc::clone(health), clock.clone());
        Self { settings, metrics, health, clock, made: Mutex::default() }
    }

    fn of(&self, route: &RouteName) -> Option<Client> {
        let config = Arc::clone(&self.settings.borrow().config);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, &config)) {
            let clients = Client::of_routes(&config, &self.metrics, &self.health, &self.clock);
            *made = Some((config, clients));
        }
        made.as_ref().and_then(|(_, clients)| clients.get(route).cloned())
    }
}
