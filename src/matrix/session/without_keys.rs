//! Plain rooms without the SDK, for a token whose device must get no keys from us: the SDK would make some with its
//! first sync, and so replace those of the client that the device belongs to.
//!
//! There is no sync here, not even a bare one: each takes messages away that other clients sent to the device, which are
//! mostly keys. So every send asks first whether its room is encrypted by now.

use std::time::Duration;

use matrix_sdk::ruma::{
    OwnedRoomId, RoomId, TransactionId,
    api::{
        auth_scheme::SendAccessToken,
        client::{
            message::{get_message_events::v3 as get_messages, send_message_event::v3 as send_event},
            state::get_state_event_for_key::v3 as get_state,
        },
        error::ErrorKind,
    },
    events::{AnyMessageLikeEventContent, MessageLikeEventType, StateEventType},
    serde::Raw,
};
use tokio::time::{Instant, timeout};

use crate::{
    matrix::{
        Account,
        api::{client::Api, errors},
        events::send::{ENTER_TIMEOUT, SEND_TIMEOUT, before_send, no_answer, not_entered},
        rooms::{membership::Visit, requests::RoomApi},
        sync::ends_session,
    },
    model::{NoKeys, Reason, RoomAddress, SendError, TxnId},
};

/// How often the homeserver is asked whether it is there and whether rooms have become encrypted.
const ROUND: Duration = Duration::from_secs(30);
/// A store that could not be opened is tried again after this.
const STORE_AGAIN: Duration = Duration::from_mins(2);

/// A token and where to use it.
#[derive(Clone, Copy)]
pub(crate) struct TokenApi<'a> {
    pub api: &'a Api,
    pub token: &'a str,
}

impl TokenApi<'_> {
    pub fn token(&self) -> SendAccessToken<'_> {
        SendAccessToken::IfRequired(self.token)
    }

    pub async fn is_encrypted(&self, room: &RoomId) -> Result<bool, SendError> {
        let request = get_state::Request::new(room.to_owned(), StateEventType::RoomEncryption, String::new());
        match self.api.ask(request, self.token()).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Some(&ErrorKind::NotFound) => Ok(false),
            Err(error) => Err(error.fault().error),
        }
    }

    pub async fn send(&self, room: &RoomId, txn_id: &TxnId, content: &str) -> Result<String, SendError> {
        let content: Raw<AnyMessageLikeEventContent> = Raw::from_json_string(content.to_owned())
            .map_err(|error| errors::fault(Reason::BadEvent, format!("the content is not JSON: {error}")))?;
        let txn_id = <&TransactionId>::from(txn_id.as_str()).to_owned();
        let request = send_event::Request::new_raw(room.to_owned(), txn_id, MessageLikeEventType::RoomMessage, content);
        let answer = self.api.ask_within(request, self.token(), SEND_TIMEOUT).await;
        let answer = answer.map_err(|error| error.fault().error)?;
        Ok(answer.event_id.to_string())
    }

    pub async fn messages(&self, request: get_messages::Request) -> Result<get_messages::Response, SendError> {
        self.api.ask(request, self.token()).await.map_err(|error| error.fault().error)
    }
}

impl Account {
    pub(crate) async fn room_without_keys(
        &self,
        token_api: TokenApi<'_>,
        address: &RoomAddress,
    ) -> Result<OwnedRoomId, SendError> {
        self.enter(RoomApi { token_api, client: None }, address, Visit::Send).await
    }

    pub(crate) async fn deliver_without_keys(
        &self,
        token_api: TokenApi<'_>,
        why: NoKeys,
        address: &RoomAddress,
        txn_id: &TxnId,
        content: &str,
    ) -> Result<String, SendError> {
        let ready = async {
            let room = self.room_without_keys(token_api, address).await?;
            let encrypted = self.check_encryption(token_api, why, address, &room).await?;
            Ok((room, encrypted))
        };
        let ready = timeout(ENTER_TIMEOUT, ready).await.unwrap_or_else(|_| Err(not_entered()));
        let sent = match ready.map_err(before_send) {
            Ok((_, true)) => Err(errors::fault(Reason::KeysNotReady, why.advice())),
            Ok((room, false)) => {
                self.sends_without_keys.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let send = token_api.send(&room, txn_id, content);
                timeout(SEND_TIMEOUT, send).await.unwrap_or_else(|_| Err(no_answer()))
            }
            Err(fault) => Err(fault),
        };
        if sent.as_ref().is_err_and(|error| error.reason == Reason::RoomRefused) {
            self.room_refused(address).await;
        }
        sent
    }

    /// Whether the room is encrypted now, noted for health and metrics.
    async fn check_encryption(
        &self,
        token_api: TokenApi<'_>,
        why: NoKeys,
        address: &RoomAddress,
        room: &RoomId,
    ) -> Result<bool, SendError> {
        let encrypted = token_api.is_encrypted(room).await?;
        self.note_keys(address, encrypted.then_some(why));
        Ok(encrypted)
    }

    /// Stands in for syncing. Returns when the session is no longer good, or when it may be worth opening the store.
    pub(crate) async fn serve_without_keys(&self, why: NoKeys, token: &str) {
        let began = Instant::now();
        let Ok(api) = self.api() else { return };
        let token_api = TokenApi { api, token };
        loop {
            match api.whoami(token).await {
                Ok(_) => self.note_sync(),
                Err(fault) if ends_session(&fault) => return,
                Err(fault) => self.report_down(&fault),
            }
            for address in &self.rooms.served() {
                if let Ok(room) = self.enter(RoomApi { token_api, client: None }, address, Visit::Round).await {
                    // What fails here fails again with the next send, which tells.
                    let _ = self.check_encryption(token_api, why, address, &room).await;
                }
            }
            if why == NoKeys::StoreFails && began.elapsed() > STORE_AGAIN {
                return;
            }
            let _ = self.with_liveness_checks(timeout(ROUND, self.wake.notified())).await;
        }
    }
}
