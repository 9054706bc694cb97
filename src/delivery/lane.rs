//! The task that serves one room. [`Lane::turn`] does one thing; [`Lane::run`] is the dumb loop around it.

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

use super::{
    blame::{Blame, Patience, Verdict},
    compose::{self, Composed, Frame},
    doubt::{Looked, Silent},
    fallbacks::Fallbacks,
    gate::{Gate, Permit, Want},
    plan::{self, Step, Weather},
    retry,
    transport::{BoxFuture, Scope, SendError, Transport},
};
use crate::{
    clock::Clock,
    config::Config,
    health::{Health, Hold},
    metrics::Metrics,
    model::{CardId, NotificationId, Op, OpKind, OpState, RoomAddress, RoomName, Timestamp, TxnId},
    render::Style,
    store::{NewOp, Store, StoreError},
};

/// How long a lane rests after a fault of the store or a panic.
const REST: Duration = Duration::from_secs(1);
/// After a fault of the homeserver the lanes that have waited longer try first.
const AFTER_YOU: Duration = Duration::from_millis(50);
/// So many cards within the window make a storm.
const STORM: usize = 4;
const STORM_WINDOW: Duration = Duration::from_secs(10);
/// Cards whose last edit is remembered.
const EDITED: usize = 4_096;

/// What all lanes share.
#[derive(Clone)]
pub struct Parts {
    pub config: Arc<Config>,
    pub style: Arc<Style>,
    pub store: Store,
    pub transport: Arc<dyn Transport>,
    pub gate: Arc<Gate>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

pub struct Lane {
    pub(super) room: RoomAddress,
    pub(super) name: RoomName,
    pub(super) parts: Parts,
    pub(super) stop: CancellationToken,
    /// When a card was edited last, for the debouncing of edits.
    edited: HashMap<CardId, Instant>,
    /// When the last few cards were posted, the newest first.
    posted: VecDeque<Instant>,
    /// `digest_above` of the room's routes.
    digest_above: usize,
    /// What the last plan was made for, compared with others' while the gate is closed.
    pub(super) want: Want,
    /// Refusals of this room in a row.
    refusals: u32,
    pub(super) started: Timestamp,
    pub(super) blame: Blame,
    pub(super) patience: Patience,
    /// The op in doubt that was looked for last.
    pub(super) looked: Option<Looked>,
    /// Parked ops that were looked for in vain.
    pub(super) silent: Vec<Silent>,
    pub(super) looked_for_roots: bool,
    /// Cards whose first event surely is in the room, and since when that is known.
    pub(super) sound: HashMap<CardId, Instant>,
    /// Templates of one's own that failed.
    fallbacks: Fallbacks,
    /// The store may hold an op of this room that is on its way; known to be false from one event to the next.
    pub(super) maybe_unfinished: bool,
    /// The store may hold a parked op of this room.
    pub(super) maybe_parked: bool,
}

/// What became of a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
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
    pub fn new(room: RoomAddress, name: RoomName, parts: Parts, stop: CancellationToken) -> Self {
        let digest_above = digest_above(&parts.config, &room);
        Self {
            room,
            name,
            started: parts.clock.now(),
            parts,
            stop,
            edited: HashMap::new(),
            posted: VecDeque::new(),
            digest_above,
            want: Want::finish(Timestamp(0)),
            refusals: 0,
            blame: Blame::default(),
            patience: Patience::default(),
            looked: None,
            silent: Vec::new(),
            looked_for_roots: false,
            sound: HashMap::new(),
            fallbacks: Fallbacks::default(),
            maybe_unfinished: true,
            maybe_parked: true,
        }
    }

    /// Serves the room until told to stop.
    pub async fn run(mut self) {
        let mut wake = self.parts.store.wake_ups();
        while !self.stop.is_cancelled() {
            // Registered before the store is polled, so that no commit slips through in between.
            wake.mark_unchanged();
            let turn = match AssertUnwindSafe(self.turn()).catch_unwind().await {
                Ok(Ok(turn)) => turn,
                Ok(Err(error)) => {
                    tracing::warn!(room = %self.name, %error, "the store failed the room's lane; it tries again");
                    Turn::Held(REST)
                }
                Err(_) => {
                    self.parts.metrics.lane_panics.inc();
                    tracing::error!(room = %self.name, "a panic in the room's lane was caught; it goes on");
                    Turn::Held(REST)
                }
            };
            self.pause(turn, &mut wake).await;
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
            () = async {
                match turn {
                    Turn::Again => {}
                    Turn::Idle => woken.await,
                    Turn::Wait(duration) => tokio::select! { () = sleep(duration) => {}, () = woken => {} },
                    Turn::Held(duration) if self.refusals > 0 => tokio::select! {
                        () = sleep(duration) => {},
                        () = self.parts.transport.entered(&self.room) => {},
                    },
                    Turn::Held(duration) => sleep(duration).await,
                }
            } => {}
        }
    }

