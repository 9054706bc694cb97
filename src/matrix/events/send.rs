//! One frozen event to one room. What precedes the event (entering the room, asking whether it is encrypted, its keys)
//! is done and judged apart from the send itself: only the send can leave an event in doubt or have it refused.

use std::time::Duration;

use matrix_sdk::{
    Client, Room,
    ruma::{RoomId, TransactionId, events::AnyMessageLikeEventContent, serde::Raw},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    delivery::FrozenEvent,
    matrix::{
        api::{
            errors::{self, ApiError},
            token_api::{SEND_TIMEOUT, raw_content},
        },
        context::Context,
        encryption::{expired_keys, room_keys, upkeep::TrustUpkeep},
        events::media::has_plain_file,
        rooms::{Rooms, entry::Trigger, room_api::RoomApi},
        session::{
            connection::Connection,
            mode::{OpenSession, SessionMode},
        },
    },
    model::{NoKeys, Reason, RoomAddress, Scope, SendError},
};

/// The time limit for entering the room and asking whether it is encrypted.
const ENTER_TIMEOUT: Duration = Duration::from_secs(25);
/// How long to wait for the sync that reports a room as encrypted, and how often to check.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);
const SYNC_CHECK: Duration = Duration::from_millis(50);
/// The time limit for asking ahead of a send, which asks by itself if that brought nothing.
const AHEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends events.
pub(crate) struct Sender<'a> {
    pub context: &'a Context,
    pub connection: &'a Connection,
    pub rooms: &'a Rooms,
    pub trust: &'a TrustUpkeep,
}

