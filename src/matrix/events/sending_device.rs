//! Which device sends to a room: with replicas the shared one to plain rooms, and the replica's own to encrypted ones.

use super::send::within_enter_timeout;
use crate::{
    matrix::{
        api::errors,
        context::Context,
        rooms::{Rooms, entry::Trigger, room_api::RoomApi},
        session::{connection::Connection, mode::SessionMode},
    },
    model::{Reason, RoomAddress, SendError},
};

/// Names the devices that send.
pub(crate) struct SendingDevice<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
    pub rooms: &'a Rooms,
}

impl SendingDevice<'_> {
    /// The device as far as is known without a request.
    pub fn known(self, address: &RoomAddress) -> Option<String> {
        let own = || self.connection.device.for_transactions(&self.context.health);
        let Some(shared) = &self.connection.shared else { return own() };
        if self.rooms.kinds.is_encrypted(address)? { own() } else { shared.device() }
    }

    /// Makes it known which device sends to the room, as far as the homeserver says.
    pub async fn find_out(self, address: &RoomAddress) {
        if self.connection.shared.is_some()
            && self.rooms.kinds.is_encrypted(address).is_none()
            && let Err(error) = self.confirmed(address).await
        {
            tracing::debug!(error = error.detail, "the device of a room is not known yet");
        }
    }

    /// The device that makes the next send. With replicas, the homeserver is asked whether the room is encrypted, as by
    /// the send itself.
    ///
    /// # Errors
    /// When nothing can be sent there for now.
    pub async fn confirmed(self, address: &RoomAddress) -> Result<String, SendError> {
        let Some(shared) = &self.connection.shared else { return self.connection.confirmed_device().await };
        let open = self.connection.session().await?;
        let asked = async {
            let room_api = RoomApi::new(self.context, &open)?;
            let id = self.rooms.enter(room_api, address, Trigger::Send).await?;
            room_api.is_encrypted(&id).await
        };
        let is_encrypted = self.connection.note_rejection(within_enter_timeout(asked).await)?;
        self.rooms.kinds.note(address, is_encrypted);
        match &open.mode {
            _ if !is_encrypted => shared.confirmed_device().await,
            SessionMode::WithKeys(_) => self.connection.confirmed_device().await,
            SessionMode::WithoutKeys(why) => Err(errors::send_error(Reason::KeysNotReady, why.advice())),
        }
    }
}
