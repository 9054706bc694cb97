//! The shared device: the session under which every replica sends to plain rooms. It is the same for all replicas, so that
//! one that takes over repeats an event in flight under its transaction id. It never syncs and never uploads keys.
//!
//! An access token of the config is this device's. Otherwise the store that the replicas share has its session: the leader
//! logs it in with the password, or the command `login` did.

mod attempt;
pub(crate) mod next;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    confirm::{expires_soon, for_sends, new_token_in_file, of_connecting, with_advice},
    device,
    link::Link,
    mode::Session,
    secret_file::SecretFile,
    session_file::StoredSession,
};
use crate::{
    config::{Credential, Secret},
    delivery::BoxFuture,
    matrix::{
        api::errors,
        context::{Context, lock},
    },
    model::{Reason, Scope, SendError},
    pacing::{Backoff, SayOnce},
};

/// The first and the longest pause between attempts while the homeserver is down.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The pause after a refusal that an operator must resolve, and after a refused password: homeservers lock accounts that
/// try more often.
const REFUSED_PAUSE: Duration = Duration::from_secs(15);
const REFUSED_PASSWORD_PAUSE: Duration = Duration::from_mins(1);
/// How often to look for a session that another replica has stored while there is none that works.
const REREAD_WHILE_DOWN: Duration = Duration::from_secs(1);
/// How long others wait for the first attempt to end.
const FIRST_ATTEMPT: Duration = Duration::from_secs(15);
/// How often to look for a token that another replica has stored although this one works.
const REREAD: Duration = Duration::from_secs(10);

/// Reads the text that [`SaveSharedSession`] stored last, whichever replica did; `None`: nobody has.
pub type LoadSharedSession = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<Option<String>>> + Send + Sync>;

/// Stores the text of the shared session for all replicas.
pub type SaveSharedSession = Arc<dyn Fn(String) -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// What an account that has replicas needs to share a device with them.
#[derive(Clone)]
pub struct SharedSetup {
    pub load: LoadSharedSession,
    pub save: SaveSharedSession,
    /// Whether this replica leads. Only the leader logs the shared device in: each login invalidates the token before.
    pub leads: watch::Receiver<bool>,
}

impl fmt::Debug for SharedSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSetup").field("leads", &*self.leads.borrow()).finish_non_exhaustive()
    }
}

/// The session of the shared device.
pub(crate) struct Shared {
    context: Arc<Context>,
    setup: SharedSetup,
    secret_file: SecretFile,
    link: Link,
    /// The session that the homeserver confirmed last.
    current: Mutex<Option<Session>>,
    /// What the store had when it was last read.
    loaded: Mutex<Loaded>,
    /// Counts the attempts that have ended, and whether the last one succeeded.
    attempts: watch::Sender<(u64, bool)>,
    /// A send was refused for its token, so the session must be checked.
    rejected: Notify,
    sends: AtomicU64,
    /// The device that was last asked about for keys.
    checked_for_keys: Mutex<Option<String>>,
    logged: Mutex<SayOnce>,
}

/// The text of the shared session in the store.
#[derive(Clone, Default, PartialEq, Eq)]
enum Loaded {
    /// The store could not be read.
    #[default]
    Unknown,
    Text(Option<String>),
}

impl Shared {
    pub fn new(context: &Arc<Context>, setup: SharedSetup) -> Self {
        Self {
            context: Arc::clone(context),
            setup,
            secret_file: SecretFile::default(),
            link: Link::new(),
            current: Mutex::default(),
            loaded: Mutex::default(),
            attempts: watch::Sender::new((0, false)),
            rejected: Notify::new(),
            sends: AtomicU64::new(0),
            checked_for_keys: Mutex::default(),
            logged: Mutex::default(),
        }
    }

    /// Waits until sends can go out, and returns the session for one.
    ///
    /// # Errors
    /// For the whole account, and never in doubt: nothing was sent.
    pub async fn session(&self) -> Result<Session, SendError> {
        self.link.wait_until_up(&self.context.cancel).await?;
        lock(&self.current).clone().ok_or_else(errors::not_connected)
    }

