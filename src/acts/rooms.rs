//! What acting needs of the Matrix account. `matrix/` implements it; the tests script a second one.

use std::{future::Future, pin::Pin};

use crate::model::{Member, RoomAddress, RoomEvents, SendError};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub trait Rooms: Send + Sync + 'static {
    /// What a user is in a room now, by the homeserver's word at this moment.
    ///
    /// # Errors
    /// When the homeserver cannot be asked for now.
    fn member<'a>(&'a self, room: &'a RoomAddress, user: &'a str) -> BoxFuture<'a, Result<Member, SendError>>;

    /// The events of others since `position`, oldest first, at most an hour and 1,000 events. `gap` is set in the answer if
    /// it was cut short.
    ///
    /// # Errors
    /// When the room cannot be read for now.
    fn read_since<'a>(
        &'a self,
        room: &'a RoomAddress,
        position: &'a str,
    ) -> BoxFuture<'a, Result<RoomEvents, SendError>>;

    /// Tries once more to decrypt an event.
    ///
    /// # Errors
    /// When the homeserver cannot be asked for now.
    fn event<'a>(
        &'a self,
        room: &'a RoomAddress,
        event: &'a str,
    ) -> BoxFuture<'a, Result<Option<crate::model::RoomEvent>, SendError>>;
}
