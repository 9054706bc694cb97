//! Events that may or may not be in the room: sending them again, finding them, setting them aside.

use std::time::Duration;

use super::{Lane, Turn};
use crate::{
    delivery::{
        gate::{Permit, Want},
        plan,
        poison::{Signs, Verdict},
        transport::{ReadBack, Reason, Scope, Search, SendError},
    },
    model::{Op, OpKind, OpState, Timestamp, TxnId},
    store::{DueCards, FoundRoot, StoreError},
};

/// Synapse remembers transaction ids for 24 h; the rest is for clocks that disagree.
const REMEMBERED: Duration = Duration::from_hours(20);
/// For clocks that disagree, and for a start that is not the one after the op's first try.
const MARGIN: Duration = Duration::from_mins(10);
/// Reading back ends at events that are older by this much than what is looked for. Their age is the homeserver's word,
/// and this is for clocks of ours that jumped meanwhile.
const AGE_MARGIN: Duration = Duration::from_hours(24);
/// A request that was not answered in time may still be worked on for this long.
const SETTLING: Duration = Duration::from_mins(1);
/// A parked op is looked for after as long again as it is old, within these.
const FIRST_LOOK: Duration = Duration::from_secs(10);
const LAST_LOOK: Duration = Duration::from_mins(10);
/// The same for one that may be the victim of a homeserver that takes no events: it finds out when that is over.
const LAST_LOOK_UNPROVEN: Duration = Duration::from_mins(1);
/// A parked op is sent again once its room has told nothing of it for this long, although the homeserver answered: a
/// repeat beats a card that never changes any more.
const GIVE_UP_LOOKING: Duration = Duration::from_hours(1);

/// An op that the room has been read back for, or been given up reading for, and is sent again by this device.
#[derive(Debug)]
pub(super) struct Looked {
    op: TxnId,
    device: String,
    at: Timestamp,
}

/// A parked op whose room tells nothing of it.
#[derive(Debug)]
pub(super) struct Silent {
    op: TxnId,
    /// When it was looked for in vain for the first time.
    since: Timestamp,
}

/// What reading the room back tells of one op.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Event(String),
    /// It is surely not in the room.
    Absent,
    Unknown,
}

impl Lane {
    /// An op that was on its way when the answer failed to come, or when the receiver was killed. While the homeserver
    /// remembers its transaction id, the same event goes out again under it; later the room tells whether it arrived.
    pub(super) async fn resume(&mut self, mut op: Op) -> Result<Turn, StoreError> {
        op.state = OpState::InDoubt;
        let Some(permit) = self.parts.gate.enter(&self.stop, Want::finish(op.since)).await else {
            return Ok(Turn::Idle);
        };
        let device = match self.parts.transport.connected().await {
            Ok(device) => device,
            Err(error) => return self.failed(&op, &error, &permit).await,
        };
        if !self.is_remembered(&op, &device) {
            match self.look_for(&op).await? {
                Ok(Found::Event(event)) => return self.adopt(&op, &event).await,
                Ok(Found::Absent) => {}
                Ok(Found::Unknown) => self.count_duplicate(&op),
                Err(error) => return Ok(self.failed_to_look(&op, &error, &permit)),
            }
            self.looked = Some(Looked { op: op.txn_id.clone(), device: device.clone(), at: self.parts.clock.now() });
        }
        self.send_again(op, device, &permit).await
    }

    async fn send_again(&mut self, mut op: Op, device: String, permit: &Permit) -> Result<Turn, StoreError> {
        self.parts.store.record_try(&op.txn_id, Some(device)).await?;
        op.attempts += 1;
        self.send(op, permit).await
    }

