//! The commands `login` and `logout`: they create and end the receiver's session while it does not run.

use std::{fs, io::ErrorKind, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use matrix_sdk::{Client, config::SyncSettings};

use super::{
    api::{
        client::{Api, OWN_DEVICE},
        errors::ApiError,
    },
    encryption::{
        recovery::{IdentityStage, RecoveryFiles},
        trust::{self, NewRecoveryKey, TrustError},
    },
    session::{sdk_store::SdkStore, session_file::StoredSession},
};
use crate::{
    clock::Clock,
    config::{self, Homeserver, Secret},
};

/// The input of `login`.
pub(crate) struct LoginRequest<'a> {
    pub config: &'a config::Matrix,
    /// The caller holds its lock.
    pub store_path: PathBuf,
    pub password: Secret,
    /// Replaces the account's identity, if it has one.
    pub reset_identity: bool,
}

/// The outcome of `login`.
pub(crate) struct LoginOutcome {
    pub device: String,
    /// Created just now and stored nowhere: the caller must show it.
    pub recovery_key: Option<Secret>,
    /// Whether the account had another recovery key, which the new one replaces.
    pub replaces_key: bool,
    /// Why clients will show a warning, if they will.
    pub warning: Option<String>,
}

/// Logs in, stores the session, uploads the device's keys and signs the device.
///
/// # Errors
/// For the operator. After the session is stored, a later failure is only a warning.
pub(crate) async fn log_in(request: LoginRequest<'_>) -> anyhow::Result<LoginOutcome> {
    let LoginRequest { config, store_path, password, reset_identity } = request;
    let api = Api::new(config).await.map_err(|error| anyhow::anyhow!(error.detail))?;
    let path = StoredSession::path(&store_path);
    // An existing session keeps its device, whose keys are here.
    let known = StoredSession::read(&path).unwrap_or_default().filter(|known| {
        known.user_id == config.user_id
            && known.homeserver == config.homeserver.as_str()
            && SdkStore::new(config, &store_path, &known.device_id).exists()
    });
    let known = known.map(|known| known.device_id);
    let login = api.log_in(&config.user_id, password.expose(), known.as_deref(), OWN_DEVICE).await;
    let login = login.map_err(|error| anyhow::anyhow!(error.detail))?;
    if login.user != config.user_id {
        // Best effort: nobody uses this device.
        let _ = api.log_out(&login.token).await;
        bail!(
            "logged in as {}, but matrix.user_id is {}: write the user id as the homeserver does",
            login.user,
            config.user_id
        );
    }
    let session = StoredSession::new(&login, &config.homeserver, Clock::system().wall());
    if let Err(error) = session.write(&path) {
        let _ = api.log_out(&login.token).await;
        return Err(error);
    }
    let sdk_store = SdkStore::new(config, &store_path, &login.device);
    let client = sdk_store.open(&api, &login.token).await.map_err(|error| anyhow::anyhow!(error.detail))?;
    // Uploads the device's keys.
    let synced = client.sync_once(SyncSettings::new().timeout(Duration::ZERO)).await;
    synced
        .map_err(|error| anyhow::anyhow!(ApiError::from_sdk(&error).error.detail))
        .context("logged in, but cannot sync")?;
    let recovery = RecoveryFiles::new(&store_path, config);
    let (new, warning) = match establish(&client, &api, &recovery, &password, reset_identity).await {
        Ok(new) => (new, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let replaces_key = new.as_ref().is_some_and(|new| new.replaces);
    Ok(LoginOutcome { device: login.device, recovery_key: new.map(|new| new.key), replaces_key, warning })
}

async fn establish(
    client: &Client,
    api: &Api,
    recovery: &RecoveryFiles,
    password: &Secret,
    reset_identity: bool,
) -> Result<Option<NewRecoveryKey>, TrustError> {
    if reset_identity {
        trust::reset(client, recovery, password).await?;
    }
    let new = trust::establish(client, api, recovery, Some(password), true).await?;
    if new.is_some() {
        recovery.set_stage(IdentityStage::Made).map_err(|error| TrustError::disk(&error))?;
    }
    Ok(new)
}

/// Ends the stored session on the homeserver, and removes it and its keys. Returns the device, or `None` without a
/// session.
///
/// # Errors
/// When the homeserver does not end the session (then nothing is removed), or on a disk error.
pub(crate) async fn log_out(config: &config::Matrix, store_path: PathBuf) -> anyhow::Result<Option<String>> {
    let path = StoredSession::path(&store_path);
    let Some(session) = StoredSession::read(&path)? else { return Ok(None) };
    let mut there = config.clone();
    there.homeserver = Homeserver::parse(&session.homeserver).context("the stored session names no homeserver")?;
    let api = Api::new(&there).await.map_err(|error| anyhow::anyhow!(error.detail))?;
    api.log_out(&session.access_token).await.map_err(|error| {
        anyhow::anyhow!("the homeserver did not end the session, so nothing was removed: {}", error.detail)
    })?;
    let folder = SdkStore::new(config, &store_path, &session.device_id).folder();
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        _ => {}
    }
    StoredSession::remove(&path)?;
    Ok(Some(session.device_id))
}
