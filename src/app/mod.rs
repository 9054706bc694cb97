//! The one place where the parts are built and the tasks spawned.

mod clock_jumps;
mod lanes;
mod reload;
mod room_addresses;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

pub use self::reload::Source;
use self::{
    lanes::Lanes,
    reload::{LastLoad, Reloader, note_loaded, style_of},
    room_addresses::Look,
};
use crate::{
    clock::Clock,
    config::Config,
    delivery::{Gate, LaneContext, Settings},
    health::Health,
    http::{self, App, ControlSocket, HttpListener, Side, Tls},
    lifecycle::{Hangups, Lifecycle},
    matrix::{Account, Setup},
    metrics::Metrics,
    model::RoomAddress,
    store::Store,
};

/// How often the store forgets what is over, at the most and at the least.
const PRUNE_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_hours(1));

/// How often is looked whether a reload has changed that.
const RETENTION_LOOK: Duration = Duration::from_mins(1);

/// How often incidents nobody speaks of are looked for, at the most and at the least.
const STALE_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_mins(1));

/// A receiver that listens and whose store is open, but that does nothing yet.
pub struct Receiver {
    config: Arc<Config>,
    source: Source,
    hangups: Hangups,
    /// What lanes see of the config in force.
    settings: tokio::sync::watch::Sender<Arc<Settings>>,
    store: Store,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    bound: HttpListener,
    tls: Option<Tls>,
    /// That of `http.admin`.
    admin: Option<HttpListener>,
}

impl Receiver {
    /// Opens the store and binds the socket. The homeserver is not asked for anything.
    ///
    /// # Errors
    /// When a template of one's own is faulty, the certificate and its key are not to be used, the store cannot be opened
    /// or the address cannot be bound.
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
        let store = Store::open(&config.store.path, clock.clone(), Arc::clone(&metrics), Arc::clone(&health)).await?;
        // The store has set the time on which these are.
        health.update(|health| {
            health.started_at = Some(clock.now());
            health.version = format!("{} ({})", crate::VERSION, crate::COMMIT);
        });
        note_loaded(&health, &metrics, &clock, &[]);
        let bound = http::bind(config.http.listen)
            .with_context(|| format!("http.listen: cannot listen on {}", config.http.listen))?
            .with_tls(tls.clone());
        let admin = match &config.http.admin {
            Some(admin) => Some(
                http::bind(admin.listen)
                    .with_context(|| format!("http.admin.listen: cannot listen on {}", admin.listen))?,
            ),
            None => None,
        };
        let config = Arc::new(config);
        let settings = tokio::sync::watch::Sender::new(Arc::new(Settings::new(Arc::clone(&config), style)));
        Ok(Self { config, source, hangups, settings, store, clock, metrics, health, bound, tls, admin })
    }

    /// Serves until SIGTERM or SIGINT, then stops in order: no new webhooks, sends under way finish, the store closes.
    ///
    /// # Errors
    /// When the HTTP side fails or the store cannot be read.
    pub async fn run(self) -> anyhow::Result<()> {
        let lifecycle = Lifecycle::new();
        // Before webhooks come: what was routed when the receiver was stopped need not be now.
        let look = Look { all: true, patient: true };
        let found = room_addresses::sort_out(&self.store, &self.config, None, look).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not close what the config no longer routes; tried again later");
            room_addresses::Found::default()
        });
        let settings = Settings::clone(&self.settings.borrow()).and_rooms(found.waiting.iter().cloned());
        self.settings.send_replace(Arc::new(settings));
        let learned = Arc::new(Notify::new());
        let unrouted = found.rooms.into_iter().chain(found.waiting).collect();
        let (account, lanes) = self.start_delivery(&lifecycle, unrouted, &learned).await?;
        self.start_watching_certificate(&lifecycle);
        let app = App::new(
            Arc::clone(&self.config),
            self.store.clone(),
            self.clock.clone(),
            Arc::clone(&self.metrics),
            Arc::clone(&self.health),
        );
        let app = Arc::new(app);
        start_pruning(&app, &lifecycle);
        start_closing_stale(&app, &lifecycle);
        tracing::info!(
            listen = %self.bound.address, homeserver = %self.config.matrix.homeserver,
            store = %self.config.store.path.display(), version = crate::VERSION, commit = crate::COMMIT, "ready"
        );
        lifecycle.spawn(clock_jumps::watch(self.clock.clone(), Arc::clone(&self.health), lifecycle.stop()));
        start_control(&app, &self.config, &lifecycle);
        lifecycle.spawn(http::sample(Arc::clone(&app), lifecycle.stop()));
        let reloader = Reloader {
            source: self.source,
            hangups: self.hangups,
            app: Arc::clone(&app),
            settings: self.settings,
            lanes,
            account,
            store: self.store.clone(),
            clock: self.clock,
            metrics: self.metrics,
            health: Arc::clone(&self.health),
            last: LastLoad::default(),
            learned,
            since: Instant::now(),
        };
        lifecycle.spawn(reloader.run(lifecycle.stop()));
        let http_stop = CancellationToken::new();
        let side = Side::Main { address: self.bound.address, has_admin: self.admin.is_some() };
        if let Some(admin) = self.admin {
            tracing::info!(listen = %admin.address, "the status page is served on http.admin");
            if !admin.address.ip().to_canonical().is_loopback() {
                tracing::warn!(listen = %admin.address, "http.admin is plain HTTP: its password can be read on the way");
            }
            tokio::spawn(serve_admin(admin, Arc::clone(&app), http_stop.clone()));
        }
        let mut http = tokio::spawn(self.bound.serve(app, side, http_stop.clone()));
        tokio::select! {
            served = &mut http => return served.context("the HTTP side ended")?.context("the HTTP side failed"),
            signal = crate::lifecycle::termination() => tracing::info!(signal = signal?, "stopping"),
        }
        self.health.update(|health| health.stopping = true);
        // Webhooks are answered 503 until the last send is done: refusing the connection would say less.
        if !lifecycle.finish().await {
            tracing::warn!("something did not finish in time; it goes on at the next start");
        }
        http_stop.cancel();
        http.await.context("the HTTP side ended")?.context("the HTTP side failed")?;
        self.store.close().await;
        tracing::info!("stopped");
        Ok(())
    }

    fn start_watching_certificate(&self, lifecycle: &Lifecycle) {
        let Some(tls) = self.tls.clone() else { return };
        let (clock, metrics, health) = (self.clock.clone(), Arc::clone(&self.metrics), Arc::clone(&self.health));
        lifecycle.spawn(tls.watch(clock, metrics, health, lifecycle.stop()));
    }

    /// With lanes for the rooms of the config, and for those that it no longer names but that must be told so.
    async fn start_delivery(
        &self,
        lifecycle: &Lifecycle,
        unrouted: BTreeSet<RoomAddress>,
        learned: &Arc<Notify>,
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
        };
        let lanes = Lanes::new(context, lifecycle.clone());
        lanes.ensure(rooms.into_iter().chain(unrouted));
        Ok((account, lanes))
    }
}

