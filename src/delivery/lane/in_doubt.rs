//! Events that may or may not be in the room: sending them again, finding them, setting them aside.

use std::time::Duration;

use super::{Lane, Turn};
use crate::{
    delivery::{
        gate::{Permit, Priority},
        plan,
        poison::{ServerSigns, Verdict},
        transport::{ReadBack, Search},
    },
    model::{Op, OpKind, OpState, Reason, Scope, SendError, Timestamp, TxnId},
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
pub(super) struct PastSearch {
    op: TxnId,
    device: String,
    at: Timestamp,
}

/// A parked op whose room tells nothing of it.
#[derive(Debug)]
pub(super) struct VainSearch {
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
        let Some(permit) = self.context.gate.enter(&self.stop, Priority::finish(op.since)).await else {
            return Ok(Turn::Idle);
        };
        let device = match self.context.transport.connected().await {
            Ok(device) => device,
            Err(error) => return self.failed(&op, &error, &permit).await,
        };
        if !self.is_remembered(&op, &device) {
            match self.search_for(&op).await? {
                Ok(Found::Event(event)) => return self.adopt(&op, &event).await,
                Ok(Found::Absent) => {}
                Ok(Found::Unknown) => self.count_duplicate(&op),
                Err(error) => return Ok(self.search_failed(&op, &error, &permit)),
            }
            self.past_search =
                Some(PastSearch { op: op.txn_id.clone(), device: device.clone(), at: self.context.clock.now() });
        }
        self.send_again(op, device, &permit).await
    }

    async fn send_again(&mut self, mut op: Op, device: String, permit: &Permit) -> Result<Turn, StoreError> {
        self.context.store.record_try(&op.txn_id, Some(device)).await?;
        op.attempts += 1;
        self.send(op, permit).await
    }

    /// Whether the homeserver surely answers the op's transaction id with the event that it made, if it made one.
    fn is_remembered(&self, op: &Op, device: &str) -> bool {
        // Others forget with a restart of theirs, which nobody hears of.
        if !self.context.transport.remembers_transactions() {
            return false;
        }
        let now = self.context.clock.now();
        let recent = |at: Timestamp| now.since(at) < REMEMBERED;
        if let Some(past_search) =
            self.past_search.as_ref().filter(|past_search| past_search.op == op.txn_id && past_search.device == device)
        {
            return recent(past_search.at);
        }
        // Found at a start that came later than a restart takes: the store may be a copy from back then.
        let left_over = |at: Timestamp| self.started.since(at) > MARGIN;
        // Nor where only a wall clock knows how long ago it was.
        let surely = |at: Timestamp| recent(at) && !left_over(at) && self.context.clock.has_counted_since(at);
        op.device.as_deref() == Some(device) && op.first_try.is_some_and(surely)
    }

    async fn search_for(&self, op: &Op) -> Result<Result<Found, SendError>, StoreError> {
        let first_try = op.first_try.unwrap_or(op.since);
        let recorded = self.context.store.recorded(&self.room, op).await?;
        let older_than = self.context.clock.now().since(first_try) + AGE_MARGIN;
        let search = Search { wanted: Some(&op.txn_id), after: recorded.before.as_deref(), older_than };
        let read = self.context.transport.read_back(&self.room, search).await;
        Ok(read.map(|read| judge(&op.txn_id, &read, &recorded.later)))
    }

    /// The room cannot be read for now: like a send that failed, until it is clear that only reading fails.
    fn search_failed(&mut self, op: &Op, error: &SendError, permit: &Permit) -> Turn {
        let verdict = self.verdict(&op.txn_id, error);
        if verdict != Verdict::Poisoned {
            return self.hold_after(op, error, permit, verdict);
        }
        self.count_duplicate(op);
        let (device, at) = (self.context.transport.device(), self.context.clock.now());
        self.past_search = device.map(|device| PastSearch { op: op.txn_id.clone(), device, at });
        Turn::Again
    }

    fn count_duplicate(&self, op: &Op) {
        self.context.metrics.possible_duplicates.inc();
        tracing::warn!(
            notification = %op.notification, incident = %op.incident, room = %self.name, kind = op.kind.as_str(),
            "sent again without knowing whether the first try arrived: it may be in the room twice"
        );
    }

    async fn adopt(&mut self, op: &Op, event: &str) -> Result<Turn, StoreError> {
        self.count(op, "adopted");
        self.release_room();
        self.context.store.finish(op, event).await?;
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
        if self.last_chance.as_ref() == Some(op) {
            let now = self.context.clock.now();
            self.vain_searches
                .iter_mut()
                .filter(|vain_searches| vain_searches.op == *op)
                .for_each(|vain_searches| vain_searches.since = now);
            return Verdict::Poisoned;
        }
        let health = self.context.health.snapshot();
        let signs = ServerSigns {
            now: self.context.clock.now(),
            passed: self.context.gate.passes(),
            last_sync: health.last_sync,
            faulty: health.sync_fault.is_some() || health.homeserver_fault.is_some(),
        };
        self.poison.failed(op, &signs, self.patience)
    }

    /// The homeserver answers, but not this op: the room goes on without it. `alone`: others got through between its
    /// failures; otherwise it may be that none does, and all rooms wait as after any fault of the homeserver.
    pub(super) async fn park(&mut self, op: &Op, error: &SendError, alone: bool) -> Result<Turn, StoreError> {
        self.count(op, "parked");
        let again = self.last_chance.take_if(|one| *one == op.txn_id).is_some();
        let now = self.context.clock.now();
        let wait = match error.reason {
            // What has never been answered may still be on its way.
            Reason::NoAnswer => SETTLING,
            _ if alone => Duration::ZERO,
            _ => now.since(op.first_try.unwrap_or(op.since)).clamp(FIRST_LOOK, LAST_LOOK_UNPROVEN),
        };
        self.context.store.park(&op.txn_id, &error.to_string(), now.plus(wait)).await?;
        self.release_room();
        if !alone {
            self.context.gate.close(error);
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
    pub(super) async fn search_for_parked(&mut self, op: Op) -> Result<Turn, StoreError> {
        // Nothing waits for it.
        let calm = Priority { severity: Priority::CALM, since: op.since, edit: None };
        let Some(permit) = self.context.gate.enter(&self.stop, calm).await else { return Ok(Turn::Idle) };
        let found = match self.search_for(&op).await? {
            Ok(Found::Event(event)) => {
                self.end_vain_search(&op.txn_id);
                return self.adopt(&op, &event).await;
            }
            Ok(Found::Absent) if op.alone => {
                self.end_vain_search(&op.txn_id);
                let detail = "the homeserver fails on this event and takes others".to_owned();
                let error = SendError { reason: Reason::ServerError, retry_after: None, detail };
                return self.plainer(&op, &error, &permit).await;
            }
            // The fault may be the homeserver's, and over by now.
            Ok(Found::Absent) => {
                self.end_vain_search(&op.txn_id);
                return self.send_once_more(op, "not in the room", &permit).await;
            }
            Ok(Found::Unknown) => "the room does not tell".to_owned(),
            Err(error) => {
                // Only what surely concerns everything holds the others up.
                if error.reason.scope() == Scope::Account {
                    self.context.gate.close(&error);
                }
                if self.is_outage(&error) {
                    self.end_vain_search(&op.txn_id);
                }
                error.to_string()
            }
        };
        let now = self.context.clock.now();
        if now.since(self.in_vain_since(&op.txn_id)) >= GIVE_UP_LOOKING {
            return self.send_unseen(op, &found, &permit).await;
        }
        let wait = now.since(op.first_try.unwrap_or(op.since)).clamp(FIRST_LOOK, LAST_LOOK);
        tracing::debug!(op = %op.txn_id, room = %self.name, reason = found, "a parked event is looked for again later");
        self.context.store.park(&op.txn_id, &found, now.plus(wait)).await?;
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
        let device = match self.context.transport.connected().await {
            Ok(device) => device,
            Err(error) => {
                let wait = self.context.gate.close(&error);
                self.context.store.park(&op.txn_id, &error.to_string(), self.context.clock.now().plus(wait)).await?;
                return Ok(Turn::Again);
            }
        };
        self.context.store.mark_in_doubt(&op.txn_id, reason).await?;
        self.past_search =
            Some(PastSearch { op: op.txn_id.clone(), device: device.clone(), at: self.context.clock.now() });
        self.last_chance = Some(op.txn_id.clone());
        self.send_again(Op { state: OpState::InDoubt, ..op }, device, permit).await
    }

    /// Since when looking for a parked op has been in vain.
    fn in_vain_since(&mut self, op: &TxnId) -> Timestamp {
        if let Some(vain_searches) = self.vain_searches.iter().find(|vain_searches| vain_searches.op == *op) {
            return vain_searches.since;
        }
        let since = self.context.clock.now();
        self.vain_searches.push(VainSearch { op: op.clone(), since });
        since
    }

    fn end_vain_search(&mut self, op: &TxnId) {
        self.vain_searches.retain(|vain_searches| vain_searches.op != *op);
    }

    /// Whether nothing could be read of any room, so that a search in vain says nothing.
    fn is_outage(&self, error: &SendError) -> bool {
        let health = self.context.health.snapshot();
        error.reason.scope() == Scope::Account || health.sync_fault.is_some() || health.homeserver_fault.is_some()
    }

    /// Once at the start: a card that has waited since before it may have been posted by a later state of this store,
    /// of which only an older copy is left. `None`: nothing to find, go on.
    pub(super) async fn search_for_roots(&mut self, due: &DueCards) -> Result<Option<Turn>, StoreError> {
        let waiting = due.new.iter().map(|due| due.dirty_since).filter(|since| *since < self.started).min();
        let Some(oldest) = waiting.filter(|_| !self.searched_for_roots) else {
            self.searched_for_roots = true;
            return Ok(None);
        };
        let Some(permit) = self.context.gate.enter(&self.stop, plan::priority(due)).await else {
            return Ok(Some(Turn::Idle));
        };
        let before = self.context.store.last_recorded(&self.room).await?;
        let older_than = self.context.clock.now().since(oldest) + AGE_MARGIN;
        let search = Search { wanted: None, after: before.as_deref(), older_than };
        let read = match self.context.transport.read_back(&self.room, search).await {
            Ok(read) => read,
            Err(error) => return Ok(self.root_search_failed(due, &error, &permit)),
        };
        self.searched_for_roots = true;
        let unread = read.events.iter().any(|event| event.op.is_none());
        if unread || !read.complete {
            self.count_duplicates_of_due(due);
        }
        let roots =
            read.events.into_iter().filter(|event| event.starts_card).filter_map(|event| {
                Some(FoundRoot { event_id: event.event_id, op: event.op?, incident: event.incident? })
            });
        let adopted = self.context.store.adopt_roots(&self.room, roots.collect()).await?;
        for (card, root) in &adopted {
            let kind = OpKind::Card.as_str();
            self.context.metrics.room_events.with_label_values(&[self.name.as_str(), kind, "adopted"]).inc();
            tracing::info!(
                incident = %root.incident, card = %card, room = %self.name, event = root.event_id,
                "found in the room: the store is older than this card"
            );
        }
        Ok((!adopted.is_empty()).then_some(Turn::Again))
    }

    /// Cards that waited for longer than a restart takes: if the store is a copy from back then, they may be in the room.
    fn count_duplicates_of_due(&self, due: &DueCards) {
        let cards = due.new.iter().filter(|card| self.started.since(card.dirty_since) > MARGIN).count();
        if cards > 0 {
            self.context.metrics.possible_duplicates.inc_by(cards as u64);
            tracing::warn!(
                room = %self.name, cards,
                "the room does not tell whether a later state of this store has posted them: they may be in the room twice"
            );
        }
    }

    /// As after a send; but what cannot be read is not waited for without end.
    fn root_search_failed(&mut self, due: &DueCards, error: &SendError, permit: &Permit) -> Option<Turn> {
        let verdict = self.verdict(&TxnId(String::new()), error);
        if verdict == Verdict::Poisoned {
            tracing::warn!(room = %self.name, reason = %error, "the room cannot be read back; new cards go out unseen");
            self.searched_for_roots = true;
            self.count_duplicates_of_due(due);
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
