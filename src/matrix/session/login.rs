//! The commands `login` and `logout`: a session of its own for the receiver, while none runs on the store.

use std::{fs, io::ErrorKind, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use matrix_sdk::{Client, config::SyncSettings};

use super::storage::{SdkStore, StoredSession};
use crate::{
    clock::Clock,
    config::{self, Homeserver, Secret},
    matrix::{
        api::{client::Api, errors},
        encryption::{
            recovery::{RecoveryKit, Stage},
            trust,
        },
    },
};

/// What `login` needs to know.
pub(crate) struct LogIn<'a> {
    pub config: &'a config::Matrix,
    /// The caller holds its lock.
    pub store_path: PathBuf,
    pub password: Secret,
    /// Replaces an identity that the account has.
    pub reset_identity: bool,
}

/// What `login` did.
pub(crate) struct LoggedIn {
    pub device: String,
    /// Made just now, and kept nowhere: whoever has this must show it.
    pub recovery_key: Option<Secret>,
    /// The account had another recovery key, which the new one replaces.
    pub replaces_key: bool,
    /// Why clients will show a warning, if they will.
    pub warning: Option<String>,
}

/// Logs in, keeps the session, uploads the device's keys and sees to its trust.
///
/// # Errors
/// In words for the operator. Once the session is kept, what fails later is only a warning.
pub(crate) async fn log_in(what: LogIn<'_>) -> anyhow::Result<LoggedIn> {
    let LogIn { config, store_path, password, reset_identity } = what;
    let api = Api::new(config).await.map_err(|fault| anyhow::anyhow!(fault.detail))?;
    let path = StoredSession::path(&store_path);
    // A session that is there is renewed under its device, whose keys are here.
    let known = StoredSession::read(&path).unwrap_or_default().filter(|known| {
        known.user_id == config.user_id
            && known.homeserver == config.homeserver.as_str()
            && sdk_store(config, &store_path, &known.device_id).exists()
    });
    let known = known.map(|known| known.device_id);
    let made = api.log_in(&config.user_id, password.expose(), known.as_deref()).await;
    let made = made.map_err(|fault| anyhow::anyhow!(fault.detail))?;
    if made.user != config.user_id {
        // Best effort: a device that nobody uses.
        let _ = api.log_out(&made.token).await;
        bail!(
            "logged in as {}, but the user is {}: write the user id as the homeserver does",
            made.user,
            config.user_id
        );
    }
    let session = StoredSession::new(&made, &config.homeserver, Clock::system().wall());
    if let Err(error) = session.write(&path) {
        let _ = api.log_out(&made.token).await;
        return Err(error);
    }
    let sdk_store = sdk_store(config, &store_path, &made.device);
    let client = sdk_store.open(&api, &made.token).await.map_err(|fault| anyhow::anyhow!(fault.detail))?;
    // Uploads the device's keys.
    let synced = client.sync_once(SyncSettings::new().timeout(Duration::ZERO)).await;
    synced.map_err(|error| anyhow::anyhow!(errors::sdk(&error).error.detail)).context("logged in, but cannot sync")?;
    let recovery_kit = RecoveryKit::new(&store_path, config);
    let (new, warning) = match establish(&client, &api, &recovery_kit, &password, reset_identity).await {
        Ok(new) => (new, None),
        Err(fault) => (None, Some(fault.to_string())),
    };
    let replaces_key = new.as_ref().is_some_and(|new| new.replaces);
    Ok(LoggedIn { device: made.device, recovery_key: new.map(|new| new.key), replaces_key, warning })
}

async fn establish(
    client: &Client,
    api: &Api,
    recovery_kit: &RecoveryKit,
    password: &Secret,
    reset_identity: bool,
) -> Result<Option<trust::NewKey>, trust::Distrust> {
    if reset_identity {
        trust::reset(client, recovery_kit, password).await?;
    }
    let made = trust::establish(client, api, recovery_kit, Some(password)).await?;
    if made.is_some() {
        recovery_kit.note(Stage::Made).map_err(|error| trust::Distrust::Failed(format!("{error:#}")))?;
    }
    Ok(made)
}

/// Ends the stored session on the homeserver and removes it and its keys. Returns the device, or `None` if nobody was
/// logged in.
///
/// # Errors
/// When the homeserver cannot be asked (nothing is removed then) or the disk refuses.
pub(crate) async fn log_out(config: &config::Matrix, store_path: PathBuf) -> anyhow::Result<Option<String>> {
    let path = StoredSession::path(&store_path);
    let Some(session) = StoredSession::read(&path)? else { return Ok(None) };
    let mut there = config.clone();
    there.homeserver = Homeserver::parse(&session.homeserver).context("the stored session names no homeserver")?;
    let api = Api::new(&there).await.map_err(|fault| anyhow::anyhow!(fault.detail))?;
    api.log_out(&session.access_token).await.map_err(|fault| {
        anyhow::anyhow!("the homeserver did not end the session, so nothing was removed: {}", fault.detail)
    })?;
    let folder = sdk_store(config, &store_path, &session.device_id).folder();
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        _ => {}
    }
    StoredSession::remove(&path)?;
    Ok(Some(session.device_id))
}

fn sdk_store<'a>(config: &'a config::Matrix, store: &'a std::path::Path, device: &'a str) -> SdkStore<'a> {
    let passphrase = config.store_passphrase.as_ref().map(Secret::expose);
    SdkStore { store, user: &config.user_id, device, passphrase }
}
