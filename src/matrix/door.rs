//! Finding, entering and asking about rooms, for a session with keys and for one without.

use matrix_sdk::{
    Client, OwnedServerName, RoomState, ServerName,
    ruma::{
        OwnedRoomId, RoomAliasId, RoomId, RoomOrAliasId,
        api::{
            client::{
                alias::get_alias::v3 as get_alias,
                membership::{join_room_by_id_or_alias::v3 as join, leave_room::v3 as leave},
                state::get_state_event_for_key::v3 as get_state,
            },
            error::ErrorKind,
        },
        events::{StateEventType, room::member::MembershipState},
    },
};
use serde_json::Value;

use super::{bare::Bare, errors};
use crate::delivery::{Reason, SendError};

/// How a session gets to rooms.
#[derive(Clone, Copy)]
pub(super) struct Door<'a> {
    pub bare: Bare<'a>,
    /// `None`: nothing but bare requests.
    pub client: Option<&'a Client>,
}

/// What an alias leads to.
pub(super) enum Lookup {
    Room(OwnedRoomId, Vec<OwnedServerName>),
    /// There is no such alias.
    Nothing(SendError),
}

impl Door<'_> {
    /// # Errors
    /// When the directory does not say.
    pub async fn look_up(&self, alias: &RoomAliasId) -> Result<Lookup, SendError> {
        match self.bare.wire.ask(get_alias::Request::new(alias.to_owned()), self.bare.token()).await {
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

    /// Why somebody else wants the account to stay out: it was kicked or banned, and not invited since.
    pub async fn shown_out(&self, id: &RoomId) -> Option<SendError> {
        let room = self.client?.get_room(id)?;
        if !matches!(room.state(), RoomState::Left | RoomState::Banned) {
            return None;
        }
        let own = room.get_member_no_sync(room.own_user_id()).await.ok()??;
        let by = own.event().sender();
        if by == room.own_user_id() {
            return None;
        }
        let (what, advice) = match own.membership() {
            MembershipState::Ban => ("banned", "lift the ban and invite it"),
            _ => ("kicked", "invite it"),
        };
        let why = own.event().reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let text = format!("not joined: {what} by {by}{why}; {advice} again and it joins");
        Some(errors::fault(Reason::RoomRefused, text))
    }

    /// Joins; an invitation is accepted by that, and who is in the room stays in it.
    pub async fn join(&self, id: &RoomId, mut via: Vec<OwnedServerName>) -> Result<(), SendError> {
        // Since room version 12 an id names no server.
        via.extend(id.server_name().map(ServerName::to_owned));
        if let Some(client) = self.client {
            let joined = client.join_room_by_id_or_alias(id.into(), &via).await;
            return joined.map(drop).map_err(|error| errors::sdk(&error).of_join());
        }
        let mut request = join::Request::new(<&RoomOrAliasId>::from(id).to_owned());
        request.via = via;
        let joined = self.bare.wire.ask(request, self.bare.token()).await;
        joined.map(drop).map_err(|error| error.fault().of_join())
    }

    /// Best effort.
    pub async fn leave(&self, id: &RoomId) {
        let _ = self.bare.wire.ask(leave::Request::new(id.to_owned()), self.bare.token()).await;
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
        match self.bare.wire.ask(request, self.bare.token()).await {
            Ok(answer) => {
                let json: Value = serde_json::from_str(answer.event_or_content.get()).unwrap_or_default();
                Ok(json.pointer(part).and_then(Value::as_str).and_then(|id| RoomId::parse(id).ok()))
            }
            Err(error) if error.kind() == Some(&ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error.fault().of_join()),
        }
    }
}