    async fn turn(&mut self) -> Result<Turn, StoreError> {
        // Asked only when there may be one: on the way from event to event this is known.
        if self.maybe_unfinished {
            if let Some(op) = self.parts.store.unfinished(&self.room).await? {
                return self.resume(op).await;
            }
            self.maybe_unfinished = false;
        }
        self.heed_news().await?;
        let parked = match self.next_parked().await? {
            Some((op, Duration::ZERO)) => return self.look_again(op).await,
            parked => parked.map(|(_, wait)| wait),
        };
        if !self.looked_for_roots {
            let due = self.parts.store.due(&self.room).await?;
            if let Some(turn) = self.look_for_roots(&due).await? {
                return Ok(turn);
            }
        }
        let first_look = match self.plan(None).await? {
            Step::Nothing => return Ok(parked.map_or(Turn::Idle, Turn::Wait)),
            Step::Wait(duration) => return Ok(Turn::Wait(duration)),
            step => step,
        };
        let Some(permit) = self.enter().await? else { return Ok(Turn::Idle) };
        // What gathered behind a rate limit is looked at as a whole.
        let step = if permit.limited { self.plan(Some(&permit)).await? } else { first_look };
        let (kind, card) = match step {
            Step::Digest => {
                self.parts.store.make_digest(&self.room).await?;
                return self.send_new(&permit).await;
            }
            Step::Green => return self.send_green(&permit).await,
            Step::Card(card) => (OpKind::Card, card),
            Step::Reply(card) => (OpKind::Reply, card),
            Step::Edit(card) => (OpKind::Edit, card),
            Step::Wait(duration) => return Ok(Turn::Wait(duration)),
            Step::Nothing => return Ok(parked.map_or(Turn::Idle, Turn::Wait)),
        };
        self.send_step(kind, &card, &permit).await
    }

    /// The parked op that is to be looked for next, and how long until then.
    async fn next_parked(&mut self) -> Result<Option<(Op, Duration)>, StoreError> {
        if !self.maybe_parked {
            return Ok(None);
        }
        let next = self.parts.store.next_parked(&self.room).await?;
        self.maybe_parked = next.is_some();
        if next.is_none() {
            self.silent.clear();
        }
        let now = self.parts.clock.now();
        Ok(next.map(|(op, at)| (op, at.since(now))))
    }

    /// `permit`: one that was handed out at the end of a rate limit.
    async fn plan(&mut self, permit: Option<&Permit>) -> Result<Step, StoreError> {
        let due = self.parts.store.due(&self.room).await?;
        self.want = plan::want(&due);
        let merges = self.digest_above > 0 && !due.notes.is_empty();
        let live = if merges { self.parts.store.live_cards(&self.room).await? } else { 0 };
        let weather = Weather {
            now: self.parts.clock.now(),
            digest_above: self.digest_above,
            limited: permit.is_some(),
            edits_turn: permit.is_some_and(|permit| permit.edits_turn),
            stormy: self.is_stormy(),
            live,
        };
        Ok(plan::next(&due, &weather, |card| self.edited.get(card).map(Instant::elapsed)))
    }

    /// The first event of the most urgent card that has none: the digest that was just made.
    async fn send_new(&mut self, permit: &Permit) -> Result<Turn, StoreError> {
        match self.parts.store.due(&self.room).await?.new.first() {
            Some(first) => self.send_step(OpKind::Card, &first.card, permit).await,
            None => Ok(Turn::Again),
        }
    }

    async fn send_step(&mut self, kind: OpKind, card: &CardId, permit: &Permit) -> Result<Turn, StoreError> {
        // Read only now: what changed while the gate was closed is part of it.
        let Some(snapshot) = self.parts.store.snapshot(card).await? else { return Ok(Turn::Again) };
        let void = compose::void_notes(&snapshot);
        if kind == OpKind::Reply && !void.is_empty() {
            self.parts.store.drop_notes(card, void).await?;
            return Ok(Turn::Again);
        }
        if let Some(turn) = self.check_root(kind, &snapshot, permit).await? {
            return Ok(turn);
        }
        match compose::compose(kind, &snapshot, self.frame(0)) {
            Composed::Op(op, fallbacks) => {
                self.fallbacks.tell(&self.parts.metrics, &op, &fallbacks);
                self.maybe_unfinished = true;
                let op = self.parts.store.freeze(*op).await?;
                compose::count_broken_links(kind, &snapshot, &self.parts.style, &self.parts.metrics);
                self.send(op, permit).await
            }
            Composed::Overfull(rest) => {
                self.parts.store.split_digest(card, rest).await?;
                // What fits is sent at once: planned anew, the two halves would be merged again, and so on for ever.
                Box::pin(self.send_step(kind, card, permit)).await
            }
            Composed::Silent(rev) => {
                self.parts.store.pass_over(card, rev).await?;
                Ok(Turn::Again)
            }
            Composed::Nothing => {
                // What made it due has been overtaken.
                self.parts.store.settle_card(card).await?;
                Ok(Turn::Again)
            }
        }
    }

