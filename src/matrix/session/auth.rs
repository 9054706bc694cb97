//! From the config's credential to a session that the homeserver has confirmed.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    mode::Session,
    secret_file::{INTERVAL, SecretFile},
    session_file::StoredSession,
};
use crate::{
    config::{Credential, Secret},
    matrix::{
        api::{
            client::Api,
            errors::{self, ApiError},
        },
        context::Context,
    },
    model::{Reason, SendError, Timestamp},
};

/// A token that expires is renewed this long before, or halfway to its end.
const RENEW_BEFORE: Duration = Duration::from_mins(1);
const NO_TOKEN: &str = "no valid access token: set matrix.access_token_file or matrix.password_file, or run login";

/// Gets sessions from the access token, from the password, or from what the command `login` stored.
pub(super) struct Auth {
    context: Arc<Context>,
    secret_file: SecretFile,
}

impl Auth {
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, secret_file: SecretFile::default() }
    }

    fn credential(&self) -> Option<&Credential> {
        self.context.config.credential.as_ref()
    }

    fn configured_secret(&self) -> Option<&Secret> {
        self.credential().map(|(Credential::AccessToken(secret) | Credential::Password(secret))| secret)
    }

    /// A session that the homeserver has just confirmed. A login with a password reuses `last_device`.
    pub async fn session(&self, api: &Api, last_device: Option<String>) -> Result<Session, SendError> {
        let stored = match self.credential() {
            Some(Credential::AccessToken(secret)) => {
                return self.confirm_token(api, self.secret_file.current(secret).await.expose()).await;
            }
            Some(Credential::Password(_)) => self.stored_session().unwrap_or_else(|error| {
                tracing::warn!(error = format!("{error:#}"), "cannot read the stored session; logging in again");
                None
            }),
            None => {
                self.stored_session().map_err(|error| errors::send_error(Reason::NotReady, format!("{error:#}")))?
            }
        };
        // Whether the homeserver no longer knows the session's device.
        let mut device_gone = false;
        if let Some(stored) = stored.as_ref().filter(|stored| self.is_ours(stored)) {
            match self.resume(api, stored.clone()).await {
                Err(failed) if failed.error.reason == Reason::TokenRejected => device_gone = !failed.soft_logout,
                resumed => return resumed.map_err(SendError::from),
            }
        }
        // The same device across restarts; but never the device of another user, whose store it would open, nor one that
        // the homeserver has deleted: the keys of such a device are not uploaded again.
        let device = match stored {
            Some(stored) => (stored.user_id == self.context.config.user_id && !device_gone).then_some(stored.device_id),
            None => last_device,
        };
        let logged_in = self.log_in(api, device).await?;
        logged_in.ok_or_else(|| errors::send_error(Reason::TokenRejected, NO_TOKEN))
    }

    /// Logs in with the password, if the config has one. `None` creates a new device.
    pub async fn log_in(&self, api: &Api, device: Option<String>) -> Result<Option<Session>, SendError> {
        let Some(password) = self.context.password() else { return Ok(None) };
        let password = self.secret_file.current(password).await;
        let config = &self.context.config;
        let user = &config.user_id;
        let login = api.log_in(user, password.expose(), device.as_deref()).await?;
        if login.user != *user {
            let text = format!("logged in as {}, but matrix.user_id is {user}; correct it", login.user);
            return Err(errors::send_error(Reason::AccountRefused, text));
        }
        tracing::info!(user, device = login.device, "logged in");
        let stored = StoredSession::new(&login, &config.homeserver, self.context.clock.wall());
        let expires = self.expiry(&stored);
        self.store_session(stored).await;
        Ok(Some(Session { device: Some(login.device), token: login.token, expires }))
    }

    /// The session of the last run, as far as it is known without a request.
    pub async fn last_session(&self, known_device: Option<String>) -> Option<Session> {
        if let Some(Credential::AccessToken(secret)) = self.credential() {
            let device = Some(known_device?);
            let token = self.secret_file.current(secret).await.expose().to_owned();
            return Some(Session { device, token, expires: None });
        }
        let stored = self.stored_session().ok()?.filter(|stored| self.is_ours(stored))?;
        let expires = self.expiry(&stored);
        Some(Session { device: Some(stored.device_id), token: stored.access_token, expires })
    }

    /// Resumes the stored session, with its next token if this one has expired.
    async fn resume(&self, api: &Api, mut stored: StoredSession) -> Result<Session, ApiError> {
        let now = self.context.clock.wall();
        if stored.expires_at.is_some_and(|at| at - now.0 < millis(RENEW_BEFORE)) {
            match self.renew(api, &stored).await {
                Ok(renewed) => stored = renewed.unwrap_or(stored),
                // The present token is valid for a while.
                Err(error) => tracing::warn!(error = error.detail, "cannot renew the access token; will retry"),
            }
        }
        match self.confirm_stored(api, &stored).await {
            Err(failed) if failed.error.reason == Reason::TokenRejected => match self.renew(api, &stored).await? {
                Some(renewed) => self.confirm_stored(api, &renewed).await,
                None => Err(failed),
            },
            confirmed => confirmed,
        }
    }

    /// When its token expires, if it can be renewed. The file has wall-clock time, since other processes write it too.
    fn expiry(&self, stored: &StoredSession) -> Option<Timestamp> {
        let expires_at = stored.refresh_token.as_ref().and(stored.expires_at);
        expires_at.map(|at| self.context.clock.of_wall(Timestamp(at)))
    }

    async fn confirm_stored(&self, api: &Api, stored: &StoredSession) -> Result<Session, ApiError> {
        let owner = api.whoami(&stored.access_token).await?;
        let expires = self.expiry(stored);
        Ok(Session { device: owner.device, token: stored.access_token.clone(), expires })
    }

    /// Confirms an access token of the config. The homeserver names the device, which transaction ids and keys depend on.
    async fn confirm_token(&self, api: &Api, token: &str) -> Result<Session, SendError> {
        let owner = api.whoami(token).await?;
        let user = &self.context.config.user_id;
        if owner.user != *user {
            let text = format!("the access token belongs to {}, but matrix.user_id is {user}", owner.user);
            return Err(errors::send_error(Reason::AccountRefused, text));
        }
        Ok(Session { device: owner.device, token: token.to_owned(), expires: None })
    }

    /// Gets the next token; `None`: the session cannot be renewed, or not any more.
    async fn renew(&self, api: &Api, stored: &StoredSession) -> Result<Option<StoredSession>, SendError> {
        let Some(refresh_token) = &stored.refresh_token else { return Ok(None) };
        match api.refresh(refresh_token).await {
            Ok((token, validity)) => {
                let renewed = stored.clone().renewed(token, &validity, self.context.clock.wall());
                // Before its first use, which invalidates the old tokens.
                self.store_session(renewed.clone()).await;
                tracing::debug!("renewed the access token");
                Ok(Some(renewed))
            }
            Err(error) if error.reason == Reason::TokenRejected => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn store_session(&self, session: StoredSession) {
        let path = StoredSession::path(&self.context.store_path);
        let written = tokio::task::spawn_blocking(move || session.write(&path)).await;
        if let Err(error) = written.map_err(Into::into).flatten() {
            // The session works without its file; the next start logs in again under the same device.
            tracing::warn!(error = format!("{error:#}"), "cannot store the session");
        }
    }

    /// What the last login stored, whichever user logged in.
    fn stored_session(&self) -> anyhow::Result<Option<StoredSession>> {
        StoredSession::read(&StoredSession::path(&self.context.store_path))
    }

    fn is_ours(&self, stored: &StoredSession) -> bool {
        let config = &self.context.config;
        stored.user_id == config.user_id && stored.homeserver == config.homeserver.as_str()
    }

    /// Returns when there is a better token than the session's: it expires soon, or the file has another valid one.
    pub async fn token_changed(&self, session: &Session) {
        let began = self.context.clock.now();
        let renew_at =
            session.expires.map(|at| Timestamp(at.0 - millis(RENEW_BEFORE).min((at.0 - began.0).max(0) / 2)));
        let mut rejected = None;
        loop {
            sleep(INTERVAL).await;
            if renew_at.is_some_and(|at| self.context.clock.now() >= at) {
                return;
            }
            let Some(Credential::AccessToken(secret)) = self.credential() else { continue };
            let Some(new) = self.secret_file.read(secret).await else { continue };
            if new.expose() == session.token || rejected.as_ref() == Some(&new) {
                continue;
            }
            let Ok(api) = self.context.api() else { continue };
            match self.confirm_token(api, new.expose()).await {
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

    /// The access token or password as it is now, if it comes from a file.
    pub async fn secret(&self) -> Option<Secret> {
        let secret = self.configured_secret().filter(|secret| secret.file().is_some())?;
        Some(self.secret_file.current(secret).await)
    }

    /// Returns when the file of the access token or password has another secret than `tried`.
    pub async fn secret_changed(&self, tried: Option<&Secret>) {
        self.secret_file.changed(self.configured_secret(), tried).await;
    }

    /// Adds what to do about a rejected token or password, for the log and for health.
    pub fn with_advice(&self, error: SendError) -> SendError {
        if error.reason != Reason::TokenRejected || error.detail == NO_TOKEN {
            return error;
        }
        let from_file = self.configured_secret().is_some_and(|secret| secret.file().is_some());
        let advice = match self.credential() {
            Some(Credential::AccessToken(_)) if from_file => {
                "put a new access token into the file of matrix.access_token_file, which is read every second"
            }
            Some(Credential::AccessToken(_)) => "set a new matrix.access_token and restart, or run login",
            Some(Credential::Password(_)) if from_file => {
                "put the right password into the file of matrix.password_file, which is read every second"
            }
            Some(Credential::Password(_)) => "set the right matrix.password and restart",
            None => "run login",
        };
        SendError { detail: format!("{}; alerts are kept meanwhile: {advice}", error.detail), ..error }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
