//! The account's gate. A fault that concerns all rooms closes it for every lane; then one send at a time, the most
//! severe of all rooms first, finds out whether the fault is over.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    budget::Budget,
    queue::{Probe, Queue, SharedPriority, Ticket},
    retry,
};
use crate::{
    clock::Clock,
    health::{Health, Hold},
    metrics::Metrics,
    model::{Reason, Scope, SendError},
};

/// The gate logs a fault of the account after this many failures, since the account itself logs it first.
const ACCOUNT_TRIES: u32 = 4;

/// Shared by all lanes.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    queue: Arc<Queue>,
    /// Counts the outages of the homeserver that are over.
    recoveries: watch::Sender<u64>,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is sent before this; `None`: the gate is open.
    until: Option<Instant>,
    failures: u32,
    reason: Option<Reason>,
    /// Grows with each closing.
    closings: u64,
    /// Grows with each event that gets through; see [`Gate::passes`].
    passed: u64,
    budget: Budget,
}

/// The right to send one event.
#[derive(Debug)]
pub struct Permit {
    _probe: Option<Probe>,
    /// How often the gate had closed when the permit was issued.
    closings: u64,
    /// It was issued at the end of a rate limit.
    pub limited: bool,
    /// This send belongs to the oldest waiting edit.
    pub edits_turn: bool,
}

