//! The shared state of all parts. Each part writes what it knows; the report and the probes read it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::model::{NoKeys, OpKind, RoomAddress, RoomName, RouteName, SwitchKey, Timestamp};

#[derive(Debug, Default)]
pub struct Health {
    inner: Mutex<State>,
}

/// A hold: why nothing is sent, in words for the operator, and until when if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub reason: String,
    /// A rate limit is a budget, not a fault.
    pub rate_limit: bool,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomHealth {
    pub name: RoomName,
    pub hold: Option<Hold>,
    /// The room is encrypted, and this is why nothing can be sent there.
    pub no_keys: Option<NoKeys>,
    /// Nothing is wrong, but the operator should know.
    pub notice: Option<String>,
    /// A route names the same room by another address before: nothing is posted under this one.
    pub twin_of: Option<RoomName>,
}

impl RoomHealth {
    /// What the operator should know although nothing is wrong.
    #[must_use]
    pub fn notices(&self) -> Option<String> {
        let twin = self.twin_of.as_ref().map(|first| {
            format!("the same room as {first}, by another address: the route posts there once; take one of them out")
        });
        let notices: Vec<String> = self.notice.iter().cloned().chain(twin).collect();
        (!notices.is_empty()).then(|| notices.join("; "))
    }
}

/// How the account's device stands with those who read encrypted rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// No room is encrypted, as far as is known.
    #[default]
    NotNeeded,
    /// The device is signed by the account's identity. `key_only_here`: the recovery key has no copy elsewhere, as far as
    /// is known.
    Signed { key_only_here: bool },
    /// It is not signed, so that clients show a warning or refuse to read; in words, with what to do.
    Unsigned(String),
}

/// The config in force, and what came of the last try to read it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// When the one in force was read.
    pub since: Option<Timestamp>,
    /// What is wrong with the one that was read last; 0: it is the one in force.
    pub faults: usize,
    /// Keys whose new values only a restart brings.
    pub restart: Vec<&'static str>,
}

#[derive(Clone, Debug, Default)]
pub struct State {
    /// Version and commit.
    pub version: String,
    /// When the receiver started.
    pub started_at: Option<Timestamp>,
    /// The writer moved last; `None` before it starts.
    pub writer_beat: Option<Timestamp>,
    /// Why the last commit failed; `None` after a good one.
    pub store_fault: Option<String>,
    pub stopping: bool,
    /// Who leads, where several replicas share a store; `None`: this is the only one.
    pub replica: Option<Replica>,
    /// Why the homeserver cannot be used; `None` while it can.
    pub homeserver_fault: Option<String>,
    /// Why the device that replicas share cannot be used, which sends to plain rooms; `None` while it can, or without
    /// replicas.
    pub shared_fault: Option<String>,
    /// Whether the homeserver has been reached with a good token since the start.
    pub connected: bool,
    pub last_sync: Option<Timestamp>,
    /// Why the last sync failed; `None` after a good one.
    pub sync_fault: Option<String>,
    /// Why this session cannot encrypt; plain rooms go on without the SDK, and without a sync.
    pub no_keys: Option<NoKeys>,
    /// Whether people may act from a room, which takes syncs.
    pub acting: bool,
    pub trust: Trust,
    /// What holds every room back.
    pub account_hold: Option<Hold>,
    pub rooms: BTreeMap<RoomAddress, RoomHealth>,
    pub config: Loaded,
    /// What webhooks are served with; `None`: plain HTTP.
    pub certificate: Option<Certificate>,
    /// When the wall clock was set last, since the start.
    pub clock_set: Option<ClockSet>,
    /// How the peers of each route's Alertmanager answered last; routes without one are left out.
    pub alertmanagers: BTreeMap<RouteName, Vec<Peer>>,
    /// The dead man's switches, by route, name and labels.
    pub heartbeats: Vec<Heartbeat>,
    /// What came into rooms since the start, the newest first.
    pub deliveries: VecDeque<Delivery>,
}

/// This replica, and who leads as far as it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    /// `store.replica`.
    pub name: String,
    pub leads: bool,
    /// The replica that leads; `None`: nobody does, or the store does not say.
    pub leader: Option<String>,
    /// Since when the store says that nobody leads.
    pub nobody_since: Option<Timestamp>,
}

/// One peer of an Alertmanager. Neither is set before it was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// With its port.
    pub host: String,
    /// When a request to it last ended, well or not.
    pub asked_at: Option<Timestamp>,
    /// When it last answered well.
    pub last_good: Option<Timestamp>,
    /// `None` after a good answer.
    pub fault: Option<PeerFault>,
}