    /// One notice for all that turns green.
    async fn send_green(&mut self, permit: &Permit) -> Result<Turn, StoreError> {
        let green = self.parts.store.turning_green(&self.room).await?;
        let Some(op) = compose::compose_green(&green, &self.room, self.frame(0)) else { return Ok(Turn::Again) };
        self.maybe_unfinished = true;
        let op = self.parts.store.freeze(op).await?;
        self.send(op, permit).await
    }

    fn frame(&self, plainness: u32) -> Frame<'_> {
        Frame {
            config: &self.parts.config,
            style: &self.parts.style,
            now: self.parts.clock.now(),
            txn_id: TxnId(ulid::Ulid::new().to_string()),
            device: self.parts.transport.device(),
            plainness,
        }
    }

    /// Whether several cards went out within the last seconds.
    fn is_stormy(&self) -> bool {
        self.posted.iter().filter(|at| at.elapsed() < STORM_WINDOW).count() >= STORM
    }

    pub(super) async fn send(&mut self, op: Op, permit: &Permit) -> Result<Turn, StoreError> {
        let sent = self.parts.transport.send(&self.room, &op.txn_id, &op.content).await;
        match sent {
            Ok(event) => self.delivered(&op, &event, permit).await,
            Err(error) => self.failed(&op, &error, permit).await,
        }
    }

    async fn delivered(&mut self, op: &Op, event: &str, permit: &Permit) -> Result<Turn, StoreError> {
        self.parts.gate.passed(permit);
        self.release_room();
        self.count(op, "sent");
        let shown = self.parts.store.finish(op, event).await?;
        self.maybe_unfinished = false;
        match op.kind {
            OpKind::Edit => self.remember_edit(&op.card),
            OpKind::Card => {
                self.trust_root(&op.card);
                self.posted.push_front(Instant::now());
                self.posted.truncate(STORM);
            }
            OpKind::Reply | OpKind::Post | OpKind::Notice => {}
        }
        let now = self.parts.clock.now();
        let took = now.since(op.since);
        self.parts.metrics.delivery_seconds.observe(took.as_secs_f64());
        self.parts.health.update(|health| health.last_delivery = Some(now));
        tracing::info!(
            notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(), event,
            also = also_shown(op, &shown), after_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), attempts = op.attempts, "shown in the room"
        );
        Ok(Turn::Again)
    }

    pub(super) async fn failed(&mut self, op: &Op, error: &SendError, permit: &Permit) -> Result<Turn, StoreError> {
        let scope = error.reason.scope();
        let refused = scope == Scope::Event;
        self.count(op, if refused { "refused" } else { "failed" });
        let maybe_arrived = error.reason.in_doubt() || op.state == OpState::InDoubt;
        if refused {
            // The homeserver looked at the event itself, so the way to it is free.
            self.parts.gate.opened(permit);
            if self.is_root_gone(op, error).await? {
                return self.lose_root_of(op, error).await;
            }
            return self.plainer(op, error, permit).await;
        }
        if maybe_arrived {
            self.parts.store.doubt(&op.txn_id, &error.to_string()).await?;
        } else {
            self.parts.store.thaw(op).await?;
        }
        match self.verdict(&op.txn_id, error) {
            Verdict::Hopeless => self.park(op, error).await,
            verdict => Ok(self.wait_after(op, error, permit, verdict)),
        }
    }

    /// The op stays where it is, and what the fault concerns waits.
    pub(super) fn wait_after(&mut self, op: &Op, error: &SendError, permit: &Permit, verdict: Verdict) -> Turn {
        let (wait, turn) = self.hold(error, permit, verdict);
        tracing::warn!(
            notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(),
            reason = %error, attempts = op.attempts, in_doubt = error.reason.in_doubt() || op.state == OpState::InDoubt,
            retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "not shown yet, will try again"
        );
        turn
    }

    /// What the fault concerns waits, and for how long.
    pub(super) fn hold(&mut self, error: &SendError, permit: &Permit, verdict: Verdict) -> (Duration, Turn) {
        match (error.reason.scope(), verdict) {
            (Scope::Server, Verdict::Own) => {
                let wait = self.hold_room(error, retry::wait_alone);
                (wait, Turn::Held(wait))
            }
            (Scope::Server, _) => {
                let wait = self.parts.gate.close(error);
                (wait, Turn::Held(wait + AFTER_YOU))
            }
            // Waited out at the gate.
            (Scope::Account, _) => (self.parts.gate.close(error), Turn::Again),
            (Scope::Room | Scope::Event, _) => {
                self.parts.gate.opened(permit);
                let wait = self.hold_room(error, |failures, jitter| retry::wait(error, failures, jitter));
                (wait, Turn::Held(wait))
            }
        }
    }

    /// The homeserver does not take this event: a plainer one, and at last none.
    pub(super) async fn plainer(&mut self, op: &Op, error: &SendError, permit: &Permit) -> Result<Turn, StoreError> {
        let plainer = if op.plainness < compose::PLAINEST { self.plainer_form(op).await? } else { None };
        if let Some(plainer) = plainer {
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, room = %self.name,
                kind = op.kind.as_str(), reason = %error, plainness = plainer.plainness,
                "the homeserver refuses the event; a plainer form follows"
            );
            let plainer = self.parts.store.replace(op, plainer, &error.to_string()).await?;
            self.send_boxed(plainer, permit).await
        } else {
            tracing::error!(
                notification = %op.notification, incident = %op.incident, room = %self.name,
                kind = op.kind.as_str(), reason = %error, op = %op.txn_id,
                "the homeserver refuses the event in every form; it is set aside"
            );
            self.parts.metrics.dead_letters.with_label_values(&[error.reason.as_str()]).inc();
            self.parts.store.bury(op, &error.to_string()).await?;
            Ok(Turn::Again)
        }
    }

    async fn plainer_form(&self, op: &Op) -> Result<Option<NewOp>, StoreError> {
        let frame = self.frame(op.plainness + 1);
        let composed = if op.kind == OpKind::Notice {
            let green = self.parts.store.said_green(&op.txn_id).await?;
            compose::compose_green(&green, &self.room, frame)
        } else {
            let Some(mut snapshot) = self.parts.store.snapshot(&op.card).await? else { return Ok(None) };
            snapshot.notes = self.parts.store.notes_of(&op.txn_id).await?;
            match compose::compose(op.kind, &snapshot, frame) {
                Composed::Op(plainer, _) => Some(*plainer),
                Composed::Overfull(_) | Composed::Silent(_) | Composed::Nothing => None,
            }
        };
        Ok(composed.map(|plainer| NewOp { since: op.since, ..plainer }))
    }

    /// A plainer form is sent from within a send.
    fn send_boxed<'a>(&'a mut self, op: Op, permit: &'a Permit) -> BoxFuture<'a, Result<Turn, StoreError>> {
        Box::pin(self.send(op, permit))
    }

    pub(super) fn count(&self, op: &Op, outcome: &str) {
        self.parts.metrics.room_events.with_label_values(&[self.name.as_str(), op.kind.as_str(), outcome]).inc();
    }

    fn hold_room(&mut self, error: &SendError, backoff: impl Fn(u32, f64) -> Duration) -> Duration {
        self.refusals = self.refusals.saturating_add(1);
        let wait = backoff(self.refusals, rand::random());
        let now = self.parts.clock.now();
        self.parts.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(&self.room) {
                let since = room.hold.as_ref().map_or(now, |hold| hold.since);
                let until = Some(now.plus(wait));
                room.hold = Some(Hold { reason: error.to_string(), rate_limit: false, since, until });
            }
        });
        wait
    }

    pub(super) fn release_room(&mut self) {
        if std::mem::take(&mut self.refusals) > 0 {
            tracing::info!(room = %self.name, "the room takes events again");
        }
        self.parts.health.update(|health| {
            if let Some(room) = health.rooms.get_mut(&self.room) {
                room.hold = None;
            }
        });
    }

    fn remember_edit(&mut self, card: &CardId) {
        if self.edited.len() >= EDITED {
            self.edited.retain(|_, at| at.elapsed() < plan::EDIT_EVERY);
        }
        self.edited.insert(card.clone(), Instant::now());
    }
}

/// Routes that share a room may differ: the smallest bound counts, and "never" only if all of them say so.
fn digest_above(config: &Config, room: &RoomAddress) -> usize {
    let routes = config.routes.values().filter(|route| route.rooms.contains(room));
    routes.map(|route| route.digest_above).filter(|above| *above > 0).min().unwrap_or(0)
}

/// The other notifications that an event brought into the room, so that a search for any of them finds it.
fn also_shown(op: &Op, shown: &[NotificationId]) -> Option<String> {
    let others: Vec<&str> = shown.iter().filter(|id| **id != op.notification).map(NotificationId::as_str).collect();
    (!others.is_empty()).then(|| others.join(" "))
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
