//! The connection: the open session, how it was opened, and whether sends can use it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matrix_sdk::Client;
use tokio::{
    sync::{Notify, RwLock, RwLockReadGuard},
    time::{sleep, timeout},
};

use super::{
    auth::Auth,
    device::{Device, SaveDevice},
    link::Link,
    mode::{OpenSession, Session, SessionMode},
    status::HomeserverStatus,
};
use crate::{
    config::Secret,
    health::Trust,
    matrix::{
        api::{client::Api, errors, homeserver},
        context::Context,
        encryption::room_keys,
    },
    model::{NoKeys, Reason, Scope, SendError},
    pacing::Backoff,
};

/// The first and the longest pause between connection attempts while the homeserver is down.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a refused account, which an operator must resolve.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);
/// The pause after a refused password: homeservers lock accounts that try more often.
const REFUSED_PASSWORD_PAUSE: Duration = Duration::from_mins(1);
/// How long the SDK may finish its own work before its store is opened again.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Owns the account's session.
pub(crate) struct Connection {
    context: Arc<Context>,
    auth: Auth,
    pub link: Link,
    pub device: Device,
    pub status: HomeserverStatus,
    /// Sends hold it for reading. It is replaced only when no send runs: two clients on one store would damage its keys.
    open: RwLock<Option<OpenSession>>,
    /// A send was refused for its token, so the session must be checked.
    token_rejected: Notify,
    remembers_transactions: AtomicBool,
}

impl Connection {
    pub fn new(context: &Arc<Context>, known_device: Option<String>, save_device: SaveDevice) -> Self {
        Self {
            context: Arc::clone(context),
            auth: Auth::new(Arc::clone(context)),
            link: Link::new(),
            device: Device::new(known_device, save_device),
            status: HomeserverStatus::new(Arc::clone(context)),
            open: RwLock::new(None),
            token_rejected: Notify::new(),
            remembers_transactions: AtomicBool::new(false),
        }
    }