impl Gate {
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        Self {
            state: Mutex::default(),
            queue: Arc::default(),
            recoveries: watch::Sender::new(0),
            clock,
            metrics,
            health,
        }
    }

    /// Changes whenever an outage of the homeserver ends.
    #[must_use]
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }

    /// Waits until something may be sent; `None` when `stop` comes first. While the gate is closed, the most urgent
    /// priority of all lanes goes first. Dropping the future leaves the queue.
    pub async fn enter(&self, stop: &CancellationToken, priority: impl Into<SharedPriority>) -> Option<Permit> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            permit = self.wait(priority.into()) => Some(permit),
        }
    }

    async fn wait(&self, priority: SharedPriority) -> Permit {
        if let Some(permit) = self.try_enter() {
            return permit;
        }
        let ticket = Ticket::take(&self.queue, priority);
        loop {
            // Registered before the gate is read, so that no change is missed in between.
            let mut moved = pin!(self.queue.moved.notified());
            moved.as_mut().enable();
            if let Some(permit) = self.try_enter() {
                return permit;
            }
            match self.until() {
                (None, _) => {}
                (Some(until), _) if until > Instant::now() => {
                    tokio::select! { () = sleep_until(until) => {}, () = moved => {} }
                }
                (Some(_), closings) => {
                    let limited = self.lock().reason == Some(Reason::RateLimited);
                    match ticket.try_probe(limited) {
                        Some((probe, edits_turn)) => {
                            return Permit { _probe: Some(probe), closings, limited, edits_turn };
                        }
                        None => moved.await,
                    }
                }
            }
        }
    }

    /// The right to send one event, if no lane has to wait.
    #[must_use]
    pub fn try_enter(&self) -> Option<Permit> {
        let (until, closings) = self.until();
        until.is_none().then_some(Permit { _probe: None, closings, limited: false, edits_turn: false })
    }

    /// Whether no lane has to wait.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.until().0.is_none()
    }

    fn until(&self) -> (Option<Instant>, u64) {
        let state = self.lock();
        (state.until, state.closings)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the gate: the homeserver accepted or refused an event. One that was in flight before the gate closed
    /// proves nothing.
    pub fn open(&self, permit: &Permit) {
        let reason = {
            let mut state = self.lock();
            if state.closings != permit.closings {
                return;
            }
            let (closings, passed, budget) = (state.closings, state.passed, std::mem::take(&mut state.budget));
            std::mem::replace(&mut *state, State { closings, passed, budget, ..State::default() }).reason
        };
        if let Some(reason) = reason {
            self.queue.moved.notify_waiters();
            self.health.update(|health| health.account_hold = None);
            if reason != Reason::RateLimited {
                tracing::info!("delivery resumed");
            }
            if reason.scope() == Scope::Server {
                self.recoveries.send_modify(|recoveries| *recoveries += 1);
            }
        }
    }

    /// Opens the gate after an event got through, and counts it: what fails meanwhile fails alone.
    pub fn passed(&self, permit: &Permit) {
        let mut state = self.lock();
        state.passed += u64::from(state.closings == permit.closings);
        state.budget.record_passed(Instant::now());
        drop(state);
        self.open(permit);
    }

    /// How many events have got through, not counting those that were in flight before the gate closed.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.lock().passed
    }

    /// Whether sends are scarce: the homeserver has limited the rate a moment ago.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.lock().budget.is_scarce(Instant::now())
    }

    /// Whether the homeserver takes more events than a default limit allows, as far as it has shown.
    #[must_use]
    pub fn is_ample(&self) -> bool {
        self.lock().budget.is_ample()
    }

    /// Closes the gate after a failure that concerns all rooms, and returns for how long.
    pub fn close(&self, error: &SendError) -> Duration {
        let (wait, changed, loud) = {
            let mut state = self.lock();
            let changed = state.reason != Some(error.reason);
            state.failures = if changed { 1 } else { state.failures.saturating_add(1) };
            let wait = retry::wait(error, state.failures, rand::random());
            // Two sends in flight may fail together; the later deadline counts.
            let until = Instant::now() + wait;
            state.until = Some(state.until.map_or(until, |before| before.max(until)));
            state.reason = Some(error.reason);
            if error.reason == Reason::RateLimited {
                state.budget.record_limit(Instant::now());
            }
            state.closings += 1;
            // The account logs its own faults, and is not ready at first after a start.
            let of_account = error.reason.scope() == Scope::Account && error.reason != Reason::RateLimited;
            let loud = if of_account { state.failures == ACCOUNT_TRIES } else { changed };
            (wait, changed, loud)
        };
        let rate_limit = error.reason == Reason::RateLimited;
        if rate_limit {
            self.metrics.rate_limited.inc();
        }
        let now = self.clock.now();
        let known = self.health.update(|health| {
            let since = health.account_hold.as_ref().filter(|_| !changed).map_or(now, |hold| hold.since);
            health.account_hold =
                Some(Hold { reason: error.to_string(), rate_limit, since, until: Some(now.plus(wait)) });
            let is_logged = health.homeserver_fault.is_some() || health.shared_fault.is_some();
            error.reason.scope() == Scope::Account && is_logged
        });
        if loud && known {
            tracing::debug!(reason = error.reason.as_str(), "all rooms wait for the account");
        } else if loud {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            if rate_limit {
                tracing::info!(wait_ms, "rate-limited by the homeserver; all rooms wait");
            } else {
                tracing::warn!(reason = %error, wait_ms, "delivery stopped; will retry");
            }
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::queue::Priority, model::Timestamp};

    const HELD: Duration = Duration::from_millis(300);

    fn priority(severity: u32, since: i64, edit: Option<i64>) -> Priority {
        Priority { severity, since: Timestamp(since), edit: edit.map(Timestamp) }
    }

    fn closed(reason: Reason) -> Arc<Gate> {
        let gate = Gate::new(Clock::system(), Arc::new(Metrics::new(&[], &[], "v", "c")), Arc::default());
        gate.close(&SendError { reason, retry_after: Some(HELD), detail: String::new() });
        Arc::new(gate)
    }

    /// The order in which the priorities get a permit, one at a time, and which of them as an edit.
    async fn order(reason: Reason, priorities: &[Priority]) -> Vec<(usize, bool)> {
        let (gate, order) = (closed(reason), Arc::new(Mutex::new(Vec::new())));
        let all = priorities.iter().enumerate().map(|(index, priority)| {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            async move {
                let permit = gate.enter(&CancellationToken::new(), *priority).await.expect("not stopped");
                order.lock().unwrap().push((index, permit.edits_turn));
                tokio::task::yield_now().await;
            }
        });
        futures_util::future::join_all(all).await;
        let order = order.lock().unwrap();
        order.clone()
    }

    #[tokio::test]
    async fn severity_first_then_age_then_order_of_arrival() {
        let priorities = [
            priority(2, 1, None),
            priority(0, 9, None),
            priority(1, 5, None),
            priority(1, 4, None),
            priority(1, 4, None),
        ];
        let expected = [(1, false), (3, false), (4, false), (2, false), (0, false)];
        assert_eq!(order(Reason::RateLimited, &priorities).await, expected);
        assert_eq!(order(Reason::NoAnswer, &priorities).await, expected);
    }

    #[tokio::test]
    async fn of_four_under_a_limit_one_goes_to_the_oldest_edit_of_all_rooms() {
        let busy = priority(0, 1, None);
        let priorities = [busy, busy, busy, busy, busy, priority(1, 1, Some(8)), priority(2, 1, Some(7))];
        let turns = [(0, false), (1, false), (2, false), (6, true), (3, false), (4, false), (5, false)];
        assert_eq!(order(Reason::RateLimited, &priorities).await, turns);
        let turns = [0, 1, 2, 3, 4, 5, 6].map(|index| (index, false));
        assert_eq!(order(Reason::NoAnswer, &priorities).await, turns, "an outage is not a rate limit");
    }

    #[tokio::test]
    async fn a_lane_that_leaves_holds_nobody_and_an_open_gate_lets_all_pass() {
        let gate = closed(Reason::RateLimited);
        let stop = CancellationToken::new();
        let urgent = tokio::time::timeout(HELD / 3, gate.enter(&stop, priority(0, 0, None))).await;
        assert!(urgent.is_err(), "closed");
        let first = gate.enter(&stop, priority(2, 0, None)).await.expect("not stopped");
        let second = tokio::time::timeout(HELD / 3, gate.enter(&stop, priority(0, 0, None))).await;
        assert!(second.is_err(), "one at a time");
        let mut others =
            Box::pin(futures_util::future::join_all((0..3).map(|_| gate.enter(&stop, priority(0, 0, None)))));
        assert!(futures_util::poll!(&mut others).is_pending());
        gate.passed(&first);
        let others = others.await;
        assert!(others.iter().all(|permit| permit.as_ref().is_some_and(|permit| !permit.limited)));
    }
}
