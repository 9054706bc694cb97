//! The task that serves one room. [`Lane::turn`] does one thing; [`Lane::run`] is the dumb loop around it.

mod drain;
mod failure;
mod fallbacks;
mod in_doubt;
mod root_events;
mod waiting;

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    drain::Drain,
    fallbacks::Fallbacks,
    in_doubt::{PastSearch, VainSearch},
};
use super::{
    compose::{self, ComposeInput, Composed},
    gate::{Gate, Permit, Priority},
    plan::{self, Conditions, Step},
    poison::{Patience, PoisonCheck},
    settings::Settings,
    transport::Transport,
};
use crate::{
    clock::Clock,
    health::{Delivery, Health},
    metrics::Metrics,
    model::{CardId, NotificationId, Op, OpKind, RoomAddress, RoomName, Timestamp, TxnId},
    store::{Store, StoreError},
};

/// How long a lane rests after a fault of the store or a panic.
const REST: Duration = Duration::from_secs(1);
/// A lane with nothing to do asks the store again after this, also if nobody wakes it: a lost wake-up then costs minutes
/// and no alert.
const POLL_INTERVAL: Duration = Duration::from_mins(1);
/// So many cards within the window make a storm.
const STORM: usize = 4;
const STORM_WINDOW: Duration = Duration::from_secs(10);
/// Cards whose last edit is remembered.
const EDITED: usize = 4_096;

/// What all lanes share.
#[derive(Clone)]
pub struct LaneContext {
    /// Every config that comes into force.
    pub settings: watch::Receiver<Arc<Settings>>,
    pub store: Store,
    pub transport: Arc<dyn Transport>,
    pub gate: Arc<Gate>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

pub struct Lane {
    room: RoomAddress,
    name: RoomName,
    context: LaneContext,
    /// The config of this turn.
    settings: Arc<Settings>,
    /// Set while the room is told that no route names it any more.
    drain: Option<Drain>,
    stop: CancellationToken,
    /// When a card was edited last, for the debouncing of edits.
    edited: HashMap<CardId, Instant>,
    /// When the last few cards were posted, the newest first.
    posted: VecDeque<Instant>,
    /// `digest_above` of the room's routes.
    digest_above: usize,
    /// What the last plan was made for, compared with others' while the gate is closed.
    priority: Priority,
    /// Refusals of this room in a row.
    refusals: u32,
    started: Timestamp,
    poison: PoisonCheck,
    patience: Patience,
    /// The op in doubt that was looked for last.
    past_search: Option<PastSearch>,
    /// Parked ops that were looked for in vain.
    vain_searches: Vec<VainSearch>,
    /// A parked op that is sent once more: its next failure parks it anew.
    last_chance: Option<TxnId>,
    /// The ends of outages.
    recoveries: watch::Receiver<u64>,
    searched_for_roots: bool,
    /// Cards whose first event surely is in the room, and since when that is known.
    seen_roots: HashMap<CardId, Instant>,
    /// Templates of one's own that failed.
    fallbacks: Fallbacks,
}

/// What became of a turn.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Something was done; there may be more.
    Again,
    /// Nothing to do until the store wakes us.
    Idle,
    /// Nothing to do until then, or until the store wakes us.
    Wait(Duration),
    /// Not to be tried before that, whatever the store says, unless the account gets into the room.
    Held(Duration),
}

impl Lane {
    /// `stop` ends the lane after the send that is under way.
    #[must_use]
    pub fn new(room: RoomAddress, context: LaneContext, stop: CancellationToken) -> Self {
        let settings = context.settings.borrow().clone();
        Self {
            name: settings.name_of(&room),
            digest_above: settings.digest_above(&room),
            room,
            settings,
            drain: None,
            started: context.clock.now(),
            stop,
            edited: HashMap::new(),
            posted: VecDeque::new(),
            priority: Priority::finish(Timestamp(0)),
            refusals: 0,
            poison: PoisonCheck::default(),
            patience: Patience::default(),
            past_search: None,
            vain_searches: Vec::new(),
            last_chance: None,
            recoveries: context.gate.recoveries(),
            searched_for_roots: false,
            seen_roots: HashMap::new(),
            fallbacks: Fallbacks::default(),
            context,
        }
    }

    /// Serves the room until told to stop, or until it is not one of the config any more and knows so.
    pub async fn run(mut self) {
        let mut wake = self.context.store.wake_ups();
        while !self.stop.is_cancelled() {
            // Registered before the store is polled, so that no commit slips through in between.
            wake.mark_unchanged();
            self.renew();
            if self.must_end() {
                return self.give_up().await;
            }
            let turn = self.bounded_turn().await;
            if turn == Turn::Idle && self.drain.is_some() {
                return;
            }
            if !self.must_end() {
                self.pause(self.bounded(turn), &mut wake).await;
            }
        }
    }

