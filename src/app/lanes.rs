//! One lane per room, for as long as the room needs one.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    delivery::{Lane, Parts},
    lifecycle::Lifecycle,
    model::RoomAddress,
};

pub struct Lanes {
    parts: Parts,
    lifecycle: Lifecycle,
    running: Mutex<BTreeSet<RoomAddress>>,
}

impl Lanes {
    pub fn new(parts: Parts, lifecycle: Lifecycle) -> Arc<Self> {
        Arc::new(Self { parts, lifecycle, running: Mutex::default() })
    }

    /// Starts the lanes of these rooms that are not running. To be called once the config that names them is in force:
    /// a lane that is about to end looks at it under the same lock.
    pub fn ensure(self: &Arc<Self>, rooms: impl IntoIterator<Item = RoomAddress>) {
        let mut running = self.running();
        for room in rooms {
            if running.insert(room.clone()) {
                self.lifecycle.spawn(Arc::clone(self).serve(room));
            }
        }
    }

    async fn serve(self: Arc<Self>, room: RoomAddress) {
        let stop = self.lifecycle.stop();
        loop {
            Lane::new(room.clone(), self.parts.clone(), stop.clone()).run().await;
            let mut running = self.running();
            // The config may name the room again since the lane has decided to end.
            if stop.is_cancelled() || !self.parts.in_force.borrow().serves(&room) {
                running.remove(&room);
                return;
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<RoomAddress>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
