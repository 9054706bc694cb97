//! The connection slots of one listener. Where none is free, the connection that has waited longest for its client makes
//! room; while a handler works on each of them, new ones queue.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::connection::Connection;
use crate::metrics::Metrics;

/// How long a connection waits for a slot.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of answers that may wait for their clients; beyond it those that have waited longest are given up. An answer alone
/// may be larger.
const UNREAD_BYTES: usize = 8 * 1024 * 1024;

/// The slots of one listener, and the connections that hold them.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) size: usize,
    ordinary: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    waiting: Semaphore,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    opened: AtomicU64,
    /// Notified when a connection starts to wait for its client, so that it could be displaced.
    idle: Arc<Notify>,
    /// Bytes of answers that clients have not read.
    unread: Arc<AtomicUsize>,
    patience: Duration,
}

/// Permission to open a connection.
#[derive(Debug)]
pub(super) struct Permit {
    held: OwnedSemaphorePermit,
    reserved: bool,
    /// Whether another connection was displaced for it.
    pub(super) displaced: bool,
}

/// No slot became free in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A connection's slot; dropping it frees the slot.
#[derive(Debug)]
pub struct ConnectionSlot {
    id: u64,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionSlot {
    /// An answer has begun to wait for its client; returns whether connections were closed for the memory it takes.
    pub(super) fn limit_unread(&self) -> bool {
        self.pool.limit_unread(self.id)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.pool.connections().remove(&self.id);
    }
}

impl Pool {
    pub(super) fn new(ordinary: usize, reserved: usize, waiting: usize) -> Self {
        Self {
            size: ordinary + reserved,
            ordinary: Arc::new(Semaphore::new(ordinary)),
            reserved: Arc::new(Semaphore::new(reserved)),
            waiting: Semaphore::new(waiting),
            open: Mutex::default(),
            opened: AtomicU64::new(0),
            idle: Arc::default(),
            unread: Arc::default(),
            patience: PATIENCE,
        }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(self: &Arc<Self>, permit: Permit, metrics: Arc<Metrics>) -> (Arc<Connection>, ConnectionSlot) {
        let (idle, unread) = (Arc::clone(&self.idle), Arc::clone(&self.unread));
        let connection = Arc::new(Connection::new(permit.reserved, idle, unread, metrics));
        let id = self.opened.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(id, Arc::clone(&connection));
        (connection, ConnectionSlot { id, pool: Arc::clone(self), _permit: permit.held })
    }

    pub(super) async fn permit(&self) -> Result<Permit, Full> {
        for reserved in [false, true] {
            if let Ok(held) = Arc::clone(self.places(reserved)).try_acquire_owned() {
                return Ok(Permit { held, reserved, displaced: false });
            }
            // A connection that displaces another gets its slot soon, and does not count as waiting.
            if self.displace(reserved) {
                return timeout(self.patience, self.acquire(reserved, true)).await.unwrap_or(Err(Full));
            }
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Full)?;
        timeout(self.patience, self.wait()).await.unwrap_or(Err(Full))
    }

    async fn wait(&self) -> Result<Permit, Full> {
        loop {
            for reserved in [false, true] {
                if self.displace(reserved) {
                    return self.acquire(reserved, true).await;
                }
            }
            tokio::select! {
                biased;
                permit = self.acquire(false, false) => return permit,
                permit = self.acquire(true, false) => return permit,
                () = self.idle.notified() => {}
            }
        }
    }

    fn places(&self, reserved: bool) -> &Arc<Semaphore> {
        if reserved { &self.reserved } else { &self.ordinary }
    }

    async fn acquire(&self, reserved: bool, displaced: bool) -> Result<Permit, Full> {
        let held = Arc::clone(self.places(reserved)).acquire_owned().await.map_err(|_| Full)?;
        Ok(Permit { held, reserved, displaced })
    }

    /// Ends connections whose answers are not read, those that have waited longest first, as long as these answers take too
    /// much memory; not that of `newest`, which may be read yet. Returns whether any was ended.
    fn limit_unread(&self, newest: u64) -> bool {
        if self.unread.load(Ordering::Relaxed) <= UNREAD_BYTES {
            return false;
        }
        let open = self.connections();
        // What is smaller than its share of the memory frees too little.
        let large = |connection: &Connection| connection.unread() >= UNREAD_BYTES / self.size;
        let others = open.iter().filter(|(id, connection)| **id != newest && large(connection));
        let mut waits: Vec<_> =
            others.filter_map(|(_, connection)| Some((connection.has_waited()?, connection))).collect();
        waits.sort_by_key(|(waited, _)| Reverse(*waited));
        let mut ended = false;
        for (_, connection) in waits {
            if self.unread.load(Ordering::Relaxed) <= UNREAD_BYTES {
                break;
            }
            ended |= connection.displace();
        }
        ended
    }

    /// Ends the connection that has waited longest for its client; `false` if all are being worked on.
    fn displace(&self, reserved: bool) -> bool {
        let open = self.connections();
        loop {
            let waits = open.values().filter(|connection| connection.is_reserved() == reserved);
            let waits = waits.filter_map(|connection| Some((connection.has_waited()?, connection)));
            let Some((_, longest)) = waits.max_by_key(|(waited, _)| *waited) else { return false };
            // A request may have arrived in between.
            if longest.displace() {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn pool(ordinary: usize, reserved: usize, waiting: usize) -> Arc<Pool> {
        Arc::new(Pool { patience: Duration::from_millis(200), ..Pool::new(ordinary, reserved, waiting) })
    }

    /// A connection as its stream and its service hold it: it ends when it is displaced.
    struct Open {
        connection: Arc<Connection>,
        place: Option<ConnectionSlot>,
    }

    async fn open(pool: &Arc<Pool>) -> Result<Open, Full> {
        let permit = pool.permit().await?;
        let (connection, place) = pool.open(permit, Arc::new(Metrics::new(&[], &[], "", "")));
        Ok(Open { connection, place: Some(place) })
    }

    /// Opens one more connection while displaced ones end; also returns which ended.
    async fn crowd(pool: &Arc<Pool>, all: &mut [Open]) -> (Result<Open, Full>, Vec<usize>) {
        let opened = open(pool);
        tokio::pin!(opened);
        let mut gone = Vec::new();
        loop {
            tokio::select! {
                biased;
                opened = &mut opened => return (opened, gone),
                () = tokio::task::yield_now() => {}
            }
            for (number, open) in all.iter_mut().enumerate() {
                if open.place.is_some() && open.connection.is_displaced() {
                    open.place = None;
                    gone.push(number);
                }
            }
        }
    }

    /// Connections that each began to wait for its client `begun` seconds ago.
    async fn waiting(pool: &Arc<Pool>, begun: &[u64]) -> Vec<Open> {
        let now = Instant::now();
        let mut all = Vec::new();
        for _ in begun {
            all.push(open(pool).await.expect("a place"));
        }
        for (open, begun) in all.iter().zip(begun) {
            open.connection.wait(now.checked_sub(Duration::from_secs(*begun)).expect("an hour since the boot"));
        }
        all
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_makes_room() {
        let pool = pool(3, 1, 1);
        let mut all = waiting(&pool, &[2, 3, 1]).await;
        let (opened, gone) = crowd(&pool, &mut all).await;
        let opened = opened.expect("a place");
        assert_eq!((opened.connection.is_reserved(), gone), (false, vec![1]));
        let (second, gone) = crowd(&pool, &mut all).await;
        assert_eq!((second.is_ok(), gone), (true, vec![0]), "and not the one that has just come");
    }

    #[tokio::test]
    async fn one_that_has_posted_a_webhook_goes_later() {
        let pool = pool(2, 0, 1);
        let mut all = waiting(&pool, &[9, 5]).await;
        all[0].connection.has_posted();
        assert_eq!(crowd(&pool, &mut all).await.1, [1]);
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_take_no_more_than_their_share_of_memory() {
        let (pool, metrics) = (pool(4, 0, 1), Arc::new(Metrics::new(&[], &[], "", "")));
        let mut all = Vec::new();
        for _ in 0..4 {
            let (connection, slot) = pool.open(pool.permit().await.expect("a place"), Arc::clone(&metrics));
            all.push((connection, slot));
        }
        let displaced = |all: &[(Arc<Connection>, ConnectionSlot)]| -> Vec<bool> {
            all.iter().map(|(connection, _)| connection.is_displaced()).collect()
        };
        let answers = |number: usize, bytes| {
            let (connection, slot): &(Arc<Connection>, ConnectionSlot) = &all[number];
            connection.answers(bytes);
            slot.limit_unread()
        };
        // The oldest is a small one, which would free next to nothing.
        let ended = [answers(0, 1_000), answers(1, UNREAD_BYTES / 2), answers(2, UNREAD_BYTES / 2 - 1_000)];
        assert_eq!((ended, displaced(&all)), ([false; 3], vec![false; 4]), "just as much as may be");
        assert!(answers(3, 2 * UNREAD_BYTES));
        assert_eq!(displaced(&all), [false, true, true, false], "one alone may be larger");
        let last = all.pop().expect("a connection");
        drop(last);
        assert_eq!(pool.unread.load(Ordering::Relaxed), 1_000, "what was given up or ended takes nothing");
    }

    #[tokio::test]
    async fn what_is_worked_on_stays_and_webhooks_have_reserved_places() {
        let pool = pool(2, 1, 1);
        let mut all = waiting(&pool, &[2, 3]).await;
        for open in &all {
            assert!(open.connection.begin());
        }
        let (reserved, gone) = crowd(&pool, &mut all).await;
        let reserved = reserved.expect("a reserved place");
        assert_eq!((reserved.connection.is_reserved(), gone.len()), (true, 0));
        assert!(reserved.connection.begin());
        assert_eq!(open(&pool).await.err(), Some(Full), "it waits, and not for ever");
        assert_eq!(all.iter().filter(|open| open.connection.is_displaced()).count(), 0);
        // A queued connection gets the slot of the first that becomes idle.
        let idle = Arc::clone(&all[1].connection);
        let ends = async {
            tokio::task::yield_now().await;
            idle.wait(Instant::now());
        };
        let ((opened, gone), ()) = tokio::join!(crowd(&pool, &mut all), ends);
        assert_eq!((opened.is_ok(), gone), (true, vec![1]));
    }

    #[tokio::test]
    async fn a_silent_one_on_a_reserved_place_makes_room_too() {
        let pool = pool(1, 1, 0);
        let mut all = waiting(&pool, &[1]).await;
        assert!(all[0].connection.begin());
        all.push(open(&pool).await.expect("the reserved place"));
        let (opened, gone) = crowd(&pool, &mut all).await;
        assert_eq!((opened.expect("a place").connection.is_reserved(), gone), (true, vec![1]));
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let pool = pool(1, 0, 1);
        let all = waiting(&pool, &[1]).await;
        assert!(all[0].connection.begin());
        let begun = Instant::now();
        let (first, second) = tokio::join!(open(&pool), async {
            let second = open(&pool).await;
            (second.is_err(), begun.elapsed())
        });
        assert!(first.is_err() && second.0);
        assert!(pool.connections().len() == 1 && pool.waiting.available_permits() == 1);
        drop(all);
        assert!(open(&pool).await.is_ok(), "a place is free again when its connection is gone");
    }
}
