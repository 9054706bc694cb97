//! Watches heartbeats (`routes.X.heartbeats`): raises the alarm of one that is missing as an incident of the receiver's own,
//! and ends it when beats are back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Heartbeat, Route},
    http::{self, App},
    intake::{
        Rules,
        heartbeats::{self, Alarm, Gap, Verdict, alarm, judge},
    },
    model::{IncidentId, Known, RouteName, Switch, SwitchKey, Timestamp},
    render::heartbeat,
    store::{DecideSwitch, Store, StoreError, SwitchChange},
    text::one_line,
};

const TICK: Duration = Duration::from_secs(1);
/// Ticks further apart are a gap: the machine slept, or nothing was heard for another reason.
const LATE: Duration = Duration::from_secs(10);
/// How often a card whose heartbeat is still missing may say so again; `remind_after` decides whether it does.
const REPEAT: Duration = Duration::from_mins(1);
/// Gaps that wait to be committed; further ones become part of the last.
const GAPS: usize = 16;
/// Characters of a label's value in the log.
const MAX_SHOWN: usize = 100;

/// The store of this replica's term; `None`: it does not lead.
pub type TermStore = Box<dyn Fn() -> Option<Store> + Send + Sync>;

/// Looks until `stop`. Every replica notes when beats may not have been heard, and shows how switches are; alarms are the
/// leader's.
pub async fn watch(app: Arc<App>, term: TermStore, replica: String, stop: CancellationToken) {
    let mut ticker = Ticker::new(app, term, replica);
    loop {
        ticker.tick().await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(TICK) => {}
        }
    }
}

/// Beats may not have been heard in this time: every switch gets its grace. For whoever begins to watch.
///
/// # Errors
/// When it cannot be committed.
pub async fn grace(store: &Store, gap: Gap) -> Result<usize, StoreError> {
    store.change_heartbeats(move |switch| heartbeats::graced(switch, gap)).await
}

/// A time in which this replica may not have heard beats.
#[derive(Clone, Copy, Debug)]
struct Missed {
    gap: Gap,
    /// This replica heard nothing at all, so that it does not count if others share the store and were there.
    is_absence: bool,
}

impl Missed {
    /// Whether another replica leads, so that somebody has heard beats while this one was absent. Webhooks that this one has
    /// refused are missed all the same.
    fn others_heard(&self, leader: Option<&str>, own: &str) -> bool {
        self.is_absence && leader.is_some_and(|leader| leader != own)
    }
}

struct Ticker {
    app: Arc<App>,
    term: TermStore,
    /// `store.replica`.
    replica: String,
    ticked_at: Timestamp,
    /// Since when the store does not answer.
    failed_since: Option<Timestamp>,
    /// Those for which no grace is committed yet.
    missed: Vec<Missed>,
    /// Whether some switch was there when it was last looked.
    has_some: bool,
    /// Nothing is watched, and it shows.
    is_idle: bool,
    has_failed: bool,
    /// When the alarm of a missing one was last repeated.
    repeated: HashMap<SwitchKey, Timestamp>,
}

impl Ticker {
    fn new(app: Arc<App>, term: TermStore, replica: String) -> Self {
        let now = app.clock.now();
        let started = app.health.snapshot().started_at.unwrap_or(now);
        let gap = Gap { from: started.minus(app.store.away()), to: started };
        Self {
            app,
            term,
            replica,
            ticked_at: now,
            failed_since: None,
            missed: vec![Missed { gap, is_absence: true }],
            has_some: true,
            is_idle: false,
            has_failed: false,
            repeated: HashMap::new(),
        }
    }

    async fn tick(&mut self) {
        let now = self.app.clock.now();
        self.note_gaps(now);
        let config = self.app.config();
        if !self.has_some && config.routes.values().all(|route| route.heartbeats.is_empty()) {
            self.missed.clear();
            if !self.is_idle {
                show(&self.app, &config, &[]);
                self.is_idle = true;
            }
            return;
        }
        self.is_idle = false;
        let looked = self.look(&config, now).await;
        if looked.is_err() {
            self.failed_since.get_or_insert(now);
        }
        match looked {
            Ok(()) => self.has_failed = false,
            Err(StoreError::NotLeader) => {}
            Err(error) if self.has_failed => tracing::debug!(%error, "watching heartbeats failed; will retry"),
            Err(error) => {
                self.has_failed = true;
                tracing::warn!(%error, "watching heartbeats failed; will retry");
            }
        }
    }

    fn note_gaps(&mut self, now: Timestamp) {
        if now.since(self.ticked_at) > LATE {
            self.note(Missed { gap: Gap { from: self.ticked_at, to: now }, is_absence: true });
        }
        self.ticked_at = now;
        if let Some((from, to)) = self.app.refusals.take() {
            self.note(Missed { gap: Gap { from, to }, is_absence: false });
        }
    }

