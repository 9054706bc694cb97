//! Reading a room back, to find out which events of ours it has.

use std::{collections::HashSet, time::Duration};

use matrix_sdk::{
    Room,
    deserialized_responses::{TimelineEvent, TimelineEventKind},
    room::MessagesOptions,
    ruma::{
        OwnedRoomId, UserId, api::client::message::get_message_events::v3 as get_messages,
        events::room::encrypted::OriginalSyncRoomEncryptedEvent, uint,
    },
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    delivery::{CONTENT_KEY, OwnEvent, ReadBack, Search},
    matrix::{
        api::{client::parse_user, errors, errors::ApiError, token_api::TokenApi},
        context::Context,
        encryption::upkeep::TrustUpkeep,
        rooms::{Rooms, entry::Trigger, room_api::RoomApi},
        session::connection::Connection,
    },
    model::{IncidentId, Reason, RoomAddress, Scope, SendError, TxnId},
};

/// The time limit for all pages together; each page also has that of any request.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// The most pages of a hundred events that are read.
const MAX_PAGES: usize = 50;

/// Reads rooms back.
pub(crate) struct Reader<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
    pub rooms: &'a Rooms,
    pub trust: &'a TrustUpkeep,
}

impl Reader<'_> {
    pub async fn read_back(self, address: &RoomAddress, search: Search<'_>) -> Result<ReadBack, SendError> {
        let open = self.connection.session().await?;
        let reading = async {
            let room_api = RoomApi::new(self.context, &open)?;
            let id = self.rooms.enter(room_api, address, Trigger::Send).await?;
            let source = match room_api.client {
                Some(client) => Source::WithKeys(
                    client.get_room(&id).ok_or_else(|| errors::send_error(Reason::NotReady, "not in the room yet"))?,
                ),
                None => Source::WithoutKeys(room_api.token_api, id),
            };
            self.read_pages(&source, address, search).await
        };
        let too_slow = || Err(errors::send_error(Reason::NoAnswer, "the room could not be read in time"));
        self.connection.note_rejection(timeout(READ_TIMEOUT, reading).await.unwrap_or_else(|_| too_slow()))
    }

    async fn read_pages(
        &self,
        source: &Source<'_>,
        address: &RoomAddress,
        search: Search<'_>,
    ) -> Result<ReadBack, SendError> {
        let user = parse_user(&self.context.config.user_id)?;
        let mut found = ReadBack::default();
        let mut requested = HashSet::new();
        let mut from = None;
        for _ in 0..MAX_PAGES {
            let page = match self.read_page(source, &user, from, &mut requested).await {
                Ok(page) => page,
                // The account is in the room and may not read it: waiting does not change that.
                Err(error) if matches!(error.reason.scope(), Scope::Room | Scope::Event) => {
                    tracing::debug!(room = %address, reason = %error, "cannot read the room back");
                    return Ok(found);
                }
                Err(error) => return Err(error),
            };
            for event in page.events.iter().filter(|event| is_message(event)) {
                // Events that the SDK cannot decrypt stay encrypted.
                let is_readable = event["type"] != "m.room.encrypted";
                if take_event(event, is_readable, user.as_str(), search, &mut found.events) {
                    found.complete = true;
                    return Ok(found);
                }
            }
            from = page.end;
            if from.is_none() {
                found.complete = true;
                return Ok(found);
            }
        }
        Ok(found)
    }

    async fn read_page(
        &self,
        source: &Source<'_>,
        user: &UserId,
        from: Option<String>,
        requested: &mut HashSet<String>,
    ) -> Result<Page, SendError> {
        match source {
            Source::WithKeys(room) => {
                let page = room.messages(self.options(user, from)).await;
                let page = page.map_err(|error| ApiError::from_sdk(&error).error)?;
                let mut events = Vec::with_capacity(page.chunk.len());
                // What others sent needs no keys.
                for event in page.chunk.into_iter().filter(|event| event.sender().as_deref() == Some(user)) {
                    let event = self.decrypted(room, event, requested).await;
                    events.extend(event.raw().deserialize_as_unchecked::<Value>().ok());
                }
                Ok(Page { events, end: page.end })
            }
            Source::WithoutKeys(token_api, room) => {
                let mut request = get_messages::Request::backward(room.clone());
                let MessagesOptions { limit, filter, .. } = self.options(user, None);
                (request.from, request.limit, request.filter) = (from, limit, filter);
                let page = token_api.messages(request).await?;
                let events = page.chunk.iter().filter_map(|event| event.deserialize_as_unchecked::<Value>().ok());
                Ok(Page { events: events.collect(), end: page.end })
            }
        }
    }

    fn options(&self, user: &UserId, from: Option<String>) -> MessagesOptions {
        let mut options = MessagesOptions::backward();
        options.limit = uint!(100);
        options.from = from;
        // A busy room takes fewer pages. Dendrite applies a filter to each hundred events of the room, and says that the
        // room ends where nothing of them is left.
        if self.connection.is_synapse() {
            options.filter.senders = Some(vec![user.to_owned()]);
            options.filter.types = Some(vec!["m.room.message".to_owned(), "m.room.encrypted".to_owned()]);
        }
        options
    }

    /// Decrypts an event with a key from the backup if the key is not here: an earlier device of ours sent it.
    async fn decrypted(&self, room: &Room, event: TimelineEvent, requested: &mut HashSet<String>) -> TimelineEvent {
        let TimelineEventKind::UnableToDecrypt { utd_info, .. } = &event.kind else { return event };
        let Some(session) = utd_info.session_id.clone() else { return event };
        let raw = event.raw().cast_ref_unchecked::<OriginalSyncRoomEncryptedEvent>();
        if requested.insert(session.clone()) {
            // A new device gets to the backup by the recovery key.
            self.trust.wait_for_backup(&room.client()).await;
            let backups = room.client().encryption().backups();
            match backups.download_room_key(room.room_id(), &session).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!("no key backup for an own event"),
                Err(error) => tracing::debug!(error = ApiError::from_sdk(&error).error.detail, "no key in the backup"),
            }
        }
        room.decrypt_event(raw, None).await.unwrap_or_else(|_| event.clone())
    }
}

