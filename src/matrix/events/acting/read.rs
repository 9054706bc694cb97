//! Asks the homeserver about a user, for what a room said since an event, and for one event.

use std::{collections::BTreeSet, time::Duration};

use matrix_sdk::{
    Room,
    ruma::{
        EventId, OwnedRoomId, RoomId,
        api::client::{filter::RoomEventFilter, message::get_message_events::v3 as get_messages},
        events::StateEventType,
        uint,
    },
};
use serde_json::Value;
use tokio::time::timeout;

use super::{Acting, convert::age_of, decrypt::Decryption};
use crate::{
    matrix::{
        api::{client::parse_user, errors, token_api::TokenApi},
        context::Context,
        encryption::upkeep::TrustUpkeep,
        rooms::{
            Rooms,
            entry::Trigger,
            power::{Create, Power, Powers},
            room_api::RoomApi,
        },
        session::connection::Connection,
    },
    model::{Member, Reason, RoomAddress, RoomEvent, RoomEvents, SendError, Timestamp},
};

/// What is older, by the homeserver's word, is not read back: nobody waits for it any more.
const OLDEST: Duration = Duration::from_hours(1);
/// The most events of others that are read back.
const MAX_EVENTS: usize = 1_000;
/// The most pages of a hundred events.
const MAX_PAGES: usize = 20;
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const TIMEOUT: Duration = Duration::from_secs(20);
/// The longest display name that is kept.
const NAME: usize = 255;

/// Asks about rooms from which people act.
pub(crate) struct RoomReader<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
    pub rooms: &'a Rooms,
    pub trust: &'a TrustUpkeep,
    pub acting: &'a Acting,
}

impl RoomReader<'_> {
    pub async fn member(self, address: &RoomAddress, user: &str) -> Result<Member, SendError> {
        let open = self.connection.session().await?;
        let request = async {
            let room_api = RoomApi::new(self.context, &open)?;
            let id = self.rooms.enter(room_api, address, Trigger::Send).await?;
            member(room_api.token_api, &id, user).await
        };
        self.connection.note_rejection(within(TIMEOUT, request).await)
    }

    pub async fn read_since(self, address: &RoomAddress, position: &str) -> Result<RoomEvents, SendError> {
        let open = self.connection.session().await?;
        let request = async {
            let room_api = RoomApi::new(self.context, &open)?;
            let (id, room) = self.room(room_api, address).await?;
            let is_encrypted = room.encryption_state().is_encrypted();
            let (found, gap) = self.pages(room_api.token_api, &id, position).await?;
            let prefixes = self.acting.prefixes(address);
            let (own, wall) = (&self.context.config.user_id, self.context.clock.wall());
            let mut decryption = Decryption::new(&room, self.trust, own, &prefixes, wall);
            let mut events = Vec::with_capacity(found.len());
            for json in found.iter().rev() {
                events.extend(decryption.read(json).await);
            }
            Ok(RoomEvents { room: address.clone(), room_id: id.to_string(), is_encrypted, events, gap })
        };
        self.connection.note_rejection(within(READ_TIMEOUT, request).await)
    }

    pub async fn event(self, address: &RoomAddress, event: &str) -> Result<Option<RoomEvent>, SendError> {
        let open = self.connection.session().await?;
        let request = async {
            let Ok(event) = EventId::parse(event) else { return Ok(None) };
            let room_api = RoomApi::new(self.context, &open)?;
            let (id, room) = self.room(room_api, address).await?;
            let Some(json) = room_api.token_api.event(&id, &event).await? else { return Ok(None) };
            // Dendrite finds an event whatever room the request names.
            if json.get("room_id").is_some_and(|room| room != id.as_str()) {
                return Ok(None);
            }
            let prefixes: BTreeSet<String> = self.acting.prefixes(address);
            let (own, wall) = (&self.context.config.user_id, self.context.clock.wall());
            Ok(Decryption::new(&room, self.trust, own, &prefixes, wall).read(&json).await)
        };
        self.connection.note_rejection(within(TIMEOUT, request).await)
    }

    /// The room behind the address, once a sync has brought the keys of what was said in it.
    async fn room(&self, room_api: RoomApi<'_>, address: &RoomAddress) -> Result<(OwnedRoomId, Room), SendError> {
        let not_ready = |text| errors::send_error(Reason::NotReady, text);
        let client = room_api.client.ok_or_else(|| not_ready("this session has no syncs, so nothing acts"))?;
        if !self.rooms.is_synced() {
            return Err(not_ready("no sync has succeeded yet"));
        }
        let id = self.rooms.enter(room_api, address, Trigger::Send).await?;
        let room = client.get_room(&id).ok_or_else(|| not_ready("not in the room yet"))?;
        Ok((id, room))
    }

    /// The events of others since `position`, the newest first, and whether some were left out.
    async fn pages(
        &self,
        token_api: TokenApi<'_>,
        room: &RoomId,
        position: &str,
    ) -> Result<(Vec<Value>, bool), SendError> {
        let own = parse_user(&self.context.config.user_id)?;
        let mut filter = RoomEventFilter::default();
        // The position may be any event of others, so types are not chosen here. Dendrite says that the room ends where a
        // filter leaves nothing of a hundred events.
        if self.connection.is_synapse() {
            filter.not_senders = vec![own.clone()];
        }
        let (mut found, mut from) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let mut request = get_messages::Request::backward(room.to_owned());
            (request.from, request.limit, request.filter) = (from, uint!(100), filter.clone());
            let page = token_api.messages(request).await?;
            let events = page.chunk.iter().filter_map(|event| event.deserialize_as_unchecked::<Value>().ok());
            let wall = self.context.clock.wall();
            for json in events {
                match place(&json, own.as_str(), position, found.len(), wall) {
                    Place::Since => found.push(json),
                    Place::Own => {}
                    Place::Position => return Ok((found, false)),
                    Place::Beyond => return Ok((found, true)),
                }
            }
            // Dendrite goes on with tokens beyond the first event.
            match page.end.filter(|_| !page.chunk.is_empty()) {
                Some(end) => from = Some(end),
                None => return Ok((found, false)),
            }
        }
        Ok((found, true))
    }
}

