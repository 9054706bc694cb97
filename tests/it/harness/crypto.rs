//! A user with keys of their own, who reads encrypted rooms as a client does.

use std::time::Duration;

use matrix_sdk::{
    Client, SessionMeta, SessionTokens,
    authentication::matrix::MatrixSession,
    config::SyncSettings,
    deserialized_responses::{ShieldState, TimelineEvent},
    encryption::identities::UserIdentity,
    room::MessagesOptions,
    ruma::{
        OwnedDeviceId, RoomId, UserId,
        api::client::uiaa::{AuthData, MatrixUserIdentifier, Password, UserIdentifier},
    },
};
use matrix_sdk_crypto::{DecryptionSettings, TrustRequirement};
use tokio::time::Instant;

use super::{Receiver, Room, RoomEvent, RoomView, User, process::Scratch, user};

/// How clients show an event: with the settings of most, and as one that knows no mercy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shields {
    pub lax: ShieldState,
    pub strict: ShieldState,
}

/// One device of a user, with its keys in a folder.
#[derive(Debug)]
pub struct Reader {
    pub user: User,
    pub client: Client,
    _home: Scratch,
}

impl Reader {
    /// The device of the user's token. It has uploaded its keys when this returns.
    pub async fn new(user: &User) -> Self {
        Self::with(user, TrustRequirement::Untrusted).await
    }

    /// One that shows nothing of devices that their owner has not signed (MSC4153).
    pub async fn strict(user: &User) -> Self {
        Self::with(user, TrustRequirement::CrossSigned).await
    }

    async fn with(user: &User, sender_device_trust_requirement: TrustRequirement) -> Self {
        let home = Scratch::new("reader");
        let client = Client::builder()
            .homeserver_url(&user.homeserver)
            .sqlite_store(home.path(), None)
            .with_decryption_settings(DecryptionSettings { sender_device_trust_requirement })
            .build()
            .await
            .expect("a client");
        let session = MatrixSession {
            meta: SessionMeta {
                user_id: UserId::parse(&user.user_id).expect("a user id"),
                device_id: OwnedDeviceId::from(user.device_id.as_str()),
            },
            tokens: SessionTokens { access_token: user.access_token.clone(), refresh_token: None },
        };
        client.restore_session(session).await.expect("a session");
        client.encryption().wait_for_e2ee_initialization_tasks().await;
        // As clients do for an account that has no identity. Some homeservers take it with the password only.
        let id = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.user_id.clone()));
        let proof = AuthData::Password(Password::new(id, user.password.clone()));
        client.encryption().bootstrap_cross_signing_if_needed(Some(proof)).await.expect("an identity");
        let reader = Self { user: user.clone(), client, _home: home };
        reader.sync().await;
        reader
    }

    pub async fn sync(&self) {
        let settings = SyncSettings::new().timeout(Duration::from_millis(100));
        self.client.sync_once(settings).await.expect("a sync");
    }

    /// Another device of the same user, which the user has not signed.
    pub async fn unsigned(user: &User) -> Self {
        let reader = Self::new(&user.on_a_new_device().await).await;
        assert!(!reader.sees_signed(&user.user_id, &reader.user.device_id).await, "it has the identity's keys");
        reader
    }

    /// Sends an encrypted `m.room.message`; returns the event id.
    pub async fn send(&self, room: &Room, content: serde_json::Value) -> String {
        let id = RoomId::parse(&room.id).expect("a room id");
        let joined = self.client.get_room(&id).expect("a room that was synced");
        assert!(joined.latest_encryption_state().await.expect("the state").is_encrypted(), "in the clear");
        // Members that came since the last sync get the key as well.
        self.sync().await;
        let sent = joined.send_raw("m.room.message", content).await.expect("sent");
        sent.response.event_id.to_string()
    }

    /// Says something in the room, encrypted.
    pub async fn say(&self, room: &Room, text: &str) -> String {
        self.send(room, serde_json::json!({ "msgtype": "m.text", "body": text })).await
    }

    /// Writes in a thread, encrypted.
    pub async fn say_in_thread(&self, room: &Room, card: &str, text: &str) -> String {
        self.send(room, user::in_thread(card, text)).await
    }

    /// Edits a message, encrypted.
    pub async fn edit(&self, room: &Room, event: &str, text: &str) -> String {
        self.send(room, user::edited(event, text)).await
    }

    /// All events of the room, decrypted where this device has the keys; the others keep the type `m.room.encrypted`.
    pub async fn events(&self, room: &Room) -> Vec<TimelineEvent> {
        let id = RoomId::parse(&room.id).expect("a room id");
        let joined = self.client.get_room(&id).expect("a room that was synced");
        let mut options = MessagesOptions::backward();
        options.limit = 1000_u32.into();
        let mut events = joined.messages(options).await.expect("messages").chunk;
        events.reverse();
        events
    }

    /// The room as this device reads it.
    pub async fn view(&self, room: &Room) -> RoomView {
        let json = |event: TimelineEvent| event.raw().deserialize_as_unchecked().expect("an event");
        let events = self.events(room).await.into_iter().map(|event| RoomEvent::new(json(event))).collect();
        RoomView { events, bot: room.bot.clone() }
    }

    /// Waits until this device reads `what`.
    ///
    /// # Panics
    /// At the deadline, with the room's text.
    pub async fn wait_for(&self, room: &Room, what: &str, condition: impl Fn(&RoomView) -> bool) -> RoomView {
        let end = Instant::now() + super::DEADLINE;
        loop {
            self.sync().await;
            let view = self.view(room).await;
            if condition(&view) {
                return view;
            }
            assert!(Instant::now() < end, "not within {:?}: {what}, in:\n{}", super::DEADLINE, view.text());
        }
    }

    /// Waits until a card that names `needle` can be read.
    pub async fn reads(&self, room: &Room, needle: &str) -> RoomView {
        self.wait_for(room, &format!("a card with {needle}"), |view| !view.cards_with(needle).is_empty()).await
    }

    /// The shields on all that the bot has sent and this device can read.
    pub async fn shields(&self, room: &Room) -> Vec<Shields> {
        let events = self.events(room).await;
        let by_bot = events.iter().filter(|event| event.sender().is_some_and(|sender| sender == room.bot.as_str()));
        by_bot
            .filter_map(|event| event.kind.encryption_info())
            .map(|info| Shields {
                lax: info.verification_state.to_shield_state_lax(),
                strict: info.verification_state.to_shield_state_strict(),
            })
            .collect()
    }

    /// The identity of another user, as the homeserver tells it now.
    pub async fn identity_of(&self, user: &str) -> Option<UserIdentity> {
        let user = UserId::parse(user).expect("a user id");
        self.client.encryption().request_user_identity(&user).await.expect("an answer")
    }

    /// Whether a device is signed by its owner's identity, as the homeserver tells it now.
    pub async fn sees_signed(&self, user: &str, device: &str) -> bool {
        self.identity_of(user).await;
        let user = UserId::parse(user).expect("a user id");
        let device = self.client.encryption().get_device(&user, &OwnedDeviceId::from(device)).await.expect("the store");
        device.is_some_and(|device| device.is_cross_signed_by_owner())
    }
}

/// Waits until the receiver has heard of all that was done up to now, such as a new device.
pub async fn caught_up(receiver: &Receiver, room: &Room) {
    // The first sync to end may have begun before.
    for _ in 0..2 {
        let before = receiver.metric("last_sync_timestamp_seconds", &[]).await;
        room.reader.send_text(&room.id, "is anybody there?").await;
        receiver.wait_metric("last_sync_timestamp_seconds", &[], |last| last > before).await;
    }
}
