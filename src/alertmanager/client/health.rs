//! Which peers answer: for `/healthz`, and for `alertmanager_up`.

use std::{sync::Arc, time::Duration};

use super::{ApiError, ApiFault, request::Call};
use crate::{
    clock::Clock,
    health::{Health, Peer, PeerFault},
    metrics::Metrics,
    model::RouteName,
};

#[derive(Clone)]
pub(super) struct Record {
    health: Arc<Health>,
    clock: Clock,
    route: RouteName,
}

impl Record {
    /// What is known of peers that stay is kept.
    pub(super) fn new(health: Arc<Health>, clock: Clock, route: RouteName, hosts: Vec<String>) -> Self {
        health.update(|state| {
            let mut known = state.alertmanagers.remove(&route).unwrap_or_default();
            let peers = hosts.into_iter().map(|host| {
                let same = known.iter().position(|peer| peer.host == host);
                same.map_or_else(|| Peer { host, ..Peer::default() }, |at| known.swap_remove(at))
            });
            let peers = peers.collect();
            state.alertmanagers.insert(route.clone(), peers);
        });
        Self { health, clock, route }
    }

    /// The peers that were not asked for so long.
    pub(super) fn idle(&self, than: Duration) -> Vec<usize> {
        let now = self.clock.now();
        let is_idle = |peer: &Peer| peer.asked_at.is_none_or(|at| now.since(at) >= than);
        self.health.update(|state| {
            let peers = state.alertmanagers.get(&self.route).into_iter().flatten().enumerate();
            peers.filter(|(_, peer)| is_idle(peer)).map(|(at, _)| at).collect()
        })
    }

    /// Notes how a peer answered.
    pub(super) fn note(&self, call: Call, peer: usize, error: Option<&ApiError>, metrics: &Metrics) {
        let verdict = judged(call, error);
        let now = self.clock.now();
        let up = self.health.update(|state| {
            let peers = state.alertmanagers.get_mut(&self.route)?;
            let peer = peers.get_mut(peer)?;
            peer.asked_at = Some(now);
            match verdict {
                Verdict::Unclear => return None,
                Verdict::Answers => {
                    peer.last_good = Some(now);
                    peer.fault = None;
                }
                Verdict::Faulty(error) => {
                    let since = peer.fault.as_ref().map_or(now, |fault| fault.since);
                    peer.fault = Some(PeerFault { since, reason: error.detail.clone() });
                }
            }
            Some(peers.iter().any(|peer| peer.fault.is_none() && peer.last_good.is_some()))
        });
        if let Some(up) = up {
            metrics.alertmanager.up.with_label_values(&[self.route.as_str()]).set(i64::from(up));
        }
    }
}

/// What a request says of the peer.
enum Verdict<'a> {
    Answers,
    Faulty(&'a ApiError),
    /// Nothing: whoever may read may not be allowed to write, and a peer that is fine may refuse a silence.
    Unclear,
}

fn judged(call: Call, error: Option<&ApiError>) -> Verdict<'_> {
    let writes = matches!(call, Call::PostSilence | Call::DeleteSilence);
    match error {
        None => Verdict::Answers,
        Some(error) if writes && error.kind != ApiFault::NotSent => Verdict::Unclear,
        Some(error) => Verdict::Faulty(error),
    }
}
