//! The receiver from start to stop.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Context as _;
use tokio::sync::{Notify, watch};

use super::{
    clock_jumps, heartbeats,
    leadership::{Leadership, StoreLease},
    listeners::{Listeners, Sockets},
    opening::open_at_last,
    pings,
    reload::{Reloader, State, show_loaded},
    room_addresses::{Sweep, Swept},
    source::{Source, style_of},
    term::TermParts,
};
use crate::{
    clock::Clock,
    config::Config,
    delivery::{Settings, Transport},
    health::{Health, Replica},
    http::{self, App, ControlSocket, Front, Tls},
    lifecycle::{Hangups, Lifecycle, Terminations},
    matrix::{Account, Setup, SharedSetup, acting_rooms},
    metrics::Metrics,
    model::RoomAddress,
    store::Store,
};

/// A receiver whose sockets are bound and whose store is open, but that does nothing yet.
pub struct Receiver {
    config: Arc<Config>,
    source: Source,
    hangups: Hangups,
    terminations: Terminations,
    /// What lanes see of the active config.
    settings: watch::Sender<Arc<Settings>>,
    store: Store,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    front: Arc<Front>,
    sockets: Sockets,
    tls: Option<Tls>,
    /// Notified when it becomes known which room an address stands for.
    learned: Arc<Notify>,
}

impl Receiver {
    /// Binds the sockets and opens the store. Nothing is sent to the homeserver. Returns `None` if a signal has ended the
    /// process while it waited for a database.
    ///
    /// # Errors
    /// When a custom template, the certificate or its key is faulty, an address cannot be bound, or the store cannot be
    /// opened; a database that is away is waited for.
    pub async fn prepare(config: Config, source: Source) -> anyhow::Result<Option<Self>> {
        let hangups = Hangups::new()?;
        let clock = Clock::system();
        let rooms = config.rooms();
        let routes: Vec<_> = config.routes.keys().cloned().collect();
        let names: Vec<_> = rooms.iter().map(|(_, name)| name.clone()).collect();
        let metrics = Arc::new(Metrics::new(&routes, &names, crate::VERSION, crate::COMMIT));
        let health = Arc::new(Health::new(&rooms));
        health.update(|health| health.version = format!("{} ({})", crate::VERSION, crate::COMMIT));
        let style = Arc::new(style_of(&config)?);
        let tls = config.http.tls.as_ref().map(Tls::load).transpose()?;
        let config = Arc::new(config);
        let front = Arc::new(Front::new(Arc::clone(&config), clock.clone(), Arc::clone(&metrics), Arc::clone(&health)));
        let (store, sockets, terminations) = if config.store.database_url.is_some() {
            // So that somebody notices if the database never comes.
            metrics.leadership.leads(&config.store.replica, false);
            let serving = Listeners::bind(&config, tls.clone())?.serve(&front, None);
            let mut terminations = Terminations::new()?;
            tokio::select! {
                opened = open_at_last(&config.store, &clock, &metrics, &health) => (opened?, Sockets::Served(serving), terminations),
                signal = terminations.next() => {
                    tracing::info!(signal, "stopping");
                    serving.stop().await?;
                    return Ok(None);
                }
            }
        } else {
            let opened =
                Store::open_as_configured(&config.store, clock.clone(), Arc::clone(&metrics), Arc::clone(&health));
            let store = opened.await?;
            (store, Sockets::Bound(Box::new(Listeners::bind(&config, tls.clone())?)), Terminations::new()?)
        };
        // After the store: opening it has set the clock.
        health.update(|health| {
            health.started_at = Some(clock.now());
            let name = store.is_shared().then(|| config.store.replica.clone());
            health.replica = name.map(|name| Replica { name, ..Replica::default() });
        });
        show_loaded(&health, &metrics, &clock, &[]);
        let settings = watch::Sender::new(Arc::new(Settings::new(Arc::clone(&config), style)));
        let learned = Arc::default();
        Ok(Some(Self {
            config,
            source,
            hangups,
            terminations,
            settings,
            store,
            clock,
            metrics,
            health,
            front,
            sockets,
            tls,
            learned,
        }))
    }

