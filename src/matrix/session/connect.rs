//! From a credential to an open session that the homeserver has confirmed.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    mode::SessionMode,
    storage::{Session, StoredSession},
};
use crate::{
    config::{Credential, Secret},
    matrix::{
        Account, Link,
        api::{client::Api, errors},
        lock,
        sync::ends_session,
    },
    model::{NoKeys, Reason, Scope, SendError, Timestamp},
    pacing::Backoff,
};

/// A homeserver that is down is asked again after this, growing to [`CAP`].
const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(30);
/// An account that is refused is looked at again after this: somebody has to act first.
const REFUSED: Duration = Duration::from_secs(15);
/// A refused password is tried again only after this: homeservers lock accounts for less.
const REFUSED_PASSWORD: Duration = Duration::from_mins(1);
/// How often a secret's file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A token that ends is renewed as long before its end, or halfway to it.
const RENEW_BEFORE: Duration = Duration::from_mins(1);
const NO_TOKEN: &str =
    "there is no good access token: set matrix.access_token_file or matrix.password_file, or run login";

impl Account {
    /// Opens the store of the last run's session before the homeserver is asked, so that a damaged store shows
    /// also while the homeserver is down, and sends fail as unreachable rather than as never connected.
    pub(crate) async fn restore_offline(&self) {
        let Some(session) = self.last_session().await else { return };
        // A new store is made only once the homeserver has been asked whose the device is.
        let Some(device) = session.device.as_deref().filter(|device| self.sdk_store(device).exists()) else { return };
        let opened = match self.reach().await {
            Ok(_) => self.open(&session, device).await.map(drop),
            Err(fault) => Err(fault),
        };
        if let Err(fault) = opened {
            self.report_down(&fault);
        }
    }

    /// Tries until there is an open session that the homeserver takes.
    pub(crate) async fn connect(&self) -> (SessionMode, Session) {
        let mut backoff = Backoff::new(FIRST, CAP);
        loop {
            let tried = self.secret().await;
            let fault = match self.try_connect().await {
                Ok(connected) => return connected,
                Err(fault) => of_connecting(self.with_advice(fault)),
            };
            self.report_down(&fault);
            let has_session = self.open.read().await.is_some();
            let worth_waking = fault.reason.scope() == Scope::Server;
            self.link.send_replace(Link::Down { error: for_sends(&fault, has_session), worth_waking });
            self.wait(&fault, &mut backoff, tried).await;
        }
    }

    async fn wait(&self, fault: &SendError, backoff: &mut Backoff, tried: Option<Secret>) {
        if let Some(asked) = fault.retry_after {
            sleep(asked.max(FIRST)).await;
        } else if fault.reason.scope() == Scope::Server {
            // Never more than one try a second, but as soon as a lane wants to send.
            sleep(FIRST).await;
            let _ = timeout(backoff.pause().saturating_sub(FIRST), self.wake.notified()).await;
        } else {
            let password = matches!(self.setup.config.credential, Some(Credential::Password(_)));
            let pause = if fault.reason == Reason::TokenRejected && password { REFUSED_PASSWORD } else { REFUSED };
            // A new one in the file is tried at once.
            let _ = timeout(pause, self.secret_changes(tried)).await;
        }
    }

    async fn try_connect(&self) -> Result<(SessionMode, Session), SendError> {
        let api = self.reach().await?;
        let mut session = self.good_session(api).await?;
        let mut mode = self.open_mode(api, &session).await?;
        if let (
            SessionMode::WithoutKeys(NoKeys::StoreLost | NoKeys::ForeignDevice),
            Some(Credential::Password(password)),
        ) = (&mode, &self.setup.config.credential)
        {
            tracing::warn!(device = session.device, "the keys of this device are not here: logging in as a new device");
            session = self.log_in(api, &current(password).await, None).await?;
            mode = self.open_mode(api, &session).await?;
        }
        self.learn_kind(api).await;
        self.remember_device(&session, &mode).await;
        self.report_up();
        self.report_mode(&mode);
        self.setup.health.update(|health| health.connected = true);
        self.link.send_replace(Link::Up);
        Ok((mode, session))
    }

