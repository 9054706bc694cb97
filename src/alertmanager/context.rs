//! What pollers share with the rest of the receiver.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};

use super::{api::ApiSilence, client::Client};
use crate::{clock::Clock, model::RouteName, store::Store};

/// Counts events for each route.
pub(super) type Counts = BTreeMap<RouteName, u64>;

/// Makes the poller of a route poll at once.
#[derive(Clone, Debug, Default)]
pub struct PollNow(pub(super) watch::Sender<Counts>);

impl PollNow {
    pub fn poll_now(&self, route: &RouteName) {
        self.0.send_modify(|counts| *counts.entry(route.clone()).or_default() += 1);
    }
}

/// What pollers share.
#[derive(Clone)]
pub struct PollContext {
    pub store: Store,
    pub clock: Clock,
    pub poll_now: PollNow,
    /// Takes the silences that polls list, for whoever knows which of them are ours. What finds no room is left out.
    pub listed: mpsc::Sender<ListedSilences>,
}

/// The silences of one Alertmanager as a poll has listed them.
#[derive(Debug)]
pub struct ListedSilences {
    pub client: Client,
    pub silences: Vec<ApiSilence>,
}
