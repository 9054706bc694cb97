//! Waits at the gate with what the lane would send next.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::context::RoomContext;
use crate::{
    delivery::{
        gate::Permit,
        plan,
        queue::{Priority, SharedPriority},
        settings::Settings,
    },
    store::StoreError,
};

/// A waiting lane checks at most this often whether it has something more urgent to send.
pub(super) const REFRESH_EVERY: Duration = Duration::from_millis(250);
/// It spends at most about one part in this many of its time on that: what is due may be tens of thousands of cards.
const REFRESH_SHARE: u32 = 20;

/// Enters the gate with the priority of the plan, which may change meanwhile. `None`: the lane must stop, or a reload
/// was applied since the plan was made.
pub(super) async fn enter(
    context: &RoomContext,
    reloads: &watch::Receiver<Arc<Settings>>,
    priority: Priority,
) -> Result<Option<Permit>, StoreError> {
    let shared = SharedPriority::from(priority);
    let mut wake = context.store.wake_ups(&context.room);
    // There may have been a commit since the plan was made.
    wake.mark_changed();
    let refresh = async {
        let mut took = Duration::ZERO;
        loop {
            sleep(pause_after(took)).await;
            // The sender lives in the store.
            if wake.changed().await.is_err() {
                context.stop.cancelled().await;
            }
            let started = Instant::now();
            shared.set(plan::priority(&context.store.due(&context.room).await?));
            took = started.elapsed();
        }
    };
    tokio::select! {
        biased;
        permit = context.enter_gate(shared.clone()) => Ok(permit),
        () = changed(reloads) => Ok(None),
        failed = refresh => failed,
    }
}

fn pause_after(took: Duration) -> Duration {
    REFRESH_EVERY.max(took * REFRESH_SHARE)
}

/// Ends once there is a value that the receiver has not seen; never, if its sender is gone.
pub(super) async fn changed<T>(receiver: &watch::Receiver<T>) {
    if receiver.clone().changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_looks_are_far_apart() {
        for (took, pause) in [(0, 250), (3, 250), (40, 800), (500, 10_000)] {
            assert_eq!(pause_after(Duration::from_millis(took)), Duration::from_millis(pause));
        }
    }
}
