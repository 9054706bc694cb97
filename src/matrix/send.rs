//! One frozen event to one room.

use std::time::Duration;

use matrix_sdk::{
    Client, Room,
    ruma::{
        TransactionId,
        api::{client::state::get_state_event_for_key::v3 as get_state, error::ErrorKind},
        events::{AnyMessageLikeEventContent, StateEventType},
        serde::Raw,
    },
};
use tokio::time::{sleep, timeout};

use super::{Account, Link, bare::Bare, errors, way::Way};
use crate::{
    delivery::{Reason, SendError},
    model::{NoKeys, RoomAddress, TxnId},
};

/// A send with everything that the SDK puts before it must be over within this.
const SEND_TIMEOUT: Duration = Duration::from_secs(25);
/// How long a send waits for the try to connect that it asked for.
const LINK_TIMEOUT: Duration = Duration::from_secs(15);
/// A room has become encrypted: how long the sync that tells so may take, and how often is looked.
const SYNC_ON_ITS_WAY: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

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
        let Some(open) = open.as_ref() else {
            return Err(errors::fault(Reason::NotReady, "not connected yet"));
        };
        let delivery = async {
            match &open.way {
                Way::Keys(client) => self.deliver(client, address, txn_id, content).await,
                Way::Bare(why) => {
                    let bare = Bare { wire: self.wire()?, token: &open.session.token };
                    self.deliver_bare(bare, *why, address, txn_id, content).await
                }
            }
        };
        let sent = match timeout(SEND_TIMEOUT, delivery).await {
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
        let open = self.open.read().await.is_some();
        let device = if open { self.sending_device() } else { None };
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
        self.check_still_plain(client, &room, address).await?;
        // Asks the homeserver while no sync has told.
        let encryption = room.latest_encryption_state().await;
        if encryption.map_err(|error| before_send(errors::sdk(&error).error))?.is_encrypted() {
            self.await_trust(client).await;
        }
        let txn_id = <&TransactionId>::from(txn_id.as_str());
        let error = match room.send_raw("m.room.message", content).with_transaction_id(txn_id).await {
            Ok(sent) => {
                self.note_keys(address, None);
                return Ok(sent.response.event_id.to_string());
            }
            Err(error) => errors::sdk(&error).error,
        };
        if error.reason == Reason::KeysNotReady {
            self.note_keys(address, Some(NoKeys::NotReady));
        }
        if error.reason == Reason::RoomRefused {
            self.room_refused(address).await;
        }
        Err(error)
    }

    /// An alert must not go out in the clear because no sync has told yet that the room is encrypted now. A sync tells
    /// within a second as a rule, and that is too late: so the homeserver is asked before each send to a plain room.
    async fn check_still_plain(&self, client: &Client, room: &Room, address: &RoomAddress) -> Result<(), SendError> {
        // A room never goes back.
        if room.encryption_state().is_encrypted() {
            return Ok(());
        }
        let request = get_state::Request::new(room.room_id().to_owned(), StateEventType::RoomEncryption, String::new());
        match client.send(request).await {
            Ok(_) => {}
            Err(error) if error.client_api_error_kind() == Some(&ErrorKind::NotFound) => return Ok(()),
            Err(error) => return Err(before_send(errors::http(&error).error)),
        }
        let told = async {
            while !room.encryption_state().is_encrypted() {
                sleep(LOOK).await;
            }
        };
        if timeout(SYNC_ON_ITS_WAY, told).await.is_ok() {
            return Ok(());
        }
        self.note_keys(address, Some(NoKeys::NotReady));
        let text = "the room has become encrypted, and no sync has brought its keys yet";
        Err(errors::fault(Reason::KeysNotReady, text))
    }
}

/// What fails before the send leaves the event in no doubt.
pub(super) fn before_send(fault: SendError) -> SendError {
    if fault.reason.in_doubt() { SendError { reason: Reason::Unreachable, ..fault } } else { fault }
}
