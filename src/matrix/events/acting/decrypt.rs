//! Decrypts one event after the other of a room, with keys from the backup and with fresh knowledge of the senders' devices.

use std::collections::{BTreeSet, HashSet};

use matrix_sdk::{
    Room,
    deserialized_responses::{TimelineEvent, TimelineEventKind},
    ruma::{UserId, events::room::encrypted::OriginalSyncRoomEncryptedEvent, serde::Raw},
};
use serde_json::Value;

use super::{
    convert::{Sealed, may_be_command, room_event, trust_of},
    megolm,
};
use crate::{
    matrix::{api::errors::ApiError, encryption::upkeep::TrustUpkeep},
    model::{RoomEvent, Timestamp, Trust},
};

pub(super) struct Decryption<'a> {
    room: &'a Room,
    trust: &'a TrustUpkeep,
    own: &'a str,
    prefixes: &'a BTreeSet<String>,
    /// What our clock shows.
    wall: Timestamp,
    /// Sessions that the backup was asked for, and users whose devices the homeserver was asked for.
    asked: HashSet<String>,
}

impl<'a> Decryption<'a> {
    pub fn new(
        room: &'a Room,
        trust: &'a TrustUpkeep,
        own: &'a str,
        prefixes: &'a BTreeSet<String>,
        wall: Timestamp,
    ) -> Self {
        Self { room, trust, own, prefixes, wall, asked: HashSet::new() }
    }

    /// What an event says, as the homeserver has it.
    pub async fn read(&mut self, json: &Value) -> Option<RoomEvent> {
        let content = &json["content"];
        if json["type"] != "m.room.encrypted" || content.get("ciphertext").is_none() {
            return room_event(json, self.own, Sealed::Plain, self.wall);
        }
        let (own, wall) = (self.own, self.wall);
        let unread = || room_event(json, own, Sealed::Unread, wall);
        // Without it a replay would go unnoticed.
        let Some(place) = megolm::place(content) else { return unread() };
        let raw: Raw<OriginalSyncRoomEncryptedEvent> = Raw::from_json_string(json.to_string()).ok()?;
        let mut decrypted = self.decrypt(&raw).await;
        if decrypted.is_none() {
            self.ask_backup(content["session_id"].as_str().unwrap_or_default()).await;
            decrypted = self.decrypt(&raw).await;
        }
        let Some(event) = decrypted else { return unread() };
        let read = self.convert(&event, &place)?;
        if read.trust != Trust::Unsigned || !may_be_command(&read, self.prefixes) {
            return Some(read);
        }
        // The device may have been signed, or become known, since its key came.
        if self.ask_devices(&read.sender).await
            && let Some(event) = self.decrypt(&raw).await
        {
            return self.convert(&event, &place);
        }
        Some(read)
    }

    async fn decrypt(&self, raw: &Raw<OriginalSyncRoomEncryptedEvent>) -> Option<TimelineEvent> {
        let event = self.room.decrypt_event(raw, None).await.ok()?;
        matches!(event.kind, TimelineEventKind::Decrypted(_)).then_some(event)
    }

    fn convert(&self, event: &TimelineEvent, place: &str) -> Option<RoomEvent> {
        let json = event.raw().deserialize_as_unchecked::<Value>().ok()?;
        let trust = trust_of(&event.encryption_info()?.verification_state);
        room_event(&json, self.own, Sealed::Read { trust, megolm: Some(place.to_owned()) }, self.wall)
    }

    async fn ask_backup(&mut self, session: &str) {
        if session.is_empty() || !self.asked.insert(session.to_owned()) {
            return;
        }
        let client = self.room.client();
        self.trust.wait_for_backup(&client).await;
        if let Err(error) = client.encryption().backups().download_room_key(self.room.room_id(), session).await {
            tracing::debug!(error = ApiError::from_sdk(&error).error.detail, "no key in the backup");
        }
    }

    /// Whether the homeserver has been asked just now.
    async fn ask_devices(&mut self, user: &str) -> bool {
        let Ok(user_id) = UserId::parse(user) else { return false };
        if !self.asked.insert(user.to_owned()) {
            return false;
        }
        self.room.client().encryption().request_user_identity(&user_id).await.is_ok()
    }
}
