//! Copies what was committed from SQLite's write-ahead log into the file beside the writer, which would wait for the disk
//! otherwise: once for every few batches, and with it all webhooks that wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::Row as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{error::in_words, readers::Readers, statement};

/// How many pages are written between two copies.
const EVERY: usize = 500;
/// From this many pages in the log on the writer copies what was added meanwhile, and begins the log again: only between two
/// of its transactions is there a moment at which all is copied.
const LONG: i64 = 1_000;

pub(crate) const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The log as the writer sees it.
#[derive(Debug, Default)]
pub(crate) struct WriteAheadLog {
    /// Written since a copy was last asked for; an estimate. Should it be far too low, SQLite itself makes the writer copy.
    pages: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_due: Notify,
    /// Whether the log is long, and all but its end is copied.
    is_long: AtomicBool,
}

impl WriteAheadLog {
    /// Counts the pages of a commit, and has them copied when there are enough.
    pub fn grow(&mut self, pages: usize) {
        self.pages = self.pages.saturating_add(pages);
        if self.pages >= EVERY {
            self.pages = 0;
            self.shared.is_due.notify_one();
        }
    }

    /// Whether the writer shall copy what is left. Says so once.
    pub fn take_long(&self) -> bool {
        self.shared.is_long.swap(false, Ordering::Relaxed)
    }

    /// Copies whenever it is due, over a connection of `pool`, until `stop`.
    pub fn copy_when_due(&self, pool: Readers, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = shared.is_due.notified() => {}
                }
                match copy(&pool).await {
                    Ok(pages) => shared.is_long.store(pages >= LONG, Ordering::Relaxed),
                    Err(error) => {
                        tracing::debug!(error = in_words(&error), "checkpoint failed; the writer makes it");
                    }
                }
            }
        });
    }
}

/// Waits for nobody, and nobody waits for it. Returns how many pages the log has.
async fn copy(pool: &Readers) -> Result<i64, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    statement::query(CHECKPOINT).fetch_one(&mut *connection).await?.try_get("log")
}
