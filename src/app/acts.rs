//! Connects what people say in rooms with what carries it out.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::clients::Clients;
use crate::{
    acts::{ActContext, ActSettings, Limits, Listener, silence::surplus::expire_surplus, worker},
    alertmanager::{ListedSilences, PollNow},
    clock::Clock,
    delivery::Settings,
    evidence::make::Maker,
    lifecycle::Lifecycle,
    matrix::Account,
    metrics::Metrics,
    store::{Store, StoreError},
};

/// What acts use of the receiver.
pub struct Parts {
    pub settings: watch::Receiver<Arc<Settings>>,
    pub store: Store,
    pub account: Arc<Account>,
    pub poll_now: PollNow,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub clients: Arc<Clients>,
    pub evidence: Arc<Maker>,
}

impl Parts {
    /// Starts listening to rooms and carrying out what was asked for. Nothing is asked where no route has actions.
    pub fn start(self, lifecycle: &Lifecycle) {
        // Before anything is read back, so that nothing is missed in between.
        let inbox = self.account.room_events();
        let Self { settings, store, account, poll_now, clock, metrics, clients, evidence } = self;
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
            evidence,
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
        match expire_surplus(&store, &client, &silences).await {
            Ok(_) => {}
            Err(StoreError::NotLeader) => return,
            Err(error) => tracing::warn!(%error, "looking for silences made twice failed"),
        }
    }
}
