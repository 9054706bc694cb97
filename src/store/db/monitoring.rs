//! Connections for those who look on: metrics, health, the status page, commands, and the work of the background.
//!
//! No webhook and no lane ever waits for one of them, and what many ask for is read once for all of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;

/// How many.
pub(crate) const CONNECTIONS: u32 = 2;
/// No reading is handed out for longer than this after it was made.
pub(crate) const KEPT: Duration = Duration::from_secs(1);
/// What all readings together may take of the time, as a divisor, and what may be spent of it at once. As long as there is
/// some left, everyone gets what was committed last; a flood of askers gets what is at most [`KEPT`] old.
const SHARE: u32 = 20;
const SAVED: Duration = Duration::from_millis(250);

/// Commits so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits(Arc<AtomicU64>);

impl Commits {
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Ends with the last handle of the store, or when it is closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watching(Arc<OnDrop>);

#[derive(Debug, Default)]
struct OnDrop(CancellationToken);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Watching {
    pub fn token(&self) -> CancellationToken {
        self.0.0.clone()
    }

    pub fn end(&self) {
        self.0.0.cancel();
    }
}

/// What is read of the store, for everyone who asks within a moment, if they ask for the same.
#[derive(Debug)]
pub(crate) struct Shared<K, T>(Arc<Mutex<State<K, T>>>);

#[derive(Debug)]
struct State<K, T> {
    last: Option<Reading<K, T>>,
    budget: Budget,
}

#[derive(Debug)]
struct Reading<K, T> {
    /// What was asked for.
    key: K,
    value: Arc<T>,
    /// Before it began.
    commits: u64,
    ended: Instant,
    took: Duration,
}

/// Time that readings may take.
#[derive(Debug)]
struct Budget {
    left: Duration,
    at: Instant,
}

impl Budget {
    /// What is left at `now`.
    fn left(&mut self, now: Instant) -> Duration {
        self.left = SAVED.min(self.left + now.duration_since(self.at) / SHARE);
        self.at = now;
        self.left
    }

    fn spend(&mut self, took: Duration) {
        self.left = self.left.saturating_sub(took);
    }
}

impl<K: PartialEq, T> State<K, T> {
    /// The last reading, if it need not be made again.
    fn fresh(&mut self, key: &K, commits: u64, now: Instant) -> Option<Arc<T>> {
        let left = self.budget.left(now);
        let reading = self.last.as_ref().filter(|reading| reading.key == *key)?;
        let is_young = now.duration_since(reading.ended) < KEPT;
        let is_last = reading.commits == commits || reading.took > left;
        (is_young && is_last).then(|| Arc::clone(&reading.value))
    }
}

impl<K, T> Clone for Shared<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> Default for Shared<K, T> {
    fn default() -> Self {
        let budget = Budget { left: SAVED, at: Instant::now() };
        Self(Arc::new(Mutex::new(State { last: None, budget })))
    }
}

impl<K: PartialEq + Send + 'static, T: Send + Sync + 'static> Shared<K, T> {
    /// The last reading, if it will do, else what `read` gives. One `read` runs at a time, and it runs to its end also if
    /// whoever asked has given up: those who ask next get what it found.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn get<F>(&self, key: K, commits: &Commits, read: F) -> Result<Arc<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let mut state = Arc::clone(&self.0).lock_owned().await;
        let before = commits.so_far();
        if let Some(value) = state.fresh(&key, before, Instant::now()) {
            return Ok(value);
        }
        let reading = tokio::spawn(async move {
            let began = Instant::now();
            let value = Arc::new(read.await?);
            let (ended, took) = (Instant::now(), began.elapsed());
            state.budget.spend(took);
            state.last = Some(Reading { key, value: Arc::clone(&value), commits: before, ended, took });
            Ok(value)
        });
        reading.await.unwrap_or(Err(StoreError::Panic))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn read_at(ended: Instant, took: Duration, state: &mut State<u8, u8>) {
        state.budget.spend(took);
        state.last = Some(Reading { key: 1, value: Arc::new(7), commits: 5, ended, took });
    }

    #[test]
    fn a_flood_of_askers_gets_what_is_a_second_old_and_others_what_was_committed_last() {
        let began = Instant::now();
        let mut state = State { last: None, budget: Budget { left: SAVED, at: began } };
        assert_eq!(state.fresh(&1, 5, began), None);
        read_at(began, 100 * MS, &mut state);
        let is_fresh = |state: &mut State<u8, u8>, commits, at| state.fresh(&1, commits, began + at).is_some();
        assert!(is_fresh(&mut state, 5, 999 * MS), "nothing was committed since");
        assert!(!is_fresh(&mut state, 5, 1_000 * MS));
        assert!(!is_fresh(&mut state, 6, Duration::ZERO), "there is time left to look again");
        read_at(began, 100 * MS, &mut state);
        read_at(began, 100 * MS, &mut state);
        assert!(is_fresh(&mut state, 6, 999 * MS), "spent");
        assert!(!is_fresh(&mut state, 6, 1_000 * MS), "but no longer than a second");
        assert!(state.fresh(&2, 5, began).is_none(), "another question");
        read_at(began + 5_000 * MS, 100 * MS, &mut state);
        assert!(!is_fresh(&mut state, 6, 5_000 * MS), "a twentieth of the time comes back");
    }

    /// Counts how often it was read, each time once it may go on.
    fn reading(
        count: &Arc<AtomicU32>,
        go: &Arc<Notify>,
    ) -> impl Future<Output = Result<u32, StoreError>> + Send + use<> {
        let (count, go) = (Arc::clone(count), Arc::clone(go));
        async move {
            go.notified().await;
            Ok(count.fetch_add(1, Ordering::Relaxed) + 1)
        }
    }

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_reading() {
        let (shared, commits, count, go) = (Shared::default(), Commits::default(), Arc::default(), Arc::default());
        let all = futures_util::future::join_all((0..50).map(|_| shared.get((), &commits, reading(&count, &go))));
        let (all, ()) = futures_util::join!(all, async { go.notify_one() });
        assert!(all.into_iter().all(|value| *value.expect("read") == 1));
    }

    #[tokio::test]
    async fn whoever_gives_up_leaves_what_was_read_to_the_next() {
        let (shared, commits, count, go) = (Shared::default(), Commits::default(), Arc::default(), Arc::default());
        assert!(tokio::time::timeout(MS, shared.get((), &commits, reading(&count, &go))).await.is_err());
        go.notify_one();
        assert_eq!(*shared.get((), &commits, reading(&count, &go)).await.expect("read"), 1, "not read again");
    }
}
