//! The account's gate: faults that reach beyond one room hold every lane, and then one send at a time finds out
//! whether they are over.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    retry,
    transport::{Reason, SendError},
};
use crate::{
    clock::Clock,
    health::{Health, Hold},
    metrics::Metrics,
};

/// Shared by all lanes.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    /// Held by the one lane that may try while the gate is closed.
    single: Arc<Semaphore>,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing is sent before; `None`: open.
    until: Option<Instant>,
    failures: u32,
    reason: Option<Reason>,
    /// Grows with each closing.
    closings: u64,
    /// Grows with each event that gets through; see [`Gate::passes`].
    passed: u64,
}

/// The right to send one event.
#[derive(Debug)]
pub struct Permit {
    _single: Option<OwnedSemaphorePermit>,
    /// How often the gate had closed when it was handed out.
    closings: u64,
    /// It was handed out at the end of a rate limit.
    pub limited: bool,
}

impl Gate {
    #[must_use]
    pub fn new(clock: Clock, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        Self { state: Mutex::default(), single: Arc::new(Semaphore::new(1)), clock, metrics, health }
    }

    /// Waits until something may be sent; `None` when `stop` comes first.
    pub async fn enter(&self, stop: &CancellationToken) -> Option<Permit> {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            permit = self.wait() => Some(permit),
        }
    }

    async fn wait(&self) -> Permit {
        if let (None, closings) = self.until() {
            return Permit { _single: None, closings, limited: false };
        }
        let single = Arc::clone(&self.single).acquire_owned().await.ok();
        loop {
            match self.until() {
                (None, closings) => return Permit { _single: None, closings, limited: false },
                (Some(until), closings) if until <= Instant::now() => {
                    return Permit { _single: single, closings, limited: self.reason() == Some(Reason::RateLimited) };
                }
                (Some(until), _) => sleep_until(until).await,
            }
        }
    }

    fn reason(&self) -> Option<Reason> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reason
    }

    fn until(&self) -> (Option<Instant>, u64) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.until, state.closings)
    }

    /// An event got through, or was refused for a reason of its own: the way is free. One that was under way before the
    /// gate closed proves nothing.
    pub fn opened(&self, permit: &Permit) {
        let reason = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closings != permit.closings {
                return;
            }
            let (closings, passed) = (state.closings, state.passed);
            std::mem::replace(&mut *state, State { closings, passed, ..State::default() }).reason
        };
        if let Some(reason) = reason {
            self.health.update(|health| health.account_hold = None);
            if reason != Reason::RateLimited {
                tracing::info!("delivery goes on");
            }
        }
    }

    /// An event is in its room: the way is free, and what fails meanwhile fails for a reason of its own.
    pub fn passed(&self, permit: &Permit) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.passed += u64::from(state.closings == permit.closings);
        }
        self.opened(permit);
    }

    /// How many events have got through, not counting those that were under way before the gate closed.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).passed
    }

    /// A send failed in a way that concerns all rooms. Returns how long nothing will be sent.
    pub fn close(&self, error: &SendError) -> Duration {
        let (wait, news) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let news = state.reason != Some(error.reason);
            state.failures = if news { 1 } else { state.failures.saturating_add(1) };
            let wait = retry::wait(error, state.failures, rand::random());
            // Two sends under way may fail together; the later deadline counts.
            let until = Instant::now() + wait;
            state.until = Some(state.until.map_or(until, |before| before.max(until)));
            state.reason = Some(error.reason);
            state.closings += 1;
            (wait, news)
        };
        let rate_limit = error.reason == Reason::RateLimited;
        if rate_limit {
            self.metrics.rate_limited.inc();
        }
        let now = self.clock.now();
        self.health.update(|health| {
            let since = health.account_hold.as_ref().filter(|_| !news).map_or(now, |hold| hold.since);
            health.account_hold =
                Some(Hold { reason: error.to_string(), rate_limit, since, until: Some(now.plus(wait)) });
        });
        if news {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            if rate_limit {
                tracing::info!(wait_ms, "the homeserver limits our rate; everything waits");
            } else {
                tracing::warn!(reason = %error, wait_ms, "nothing can be delivered for now; it is kept and tried again");
            }
        }
        wait
    }
}