    /// Checks the session soon if `result` is that of a rejected token.
    pub fn note_rejection<T>(&self, result: Result<T, SendError>) -> Result<T, SendError> {
        if result.as_ref().is_err_and(|error| error.reason == Reason::TokenRejected) {
            self.rejected.notify_one();
        }
        result
    }

    pub fn count_send(&self) {
        self.sends.fetch_add(1, Ordering::Relaxed);
    }

    /// The device that homeservers remember transaction ids for, once it is known. A token without a device stands for
    /// another one with each send: homeservers forget its ids when they restart.
    pub fn device(&self) -> Option<String> {
        let session = lock(&self.current).clone()?;
        let sends = self.sends.load(Ordering::Relaxed);
        Some(session.device.unwrap_or_else(|| device::without_id(&self.context.health, sends)))
    }

    /// The device of the next send to a plain room.
    ///
    /// # Errors
    /// When nothing can be sent for now.
    pub async fn confirmed_device(&self) -> Result<String, SendError> {
        self.session().await?;
        self.device().ok_or_else(errors::not_connected)
    }

    /// Whether `device` is the shared one, as far as is known once the first attempt has ended.
    pub async fn is(&self, device: &str) -> bool {
        let mut attempts = self.attempts.subscribe();
        let _ = timeout(FIRST_ATTEMPT, attempts.wait_for(|(ended, _)| *ended > 0)).await;
        if let Some(session) = lock(&self.current).as_ref() {
            return session.device.as_deref() == Some(device);
        }
        let Loaded::Text(Some(text)) = lock(&self.loaded).clone() else { return false };
        StoredSession::parse(&text).is_some_and(|stored| stored.device_id == device)
    }

    pub fn leads(&self) -> watch::Receiver<bool> {
        self.setup.leads.clone()
    }

