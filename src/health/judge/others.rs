//! How those are that the receiver listens to: each Alertmanager, and the heartbeats that are watched.

use std::collections::BTreeMap;

use super::in_words;
use crate::health::{
    Peer,
    report::{Fact, Input, Part},
};

impl Input {
    /// `None`: no route has one.
    pub(super) fn alertmanager(&self) -> Option<Part> {
        let alertmanagers = &self.state.alertmanagers;
        if alertmanagers.is_empty() {
            return None;
        }
        if self.state.follows() {
            return Some(Part::ok("the leader asks it"));
        }
        let peers = || alertmanagers.values().flatten();
        let last = peers().filter_map(|peer| peer.last_good).max().map(|at| self.by_wall(at));
        let since = peers().filter_map(|peer| peer.fault.as_ref()).map(|fault| fault.since).min();
        let faults: Vec<String> =
            alertmanagers.iter().filter_map(|(route, peers)| self.unanswering(route.as_str(), peers)).collect();
        Some(if let Some(since) = since {
            let part = Part::degraded(faults.join("; "));
            part.with([Fact::Since(Some(self.by_wall(since))), Fact::Last(last)])
        } else if last.is_some() {
            Part::ok("answers").with([Fact::Last(last)])
        } else {
            Part::ok("not asked yet since the start").with([Fact::Last(None)])
        })
    }

    /// `None`: none is watched. A missing one is not the receiver's fault: no probe may restart it for that.
    pub(super) fn heartbeats(&self) -> Option<Part> {
        let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        let armed = || self.state.heartbeats.iter().filter_map(|heartbeat| heartbeat.armed);
        for heartbeat in &self.state.heartbeats {
            let (switches, missing) = counts.entry((heartbeat.key.route.as_str(), &heartbeat.key.name)).or_default();
            *switches += usize::from(heartbeat.armed.is_some());
            *missing += usize::from(heartbeat.armed.is_some_and(|armed| armed.missing_since.is_some()));
        }
        if counts.is_empty() {
            return None;
        }
        let named = |which: fn(&(usize, usize)) -> bool| {
            let found = counts.iter().filter(|(_, counts)| which(counts));
            let word = |((route, name), (switches, missing)): (&(&str, &str), &(usize, usize))| match switches {
                0 | 1 => format!("{route}/{name}"),
                _ if *missing > 0 => format!("{route}/{name} ({missing} of {switches})"),
                _ => format!("{route}/{name} ({switches})"),
            };
            found.map(word).collect::<Vec<_>>().join(", ")
        };
        let (missing, unarmed) = (named(|(_, missing)| *missing > 0), named(|(switches, _)| *switches == 0));
        let last = armed().map(|armed| armed.beat_at).max().map(|at| self.by_wall(at));
        let part = if !missing.is_empty() {
            let since = armed().filter_map(|armed| armed.missing_since).min().map(|at| self.by_wall(at));
            Part::degraded(format!("missing: {missing}; alerts may not reach us")).with([Fact::Since(since)])
        } else if !unarmed.is_empty() {
            Part::ok(format!("no beat has come yet, which would arm it: {unarmed}"))
        } else {
            Part::ok("all beat")
        };
        Some(part.with([Fact::Last(last)]))
    }

    /// Which peers of a route's Alertmanager do not answer, since when, and why.
    fn unanswering(&self, route: &str, peers: &[Peer]) -> Option<String> {
        let faults = peers.iter().filter_map(|peer| peer.fault.as_ref());
        let faults: Vec<String> = faults
            .map(|fault| format!("{} (since {})", self.blanked(&fault.reason), in_words(self.by_wall(fault.since))))
            .collect();
        let others = if faults.len() < peers.len() { ", other peers are asked in its place" } else { "" };
        (!faults.is_empty()).then(|| format!("route {route}: {}{others}", faults.join(", ")))
    }
}