    /// Whether the homeserver surely answers the op's transaction id with the event that it made, if it made one.
    fn is_remembered(&self, op: &Op, device: &str) -> bool {
        // Others forget with a restart of theirs, which nobody hears of.
        if !self.parts.transport.remembers() {
            return false;
        }
        let now = self.parts.clock.now();
        let recent = |at: Timestamp| now.since(at) < REMEMBERED;
        if let Some(looked) = self.looked.as_ref().filter(|looked| looked.op == op.txn_id && looked.device == device) {
            return recent(looked.at);
        }
        // Found at a start that came later than a restart takes: the store may be a copy from back then.
        let left_over = |at: Timestamp| self.started.since(at) > MARGIN;
        // Nor where only a wall clock knows how long ago it was.
        let surely = |at: Timestamp| recent(at) && !left_over(at) && self.parts.clock.has_counted_since(at);
        op.device.as_deref() == Some(device) && op.first_try.is_some_and(surely)
    }

    async fn look_for(&self, op: &Op) -> Result<Result<Found, SendError>, StoreError> {
        let first_try = op.first_try.unwrap_or(op.since);
        let recorded = self.parts.store.recorded(&self.room, op).await?;
        let older_than = self.parts.clock.now().since(first_try) + AGE_MARGIN;
        let search = Search { wanted: Some(&op.txn_id), after: recorded.before.as_deref(), older_than };
        let read = self.parts.transport.read_back(&self.room, search).await;
        Ok(read.map(|read| judge(&op.txn_id, &read, &recorded.later)))
    }

    /// The room cannot be read for now: like a send that failed, until it is clear that only reading fails.
    fn failed_to_look(&mut self, op: &Op, error: &SendError, permit: &Permit) -> Turn {
        let verdict = self.verdict(&op.txn_id, error);
        if verdict != Verdict::Hopeless {
            return self.wait_after(op, error, permit, verdict);
        }
        self.count_duplicate(op);
        let (device, at) = (self.parts.transport.device(), self.parts.clock.now());
        self.looked = device.map(|device| Looked { op: op.txn_id.clone(), device, at });
        Turn::Again
    }

    fn count_duplicate(&self, op: &Op) {
        self.parts.metrics.possible_duplicates.inc();
        tracing::warn!(
            notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(),
            "sent again without knowing whether the first try arrived: it may be in the room twice"
        );
    }

    async fn adopt(&mut self, op: &Op, event: &str) -> Result<Turn, StoreError> {
        self.count(op, "adopted");
        self.release_room();
        self.parts.store.finish(op, event).await?;
        tracing::info!(
            notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(), event,
            attempts = op.attempts, "found in the room: an earlier try had arrived"
        );
        Ok(Turn::Again)
    }

    /// Whose fault it is that this op failed.
    pub(super) fn verdict(&mut self, op: &TxnId, error: &SendError) -> Verdict {
        if !error.reason.in_doubt() {
            return Verdict::Homeserver;
        }
        if self.one_try.as_ref() == Some(op) {
            let now = self.parts.clock.now();
            self.silent.iter_mut().filter(|silent| silent.op == *op).for_each(|silent| silent.since = now);
            return Verdict::Hopeless;
        }
        let health = self.parts.health.snapshot();
        let signs = Signs {
            now: self.parts.clock.now(),
            passed: self.parts.gate.passes(),
            last_sync: health.last_sync,
            faulty: health.sync_fault.is_some() || health.homeserver_fault.is_some(),
        };
        self.blame.failed(op, &signs, self.patience)
    }

