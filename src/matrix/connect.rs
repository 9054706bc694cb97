//! From a credential to an open session that the homeserver has confirmed.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    Account, Link, errors, lock,
    pace::Backoff,
    stored::{Session, StoredSession},
    way::Way,
    wire::Wire,
};
use crate::{
    config::{Credential, Secret},
    delivery::{Reason, Scope, SendError},
    model::NoKeys,
};

/// A homeserver that is down is asked again after this, growing to [`CAP`].
const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(30);
/// An account that is refused is looked at again after this: somebody has to act first.
const REFUSED: Duration = Duration::from_secs(15);
/// A refused password is tried again only after this: homeservers lock accounts for less.
const REFUSED_PASSWORD: Duration = Duration::from_mins(1);

impl Account {
    /// Opens the store of the last run's session before the homeserver is asked, so that a damaged store shows
    /// also while the homeserver is down, and sends fail as unreachable rather than as never connected.
    pub(super) async fn restore_offline(&self) {
        let Some(session) = self.last_session().await else { return };
        // A new store is made only once the homeserver has been asked whose the device is.
        let Some(device) = session.device.as_deref().filter(|device| self.vault(device).exists()) else { return };
        if let Err(fault) = self.open(&session, device).await {
            self.report_down(&fault);
        }
    }

    /// Tries until there is an open session that the homeserver takes.
    pub(super) async fn connect(&self) -> (Way, Session) {
        let mut backoff = Backoff::new(FIRST, CAP);
        loop {
            let fault = match self.try_connect().await {
                Ok(connected) => return connected,
                Err(fault) => fault,
            };
            self.report_down(&fault);
            let has_session = self.open.read().await.is_some();
            let worth_waking = fault.reason.scope() == Scope::Server;
            self.link.send_replace(Link::Down { error: for_sends(&fault, has_session), worth_waking });
            self.wait(&fault, &mut backoff).await;
        }
    }

    async fn wait(&self, fault: &SendError, backoff: &mut Backoff) {
        if let Some(asked) = fault.retry_after {
            sleep(asked.max(FIRST)).await;
        } else if fault.reason.scope() == Scope::Server {
            // Never more than one try a second, but as soon as a lane wants to send.
            sleep(FIRST).await;
            let _ = timeout(backoff.pause().saturating_sub(FIRST), self.wake.notified()).await;
        } else if fault.reason == Reason::TokenRejected
            && matches!(self.setup.config.credential, Some(Credential::Password(_)))
        {
            sleep(REFUSED_PASSWORD).await;
        } else {
            sleep(REFUSED).await;
        }
    }

    async fn try_connect(&self) -> Result<(Way, Session), SendError> {
        let wire = self.wire()?;
        let mut session = self.good_session(wire).await?;
        let mut way = self.open_way(wire, &session).await?;
        if let (Way::Bare(NoKeys::StoreLost | NoKeys::ForeignDevice), Some(Credential::Password(password))) =
            (&way, &self.setup.config.credential)
        {
            tracing::warn!(device = session.device, "the keys of this device are not here: logging in as a new device");
            session = self.log_in(wire, &current(password).await, None).await?;
            way = self.open_way(wire, &session).await?;
        }
        self.remember_device(&session, &way).await;
        self.report_up();
        self.report_way(&way);
        self.setup.health.update(|health| health.connected = true);
        self.link.send_replace(Link::Up);
        Ok((way, session))
    }

    /// A session that the homeserver has just confirmed, from whatever credential there is.
    async fn good_session(&self, wire: &Wire) -> Result<Session, SendError> {
        let stored = match &self.setup.config.credential {
            Some(Credential::AccessToken(secret)) => {
                return self.confirmed(wire, current(secret).await.expose()).await;
            }
            Some(Credential::Password(_)) => self.stored_session().unwrap_or_else(|damage| {
                tracing::warn!("logging in again: {damage:#}");
                None
            }),
            None => self.stored_session().map_err(|damage| errors::fault(Reason::NotReady, format!("{damage:#}")))?,
        };
        if let Some(stored) = stored.as_ref().filter(|stored| self.is_ours(stored)) {
            match self.confirmed(wire, &stored.access_token).await {
                Err(fault) if fault.reason == Reason::TokenRejected => {}
                answer => return answer,
            }
        }
        let Some(Credential::Password(password)) = &self.setup.config.credential else {
            let text =
                "there is no good access token: set matrix.access_token_file or matrix.password_file, or run login";
            return Err(errors::fault(Reason::TokenRejected, text));
        };
        // The same device across restarts; but never the device of another user, whose store it would open.
        let device = match stored {
            Some(stored) => (stored.user_id == self.setup.config.user_id).then_some(stored.device_id),
            None => lock(&self.device).clone(),
        };
        self.log_in(wire, &current(password).await, device).await
    }

