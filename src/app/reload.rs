//! The one owner of the config: reads it at start, and again on SIGHUP and when its files change. A faulty one is refused
//! as a whole, and the one before goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    lanes::Lanes,
    room_addresses::{self, LOOK_UP, Look},
};
use crate::{
    clock::Clock,
    config::{Config, LogFormat, Purpose},
    delivery::Settings,
    file_watch::Fingerprint,
    health::{Health, Loaded},
    http::App,
    lifecycle::Hangups,
    matrix::Account,
    metrics::Metrics,
    model::{NoKeys, RoomAddress, RoomAliases, RoomName, RouteName},
    render::{Style, templates::Templates},
    store::Store,
    telemetry,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Files that have changed must stay as they are for this long: one that is being written is half a file.
const SETTLED: Duration = Duration::from_secs(1);
/// How often is looked for what webhooks under way at a reload have left behind.
const SWEEP: Duration = Duration::from_mins(1);

/// How long a reload waits to learn which room a new alias stands for.
const ALIAS_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the config comes from, and what it was when it was read first.
pub struct Source {
    file: Option<PathBuf>,
    log: telemetry::Filter,
    /// What the files held when the config was read.
    seen: Fingerprint,
}

impl Source {
    /// Reads the config for a start.
    ///
    /// # Errors
    /// All that is wrong with it, or with `log.filter`.
    pub fn read(file: Option<&Path>) -> anyhow::Result<(Config, Self)> {
        let own: Vec<PathBuf> = file.iter().map(|path| path.to_path_buf()).collect();
        let before = Fingerprint::read(&own);
        let config = Config::load(file, &crate::config::environment(), Purpose::Serve)?;
        let log = telemetry::init(config.log.format == LogFormat::Json, &config.log.filter)?;
        let env = crate::config::environment();
        let links = crate::config::service_links(&env);
        if !links.is_empty() {
            tracing::debug!(variables = links.join(" "), "ignored what Kubernetes sets for a Service");
        }
        warn_of_odd_passwords(&config);
        let seen = Fingerprint::read(&watched(file, &config));
        // Changed while it was read: the first look finds that it differs.
        let seen = if Fingerprint::read(&own) == before { seen } else { Fingerprint::default() };
        Ok((config, Self { file: file.map(Path::to_owned), log, seen }))
    }
}

/// The config's own file, and those that it and the environment name.
fn watched(file: Option<&Path>, config: &Config) -> Vec<PathBuf> {
    let named = config.files().into_iter().chain(file).map(Path::to_owned);
    named.chain(crate::config::files(&crate::config::environment())).collect()
}

/// What the config in force is told to.
pub struct Reloader {
    pub source: Source,
    pub hangups: Hangups,
    pub app: Arc<App>,
    pub settings: watch::Sender<Arc<Settings>>,
    pub lanes: Arc<Lanes>,
    pub account: Arc<Account>,
    pub store: Store,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub last: LastLoad,
    /// It was found out which room an address stands for.
    pub learned: Arc<Notify>,
    /// When the config in force came into force.
    pub since: Instant,
}

/// What was said last, so that it is said once.
#[derive(Default)]
pub struct LastLoad {
    /// What the files held when they were read last.
    seen: Fingerprint,
    /// Why they were refused; empty: they were not.
    faults: Vec<String>,
    restart: Vec<&'static str>,
    /// Rooms that a route names twice.
    twins: BTreeSet<(RoomName, RoomName)>,
}

/// Why the config is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Signal,
    Change,
    /// It was refused, and may be good by now: what was wrong need not have been in a file that is looked at.
    Refused,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Change | Self::Refused => "changed files",
        }
    }
}

/// How messages look, with all templates compiled and tried on samples.
///
/// # Errors
/// What is wrong with time zone, links or templates.
pub fn style_of(config: &Config) -> anyhow::Result<Style> {
    let style = Style::new(&config.display, &config.links)?.with_routes(&config.routes)?;
    let templates = Templates::load(config, &style)?;
    Ok(style.with_templates(templates))
}

fn warn_of_odd_passwords(config: &Config) {
    for odd in config.odd_passwords() {
        tracing::warn!(password = odd, "a password looks as if something came with its copying");
    }
}

