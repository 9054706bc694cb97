//! One frozen event to one room. What goes before the event (entering the room, asking whether it is encrypted, its keys)
//! is done and judged apart from the send itself: only the send can leave an event in doubt or have it refused.

use std::time::Duration;

use matrix_sdk::{
    Client, Error, HttpError, Room,
    config::RequestConfig,
    ruma::{TransactionId, api::error::IntoHttpError, events::AnyMessageLikeEventContent, serde::Raw},
};
use tokio::time::{sleep, timeout};

use crate::{
    matrix::{
        Account, Link,
        api::errors,
        session::{mode::SessionMode, without_keys::TokenApi},
    },
    model::{NoKeys, Reason, RoomAddress, Scope, SendError, TxnId},
};

/// Entering the room and asking whether it is encrypted must be over within this.
pub(crate) const ENTER_TIMEOUT: Duration = Duration::from_secs(25);
/// The room's keys must be made and shared within this; what was done up to then is kept for the next try.
const KEYS_TIMEOUT: Duration = Duration::from_secs(30);
/// The homeserver must answer the send itself within this.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(25);
/// How long a send waits for the try to connect that it asked for.
const LINK_TIMEOUT: Duration = Duration::from_secs(15);
/// A room has become encrypted: how long the sync that tells so may take, and how often is looked.
const SYNC_ON_ITS_WAY: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

impl Account {
    pub(crate) async fn send_event(
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
        let sent = match &open.mode {
            SessionMode::WithKeys(client) => self.deliver(client, address, txn_id, content).await,
            SessionMode::WithoutKeys(why) => {
                let token_api = TokenApi { api: self.api()?, token: &open.session.token };
                self.deliver_without_keys(token_api, *why, address, txn_id, content).await
            }
        };
        if sent.as_ref().is_err_and(|error| error.reason == Reason::TokenRejected) {
            self.suspect.notify_one();
        }
        sent
    }