fn start_closing_stale(app: &Arc<App>, lifecycle: &Lifecycle) {
    let (app, stop) = (Arc::clone(app), lifecycle.stop());
    lifecycle.spawn(async move {
        loop {
            let config = app.config();
            for route in config.routes.values() {
                match app.store.close_stale(&route.name, route.stale_after).await {
                    Ok(0) => {}
                    Ok(incidents) => {
                        tracing::info!(route = %route.name, incidents, "closed as no news: not mentioned for stale_after");
                    }
                    Err(error) => tracing::warn!(%error, "could not close stale incidents; tried again later"),
                }
            }
            let shortest = config.routes.values().map(|route| route.stale_after).min().unwrap_or(STALE_EVERY.1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep((shortest / 4).clamp(STALE_EVERY.0, STALE_EVERY.1)) => {}
            }
        }
    });
}

fn start_pruning(app: &Arc<App>, lifecycle: &Lifecycle) {
    let (app, stop) = (Arc::clone(app), lifecycle.stop());
    lifecycle.spawn(async move {
        let mut pruned: Option<Instant> = None;
        loop {
            let retention = app.config().store.retention;
            let every = (retention / 4).clamp(PRUNE_EVERY.0, PRUNE_EVERY.1);
            if pruned.is_none_or(|at| at.elapsed() >= every) {
                match app.store.prune(retention).await {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "forgot what has been over for store.retention"),
                    Err(error) => tracing::warn!(%error, "could not forget what is over; tried again later"),
                }
                pruned = Some(Instant::now());
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // A reload may make it shorter.
                () = sleep(every.min(RETENTION_LOOK)) => {}
            }
        }
    });
}

/// Alerts matter more than the page: without its listener the receiver runs all the same.
async fn serve_admin(bound: HttpListener, app: Arc<App>, stop: CancellationToken) {
    if let Err(error) = bound.serve(app, Side::Admin, stop).await {
        tracing::warn!(%error, "http.admin is no longer served");
    }
}

/// Alerts matter more than the commands that need the socket: without it the receiver runs all the same.
fn start_control(app: &Arc<App>, config: &Config, lifecycle: &Lifecycle) {
    match ControlSocket::bind(&config.store.path) {
        Ok(socket) => lifecycle.spawn(socket.serve(Arc::clone(app), lifecycle.stop())),
        Err(error) => tracing::warn!(
            store = %config.store.path.display(), %error,
            "no control socket in store.path: the command dead-letters cannot reach this receiver"
        ),
    }
}
