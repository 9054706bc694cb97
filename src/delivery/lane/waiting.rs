//! A lane that waits at the gate.

use std::time::Duration;

use tokio::time::sleep;

use super::Lane;
use crate::{
    delivery::{
        gate::{Permit, Waits},
        plan,
    },
    store::StoreError,
};

/// While the gate is closed, a lane looks this often at most whether it wants something more urgent.
pub(super) const WANT_EVERY: Duration = Duration::from_millis(250);

impl Lane {
    /// Waits at the gate with what is most urgent here, which may change meanwhile. `None`: the lane is to stop, or the
    /// config has changed since the plan was made.
    pub(super) async fn enter(&self) -> Result<Option<Permit>, StoreError> {
        let waits = Waits::from(self.want);
        let mut wake = self.parts.store.wake_ups();
        // Something may have come since the plan was made.
        wake.mark_changed();
        let refresh = async {
            loop {
                sleep(WANT_EVERY).await;
                // The sender lives in the store.
                if wake.changed().await.is_err() {
                    self.stop.cancelled().await;
                }
                waits.set(plan::want(&self.parts.store.due(&self.room).await?));
            }
        };
        tokio::select! {
            biased;
            permit = self.parts.gate.enter(&self.stop, waits.clone()) => Ok(permit),
            () = self.reloaded() => Ok(None),
            failed = refresh => failed,
        }
    }
}
