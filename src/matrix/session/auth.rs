//! From the config's credential to a session that the homeserver has confirmed.

use std::sync::Arc;

use super::{
    confirm::{RENEW_BEFORE, confirm_token, expires_soon, new_token_in_file, with_advice},
    mode::Session,
    secret_file::SecretFile,
    session_file::StoredSession,
};
use crate::{
    config::{Credential, Secret},
    matrix::{
        api::{
            client::{Api, OWN_DEVICE},
            errors::{self, ApiError},
        },
        context::Context,
    },
    model::{Reason, SendError, Timestamp},
};

const NO_TOKEN: &str = "no valid access token: set matrix.access_token_file or matrix.password_file, or run login";

/// With replicas; the advice comes with [`crate::model::NoKeys::NoOwnDevice`].
const NO_OWN: &str = "no valid session in store.path";

/// Gets sessions from the access token, from the password, or from what the command `login` stored.
pub(super) struct Auth {
    context: Arc<Context>,
    /// An access token of the config is then that of the shared device, and not for this session.
    is_shared: bool,
    secret_file: SecretFile,
}

impl Auth {
    pub fn new(context: Arc<Context>, is_shared: bool) -> Self {
        Self { context, is_shared, secret_file: SecretFile::default() }
    }

    fn credential(&self) -> Option<&Credential> {
        let credential = self.context.config.credential.as_ref();
        credential.filter(|credential| !self.is_shared || matches!(credential, Credential::Password(_)))
    }

    fn configured_secret(&self) -> Option<&Secret> {
        self.credential().map(|(Credential::AccessToken(secret) | Credential::Password(secret))| secret)
    }

    /// A session that the homeserver has just confirmed. A login with a password reuses `last_device`.
    pub async fn session(&self, api: &Api, last_device: Option<String>) -> Result<Session, SendError> {
        let stored = match self.credential() {
            Some(Credential::AccessToken(secret)) => {
                return confirm_token(&self.context, api, self.secret_file.current(secret).await.expose()).await;
            }
            Some(Credential::Password(_)) => self.stored_session().unwrap_or_else(|error| {
                tracing::warn!(error = format!("{error:#}"), "cannot read the stored session; logging in again");
                None
            }),
            None => {
                // A replica can do without.
                let reason = if self.is_shared { Reason::TokenRejected } else { Reason::NotReady };
                self.stored_session().map_err(|error| errors::send_error(reason, format!("{error:#}")))?
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
        logged_in
            .ok_or_else(|| errors::send_error(Reason::TokenRejected, if self.is_shared { NO_OWN } else { NO_TOKEN }))
    }

    /// Logs in with the password, if the config has one. `None` creates a new device.
    pub async fn log_in(&self, api: &Api, device: Option<String>) -> Result<Option<Session>, SendError> {
        let Some(password) = self.context.password() else { return Ok(None) };
        let password = self.secret_file.current(password).await;
        let config = &self.context.config;
        let user = &config.user_id;
        let login = api.log_in(user, password.expose(), device.as_deref(), OWN_DEVICE).await?;
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
        if stored.ends_within(RENEW_BEFORE, now) {
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
        stored.is_of(&self.context.config)
    }

    /// Returns when there is a better token than the session's: it expires soon, or the file has another valid one.
    pub async fn token_changed(&self, session: &Session) {
        let Some(Credential::AccessToken(secret)) = self.credential() else {
            return expires_soon(&self.context, session).await;
        };
        tokio::select! {
            () = expires_soon(&self.context, session) => {}
            () = new_token_in_file(&self.context, &self.secret_file, secret, &session.token) => {}
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
        if error.detail == NO_TOKEN {
            return error;
        }
        with_advice(error, self.credential(), if self.is_shared { "run login on this replica" } else { "run login" })
    }
}
