//! Everything that only the leader does, from its start to its end.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::{Notify, mpsc, watch};

use super::{
    acts,
    clients::Clients,
    escalation,
    evidence::Shown,
    housekeeping,
    lanes::Lanes,
    leadership::{Deadline, Seen, TermTransport, Terms},
    pollers,
};
use crate::{
    alertmanager::{self, PollContext, PollNow},
    clock::Clock,
    delivery::{Gate, LaneContext, Settings, Transport},
    health::{Health, Replica, State},
    http::App,
    lifecycle::Lifecycle,
    matrix::Account,
    metrics::Metrics,
    model::RoomAddress,
    store::{Epoch, Store},
};

/// Lists of silences that wait to be searched for twins; a later poll brings them again.
const LISTED: usize = 4;

/// What a term gives to those who live longer.
#[derive(Clone)]
pub struct Leading {
    /// Commits only while this term lasts.
    pub store: Store,
    pub lanes: Arc<Lanes>,
}

/// The term of this replica; `None` while it follows.
pub type Current = watch::Receiver<Option<Leading>>;

/// What each term is made of.
pub struct TermParts {
    pub app: Arc<App>,
    pub settings: watch::Receiver<Arc<Settings>>,
    pub store: Store,
    pub account: Arc<Account>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// `store.replica`.
    pub replica: String,
    pub current: watch::Sender<Option<Leading>>,
    /// Whether this replica leads, for the account.
    pub leads: watch::Sender<bool>,
    /// Notified when a term has begun in which nobody has looked yet for what the config does not route.
    pub sweep: Arc<Notify>,
}

impl TermParts {
    /// Starts everything that only the leader does, and lanes for the rooms of the config and for `unrouted` rooms that still
    /// have messages to be sent.
    pub fn start(
        &self,
        store: &Store,
        transport: Arc<dyn Transport>,
        unrouted: BTreeSet<RoomAddress>,
        lifecycle: &Lifecycle,
    ) {
        let shown = Shown::new(self.settings.clone(), &self.metrics);
        let gate = Gate::new(self.clock.clone(), Arc::clone(&self.metrics), Arc::clone(&self.health));
        let context = LaneContext {
            settings: self.settings.clone(),
            store: store.clone(),
            transport,
            gate: Arc::new(gate),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            on_shown: shown.on_shown(),
        };
        let lanes = Lanes::new(context, lifecycle.clone());
        // First, so that a reload which comes between starts the lanes of the rooms that it brings.
        self.current.send_replace(Some(Leading { store: store.clone(), lanes: Arc::clone(&lanes) }));
        let config = Arc::clone(&self.settings.borrow().config);
        lanes.ensure(config.rooms().into_iter().map(|(room, _)| room).chain(unrouted));
        self.start_others(store, shown, lifecycle);
    }

    fn start_others(&self, store: &Store, shown: Shown, lifecycle: &Lifecycle) {
        let stop = || lifecycle.stop();
        lifecycle.spawn(housekeeping::prune(Arc::clone(&self.app), store.clone(), stop()));
        lifecycle.spawn(housekeeping::close_stale(Arc::clone(&self.app), store.clone(), stop()));
        lifecycle.spawn(escalation::watch(Arc::clone(&self.app), store.clone(), stop()));
        let (listed, inbox) = mpsc::channel(LISTED);
        let poll_now = PollNow::default();
        let polls = PollContext { store: store.clone(), clock: self.clock.clone(), poll_now: poll_now.clone(), listed };
        lifecycle.spawn(acts::expire_twins(store.clone(), inbox, stop()));
        let (metrics, health) = (Arc::clone(&self.metrics), Arc::clone(&self.health));
        lifecycle.spawn(pollers::run(self.settings.clone(), polls, metrics, health, stop()));
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        let evidence = shown.start(&self.account, store.clone(), clock, metrics, lifecycle);
        let clients = Arc::new(Clients::new(self.settings.clone(), &self.metrics, &self.health, &self.clock));
        let watched = Arc::clone(&clients);
        lifecycle.spawn(alertmanager::watch::watch(move || watched.all(), stop()));
        let parts = acts::Parts {
            settings: self.settings.clone(),
            store: store.clone(),
            account: Arc::clone(&self.account),
            poll_now,
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            clients,
            evidence,
        };
        parts.start(lifecycle);
    }

    fn show(&self, leads: bool, change: impl FnOnce(&mut Replica)) {
        self.metrics.leadership.leads(&self.replica, leads);
        self.health.update(|health| {
            let replica = health.replica.get_or_insert_default();
            replica.leads = leads;
            change(replica);
        });
    }
}

impl Terms for TermParts {
    type Epoch = Epoch;

    fn begin(&self, epoch: Epoch, deadline: Deadline, lifecycle: &Lifecycle) {
        self.leads.send_replace(true);
        let account: Arc<Account> = Arc::clone(&self.account);
        let transport = Arc::new(TermTransport::new(account, deadline));
        self.start(&self.store.as_leader(epoch), transport, BTreeSet::new(), lifecycle);
        self.sweep.notify_one();
    }

    fn ended(&self) {
        self.leads.send_replace(false);
        self.current.send_replace(None);
        self.metrics.alertmanager.up.reset();
        self.health.update(State::end_lead);
    }

    fn saw(&self, seen: Seen<'_>) {
        let now = self.clock.now();
        self.show(seen == Seen::Us, |replica| {
            replica.leader = match seen {
                Seen::Us => Some(replica.name.clone()),
                Seen::Other(leader) => Some(leader.to_owned()),
                Seen::Nobody | Seen::Unknown => None,
            };
            match seen {
                Seen::Us | Seen::Other(_) => replica.nobody_since = None,
                Seen::Nobody => replica.nobody_since = replica.nobody_since.or(Some(now)),
                Seen::Unknown => {}
            }
        });
    }

    fn changed(&self) {
        self.metrics.leadership.changes.inc();
    }

    fn can_deliver(&self) -> bool {
        self.health.update(|health| health.connected && health.homeserver_fault.is_none())
    }
}