    /// A session that the homeserver has just confirmed, from whatever credential there is.
    async fn good_session(&self, api: &Api) -> Result<Session, SendError> {
        let stored = match &self.setup.config.credential {
            Some(Credential::AccessToken(secret)) => {
                return self.confirmed(api, current(secret).await.expose()).await;
            }
            Some(Credential::Password(_)) => self.stored_session().unwrap_or_else(|damage| {
                tracing::warn!("logging in again: {damage:#}");
                None
            }),
            None => self.stored_session().map_err(|damage| errors::fault(Reason::NotReady, format!("{damage:#}")))?,
        };
        // Whether the homeserver knows the session's device no more.
        let mut ended = false;
        if let Some(stored) = stored.as_ref().filter(|stored| self.is_ours(stored)) {
            match self.resumed(api, stored.clone()).await {
                Err(fault) if fault.error.reason == Reason::TokenRejected => ended = !fault.soft_logout,
                answer => return answer.map_err(SendError::from),
            }
        }
        let Some(Credential::Password(password)) = &self.setup.config.credential else {
            return Err(errors::fault(Reason::TokenRejected, NO_TOKEN));
        };
        // The same device across restarts; but never the device of another user, whose store it would open, nor one whose
        // keys the homeserver has forgotten with it: they are not uploaded again.
        let device = match stored {
            Some(stored) => (stored.user_id == self.setup.config.user_id && !ended).then_some(stored.device_id),
            None => lock(&self.device).clone(),
        };
        self.log_in(api, &current(password).await, device).await
    }

    /// The stored session, with its next token where this one is over.
    async fn resumed(&self, api: &Api, mut stored: StoredSession) -> Result<Session, errors::Fault> {
        let ends_soon = stored.expires_at.is_some_and(|at| at - self.setup.clock.wall().0 < millis(RENEW_BEFORE));
        if ends_soon {
            match self.renewed(api, &stored).await {
                Ok(renewed) => stored = renewed.unwrap_or(stored),
                // It is good for a while still.
                Err(fault) => tracing::warn!("the access token could not be renewed yet: {}", fault.detail),
            }
        }
        match self.confirm(api, &stored).await {
            Err(fault) if fault.error.reason == Reason::TokenRejected => match self.renewed(api, &stored).await? {
                Some(renewed) => self.confirm(api, &renewed).await,
                None => Err(fault),
            },
            answer => answer,
        }
    }

    /// When its token ends, if it can be renewed. The file says so by the wall clock, since other processes write it too.
    fn ends(&self, stored: &StoredSession) -> Option<Timestamp> {
        let ends = stored.refresh_token.as_ref().and(stored.expires_at);
        ends.map(|at| self.setup.clock.of_wall(Timestamp(at)))
    }

    async fn confirm(&self, api: &Api, stored: &StoredSession) -> Result<Session, errors::Fault> {
        let owner = api.owner(&stored.access_token).await?;
        let ends = self.ends(stored);
        Ok(Session { device: owner.device, token: stored.access_token.clone(), ends })
    }

