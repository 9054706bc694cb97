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
mod line;
mod meta;
mod monitoring;
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
mod sample;
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
pub use open::{keep_temporary_files_in, occupy, try_out};
pub use outbox::NewOp;
pub use overview::{OpenIncident, Overview, PlacedCard, SeenIncident, WaitingCard};
pub use respell::Respelling;
pub use stats::Stats;
pub use unrouted::{Routing, Unrouted};

use sqlx::SqlitePool;
use tokio::sync::watch;

use self::{
    monitoring::{Commits, Shared},
    stats::Numbers,
};
use crate::{clock::Clock, model::RoomAddress};

/// The handle that everyone shares. Reads go to one of two pools, writes to the one writer.
#[derive(Clone, Debug)]
pub struct Store {
    /// For webhooks and lanes.
    readers: SqlitePool,
    /// For metrics, health, the status page and commands, which must not hold up the others.
    monitoring: SqlitePool,
    numbers: Shared<(), Numbers>,
    overview: Shared<Vec<RoomAddress>, Overview>,
    commits: Commits,
    writer: writer::Handle,
    clock: Clock,
    /// Counts commits after which a room may be behind. Subscribe before polling [`Store::due`], or a wake-up is lost.
    wake: watch::Sender<u64>,
    /// The one place for a large card in memory.
    large: std::sync::Arc<tokio::sync::Semaphore>,
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