    fn note(&mut self, missed: Missed) {
        let is_full = self.missed.len() >= GAPS;
        match self.missed.last_mut() {
            Some(last) if is_full => {
                last.gap.to = missed.gap.to;
                last.is_absence &= missed.is_absence;
            }
            _ => self.missed.push(missed),
        }
    }

    /// A shared store that was away may have been away for all replicas, also for those that nothing was posted to.
    async fn note_outage(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(from) = self.failed_since.filter(|_| self.app.store.is_shared()) else { return Ok(()) };
        self.app.store.heartbeats().await?;
        self.failed_since = None;
        if now.since(from) > LATE {
            self.note(Missed { gap: Gap { from, to: now }, is_absence: true });
        }
        Ok(())
    }

    /// Who leads, where replicas share the store.
    async fn leader(&self) -> Result<Option<String>, StoreError> {
        if !self.app.store.is_shared() {
            return Ok(None);
        }
        Ok(self.app.store.leader().await?.map(|leader| leader.replica))
    }

    /// Gives switches their grace for what was missed.
    async fn forgive(&mut self) -> Result<(), StoreError> {
        while let Some(missed) = self.missed.first().copied() {
            let gap = missed.gap;
            if !missed.others_heard(self.leader().await?.as_deref(), &self.replica) {
                let switches = grace(&self.app.store, gap).await?;
                if switches > 0 {
                    let seconds = gap.to.since(gap.from).as_secs();
                    tracing::info!(switches, not_heard_s = seconds, "heartbeats get time to come back");
                }
            }
            self.missed.remove(0);
        }
        Ok(())
    }

