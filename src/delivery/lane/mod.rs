//! The task that serves one room. [`Lane::run`] loops around [`Lane::turn`], which sends at most one event, and those that
//! are ready behind it (`ahead.rs`).
//!
//! This file is the whole way of a send, from top to bottom: resume what is unfinished -> room changes -> parked ops ->
//! dead letters -> root search -> plan -> gate -> snapshot -> compose -> freeze -> send -> finish, or what follows a
//! failure. Answers, which are frozen already, go when there is nothing else. Each thing that can go wrong on the way is a type in a file beside this one.

mod acknowledged;
mod ahead;
mod answers;
mod arrivals;
mod context;
mod dead_letters;
mod drain;
mod early;
mod evidence;
mod failures;
mod fallbacks;
mod in_doubt;
mod parked;
mod planning;
mod recent_sends;
mod room_failures;
mod root_events;
mod root_search;
mod search;
mod sending;
mod shown;
mod turn;
mod waiting;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::context::{LaneContext, OnShown};
use self::{
    answers::Answers,
    arrivals::Arrivals,
    context::RoomContext,
    drain::Drain,
    early::EarlyQuestion,
    failures::Failures,
    fallbacks::Fallbacks,
    in_doubt::NextTry,
    parked::ParkedNext,
    planning::Planning,
    recent_sends::RecentSends,
    root_events::{RootCheck, RootEvents},
    root_search::{RootSearch, RootSearchResult},
    turn::{Next, Turn},
};
use super::{
    compose::{self, Composed},
    gate::Permit,
    plan::Step,
    poison::Attempt,
    queue::Priority,
    settings::Settings,
};
use crate::{
    model::{CardId, CardState, Form, Op, OpKind, OpState, Reason, RoomAddress, SendError},
    store::StoreError,
};

/// How long a lane rests after a fault of the store or a panic.
const REST: Duration = Duration::from_secs(1);
/// An idle lane asks the store again after this even if nothing wakes it, so that a lost wake-up costs a minute at most.
const POLL_INTERVAL: Duration = Duration::from_mins(1);

/// Everything a room's task owns between two turns.
pub struct Lane {
    context: RoomContext,
    /// Changes with every config that a reload applies.
    reloads: watch::Receiver<Arc<Settings>>,
    arrivals: Arrivals,
    recent_sends: RecentSends,
    failures: Failures,
    root_events: RootEvents,
    root_search: RootSearch,
    fallbacks: Fallbacks,
    answers: Answers,
    early: EarlyQuestion,
    /// Sees what is about to be committed for the room.
    coming: watch::Receiver<u64>,
}

impl Lane {
    /// `stop` ends the lane after the send in flight.
    #[must_use]
    pub fn new(room: RoomAddress, shared: LaneContext, stop: CancellationToken) -> Self {
        let context = RoomContext::new(room, &shared, stop);
        let started = context.clock.now();
        Self {
            arrivals: Arrivals::default(),
            recent_sends: RecentSends::default(),
            failures: Failures::new(&context, started),
            root_events: RootEvents::default(),
            root_search: RootSearch::new(started),
            fallbacks: Fallbacks::default(),
            answers: Answers::default(),
            early: EarlyQuestion::default(),
            coming: context.store.coming(&context.room),
            reloads: shared.settings,
            context,
        }
    }

    /// Serves the room until it is stopped, or until no route names the room any more and the room says so.
    pub async fn run(mut self) {
        let mut wake = self.context.store.wake_ups(&self.context.room);
        while !self.context.stop.is_cancelled() {
            // Before the store is polled, so that no commit slips through in between.
            wake.mark_unchanged();
            self.coming.mark_unchanged();
            self.apply_reload();
            if let Some(drain) = &mut self.failures.drain
                && drain.must_end(&self.context.health)
            {
                return drain.give_up(&self.context).await;
            }
            let turn = match self.failures.drain.as_ref().map(Drain::left) {
                // What the turn was doing is in the store, as after a kill.
                Some(left) => timeout(left, self.safe_turn()).await.unwrap_or(Turn::Again),
                None => self.safe_turn().await,
            };
            let Some(drain) = &mut self.failures.drain else {
                self.pause(turn, &mut wake).await;
                continue;
            };
            let turn = match turn {
                // What was cut off may have been committed after this turn looked for it, so that now nothing is due.
                Turn::Idle => match self.context.store.open_ops(&self.context.room).await {
                    Ok(open) if open.unfinished.is_none() => return,
                    Ok(_) => Turn::Again,
                    Err(_) => Turn::Held(REST),
                },
                turn => turn,
            };
            if !drain.must_end(&self.context.health) {
                let turn = turn.at_most(drain.left());
                self.pause(turn, &mut wake).await;
            }
        }
    }

