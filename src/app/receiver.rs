//! The receiver from start to stop.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    acts,
    clients::Clients,
    clock_jumps, escalation,
    evidence::Shown,
    heartbeats, housekeeping,
    lanes::Lanes,
    pings, pollers,
    reload::{Reloader, State, show_loaded},
    room_addresses::{Sweep, Swept},
    source::{Source, style_of},
};
use crate::{
    alertmanager::{self, PollContext, PollNow},
    clock::Clock,
    config::Config,
    delivery::{Gate, LaneContext, OnShown, Settings},
    evidence::make::Maker,
    health::Health,
    http::{self, App, ControlSocket, HttpListener, Side, Tls},
    lifecycle::{self, Hangups, Lifecycle},
    matrix::{Account, Setup, acting_rooms},
    metrics::Metrics,
    model::RoomAddress,
    store::Store,
};

/// Lists of silences that wait to be searched for twins; a later poll brings them again.
const LISTED: usize = 4;

/// A receiver whose store is open and whose sockets are bound, but that does nothing yet.
pub struct Receiver {
    config: Arc<Config>,
    source: Source,
    hangups: Hangups,
    /// What lanes see of the active config.
    settings: tokio::sync::watch::Sender<Arc<Settings>>,
    store: Store,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    bound: HttpListener,
    tls: Option<Tls>,
    /// The listener of `http.admin`.
    admin: Option<HttpListener>,
    /// Makes the poller of a route poll at once.
    poll_now: PollNow,
}

impl Receiver {
    /// Opens the store and binds the sockets. Nothing is sent to the homeserver.
    ///
    /// # Errors
    /// When a custom template, the certificate or its key is faulty, the store cannot be opened or an address cannot be
    /// bound.
    pub async fn prepare(config: Config, source: Source) -> anyhow::Result<Self> {
        let hangups = Hangups::new()?;
        let clock = Clock::system();
        let rooms = config.rooms();
        let routes: Vec<_> = config.routes.keys().cloned().collect();
        let names: Vec<_> = rooms.iter().map(|(_, name)| name.clone()).collect();
        let metrics = Arc::new(Metrics::new(&routes, &names, crate::VERSION, crate::COMMIT));
        let health = Arc::new(Health::new(&rooms));
        let style = Arc::new(style_of(&config)?);
        let tls = config.http.tls.as_ref().map(Tls::load).transpose()?;
        let store =
            Store::open_as_configured(&config.store, clock.clone(), Arc::clone(&metrics), Arc::clone(&health)).await?;
        // After the store: opening it has set the clock.
        health.update(|health| {
            health.started_at = Some(clock.now());
            health.version = format!("{} ({})", crate::VERSION, crate::COMMIT);
        });
        show_loaded(&health, &metrics, &clock, &[]);
        let bound = bind("http.listen", config.http.listen)?.with_tls(tls.clone());
        let admin = config.http.admin.as_ref().map(|admin| bind("http.admin.listen", admin.listen)).transpose()?;
        let config = Arc::new(config);
        let settings = tokio::sync::watch::Sender::new(Arc::new(Settings::new(Arc::clone(&config), style)));
        let poll_now = PollNow::default();
        Ok(Self { config, source, hangups, settings, store, clock, metrics, health, bound, tls, admin, poll_now })
    }

