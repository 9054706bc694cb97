//! What polls did not find: since when, and how often. Kept in memory: after a start nothing is concluded from before.

use std::{collections::HashMap, time::Duration};

use crate::model::{IncidentId, Timestamp};

/// Polls that must have missed an alert before anything is concluded.
const POLLS: u32 = 2;
/// How long an alert must be missing that was last known as firing: Alertmanager may be about to report its end.
const FIRING_FOR: Duration = Duration::from_mins(15);
/// Missing alerts that are remembered; nothing is concluded of further ones.
const MOST: usize = 100_000;

/// What may be concluded of an alert that a poll did not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    Early,
    Gone,
    /// Nothing can be known of it, since then.
    Unheard(Timestamp),
}

#[derive(Debug)]
pub(super) struct Memory {
    missing: HashMap<(IncidentId, String), Missing>,
    /// Polls that follow closer on each other count once.
    apart: Duration,
    turn: u64,
}

#[derive(Debug)]
struct Missing {
    since: Timestamp,
    counted_at: Timestamp,
    /// Polls in which it was nowhere.
    nowhere: u32,
    nowhere_since: Option<Timestamp>,
    /// Polls that do not say.
    unknown: u32,
    turn: u64,
}

impl Memory {
    pub fn new(apart: Duration) -> Self {
        Self { missing: HashMap::new(), apart, turn: 0 }
    }

    /// A peer has started again, so that what it lacked before says nothing.
    pub fn clear(&mut self) {
        self.missing.clear();
    }

    /// Begins a poll that looks at everything.
    pub fn begin(&mut self) {
        self.turn += 1;
    }

    /// Forgets what the poll did not look at: it is over.
    pub fn end(&mut self) {
        self.missing.retain(|_, missing| missing.turn == self.turn);
    }

    pub fn is_there(&mut self, incident: &IncidentId, fingerprint: &str) {
        if !self.missing.is_empty() {
            self.missing.remove(&(incident.clone(), fingerprint.to_owned()));
        }
    }

    /// Notes that a poll did not find an alert, conclusively or not.
    pub fn is_missing(
        &mut self,
        incident: &IncidentId,
        fingerprint: &str,
        is_conclusive: bool,
        was_suppressed: bool,
        now: Timestamp,
    ) -> Sighting {
        let key = (incident.clone(), fingerprint.to_owned());
        if self.missing.len() >= MOST && !self.missing.contains_key(&key) {
            return Sighting::Early;
        }
        let mut is_counted = false;
        let missing = self.missing.entry(key).or_insert_with(|| {
            is_counted = true;
            Missing { since: now, counted_at: now, nowhere: 0, nowhere_since: None, unknown: 0, turn: 0 }
        });
        missing.turn = self.turn;
        if is_counted || now.since(missing.counted_at) >= self.apart {
            missing.counted_at = now;
            *(if is_conclusive { &mut missing.nowhere } else { &mut missing.unknown }) += 1;
        }
        if !is_conclusive {
            return if missing.unknown >= POLLS { Sighting::Unheard(missing.since) } else { Sighting::Early };
        }
        let nowhere_since = *missing.nowhere_since.get_or_insert(now);
        let is_due = was_suppressed || now.since(nowhere_since) >= FIRING_FOR;
        if missing.nowhere >= POLLS && is_due { Sighting::Gone } else { Sighting::Early }
    }
}
