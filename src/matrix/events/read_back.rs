//! Reading a room back, to find out which of our events are in it.

use std::{collections::HashSet, time::Duration};

use matrix_sdk::{
    Room,
    deserialized_responses::{TimelineEvent, TimelineEventKind},
    room::MessagesOptions,
    ruma::{
        OwnedRoomId, UserId,
        api::client::{filter::RoomEventFilter, message::get_message_events::v3 as get_messages},
        events::room::encrypted::OriginalSyncRoomEncryptedEvent,
        uint,
    },
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    delivery::{CONTENT_KEY, OwnEvent, ReadBack, Search},
    matrix::{
        Account,
        api::errors,
        session::{mode::SessionMode, without_keys::TokenApi},
    },
    model::{IncidentId, Reason, RoomAddress, Scope, SendError, TxnId},
};

/// All pages together must be read within this; each has the time limit of any request besides.
const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Pages of a hundred events that are read at most.
const PAGES: usize = 50;

impl Account {
    pub(crate) async fn read_room_back(
        &self,
        address: &RoomAddress,
        search: Search<'_>,
    ) -> Result<ReadBack, SendError> {
        self.await_link().await?;
        let open = self.open.read().await;
        let Some(open) = open.as_ref() else {
            return Err(errors::fault(Reason::NotReady, "not connected yet"));
        };
        let reading = async {
            let source = match &open.mode {
                SessionMode::WithKeys(client) => Source::WithKeys(self.room(client, address).await?),
                SessionMode::WithoutKeys(_) => {
                    let token_api = TokenApi { api: self.api()?, token: &open.session.token };
                    Source::TokenApi(token_api, self.room_without_keys(token_api, address).await?)
                }
            };
            self.read_pages(&source, address, search).await
        };
        let read = match timeout(READ_TIMEOUT, reading).await {
            Ok(read) => read,
            Err(_) => Err(errors::fault(Reason::NoAnswer, "the room could not be read in time")),
        };
        if read.as_ref().is_err_and(|error| error.reason == Reason::TokenRejected) {
            self.suspect.notify_one();
        }
        read
    }