    /// Waits until sends can go out, and returns the session, which is not replaced while it is held.
    pub async fn session(&self) -> Result<RwLockReadGuard<'_, OpenSession>, SendError> {
        self.link.wait_until_up(&self.context.cancel).await?;
        let open = self.open.read().await;
        RwLockReadGuard::try_map(open, Option::as_ref).map_err(|_| errors::not_connected())
    }

    /// The token of the open session, without waiting for the link.
    pub async fn token(&self) -> Option<String> {
        self.open.read().await.as_ref().map(|open| open.session.token.clone())
    }

    /// Checks the session soon if `result` is that of a rejected token.
    pub fn note_rejection<T>(&self, result: Result<T, SendError>) -> Result<T, SendError> {
        if result.as_ref().is_err_and(|error| error.reason == Reason::TokenRejected) {
            self.token_rejected.notify_one();
        }
        result
    }

    /// The device of the session that the homeserver has confirmed, as opposed to the last run's.
    pub async fn confirmed_device(&self) -> Result<String, SendError> {
        drop(self.session().await?);
        self.device.for_transactions(&self.context.health).ok_or_else(errors::not_connected)
    }

    /// See [`homeserver::is_synapse`].
    pub fn remembers_transactions(&self) -> bool {
        self.remembers_transactions.load(Ordering::Relaxed)
    }

    /// Closes the session after a panic.
    pub async fn drop_session(&self) {
        *self.open.write().await = None;
    }

    /// Opens the store of the last run's session before any request, so that a damaged store shows also while the
    /// homeserver is down, and sends fail as unreachable rather than as not connected.
    pub async fn restore_offline(&self) {
        let Some(session) = self.auth.last_session(self.device.current()).await else { return };
        // A new store is created only after the homeserver was asked for the device's keys.
        let has_store = |device: &&str| self.context.sdk_store(device).exists();
        let Some(device) = session.device.as_deref().filter(has_store) else { return };
        let opened = match self.context.create_api().await {
            Ok(_) => self.open(&session, device).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = opened {
            self.status.report_down(&error);
        }
    }

    /// Retries until there is an open session that the homeserver accepts.
    pub async fn connect(&self) -> OpenSession {
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        loop {
            let secret = self.auth.secret().await;
            let error = match self.try_connect().await {
                Ok(open) => return open,
                Err(error) => of_connecting(self.auth.with_advice(error)),
            };
            self.status.report_down(&error);
            let has_session = self.open.read().await.is_some();
            self.link.set_down(for_sends(&error, has_session), error.reason.scope() == Scope::Server);
            self.pause(&error, &mut backoff, secret.as_ref()).await;
        }
    }

    async fn pause(&self, error: &SendError, backoff: &mut Backoff, secret: Option<&Secret>) {
        if let Some(asked) = error.retry_after {
            sleep(asked.max(FIRST_PAUSE)).await;
        } else if error.reason.scope() == Scope::Server {
            // At most one attempt a second, but as soon as a lane has something to send.
            sleep(FIRST_PAUSE).await;
            self.link.sleep(backoff.pause().saturating_sub(FIRST_PAUSE)).await;
        } else {
            let password = error.reason == Reason::TokenRejected && self.context.password().is_some();
            let pause = if password { REFUSED_PASSWORD_PAUSE } else { REFUSED_PAUSE };
            // A new secret in the file is tried at once.
            let _ = timeout(pause, self.auth.secret_changed(secret)).await;
        }
    }

    async fn try_connect(&self) -> Result<OpenSession, SendError> {
        let api = self.context.create_api().await?;
        let mut open = self.open_session(api, self.auth.session(api, self.device.current()).await?).await?;
        if let SessionMode::WithoutKeys(NoKeys::StoreLost | NoKeys::ForeignDevice) = open.mode
            && self.context.password().is_some()
        {
            let device = &open.session.device;
            tracing::warn!(device, "device keys missing; logging in as new device");
            if let Some(session) = self.auth.log_in(api, None).await? {
                open = self.open_session(api, session).await?;
            }
        }
        self.detect_homeserver(api).await;
        let config = &self.context.config;
        tracing::info!(
            homeserver = config.homeserver.host_str().unwrap_or_default(),
            user = config.user_id,
            device = open.session.device,
            "connected to the homeserver"
        );
        // A device whose keys are not ours is not one to return to.
        if let (SessionMode::WithKeys(_), Some(device)) = (&open.mode, &open.session.device) {
            self.device.save(device).await;
        }
        self.status.report_up();
        self.report_mode(&open.mode);
        self.context.health.update(|health| health.connected = true);
        self.status.reset_synced();
        self.link.set_up();
        Ok(open)
    }

    /// Finds out whether the homeserver remembers transaction ids; without an answer the last result stays.
    async fn detect_homeserver(&self, api: &Api) {
        if let Some(is_synapse) = homeserver::is_synapse(api).await
            && self.remembers_transactions.swap(is_synapse, Ordering::Relaxed) != is_synapse
        {
            tracing::debug!(remembers_transactions = is_synapse, "detected the homeserver software");
        }
    }

    /// Opens a session that the homeserver has just confirmed, with keys if it may have some.
    ///
    /// The homeserver is asked for the device's keys first. If it has some that are not in our store, another client
    /// created them, or our store was lost: new keys would lock out that client, and readers could not tell the two apart.
    async fn open_session(&self, api: &Api, session: Session) -> Result<OpenSession, SendError> {
        let mode = match &session.device {
            None => SessionMode::WithoutKeys(NoKeys::NoDevice),
            Some(device) => self.choose_mode(api, &session, device).await?,
        };
        if let SessionMode::WithoutKeys(_) = mode {
            self.close().await;
            *self.open.write().await = Some(OpenSession { session: session.clone(), mode: mode.clone() });
            self.device.set(session.device.clone());
        }
        Ok(OpenSession { session, mode })
    }

    async fn choose_mode(&self, api: &Api, session: &Session, device: &str) -> Result<SessionMode, SendError> {
        let published = api.device_key(&self.context.config.user_id, device, &session.token).await?;
        if published.is_none() || self.context.sdk_store(device).exists() {
            match self.open(session, device).await {
                Ok(client) => {
                    if published.is_none() || published == client.encryption().ed25519_key().await {
                        return Ok(SessionMode::WithKeys(client));
                    }
                }
                Err(error) if error.reason == Reason::NotReady => {
                    tracing::error!(error = error.detail, "cannot open the keys; serving plain rooms only");
                    return Ok(SessionMode::WithoutKeys(NoKeys::StoreFails));
                }
                Err(error) => return Err(error),
            }
        }
        // The published keys were ours if this device has sent before.
        let ours = self.device.is_saved(device);
        Ok(SessionMode::WithoutKeys(if ours { NoKeys::StoreLost } else { NoKeys::ForeignDevice }))
    }

    /// Opens the session's store unless it is open; another one is closed first.
    async fn open(&self, session: &Session, device: &str) -> Result<Client, SendError> {
        if let Some(OpenSession { session: known, mode: SessionMode::WithKeys(client) }) =
            self.open.read().await.as_ref()
            && known == session
        {
            return Ok(client.clone());
        }
        self.close().await;
        let client = self.context.sdk_store(device).open(self.context.api()?, &session.token).await?;
        let mode = SessionMode::WithKeys(client.clone());
        *self.open.write().await = Some(OpenSession { session: session.clone(), mode });
        self.device.set(Some(device.to_owned()));
        Ok(client)
    }

    /// Waits for running sends, and until the SDK releases the store.
    async fn close(&self) {
        if let Some(OpenSession { mode: SessionMode::WithKeys(client), .. }) = self.open.write().await.take() {
            let _ = timeout(CLOSE_TIMEOUT, client.encryption().wait_for_e2ee_initialization_tasks()).await;
        }
    }

    /// Returns when another connection attempt is due: a better token exists, or a send was refused for this one.
    pub async fn needs_reconnect(&self, session: &Session) {
        tokio::select! {
            () = self.auth.token_changed(session) => {}
            () = self.token_rejected.notified() => {}
        }
    }

    /// Reports to health, metrics and the log whether the session can encrypt.
    fn report_mode(&self, mode: &SessionMode) {
        let health = &self.context.health;
        let SessionMode::WithoutKeys(why) = *mode else {
            let rooms = health.update(|health| {
                health.no_keys = None;
                health.rooms.keys().cloned().collect::<Vec<_>>()
            });
            for room in &rooms {
                room_keys::report(&self.context, room, None);
            }
            return;
        };
        if health.update(|health| health.no_keys.replace(why)) != Some(why) {
            health.update(|health| health.trust = Trust::NotNeeded);
            tracing::error!(reason = why.as_str(), advice = why.advice(), "encrypted rooms held; plain rooms continue");
        }
    }
}

/// A request to connect concerns no event and no room, whatever the homeserver answers.
fn of_connecting(error: SendError) -> SendError {
    match error.reason.scope() {
        Scope::Event | Scope::Room => SendError { reason: Reason::ServerError, ..error },
        Scope::Account | Scope::Server => error,
    }
}

/// What a failed connection attempt means for a send: nothing was sent, so the event is not in doubt.
fn for_sends(error: &SendError, has_session: bool) -> SendError {
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
