//! Finding, entering and asking about rooms, for a session with keys and for one without.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use matrix_sdk::{
    Client, OwnedServerName, RoomState, ServerName,
    ruma::{
        OwnedRoomId, RoomAliasId, RoomId, RoomOrAliasId, UserId,
        api::{
            client::{
                alias::get_alias::v3 as get_alias,
                filter::{Filter, FilterDefinition, RoomEventFilter, RoomFilter},
                membership::{
                    join_room_by_id_or_alias::v3 as join, joined_rooms::v3 as joined_rooms, leave_room::v3 as leave,
                },
                state::get_state_event_for_key::v3 as get_state,
                sync::sync_events::v3 as sync,
            },
            error::ErrorKind,
        },
        events::{StateEventType, room::member::MembershipState},
        presence::PresenceState,
        uint,
    },
};
use serde_json::Value;

use crate::{
    matrix::{api::errors, session::without_keys::TokenApi},
    model::{Reason, SendError},
};

/// A first sync of one room must be answered within this.
const SYNC_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a membership was asked for, which tells those requests apart.
static ASKED: AtomicU64 = AtomicU64::new(1);

/// How a session gets to rooms.
#[derive(Clone, Copy)]
pub(crate) struct RoomApi<'a> {
    pub token_api: TokenApi<'a>,
    /// `None`: nothing but bare requests.
    pub client: Option<&'a Client>,
}

/// What an alias leads to.
pub(crate) enum Lookup {
    Room(OwnedRoomId, Vec<OwnedServerName>),
    /// There is no such alias.
    Nothing(SendError),
}

/// The account's membership of a room.
pub(crate) enum Membership {
    Joined,
    /// Somebody else removed the account, and nobody invited it since: it stays out until somebody does.
    Removed(SendError),
    /// Invited, never there, or left by itself: a join is worth trying.
    Other,
}

impl Membership {
    fn of(own: &UserId, by: &UserId, state: &MembershipState, reason: Option<&str>) -> Self {
        let (what, advice) = match state {
            _ if by == own => return Self::Other,
            MembershipState::Join => return Self::Joined,
            MembershipState::Ban => ("banned", "lift the ban and invite it"),
            MembershipState::Leave => ("kicked", "invite it"),
            _ => return Self::Other,
        };
        let why = reason.map(|reason| format!(" ({})", errors::clean(reason))).unwrap_or_default();
        let text = format!("not joined: {what} by {by}{why}; {advice} again and it joins");
        Self::Removed(errors::fault(Reason::RoomRefused, text))
    }
}