    /// Uses the newest settings for the next turn, and drains the lane if they do not name its room.
    fn apply_reload(&mut self) {
        let settings = self.reloads.borrow_and_update().clone();
        if settings.serves(&self.context.room) {
            self.failures.drain = None;
        } else {
            self.failures.drain.get_or_insert_default();
        }
        self.context.apply(settings);
    }

    /// A turn whose store faults and panics do not end the lane.
    async fn safe_turn(&mut self) -> Turn {
        match AssertUnwindSafe(self.turn()).catch_unwind().await {
            Ok(Ok(turn)) => return turn,
            Ok(Err(error @ StoreError::NotLeader)) => {
                tracing::debug!(room = %self.context.name, %error, "the lane ends");
            }
            Ok(Err(error)) => tracing::warn!(room = %self.context.name, %error, "store failed; the lane will retry"),
            Err(_) => {
                self.context.metrics.lane_panics.inc();
                tracing::error!(room = %self.context.name, "caught a panic in a room's lane");
            }
        }
        Turn::Held(REST)
    }

    async fn pause(&mut self, turn: Turn, wake: &mut watch::Receiver<u64>) {
        let (context, early, coming) = (&self.context, &mut self.early, &mut self.coming);
        let stop = &context.stop;
        let woken = async {
            loop {
                let is_there = tokio::select! {
                    biased;
                    committed = wake.changed() => committed.map(|()| true),
                    coming = coming.changed() => coming.map(|()| false),
                };
                match is_there {
                    Ok(true) => return,
                    Ok(false) => early.ask(context),
                    // The senders live in the store; without it there is nothing to wait for but the stop.
                    Err(_) => stop.cancelled().await,
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = waiting::changed(&self.reloads) => {}
            () = self.failures.parked.recovered() => {}
            () = async {
                match turn {
                    Turn::Again => {}
                    Turn::Idle => tokio::select! { () = sleep(POLL_INTERVAL) => {}, () = woken => {} },
                    Turn::Wait(duration) => tokio::select! { () = sleep(duration) => {}, () = woken => {} },
                    Turn::Held(duration) if self.failures.room.is_holding() => tokio::select! {
                        () = sleep(duration) => {},
                        () = context.transport.joined(&context.room) => {},
                    },
                    Turn::Held(duration) => sleep(duration).await,
                }
            } => {}
        }
    }

    /// Sends an event, if there is one, from what is most urgent to what is least.
    async fn turn(&mut self) -> Result<Turn, StoreError> {
        self.failures.parked.search_after_outage(&self.context).await?;
        // The store alone knows what is unfinished: a copy in memory could go wrong and leave an op behind for good.
        let open = self.context.store.open_ops(&self.context.room).await?;
        if let Some(op) = open.unfinished {
            return self.resume(op).await;
        }
        // No op changes by these.
        self.root_events.apply_room_changes(&self.context).await?;
        let parked_wait = match self.failures.parked.next(open.parked, self.context.clock.now()) {
            Some((op, Duration::ZERO)) => return self.search_for_parked(op).await,
            later => later.map(|(_, wait)| wait),
        };
        let dead_wait = match dead_letters::retry_due(&self.context, open.dead).await? {
            Some(Duration::ZERO) => return Ok(Turn::Again),
            later => later,
        };
        if !self.root_search.is_done()
            && let Some(turn) = self.search_for_roots().await?
        {
            return Ok(turn);
        }
        let waits = [parked_wait, dead_wait, self.answers.paused(), self.answers.evidence.paused()];
        let idle = waits.into_iter().flatten().min().map_or(Turn::Idle, Turn::Wait);
        let (step, priority) = self.plan(None).await?;
        match step {
            Step::Nothing => return Ok(idle),
            Step::Wait(duration) => return Ok(Turn::Wait(duration)),
            _ => {}
        }
        let Some(permit) = waiting::enter(&self.context, &self.reloads, priority).await? else {
            return Ok(Turn::Again);
        };
        // What gathered behind a rate limit is planned as a whole.
        let step = if permit.limited { self.plan(Some(&permit)).await?.0 } else { step };
        self.context.transport.prepare(&self.context.room).await;
        match step {
            Step::Nothing => Ok(idle),
            Step::Wait(duration) => Ok(Turn::Wait(duration)),
            Step::Digest => self.send_digest(&permit).await,
            Step::Green => self.send_green(&permit).await,
            Step::Card(card) => self.send_step(OpKind::Card, &card, &permit).await,
            Step::Reply(card) => self.send_step(OpKind::Reply, &card, &permit).await,
            Step::Edit(card) => self.send_step(OpKind::Edit, &card, &permit).await,
            Step::Answer => {
                self.answers.send_next(&self.context, &mut self.failures, &self.recent_sends, &permit).await
            }
        }
    }

    /// The op was in flight when the answer did not come, or when the receiver was killed.
    async fn resume(&mut self, op: Op) -> Result<Turn, StoreError> {
        let op = Op { state: OpState::InDoubt, ..op };
        let Some(permit) = self.context.enter_gate(Priority::finish(op.since)).await else { return Ok(Turn::Idle) };
        let device = match self.context.transport.connected(&self.context.room).await {
            Ok(device) => device,
            Err(error) => {
                let next = self.failures.after_send(&self.context, &op, &error, &permit).await?;
                return self.go_on(next, &permit).await;
            }
        };
        match self.failures.in_doubt.next_try(&self.context, &op, &device).await? {
            NextTry::SendAgain => self.send_again(op, device, &permit).await,
            NextTry::Arrived(event) => self.adopt(&op, &event).await,
            NextTry::SearchFailed(error) => Ok(self.failures.after_search(&self.context, &op, &error, &permit)),
        }
    }

    async fn search_for_parked(&mut self, op: Op) -> Result<Turn, StoreError> {
        // Nothing waits for it.
        let calm = Priority { severity: Priority::CALM, since: op.since, edit: None };
        let Some(permit) = self.context.enter_gate(calm).await else { return Ok(Turn::Idle) };
        match self.failures.parked.search(&self.context, &op).await? {
            ParkedNext::Arrived(event) => self.adopt(&op, &event).await,
            ParkedNext::FailsAlone => {
                let detail = "the homeserver fails on this event and accepts others".to_owned();
                let error = SendError { reason: Reason::ServerError, retry_after: None, detail };
                let next = dead_letters::refuse(&self.context, &op, &error).await?;
                self.go_on(next, &permit).await
            }
            ParkedNext::SendAgain(reason) => self.send_parked(op, &reason, &permit).await,
            ParkedNext::SearchLater => Ok(Turn::Again),
        }
    }

    /// Sends a parked op once more, as it is.
    async fn send_parked(&mut self, op: Op, reason: &str, permit: &Permit) -> Result<Turn, StoreError> {
        let now = self.context.clock.now();
        let device = match self.context.transport.connected(&self.context.room).await {
            Ok(device) => device,
            Err(error) => {
                let wait = parked::wait_for_device(&self.context, &error, permit);
                self.context.store.park(&op.txn_id, &error.to_string(), now.plus(wait)).await?;
                return Ok(Turn::Again);
            }
        };
        self.context.store.mark_in_doubt(&op.txn_id, reason).await?;
        self.failures.in_doubt.record_search(&op, device.clone(), now);
        self.failures.parked.give_last_chance(&op);
        self.send_again(Op { state: OpState::InDoubt, ..op }, device, permit).await
    }

    /// An earlier try of the op arrived.
    async fn adopt(&mut self, op: &Op, event: &str) -> Result<Turn, StoreError> {
        self.context.count(op.kind, "adopted");
        self.failures.room.release(&self.context);
        self.context.store.finish(op, event).await?;
        tracing::info!(
            notification = %op.notification, incident = %op.incident, room = %self.context.name,
            kind = op.kind.as_str(), event, attempts = op.attempts, "found in the room: an earlier try arrived"
        );
        shown::hand_on(&self.context, &self.recent_sends, op, event, false).await;
        Ok(Turn::Again)
    }

    /// `None`: the turn goes on.
    async fn search_for_roots(&mut self) -> Result<Option<Turn>, StoreError> {
        let due = self.context.store.due(&self.context.room).await?;
        match self.root_search.run(&self.context, &due).await? {
            RootSearchResult::Nothing => Ok(None),
            RootSearchResult::Adopted => Ok(Some(Turn::Again)),
            RootSearchResult::Stopped => Ok(Some(Turn::Idle)),
            RootSearchResult::Failed(error, permit) => {
                let held = self.failures.after_look(&self.context, &Attempt::RootSearch, &error, &permit);
                if held.is_none() {
                    self.root_search.give_up(&self.context, &due, &error);
                }
                Ok(held)
            }
        }
    }

    /// The next step, and the priority of all that is due. `permit`: one that was issued at the end of a rate limit.
    async fn plan(&mut self, permit: Option<&Permit>) -> Result<(Step, Priority), StoreError> {
        let (context, arrivals, recent_sends) = (&self.context, &mut self.arrivals, &self.recent_sends);
        let (is_draining, answers) = (self.failures.drain.is_some(), &self.answers);
        let planning = Planning { context, arrivals, recent_sends, permit, since_card: recent_sends.since_card() };
        planning.next(|unasked| !is_draining && !answers.is_paused(unasked)).await
    }

    /// Sends one card for all new incidents.
    async fn send_digest(&mut self, permit: &Permit) -> Result<Turn, StoreError> {
        self.context.store.make_digest(&self.context.room).await?;
        match self.context.store.due(&self.context.room).await?.new.first() {
            Some(first) => self.send_step(OpKind::Card, &first.card, permit).await,
            None => Ok(Turn::Again),
        }
    }

    /// Sends one notice for all cards that turn green.
    async fn send_green(&mut self, permit: &Permit) -> Result<Turn, StoreError> {
        let green = self.context.store.turning_green(&self.context.room).await?;
        let input = self.context.compose_input(Form::Full);
        let Some(op) = compose::compose_green(&green, &self.context.room, input) else { return Ok(Turn::Again) };
        let op = self.context.store.freeze(op).await?;
        self.send(op, None, permit).await
    }

    /// Sends the next event of this kind for one card.
    async fn send_step(&mut self, kind: OpKind, card: &CardId, permit: &Permit) -> Result<Turn, StoreError> {
        let (transport, room, began) = (Arc::clone(&self.context.transport), self.context.room.clone(), Instant::now());
        let early = EarlyQuestion::answered(self.early.take());
        let asked = async {
            let early = early.await;
            transport.ask_ahead(&room, early).await;
            early.unwrap_or(began)
        };
        let (next, asked_since) = tokio::join!(self.freeze_step(kind, card, permit), asked);
        match next? {
            Next::Send(op) => self.send(op, Some(asked_since), permit).await,
            Next::End(turn) => Ok(turn),
        }
    }

    /// Freezes the next event of this kind for one card.
    async fn freeze_step(&mut self, kind: OpKind, card: &CardId, permit: &Permit) -> Result<Next, StoreError> {
        loop {
            // Read only now, so that it has what changed while the gate was closed.
            let Some(snapshot) = self.context.store.snapshot(card).await? else { return Ok(Next::End(Turn::Again)) };
            if snapshot.card.state == CardState::Unrouted && kind != OpKind::Edit {
                // Since the plan was made.
                self.context.store.settle_card(card).await?;
                return Ok(Next::End(Turn::Again));
            }
            let void = compose::void_notes(&snapshot, &self.context.settings.config);
            if kind == OpKind::Reply && !void.is_empty() {
                self.context.store.drop_notes(card, void).await?;
                return Ok(Next::End(Turn::Again));
            }
            match self.root_events.check(&self.context, kind, &snapshot).await? {
                RootCheck::Passed => {}
                RootCheck::Orphaned => return Ok(Next::End(Turn::Again)),
                RootCheck::Failed(error) => {
                    let attempt = Attempt::RootCheck(card.clone());
                    if let Some(turn) = self.failures.after_look(&self.context, &attempt, &error, permit) {
                        return Ok(Next::End(turn));
                    }
                    self.root_events.mark_seen(card);
                }
            }
            match compose::compose(kind, &snapshot, self.context.compose_input(Form::Full)) {
                Composed::Op { op, fallbacks, broken_links } => {
                    self.fallbacks.report(&self.context.metrics, &op, &fallbacks);
                    let op = self.context.store.freeze(*op).await?;
                    compose::count_broken_links(&broken_links, &self.context.metrics);
                    return Ok(Next::Send(op));
                }
                Composed::Overfull(rest) => {
                    drop(snapshot);
                    // What fits is sent in this turn: the next plan would merge the two parts again.
                    self.context.store.split_digest(card, rest).await?;
                    continue;
                }
                Composed::Silent(rev) => self.context.store.pass_over(card, rev).await?,
                // What made the card due is out of date.
                Composed::Nothing => self.context.store.settle_card(card).await?,
            }
            return Ok(Next::End(Turn::Again));
        }
    }
}

#[cfg(test)]
mod tests;
