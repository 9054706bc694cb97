//! Plain rooms without the SDK, for a token whose device must not get keys from us: the SDK would create some with its
//! first sync, and replace those of the client that the device belongs to.
//!
//! There are no syncs: each would remove messages that other clients sent to the device, which are mostly keys. So every
//! send first asks whether its room is encrypted by now.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    context::Context,
    encryption::room_keys,
    probe::{Answer, Probe},
    rooms::{Rooms, entry::Trigger, room_api::RoomApi},
    session::{connection::Connection, mode::OpenSession},
};
use crate::model::NoKeys;

/// How often to ask whether the homeserver answers and whether rooms have become encrypted.
const ROUND: Duration = Duration::from_secs(30);
/// The pause before a store that could not be opened is tried again.
const STORE_RETRY: Duration = Duration::from_mins(2);

/// Replaces the sync loop for a session without keys.
pub(super) struct RoundsWithoutKeys<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
    pub rooms: &'a Rooms,
}

impl RoundsWithoutKeys<'_> {
    /// Returns when the session is no longer valid, or when opening the store again may succeed.
    pub async fn run(self, open: &OpenSession, why: NoKeys) {
        let began = Instant::now();
        let probe = Probe { context: self.context, connection: self.connection };
        let Ok(room_api) = RoomApi::new(self.context, open) else { return };
        loop {
            match probe.ask().await {
                Answer::Up => self.connection.status.report_sync(),
                Answer::SessionEnded => return,
                Answer::Down => {}
            }
            for address in &self.rooms.served() {
                // A failure is reported by the next send.
                if let Ok(room) = self.rooms.enter(room_api, address, Trigger::Round).await
                    && let Ok(encrypted) = room_api.token_api.is_encrypted(&room).await
                {
                    self.rooms.kinds.note(address, encrypted);
                    room_keys::report(self.context, address, encrypted.then_some(why));
                }
            }
            if why == NoKeys::StoreFails && began.elapsed() > STORE_RETRY {
                return;
            }
            probe.run_while(self.connection.link.sleep(ROUND)).await;
        }
    }
}
