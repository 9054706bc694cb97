//! What all parts of the account share.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::{
    api::{client::Api, errors, token_api::TokenApi},
    session::sdk_store::SdkStore,
};
use crate::{
    clock::Clock,
    config::{self, Credential, Secret},
    health::Health,
    metrics::Metrics,
    model::SendError,
};

pub(super) struct Context {
    pub config: config::Matrix,
    /// `store.path`: `session.json` and `matrix/<device>/` are in it.
    pub store_path: PathBuf,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// Cancelled when the receiver stops.
    pub cancel: CancellationToken,
    pub api: OnceCell<Api>,
}

impl Context {
    /// Creates the client on first use, so that a receiver without usable root certificates still accepts alerts and
    /// reports why it cannot deliver them.
    pub async fn create_api(&self) -> Result<&Api, SendError> {
        self.api.get_or_try_init(|| Api::new(&self.config)).await
    }

    /// # Errors
    /// Before [`Self::create_api`] has succeeded.
    pub fn api(&self) -> Result<&Api, SendError> {
        self.api.get().ok_or_else(errors::not_connected)
    }

    pub fn token_api<'a>(&'a self, token: &'a str) -> Result<TokenApi<'a>, SendError> {
        Ok(TokenApi { api: self.api()?, token })
    }

    pub fn password(&self) -> Option<&Secret> {
        match &self.config.credential {
            Some(Credential::Password(password)) => Some(password),
            _ => None,
        }
    }

    pub fn sdk_store<'a>(&'a self, device: &'a str) -> SdkStore<'a> {
        SdkStore::new(&self.config, &self.store_path, device)
    }
}

/// Locks plain values, which no panic can leave half-written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
