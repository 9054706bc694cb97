//! Reads the config again on SIGHUP and when its files change. A faulty config is rejected as a whole, and the previous
//! one stays active.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    room_addresses::{self, ALIAS_PATIENCE, Sweep},
    source::{Source, read_again},
    term::{Current, Leading},
};
use crate::{
    clock::Clock,
    config::Config,
    delivery::Settings,
    file_watch::{Change, FileWatch},
    health::{Health, Loaded},
    http::App,
    lifecycle::Hangups,
    matrix::{Account, acting_rooms},
    metrics::Metrics,
    model::{NoKeys, RoomAddress, RoomAliases, RoomName, RouteName},
    render::Style,
    store::{Store, StoreError},
};

/// How often to check whether the files changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often to look for incidents that webhooks in flight at a reload routed by the previous config.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// How long a reload waits to learn which room a new alias stands for.
const ALIAS_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that a reload updates.
pub struct Reloader {
    pub source: Source,
    pub hangups: Hangups,
    pub app: Arc<App>,
    pub settings: watch::Sender<Arc<Settings>>,
    /// Only a leader has lanes, and closes or moves what is routed no longer.
    pub current: Current,
    /// Notified when a term begins in which nobody has looked yet for what is not routed.
    pub term_began: Arc<Notify>,
    pub account: Arc<Account>,
    pub store: Store,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// Notified when it becomes known which room an address stands for.
    pub learned: Arc<Notify>,
    pub state: State,
}

/// What the last reload found, so that nothing is logged twice.
pub struct State {
    /// When the active config became active.
    active_since: Instant,
    /// Why the last config was rejected; empty: it was not.
    faults: Vec<String>,
    /// The keys that differ from the active config and require a restart.
    restart: Vec<&'static str>,
    /// Pairs of addresses in one route that stand for the same room.
    duplicates: BTreeSet<(RoomName, RoomName)>,
}

impl State {
    pub fn new() -> Self {
        Self { active_since: Instant::now(), faults: Vec::new(), restart: Vec::new(), duplicates: BTreeSet::new() }
    }
}

/// Why the config is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Signal,
    Change,
    /// The last config was rejected. It may be good by now even if no watched file changed.
    Retry,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Change | Self::Retry => "changed files",
        }
    }
}