impl RoomApi<'_> {
    /// # Errors
    /// When the directory does not say.
    pub async fn look_up(&self, alias: &RoomAliasId) -> Result<Lookup, SendError> {
        match self.token_api.api.ask(get_alias::Request::new(alias.to_owned()), self.token_api.token()).await {
            Ok(answer) => Ok(Lookup::Room(answer.room_id, answer.servers)),
            Err(error) => {
                let gone = error.kind() == Some(&ErrorKind::NotFound);
                let fault = error.fault().of_join();
                if gone { Ok(Lookup::Nothing(fault)) } else { Err(fault) }
            }
        }
    }

    /// Whether the account is in the room, as far as the last sync tells; never known without keys.
    pub fn is_in(&self, id: &RoomId) -> bool {
        self.client.and_then(|client| client.get_room(id)).is_some_and(|room| room.state() == RoomState::Joined)
    }

    /// The account's membership of a room that it does not seem to be in. With `lost` the homeserver is asked: the last
    /// sync may have said nothing.
    ///
    /// # Errors
    /// When the homeserver does not say.
    pub async fn membership(&self, id: &RoomId, lost: bool) -> Result<Membership, SendError> {
        let Some(client) = self.client else { return Ok(Membership::Other) };
        let room = client.get_room(id);
        // Syncs do report an invitation.
        if lost && room.as_ref().is_none_or(|room| room.state() != RoomState::Invited) {
            return self.ask_membership(id).await;
        }
        let Some(room) = room.filter(|room| matches!(room.state(), RoomState::Left | RoomState::Banned)) else {
            return Ok(Membership::Other);
        };
        let Ok(Some(own)) = room.get_member_no_sync(room.own_user_id()).await else { return Ok(Membership::Other) };
        let event = own.event();
        Ok(Membership::of(room.own_user_id(), event.sender(), own.membership(), event.reason()))
    }

    /// Asks with a first sync of that room alone, which takes nothing away from the syncs of the session. The state of
    /// a room cannot be asked for by an account that was banned from it.
    async fn ask_membership(&self, id: &RoomId) -> Result<Membership, SendError> {
        let mut room = RoomFilter::empty();
        room.rooms = Some(vec![id.to_owned()]);
        room.include_leave = true;
        room.ephemeral = RoomEventFilter::ignore_all();
        room.account_data = RoomEventFilter::ignore_all();
        room.state = RoomEventFilter::ignore_all();
        room.timeline.types = Some(vec!["m.room.member".to_owned()]);
        // Its own removal is the last thing that an account sees of a room.
        room.timeline.limit = Some(uint!(1));
        let mut filter = FilterDefinition::empty();
        filter.presence = Filter::ignore_all();
        filter.account_data = Filter::ignore_all();
        filter.room = room;
        let mut request = sync::Request::new();
        request.filter = Some(sync::Filter::FilterDefinition(filter));
        request.set_presence = PresenceState::Offline;
        // Synapse answers an identical request from a cache for two minutes. A first sync does not wait, so this is free.
        request.timeout = Some(Duration::from_millis(ASKED.fetch_add(1, Ordering::Relaxed)));
        let answer = self.token_api.api.ask_within(request, self.token_api.token(), SYNC_TIMEOUT).await;
        let rooms = answer.map_err(|error| error.fault().of_join())?.rooms;
        if rooms.join.contains_key(id) {
            return Ok(Membership::Joined);
        }
        let (Some(left), Some(own)) = (rooms.leave.get(id), self.client.and_then(Client::user_id)) else {
            return Ok(Membership::Other);
        };
        let events = left.timeline.events.iter().filter_map(|event| event.deserialize_as_unchecked::<Value>().ok());
        let Some(event) = events.rev().find(|event| event["state_key"] == own.as_str()) else {
            return Ok(Membership::Other);
        };
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str);
        let Some(by) = text("/sender").and_then(|by| <&UserId>::try_from(by).ok()) else {
            return Ok(Membership::Other);
        };
        let membership = MembershipState::from(text("/content/membership").unwrap_or_default());
        Ok(Membership::of(own, by, &membership, text("/content/reason")))
    }

    /// The rooms that the account is in, as the homeserver says.
    pub async fn joined_rooms(&self) -> Result<Vec<OwnedRoomId>, SendError> {
        let answer = self.token_api.api.ask(joined_rooms::Request::new(), self.token_api.token()).await;
        answer.map(|answer| answer.joined_rooms).map_err(|error| error.fault().error)
    }

    /// Joins; an invitation is accepted by that, and who is in the room stays in it.
    pub async fn join(&self, id: &RoomId, mut via: Vec<OwnedServerName>) -> Result<(), SendError> {
        // Since room version 12 an id names no server.
        via.extend(id.server_name().map(ServerName::to_owned));
        let mut request = join::Request::new(<&RoomOrAliasId>::from(id).to_owned());
        request.via.clone_from(&via);
        let joined = self.token_api.api.ask(request, self.token_api.token()).await;
        joined.map_err(|error| error.fault().of_join())?;
        if let Some(client) = self.client {
            // The SDK learns it without waiting for a sync. Its own request comes second, since its errors keep no
            // `Retry-After`; to the homeserver it changes nothing.
            let joined = client.join_room_by_id_or_alias(id.into(), &via).await;
            joined.map_err(|error| errors::sdk(&error).of_join())?;
        }
        Ok(())
    }

    /// Best effort.
    pub async fn leave(&self, id: &RoomId) {
        let _ = self.token_api.api.ask(leave::Request::new(id.to_owned()), self.token_api.token()).await;
    }

    /// The room that the tombstone of `id` names. With keys the last sync tells it.
    pub async fn successor(&self, id: &RoomId) -> Result<Option<OwnedRoomId>, SendError> {
        if let Some(client) = self.client {
            return Ok(client.get_room(id).and_then(|room| room.successor_room()).map(|next| next.room_id));
        }
        self.state(id, StateEventType::RoomTombstone, "/replacement_room").await
    }

    /// The room that the create event of `id` names as its predecessor.
    pub async fn predecessor(&self, id: &RoomId) -> Result<Option<OwnedRoomId>, SendError> {
        self.state(id, StateEventType::RoomCreate, "/predecessor/room_id").await
    }

    async fn state(&self, id: &RoomId, kind: StateEventType, part: &str) -> Result<Option<OwnedRoomId>, SendError> {
        let request = get_state::Request::new(id.to_owned(), kind, String::new());
        match self.token_api.api.ask(request, self.token_api.token()).await {
            Ok(answer) => {
                let json: Value = serde_json::from_str(answer.event_or_content.get()).unwrap_or_default();
                Ok(json.pointer(part).and_then(Value::as_str).and_then(|id| RoomId::parse(id).ok()))
            }
            Err(error) if error.kind() == Some(&ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error.fault().of_join()),
        }
    }
}