    async fn read_pages(
        &self,
        source: &Source<'_>,
        address: &RoomAddress,
        search: Search<'_>,
    ) -> Result<ReadBack, SendError> {
        let user = UserId::parse(&self.setup.config.user_id)
            .map_err(|error| errors::fault(Reason::NotReady, format!("matrix.user_id is not a user id: {error}")))?;
        let mut found = ReadBack::default();
        let mut asked = HashSet::new();
        let mut from = None;
        for _ in 0..PAGES {
            let page = match self.read_page(source, &user, from, &mut asked).await {
                Ok(page) => page,
                // We are in the room, and it does not let us read: that will not change by waiting.
                Err(error) if matches!(error.reason.scope(), Scope::Room | Scope::Event) => {
                    tracing::debug!(room = %address, reason = %error, "the room cannot be read back");
                    return Ok(found);
                }
                Err(error) => return Err(error),
            };
            for event in &page.events {
                // Where the SDK fails it hands the event on as it came.
                let is_open = event["type"] != "m.room.encrypted";
                if take_json(event, is_open, user.as_str(), search, &mut found.events) {
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
        asked: &mut HashSet<String>,
    ) -> Result<Page, SendError> {
        match source {
            Source::WithKeys(room) => {
                let page = room.messages(options(user, from)).await.map_err(|error| errors::sdk(&error).error)?;
                let mut events = Vec::with_capacity(page.chunk.len());
                for event in page.chunk {
                    let event = self.opened(room, event, asked).await;
                    events.extend(event.raw().deserialize_as_unchecked::<Value>().ok());
                }
                Ok(Page { events, end: page.end })
            }
            Source::TokenApi(token_api, room) => {
                let mut request = get_messages::Request::backward(room.clone());
                let MessagesOptions { limit, filter, .. } = options(user, None);
                (request.from, request.limit, request.filter) = (from, limit, filter);
                let page = token_api.messages(request).await?;
                let events = page.chunk.iter().filter_map(|event| event.deserialize_as_unchecked::<Value>().ok());
                Ok(Page { events: events.collect(), end: page.end })
            }
        }
    }

    /// The event as it reads with a key from the backup, if the key is not here: another device of ours had it.
    async fn opened(&self, room: &Room, event: TimelineEvent, asked: &mut HashSet<String>) -> TimelineEvent {
        let TimelineEventKind::UnableToDecrypt { utd_info, .. } = &event.kind else { return event };
        let Some(session) = utd_info.session_id.clone() else { return event };
        let raw = event.raw().cast_ref_unchecked::<OriginalSyncRoomEncryptedEvent>();
        if asked.insert(session.clone()) {
            // On a new device the recovery key is what leads to the backup.
            self.await_backup(&room.client()).await;
            let backups = room.client().encryption().backups();
            match backups.download_room_key(room.room_id(), &session).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!("no key backup to read an own event with"),
                Err(error) => tracing::debug!(error = errors::sdk(&error).error.detail, "no key in the backup"),
            }
        }
        room.decrypt_event(raw, None).await.unwrap_or_else(|_| event.clone())
    }
}

/// Where a room is read from.
enum Source<'a> {
    WithKeys(Room),
    TokenApi(TokenApi<'a>, OwnedRoomId),
}

struct Page {
    /// Decrypted where that can be done, the newest first.
    events: Vec<Value>,
    end: Option<String>,
}

fn options(user: &UserId, from: Option<String>) -> MessagesOptions {
    let mut filter = RoomEventFilter::default();
    // Others' clocks must not end the search, and a busy room is read in few pages.
    filter.senders = Some(vec![user.to_owned()]);
    filter.types = Some(vec!["m.room.message".to_owned(), "m.room.encrypted".to_owned()]);
    let mut options = MessagesOptions::backward();
    options.limit = uint!(100);
    options.from = from;
    options.filter = filter;
    options
}

/// Notes the event if it is ours; `true`: the search ends here.
fn take_json(json: &Value, is_open: bool, user: &str, search: Search<'_>, found: &mut Vec<OwnEvent>) -> bool {
    // Not every homeserver heeds every filter.
    let (Some(event_id), true) = (json["event_id"].as_str(), json["sender"] == user) else { return false };
    // By the homeserver's own clock at both ends. One that does not say ends no search.
    let age = json["unsigned"]["age"].as_u64().map(Duration::from_millis);
    if search.after == Some(event_id) || age.is_some_and(|age| age > search.older_than) {
        return true;
    }
    let content = &json["content"];
    let word = |key: &str| content[CONTENT_KEY][key].as_str().map(ToOwned::to_owned);
    let transaction = || json["unsigned"]["transaction_id"].as_str().map(ToOwned::to_owned);
    let op = word("op").or_else(transaction).map(TxnId);
    let redacted = content.as_object().is_none_or(serde_json::Map::is_empty);
    // Without our key, but readable: the account's owner has used it for something else.
    if op.is_none() && is_open && !redacted {
        return false;
    }
    let is_wanted = op.is_some() && op.as_ref() == search.wanted;
    found.push(OwnEvent {
        event_id: event_id.to_owned(),
        op,
        incident: word("incident").map(IncidentId),
        starts_card: is_open && !redacted && content.get("m.relates_to").is_none(),
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

    fn taken(json: &Value, is_open: bool) -> (bool, Vec<OwnEvent>) {
        let wanted = TxnId("wanted".to_owned());
        let search = Search { wanted: Some(&wanted), after: Some("$last"), older_than: Duration::from_mins(1) };
        let mut found = Vec::new();
        let ends = take_json(json, is_open, "@bot:x", search, &mut found);
        (ends, found)
    }

    #[test]
    fn what_ends_a_search() {
        assert!(taken(&message("$last", "other"), true).0, "the last recorded event");
        assert!(taken(&message("$1", "wanted"), true).0, "the one that is looked for");
        let mut old = message("$1", "other");
        old["unsigned"]["age"] = 60_001.into();
        assert_eq!(taken(&old, true), (true, Vec::new()));
        old["sender"] = "@other:x".into();
        assert_eq!(taken(&old, true), (false, Vec::new()), "others' events do not count");
        for ts in [0_i64, 4_000_000_000_000] {
            let mut odd = message("$1", "other");
            odd["origin_server_ts"] = ts.into();
            assert!(!taken(&odd, true).0, "the time of day is the homeserver's own affair");
        }
        let mut ageless = message("$1", "other");
        ageless["unsigned"] = json!({});
        assert!(!taken(&ageless, true).0);
        assert!(!taken(&message("$1", "other"), true).0);
    }

    #[test]
    fn whose_an_event_is() {
        let of = |json: &Value, is_open| taken(json, is_open).1.pop();
        let plain = of(&message("$1", "t"), true).unwrap();
        assert_eq!((plain.op, plain.starts_card), (Some(TxnId("t".to_owned())), true));
        let mut reply = message("$1", "t");
        reply["content"]["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": "$0" });
        assert!(!of(&reply, true).unwrap().starts_card);
        let mut foreign = message("$1", "t");
        foreign["content"] = json!({ "body": "typed by hand" });
        assert_eq!(of(&foreign, true), None);
        // Nobody can say whose these are, unless the homeserver does.
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
