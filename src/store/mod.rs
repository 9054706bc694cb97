//! The only SQL: one SQLite file, one writer that commits in groups, a few readers.
//!
//! Nothing outside of this folder knows which database it is.

mod cards;
mod db;
mod incidents;
mod outbox;
mod reports;
mod rooms;

pub use cards::due::{DueCard, DueCards, DueNotes, Snapshot};
pub use cards::unrouted::{Routing, Unrouted};
pub use db::error::StoreError;
pub use db::open::{keep_temporary_files_in, lock_folder, probe};
pub use incidents::ingest::{Ingest, Ingested};
pub use incidents::rerouted::Move;
pub use outbox::NewOp;
pub use outbox::dead_letters::{DeadLetter, Follows};
pub use outbox::in_doubt::{FoundRoot, Recorded};
pub use reports::overview::{OpenIncident, Overview, PlacedCard, SeenIncident, WaitingCard};
pub use reports::stats::Stats;
pub use rooms::addresses::AddressChange;

use sqlx::SqlitePool;
use tokio::sync::watch;

use self::{
    db::monitoring::{Commits, Shared},
    reports::stats::Numbers,
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
    writer: db::writer::Handle,
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