    /// The homeserver answers, but not this op: the room goes on without it. `alone`: others got through between its
    /// failures; otherwise it may be that none does, and all rooms wait as after any fault of the homeserver.
    pub(super) async fn park(&mut self, op: &Op, error: &SendError, alone: bool) -> Result<Turn, StoreError> {
        self.count(op, "parked");
        let again = self.one_try.take_if(|one| *one == op.txn_id).is_some();
        let now = self.parts.clock.now();
        let wait = match error.reason {
            // What has never been answered may still be on its way.
            Reason::NoAnswer => SETTLING,
            _ if alone => Duration::ZERO,
            _ => now.since(op.first_try.unwrap_or(op.since)).clamp(FIRST_LOOK, LAST_LOOK_UNPROVEN),
        };
        self.parts.store.park(&op.txn_id, &error.to_string(), now.plus(wait)).await?;
        self.release_room();
        if !alone {
            self.parts.gate.close(error);
        }
        if again {
            tracing::debug!(op = %op.txn_id, room = %self.name, reason = %error, "a parked event failed once more");
        } else {
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(),
                op = %op.txn_id, reason = %error, attempts = op.attempts, others_get_through = alone,
                "set aside: the homeserver answers, but not this event; it is looked for in the room"
            );
        }
        Ok(Turn::Again)
    }

    /// A parked op: is it in the room after all?
    pub(super) async fn look_again(&mut self, op: Op) -> Result<Turn, StoreError> {
        // Nothing waits for it.
        let calm = Want { severity: Want::CALM, since: op.since, edit: None };
        let Some(permit) = self.parts.gate.enter(&self.stop, calm).await else { return Ok(Turn::Idle) };
        let found = match self.look_for(&op).await? {
            Ok(Found::Event(event)) => {
                self.forget_silence(&op.txn_id);
                return self.adopt(&op, &event).await;
            }
            Ok(Found::Absent) if op.alone => {
                self.forget_silence(&op.txn_id);
                let detail = "the homeserver fails on this event and takes others".to_owned();
                let error = SendError { reason: Reason::ServerError, retry_after: None, detail };
                return self.plainer(&op, &error, &permit).await;
            }
            // The fault may be the homeserver's, and over by now.
            Ok(Found::Absent) => {
                self.forget_silence(&op.txn_id);
                return self.send_once_more(op, "not in the room", &permit).await;
            }
            Ok(Found::Unknown) => "the room does not tell".to_owned(),
            Err(error) => {
                // Only what surely concerns everything holds the others up.
                if error.reason.scope() == Scope::Account {
                    self.parts.gate.close(&error);
                }
                if self.is_outage(&error) {
                    self.forget_silence(&op.txn_id);
                }
                error.to_string()
            }
        };
        let now = self.parts.clock.now();
        if now.since(self.silent_since(&op.txn_id)) >= GIVE_UP_LOOKING {
            return self.send_unseen(op, &found, &permit).await;
        }
        let wait = now.since(op.first_try.unwrap_or(op.since)).clamp(FIRST_LOOK, LAST_LOOK);
        tracing::debug!(op = %op.txn_id, room = %self.name, reason = found, "a parked event is looked for again later");
        self.parts.store.park(&op.txn_id, &found, now.plus(wait)).await?;
        Ok(Turn::Again)
    }

    /// A parked op of which the room has told nothing for long: it goes out again as it is, on the chance that the homeserver
    /// still knows it.
    async fn send_unseen(&mut self, op: Op, reason: &str, permit: &Permit) -> Result<Turn, StoreError> {
        self.count_duplicate(&op);
        self.send_once_more(op, reason, permit).await
    }

    /// A parked op goes out again as it is; the next failure parks it anew, so that the room waits for one try only.
    async fn send_once_more(&mut self, op: Op, reason: &str, permit: &Permit) -> Result<Turn, StoreError> {
        let device = match self.parts.transport.connected().await {
            Ok(device) => device,
            Err(error) => {
                let wait = self.parts.gate.close(&error);
                self.parts.store.park(&op.txn_id, &error.to_string(), self.parts.clock.now().plus(wait)).await?;
                return Ok(Turn::Again);
            }
        };
        self.parts.store.doubt(&op.txn_id, reason).await?;
        self.looked = Some(Looked { op: op.txn_id.clone(), device: device.clone(), at: self.parts.clock.now() });
        self.one_try = Some(op.txn_id.clone());
        self.send_again(Op { state: OpState::InDoubt, ..op }, device, permit).await
    }

    /// Since when looking for a parked op has been in vain.
    fn silent_since(&mut self, op: &TxnId) -> Timestamp {
        if let Some(silent) = self.silent.iter().find(|silent| silent.op == *op) {
            return silent.since;
        }
        let since = self.parts.clock.now();
        self.silent.push(Silent { op: op.clone(), since });
        since
    }

    fn forget_silence(&mut self, op: &TxnId) {
        self.silent.retain(|silent| silent.op != *op);
    }

    /// Whether nothing could be read of any room, so that a search in vain says nothing.
    fn is_outage(&self, error: &SendError) -> bool {
        let health = self.parts.health.snapshot();
        error.reason.scope() == Scope::Account || health.sync_fault.is_some() || health.homeserver_fault.is_some()
    }

    /// Once at the start: a card that has waited since before it may have been posted by a later state of this store,
    /// of which only an older copy is left. `None`: nothing to find, go on.
    pub(super) async fn look_for_roots(&mut self, due: &DueCards) -> Result<Option<Turn>, StoreError> {
        let waiting = due.new.iter().map(|due| due.dirty_since).filter(|since| *since < self.started).min();
        let Some(oldest) = waiting.filter(|_| !self.looked_for_roots) else {
            self.looked_for_roots = true;
            return Ok(None);
        };
        let Some(permit) = self.parts.gate.enter(&self.stop, plan::want(due)).await else {
            return Ok(Some(Turn::Idle));
        };
        let before = self.parts.store.last_recorded(&self.room).await?;
        let older_than = self.parts.clock.now().since(oldest) + AGE_MARGIN;
        let search = Search { wanted: None, after: before.as_deref(), older_than };
        let read = match self.parts.transport.read_back(&self.room, search).await {
            Ok(read) => read,
            Err(error) => return Ok(self.failed_to_look_for_roots(due, &error, &permit)),
        };
        self.looked_for_roots = true;
        let unread = read.events.iter().any(|event| event.op.is_none());
        if unread || !read.complete {
            self.count_unseen(due);
        }
        let roots =
            read.events.into_iter().filter(|event| event.begins).filter_map(|event| {
                Some(FoundRoot { event_id: event.event_id, op: event.op?, incident: event.incident? })
            });
        let adopted = self.parts.store.adopt_roots(&self.room, roots.collect()).await?;
        for (card, root) in &adopted {
            let kind = OpKind::Card.as_str();
            self.parts.metrics.room_events.with_label_values(&[self.name.as_str(), kind, "adopted"]).inc();
            tracing::info!(
                incident = %root.incident, card = %card, room = %self.name, event = root.event_id,
                "found in the room: the store is older than this card"
            );
        }
        Ok((!adopted.is_empty()).then_some(Turn::Again))
    }

    /// Cards that waited for longer than a restart takes: if the store is a copy from back then, they may be in the room.
    fn count_unseen(&self, due: &DueCards) {
        let cards = due.new.iter().filter(|card| self.started.since(card.dirty_since) > MARGIN).count();
        if cards > 0 {
            self.parts.metrics.possible_duplicates.inc_by(cards as u64);
            tracing::warn!(
                room = %self.name, cards,
                "the room does not tell whether a later state of this store has posted them: they may be in the room twice"
            );
        }
    }

    /// As after a send; but what cannot be read is not waited for without end.
    fn failed_to_look_for_roots(&mut self, due: &DueCards, error: &SendError, permit: &Permit) -> Option<Turn> {
        let verdict = self.verdict(&TxnId(String::new()), error);
        if verdict == Verdict::Hopeless {
            tracing::warn!(room = %self.name, reason = %error, "the room cannot be read back; new cards go out unseen");
            self.looked_for_roots = true;
            self.count_unseen(due);
            return None;
        }
        Some(self.hold(error, permit, verdict).1)
    }
}

/// `later`: events that the store knows as those of other ops.
fn judge(op: &TxnId, read: &ReadBack, later: &[String]) -> Found {
    if let Some(event) = read.events.iter().find(|event| event.op.as_ref() == Some(op)) {
        return Found::Event(event.event_id.clone());
    }
    // One that cannot be read may be it.
    let unread = read.events.iter().any(|event| event.op.is_none() && !later.contains(&event.event_id));
    if read.complete && !unread { Found::Absent } else { Found::Unknown }
}