    /// While there is no link, a send makes the account try now rather than at its next turn, and learns the outcome.
    pub(crate) async fn await_link(&self) -> Result<(), SendError> {
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
    pub(crate) async fn connected_device(&self) -> Result<String, SendError> {
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
        let frozen = content;
        // Raw: the bytes that were frozen are the bytes that go out.
        let content: Raw<AnyMessageLikeEventContent> = Raw::from_json_string(content.to_owned())
            .map_err(|error| errors::fault(Reason::BadEvent, format!("the content is not JSON: {error}")))?;
        let ready = async {
            let room = self.room(client, address).await.map_err(before_send)?;
            self.check_still_plain(client, &room, address).await?;
            // Asks the homeserver while no sync has told.
            let encryption = room.latest_encryption_state().await;
            let encryption = encryption.map_err(|error| before_send(errors::sdk(&error).error))?;
            Ok((room, encryption.is_encrypted()))
        };
        let (room, encrypted) = timeout(ENTER_TIMEOUT, ready).await.unwrap_or_else(|_| Err(not_entered()))?;
        if encrypted {
            let ready = async {
                self.await_trust(client).await;
                self.have_keys(&room, address).await
            };
            tokio::select! {
                ready = ready => ready?,
                // What takes long and has not begun to send does not hold up the stop.
                () = self.setup.cancel.cancelled() => return Err(errors::fault(Reason::NotReady, "stopping")),
            }
        }
        let send = async {
            if !encrypted {
                // The SDK would add nothing, and keep less of what a refusal says.
                let token = client.access_token().unwrap_or_default();
                return TokenApi { api: self.api()?, token: &token }.send(room.room_id(), txn_id, frozen).await;
            }
            let txn_id = <&TransactionId>::from(txn_id.as_str());
            let sent = room.send_raw("m.room.message", content).with_transaction_id(txn_id).await;
            sent.map(|done| done.response.event_id.to_string()).map_err(|error| errors::sdk(&error).error)
        };
        let error = match timeout(SEND_TIMEOUT, send).await {
            Ok(Ok(event)) => return Ok(event),
            Ok(Err(error)) => error,
            Err(_) => no_answer(),
        };
        if encrypted && (error.reason.scope() == Scope::Event || error.reason == Reason::KeysNotReady) {
            // A device that came in since may have made the SDK ask for keys again, and that be what was refused.
            self.have_keys(&room, address).await?;
        }
        if error.reason == Reason::RoomRefused {
            self.room_refused(address).await;
        }
        Err(error)
    }

    /// Makes the room's keys and shares them with whoever is in it, if that is not done.
    async fn have_keys(&self, room: &Room, address: &RoomAddress) -> Result<(), SendError> {
        let shared = match timeout(KEYS_TIMEOUT, share_keys(room)).await {
            Ok(shared) => shared,
            Err(_) => Err(errors::fault(Reason::KeysNotReady, "the room's keys could not be shared in time")),
        };
        match &shared {
            Ok(()) => self.note_keys(address, None),
            Err(error) if error.reason == Reason::KeysNotReady => self.note_keys(address, Some(NoKeys::NotReady)),
            Err(_) => {}
        }
        shared
    }

    /// An alert must not go out in the clear because no sync has told yet that the room is encrypted now. A sync tells
    /// within a second as a rule, and that is too late: so the homeserver is asked before each send to a plain room.
    async fn check_still_plain(&self, client: &Client, room: &Room, address: &RoomAddress) -> Result<(), SendError> {
        // A room never goes back.
        if room.encryption_state().is_encrypted() {
            return Ok(());
        }
        let token = client.access_token().unwrap_or_default();
        let token_api = TokenApi { api: self.api()?, token: &token };
        if !token_api.is_encrypted(room.room_id()).await.map_err(before_send)? {
            return Ok(());
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

/// All that the SDK does before it sends to an encrypted room: the list of members, the keys of their devices, and the
/// room key to each of them.
///
/// The SDK has this only as the first part of a send. So this is a send that cannot go out: its own request, and none
/// of those before it, is to be made without an access token, which fails in this process. Whatever else fails is a
/// fault of the keys. (The event that is encrypted for it is thrown away and counts towards the rotation of the key.)
async fn share_keys(room: &Room) -> Result<(), SendError> {
    let nothing = serde_json::json!({});
    let rehearsal = room.send_raw("m.room.message", nothing).with_request_config(RequestConfig::new().skip_auth());
    match rehearsal.await {
        Err(Error::Http(error)) if matches!(*error, HttpError::IntoHttp(IntoHttpError::Authentication(_))) => Ok(()),
        Err(error) => Err(keys_fault(errors::sdk(&error).error)),
        // A homeserver that takes events from nobody in particular. Nothing readable has gone out.
        Ok(_) => Err(errors::fault(Reason::KeysNotReady, "the homeserver took an event without a token")),
    }
}

/// A request for the room's keys has failed: whatever its status, that says nothing about the event.
fn keys_fault(error: SendError) -> SendError {
    match error.reason {
        // Of the account, of the homeserver that is not there, of our own store, and of a room that we are not in.
        Reason::TokenRejected | Reason::AccountRefused | Reason::Unreachable | Reason::NotReady => error,
        Reason::RoomRefused if error.detail == errors::NOT_IN_ROOM => error,
        _ => SendError {
            reason: Reason::KeysNotReady,
            detail: format!("the room's keys could not be had: {}", error.detail),
            ..error
        },
    }
}

/// What fails before the send leaves the event in no doubt, and is no verdict on it.
pub(crate) fn before_send(fault: SendError) -> SendError {
    if fault.reason.in_doubt() {
        return SendError { reason: Reason::Unreachable, ..fault };
    }
    match fault.reason.scope() {
        Scope::Event => SendError {
            reason: Reason::KeysNotReady,
            detail: format!("cannot find out whether the room is encrypted: {}", fault.detail),
            ..fault
        },
        _ => fault,
    }
}

pub(crate) fn not_entered() -> SendError {
    errors::fault(Reason::RoomRefused, "the room could not be entered or looked at in time")
}

pub(crate) fn no_answer() -> SendError {
    errors::fault(Reason::NoAnswer, "no answer in time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_before_a_send_is_never_the_events_fault() {
        for reason in Reason::ALL {
            let fault = errors::fault(reason, "as the test wants");
            for judged in [before_send(fault.clone()), keys_fault(fault)] {
                assert!(judged.reason.scope() != Scope::Event && !judged.reason.in_doubt(), "{reason:?}: {judged}");
            }
        }
    }

    #[test]
    fn a_fault_of_the_keys_holds_the_room_alone() {
        let own = [Reason::TokenRejected, Reason::AccountRefused, Reason::Unreachable, Reason::NotReady];
        for reason in Reason::ALL {
            let judged = keys_fault(errors::fault(reason, "as the test wants")).reason;
            let expected = if own.contains(&reason) { reason } else { Reason::KeysNotReady };
            assert_eq!(judged, expected, "{reason:?}");
        }
        assert_eq!(keys_fault(errors::fault(Reason::RoomRefused, errors::NOT_IN_ROOM)).reason, Reason::RoomRefused);
    }
}
