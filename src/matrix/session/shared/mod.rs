//! The shared device: the session under which every replica sends to plain rooms. It is the same for all replicas, so that
//! one that takes over repeats an event in flight under its transaction id. It never syncs and never uploads keys.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::delivery::BoxFuture;

/// Reads the text that [`SaveSharedSession`] stored last, whichever replica did; `None`: nobody has.
pub type LoadSharedSession = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<Option<String>>> + Send + Sync>;

/// Stores the text of the shared session for all replicas.
pub type SaveSharedSession = Arc<dyn Fn(String) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// What an account that has replicas needs to share a device with them.
#[derive(Clone)]
pub struct SharedSetup {
    pub load: LoadSharedSession,
    pub save: SaveSharedSession,
    /// Whether this replica leads. Only the leader logs the shared device in: each login invalidates the token before.
    pub leads: watch::Receiver<bool>,
}

impl fmt::Debug for SharedSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSetup").field("leads", &*self.leads.borrow()).finish_non_exhaustive()
    }
}
