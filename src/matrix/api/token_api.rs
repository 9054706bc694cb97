//! Requests under a token that work without the SDK's keys: sending to a plain room, and asking about rooms.

use std::time::Duration;

use matrix_sdk::ruma::{
    EventId, OwnedRoomId, RoomId, TransactionId,
    api::{
        auth_scheme::SendAccessToken,
        client::{
            account::whoami,
            media::create_content::v3 as create_content,
            membership::{joined_rooms::v3 as joined_rooms, leave_room::v3 as leave},
            message::{get_message_events::v3 as get_messages, send_message_event::v3 as send_event},
            room::get_room_event::v3 as get_room_event,
            state::get_state_event_for_key::v3 as get_state,
        },
    },
    events::{AnyMessageLikeEventContent, MessageLikeEventType, StateEventType},
    serde::Raw,
};
use serde_json::Value;

use super::{
    client::{Api, RequestError},
    errors::{self, ApiError},
};
use crate::{
    delivery::FrozenEvent,
    model::{Reason, SendError},
};

/// The homeserver must answer a send within this.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(25);
/// Nothing else is sent while this is asked for.
const ASKED_WAIT_TIMEOUT: Duration = Duration::from_secs(3);

/// A token and the homeserver that it is for.
#[derive(Clone, Copy)]
pub(crate) struct TokenApi<'a> {
    pub api: &'a Api,
    pub token: &'a str,
}

impl TokenApi<'_> {
    pub fn token(&self) -> SendAccessToken<'_> {
        SendAccessToken::IfRequired(self.token)
    }

    pub async fn send(&self, room: &RoomId, event: FrozenEvent<'_>) -> Result<String, SendError> {
        let content = raw_content(event.content)?;
        let txn_id = <&TransactionId>::from(event.txn_id.as_str()).to_owned();
        let event_type = MessageLikeEventType::from(event.event_type);
        let request = send_event::Request::new_raw(room.to_owned(), txn_id, event_type, content);
        Ok(self.api.request_within(request, self.token(), SEND_TIMEOUT).await?.event_id.to_string())
    }

    /// How long the homeserver, or a proxy in front of it, wants to be left alone. Asked for after a request of the SDK, whose
    /// errors keep `Retry-After` only beside a `M_LIMIT_EXCEEDED`.
    pub async fn asked_wait(&self) -> Option<Duration> {
        let request = whoami::v3::Request::new();
        let refused = self.api.request_within(request, self.token(), ASKED_WAIT_TIMEOUT).await.err()?;
        ApiError::from(refused).error.retry_after
    }

    /// Uploads a file in the clear, and returns where it is (`mxc://…`).
    pub async fn upload(&self, mimetype: &str, bytes: &[u8], timeout: Duration) -> Result<String, SendError> {
        let mut request = create_content::Request::new(bytes.to_vec());
        request.content_type = Some(mimetype.to_owned());
        let place = self.api.request_within(request, self.token(), timeout).await?.content_uri;
        if place.is_valid() {
            return Ok(place.to_string());
        }
        Err(errors::send_error(Reason::Unreadable, "the homeserver names no place for the upload"))
    }

    pub async fn messages(&self, request: get_messages::Request) -> Result<get_messages::Response, SendError> {
        Ok(self.api.request(request, self.token()).await?)
    }

    /// The JSON of an event; `None` if the homeserver does not know it.
    pub async fn event(&self, room: &RoomId, event: &EventId) -> Result<Option<Value>, SendError> {
        let request = get_room_event::Request::new(room.to_owned(), event.to_owned());
        let found = self.api.request(request, self.token()).await;
        let json = found.map(|answer| answer.event.deserialize_as_unchecked::<Value>().unwrap_or_default());
        Ok(unless_not_found(json)?)
    }

    pub async fn is_encrypted(&self, room: &RoomId) -> Result<bool, SendError> {
        Ok(self.state(room, StateEventType::RoomEncryption).await?.is_some())
    }

    /// The content of a state event with an empty state key, if the room has one.
    pub async fn state(&self, room: &RoomId, kind: StateEventType) -> Result<Option<Value>, RequestError> {
        self.state_of(room, kind, "").await
    }

    /// The content of a state event, if the room has one.
    pub async fn state_of(
        &self,
        room: &RoomId,
        kind: StateEventType,
        key: &str,
    ) -> Result<Option<Value>, RequestError> {
        let request = get_state::Request::new(room.to_owned(), kind, key.to_owned());
        let found = self.api.request(request, self.token()).await;
        unless_not_found(found.map(|answer| serde_json::from_str(answer.event_or_content.get()).unwrap_or_default()))
    }

    /// The whole `m.room.create`, since its sender is the room's creator.
    pub async fn create_event(&self, room: &RoomId) -> Result<Option<Value>, RequestError> {
        let mut request = get_state::Request::new(room.to_owned(), StateEventType::RoomCreate, String::new());
        request.format = get_state::StateEventFormat::Event;
        let found = self.api.request(request, self.token()).await;
        unless_not_found(found.map(|answer| serde_json::from_str(answer.event_or_content.get()).unwrap_or_default()))
    }

    /// The rooms that the account has joined.
    pub async fn joined_rooms(&self) -> Result<Vec<OwnedRoomId>, SendError> {
        Ok(self.api.request(joined_rooms::Request::new(), self.token()).await?.joined_rooms)
    }

    /// Leaves a room, best effort.
    pub async fn leave(&self, room: &RoomId) {
        let _ = self.api.request(leave::Request::new(room.to_owned()), self.token()).await;
    }
}

/// The content of an event, byte for byte as it was frozen.
pub(crate) fn raw_content(content: &str) -> Result<Raw<AnyMessageLikeEventContent>, SendError> {
    Raw::from_json_string(content.to_owned())
        .map_err(|error| errors::send_error(Reason::BadEvent, format!("the content is not JSON: {error}")))
}

fn unless_not_found<T>(answer: Result<T, RequestError>) -> Result<Option<T>, RequestError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