/// Where an event stands, read backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Since,
    /// Not every homeserver applies every filter.
    Own,
    /// The event from which is read.
    Position,
    /// Too long ago, or one too many.
    Beyond,
}

fn place(json: &Value, own: &str, position: &str, found: usize, wall: Timestamp) -> Place {
    if json["event_id"] == position {
        Place::Position
    } else if json["sender"] == own {
        Place::Own
    } else if found >= MAX_EVENTS || age_of(json, wall).is_some_and(|age| age > OLDEST) {
        Place::Beyond
    } else {
        Place::Since
    }
}

async fn member(token_api: TokenApi<'_>, room: &RoomId, user: &str) -> Result<Member, SendError> {
    let (member, levels, create, encryption) = tokio::try_join!(
        token_api.state_of(room, StateEventType::RoomMember, user),
        token_api.state(room, StateEventType::RoomPowerLevels),
        token_api.create_event(room),
        token_api.state(room, StateEventType::RoomEncryption),
    )?;
    let create = create.ok_or_else(|| errors::send_error(Reason::RoomRefused, "the room has no create event"))?;
    Ok(judge(user, member.as_ref(), levels, &create, encryption.is_some()))
}

fn judge(user: &str, member: Option<&Value>, levels: Option<Value>, create: &Value, encrypted: bool) -> Member {
    let word = |key: &str| member.and_then(|content| content[key].as_str()).unwrap_or_default();
    let sender = create["sender"].as_str().map(ToOwned::to_owned);
    let powers = Powers { create: Create { sender, content: create["content"].clone() }, levels };
    let power = match powers.of(user) {
        Power::Level(level) => level,
        Power::Creator => i64::MAX,
    };
    let name = word("displayname");
    let end = (0..=NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    Member {
        is_joined: word("membership") == "join",
        power,
        name: name[..end].to_owned(),
        room_is_encrypted: encrypted,
    }
}

async fn within<T>(limit: Duration, request: impl Future<Output = Result<T, SendError>>) -> Result<T, SendError> {
    timeout(limit, request).await.unwrap_or_else(|_| Err(errors::no_answer()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_reading_back_ends() {
        const WALL: Timestamp = Timestamp(1_800_000_000_000);
        let event =
            |id: &str, sender: &str, age: u64| json!({ "event_id": id, "sender": sender, "unsigned": { "age": age } });
        let hour = 3_600_000;
        for (json, found, expected) in [
            (event("$1", "@a:x", 5), 0, Place::Since),
            (event("$position", "@a:x", 5), 0, Place::Position),
            (event("$position", "@a:x", 2 * hour), MAX_EVENTS, Place::Position),
            (event("$1", "@bot:x", 2 * hour), MAX_EVENTS, Place::Own),
            (event("$1", "@a:x", hour), MAX_EVENTS - 1, Place::Since),
            (event("$1", "@a:x", hour + 1), 0, Place::Beyond),
            (event("$1", "@a:x", 5), MAX_EVENTS, Place::Beyond),
            (json!({ "event_id": "$1", "sender": "@a:x" }), 0, Place::Since),
            // Dendrite says no age.
            (json!({ "event_id": "$1", "sender": "@a:x", "origin_server_ts": WALL.0 - 3_600_000 }), 0, Place::Since),
            (json!({ "event_id": "$1", "sender": "@a:x", "origin_server_ts": WALL.0 - 3_600_001 }), 0, Place::Beyond),
        ] {
            assert_eq!(place(&json, "@bot:x", "$position", found, WALL), expected, "{json} {found}");
        }
    }

    #[test]
    fn what_a_user_is() {
        let create = |version: &str| json!({ "sender": "@boss:x", "content": { "room_version": version } });
        let joined = json!({ "membership": "join", "displayname": "Ann" });
        let levels = || Some(json!({ "users": { "@a:x": 50 }, "users_default": 1 }));
        let power = |user: &str, levels, version| judge(user, Some(&joined), levels, &create(version), false).power;
        assert_eq!(power("@a:x", levels(), "11"), 50);
        assert_eq!(power("@b:x", levels(), "11"), 1);
        assert_eq!(power("@boss:x", levels(), "11"), 1);
        assert_eq!(power("@boss:x", levels(), "12"), i64::MAX);
        assert_eq!(power("@boss:x", None, "11"), 100);
        assert_eq!(power("@a:x", None, "11"), 0);
        let member = |content: Option<Value>| judge("@a:x", content.as_ref(), None, &create("11"), true);
        let known = member(Some(joined.clone()));
        assert!(known.is_joined && known.name == "Ann" && known.room_is_encrypted);
        assert!(!member(Some(json!({ "membership": "leave", "displayname": "Ann" }))).is_joined);
        assert!(!member(None).is_joined);
        let long = member(Some(json!({ "membership": "join", "displayname": "ä".repeat(200) })));
        assert_eq!(long.name.len(), 254);
    }
}
