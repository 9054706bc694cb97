//! The only SQL: one SQLite file, one writer that commits in groups, a few readers.
//!
//! Nothing outside of this folder knows which database it is.

mod cards;
mod dead;
mod digest;
mod doubt;
mod due;
mod error;
mod ingest;
mod meta;
mod moved;
mod open;
mod outbox;
mod overview;
mod repeat;
mod reposts;
mod respell;
mod retention;
mod rooms;
mod roots;
mod rows;
mod stale;
mod stats;
mod unrouted;
mod writer;

pub use dead::{DeadLetter, Follows};
pub use doubt::{FoundRoot, Recorded};
pub use due::{DueCard, DueCards, DueNotes, Snapshot};
pub use error::StoreError;
pub use ingest::{Ingest, Ingested};
pub use moved::Move;
pub use open::occupy;
pub use outbox::NewOp;
pub use overview::{OpenIncident, Overview, PlacedCard, SeenIncident, WaitingCard};
pub use respell::Respelling;
pub use stats::Stats;
pub use unrouted::{Routing, Unrouted};

use sqlx::SqlitePool;
use tokio::sync::watch;

use crate::clock::Clock;

/// The handle that everyone shares. Reads go to a pool, writes to the one writer.
#[derive(Clone, Debug)]
pub struct Store {
    readers: SqlitePool,
    writer: writer::Handle,
    clock: Clock,
    /// Counts commits after which a room may be behind. Subscribe before polling [`Store::due`], or a wake-up is lost.
    wake: watch::Sender<u64>,
    /// Keeps a second process out for as long as any handle lives.
    _lock: std::sync::Arc<std::fs::File>,
}

impl Store {
    /// Sees every commit after which some room may be behind.
    #[must_use]
    pub fn wake_ups(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }
}

#[cfg(test)]
mod tests;
