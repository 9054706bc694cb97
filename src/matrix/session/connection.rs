//! The connection: the open session, how it was opened, and whether sends can use it.

use std::{
    sync::{
        Arc, Mutex,
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
    confirm::{confirm_token, for_sends, of_connecting},
    device::{Device, SaveDevice},
    link::Link,
    mode::{OpenSession, Session, SessionMode},
    shared::Shared,
    status::HomeserverStatus,
};
use crate::{
    config::Secret,
    health::Trust,
    matrix::{
        api::{client::Api, errors, homeserver},
        context::{Context, lock},
        encryption::room_keys,
    },
    model::{NoKeys, Reason, Scope, SendError},
    pacing::{Backoff, SayOnce},
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

/// How long a replica goes on without a device besides the shared one before it tries its password again.
const OWN_RETRY: Duration = Duration::from_mins(2);

/// Owns the account's session, and has the one that replicas share.
pub(crate) struct Connection {
    context: Arc<Context>,
    auth: Auth,
    /// `None`: one session does everything.
    pub shared: Option<Shared>,
    pub link: Link,
    pub device: Device,
    pub status: HomeserverStatus,
    /// Sends hold it for reading. It is replaced only when no send runs: two clients on one store would damage its keys.
    open: RwLock<Option<OpenSession>>,
    /// A send was refused for its token, so the session must be checked.
    token_rejected: Notify,
    is_synapse: AtomicBool,
    /// Why there is no session besides the shared one.
    logged_no_own: Mutex<SayOnce>,
}

impl Connection {
    pub fn new(
        context: &Arc<Context>,
        known_device: Option<String>,
        save_device: SaveDevice,
        shared: Option<Shared>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            auth: Auth::new(Arc::clone(context), shared.is_some()),
            shared,
            link: Link::new(),
            device: Device::new(known_device, save_device),
            status: HomeserverStatus::new(Arc::clone(context)),
            open: RwLock::new(None),
            token_rejected: Notify::new(),
            is_synapse: AtomicBool::new(false),
            logged_no_own: Mutex::default(),
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

    /// The session that sends to plain rooms: with replicas the shared one, else `open`.
    ///
    /// # Errors
    /// When nothing can be sent there for now.
    pub async fn plain_session(&self, open: &OpenSession) -> Result<Session, SendError> {
        match &self.shared {
            Some(shared) => shared.session().await,
            None => Ok(open.session.clone()),
        }
    }

    /// As [`Self::note_rejection`], for a request under [`Self::plain_session`].
    pub fn note_plain_rejection<T>(&self, result: Result<T, SendError>) -> Result<T, SendError> {
        match &self.shared {
            Some(shared) => shared.note_rejection(result),
            None => self.note_rejection(result),
        }
    }

    /// The device of the session that the homeserver has confirmed, as opposed to the last run's.
    pub async fn confirmed_device(&self) -> Result<String, SendError> {
        drop(self.session().await?);
        self.device.for_transactions(&self.context.health).ok_or_else(errors::not_connected)
    }

    /// See [`homeserver::is_synapse`].
    pub fn is_synapse(&self) -> bool {
        self.is_synapse.load(Ordering::Relaxed)
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
                Err(error) => of_connecting(error),
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
            tokio::select! {
                () = sleep(pause) => {}
                // A new secret in the file is tried at once.
                () = self.auth.secret_changed(secret) => {}
                () = self.shared_came_up() => {}
            }
        }
    }

    async fn try_connect(&self) -> Result<OpenSession, SendError> {
        let api = self.context.create_api().await?;
        let own = self.connect_own(api).await.map_err(|error| self.auth.with_advice(error));
        let open = match (own, &self.shared) {
            (Err(error), Some(shared)) if error.reason == Reason::TokenRejected => {
                if lock(&self.logged_no_own).should_log(&error.detail) {
                    tracing::warn!(error = error.detail, "no device besides the shared one; plain rooms only");
                }
                self.open_shared(api, shared).await?
            }
            (own, _) => own?,
        };
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

    async fn connect_own(&self, api: &Api) -> Result<OpenSession, SendError> {
        let mut session = self.auth.session(api, self.device.current()).await?;
        if let (Some(shared), Some(device)) = (&self.shared, &session.device)
            && shared.is(device).await
        {
            // Keys of that device would be another replica's as well.
            let text =
                format!("session.json has the device {device}, which all replicas share: run login on this replica");
            let refused = || errors::send_error(Reason::TokenRejected, text);
            session = self.auth.log_in(api, None).await?.ok_or_else(refused)?;
        }
        let open = self.open_session(api, session).await?;
        if let SessionMode::WithoutKeys(NoKeys::StoreLost | NoKeys::ForeignDevice) = open.mode
            && self.context.password().is_some()
        {
            let device = &open.session.device;
            tracing::warn!(device, "device keys missing; logging in as new device");
            if let Some(session) = self.auth.log_in(api, None).await? {
                return self.open_session(api, session).await;
            }
        }
        Ok(open)
    }

    /// Opens the shared session for what the replica's own would do, as far as that works without keys and syncs.
    async fn open_shared(&self, api: &Api, shared: &Shared) -> Result<OpenSession, SendError> {
        let session = Session { expires: None, ..shared.session().await? };
        // The shared session is checked only when a request was refused, and that may have been one of this connection.
        if let Err(error) = shared.note_rejection(confirm_token(&self.context, api, &session.token).await) {
            return Err(if error.reason == Reason::TokenRejected {
                errors::send_error(Reason::NotReady, "the shared device gets another token")
            } else {
                error
            });
        }
        let open = OpenSession { session, mode: SessionMode::WithoutKeys(NoKeys::NoOwnDevice) };
        self.close().await;
        *self.open.write().await = Some(open.clone());
        self.device.set(None);
        Ok(open)
    }

    async fn shared_came_up(&self) {
        match &self.shared {
            Some(shared) => shared.came_up().await,
            None => std::future::pending().await,
        }
    }

    /// Finds out whether the homeserver is Synapse; without an answer the last result stays.
    async fn detect_homeserver(&self, api: &Api) {
        if let Some(is_synapse) = homeserver::is_synapse(api).await
            && self.is_synapse.swap(is_synapse, Ordering::Relaxed) != is_synapse
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
    pub async fn needs_reconnect(&self, open: &OpenSession) {
        tokio::select! {
            () = self.auth.token_changed(&open.session) => {}
            () = self.token_rejected.notified() => {}
            () = self.better_than_shared(open) => {}
        }
    }

    /// Returns when a replica that has only the shared session should look for a better one; never for any other.
    async fn better_than_shared(&self, open: &OpenSession) {
        let (Some(shared), SessionMode::WithoutKeys(NoKeys::NoOwnDevice)) = (&self.shared, &open.mode) else {
            return std::future::pending().await;
        };
        let secret = self.auth.secret().await;
        let password = async {
            if self.context.password().is_none() {
                std::future::pending::<()>().await;
            }
            let _ = timeout(OWN_RETRY, self.auth.secret_changed(secret.as_ref())).await;
        };
        tokio::select! {
            () = shared.replaced(&open.session.token) => {}
            () = password => {}
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
