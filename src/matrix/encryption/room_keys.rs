//! The keys of encrypted rooms: sharing them before a send, and reporting rooms that wait for them.

use std::time::Duration;

use matrix_sdk::{Client, Error, HttpError, Room, config::RequestConfig, ruma::api::error::IntoHttpError};
use tokio::time::timeout;

use super::expired_keys;
use crate::{
    matrix::{
        api::errors::{self, ApiError, NOT_IN_ROOM},
        context::Context,
    },
    model::{NoKeys, Reason, RoomAddress, SendError},
};

/// The time limit for creating and sharing a room's keys; the next attempt continues where this one stopped.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The joined rooms whose members must be known, since their devices get keys.
pub(crate) fn encrypted_rooms(client: &Client) -> impl Iterator<Item = Room> {
    client.joined_rooms().into_iter().filter(|room| room.encryption_state().is_encrypted())
}

/// Creates the room's keys and shares them with its members, unless that is done.
pub(crate) async fn share(context: &Context, room: &Room, address: &RoomAddress) -> Result<(), SendError> {
    let too_slow = || Err(errors::send_error(Reason::KeysNotReady, "the room's keys were not shared in time"));
    let shared = timeout(TIMEOUT, share_now(room)).await.unwrap_or_else(|_| too_slow());
    match &shared {
        Ok(()) => report(context, address, None),
        Err(error) if error.reason == Reason::KeysNotReady => report(context, address, Some(NoKeys::NotReady)),
        Err(_) => {}
    }
    shared
}

/// Does all that the SDK does before it sends to an encrypted room: the list of members, the keys of their devices, and
/// the room key to each of them.
///
/// The SDK has this only as the first part of a send. So this is a send that cannot go out: its own request, and none
/// of those before it, is made without an access token, which fails in this process. Any other failure concerns the
/// keys. (The event that is encrypted for it is dropped and counts towards the rotation of the key.)
async fn share_now(room: &Room) -> Result<(), SendError> {
    let nothing = serde_json::json!({});
    let rehearsal = room.send_raw("m.room.message", nothing).with_request_config(RequestConfig::new().skip_auth());
    let rehearsed = async {
        match rehearsal.await {
            Err(Error::Http(error)) if matches!(*error, HttpError::IntoHttp(IntoHttpError::Authentication(_))) => {
                Ok(())
            }
            Err(error) => Err(keys_error(ApiError::from_sdk(&error).error)),
            // The homeserver accepts events without a token. Nothing readable has gone out.
            Ok(_) => Err(errors::send_error(Reason::KeysNotReady, "the homeserver accepted an event without a token")),
        }
    };
    expired_keys::as_error(rehearsed).await
}

/// A failed request for the room's keys says nothing about the event, whatever its status.
fn keys_error(error: SendError) -> SendError {
    match error.reason {
        // About the account, an unreachable homeserver, our own store, or a room that we are not in.
        Reason::TokenRejected | Reason::AccountRefused | Reason::Unreachable | Reason::NotReady => error,
        Reason::RoomRefused if error.detail == NOT_IN_ROOM => error,
        _ => SendError {
            reason: Reason::KeysNotReady,
            detail: format!("cannot get the room's keys: {}", error.detail),
            ..error
        },
    }
}

/// Reports to health, metrics and the log why events for the room cannot be encrypted; `None`: they can, or need not be.
pub(crate) fn report(context: &Context, address: &RoomAddress, why: Option<NoKeys>) {
    let changed = context.health.update(|health| {
        let room = health.rooms.get_mut(address)?;
        let before = std::mem::replace(&mut room.no_keys, why);
        (before != why).then(|| room.name.clone())
    });
    let Some(room) = changed else { return };
    for reason in NoKeys::ALL {
        let gauge = context.metrics.rooms_without_keys.with_label_values(&[room.as_str(), reason.as_str()]);
        gauge.set(i64::from(why == Some(reason)));
    }
    if let Some(why) = why {
        tracing::warn!(%room, reason = why.as_str(), advice = why.advice(), "encrypted room held");
    } else {
        tracing::info!(%room, "encrypted room no longer held");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;

    #[test]
    fn a_failure_of_the_keys_holds_the_room_alone() {
        let own = [Reason::TokenRejected, Reason::AccountRefused, Reason::Unreachable, Reason::NotReady];
        for reason in Reason::ALL {
            let judged = keys_error(errors::send_error(reason, "scripted"));
            assert!(judged.reason.scope() != Scope::Event && !judged.reason.in_doubt(), "{reason:?}: {judged}");
            let expected = if own.contains(&reason) { reason } else { Reason::KeysNotReady };
            assert_eq!(judged.reason, expected, "{reason:?}");
        }
        let left = errors::send_error(Reason::RoomRefused, NOT_IN_ROOM);
        assert_eq!(keys_error(left).reason, Reason::RoomRefused);
    }
}
