//! Prepares the room's next event while the one before is on its way, so that both are recorded in one commit: the answer
//! to the one, and the frozen other. What is prepared is dropped if anything has changed since; then the next turn makes it
//! from what is in the store, as if nothing had been prepared.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{sync::watch, time::timeout};

use super::{
    Lane, arrivals::Arrivals, context::RoomContext, planning::Planning, recent_sends::RecentSends,
    root_events::RootEvents, sending::Asked,
};
use crate::{
    delivery::{
        compose::{self, Composed},
        gate::Permit,
        plan::Step,
        settings::Settings,
        transport::FrozenEvent,
    },
    model::{CardState, Form, Op, OpKind, OpState, SendError},
    render::{BrokenLink, templates::Fallback},
    store::{NewOp, StoreError},
};

/// How long what is being prepared is waited for once the answer is there.
const GRACE: Duration = Duration::from_millis(10);

/// An event that is not frozen yet.
#[derive(Debug)]
pub(super) struct Prepared {
    pub op: NewOp,
    pub fallbacks: Vec<Fallback>,
    pub broken_links: Vec<BrokenLink>,
    /// Sees the commits since what it shows was read.
    wake: watch::Receiver<u64>,
}

impl Prepared {
    /// Whether it shows the newest state and may go out at once.
    pub fn is_current(&self, context: &RoomContext, reloads: &watch::Receiver<Arc<Settings>>) -> bool {
        let is_same = |changed: Result<bool, _>| changed.is_ok_and(|changed| !changed);
        is_same(self.wake.has_changed())
            && is_same(reloads.has_changed())
            && !context.stop.is_cancelled()
            && !context.transport.has_room_changes(&context.room)
    }
}

impl Lane {
    /// Sends an op, and prepares the next one meanwhile if this one goes as most do; also the answer that the next one will
    /// need, that the room is not encrypted.
    pub(super) async fn send_and_prepare(
        &mut self,
        op: &Op,
        asked: Asked,
        permit: &Permit,
    ) -> (Result<String, SendError>, Option<Prepared>) {
        let context = &self.context;
        let is_first_try = op.state == OpState::InFlight && op.attempts == 1;
        let is_usual = is_first_try && !permit.limited && self.failures.drain.is_none() && self.root_search.is_done();
        let next = Next {
            context,
            arrivals: &mut self.arrivals,
            recent_sends: &self.recent_sends,
            root_events: &self.root_events,
            wake: context.store.wake_ups(&context.room),
        };
        let mut prepared = None;
        let ahead = async {
            if !is_usual {
                return;
            }
            // The next turn meets a fault as well; this send must not.
            let next = AssertUnwindSafe(next.prepare(op)).catch_unwind().await;
            prepared = next.ok().and_then(Result::ok).flatten();
            if let (Some(_), Some(enough)) = (&prepared, asked.enough) {
                context.transport.ask_ahead(&context.room, Some(enough)).await;
            }
        };
        let event = FrozenEvent { asked_since: asked.since, ..FrozenEvent::of(op) };
        let send = context.transport.send(&context.room, event);
        let answer = {
            tokio::pin!(ahead, send);
            tokio::select! {
                biased;
                answer = &mut send => {
                    if answer.is_ok() {
                        // What is not ready by then is not waited for.
                        timeout(GRACE, ahead).await.ok();
                    }
                    answer
                }
                () = &mut ahead => send.await,
            }
        };
        (answer, prepared)
    }
}

/// What the next event is made of.
struct Next<'a> {
    context: &'a RoomContext,
    arrivals: &'a mut Arrivals,
    recent_sends: &'a RecentSends,
    root_events: &'a RootEvents,
    wake: watch::Receiver<u64>,
}

impl Next<'_> {
    /// The event that goes out next unless something changes. `None`: a turn of its own is needed, for what is not one event
    /// of another card.
    async fn prepare(self, op: &Op) -> Result<Option<Prepared>, StoreError> {
        let context = self.context;
        if has_other_work(context).await? {
            return Ok(None);
        }
        let since_card = if op.kind == OpKind::Card { Duration::ZERO } else { self.recent_sends.since_card() };
        let (arrivals, recent_sends) = (self.arrivals, self.recent_sends);
        let planning = Planning { context, arrivals, recent_sends, permit: None, since_card };
        let (kind, card) = match planning.next(|_| false).await?.0 {
            Step::Card(card) => (OpKind::Card, card),
            Step::Reply(card) => (OpKind::Reply, card),
            Step::Edit(card) => (OpKind::Edit, card),
            Step::Digest | Step::Green | Step::Answer | Step::Wait(_) | Step::Nothing => return Ok(None),
        };
        if card == op.card {
            return Ok(None);
        }
        let Some(snapshot) = context.store.snapshot(&card).await? else { return Ok(None) };
        let config = &context.settings.config;
        let needs_a_turn = (snapshot.card.state == CardState::Unrouted && kind != OpKind::Edit)
            || (kind == OpKind::Reply && !compose::void_notes(&snapshot, config).is_empty())
            || self.root_events.needs_look(context, kind, &snapshot);
        if needs_a_turn {
            return Ok(None);
        }
        Ok(match compose::compose(kind, &snapshot, context.compose_input(Form::Full)) {
            Composed::Op { op, fallbacks, broken_links } => {
                Some(Prepared { op: *op, fallbacks, broken_links, wake: self.wake })
            }
            Composed::Overfull(_) | Composed::Silent(_) | Composed::Nothing => None,
        })
    }
}

/// Whether a parked op or a dead letter is due.
async fn has_other_work(context: &RoomContext) -> Result<bool, StoreError> {
    let now = context.clock.now();
    let open = context.store.open_ops(&context.room).await?;
    let (parked, dead) = (open.parked.map(|(_, at)| at), open.dead.map(|(_, at)| at));
    Ok([parked, dead].into_iter().flatten().any(|at| at.since(now).is_zero()))
}