    /// Serves until SIGTERM or SIGINT, then stops in order: no new webhooks, sends in flight finish, the store closes.
    ///
    /// # Errors
    /// When the HTTP side fails or the store cannot be read.
    pub async fn run(self) -> anyhow::Result<()> {
        let lifecycle = Lifecycle::new();
        let swept = self.close_unrouted().await;
        let learned = Arc::new(Notify::new());
        let unrouted = swept.rooms.into_iter().chain(swept.waiting).collect();
        let shown = Shown::new(self.settings.subscribe(), &self.metrics);
        let (account, lanes) = self.start_delivery(&lifecycle, unrouted, &learned, shown.on_shown()).await?;
        let app = Arc::new(App::new(
            Arc::clone(&self.config),
            self.store.clone(),
            self.clock.clone(),
            Arc::clone(&self.metrics),
            Arc::clone(&self.health),
        ));
        self.start_background(&app, &lifecycle);
        let (store, clock, metrics) = (self.store.clone(), self.clock.clone(), Arc::clone(&self.metrics));
        let evidence = shown.start(&account, store, clock, metrics, &lifecycle);
        self.start_acts(&account, evidence, &lifecycle);
        tracing::info!(
            listen = %self.bound.address, homeserver = %self.config.matrix.homeserver,
            store = %self.config.store.path.display(), version = crate::VERSION, commit = crate::COMMIT, "ready"
        );
        let (store, health) = (self.store.clone(), Arc::clone(&self.health));
        let http_stop = CancellationToken::new();
        let mut http = self.start_rest(app, lanes, account, learned, &lifecycle, &http_stop);
        tokio::select! {
            served = &mut http => return served.context("the HTTP side ended")?.context("the HTTP side failed"),
            signal = lifecycle::termination() => tracing::info!(signal = signal?, "stopping"),
        }
        health.update(|health| health.stopping = true);
        // Webhooks are answered 503 until the last send is done: refusing the connection would say less.
        if !lifecycle.finish().await {
            tracing::warn!("shutdown timed out; unfinished work resumes at start");
        }
        http_stop.cancel();
        http.await.context("the HTTP side ended")?.context("the HTTP side failed")?;
        store.close().await;
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

    /// Connects to the homeserver and starts lanes for the rooms of the config, and for `unrouted` rooms that still have
    /// messages to be sent.
    async fn start_delivery(
        &self,
        lifecycle: &Lifecycle,
        unrouted: BTreeSet<RoomAddress>,
        learned: &Arc<Notify>,
        on_shown: OnShown,
    ) -> anyhow::Result<(Arc<Account>, Arc<Lanes>)> {
        let (store, places, learned) = (self.store.clone(), self.store.clone(), Arc::clone(learned));
        let rooms: Vec<RoomAddress> = self.config.rooms().into_iter().map(|(room, _)| room).collect();
        let (account, connection) = Account::start(Setup {
            config: self.config.matrix.clone(),
            store_path: self.config.store.path.clone(),
            rooms: rooms.clone(),
            resolved_rooms: self.store.resolved_rooms().await?.into_iter().collect(),
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
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            cancel: lifecycle.stop(),
        });
        account.act_in(acting_rooms(&self.config));
        lifecycle.spawn(connection);
        let gate = Gate::new(self.clock.clone(), Arc::clone(&self.metrics), Arc::clone(&self.health));
        let transport: Arc<Account> = Arc::clone(&account);
        let context = LaneContext {
            settings: self.settings.subscribe(),
            store: self.store.clone(),
            transport,
            gate: Arc::new(gate),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            on_shown,
        };
        let lanes = Lanes::new(context, lifecycle.clone());
        lanes.ensure(rooms.into_iter().chain(unrouted));
        Ok((account, lanes))
    }

    /// Starts everything that runs beside webhooks and lanes.
    fn start_background(&self, app: &Arc<App>, lifecycle: &Lifecycle) {
        let stop = || lifecycle.stop();
        if let Some(tls) = self.tls.clone() {
            let (clock, metrics, health) = (self.clock.clone(), Arc::clone(&self.metrics), Arc::clone(&self.health));
            lifecycle.spawn(tls.watch(clock, metrics, health, stop()));
        }
        lifecycle.spawn(housekeeping::prune(Arc::clone(app), stop()));
        lifecycle.spawn(housekeeping::close_stale(Arc::clone(app), stop()));
        let (listed, inbox) = mpsc::channel(LISTED);
        let (store, clock, poll_now) = (self.store.clone(), self.clock.clone(), self.poll_now.clone());
        let polls = PollContext { store: store.clone(), clock, poll_now, listed };
        lifecycle.spawn(acts::expire_twins(store, inbox, stop()));
        let (metrics, health) = (Arc::clone(&self.metrics), Arc::clone(&self.health));
        lifecycle.spawn(pollers::run(self.settings.subscribe(), polls, metrics, health, stop()));
        lifecycle.spawn(escalation::watch(Arc::clone(app), stop()));
        lifecycle.spawn(heartbeats::watch(Arc::clone(app), stop()));
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

    fn start_acts(&self, account: &Arc<Account>, evidence: Arc<Maker>, lifecycle: &Lifecycle) {
        let clients = Arc::new(Clients::new(self.settings.subscribe(), &self.metrics, &self.health, &self.clock));
        let watched = Arc::clone(&clients);
        lifecycle.spawn(alertmanager::watch::watch(move || watched.all(), lifecycle.stop()));
        let parts = acts::Parts {
            settings: self.settings.subscribe(),
            store: self.store.clone(),
            account: Arc::clone(account),
            poll_now: self.poll_now.clone(),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            clients,
            evidence,
        };
        parts.start(lifecycle);
    }

    /// Starts what takes over the rest of the receiver: reloads, the status page and the webhook listener.
    fn start_rest(
        self,
        app: Arc<App>,
        lanes: Arc<Lanes>,
        account: Arc<Account>,
        learned: Arc<Notify>,
        lifecycle: &Lifecycle,
        http_stop: &CancellationToken,
    ) -> JoinHandle<std::io::Result<()>> {
        let reloader = Reloader {
            source: self.source,
            hangups: self.hangups,
            app: Arc::clone(&app),
            settings: self.settings,
            lanes,
            account,
            store: self.store,
            clock: self.clock,
            metrics: self.metrics,
            health: self.health,
            learned,
            state: State::new(),
        };
        lifecycle.spawn(reloader.run(lifecycle.stop()));
        let side = Side::Main { address: self.bound.address, has_admin: self.admin.is_some() };
        if let Some(admin) = self.admin {
            tokio::spawn(serve_admin(admin, Arc::clone(&app), http_stop.clone()));
        }
        tokio::spawn(self.bound.serve(app, side, http_stop.clone()))
    }
}

fn bind(key: &str, address: SocketAddr) -> anyhow::Result<HttpListener> {
    http::bind(address).with_context(|| format!("{key}: cannot listen on {address}"))
}

/// Serves the status page. Alerts matter more: the receiver runs on if the listener fails.
async fn serve_admin(bound: HttpListener, app: Arc<App>, stop: CancellationToken) {
    tracing::info!(listen = %bound.address, "status page listening");
    if !bound.address.ip().to_canonical().is_loopback() {
        tracing::warn!(listen = %bound.address, "http.admin sends its password over plain HTTP");
    }
    if let Err(error) = bound.serve(app, Side::Admin, stop).await {
        tracing::warn!(%error, "status page listener failed");
    }
}