/// How a room is read.
enum Source<'a> {
    WithKeys(Room),
    WithoutKeys(TokenApi<'a>, OwnedRoomId),
}

struct Page {
    /// Decrypted if possible, the newest first.
    events: Vec<Value>,
    end: Option<String>,
}

/// Not every homeserver applies every filter.
fn is_message(json: &Value) -> bool {
    json.get("state_key").is_none() && json["type"] != "m.room.redaction"
}

/// Takes the event if it is ours; `true`: the search ends here.
fn take_event(json: &Value, is_readable: bool, user: &str, search: Search<'_>, found: &mut Vec<OwnEvent>) -> bool {
    let (Some(event_id), true) = (json["event_id"].as_str(), json["sender"] == user) else { return false };
    // The age is measured by the homeserver's clock alone. An event without one does not end the search.
    let age = json["unsigned"]["age"].as_u64().map(Duration::from_millis);
    if search.after == Some(event_id) || age.is_some_and(|age| age > search.older_than) {
        return true;
    }
    let content = &json["content"];
    let word = |key: &str| content[CONTENT_KEY][key].as_str().map(ToOwned::to_owned);
    let transaction = || json["unsigned"]["transaction_id"].as_str().map(ToOwned::to_owned);
    let op = word("op").or_else(transaction).map(TxnId);
    let redacted = content.as_object().is_none_or(serde_json::Map::is_empty);
    // Readable, but without our key: the account's owner has sent it with another client.
    if op.is_none() && is_readable && !redacted {
        return false;
    }
    let is_wanted = op.is_some() && op.as_ref() == search.wanted;
    found.push(OwnEvent {
        event_id: event_id.to_owned(),
        op,
        incident: word("incident").map(IncidentId),
        starts_card: is_readable && !redacted && content.get("m.relates_to").is_none(),
    });
    is_wanted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(id: &str, op: &str) -> Value {
        json!({
            "event_id": id, "sender": "@bot:x", "origin_server_ts": 1_000, "type": "m.room.message",
            "content": { "body": "b", CONTENT_KEY: { "op": op, "incident": "i" } }, "unsigned": { "age": 30_000 }
        })
    }

    fn taken(json: &Value, is_readable: bool) -> (bool, Vec<OwnEvent>) {
        let wanted = TxnId("wanted".to_owned());
        let search = Search { wanted: Some(&wanted), after: Some("$last"), older_than: Duration::from_mins(1) };
        let mut found = Vec::new();
        let ends = take_event(json, is_readable, "@bot:x", search, &mut found);
        (ends, found)
    }

    #[test]
    fn what_ends_a_search() {
        assert!(taken(&message("$last", "other"), true).0, "the last recorded event");
        assert!(taken(&message("$1", "wanted"), true).0, "the searched one");
        let mut old = message("$1", "other");
        old["unsigned"]["age"] = 60_001.into();
        assert_eq!(taken(&old, true), (true, Vec::new()));
        old["sender"] = "@other:x".into();
        assert_eq!(taken(&old, true), (false, Vec::new()), "events of others do not count");
        for ts in [0_i64, 4_000_000_000_000] {
            let mut odd = message("$1", "other");
            odd["origin_server_ts"] = ts.into();
            assert!(!taken(&odd, true).0, "the homeserver's time of day does not matter");
        }
        let mut ageless = message("$1", "other");
        ageless["unsigned"] = json!({});
        assert!(!taken(&ageless, true).0);
        assert!(!taken(&message("$1", "other"), true).0);
    }

    #[test]
    fn which_op_an_event_belongs_to() {
        let of = |json: &Value, is_readable| taken(json, is_readable).1.pop();
        let plain = of(&message("$1", "t"), true).unwrap();
        assert_eq!((plain.op, plain.starts_card), (Some(TxnId("t".to_owned())), true));
        let mut reply = message("$1", "t");
        reply["content"]["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": "$0" });
        assert!(!of(&reply, true).unwrap().starts_card);
        let mut foreign = message("$1", "t");
        foreign["content"] = json!({ "body": "typed by hand" });
        assert_eq!(of(&foreign, true), None);
        // Only the homeserver can say which op these belong to.
        let mut closed = message("$1", "t");
        closed["content"] = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
        assert_eq!(of(&closed, false).unwrap().op, None);
        closed["unsigned"]["transaction_id"] = "t".into();
        assert_eq!(of(&closed, false).unwrap().op, Some(TxnId("t".to_owned())));
        let mut redacted = message("$1", "t");
        redacted["content"] = json!({});
        assert_eq!(of(&redacted, true).unwrap().op, None);
    }
}
