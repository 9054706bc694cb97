//! Whether an event of ours is still in its room.

use std::time::Duration;

use matrix_sdk::ruma::{EventId, RoomId};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    delivery::EventPresence,
    matrix::{
        api::errors,
        context::Context,
        rooms::{Rooms, entry::Trigger, room_api::RoomApi},
        session::connection::Connection,
    },
    model::{RoomAddress, SendError},
};

const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn event_presence(
    context: &Context,
    connection: &Connection,
    rooms: &Rooms,
    address: &RoomAddress,
    event: &str,
) -> Result<EventPresence, SendError> {
    let open = connection.session().await?;
    let request = async {
        let Ok(event) = EventId::parse(event) else { return Ok(EventPresence::Unknown) };
        let room_api = RoomApi::new(context, &open)?;
        let room = rooms.enter(room_api, address, Trigger::Send).await?;
        let found = room_api.token_api.event(&room, &event).await?;
        let present = found.is_some_and(|json| !is_redacted(&json) && is_in(&json, &room));
        Ok(if present { EventPresence::Present } else { EventPresence::Missing })
    };
    connection.note_rejection(timeout(TIMEOUT, request).await.unwrap_or_else(|_| Err(errors::no_answer())))
}

/// Dendrite finds an event whatever room the request names; the event has its own room.
fn is_in(json: &Value, room: &RoomId) -> bool {
    json.get("room_id").is_none_or(|id| id == room.as_str())
}

fn is_redacted(json: &Value) -> bool {
    json["unsigned"].get("redacted_because").is_some()
        || json["content"].as_object().is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_redacted_event_is_detected() {
        assert!(is_redacted(&json!({ "content": {} })));
        assert!(is_redacted(&json!({ "content": { "body": "b" }, "unsigned": { "redacted_because": {} } })));
        assert!(!is_redacted(&json!({ "content": { "body": "b" }, "unsigned": {} })));
        assert!(!is_redacted(&json!({ "content": { "ciphertext": "c" } })));
    }

    #[test]
    fn an_event_of_another_room_is_not_in_this_one() {
        let room = <&RoomId>::try_from("!new:x").unwrap();
        assert!(is_in(&json!({ "room_id": "!new:x" }), room));
        assert!(is_in(&json!({ "content": {} }), room), "not said");
        assert!(!is_in(&json!({ "room_id": "!old:x" }), room));
    }
}
