//! Getting a session of the shared device: from the config's token, or from the store that the replicas share.

use super::{
    Loaded, Shared,
    next::{Means, Next, Refused, device_name, next},
};
use crate::{
    config::Credential,
    matrix::{
        api::{
            client::{Api, SHARED_DEVICE},
            errors,
        },
        context::lock,
        session::{confirm::confirm_token, mode::Session, session_file::StoredSession},
    },
    model::{Reason, SendError, Timestamp},
};

/// Each round of an attempt uses up a token, so more of them are a race that does not end.
const MAX_ROUNDS: usize = 6;

pub(super) const WAITING: &str = "the leader gets the next token of the shared device";
const MISSING: &str = "the shared device, which sends to plain rooms, has no session: run login on a replica, or set \
                       matrix.password_file or matrix.access_token_file";

impl Shared {
    /// A session that the homeserver has just confirmed.
    pub(super) async fn attempt(&self) -> Result<Session, SendError> {
        let api = self.context.create_api().await?;
        if let Some(Credential::AccessToken(secret)) = self.credential() {
            return confirm_token(&self.context, api, self.secret_file.current(secret).await.expose()).await;
        }
        let mut refused = Refused::default();
        for _ in 0..MAX_ROUNDS {
            // Again after each refusal: another replica may have renewed the session.
            let stored = self.load().await?;
            match next(stored.as_ref(), &refused, self.means()) {
                Next::Confirm => {
                    let Some(stored) = stored else { break };
                    match confirm_token(&self.context, api, &stored.access_token).await {
                        Ok(session) => return Ok(Session { expires: self.expiry(&stored), ..session }),
                        Err(error) if error.reason == Reason::TokenRejected => {
                            refused.token = Some(stored.access_token);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Next::Renew => {
                    let Some(stored) = stored else { break };
                    self.renew(api, stored, &mut refused).await?;
                }
                Next::LogIn => return self.log_in(api, stored).await,
                Next::WaitForLeader => return Err(errors::send_error(Reason::NotReady, WAITING)),
                Next::RunLogin { rejected: false } => return Err(errors::send_error(Reason::NotReady, MISSING)),
                Next::RunLogin { rejected: true } => {
                    let text = "the homeserver rejects the stored token of the shared device";
                    return Err(errors::send_error(Reason::TokenRejected, text));
                }
            }
        }
        Err(errors::send_error(Reason::NotReady, "the stored session of the shared device keeps changing"))
    }

    fn means(&self) -> Means {
        Means {
            leads: *self.setup.leads.borrow(),
            has_password: self.context.password().is_some(),
            now: self.context.clock.wall(),
        }
    }

    /// When the token expires, if it can be renewed. The store has wall-clock time, since other machines write it too.
    fn expiry(&self, stored: &StoredSession) -> Option<Timestamp> {
        let expires_at = stored.refresh_token.as_ref().and(stored.expires_at);
        expires_at.map(|at| self.context.clock.of_wall(Timestamp(at)))
    }

    async fn renew(&self, api: &Api, stored: StoredSession, refused: &mut Refused) -> Result<(), SendError> {
        let Some(refresh_token) = stored.refresh_token.clone() else { return Ok(()) };
        match api.refresh(&refresh_token).await {
            Ok((token, validity)) => {
                // Before its first use, which invalidates the old tokens.
                self.save(&stored.renewed(token, &validity, self.context.clock.wall())).await?;
                tracing::debug!("renewed the shared device's token");
                Ok(())
            }
            Err(error) if error.reason == Reason::TokenRejected || refused.token.is_none() => {
                // The present token is valid for a while.
                refused.refresh_token = Some(refresh_token);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn log_in(&self, api: &Api, stored: Option<StoredSession>) -> Result<Session, SendError> {
        let config = &self.context.config;
        let Some(password) = self.context.password() else { return Err(errors::not_connected()) };
        let password = self.secret_file.current(password).await;
        let user = &config.user_id;
        let named = if let Some(stored) = stored {
            stored
        } else {
            let named = StoredSession::named(user, &config.homeserver, device_name());
            // Before the login, so that a login whose answer is lost makes no second device.
            self.save(&named).await?;
            named
        };
        let login = api.log_in(user, password.expose(), Some(&named.device_id), SHARED_DEVICE).await?;
        if login.user != *user {
            let text = format!("logged in as {}, but matrix.user_id is {user}; correct it", login.user);
            return Err(errors::send_error(Reason::AccountRefused, text));
        }
        tracing::info!(user, device = login.device, "logged the shared device in");
        let stored = StoredSession::new(&login, &config.homeserver, self.context.clock.wall());
        let expires = self.expiry(&stored);
        self.save(&stored).await?;
        Ok(Session { device: Some(login.device), token: login.token, expires })
    }

    /// The stored session, if it is one of this account.
    pub(super) async fn load(&self) -> Result<Option<StoredSession>, SendError> {
        let text = (self.setup.load)().await;
        *lock(&self.loaded) = text.as_ref().map_or(Loaded::Unknown, |text| Loaded::Text(text.clone()));
        let text = text.map_err(|error| {
            errors::send_error(Reason::NotReady, format!("cannot read the shared device's session: {error:#}"))
        })?;
        let stored = text.as_deref().and_then(StoredSession::parse);
        Ok(stored.filter(|stored| stored.is_of(&self.context.config)))
    }

    async fn save(&self, session: &StoredSession) -> Result<(), SendError> {
        let saved = async { (self.setup.save)(session.to_text()?).await };
        saved.await.map_err(|error| {
            errors::send_error(Reason::NotReady, format!("cannot store the shared device's session: {error:#}"))
        })
    }
}