    /// `None`: the session cannot be renewed, or not any more.
    async fn renewed(&self, api: &Api, stored: &StoredSession) -> Result<Option<StoredSession>, SendError> {
        let Some(refresh_token) = &stored.refresh_token else { return Ok(None) };
        match api.refresh(refresh_token).await {
            Ok((token, validity)) => {
                let renewed = stored.clone().renewed(token, &validity, self.setup.clock.wall());
                // Before it is used: from then on the old ones are worth nothing.
                self.keep_session(renewed.clone()).await;
                tracing::debug!("the access token was renewed");
                Ok(Some(renewed))
            }
            Err(fault) if fault.reason == Reason::TokenRejected => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whose token it is. The device comes from the homeserver: transaction ids and keys hang on it.
    async fn confirmed(&self, api: &Api, token: &str) -> Result<Session, SendError> {
        let owner = api.whoami(token).await?;
        let user = &self.setup.config.user_id;
        if owner.user != *user {
            let text = format!("the access token belongs to {}, matrix.user_id says {user}", owner.user);
            return Err(errors::fault(Reason::AccountRefused, text));
        }
        Ok(Session { device: owner.device, token: token.to_owned(), ends: None })
    }

    async fn log_in(&self, api: &Api, password: &Secret, device: Option<String>) -> Result<Session, SendError> {
        let user = &self.setup.config.user_id;
        let made = api.log_in(user, password.expose(), device.as_deref()).await?;
        if made.user != *user {
            let text = format!("logged in as {}, matrix.user_id says {user}", made.user);
            return Err(errors::fault(Reason::AccountRefused, text));
        }
        tracing::info!(user, device = made.device, "logged in");
        let stored = StoredSession::new(&made, &self.setup.config.homeserver, self.setup.clock.wall());
        let ends = self.ends(&stored);
        self.keep_session(stored).await;
        Ok(Session { device: Some(made.device), token: made.token, ends })
    }

    async fn keep_session(&self, file: StoredSession) {
        let path = StoredSession::path(&self.setup.store_path);
        let written = tokio::task::spawn_blocking(move || file.write(&path)).await;
        if let Err(error) = written.map_err(Into::into).flatten() {
            // The session works all the same; the next start logs in again under the same device.
            tracing::warn!("the session is not kept: {error:#}");
        }
    }

    /// Returns when there is a better token than the session's: its end is near, or the file holds another good one.
    pub(crate) async fn token_changes(&self, session: &Session) {
        let began = self.setup.clock.now();
        let renew =
            session.ends.map(|ends| Timestamp(ends.0 - millis(RENEW_BEFORE).min((ends.0 - began.0).max(0) / 2)));
        let mut refused = None;
        loop {
            sleep(LOOK).await;
            if renew.is_some_and(|at| self.setup.clock.now() >= at) {
                return;
            }
            let Some(Credential::AccessToken(secret)) = &self.setup.config.credential else { continue };
            self.warn_of_file(secret).await;
            let Some(now) = read_again(secret).await else { continue };
            if now.expose() == session.token || refused.as_ref() == Some(&now) {
                continue;
            }
            let Ok(api) = self.api() else { continue };
            match self.confirmed(api, now.expose()).await {
                Ok(_) => {
                    tracing::info!("matrix.access_token_file holds a new token");
                    return;
                }
                Err(fault) if ends_session(&fault) => {
                    tracing::warn!(
                        "the new token in matrix.access_token_file is refused, the old one goes on: {}",
                        fault.detail
                    );
                    refused = Some(now);
                }
                Err(_) => {}
            }
        }
    }

    /// The credential as it is now, if it is one that can change.
    async fn secret(&self) -> Option<Secret> {
        match &self.setup.config.credential {
            Some(Credential::AccessToken(secret) | Credential::Password(secret)) if secret.file().is_some() => {
                self.warn_of_file(secret).await;
                Some(current(secret).await)
            }
            _ => None,
        }
    }

    /// Says once that what the secret's file holds cannot be it: the one from before goes on.
    async fn warn_of_file(&self, secret: &Secret) {
        let fault = look_again(secret).await.and_then(Result::err);
        let mut said = lock(&self.odd_file);
        if let Some(fault) = fault.as_ref().filter(|fault| said.as_ref() != Some(fault)) {
            tracing::warn!("the secret that was read before stays in use: {fault}");
        }
        *said = fault;
    }

    async fn secret_changes(&self, tried: Option<Secret>) {
        while tried.is_none() || self.secret().await == tried {
            sleep(LOOK).await;
        }
    }

    /// What to do about a refused token or password, for the log and for health.
    fn with_advice(&self, fault: SendError) -> SendError {
        if fault.reason != Reason::TokenRejected || fault.detail == NO_TOKEN {
            return fault;
        }
        let advice = match &self.setup.config.credential {
            Some(Credential::AccessToken(secret)) if secret.file().is_some() => {
                "put a new access token into the file of matrix.access_token_file, which is read again every second"
            }
            Some(Credential::AccessToken(_)) => "set a new matrix.access_token and start again, or run login",
            Some(Credential::Password(secret)) if secret.file().is_some() => {
                "put the right password into the file of matrix.password_file, which is read again every second"
            }
            Some(Credential::Password(_)) => "set the right matrix.password and start again",
            None => "run login",
        };
        SendError { detail: format!("{}; nothing is lost meanwhile: {advice}", fault.detail), ..fault }
    }

    async fn remember_device(&self, session: &Session, mode: &SessionMode) {
        let homeserver = &self.setup.config.homeserver;
        tracing::info!(
            homeserver = homeserver.host_str().unwrap_or_default(),
            user = self.setup.config.user_id,
            device = session.device,
            "connected to the homeserver"
        );
        // Only a device with keys of ours is one to come back to.
        let (SessionMode::WithKeys(_), Some(device)) = (mode, &session.device) else { return };
        if lock(&self.saved_device).as_ref() == Some(device) {
            return;
        }
        match (self.setup.save_device)(device.to_owned()).await {
            Ok(()) => *lock(&self.saved_device) = Some(device.to_owned()),
            Err(error) => tracing::warn!(device, "the device is not kept: {error:#}"),
        }
    }

    /// The session of the last run, as far as it is known without asking.
    async fn last_session(&self) -> Option<Session> {
        if let Some(Credential::AccessToken(secret)) = &self.setup.config.credential {
            let device = self.setup.known_device.clone()?;
            return Some(Session {
                device: Some(device),
                token: current(secret).await.expose().to_owned(),
                ends: None,
            });
        }
        let stored = self.stored_session().ok()?.filter(|stored| self.is_ours(stored))?;
        let ends = stored.refresh_token.and(stored.expires_at).map(Timestamp);
        Some(Session { device: Some(stored.device_id), token: stored.access_token, ends })
    }

    /// What a login left, whoever's it is.
    fn stored_session(&self) -> anyhow::Result<Option<StoredSession>> {
        StoredSession::read(&StoredSession::path(&self.setup.store_path))
    }

    fn is_ours(&self, stored: &StoredSession) -> bool {
        let config = &self.setup.config;
        stored.user_id == config.user_id && stored.homeserver == config.homeserver.as_str()
    }

    /// The homeserver cannot be used: for health, metrics and, once, the log.
    pub(crate) fn report_down(&self, fault: &SendError) {
        self.setup.metrics.homeserver_up.set(0);
        // Where the reason does not stand beside it, a refused token is to be seen as what it is.
        let told = match fault.reason {
            Reason::TokenRejected => format!("token rejected: {}", fault.detail),
            _ => fault.detail.clone(),
        };
        self.setup.health.update(|health| health.homeserver_fault = Some(told.clone()));
        if lock(&self.told).should_log(&told) {
            let homeserver = self.setup.config.homeserver.host_str().unwrap_or_default();
            tracing::warn!(homeserver, reason = fault.reason.as_str(), "nothing can be sent: {told}");
        }
    }

    /// The homeserver answers and takes the token.
    pub(crate) fn report_up(&self) {
        self.setup.metrics.homeserver_up.set(1);
        self.setup.health.update(|health| health.homeserver_fault = None);
        if lock(&self.told).clear() {
            let homeserver = self.setup.config.homeserver.host_str().unwrap_or_default();
            tracing::info!(homeserver, "homeserver reachable again");
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Requests to connect are about no event and no room, whatever a homeserver answers to them.
fn of_connecting(fault: SendError) -> SendError {
    match fault.reason.scope() {
        Scope::Event | Scope::Room => SendError { reason: Reason::ServerError, ..fault },
        Scope::Account | Scope::Server => fault,
    }
}

/// What a failed try to connect means for a send: nothing was sent, so it can be in no doubt.
fn for_sends(fault: &SendError, has_session: bool) -> SendError {
    let mut fault = fault.clone();
    if fault.reason.scope() == Scope::Server {
        fault.reason = if has_session { Reason::Unreachable } else { Reason::NotReady };
    }
    if fault.reason == Reason::NotReady && !has_session {
        fault.detail = format!("not connected yet: {}", fault.detail);
    }
    fault
}

/// The secret as its file holds it now, so that a renewed one needs no restart.
async fn current(secret: &Secret) -> Secret {
    // Half-written or gone for a moment: the one we have may still be good.
    read_again(secret).await.unwrap_or_else(|| secret.clone())
}

/// What its file holds now, if that can be it.
async fn read_again(secret: &Secret) -> Option<Secret> {
    look_again(secret).await?.ok()
}

/// What its file holds now, or why that cannot be it; `None`: nothing, since it is being written or gone for a moment.
async fn look_again(secret: &Secret) -> Option<Result<Secret, String>> {
    let bytes = tokio::fs::read(secret.file()?).await.ok().filter(|bytes| !bytes.trim_ascii().is_empty())?;
    Some(secret.renewed(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_that_found_no_link_is_never_in_doubt() {
        for reason in Reason::ALL {
            let fault = errors::fault(reason, "words");
            for has_session in [true, false] {
                assert!(!for_sends(&fault, has_session).reason.in_doubt(), "{reason:?}");
                let told = for_sends(&of_connecting(fault.clone()), has_session).reason;
                assert!(!told.in_doubt() && matches!(told.scope(), Scope::Server | Scope::Account), "{reason:?}");
            }
        }
        let down = errors::fault(Reason::NoAnswer, "no answer in time");
        assert_eq!(for_sends(&down, true), errors::fault(Reason::Unreachable, "no answer in time"));
        assert_eq!(for_sends(&down, false), errors::fault(Reason::NotReady, "not connected yet: no answer in time"));
        let refused = errors::fault(Reason::TokenRejected, "401");
        assert_eq!(for_sends(&refused, false), refused);
    }

    #[tokio::test]
    async fn a_renewed_secret_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        let secret = Secret::from_file("old\n", path.clone());
        assert_eq!(current(&secret).await.expose(), "old");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(current(&secret).await.expose(), "new");
        for half in ["", "\n", "new\nsecond line\n", "\u{feff}new\n"] {
            std::fs::write(&path, half).unwrap();
            assert_eq!(current(&secret).await.expose(), "old", "{half:?}");
        }
    }
}
