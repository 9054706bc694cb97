//! Leads while this replica has the lease, and follows while another one has it.
//!
//! What only the leader does is a term: it begins when the lease is taken, and ends as a whole when the lease is lost, when
//! it was not renewed for 3 s, or when the receiver stops.

mod campaign;
mod store;
mod transport;

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use self::campaign::{Campaign, LEADS_FOR, Step};
pub use self::{store::StoreLease, transport::TermTransport};
use crate::{lifecycle::Lifecycle, pacing::SayOnce, store::StoreError};

/// How long sends in flight may take when the receiver stops: a follower should lead within a second.
const LAST_SENDS: Duration = Duration::from_millis(700);
/// How long giving the lease back may take; it ends by itself otherwise.
const GIVING_BACK: Duration = Duration::from_secs(1);

/// The lease in the store. A trait so that tests can script one.
pub trait Lease: Send + Sync + 'static {
    /// What tells terms apart.
    type Epoch: Clone + PartialEq + Send + Sync + 'static;

    /// Who leads; `None`: nobody does.
    fn leader(&self) -> impl Future<Output = Result<Option<Leader<Self::Epoch>>, StoreError>> + Send;

    /// Takes the lease if nobody has it.
    fn take(&self) -> impl Future<Output = Result<Option<Self::Epoch>, StoreError>> + Send;

    /// Renews the lease; `false`: somebody else leads.
    fn keep(&self, epoch: &Self::Epoch) -> impl Future<Output = Result<bool, StoreError>> + Send;

    fn give_up(&self, epoch: &Self::Epoch) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Changes when somebody gives the lease back; changes may be missed.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Who leads.
#[derive(Clone, Debug)]
pub struct Leader<E> {
    pub replica: String,
    pub epoch: E,
    /// How long the lease still lasts.
    pub left: Duration,
}

/// Until when a term may send.
#[derive(Clone, Debug)]
pub struct Deadline(watch::Receiver<Instant>);

impl Deadline {
    #[must_use]
    pub fn has_passed(&self) -> bool {
        Instant::now() >= *self.0.borrow()
    }
}

/// Who leads, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    Us,
    Other(&'a str),
    Nobody,
    /// The store does not say.
    Unknown,
}

/// What leading means to the receiver.
pub trait Terms: Send + Sync + 'static {
    type Epoch;

    /// Starts everything that only the leader does; all of it must run on `lifecycle`, and send nothing after the deadline.
    fn begin(&self, epoch: Self::Epoch, deadline: Deadline, lifecycle: &Lifecycle);

    /// All of the term has ended.
    fn ended(&self);

    /// Called with every look and every renewal.
    fn saw(&self, seen: Seen<'_>);

    /// Another replica leads than before.
    fn changed(&self);

    /// Whether the homeserver is reached.
    fn can_deliver(&self) -> bool;
}

struct Term<E> {
    epoch: E,
    lifecycle: Lifecycle,
    deadline: watch::Sender<Instant>,
}

/// Campaigns until the receiver stops, then gives the lease back.
pub struct Leadership<L: Lease, T> {
    replica: String,
    lease: Arc<L>,
    terms: T,
    campaign: Campaign,
    term: Option<Term<L::Epoch>>,
    /// The last one that is known to have led.
    last: Option<L::Epoch>,
    fault: SayOnce,
}

impl<L: Lease, T: Terms<Epoch = L::Epoch>> Leadership<L, T> {
    pub fn new(replica: String, lease: L, terms: T) -> Self {
        let campaign = Campaign::new(Instant::now());
        Self { replica, lease: Arc::new(lease), terms, campaign, term: None, last: None, fault: SayOnce::default() }
    }

