//! Requests about rooms, for a session with keys and for one without.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use matrix_sdk::{
    Client, OwnedServerName, RoomState, ServerName,
    ruma::{
        OwnedRoomId, RoomAliasId, RoomId, RoomOrAliasId, UserId,
        api::client::{
            alias::get_alias::v3 as get_alias,
            filter::{Filter, FilterDefinition, RoomEventFilter, RoomFilter},
            membership::join_room_by_id_or_alias::v3 as join,
            sync::sync_events::v3 as sync,
        },
        events::{StateEventType, room::member::MembershipState},
        presence::PresenceState,
        uint,
    },
};
use serde_json::Value;

use crate::{
    matrix::{
        api::{
            client::RequestError,
            errors::{self, ApiError},
            token_api::TokenApi,
        },
        context::Context,
        session::mode::OpenSession,
    },
    model::{Reason, SendError},
};

/// The time limit for a first sync of one room.
const SYNC_TIMEOUT: Duration = Duration::from_secs(20);

/// Counts the requests for a membership, so that no two are identical.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// What a session needs to enter rooms.
#[derive(Clone, Copy)]
pub(crate) struct RoomApi<'a> {
    pub token_api: TokenApi<'a>,
    /// `None` for a session without keys, which has no syncs either.
    pub client: Option<&'a Client>,
}

/// What an alias leads to.
pub(crate) enum Alias {
    Room(OwnedRoomId, Vec<OwnedServerName>),
    Missing(SendError),
}

/// The account's membership of a room.
pub(crate) enum Membership {
    Joined,
    /// Another user removed the account and has not invited it since: it stays out until then.
    Removed(SendError),
    /// Invited, never there, or left by itself: a join may succeed.
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
        Self::Removed(errors::send_error(Reason::RoomRefused, text))
    }
}

impl<'a> RoomApi<'a> {
    pub fn new(context: &'a Context, open: &'a OpenSession) -> Result<Self, SendError> {
        Ok(Self { token_api: context.token_api(&open.session.token)?, client: open.client() })
    }

    /// # Errors
    /// When the directory does not answer.
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Result<Alias, SendError> {
        match self.token_api.api.request(get_alias::Request::new(alias.to_owned()), self.token_api.token()).await {
            Ok(answer) => Ok(Alias::Room(answer.room_id, answer.servers)),
            Err(error) if error.is_not_found() => Ok(Alias::Missing(error.for_join())),
            Err(error) => Err(error.for_join()),
        }
    }

    /// Whether the account is in the room according to the last sync; never known without keys.
    pub fn is_joined(&self, id: &RoomId) -> bool {
        self.client.and_then(|client| client.get_room(id)).is_some_and(|room| room.state() == RoomState::Joined)
    }

    /// Whether the room is encrypted, by the word of a sync, which is for good, or by that of the homeserver.
    pub async fn is_encrypted(&self, id: &RoomId) -> Result<bool, SendError> {
        let known = self.client.and_then(|client| client.get_room(id));
        Ok(known.is_some_and(|room| room.encryption_state().is_encrypted()) || self.token_api.is_encrypted(id).await?)
    }

    /// The account's membership of a room that it does not seem to be in. With `lost` the homeserver is asked: the last
    /// sync may not have reported a removal.
    ///
    /// # Errors
    /// When the homeserver does not answer.
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

    /// Asks with a first sync of that room alone, which does not disturb the syncs of the session. A banned account
    /// cannot request the state of the room.
    async fn ask_membership(&self, id: &RoomId) -> Result<Membership, SendError> {
        let mut room = RoomFilter::empty();
        room.rooms = Some(vec![id.to_owned()]);
        room.include_leave = true;
        room.ephemeral = RoomEventFilter::ignore_all();
        room.account_data = RoomEventFilter::ignore_all();
        room.state = RoomEventFilter::ignore_all();
        room.timeline.types = Some(vec!["m.room.member".to_owned()]);
        // The last event of a room that an account sees is its own removal.
        room.timeline.limit = Some(uint!(1));
        let mut filter = FilterDefinition::empty();
        filter.presence = Filter::ignore_all();
        filter.account_data = Filter::ignore_all();
        filter.room = room;
        let mut request = sync::Request::new();
        request.filter = Some(sync::Filter::FilterDefinition(filter));
        request.set_presence = PresenceState::Offline;
        // Synapse answers an identical request from a cache for two minutes. A first sync ignores its timeout, which
        // can therefore tell requests apart.
        request.timeout = Some(Duration::from_millis(REQUESTS.fetch_add(1, Ordering::Relaxed)));
        let answer = self.token_api.api.request_within(request, self.token_api.token(), SYNC_TIMEOUT).await;
        let rooms = answer.map_err(RequestError::for_join)?.rooms;
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

    /// Joins, which also accepts an invitation. Joining again changes nothing.
    pub async fn join(&self, id: &RoomId, mut via: Vec<OwnedServerName>) -> Result<(), SendError> {
        // Since room version 12 an id names no server.
        via.extend(id.server_name().map(ServerName::to_owned));
        let mut request = join::Request::new(<&RoomOrAliasId>::from(id).to_owned());
        request.via.clone_from(&via);
        let joined = self.token_api.api.request(request, self.token_api.token()).await;
        joined.map_err(RequestError::for_join)?;
        if let Some(client) = self.client {
            // The SDK then knows it before a sync. Its request is the second one, since its errors drop `Retry-After`.
            let joined = client.join_room_by_id_or_alias(id.into(), &via).await;
            joined.map_err(|error| ApiError::from_sdk(&error).for_join())?;
        }
        Ok(())
    }

    /// The room that the tombstone of `id` names. With keys the last sync has it.
    pub async fn successor(&self, id: &RoomId) -> Result<Option<OwnedRoomId>, SendError> {
        if let Some(client) = self.client {
            return Ok(client.get_room(id).and_then(|room| room.successor_room()).map(|next| next.room_id));
        }
        self.room_in_state(id, StateEventType::RoomTombstone, "/replacement_room").await
    }

    /// The room that the create event of `id` names as its predecessor.
    pub async fn predecessor(&self, id: &RoomId) -> Result<Option<OwnedRoomId>, SendError> {
        self.room_in_state(id, StateEventType::RoomCreate, "/predecessor/room_id").await
    }

    async fn room_in_state(
        &self,
        id: &RoomId,
        kind: StateEventType,
        pointer: &str,
    ) -> Result<Option<OwnedRoomId>, SendError> {
        let content = self.token_api.state(id, kind).await.map_err(RequestError::for_join)?;
        let named = content.as_ref().and_then(|content| content.pointer(pointer)?.as_str());
        Ok(named.and_then(|id| RoomId::parse(id).ok()))
    }
}
