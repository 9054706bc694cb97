//! Whether events of ours still are in their rooms: what syncs tell of redactions, and asking for one event.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use matrix_sdk::{
    ruma::{
        EventId, OwnedEventId, OwnedRoomId, RoomId,
        api::{auth_scheme::SendAccessToken, client::room::get_room_event::v3 as get_room_event, error::ErrorKind},
    },
    sync::{RoomUpdates, Timeline},
};
use serde_json::Value;
use tokio::time::timeout;

use super::Rooms;
use crate::{
    delivery::{EventPresence, RoomChanges},
    matrix::{
        Account,
        api::{client::Refusal, errors},
        lock,
        session::{mode::SessionMode, without_keys::TokenApi},
    },
    model::{Reason, RoomAddress, SendError},
};

/// Asking for one event must be over within this.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Redactions of one room that are kept for its lane; more of them are a gap.
const MAX_REDACTED: usize = 1_000;

/// What syncs told of the configured rooms, until the lanes take it.
#[derive(Default)]
pub(crate) struct ObservedRooms {
    seen: Mutex<HashMap<RoomAddress, Seen>>,
}

struct Seen {
    /// The room behind the address when it was entered last.
    id: OwnedRoomId,
    news: RoomChanges,
}

impl ObservedRooms {
    pub fn set_room(&self, address: &RoomAddress, id: &RoomId) {
        let mut seen = lock(&self.seen);
        match seen.get_mut(address) {
            Some(known) if known.id == id => {}
            Some(known) => {
                *known = Seen { id: id.to_owned(), news: RoomChanges { gap: true, ..RoomChanges::default() } }
            }
            None => {
                seen.insert(address.clone(), Seen { id: id.to_owned(), news: RoomChanges::default() });
            }
        }
    }

    pub fn observe(&self, updates: &RoomUpdates) {
        for seen in lock(&self.seen).values_mut() {
            if let Some(update) = updates.joined.get(&seen.id) {
                observe_timeline(&mut seen.news, &update.timeline);
            }
        }
    }

    pub fn take(&self, address: &RoomAddress) -> RoomChanges {
        lock(&self.seen).get_mut(address).map(|seen| std::mem::take(&mut seen.news)).unwrap_or_default()
    }
}

fn observe_timeline(news: &mut RoomChanges, timeline: &Timeline) {
    news.gap |= timeline.limited;
    for event in &timeline.events {
        let redacts = event.raw().deserialize_as_unchecked::<Value>().ok().and_then(|json| redacted_by(&json));
        news.redacted.extend(redacts);
    }
    if news.redacted.len() > MAX_REDACTED {
        *news = RoomChanges { gap: true, ..RoomChanges::default() };
    }
}

/// The event that this one redacts. Room versions before 11 have it outside of the content.
fn redacted_by(json: &Value) -> Option<String> {
    if json["type"] != "m.room.redaction" {
        return None;
    }
    json["content"]["redacts"].as_str().or_else(|| json["redacts"].as_str()).map(ToOwned::to_owned)
}

impl Rooms {
    pub fn take_redactions(&self, address: &RoomAddress) -> RoomChanges {
        self.observed.take(address)
    }
}

impl Account {
    pub(crate) async fn event_presence_in(
        &self,
        address: &RoomAddress,
        event: &str,
    ) -> Result<EventPresence, SendError> {
        self.await_link().await?;
        let open = self.open.read().await;
        let Some(open) = open.as_ref() else {
            return Err(errors::fault(Reason::NotReady, "not connected yet"));
        };
        let look = async {
            let Ok(event) = EventId::parse(event) else { return Ok(EventPresence::Unknown) };
            let (room, answer) = match &open.mode {
                SessionMode::WithKeys(client) => {
                    let room = self.room(client, address).await?.room_id().to_owned();
                    let answer = client.send(request(&room, event)).await.map_err(Refusal::from);
                    (room, answer)
                }
                SessionMode::WithoutKeys(_) => {
                    let token_api = TokenApi { api: self.api()?, token: &open.session.token };
                    let room = self.room_without_keys(token_api, address).await?;
                    let answer =
                        token_api.api.ask(request(&room, event), SendAccessToken::IfRequired(token_api.token)).await;
                    (room, answer)
                }
            };
            judge(&room, answer)
        };
        let seen = match timeout(TIMEOUT, look).await {
            Ok(seen) => seen,
            Err(_) => Err(errors::fault(Reason::NoAnswer, "no answer in time")),
        };
        if seen.as_ref().is_err_and(|error| error.reason == Reason::TokenRejected) {
            self.suspect.notify_one();
        }
        seen
    }
}

fn request(room: &RoomId, event: OwnedEventId) -> get_room_event::Request {
    get_room_event::Request::new(room.to_owned(), event)
}

fn judge(room: &RoomId, answer: Result<get_room_event::Response, Refusal>) -> Result<EventPresence, SendError> {
    match answer {
        Ok(answer) => {
            let json = answer.event.deserialize_as_unchecked::<Value>().unwrap_or_default();
            let gone = is_redacted(&json) || !is_in(&json, room);
            Ok(if gone { EventPresence::Missing } else { EventPresence::Present })
        }
        Err(error) if error.kind() == Some(&ErrorKind::NotFound) => Ok(EventPresence::Missing),
        Err(error) => Err(error.fault().error),
    }
}

/// Dendrite finds an event whatever room it is asked for in; the event says where it is.
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
    fn what_a_redaction_takes_away() {
        let old = json!({ "type": "m.room.redaction", "redacts": "$1", "content": {} });
        let new = json!({ "type": "m.room.redaction", "content": { "redacts": "$2" } });
        let other = json!({ "type": "m.room.message", "content": { "redacts": "$3" } });
        assert_eq!([&old, &new, &other].map(redacted_by), [Some("$1".to_owned()), Some("$2".to_owned()), None]);
    }

    #[test]
    fn how_a_redacted_event_is_told() {
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

    #[test]
    fn an_address_that_stands_for_another_room_is_a_gap() {
        let (address, observed) = (RoomAddress::parse("#ops:x").unwrap(), ObservedRooms::default());
        let (old, new) = (<&RoomId>::try_from("!old:x").unwrap(), <&RoomId>::try_from("!new:x").unwrap());
        observed.set_room(&address, old);
        observed.set_room(&address, old);
        assert!(!observed.take(&address).gap);
        observed.set_room(&address, new);
        assert!(observed.take(&address).gap);
        assert!(!observed.take(&address).gap, "told once");
    }
}
