//! Runs one lane per room, for as long as the room needs one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    delivery::{Lane, LaneContext},
    lifecycle::Lifecycle,
    model::RoomAddress,
};

/// How long to wait for a lane to end: it may be waiting for the homeserver.
const END_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Lanes {
    context: LaneContext,
    lifecycle: Lifecycle,
    running: Mutex<BTreeMap<RoomAddress, CancellationToken>>,
    /// Changes whenever a lane has ended.
    ended: watch::Sender<()>,
}

impl Lanes {
    pub fn new(context: LaneContext, lifecycle: Lifecycle) -> Arc<Self> {
        Arc::new(Self { context, lifecycle, running: Mutex::default(), ended: watch::Sender::new(()) })
    }

    /// Starts the lanes of these rooms that are not running. Call it after the settings name the rooms: a lane that is about
    /// to end reads the settings under the same lock.
    pub fn ensure(self: &Arc<Self>, rooms: impl IntoIterator<Item = RoomAddress>) {
        let mut running = self.running();
        for room in rooms {
            if !running.contains_key(&room) {
                let stop = self.lifecycle.stop().child_token();
                running.insert(room.clone(), stop.clone());
                self.lifecycle.spawn(Arc::clone(self).serve(room, stop));
            }
        }
    }

    /// Ends a lane after its current step; returns `false` if it did not end in time.
    pub async fn end(&self, room: &RoomAddress) -> bool {
        let mut ended = self.ended.subscribe();
        if let Some(stop) = self.running().get(room) {
            stop.cancel();
        }
        let gone = async {
            while self.running().contains_key(room) {
                if ended.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(END_TIMEOUT, gone).await.is_ok()
    }

    async fn serve(self: Arc<Self>, room: RoomAddress, stop: CancellationToken) {
        loop {
            Lane::new(room.clone(), self.context.clone(), stop.clone()).run().await;
            let mut running = self.running();
            // A reload may have named the room again since the lane decided to end.
            if stop.is_cancelled() || !self.context.settings.borrow().serves(&room) {
                running.remove(&room);
                drop(running);
                self.ended.send_replace(());
                return;
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<RoomAddress, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