    /// Returns when an attempt has succeeded from now on.
    pub async fn came_up(&self) {
        let mut attempts = self.attempts.subscribe();
        while attempts.changed().await.is_ok() {
            if attempts.borrow_and_update().1 {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Returns when the shared session has another token than `used`.
    pub async fn replaced(&self, used: &str) {
        let mut attempts = self.attempts.subscribe();
        let is_used = || lock(&self.current).as_ref().is_some_and(|session| session.token == used);
        while is_used() {
            if attempts.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Keeps a session that the homeserver accepts. Never returns.
    pub async fn keep(&self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let mut leads = self.setup.leads.clone();
        loop {
            leads.mark_unchanged();
            let secret = self.secret().await;
            match self.attempt().await {
                Ok(session) => {
                    backoff.reset();
                    self.set_up(&session);
                    self.check_for_keys(&session).await;
                    self.until_due(&session, &mut leads).await;
                }
                Err(error) => {
                    let error = with_advice(of_connecting(error), self.credential(), "run login --shared");
                    self.set_down(&error);
                    self.pause(&error, &mut backoff, &mut leads, secret.as_ref()).await;
                }
            }
        }
    }

    fn set_up(&self, session: &Session) {
        let before = lock(&self.current).replace(session.clone());
        self.link.set_up();
        self.attempts.send_modify(|(ended, succeeded)| (*ended, *succeeded) = (*ended + 1, true));
        self.context.health.update(|health| health.shared_fault = None);
        let was_down = lock(&self.logged).clear();
        if was_down || before.is_none_or(|before| before.device != session.device) {
            tracing::info!(device = session.device, "shared device ready; plain rooms use it");
        }
    }

    fn set_down(&self, error: &SendError) {
        let has_session = lock(&self.current).is_some();
        self.link.set_down(for_sends(error, has_session), error.reason.scope() == Scope::Server);
        self.attempts.send_modify(|(ended, succeeded)| (*ended, *succeeded) = (*ended + 1, false));
        let text = error.to_string();
        self.context.health.update(|health| health.shared_fault = Some(text.clone()));
        if lock(&self.logged).should_log(&text) {
            if error.detail == attempt::WAITING {
                tracing::info!("waiting for the leader's token of the shared device");
            } else {
                tracing::warn!(reason = error.reason.as_str(), error = error.detail, "cannot use the shared device");
            }
        }
    }

    /// Warns once of keys that a client made for the device: they are never read, and never replaced.
    async fn check_for_keys(&self, session: &Session) {
        let Some(device) = &session.device else { return };
        if lock(&self.checked_for_keys).as_ref() == Some(device) {
            return;
        }
        let Ok(api) = self.context.api() else { return };
        // Without an answer, the next session asks.
        let Ok(key) = api.device_key(&self.context.config.user_id, device, &session.token).await else { return };
        *lock(&self.checked_for_keys) = Some(device.clone());
        if key.is_some() {
            tracing::warn!(
                device,
                advice = "plain rooms work; readers send it keys that nobody reads: give it a token of a device that was \
                          never used with encryption, and log this one out",
                "the shared device has encryption keys"
            );
        }
    }

    fn credential(&self) -> Option<&Credential> {
        self.context.config.credential.as_ref()
    }

    fn configured_secret(&self) -> Option<&Secret> {
        self.credential().map(|(Credential::AccessToken(secret) | Credential::Password(secret))| secret)
    }

    async fn secret(&self) -> Option<Secret> {
        let secret = self.configured_secret().filter(|secret| secret.file().is_some())?;
        Some(self.secret_file.current(secret).await)
    }

    /// Returns when the session should be checked again, or replaced.
    async fn until_due(&self, session: &Session, leads: &mut watch::Receiver<bool>) {
        let better = async {
            match self.credential() {
                Some(Credential::AccessToken(secret)) => {
                    new_token_in_file(&self.context, &self.secret_file, secret, &session.token).await;
                }
                _ => self.other_token_stored(&session.token).await,
            }
        };
        let ends = async {
            let mut leads = self.setup.leads.clone();
            // Only the leader renews a token.
            if leads.wait_for(|leads| *leads).await.is_err() {
                std::future::pending::<()>().await;
            }
            expires_soon(&self.context, session).await;
        };
        tokio::select! {
            () = self.rejected.notified() => {}
            () = better => {}
            () = ends => {}
            () = becomes(leads, true) => {}
        }
    }

    /// Returns when another replica has stored another token than `used`.
    async fn other_token_stored(&self, used: &str) {
        loop {
            sleep(REREAD).await;
            let stored = self.load().await.ok().flatten();
            if stored.is_some_and(|stored| !stored.access_token.is_empty() && stored.access_token != used) {
                return;
            }
        }
    }

    async fn pause(
        &self,
        error: &SendError,
        backoff: &mut Backoff,
        leads: &mut watch::Receiver<bool>,
        secret: Option<&Secret>,
    ) {
        if let Some(asked) = error.retry_after {
            return sleep(asked.max(FIRST_PAUSE)).await;
        }
        if error.reason.scope() == Scope::Server {
            // At most one attempt a second, but as soon as a lane has something to send.
            sleep(FIRST_PAUSE).await;
            return self.link.sleep(backoff.pause().saturating_sub(FIRST_PAUSE)).await;
        }
        let password = error.reason == Reason::TokenRejected && self.context.password().is_some();
        tokio::select! {
            () = sleep(if password { REFUSED_PASSWORD_PAUSE } else { REFUSED_PAUSE }) => {}
            // A new secret in the file is tried at once.
            () = self.secret_file.changed(self.configured_secret(), secret) => {}
            () = self.text_changed() => {}
            () = becomes(leads, true) => {}
        }
    }

    /// Returns when the store has another text than it had when it was last read.
    async fn text_changed(&self) {
        if matches!(self.credential(), Some(Credential::AccessToken(_))) {
            return std::future::pending().await;
        }
        let before = lock(&self.loaded).clone();
        loop {
            sleep(REREAD_WHILE_DOWN).await;
            if self.load().await.is_ok() && *lock(&self.loaded) != before {
                return;
            }
        }
    }
}

/// Returns when the value becomes `wanted`; never, if its sender is gone.
async fn becomes(value: &mut watch::Receiver<bool>, wanted: bool) {
    loop {
        if value.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        if *value.borrow_and_update() == wanted {
            return;
        }
    }
}