/// A heartbeat of the config, and one of its switches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub key: SwitchKey,
    /// `None`: no beat has armed it.
    pub armed: Option<ArmedSwitch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmedSwitch {
    pub beat_at: Timestamp,
    /// When its alarm is raised if no beat comes.
    pub due: Timestamp,
    /// Alertmanager has said that the alert is over.
    pub is_resolved: bool,
    /// Since when its alarm is raised.
    pub missing_since: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFault {
    pub since: Timestamp,
    /// In words, beginning with the host.
    pub reason: String,
}

/// The wall clock jumped by so much; negative: back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSet {
    pub at: Timestamp,
    pub by_ms: i64,
}

/// Deliveries that are remembered.
const DELIVERIES: usize = 5;

/// An event that is in its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub at: Timestamp,
    /// From the oldest accepted change that it shows.
    pub took: Duration,
    pub room: RoomAddress,
    pub kind: OpKind,
    pub event: String,
}

impl State {
    /// Forgets what only the leader learns: this replica does not lead any more, and would report it for ever.
    pub fn end_lead(&mut self) {
        self.account_hold = None;
        for room in self.rooms.values_mut() {
            room.hold = None;
        }
        for peer in self.alertmanagers.values_mut().flatten() {
            *peer = Peer { host: std::mem::take(&mut peer.host), ..Peer::default() };
        }
    }

    /// Whether another replica leads, or none.
    #[must_use]
    pub fn follows(&self) -> bool {
        self.replica.as_ref().is_some_and(|replica| !replica.leads)
    }

    pub fn delivered(&mut self, delivery: Delivery) {
        self.deliveries.push_front(delivery);
        self.deliveries.truncate(DELIVERIES);
    }
}

/// The certificate in use, and the files that hold the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Why what the files hold now is not in use; `None`: it is.
    pub refused: Option<String>,
}

/// How a certificate stands in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Good,
    /// It should have been renewed by now.
    EndsSoon,
    Ended,
    /// Its time has not come, or the clock is wrong.
    NotYet,
}

impl Certificate {
    /// Renewed certificates never get this close to their end.
    const SOON: Duration = Duration::from_hours(7 * 24);

    #[must_use]
    pub fn age(&self, now: Timestamp) -> Age {
        // Some live for a day only.
        let soon = Self::SOON.min(self.not_after.since(self.not_before) / 4);
        match self.not_after.since(now) {
            _ if now < self.not_before => Age::NotYet,
            Duration::ZERO => Age::Ended,
            left if left <= soon => Age::EndsSoon,
            _ => Age::Good,
        }
    }
}

impl Health {
    #[must_use]
    pub fn new(rooms: &[(RoomAddress, RoomName)]) -> Self {
        let health = Self::default();
        health.serve(rooms);
        health
    }

    /// These are the rooms from now on; what is known of those that stay is kept.
    pub fn serve(&self, rooms: &[(RoomAddress, RoomName)]) {
        let mut state = self.lock();
        let mut known = std::mem::take(&mut state.rooms);
        for (address, name) in rooms {
            let room = known.remove(address);
            let fresh = || RoomHealth { name: name.clone(), hold: None, no_keys: None, notice: None, twin_of: None };
            let room = room.unwrap_or_else(fresh);
            state.rooms.insert(address.clone(), RoomHealth { name: name.clone(), ..room });
        }
    }

    /// A copy of everything, taken at one instant.
    #[must_use]
    pub fn snapshot(&self) -> State {
        self.lock().clone()
    }

    /// Changes the state; `change` must not block.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data: a panic elsewhere cannot have left it half-written in a way that matters to a reader.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_soon_in_its_last_week_or_quarter() {
        let days = |days: i64| Timestamp(days * 86_400_000);
        let year = Certificate { not_before: days(0), not_after: days(365), refused: None };
        let day = Certificate { not_after: days(1), ..year.clone() };
        for (certificate, now, age) in [
            (&year, Timestamp(-1), Age::NotYet),
            (&year, days(0), Age::Good),
            (&year, days(357), Age::Good),
            (&year, days(358), Age::EndsSoon),
            (&year, days(365), Age::Ended),
            (&day, days(0), Age::Good),
            (&day, Timestamp(19 * 3_600_000), Age::EndsSoon),
            (&day, days(2), Age::Ended),
        ] {
            assert_eq!(certificate.age(now), age, "{now:?}");
        }
    }
}