    /// A turn that neither a fault of the store nor a panic ends the lane with.
    async fn safe_turn(&mut self) -> Turn {
        match AssertUnwindSafe(self.turn()).catch_unwind().await {
            Ok(Ok(turn)) => turn,
            Ok(Err(error)) => {
                tracing::warn!(room = %self.name, %error, "the store failed the room's lane; it tries again");
                Turn::Held(REST)
            }
            Err(_) => {
                self.context.metrics.lane_panics.inc();
                tracing::error!(room = %self.name, "a panic in the room's lane was caught; it goes on");
                Turn::Held(REST)
            }
        }
    }

    async fn pause(&self, turn: Turn, wake: &mut watch::Receiver<u64>) {
        let woken = async {
            // The sender lives in the store; without it there is nothing to wait for but the stop.
            if wake.changed().await.is_err() {
                self.stop.cancelled().await;
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.reloaded() => {}
            () = recovered(self.recoveries.clone()) => {}
            () = async {
                match turn {
                    Turn::Again => {}
                    Turn::Idle => tokio::select! { () = sleep(POLL_INTERVAL) => {}, () = woken => {} },
                    Turn::Wait(duration) => tokio::select! { () = sleep(duration) => {}, () = woken => {} },
                    Turn::Held(duration) if self.refusals > 0 => tokio::select! {
                        () = sleep(duration) => {},
                        () = self.context.transport.entered(&self.room) => {},
                    },
                    Turn::Held(duration) => sleep(duration).await,
                }
            } => {}
        }
    }

    /// Ends once a config has come into force that the lane has not seen.
    async fn reloaded(&self) {
        let mut settings = self.context.settings.clone();
        if settings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn turn(&mut self) -> Result<Turn, StoreError> {
        if self.recoveries.has_changed().unwrap_or(false) {
            self.recoveries.mark_unchanged();
            self.context.store.search_soon(&self.room, self.context.clock.now()).await?;
        }
        // The store alone knows what is unfinished: whatever a lane remembers of that goes wrong one day, and then it
        // sleeps on an op for good.
        if let Some(op) = self.context.store.unfinished(&self.room).await? {
            return self.resume(op).await;
        }
        self.apply_room_changes().await?;
        let parked = match self.next_parked().await? {
            Some((op, Duration::ZERO)) => return self.search_for_parked(op).await,
            parked => parked.map(|(_, wait)| wait),
        };
        let dead = match self.retry_dead_letters().await? {
            Some(Duration::ZERO) => return Ok(Turn::Again),
            dead => dead,
        };
        let later = [parked, dead].into_iter().flatten().min().map_or(Turn::Idle, Turn::Wait);
        if !self.searched_for_roots {
            let due = self.context.store.due(&self.room).await?;
            if let Some(turn) = self.search_for_roots(&due).await? {
                return Ok(turn);
            }
        }
        let first_look = match self.plan(None).await? {
            Step::Nothing => return Ok(later),
            Step::Wait(duration) => return Ok(Turn::Wait(duration)),
            step => step,
        };
        let Some(permit) = self.enter().await? else { return Ok(Turn::Again) };
        // What gathered behind a rate limit is looked at as a whole.
        let step = if permit.limited { self.plan(Some(&permit)).await? } else { first_look };
        let (kind, card) = match step {
            Step::Digest => {
                self.context.store.make_digest(&self.room).await?;
                return self.send_new(&permit).await;
            }
            Step::Green => return self.send_green(&permit).await,
            Step::Card(card) => (OpKind::Card, card),
            Step::Reply(card) => (OpKind::Reply, card),
            Step::Edit(card) => (OpKind::Edit, card),
            Step::Wait(duration) => return Ok(Turn::Wait(duration)),
            Step::Nothing => return Ok(later),
        };
        self.send_step(kind, &card, &permit).await
    }

    /// The parked op that is to be looked for next, and how long until then.
    async fn next_parked(&mut self) -> Result<Option<(Op, Duration)>, StoreError> {
        let next = self.context.store.next_parked(&self.room).await?;
        if next.is_none() {
            self.vain_searches.clear();
        }
        let now = self.context.clock.now();
        Ok(next.map(|(op, at)| (op, at.since(now))))
    }

    /// `permit`: one that was handed out at the end of a rate limit.
    async fn plan(&mut self, permit: Option<&Permit>) -> Result<Step, StoreError> {
        let due = self.context.store.due(&self.room).await?;
        self.priority = plan::priority(&due);
        let merges = self.digest_above > 0 && !due.notes.is_empty();
        let live = if merges { self.context.store.live_cards(&self.room, self.digest_above).await? } else { 0 };
        let conditions = Conditions {
            now: self.context.clock.now(),
            digest_above: self.digest_above,
            limited: permit.is_some(),
            edits_turn: permit.is_some_and(|permit| permit.edits_turn),
            stormy: self.is_stormy(),
            live,
        };
        Ok(plan::next(&due, &conditions, |card| self.edited.get(card).map(Instant::elapsed)))
    }

    /// The first event of the most urgent card that has none: the digest that was just made.
    async fn send_new(&mut self, permit: &Permit) -> Result<Turn, StoreError> {
        match self.context.store.due(&self.room).await?.new.first() {
            Some(first) => self.send_step(OpKind::Card, &first.card, permit).await,
            None => Ok(Turn::Again),
        }
    }

    async fn send_step(&mut self, kind: OpKind, card: &CardId, permit: &Permit) -> Result<Turn, StoreError> {
        // Read only now: what changed while the gate was closed is part of it.
        let Some(snapshot) = self.context.store.snapshot(card).await? else { return Ok(Turn::Again) };
        if snapshot.card.is_unrouted() && kind != OpKind::Edit {
            // Since the plan was made.
            self.context.store.settle_card(card).await?;
            return Ok(Turn::Again);
        }
        let void = compose::void_notes(&snapshot);
        if kind == OpKind::Reply && !void.is_empty() {
            self.context.store.drop_notes(card, void).await?;
            return Ok(Turn::Again);
        }
        if let Some(turn) = self.check_root_event(kind, &snapshot, permit).await? {
            return Ok(turn);
        }
        match compose::compose(kind, &snapshot, self.input(0)) {
            Composed::Op { op, fallbacks, broken_links } => {
                self.fallbacks.report(&self.context.metrics, &op, &fallbacks);
                let op = self.context.store.freeze(*op).await?;
                compose::count_broken_links(&broken_links, &self.context.metrics);
                // It may be large, and the homeserver may take its time.
                drop(snapshot);
                self.send(op, permit).await
            }
            Composed::Overfull(rest) => {
                drop(snapshot);
                self.context.store.split_digest(card, rest).await?;
                // What fits is sent at once: planned anew, the two halves would be merged again, and so on for ever.
                Box::pin(self.send_step(kind, card, permit)).await
            }
            Composed::VainSearch(rev) => {
                self.context.store.pass_over(card, rev).await?;
                Ok(Turn::Again)
            }
            Composed::Nothing => {
                // What made it due has been overtaken.
                self.context.store.settle_card(card).await?;
                Ok(Turn::Again)
            }
        }
    }

    /// One notice for all that turns green.
    async fn send_green(&mut self, permit: &Permit) -> Result<Turn, StoreError> {
        let green = self.context.store.turning_green(&self.room).await?;
        let Some(op) = compose::compose_green(&green, &self.room, self.input(0)) else { return Ok(Turn::Again) };
        let op = self.context.store.freeze(op).await?;
        self.send(op, permit).await
    }

    fn input(&self, plainness: u32) -> ComposeInput<'_> {
        ComposeInput {
            config: &self.settings.config,
            style: &self.settings.style,
            now: self.context.clock.now(),
            wall: self.context.clock.wall(),
            txn_id: TxnId(ulid::Ulid::new().to_string()),
            device: self.context.transport.device(),
            plainness,
        }
    }

    /// Whether several cards went out within the last seconds.
    fn is_stormy(&self) -> bool {
        self.posted.iter().filter(|at| at.elapsed() < STORM_WINDOW).count() >= STORM
    }

    async fn send(&mut self, op: Op, permit: &Permit) -> Result<Turn, StoreError> {
        let sent = self.context.transport.send(&self.room, &op.txn_id, &op.content).await;
        match sent {
            Ok(event) => self.delivered(&op, &event, permit).await,
            Err(error) => self.failed(&op, &error, permit).await,
        }
    }

    async fn delivered(&mut self, op: &Op, event: &str, permit: &Permit) -> Result<Turn, StoreError> {
        self.context.gate.passed(permit);
        self.release_room();
        self.note_delivery();
        self.count(op, "sent");
        let shown = self.context.store.finish(op, event).await?;
        match op.kind {
            OpKind::Edit => self.remember_edit(&op.card),
            OpKind::Card => {
                self.mark_root_seen(&op.card);
                self.posted.push_front(Instant::now());
                self.posted.truncate(STORM);
            }
            OpKind::Reply | OpKind::Post | OpKind::Notice => {}
        }
        let now = self.context.clock.now();
        let took = now.since(op.since);
        self.context.metrics.delivery_seconds.observe(took.as_secs_f64());
        let delivery = Delivery { at: now, took, room: self.room.clone(), kind: op.kind, event: event.to_owned() };
        self.context.health.update(|health| health.delivered(delivery));
        tracing::info!(
            notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(), event,
            also = also_shown(op, &shown), after_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), attempts = op.attempts, "shown in the room"
        );
        Ok(Turn::Again)
    }

    fn remember_edit(&mut self, card: &CardId) {
        if self.edited.len() >= EDITED {
            self.edited.retain(|_, at| at.elapsed() < plan::EDIT_EVERY);
        }
        self.edited.insert(card.clone(), Instant::now());
    }
}

/// Ends once an outage is over that the lane has not heeded.
async fn recovered(mut recoveries: watch::Receiver<u64>) {
    // The sender lives in the gate.
    if recoveries.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The other notifications that an event brought into the room, so that a search for any of them finds it.
fn also_shown(op: &Op, shown: &[NotificationId]) -> Option<String> {
    let others: Vec<&str> = shown.iter().filter(|id| **id != op.notification).map(NotificationId::as_str).collect();
    (!others.is_empty()).then(|| others.join(" "))
}

#[cfg(test)]
mod tests;
