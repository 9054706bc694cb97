//! The queue at the closed gate. Pure but for the lock: the gate says when somebody may probe, the queue says who.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::model::Timestamp;

/// One in this many sends under a rate limit goes to the oldest waiting edit, so that resolved cards are not starved.
const EDITS_SHARE: u32 = 4;

/// The priority of what a lane would send. The smaller goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority {
    /// 0 is the most severe; [`Priority::CALM`] for what notifies nobody, [`Priority::ANSWER`] for answers.
    pub severity: u32,
    /// The oldest accepted change of this severity.
    pub since: Timestamp,
    /// The oldest change that waits to be shown by an edit.
    pub edit: Option<Timestamp>,
}

impl Priority {
    /// Less urgent than any severity.
    pub const CALM: u32 = u32::MAX - 2;
    /// Less urgent than anything that belongs to a card.
    pub const ANSWER: u32 = u32::MAX - 1;
    /// Less urgent than anything that somebody waits for.
    pub const EVIDENCE: u32 = u32::MAX;

    /// The priority of an unfinished event: its room waits for it.
    pub fn finish(since: Timestamp) -> Self {
        Self { severity: 0, since, edit: None }
    }
}

/// The priority of a waiting lane. The lane may change it without losing its position in the queue.
#[derive(Clone, Debug)]
pub struct SharedPriority(Arc<Mutex<Priority>>);

impl SharedPriority {
    pub fn set(&self, priority: Priority) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = priority;
    }

    fn get(&self) -> Priority {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Priority> for SharedPriority {
    fn from(priority: Priority) -> Self {
        Self(Arc::new(Mutex::new(priority)))
    }
}

/// The lanes that wait at the closed gate.
#[derive(Debug, Default)]
pub struct Queue {
    inner: Mutex<Waiting>,
    /// Notified when a lane left the queue, or the gate changed.
    pub moved: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By ticket, so that of equal priorities the lane that came first goes first.
    lanes: BTreeMap<u64, SharedPriority>,
    tickets: u64,
    /// One lane is probing whether the fault is over.
    probing: bool,
    /// Sends at the end of a rate limit, counted for [`EDITS_SHARE`].
    limited: u32,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The ticket that is next, and whether it is the turn of an edit.
    fn next(&self, limited: bool) -> Option<(u64, bool)> {
        if limited && (self.limited + 1).is_multiple_of(EDITS_SHARE) {
            let edits = self.lanes.iter().filter_map(|(ticket, priority)| Some((priority.get().edit?, *ticket)));
            if let Some((_, ticket)) = edits.min() {
                return Some((ticket, true));
            }
        }
        let urgent = |(ticket, priority): &(&u64, &SharedPriority)| {
            let priority = priority.get();
            (priority.severity, priority.since, **ticket)
        };
        self.lanes.iter().min_by_key(urgent).map(|(ticket, _)| (*ticket, false))
    }
}

/// A position in the queue, left when dropped.
#[derive(Debug)]
pub struct Ticket {
    queue: Arc<Queue>,
    ticket: u64,
}

impl Ticket {
    pub fn take(queue: &Arc<Queue>, priority: SharedPriority) -> Self {
        let mut waiting = queue.lock();
        waiting.tickets += 1;
        let ticket = waiting.tickets;
        waiting.lanes.insert(ticket, priority);
        drop(waiting);
        Self { queue: Arc::clone(queue), ticket }
    }

    /// The right to probe and whether it is the turn of an edit, if this ticket is next.
    pub fn try_probe(&self, limited: bool) -> Option<(Probe, bool)> {
        let mut waiting = self.queue.lock();
        if waiting.probing {
            return None;
        }
        let (_, edits_turn) = waiting.next(limited).filter(|(ticket, _)| *ticket == self.ticket)?;
        waiting.probing = true;
        waiting.limited = waiting.limited.wrapping_add(u32::from(limited));
        Some((Probe(Arc::clone(&self.queue)), edits_turn))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.queue.lock().lanes.remove(&self.ticket);
        self.queue.moved.notify_waiters();
    }
}

/// Held by the one lane that may send while the gate is closed.
#[derive(Debug)]
pub struct Probe(Arc<Queue>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.lock().probing = false;
        self.0.moved.notify_waiters();
    }
}