impl Reloader {
    /// Reloads on SIGHUP and when files change, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut files = FileWatch::new(self.source.seen.clone(), LOOK_EVERY);
        let mut swept = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.hangups.next() => self.reload(Cause::Signal, &mut files).await,
                () = self.learned.notified() => {
                    self.sweep(true).await;
                }
                () = self.term_began.notified() => {
                    let waiting = self.sweep(true).await;
                    self.keep_lanes(&waiting);
                }
                () = files.due() => match files.look(self.watched_files()).await {
                    Change::Settled => self.reload(Cause::Change, &mut files).await,
                    Change::None if !self.state.faults.is_empty() => self.reload(Cause::Retry, &mut files).await,
                    Change::None | Change::Unsettled => {}
                },
            }
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                self.sweep(false).await;
            }
        }
    }

    fn leading(&self) -> Option<Leading> {
        self.current.borrow().clone()
    }

    fn watched_files(&self) -> Vec<PathBuf> {
        self.source.watched_files(&self.settings.borrow().config)
    }

    async fn reload(&mut self, cause: Cause, files: &mut FileWatch) {
        files.mark_read(self.watched_files()).await;
        let file = self.source.file.clone();
        // Templates are tried on samples, which takes time.
        let read = tokio::task::spawn_blocking(move || read_again(file.as_deref())).await;
        match read.unwrap_or_else(|_| Err(vec!["reading the config panicked".to_owned()])) {
            Ok((config, style)) => self.activate(config, style, cause, files).await,
            Err(faults) => self.reject(faults, cause),
        }
    }

    fn reject(&mut self, faults: Vec<String>, cause: Cause) {
        self.metrics.config.last_reload_successful.set(0);
        self.health.update(|health| health.config.faults = faults.len());
        if cause == Cause::Signal || faults != self.state.faults {
            for fault in &faults {
                tracing::error!(cause = cause.as_str(), fault, "config is refused; the previous one stays active");
            }
        } else {
            tracing::debug!("config is still refused");
        }
        self.state.faults = faults;
    }

    async fn activate(&mut self, read: Config, style: Style, cause: Cause, files: &mut FileWatch) {
        let before = Arc::clone(&self.settings.borrow().config);
        let (config, restart) = read.over(&before);
        // From now on other files are watched. If a file changed since it was read, the next look finds that.
        if config.files() != before.files() && files.is_current(self.source.watched_files(&before)).await {
            files.mark_read(self.source.watched_files(&config)).await;
        }
        let (config, style) = (Arc::new(config), Arc::new(style));
        if let Err(error) = self.source.log.set(&config.log.filter) {
            tracing::warn!("{error:#}");
        }
        self.update_parts(&before, &config, style).await;
        self.state.faults.clear();
        show_loaded(&self.health, &self.metrics, &self.clock, &restart);
        let changes = Changes::between(&before, &config);
        tracing::info!(
            cause = cause.as_str(),
            rooms_added = changes.added,
            rooms_removed = changes.removed,
            routes_added = changes.routes_added,
            routes_removed = changes.routes_removed,
            "config reloaded"
        );
        if !restart.is_empty() && restart != self.state.restart {
            let keys = restart.join(", ");
            tracing::warn!(keys, "changes require a restart; the previous values stay");
        }
        self.state.restart = restart;
    }

    /// Updates the parts in an order that matters: lanes first, so that each knows a new route before it composes for it;
    /// then webhooks; then incidents that are no longer routed are closed, while the lanes of removed rooms still run; last
    /// those lanes learn that they may end.
    async fn update_parts(&mut self, before: &Config, config: &Arc<Config>, style: Arc<Style>) {
        let rooms = config.rooms();
        let addresses: Vec<RoomAddress> = rooms.iter().map(|(room, _)| room.clone()).collect();
        let routes: Vec<RouteName> = config.routes.keys().cloned().collect();
        let names: Vec<RoomName> = rooms.iter().map(|(_, name)| name.clone()).collect();
        self.health.serve(&rooms);
        self.metrics.serve(&routes, &names);
        show_missing_keys(&self.health, &self.metrics);
        self.account.serve(&addresses, &config.matrix.aliases);
        self.account.act_in(acting_rooms(config));
        let settings = Settings::new(Arc::clone(config), style);
        let gone = before.rooms().into_iter().map(|(room, _)| room);
        self.settings.send_replace(Arc::new(settings.clone().and_rooms(gone)));
        if let Some(Leading { lanes, .. }) = self.leading() {
            lanes.ensure(addresses);
        }
        self.wait_for_aliases(config).await;
        self.app.reload(Arc::clone(config));
        self.state.active_since = Instant::now();
        let waiting = self.sweep(true).await;
        self.settings.send_replace(Arc::new(settings.and_rooms(waiting)));
    }

    /// Waits until it is known which rooms new aliases stand for, if the homeserver answers: until then an ongoing incident
    /// would get a second card in a room that already shows it.
    async fn wait_for_aliases(&self, config: &Config) {
        let known = async {
            while room_addresses::awaits_alias(&self.store, config).await.unwrap_or(false) {
                self.learned.notified().await;
            }
        };
        let _ = timeout(ALIAS_TIMEOUT, known).await;
    }

    /// Closes or moves what the active config no longer routes; webhooks in flight at a reload are stored as the previous
    /// config routed them. Returns the rooms that must wait until an alias is known. Does nothing on a follower.
    async fn sweep(&mut self, all_addresses: bool) -> BTreeSet<RoomAddress> {
        let config = self.app.config();
        let sweep = Sweep { all_addresses, await_aliases: self.state.active_since.elapsed() < ALIAS_PATIENCE };
        let mut waiting = BTreeSet::new();
        let Some(Leading { store, lanes }) = self.leading() else { return waiting };
        match sweep.run(&store, &config, Some(&lanes)).await {
            Ok(found) => {
                self.keep_lanes(&found.waiting);
                lanes.ensure(found.rooms.into_iter().chain(found.waiting.iter().cloned()));
                self.report_duplicates(&config, &found.room_aliases);
                waiting = found.waiting;
            }
            Err(StoreError::NotLeader) => {}
            Err(error) => tracing::warn!(%error, "closing unrouted incidents failed; will retry"),
        }
        let routes: Vec<RouteName> = config.routes.keys().cloned().collect();
        let rooms: Vec<RoomName> = config.rooms().into_iter().map(|(_, name)| name).collect();
        self.metrics.serve(&routes, &rooms);
        waiting
    }

    /// Keeps the lanes of these rooms from ending.
    fn keep_lanes(&self, rooms: &BTreeSet<RoomAddress>) {
        self.settings.send_if_modified(|settings| {
            let new = rooms.iter().any(|room| !settings.serves(room));
            if new {
                *settings = Arc::new(Settings::clone(settings).and_rooms(rooms.iter().cloned()));
            }
            new
        });
    }

    /// Warns of a route that names one room by two addresses. It posts there once.
    fn report_duplicates(&mut self, config: &Config, room_aliases: &RoomAliases) {
        let names: BTreeMap<RoomAddress, RoomName> = config.rooms().into_iter().collect();
        let (mut twins, mut found) = (BTreeMap::new(), BTreeSet::new());
        for route in config.routes.values() {
            for (n, room) in route.rooms.iter().enumerate() {
                let Some(first) = room_aliases.among(&route.rooms[..n], room) else { continue };
                let (Some(room_name), Some(first_name)) = (names.get(room), names.get(first)) else { continue };
                twins.insert(room.clone(), first_name.clone());
                let pair = (first_name.clone(), room_name.clone());
                if !self.state.duplicates.contains(&pair) {
                    tracing::warn!(
                        route = %route.name, first = %first, second = %room,
                        "route names one room twice; remove one address"
                    );
                }
                found.insert(pair);
            }
        }
        self.state.duplicates = found;
        self.health.update(|health| {
            for (address, room) in &mut health.rooms {
                room.twin_of = twins.remove(address);
            }
        });
    }
}

