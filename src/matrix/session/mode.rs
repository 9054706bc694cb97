//! Whether a session may have keys: through the SDK with all that belongs to it, or bare.

use std::{sync::atomic::Ordering, time::Duration};

use matrix_sdk::Client;
use tokio::time::timeout;

use super::storage::{SdkStore, Session};
use crate::{
    config::Secret,
    health::Trust,
    matrix::{Account, Open, api::client::Api, lock},
    model::{NoKeys, Reason, RoomAddress, SendError},
};

/// What the SDK still does for a session that is closed must not touch its store any more.
const WIND_DOWN: Duration = Duration::from_secs(5);
/// In place of the device of a token that has none.
const NO_DEVICE: &str = "no device";

/// How a session sends.
#[derive(Clone)]
pub(crate) enum SessionMode {
    /// Through the SDK, which encrypts.
    WithKeys(Client),
    /// Plain rooms only.
    WithoutKeys(NoKeys),
}

impl Account {
    pub(crate) fn sdk_store<'a>(&'a self, device: &'a str) -> SdkStore<'a> {
        SdkStore {
            store: &self.setup.store_path,
            user: &self.setup.config.user_id,
            device,
            passphrase: self.setup.config.store_passphrase.as_ref().map(Secret::expose),
        }
    }

    /// Decides how a session that the homeserver has just confirmed sends, and opens it that way.
    ///
    /// The homeserver is asked for the device's keys first. If it has some that are not in our store, another client
    /// made them, or our store is lost: with new ones in their place that client could no longer read, and nobody could
    /// tell who is who.
    pub(crate) async fn open_mode(&self, api: &Api, session: &Session) -> Result<SessionMode, SendError> {
        let why = match &session.device {
            None => NoKeys::NoDevice,
            Some(device) => {
                let published = api.device_key(&self.setup.config.user_id, device, &session.token).await?;
                if published.is_some() && !self.sdk_store(device).exists() {
                    self.whose(device)
                } else {
                    match self.open(session, device).await {
                        Ok(client) => {
                            let own = client.encryption().ed25519_key().await;
                            if published.is_none() || published == own {
                                return Ok(SessionMode::WithKeys(client));
                            }
                            self.whose(device)
                        }
                        Err(fault) if fault.reason == Reason::NotReady => {
                            tracing::error!("only plain rooms can be served: {}", fault.detail);
                            NoKeys::StoreFails
                        }
                        Err(fault) => return Err(fault),
                    }
                }
            }
        };
        self.close().await;
        *self.open.write().await = Some(Open { session: session.clone(), mode: SessionMode::WithoutKeys(why) });
        lock(&self.device).clone_from(&session.device);
        Ok(SessionMode::WithoutKeys(why))
    }

    /// Keys that are not ours any more were ours if we have sent from this device before.
    fn whose(&self, device: &str) -> NoKeys {
        let ours = lock(&self.saved_device).as_deref() == Some(device);
        if ours { NoKeys::StoreLost } else { NoKeys::ForeignDevice }
    }

    /// Opens the session's store unless it is open; an older one is closed first.
    pub(crate) async fn open(&self, session: &Session, device: &str) -> Result<Client, SendError> {
        if let Some(Open { session: known, mode: SessionMode::WithKeys(client) }) = self.open.read().await.as_ref()
            && known == session
        {
            return Ok(client.clone());
        }
        self.close().await;
        let client = self.sdk_store(device).open(self.api()?, &session.token).await?;
        *self.open.write().await = Some(Open { session: session.clone(), mode: SessionMode::WithKeys(client.clone()) });
        *lock(&self.device) = Some(device.to_owned());
        Ok(client)
    }

    /// Waits for the sends under way, and until the SDK lets go of the store.
    async fn close(&self) {
        if let Some(Open { mode: SessionMode::WithKeys(client), .. }) = self.open.write().await.take() {
            let _ = timeout(WIND_DOWN, client.encryption().wait_for_e2ee_initialization_tasks()).await;
        }
    }

    /// For health, metrics and the log: whether the session can encrypt.
    pub(crate) fn report_mode(&self, mode: &SessionMode) {
        let why = if let SessionMode::WithoutKeys(why) = mode { Some(*why) } else { None };
        let before = self.setup.health.update(|health| std::mem::replace(&mut health.no_keys, why));
        if why.is_none() {
            for room in self.rooms.served() {
                self.note_keys(&room, None);
            }
        }
        let Some(why) = why.filter(|why| before != Some(*why)) else { return };
        self.setup.health.update(|health| health.trust = Trust::NotNeeded);
        tracing::error!(reason = why.as_str(), "encrypted rooms are held, plain rooms go on: {}", why.advice());
    }

    /// Whether events for the room can be encrypted; `None`: they can, or need not be.
    pub(crate) fn note_keys(&self, address: &RoomAddress, why: Option<NoKeys>) {
        let changed = self.setup.health.update(|health| {
            let room = health.rooms.get_mut(address)?;
            let before = std::mem::replace(&mut room.no_keys, why);
            (before != why).then(|| room.name.clone())
        });
        let Some(room) = changed else { return };
        for reason in NoKeys::ALL {
            let gauge = self.setup.metrics.rooms_without_keys.with_label_values(&[room.as_str(), reason.as_str()]);
            gauge.set(i64::from(why == Some(reason)));
        }
        if let Some(why) = why {
            tracing::warn!(%room, reason = why.as_str(), "the encrypted room is held: {}", why.advice());
        } else {
            tracing::info!(%room, "the room is no longer held for its keys");
        }
    }

    /// The device that transaction ids hang on. Without one, homeservers forget them at their next restart; so each send
    /// then counts as one from another device, and what is in doubt is looked for in the room.
    pub(crate) fn sending_device(&self) -> Option<String> {
        let device = lock(&self.device).clone();
        let nameless = || {
            let token_api = self.setup.health.update(|health| health.no_keys) == Some(NoKeys::NoDevice);
            let run = self.setup.health.update(|health| health.started_at).map_or(0, |at| at.0);
            token_api.then(|| format!("{NO_DEVICE} {run}-{}", self.sends_without_keys.load(Ordering::Relaxed)))
        };
        device.or_else(nameless)
    }
}
