//! What the replica's own session and the shared one have in common: whose token it is, when there is a better one, and
//! what a failed attempt to get a session means.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    mode::Session,
    secret_file::{INTERVAL, SecretFile},
};
use crate::{
    config::{Credential, Secret},
    matrix::{
        api::{client::Api, errors},
        context::Context,
    },
    model::{Reason, Scope, SendError, Timestamp},
};

/// A token that expires is renewed this long before, or halfway to its end.
pub(super) const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// Confirms an access token. The homeserver names the device, which transaction ids and keys depend on.
pub(super) async fn confirm_token(context: &Context, api: &Api, token: &str) -> Result<Session, SendError> {
    let owner = api.whoami(token).await?;
    let user = &context.config.user_id;
    if owner.user != *user {
        let text = format!("the access token belongs to {}, but matrix.user_id is {user}", owner.user);
        return Err(errors::send_error(Reason::AccountRefused, text));
    }
    Ok(Session { device: owner.device, token: token.to_owned(), expires: None })
}

/// Returns when the session's token should be renewed; never, if it cannot be or need not be.
pub(super) async fn expires_soon(context: &Context, session: &Session) {
    let began = context.clock.now();
    let Some(expires) = session.expires else { return std::future::pending().await };
    let renew_at = Timestamp(expires.0 - millis(RENEW_BEFORE).min((expires.0 - began.0).max(0) / 2));
    while context.clock.now() < renew_at {
        sleep(INTERVAL).await;
    }
}

/// Returns when the file of the access token has another valid one than `used`.
pub(super) async fn new_token_in_file(context: &Context, file: &SecretFile, secret: &Secret, used: &str) {
    let mut rejected = None;
    loop {
        sleep(INTERVAL).await;
        let Some(new) = file.read(secret).await else { continue };
        if new.expose() == used || rejected.as_ref() == Some(&new) {
            continue;
        }
        let Ok(api) = context.api() else { continue };
        match confirm_token(context, api, new.expose()).await {
            Ok(_) => {
                tracing::info!("found a new token in matrix.access_token_file");
                return;
            }
            Err(error) if errors::ends_session(&error) => {
                tracing::warn!(error = error.detail, "new access token refused; keeping the old one");
                rejected = Some(new);
            }
            Err(_) => {}
        }
    }
}

/// Adds what to do about a rejected token or password, for the log and for health. `login`: what creates a session that
/// the config has no secret for.
pub(super) fn with_advice(error: SendError, credential: Option<&Credential>, login: &str) -> SendError {
    if error.reason != Reason::TokenRejected {
        return error;
    }
    let secret = credential.map(|(Credential::AccessToken(secret) | Credential::Password(secret))| secret);
    let from_file = secret.is_some_and(|secret| secret.file().is_some());
    let advice = match credential {
        Some(Credential::AccessToken(_)) if from_file => {
            "put a new access token into the file of matrix.access_token_file, which is read every second"
        }
        Some(Credential::AccessToken(_)) => "set a new matrix.access_token and restart, or run login",
        Some(Credential::Password(_)) if from_file => {
            "put the right password into the file of matrix.password_file, which is read every second"
        }
        Some(Credential::Password(_)) => "set the right matrix.password and restart",
        None => login,
    };
    SendError { detail: format!("{}; alerts are kept meanwhile: {advice}", error.detail), ..error }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A request to connect concerns no event and no room, whatever the homeserver answers.
pub(super) fn of_connecting(error: SendError) -> SendError {
    match error.reason.scope() {
        Scope::Event | Scope::Room => SendError { reason: Reason::ServerError, ..error },
        Scope::Account | Scope::Server => error,
    }
}

/// What a failed connection attempt means for a send: nothing was sent, so the event is not in doubt.
pub(super) fn for_sends(error: &SendError, has_session: bool) -> SendError {
    let mut error = error.clone();
    if error.reason.scope() == Scope::Server {
        error.reason = if has_session { Reason::Unreachable } else { Reason::NotReady };
    }
    if error.reason == Reason::NotReady && !has_session {
        error.detail = format!("not connected yet: {}", error.detail);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_without_a_link_is_never_in_doubt() {
        for reason in Reason::ALL {
            let error = errors::send_error(reason, "words");
            for has_session in [true, false] {
                assert!(!for_sends(&error, has_session).reason.in_doubt(), "{reason:?}");
                let judged = for_sends(&of_connecting(error.clone()), has_session).reason;
                assert!(!judged.in_doubt() && matches!(judged.scope(), Scope::Server | Scope::Account), "{reason:?}");
            }
        }
        let down = errors::no_answer();
        assert_eq!(for_sends(&down, true), errors::send_error(Reason::Unreachable, "no answer in time"));
        assert_eq!(
            for_sends(&down, false),
            errors::send_error(Reason::NotReady, "not connected yet: no answer in time")
        );
        let refused = errors::send_error(Reason::TokenRejected, "401");
        assert_eq!(for_sends(&refused, false), refused);
    }
}