    async fn look(&mut self, config: &Arc<Config>, now: Timestamp) -> Result<(), StoreError> {
        self.note_outage(now).await?;
        self.forgive().await?;
        let switches = self.app.store.heartbeats().await?;
        self.has_some = !switches.is_empty();
        let (mut changed, mut failed) = (false, None);
        let store = (self.term)();
        for (switch, store) in switches.iter().filter_map(|switch| Some((switch, store.as_ref()?))) {
            // One that fails does not hold up the others.
            match self.step(config, store, switch, now).await {
                Ok(step) => changed |= step,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let switches = if changed { self.app.store.heartbeats().await? } else { switches };
        self.has_some = !switches.is_empty();
        self.repeated
            .retain(|key, _| switches.iter().any(|switch| switch.key == *key && switch.missing_since.is_some()));
        show(&self.app, config, &switches);
        failed.map_or(Ok(()), Err)
    }

    /// Returns whether something changed.
    async fn step(
        &mut self,
        config: &Arc<Config>,
        store: &Store,
        switch: &Switch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(watched) = Watched::of(config, self.app.clock.ahead(), &switch.key, now) else {
            return self.forget(config, store, switch).await;
        };
        let key = switch.key.clone();
        match judge(switch, watched.heartbeat().timeout, now) {
            Verdict::Beating => return Ok(false),
            Verdict::Raise => {
                let resolved = switch.resolved_at.is_some();
                let silent_s = now.since(switch.beat_at).as_secs();
                if let Some(incident) = self.change(store, key, watched, raise).await? {
                    let incident = incident.as_ref().map(tracing::field::display);
                    let (route, heartbeat) = (&switch.key.route, &switch.key.name);
                    let labels = labels(&switch.key);
                    tracing::warn!(%route, heartbeat, labels, incident, silent_s, resolved, "heartbeat missing");
                }
            }
            Verdict::Missing => {
                let repeated = self.repeated.entry(key.clone()).or_insert(now);
                if now.since(*repeated) < REPEAT {
                    return Ok(false);
                }
                *repeated = now;
                self.change(store, key, watched, repeat).await?;
            }
            Verdict::IsBack => {
                let silent_s = switch.missing_since.map(|since| switch.beat_at.since(since).as_secs());
                if self.change(store, key, watched, is_back).await?.is_some() {
                    let (route, heartbeat) = (&switch.key.route, &switch.key.name);
                    let labels = labels(&switch.key);
                    tracing::info!(%route, heartbeat, labels, missing_s = silent_s, "heartbeat is back");
                }
            }
        }
        Ok(true)
    }

    /// The config does not name it any more.
    async fn forget(&self, config: &Arc<Config>, store: &Store, switch: &Switch) -> Result<bool, StoreError> {
        if http::heartbeats::forget(&self.app, store, config, switch.key.clone()).await? {
            let (route, heartbeat) = (&switch.key.route, &switch.key.name);
            tracing::info!(%route, heartbeat, labels = labels(&switch.key), "heartbeat left the config; disarmed");
        }
        Ok(true)
    }

    /// Returns whether something changed, and the incident that it is.
    async fn change(
        &self,
        store: &Store,
        key: SwitchKey,
        watched: Watched,
        decide: Decide,
    ) -> Result<Option<Option<IncidentId>>, StoreError> {
        let rooms = watched.route().rooms.clone();
        let decide: DecideSwitch = Box::new(move |switch, known, now| decide(&watched, switch, known, now));
        store.change_heartbeat(key, rooms, decide).await
    }
}

type Decide = fn(&Watched, &Switch, Option<&Known>, Timestamp) -> Option<SwitchChange>;

/// A heartbeat of the config, as one tick sees it.
struct Watched {
    config: Arc<Config>,
    route: RouteName,
    index: usize,
    ahead: i64,
    /// The tick's own time. What has passed since is not waited for: the machine may have slept in between.
    tick: Timestamp,
}

impl Watched {
    /// `None`: the config has no such heartbeat, or tells its switches apart by other labels.
    fn of(config: &Arc<Config>, ahead: i64, key: &SwitchKey, tick: Timestamp) -> Option<Self> {
        let heartbeats = &config.routes.get(&key.route)?.heartbeats;
        let index = heartbeats.iter().position(|heartbeat| heartbeat.name == key.name)?;
        let by = &heartbeats.get(index)?.by;
        let is_same = by.len() == key.labels.len() && by.iter().all(|label| key.labels.contains_key(label));
        is_same.then(|| Self { config: Arc::clone(config), route: key.route.clone(), index, ahead, tick })
    }

    fn route(&self) -> &Route {
        &self.config.routes[&self.route]
    }

    fn heartbeat(&self) -> &Heartbeat {
        &self.route().heartbeats[self.index]
    }

    fn rules(&self) -> Rules<'_> {
        Rules { ahead: self.ahead, ..Rules::of(self.route(), &self.config.display) }
    }

    fn alarm(&self, switch: &Switch) -> Alarm {
        let heartbeat = self.heartbeat();
        let values = heartbeat.by.iter().filter_map(|label| switch.key.labels.get(label).map(String::as_str));
        let silent = self.tick.since(switch.beat_at);
        Alarm { annotations: heartbeat::annotations(&heartbeat.name, values, silent, switch.resolved_at.is_some()) }
    }
}

/// Each judges once more inside the transaction: a beat may have come since.
fn raise(watched: &Watched, switch: &Switch, known: Option<&Known>, now: Timestamp) -> Option<SwitchChange> {
    if judge(switch, watched.heartbeat().timeout, watched.tick) != Verdict::Raise {
        return None;
    }
    let changes = alarm(switch, known, watched.alarm(switch), &watched.rules(), now);
    Some(SwitchChange { switch: Some(Switch { missing_since: Some(now), ..switch.clone() }), alarm: Some(changes) })
}

fn repeat(watched: &Watched, switch: &Switch, known: Option<&Known>, now: Timestamp) -> Option<SwitchChange> {
    if judge(switch, watched.heartbeat().timeout, watched.tick) != Verdict::Missing {
        return None;
    }
    let changes = alarm(switch, known, watched.alarm(switch), &watched.rules(), now);
    Some(SwitchChange { switch: Some(switch.clone()), alarm: Some(changes) })
}

fn is_back(watched: &Watched, switch: &Switch, known: Option<&Known>, now: Timestamp) -> Option<SwitchChange> {
    switch.missing_since?;
    let changes = heartbeats::is_back(switch, known, heartbeat::is_back(), &watched.rules(), now);
    Some(SwitchChange { switch: Some(Switch { missing_since: None, ..switch.clone() }), alarm: changes })
}

/// For the log: `cluster=a,prometheus=b`.
fn labels(key: &SwitchKey) -> Option<String> {
    let shown = |(name, value): (&String, &String)| format!("{name}={}", one_line(value, MAX_SHOWN));
    let labels: Vec<String> = key.labels.iter().map(shown).collect();
    (!labels.is_empty()).then(|| labels.join(","))
}

/// Shows in health and metrics how the switches are.
fn show(app: &App, config: &Config, switches: &[Switch]) {
    let (shown, now) = (http::heartbeats::list(config, switches), app.clock.now());
    let mut silent: BTreeMap<(&str, &str), Duration> = BTreeMap::new();
    for heartbeat in &shown {
        if let Some(armed) = heartbeat.armed {
            let longest = silent.entry((heartbeat.key.route.as_str(), &heartbeat.key.name)).or_default();
            *longest = (*longest).max(now.since(armed.beat_at));
        }
    }
    app.metrics.heartbeats_last(&silent);
    app.health.update(|health| health.heartbeats = shown);
}

#[cfg(test)]
mod tests;
