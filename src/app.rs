//! The one place where the parts are built and the tasks spawned.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::Config,
    delivery::{Gate, Lane, Parts},
    health::Health,
    http::{self, App, Bound, ControlSocket, Side, Tls},
    lifecycle::Lifecycle,
    matrix::{Account, Setup},
    metrics::Metrics,
    render::{Style, custom::Templates},
    store::Store,
};

/// How often the store forgets what is over, at the most and at the least.
const PRUNE_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_hours(1));

/// How often incidents nobody speaks of are looked for, at the most and at the least.
const STALE_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_mins(1));

/// A receiver that listens and whose store is open, but that does nothing yet.
pub struct Receiver {
    config: Arc<Config>,
    store: Store,
    style: Arc<Style>,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    bound: Bound,
    tls: Option<Tls>,
    /// That of `http.admin`.
    admin: Option<Bound>,
}

impl Receiver {
    /// Opens the store and binds the socket. The homeserver is not asked for anything.
    ///
    /// # Errors
    /// When a template of one's own is faulty, the certificate and its key are not to be used, the store cannot be opened
    /// or the address cannot be bound.
    pub async fn prepare(config: Config) -> anyhow::Result<Self> {
        let clock = Clock::System;
        let rooms = config.rooms();
        let routes: Vec<_> = config.routes.keys().cloned().collect();
        let names: Vec<_> = rooms.iter().map(|(_, name)| name.clone()).collect();
        let metrics = Arc::new(Metrics::new(&routes, &names, crate::VERSION, crate::COMMIT));
        let health = Arc::new(Health::new(&rooms));
        health.update(|health| {
            health.started_at = Some(clock.now());
            health.version = format!("{} ({})", crate::VERSION, crate::COMMIT);
        });
        let style = Style::new(&config.display, &config.links)?.with_routes(&config.routes)?;
        let templates = Templates::load(&config, &style)?;
        let style = Arc::new(style.with_templates(templates));
        let tls = config.http.tls.as_ref().map(Tls::load).transpose()?;
        let store = Store::open(&config.store.path, clock.clone(), Arc::clone(&metrics), Arc::clone(&health)).await?;
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
        Ok(Self { config: Arc::new(config), store, style, clock, metrics, health, bound, tls, admin })
    }

    /// Serves until SIGTERM or SIGINT, then stops in order: no new webhooks, sends under way finish, the store closes.
    ///
    /// # Errors
    /// When the HTTP side fails or the store cannot be read.
    pub async fn run(self) -> anyhow::Result<()> {
        let lifecycle = Lifecycle::new();
        self.start_delivery(&lifecycle).await?;
        self.start_pruning(&lifecycle);
        self.start_closing_stale(&lifecycle);
        self.start_watching_certificate(&lifecycle);
        tracing::info!(
            listen = %self.bound.address, homeserver = %self.config.matrix.homeserver,
            store = %self.config.store.path.display(), version = crate::VERSION, commit = crate::COMMIT, "ready"
        );
        let app = App::new(
            Arc::clone(&self.config),
            self.store.clone(),
            self.clock.clone(),
            Arc::clone(&self.metrics),
            Arc::clone(&self.health),
        );
        let app = Arc::new(app);
        start_control(&app, &lifecycle);
        lifecycle.spawn(http::sample(Arc::clone(&app), lifecycle.stop()));
        let http_stop = CancellationToken::new();
        let side = Side::Main { address: self.bound.address, has_admin: self.admin.is_some() };
        if let Some(admin) = self.admin {
            tracing::info!(listen = %admin.address, "the status page is served on http.admin");
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

    async fn start_delivery(&self, lifecycle: &Lifecycle) -> anyhow::Result<()> {
        let (store, places) = (self.store.clone(), self.store.clone());
        let (account, connection) = Account::start(Setup {
            config: self.config.matrix.clone(),
            store_path: self.config.store.path.clone(),
            rooms: self.config.rooms().into_iter().map(|(room, _)| room).collect(),
            places: self.store.places().await?.into_iter().collect(),
            save_place: Arc::new(move |address, place| {
                let store = places.clone();
                Box::pin(async move { Ok(store.set_place(address, place).await?) })
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
        let parts = Parts {
            config: Arc::clone(&self.config),
            style: Arc::clone(&self.style),
            store: self.store.clone(),
            transport: account,
            gate: Arc::new(gate),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
        };
        for (room, name) in self.config.rooms() {
            lifecycle.spawn(Lane::new(room, name, parts.clone(), lifecycle.stop()).run());
        }
        Ok(())
    }

    fn start_closing_stale(&self, lifecycle: &Lifecycle) {
        let (store, config, stop) = (self.store.clone(), Arc::clone(&self.config), lifecycle.stop());
        lifecycle.spawn(async move {
            let shortest = config.routes.values().map(|route| route.stale_after).min().unwrap_or(STALE_EVERY.1);
            let mut every = tokio::time::interval((shortest / 4).clamp(STALE_EVERY.0, STALE_EVERY.1));
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => {}
                }
                for route in config.routes.values() {
                    match store.close_stale(&route.name, route.stale_after).await {
                        Ok(0) => {}
                        Ok(incidents) => {
                            tracing::info!(route = %route.name, incidents, "closed as no news: not mentioned for stale_after");
                        }
                        Err(error) => tracing::warn!(%error, "could not close stale incidents; tried again later"),
                    }
                }
            }
        });
    }

    fn start_watching_certificate(&self, lifecycle: &Lifecycle) {
        let Some(tls) = self.tls.clone() else { return };
        let (clock, metrics, health) = (self.clock.clone(), Arc::clone(&self.metrics), Arc::clone(&self.health));
        lifecycle.spawn(tls.watch(clock, metrics, health, lifecycle.stop()));
    }

    fn start_pruning(&self, lifecycle: &Lifecycle) {
        let (store, retention, stop) = (self.store.clone(), self.config.store.retention, lifecycle.stop());
        lifecycle.spawn(async move {
            let mut every = tokio::time::interval((retention / 4).clamp(PRUNE_EVERY.0, PRUNE_EVERY.1));
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = every.tick() => {}
                }
                match store.prune(retention).await {
                    Ok(0) => {}
                    Ok(rows) => tracing::info!(rows, "forgot what has been over for store.retention"),
                    Err(error) => tracing::warn!(%error, "could not forget what is over; tried again later"),
                }
            }
        });
    }
}

/// Alerts matter more than the page: without its listener the receiver runs all the same.
async fn serve_admin(bound: Bound, app: Arc<App>, stop: CancellationToken) {
    if let Err(error) = bound.serve(app, Side::Admin, stop).await {
        tracing::warn!(%error, "http.admin is no longer served");
    }
}

/// Alerts matter more than the commands that need the socket: without it the receiver runs all the same.
fn start_control(app: &Arc<App>, lifecycle: &Lifecycle) {
    match ControlSocket::bind(&app.config.store.path) {
        Ok(socket) => lifecycle.spawn(socket.serve(Arc::clone(app), lifecycle.stop())),
        Err(error) => tracing::warn!(
            store = %app.config.store.path.display(), %error,
            "no control socket in store.path: the command dead-letters cannot reach this receiver"
        ),
    }
}
