//! One frozen event to one room.

use std::time::Duration;

use matrix_sdk::{
    Client, EncryptionState, Room,
    ruma::{
        TransactionId,
        api::{client::state::get_state_event_for_key::v3 as get_state, error::ErrorKind},
        events::{AnyMessageLikeEventContent, StateEventType},
        serde::Raw,
    },
};
use tokio::time::timeout;

use super::{Account, Link, errors};
use crate::{
    delivery::{Reason, SendError},
    model::{RoomAddress, TxnId},
};

/// A send with everything that the SDK puts before it must be over within this.
const SEND_TIMEOUT: Duration = Duration::from_secs(25);
/// How long a send waits for the try to connect that it asked for.
const LINK_TIMEOUT: Duration = Duration::from_secs(15);
/// When the last sync is older, a room that was plain may have become encrypted since.
const FRESH: Duration = Duration::from_mins(1);

impl Account {
    pub(super) async fn send_event(
        &self,
        address: &RoomAddress,
        txn_id: &TxnId,
        content: &str,
    ) -> Result<String, SendError> {
        self.await_link().await?;
        // Held to the end: the session is not replaced under a send.
        let open = self.open.read().await;
        let Some(client) = open.as_ref().map(|open| &open.client) else {
            return Err(errors::fault(Reason::NotReady, "not connected yet"));
        };
        let sent = match timeout(SEND_TIMEOUT, self.deliver(client, address, txn_id, content)).await {
            Ok(sent) => sent,
            Err(_) => Err(errors::fault(Reason::NoAnswer, "no answer in time")),
        };
        if sent.as_ref().is_err_and(|error| error.reason == Reason::TokenRejected) {
            self.suspect.notify_one();
        }
        sent
    }

    /// While there is no link, a send makes the account try now rather than at its next turn, and learns the outcome.
    pub(super) async fn await_link(&self) -> Result<(), SendError> {
        let mut link = self.link.subscribe();
        let now = link.borrow_and_update().clone();
        if let Link::Down { worth_waking: true, .. } = now {
            self.wake.notify_one();
            // Nobody tries to connect any more once the receiver stops.
            tokio::select! {
                _ = timeout(LINK_TIMEOUT, link.changed()) => {}
                () = self.setup.cancel.cancelled() => {}
            }
        }
        match &*link.borrow() {
            Link::Up => Ok(()),
            Link::Down { error, .. } => Err(error.clone()),
        }
    }

    /// The device of the session that the homeserver has confirmed, as opposed to the one of the last run.
    pub(super) async fn connected_device(&self) -> Result<String, SendError> {
        self.await_link().await?;
        let open = self.open.read().await;
        let device = open.as_ref().map(|open| open.session.device.clone());
        device.ok_or_else(|| errors::fault(Reason::NotReady, "not connected yet"))
    }

    async fn deliver(
        &self,
        client: &Client,
        address: &RoomAddress,
        txn_id: &TxnId,
        content: &str,
    ) -> Result<String, SendError> {
        // Raw: the bytes that were frozen are the bytes that go out.
        let content: Raw<AnyMessageLikeEventContent> = Raw::from_json_string(content.to_owned())
            .map_err(|error| errors::fault(Reason::BadEvent, format!("the content is not JSON: {error}")))?;
        let room = self.room(client, address).await?;
        self.check_still_plain(client, &room).await?;
        let txn_id = <&TransactionId>::from(txn_id.as_str());
        let error = match room.send_raw("m.room.message", content).with_transaction_id(txn_id).await {
            Ok(sent) => return Ok(sent.response.event_id.to_string()),
            Err(error) => errors::sdk(&error).error,
        };
        if error.reason == Reason::RoomRefused {
            self.room_refused(address, &error).await;
        }
        Err(error)
    }

    /// An alert must not go out in the clear because no sync could tell that the room is encrypted now.
    async fn check_still_plain(&self, client: &Client, room: &Room) -> Result<(), SendError> {
        let fresh = self.last_sync().is_some_and(|at| self.setup.clock.now().since(at) < FRESH);
        // Unknown: the SDK asks by itself. Encrypted: a room never goes back.
        if fresh || !matches!(room.encryption_state(), EncryptionState::NotEncrypted) {
            return Ok(());
        }
        let request = get_state::Request::new(room.room_id().to_owned(), StateEventType::RoomEncryption, String::new());
        match client.send(request).await {
            Ok(_) => {
                let text = "the room has become encrypted, and no sync has brought its keys yet";
                Err(errors::fault(Reason::KeysNotReady, text))
            }
            Err(error) if error.client_api_error_kind() == Some(&ErrorKind::NotFound) => Ok(()),
            Err(error) => Err(errors::http(&error).error),
        }
    }
}