    /// Serves until SIGTERM or SIGINT, then stops in order: no new webhooks, sends in flight finish, the store closes.
    ///
    /// # Errors
    /// When the HTTP side fails or the store cannot be read.
    pub async fn run(self) -> anyhow::Result<()> {
        let lifecycle = Lifecycle::new();
        let app = Arc::new(App::new(Arc::clone(&self.front), self.store.clone()));
        let leads = watch::Sender::new(!self.store.is_shared());
        let account = self.start_account(&lifecycle, leads.subscribe()).await?;
        let (term, current) = self.term_parts(&app, &account, leads);
        let term_began = Arc::clone(&term.sweep);
        let follow = current.clone();
        if self.store.is_shared() {
            let lease = StoreLease { store: self.store.clone(), replica: self.config.store.replica.clone() };
            let leadership = Leadership::new(self.config.store.replica.clone(), lease, term);
            lifecycle.spawn(leadership.run(lifecycle.clone()));
        } else {
            self.metrics.leadership.leads(&self.config.store.replica, true);
            let transport: Arc<Account> = Arc::clone(&account);
            let swept = self.close_unrouted().await;
            let unrouted: BTreeSet<RoomAddress> = swept.rooms.into_iter().chain(swept.waiting).collect();
            term.start(&self.store, transport as Arc<dyn Transport>, unrouted, &lifecycle);
        }
        let replica = self.config.store.replica.clone();
        let term_store = Box::new(move || follow.borrow().as_ref().map(|leading| leading.store.clone()));
        lifecycle.spawn(heartbeats::watch(Arc::clone(&app), term_store, replica, lifecycle.stop()));
        self.start_background(&app, &lifecycle);
        tracing::info!(
            listen = %self.sockets.address(), homeserver = %self.config.matrix.homeserver,
            store = %self.config.store.path.display(), version = crate::VERSION, commit = crate::COMMIT, "ready"
        );
        let mut serving = self.sockets.open(&self.front, &app);
        let Self { source, hangups, mut terminations, settings, store, clock, metrics, health, learned, .. } = self;
        let (health_too, store_too) = (Arc::clone(&health), store.clone());
        let state = State::new();
        let reloader = Reloader {
            source,
            hangups,
            app,
            settings,
            current,
            term_began,
            account,
            store,
            clock,
            metrics,
            health,
            learned,
            state,
        };
        lifecycle.spawn(reloader.run(lifecycle.stop()));
        tokio::select! {
            error = serving.fails() => return Err(error),
            signal = terminations.next() => tracing::info!(signal, "stopping"),
        }
        health_too.update(|health| health.stopping = true);
        // Webhooks are answered 503 until the last send is done: refusing the connection would say less.
        if !lifecycle.finish().await {
            tracing::warn!("shutdown timed out; unfinished work resumes at start");
        }
        serving.stop().await?;
        store_too.close().await;
        tracing::info!("stopped");
        Ok(())
    }

    /// Closes what the config no longer routes, before webhooks come: it may have changed while the receiver was stopped.
    async fn close_unrouted(&self) -> Swept {
        let sweep = Sweep { all_addresses: true, await_aliases: true };
        let swept = sweep.run(&self.store, &self.config, None).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "closing unrouted incidents failed; will retry");
            Swept::default()
        });
        let settings = Settings::clone(&self.settings.borrow()).and_rooms(swept.waiting.iter().cloned());
        self.settings.send_replace(Arc::new(settings));
        swept
    }

    /// Connects to the homeserver.
    async fn start_account(&self, lifecycle: &Lifecycle, leads: watch::Receiver<bool>) -> anyhow::Result<Arc<Account>> {
        let (store, places, learned) = (self.store.clone(), self.store.clone(), Arc::clone(&self.learned));
        let resolved = self.store.resolved_rooms().await.context("cannot read the store")?;
        let (account, connection) = Account::start(Setup {
            config: self.config.matrix.clone(),
            store_path: self.config.store.path.clone(),
            rooms: self.config.rooms().into_iter().map(|(room, _)| room).collect(),
            resolved_rooms: resolved.into_iter().collect(),
            save_resolved_room: Arc::new(move |address, place| {
                let (store, learned) = (places.clone(), Arc::clone(&learned));
                Box::pin(async move {
                    store.set_resolved_room(address, place).await?;
                    learned.notify_one();
                    Ok(())
                })
            }),
            known_device: self.store.device().await?,
            save_device: Arc::new(move |device| {
                let store = store.clone();
                Box::pin(async move { Ok(store.set_device(device).await?) })
            }),
            shared: self.store.is_shared().then(|| shared_session(&self.store, leads)),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            cancel: lifecycle.stop(),
        });
        account.act_in(acting_rooms(&self.config));
        lifecycle.spawn(connection);
        Ok(account)
    }

    fn term_parts(
        &self,
        app: &Arc<App>,
        account: &Arc<Account>,
        leads: watch::Sender<bool>,
    ) -> (TermParts, super::term::Current) {
        let current = watch::Sender::default();
        let follow = current.subscribe();
        let parts = TermParts {
            app: Arc::clone(app),
            settings: self.settings.subscribe(),
            store: self.store.clone(),
            account: Arc::clone(account),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            replica: self.config.store.replica.clone(),
            current,
            leads,
            sweep: Arc::default(),
        };
        (parts, follow)
    }

    /// Starts what runs beside webhooks, on every replica.
    fn start_background(&self, app: &Arc<App>, lifecycle: &Lifecycle) {
        let stop = || lifecycle.stop();
        if let Some(tls) = self.tls.clone() {
            let (clock, metrics, health) = (self.clock.clone(), Arc::clone(&self.metrics), Arc::clone(&self.health));
            lifecycle.spawn(tls.watch(clock, metrics, health, stop()));
        }
        lifecycle.spawn(pings::run(Arc::clone(app), stop()));
        lifecycle.spawn(clock_jumps::watch(self.clock.clone(), Arc::clone(&self.health), stop()));
        lifecycle.spawn(http::sample(Arc::clone(app), stop()));
        // Alerts matter more than the commands that need the socket: the receiver runs without it.
        match ControlSocket::bind(&self.config.store.path) {
            Ok(socket) => lifecycle.spawn(socket.serve(Arc::clone(app), stop())),
            Err(error) => tracing::warn!(
                store = %self.config.store.path.display(), %error,
                "control socket unavailable; commands cannot connect"
            ),
        }
    }
}

/// The session of the device that all replicas of the store share.
fn shared_session(store: &Store, leads: watch::Receiver<bool>) -> SharedSetup {
    let (from, to) = (store.clone(), store.clone());
    SharedSetup {
        load: Arc::new(move || {
            let store = from.clone();
            Box::pin(async move { Ok(store.shared_session().await?) })
        }),
        save: Arc::new(move |text| {
            let store = to.clone();
            Box::pin(async move { Ok(store.set_shared_session(text).await?) })
        }),
        leads,
    }
}