/// Shows in health and metrics that a config has become active.
pub fn show_loaded(health: &Health, metrics: &Metrics, clock: &Clock, restart: &[&'static str]) {
    metrics.config.last_reload_successful.set(1);
    metrics.config.last_reload_success.set(clock.wall().0 as f64 / 1000.0);
    metrics.config.restart_required.set(i64::from(!restart.is_empty()));
    health.update(|health| {
        health.config = Loaded { since: Some(clock.now()), faults: 0, restart: restart.to_vec() };
    });
}

/// Sets the metric again for each room, since rooms may have new names.
fn show_missing_keys(health: &Health, metrics: &Metrics) {
    for room in health.snapshot().rooms.into_values() {
        for reason in NoKeys::ALL {
            let gauge = metrics.rooms_without_keys.with_label_values(&[room.name.as_str(), reason.as_str()]);
            gauge.set(i64::from(room.no_keys == Some(reason)));
        }
    }
}

/// How many rooms and routes a reload added and removed, for the log.
struct Changes {
    added: usize,
    removed: usize,
    routes_added: usize,
    routes_removed: usize,
}

impl Changes {
    fn between(before: &Config, after: &Config) -> Self {
        let rooms = |config: &Config| config.rooms().into_iter().map(|(room, _)| room).collect::<BTreeSet<_>>();
        let routes = |config: &Config| config.routes.keys().cloned().collect::<BTreeSet<_>>();
        let (old, new) = (rooms(before), rooms(after));
        let (old_routes, new_routes) = (routes(before), routes(after));
        Self {
            added: new.difference(&old).count(),
            removed: old.difference(&new).count(),
            routes_added: new_routes.difference(&old_routes).count(),
            routes_removed: old_routes.difference(&new_routes).count(),
        }
    }
}