impl Sender<'_> {
    pub async fn send(self, address: &RoomAddress, event: FrozenEvent<'_>) -> Result<String, SendError> {
        // Held to the end: the session is not replaced during a send.
        let open = self.connection.session().await?;
        let room_api = RoomApi::new(self.context, &open)?;
        match &open.mode {
            SessionMode::WithKeys(client) => self.send_with_keys(client, &open, room_api, address, event).await,
            SessionMode::WithoutKeys(why) => {
                let sent = self.send_without_keys(*why, &open, room_api, address, event).await;
                self.note_refusal(address, sent).await
            }
        }
    }

    /// Asks whether a room that the account is in is still plain, so that the send that follows need not, unless the
    /// homeserver was asked since `enough`.
    pub async fn ask_ahead(self, address: &RoomAddress, enough: Option<Instant>) {
        let asked = async {
            let Some(id) = self.rooms.id_of(address) else { return Ok(()) };
            if self.rooms.kinds.is_plain(address, &id, enough) {
                return Ok(());
            }
            let open = self.connection.session().await?;
            let room_api = RoomApi::new(self.context, &open)?;
            let room = open.client().and_then(|client| client.get_room(&id));
            if !room.is_some_and(|room| room.encryption_state().is_encrypted()) {
                self.ask_if_encrypted(room_api, address, &id).await?;
            }
            Ok::<(), SendError>(())
        };
        if let Ok(Err(error)) = timeout(AHEAD_TIMEOUT, asked).await {
            tracing::debug!(room = %address, error = error.detail, "could not ask ahead of a send");
        }
    }

    /// Asks the homeserver whether the room is encrypted, and remembers when it was not.
    async fn ask_if_encrypted(
        &self,
        room_api: RoomApi<'_>,
        address: &RoomAddress,
        id: &RoomId,
    ) -> Result<bool, SendError> {
        let at = Instant::now();
        let is_encrypted = room_api.token_api.is_encrypted(id).await?;
        if !is_encrypted {
            self.rooms.kinds.note_plain(address, id, at);
        }
        Ok(is_encrypted)
    }

    async fn note_refusal(&self, address: &RoomAddress, sent: Result<String, SendError>) -> Result<String, SendError> {
        if sent.as_ref().is_err_and(|error| error.reason == Reason::RoomRefused) {
            self.rooms.mark_refused(address).await;
        }
        sent
    }

    async fn send_with_keys(
        &self,
        client: &Client,
        open: &OpenSession,
        room_api: RoomApi<'_>,
        address: &RoomAddress,
        event: FrozenEvent<'_>,
    ) -> Result<String, SendError> {
        let content = raw_content(event.content)?;
        let prepare = async {
            let id = self.rooms.enter(room_api, address, Trigger::Send).await?;
            let room = client.get_room(&id);
            let room = room.ok_or_else(|| errors::send_error(Reason::NotReady, "not in the room yet"))?;
            if is_never_encrypted(event.event_type) {
                // One session sends it whatever the room is.
                let asks = self.connection.shared.is_some();
                return Ok((room, asks && room_api.is_encrypted(&id).await?));
            }
            self.check_still_plain(room_api, &room, address, event.asked_since).await?;
            // Asks the homeserver unless a sync has reported it.
            let encryption = room.latest_encryption_state().await;
            let encrypted = encryption.map_err(|error| ApiError::from_sdk(&error).error)?.is_encrypted();
            Ok((room, encrypted))
        };
        let (room, encrypted) = self.connection.note_rejection(within_enter_timeout(prepare).await)?;
        self.rooms.kinds.note(address, encrypted);
        let sent = match way(encrypted, event.event_type) {
            Way::Plain => self.send_plain(open, room.room_id(), event).await,
            Way::OwnClear => self.send_own_clear(room_api, room.room_id(), event).await,
            Way::Encrypted if has_plain_file(event.content) => {
                let text = "the room has become encrypted since its picture was uploaded in the clear";
                Err(errors::send_error(Reason::BadEvent, text))
            }
            Way::Encrypted => {
                let sent = self.send_encrypted(client, room_api, &room, address, event, content).await;
                self.connection.note_rejection(sent)
            }
        };
        self.note_refusal(address, sent).await
    }

    /// Sends under the session for plain rooms, which replicas share.
    async fn send_plain(&self, open: &OpenSession, room: &RoomId, event: FrozenEvent<'_>) -> Result<String, SendError> {
        let session = self.connection.plain_session(open).await?;
        match &self.connection.shared {
            Some(shared) => shared.count_send(),
            None => self.connection.device.count_send_without_keys(),
        }
        // The SDK would add nothing, and drop a refusal's `Retry-After`.
        let token_api = self.context.token_api(&session.token)?;
        self.connection.note_plain_rejection(within_send_timeout(token_api.send(room, event)).await)
    }

    /// Sends what nobody encrypts to an encrypted room.
    async fn send_own_clear(
        &self,
        room_api: RoomApi<'_>,
        room: &RoomId,
        event: FrozenEvent<'_>,
    ) -> Result<String, SendError> {
        self.connection.device.count_send_without_keys();
        self.connection.note_rejection(within_send_timeout(room_api.token_api.send(room, event)).await)
    }

    async fn send_encrypted(
        &self,
        client: &Client,
        room_api: RoomApi<'_>,
        room: &Room,
        address: &RoomAddress,
        event: FrozenEvent<'_>,
        content: Raw<AnyMessageLikeEventContent>,
    ) -> Result<String, SendError> {
        let prepare = async {
            self.trust.wait_until_signed(client).await;
            self.connection.status.wait_for_members().await;
            room_keys::share(self.context, room, address).await
        };
        tokio::select! {
            ready = prepare => ready?,
            // The stop does not wait for slow keys of an event that is not on its way.
            () = self.context.cancel.cancelled() => {
                return Err(errors::send_error(Reason::NotReady, "the receiver is stopping"));
            }
        }
        let request = async {
            let txn_id = <&TransactionId>::from(event.txn_id.as_str());
            let sent = room.send_raw(event.event_type, content).with_transaction_id(txn_id).await;
            sent.map(|sent| sent.response.event_id.to_string()).map_err(|error| ApiError::from_sdk(&error).error)
        };
        let mut sent = within_send_timeout(expired_keys::as_error(request)).await;
        if let Err(error @ SendError { reason: Reason::RateLimited | Reason::ServerError, retry_after: None, .. }) =
            &mut sent
        {
            error.retry_after = room_api.token_api.asked_wait().await;
        }
        if let Err(error) = &sent
            && (error.reason.scope() == Scope::Event || error.reason == Reason::KeysNotReady)
        {
            // A new device may have made the SDK request keys again, and the homeserver may have refused that.
            room_keys::share(self.context, room, address).await?;
        }
        sent
    }

    /// Holds an event back while the room is encrypted and the SDK does not know it yet: it would go out in the clear. A
    /// sync reports that within a second as a rule, but nothing shows whether one is late; so the homeserver is asked for each
    /// send to a plain room, unless it was `asked_since` then.
    async fn check_still_plain(
        &self,
        room_api: RoomApi<'_>,
        room: &Room,
        address: &RoomAddress,
        asked_since: Option<Instant>,
    ) -> Result<(), SendError> {
        // Encryption of a room cannot be disabled.
        if room.encryption_state().is_encrypted()
            || self.rooms.kinds.is_plain(address, room.room_id(), asked_since)
            || !self.ask_if_encrypted(room_api, address, room.room_id()).await?
        {
            return Ok(());
        }
        let reported = async {
            while !room.encryption_state().is_encrypted() {
                sleep(SYNC_CHECK).await;
            }
        };
        if timeout(SYNC_TIMEOUT, reported).await.is_ok() {
            return Ok(());
        }
        room_keys::report(self.context, address, Some(NoKeys::NotReady));
        let text = "the room has become encrypted, and no sync has brought its keys yet";
        Err(errors::send_error(Reason::KeysNotReady, text))
    }

    async fn send_without_keys(
        &self,
        why: NoKeys,
        open: &OpenSession,
        room_api: RoomApi<'_>,
        address: &RoomAddress,
        event: FrozenEvent<'_>,
    ) -> Result<String, SendError> {
        let prepare = async {
            let room = self.rooms.enter(room_api, address, Trigger::Send).await?;
            let is_plain = self.rooms.kinds.is_plain(address, &room, event.asked_since);
            let encrypted = !is_plain && self.ask_if_encrypted(room_api, address, &room).await?;
            room_keys::report(self.context, address, encrypted.then_some(why));
            Ok((room, encrypted))
        };
        let (room, encrypted) = self.connection.note_rejection(within_enter_timeout(prepare).await)?;
        self.rooms.kinds.note(address, encrypted);
        match way(encrypted, event.event_type) {
            Way::Plain => self.send_plain(open, &room, event).await,
            Way::OwnClear => self.send_own_clear(room_api, &room, event).await,
            Way::Encrypted => Err(errors::send_error(Reason::KeysNotReady, why.advice())),
        }
    }
}