    /// Whose token it is. The device comes from the homeserver: transaction ids and keys hang on it.
    async fn confirmed(&self, wire: &Wire, token: &str) -> Result<Session, SendError> {
        let owner = wire.whoami(token).await?;
        let user = &self.setup.config.user_id;
        if owner.user != *user {
            let text = format!("the access token belongs to {}, matrix.user_id says {user}", owner.user);
            return Err(errors::fault(Reason::AccountRefused, text));
        }
        Ok(Session { device: owner.device, token: token.to_owned() })
    }

    async fn log_in(&self, wire: &Wire, password: &Secret, device: Option<String>) -> Result<Session, SendError> {
        let user = &self.setup.config.user_id;
        let made = wire.log_in(user, password.expose(), device.as_deref()).await?;
        if made.user != *user {
            let text = format!("logged in as {}, matrix.user_id says {user}", made.user);
            return Err(errors::fault(Reason::AccountRefused, text));
        }
        tracing::info!(user, device = made.device, "logged in");
        let file = StoredSession {
            user_id: made.user,
            device_id: made.device.clone(),
            access_token: made.token.clone(),
            homeserver: self.setup.config.homeserver.to_string(),
        };
        let path = StoredSession::path(&self.setup.store_path);
        let written = tokio::task::spawn_blocking(move || file.write(&path)).await;
        if let Err(error) = written.map_err(Into::into).flatten() {
            // The session works all the same; the next start logs in again under the same device.
            tracing::warn!("the session is not kept: {error:#}");
        }
        Ok(Session { device: Some(made.device), token: made.token })
    }

    async fn remember_device(&self, session: &Session, way: &Way) {
        let homeserver = &self.setup.config.homeserver;
        tracing::info!(
            homeserver = homeserver.host_str().unwrap_or_default(),
            user = self.setup.config.user_id,
            device = session.device,
            "connected to the homeserver"
        );
        // Only a device with keys of ours is one to come back to.
        let (Way::Keys(_), Some(device)) = (way, &session.device) else { return };
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
            return Some(Session { device: Some(device), token: current(secret).await.expose().to_owned() });
        }
        let stored = self.stored_session().ok()?.filter(|stored| self.is_ours(stored))?;
        Some(Session { device: Some(stored.device_id), token: stored.access_token })
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
    pub(super) fn report_down(&self, fault: &SendError) {
        self.setup.metrics.homeserver_up.set(0);
        self.setup.health.update(|health| health.homeserver_fault = Some(fault.detail.clone()));
        if lock(&self.told).is_news(&fault.detail) {
            let homeserver = self.setup.config.homeserver.host_str().unwrap_or_default();
            tracing::warn!(homeserver, reason = fault.reason.as_str(), "nothing can be sent: {}", fault.detail);
        }
    }

    /// The homeserver answers and takes the token.
    pub(super) fn report_up(&self) {
        self.setup.metrics.homeserver_up.set(1);
        self.setup.health.update(|health| health.homeserver_fault = None);
        if lock(&self.told).is_over() {
            let homeserver = self.setup.config.homeserver.host_str().unwrap_or_default();
            tracing::info!(homeserver, "homeserver reachable again");
        }
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
    let Some(path) = secret.file() else { return secret.clone() };
    match tokio::fs::read_to_string(path).await {
        Ok(text) if !text.trim().is_empty() => Secret::from_file(&text, path.to_owned()),
        // Half-written or gone for a moment: the one we have may still be good.
        _ => secret.clone(),
    }
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
        std::fs::write(&path, "").unwrap();
        assert_eq!(current(&secret).await.expose(), "old");
    }
}