    pub async fn run(mut self, lifecycle: Lifecycle) {
        let stop = lifecycle.stop();
        let mut changes = self.lease.changes();
        while !stop.is_cancelled() {
            match self.campaign.next(Instant::now(), self.terms.can_deliver()) {
                Step::Wait(until) => tokio::select! {
                    () = stop.cancelled() => {}
                    () = sleep_until(until) => {}
                    () = changed(&mut changes) => self.campaign.woken(Instant::now()),
                },
                Step::Look => tokio::select! {
                    () = stop.cancelled() => {}
                    leader = self.lease.leader() => self.looked(leader),
                },
                Step::Take => {
                    let (asked, lease) = (Instant::now(), Arc::clone(&self.lease));
                    let mut taking = pin!(lease.take());
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {
                            // It may be ours all the same.
                            if let Ok(Ok(Some(epoch))) = timeout(GIVING_BACK, taking.as_mut()).await {
                                self.give_back(&epoch).await;
                            }
                        }
                        taken = &mut taking => self.took(asked, taken, &lifecycle),
                    }
                }
                Step::Keep => {
                    let (Some(term), Some(until)) = (&self.term, self.campaign.until()) else { continue };
                    let (asked, epoch) = (Instant::now(), term.epoch.clone());
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        // Too late is what the next step finds.
                        kept = timeout_at(until, self.lease.keep(&epoch)) => if let Ok(kept) = kept {
                            self.kept(asked, kept).await;
                        },
                    }
                }
                Step::End => {
                    tracing::warn!(replica = self.replica, "lease not renewed in time; another replica may lead");
                    self.end(Duration::ZERO).await;
                }
            }
        }
        if self.term.is_some() {
            self.end(LAST_SENDS).await;
            tracing::info!(replica = self.replica, "lead given back");
        }
    }

    fn looked(&mut self, leader: Result<Option<Leader<L::Epoch>>, StoreError>) {
        match leader {
            Ok(leader) => {
                self.answered();
                self.campaign.looked(Instant::now(), leader.as_ref().map(|leader| leader.left));
                let Some(Leader { replica, epoch, .. }) = leader else { return self.terms.saw(Seen::Nobody) };
                if self.leads_now(epoch) {
                    tracing::info!(replica = self.replica, leader = replica, "another replica leads");
                }
                self.terms.saw(Seen::Other(&replica));
            }
            Err(error) => self.failed(&error),
        }
    }

    fn took(&mut self, asked: Instant, taken: Result<Option<L::Epoch>, StoreError>, lifecycle: &Lifecycle) {
        match taken {
            Ok(taken) => {
                self.answered();
                self.campaign.took(asked, Instant::now(), taken.is_some());
                if let Some(epoch) = taken {
                    self.begin(epoch, asked + LEADS_FOR, lifecycle);
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn begin(&mut self, epoch: L::Epoch, until: Instant, lifecycle: &Lifecycle) {
        self.leads_now(epoch.clone());
        tracing::info!(replica = self.replica, "this replica leads");
        let (deadline, lifecycle) = (watch::Sender::new(until), lifecycle.part());
        self.terms.saw(Seen::Us);
        self.terms.begin(epoch.clone(), Deadline(deadline.subscribe()), &lifecycle);
        self.term = Some(Term { epoch, lifecycle, deadline });
    }

    async fn kept(&mut self, asked: Instant, kept: Result<bool, StoreError>) {
        match kept {
            Ok(true) => {
                self.answered();
                self.campaign.kept(asked);
                if let (Some(term), Some(until)) = (&self.term, self.campaign.until()) {
                    term.deadline.send_replace(until);
                }
                self.terms.saw(Seen::Us);
            }
            Ok(false) => {
                tracing::warn!(replica = self.replica, "lead lost to another replica");
                let left = self.campaign.until().map_or(Duration::ZERO, |until| until - Instant::now());
                self.end(left.min(LEADS_FOR)).await;
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Ends the term: sends in flight may take so long, then they are given up and stay in flight for whoever leads next.
    async fn end(&mut self, patience: Duration) {
        if let Some(term) = self.term.take() {
            if !term.lifecycle.finish_or_give_up(patience).await {
                tracing::debug!(replica = self.replica, "sends in flight left to the next leader");
            }
            self.terms.ended();
            self.give_back(&term.epoch).await;
        }
        self.campaign.ended(Instant::now());
        self.terms.saw(Seen::Unknown);
    }

    async fn give_back(&self, epoch: &L::Epoch) {
        match timeout(GIVING_BACK, self.lease.give_up(epoch)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "lease not given back; it ends by itself"),
            Err(_) => tracing::debug!("lease not given back in time; it ends by itself"),
        }
    }

    /// Returns whether it is another one than before.
    fn leads_now(&mut self, epoch: L::Epoch) -> bool {
        let is_new = self.last.as_ref() != Some(&epoch);
        if is_new && self.last.replace(epoch).is_some() {
            self.terms.changed();
        }
        is_new
    }

    fn answered(&mut self) {
        if self.fault.clear() {
            tracing::info!(replica = self.replica, "the store says again who leads");
        }
    }

    fn failed(&mut self, error: &StoreError) {
        self.campaign.failed(Instant::now());
        if self.term.is_none() {
            self.terms.saw(Seen::Unknown);
        }
        if self.fault.should_log(&error.to_string()) {
            tracing::warn!(replica = self.replica, %error, "the store does not say who leads");
        }
    }
}

/// Never, once nobody can change it.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
