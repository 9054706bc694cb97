//! A lane that waits at the gate.

use std::time::Duration;

use tokio::time::sleep;

use super::Lane;
use crate::{
    delivery::{
        gate::{Permit, SharedPriority},
        plan,
    },
    store::StoreError,
};

/// While the gate is closed, a lane looks this often at most whether it wants something more urgent.
pub(super) const REFRESH_EVERY: Duration = Duration::from_millis(250);

impl Lane {
    /// SharedPriority at the gate with what is most urgent here, which may change meanwhile. `None`: the lane is to stop, or the
    /// config has changed since the plan was made.
    pub(super) async fn enter(&self) -> Result<Option<Permit>, StoreError> {
        let shared = SharedPriority::from(self.priority);
        let mut wake = self.context.store.wake_ups();
        // Something may have come since the plan was made.
        wake.mark_changed();
        let refresh = async {
            loop {
                sleep(REFRESH_EVERY).await;
                // The sender lives in the store.
                if wake.changed().await.is_err() {
                    self.stop.cancelled().await;
                }
                shared.set(plan::priority(&self.context.store.due(&self.room).await?));
            }
        };
        tokio::select! {
            biased;
            permit = self.context.gate.enter(&self.stop, shared.clone()) => Ok(permit),
            () = self.reloaded() => Ok(None),
            failed = refresh => failed,
        }
    }
}