/// How an event goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// In the clear, under the session that replicas share if there are some.
    Plain,
    /// In the clear although the room is encrypted, under the replica's own session.
    OwnClear,
    Encrypted,
}

fn way(is_encrypted: bool, event_type: &str) -> Way {
    match (is_encrypted, is_never_encrypted(event_type)) {
        (false, _) => Way::Plain,
        (true, true) => Way::OwnClear,
        (true, false) => Way::Encrypted,
    }
}

/// Reactions are in the clear in encrypted rooms too: no client reads others, and the SDK's `send_raw` never encrypts them.
fn is_never_encrypted(event_type: &str) -> bool {
    event_type == "m.reaction"
}

pub(super) async fn within_enter_timeout<T>(
    prepare: impl Future<Output = Result<T, SendError>>,
) -> Result<T, SendError> {
    let too_slow = || Err(errors::send_error(Reason::RoomRefused, "the room could not be entered in time"));
    timeout(ENTER_TIMEOUT, prepare).await.unwrap_or_else(|_| too_slow()).map_err(before_send)
}

async fn within_send_timeout<T>(send: impl Future<Output = Result<T, SendError>>) -> Result<T, SendError> {
    timeout(SEND_TIMEOUT, send).await.unwrap_or_else(|_| Err(errors::no_answer()))
}

/// A failure before the send does not leave the event in doubt, and says nothing about its content.
fn before_send(error: SendError) -> SendError {
    if error.reason.in_doubt() {
        return SendError { reason: Reason::Unreachable, ..error };
    }
    match error.reason.scope() {
        Scope::Event => SendError {
            reason: Reason::KeysNotReady,
            detail: format!("cannot find out whether the room is encrypted: {}", error.detail),
            ..error
        },
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::MESSAGE;

    #[test]
    fn only_plain_rooms_have_the_shared_device() {
        for (is_encrypted, event_type, expected) in [
            (false, MESSAGE, Way::Plain),
            (false, "m.reaction", Way::Plain),
            (true, MESSAGE, Way::Encrypted),
            (true, "m.reaction", Way::OwnClear),
        ] {
            assert_eq!(way(is_encrypted, event_type), expected, "{is_encrypted} {event_type}");
        }
    }

    #[test]
    fn a_failure_before_a_send_is_never_about_the_event() {
        for reason in Reason::ALL {
            let judged = before_send(errors::send_error(reason, "scripted"));
            assert!(judged.reason.scope() != Scope::Event && !judged.reason.in_doubt(), "{reason:?}: {judged}");
        }
    }
}