/// All that a start reads and checks, or everything that is wrong with it.
fn read(file: Option<&Path>) -> Result<(Config, Style), Vec<String>> {
    let config = Config::load(file, &crate::config::environment(), Purpose::Serve);
    let config = config.map_err(|faults| faults.lines().to_vec())?;
    let in_lines = |error: &anyhow::Error| format!("{error:#}").lines().map(str::to_owned).collect::<Vec<_>>();
    telemetry::check(&config.log.filter).map_err(|error| in_lines(&error))?;
    let style = style_of(&config).map_err(|error| in_lines(&error))?;
    warn_of_odd_passwords(&config);
    Ok((config, style))
}

impl Reloader {
    /// Reads the config again whenever there is a reason to, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.last.seen = self.source.seen.clone();
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.hangups.next() => self.reload(Cause::Signal).await,
                () = self.learned.notified() => {
                    self.sweep(true).await;
                }
                _ = every.tick() => self.look().await,
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.sweep(false).await;
            }
        }
    }

    async fn fingerprint(&self) -> Fingerprint {
        let config = Arc::clone(&self.settings.borrow().config);
        Fingerprint::of(watched(self.source.file.as_deref(), &config)).await
    }

    async fn look(&mut self) {
        let found = self.fingerprint().await;
        if found == self.last.seen {
            if !self.last.faults.is_empty() {
                self.reload(Cause::Refused).await;
            }
            return;
        }
        sleep(SETTLED).await;
        if self.fingerprint().await == found {
            self.reload(Cause::Change).await;
        }
    }

    async fn reload(&mut self, cause: Cause) {
        // Before they are read: what changes meanwhile is found by the next look.
        self.last.seen = self.fingerprint().await;
        let file = self.source.file.clone();
        // Templates are run on samples, which takes its time.
        let read = tokio::task::spawn_blocking(move || read(file.as_deref())).await;
        match read.unwrap_or_else(|_| Err(vec!["reading it panicked".to_owned()])) {
            Ok((config, style)) => self.put_in_force(config, style, cause).await,
            Err(faults) => self.refuse(faults, cause),
        }
    }

    fn refuse(&mut self, faults: Vec<String>, cause: Cause) {
        self.metrics.config.last_reload_successful.set(0);
        self.health.update(|health| health.config.faults = faults.len());
        if cause == Cause::Signal || faults != self.last.faults {
            for fault in &faults {
                tracing::error!(cause = cause.as_str(), fault, "the config is refused, the one before stays in force");
            }
        } else {
            tracing::debug!("the config is still refused");
        }
        self.last.faults = faults;
    }

    async fn put_in_force(&mut self, read: Config, style: Style, cause: Cause) {
        let before = Arc::clone(&self.settings.borrow().config);
        let (config, restart) = read.over(&before);
        // Other files are looked at from now on; unless one has changed since it was read, which the next look then finds.
        if config.files() != before.files() && self.fingerprint().await == self.last.seen {
            self.last.seen = Fingerprint::of(watched(self.source.file.as_deref(), &config)).await;
        }
        let (config, style) = (Arc::new(config), Arc::new(style));
        if let Err(error) = self.source.log.set(&config.log.filter) {
            tracing::warn!("{error:#}");
        }
        self.tell_parts(&before, &config, style).await;
        self.last.faults.clear();
        note_loaded(&self.health, &self.metrics, &self.clock, &restart);
        let changes = Changes::between(&before, &config);
        tracing::info!(
            cause = cause.as_str(),
            rooms_added = changes.added,
            rooms_removed = changes.removed,
            routes_added = changes.routes_added,
            routes_removed = changes.routes_removed,
            "the config was read again and is in force"
        );
        if !restart.is_empty() && restart != self.last.restart {
            let keys = restart.join(", ");
            tracing::warn!(keys, "these changes of the config want a restart; until then the values from before hold");
        }
        self.last.restart = restart;
    }

    /// The order matters. Lanes first, so that none composes what a new route brought without knowing the route; then the
    /// webhooks; then what is routed no longer is closed, while the lanes of rooms that are gone still run; and last they
    /// learn that they may end.
    async fn tell_parts(&mut self, before: &Config, config: &Arc<Config>, style: Arc<Style>) {
        let rooms = config.rooms();
        let addresses: Vec<RoomAddress> = rooms.iter().map(|(room, _)| room.clone()).collect();
        let routes: Vec<RouteName> = config.routes.keys().cloned().collect();
        let names: Vec<RoomName> = rooms.iter().map(|(_, name)| name.clone()).collect();
        self.health.serve(&rooms);
        self.metrics.serve(&routes, &names);
        show_missing_keys(&self.health, &self.metrics);
        self.account.serve(&addresses, &config.matrix.aliases);
        let settings = Settings::new(Arc::clone(config), style);
        let gone = before.rooms().into_iter().map(|(room, _)| room);
        self.settings.send_replace(Arc::new(settings.clone().and_rooms(gone)));
        self.lanes.ensure(addresses);
        self.look_up(config).await;
        self.app.reload(Arc::clone(config));
        self.since = Instant::now();
        let waiting = self.sweep(true).await;
        self.settings.send_replace(Arc::new(settings.and_rooms(waiting)));
    }

    /// Which room a new alias stands for is found out at once, if the homeserver answers: until then an incident that goes
    /// on would get a second card in a room that already shows it.
    async fn look_up(&self, config: &Config) {
        let known = async {
            while room_addresses::is_open(&self.store, config).await.unwrap_or(false) {
                self.learned.notified().await;
            }
        };
        let _ = timeout(ALIAS_TIMEOUT, known).await;
    }

    /// Webhooks that were under way at a reload go where they went when they came. Returns the rooms of which it is not
    /// known yet what becomes of them.
    async fn sweep(&mut self, all: bool) -> BTreeSet<RoomAddress> {
        let config = self.app.config();
        let look = Look { all, patient: self.since.elapsed() < LOOK_UP };
        let mut waiting = BTreeSet::new();
        match room_addresses::sort_out(&self.store, &config, Some(&self.lanes), look).await {
            Ok(found) => {
                self.keep_lanes(&found.waiting);
                self.lanes.ensure(found.rooms.into_iter().chain(found.waiting.iter().cloned()));
                self.tell_twins(&config, &found.room_aliases);
                waiting = found.waiting;
            }
            Err(error) => {
                tracing::warn!(%error, "could not close what the config no longer routes; tried again later");
            }
        }
        let routes: Vec<RouteName> = config.routes.keys().cloned().collect();
        let rooms: Vec<RoomName> = config.rooms().into_iter().map(|(_, name)| name).collect();
        self.metrics.serve(&routes, &rooms);
        waiting
    }

    /// Lanes that are not to end yet.
    fn keep_lanes(&self, rooms: &BTreeSet<RoomAddress>) {
        self.settings.send_if_modified(|settings| {
            let new = rooms.iter().any(|room| !settings.serves(room));
            if new {
                *settings = Arc::new(Settings::clone(settings).and_rooms(rooms.iter().cloned()));
            }
            new
        });
    }

    /// A route that names a room twice posts there once.
    fn tell_twins(&mut self, config: &Config, room_aliases: &RoomAliases) {
        let names: BTreeMap<RoomAddress, RoomName> = config.rooms().into_iter().collect();
        let (mut twins, mut found) = (BTreeMap::new(), BTreeSet::new());
        for route in config.routes.values() {
            for (n, room) in route.rooms.iter().enumerate() {
                let Some(first) = room_aliases.among(&route.rooms[..n], room) else { continue };
                let (Some(room_name), Some(first_name)) = (names.get(room), names.get(first)) else { continue };
                twins.insert(room.clone(), first_name.clone());
                let pair = (first_name.clone(), room_name.clone());
                if !self.last.twins.contains(&pair) {
                    tracing::warn!(
                        route = %route.name, first = %first, second = %room,
                        "a route names the same room twice, by two addresses; it posts there once: take one of them out"
                    );
                }
                found.insert(pair);
            }
        }
        self.last.twins = found;
        self.health.update(|health| {
            for (address, room) in &mut health.rooms {
                room.twin_of = twins.remove(address);
            }
        });
    }
}

/// For health and metrics: a config has come into force.
pub fn note_loaded(health: &Health, metrics: &Metrics, clock: &Clock, restart: &[&'static str]) {
    metrics.config.last_reload_successful.set(1);
    metrics.config.last_reload_success.set(clock.wall().0 as f64 / 1000.0);
    metrics.config.restart_required.set(i64::from(!restart.is_empty()));
    health.update(|health| {
        health.config = Loaded { since: Some(clock.now()), faults: 0, restart: restart.to_vec() };
    });
}

/// Rooms may have got other names.
fn show_missing_keys(health: &Health, metrics: &Metrics) {
    for room in health.snapshot().rooms.into_values() {
        for reason in NoKeys::ALL {
            let gauge = metrics.rooms_without_keys.with_label_values(&[room.name.as_str(), reason.as_str()]);
            gauge.set(i64::from(room.no_keys == Some(reason)));
        }
    }
}

/// For the log.
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
