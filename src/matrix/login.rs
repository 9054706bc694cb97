//! The commands `login` and `logout`: they create and end the receiver's session while it does not run.

use std::{fs, io::ErrorKind, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use matrix_sdk::{Client, config::SyncSettings};

use super::{
    api::{
        client::{Api, LoginResponse, OWN_DEVICE, SHARED_DEVICE},
        errors::ApiError,
    },
    encryption::{
        recovery::{IdentityStage, RecoveryFiles},
        trust::{self, NewRecoveryKey, TrustError},
    },
    session::{
        device,
        sdk_store::SdkStore,
        session_file::StoredSession,
        shared::{LoadSharedSession, SaveSharedSession, next::device_name},
    },
};
use crate::{
    clock::Clock,
    config::{self, Credential, Homeserver, Secret},
    model::{Reason, SendError},
};

/// The input of `login`.
pub(crate) struct LoginRequest<'a> {
    pub config: &'a config::Matrix,
    /// The caller holds its lock.
    pub store_path: PathBuf,
    pub password: Secret,
    /// Replaces the account's identity, if it has one.
    pub reset_identity: bool,
    /// With replicas: the session that they share.
    pub shared: Option<SharedLogin>,
}

/// How `login` handles the session that replicas share.
pub(crate) struct SharedLogin {
    pub load: LoadSharedSession,
    pub save: SaveSharedSession,
    /// Replaces a session that works.
    pub force: bool,
}

/// What became of the session that replicas share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SharedOutcome {
    LoggedIn(String),
    /// The stored one works.
    Kept(String),
    /// It is the access token of the config; its device, if it has one.
    FromConfig(Option<String>),
}

impl SharedOutcome {
    fn device(&self) -> Option<&str> {
        match self {
            Self::LoggedIn(device) | Self::Kept(device) => Some(device),
            Self::FromConfig(device) => device.as_deref(),
        }
    }
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
    /// `None` without replicas.
    pub shared: Option<SharedOutcome>,
}

/// Logs in, stores the session, uploads the device's keys and signs the device. With replicas, the shared device is logged
/// in before, unless it has a session.
///
/// # Errors
/// For the operator. After the session is stored, a later failure is only a warning.
pub(crate) async fn log_in(request: LoginRequest<'_>) -> anyhow::Result<LoginOutcome> {
    let LoginRequest { config, store_path, password, reset_identity, shared } = request;
    let api = Api::new(config).await.map_err(|error| detail(&config.homeserver, &error))?;
    let shared = match shared {
        Some(shared) => Some(log_in_shared(&api, config, &password, shared).await?),
        None => None,
    };
    let shared_device = shared.as_ref().and_then(SharedOutcome::device);
    let path = StoredSession::path(&store_path);
    // An existing session keeps its device, whose keys are here; but the shared device must not have any.
    let known = StoredSession::read(&path).unwrap_or_default().filter(|known| {
        known.is_of(config)
            && SdkStore::new(config, &store_path, &known.device_id).exists()
            && shared_device != Some(known.device_id.as_str())
    });
    let known = known.map(|known| known.device_id);
    let login = log_in_as(&api, config, &password, known.as_deref(), OWN_DEVICE).await?;
    let session = StoredSession::new(&login, &config.homeserver, Clock::system().wall());
    if let Err(error) = session.write(&path) {
        let _ = api.log_out(&login.token).await;
        return Err(error);
    }
    let sdk_store = SdkStore::new(config, &store_path, &login.device);
    let client = sdk_store.open(&api, &login.token).await.map_err(|error| detail(&config.homeserver, &error))?;
    // Uploads the device's keys.
    let synced = client.sync_once(SyncSettings::new().timeout(Duration::ZERO)).await;
    synced
        .map_err(|error| detail(&config.homeserver, &ApiError::from_sdk(&error).error))
        .context("logged in, but cannot sync")?;
    let recovery = RecoveryFiles::new(&store_path, config);
    let (new, warning) = match establish(&client, &api, &recovery, &password, reset_identity).await {
        Ok(new) => (new, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let replaces_key = new.as_ref().is_some_and(|new| new.replaces);
    Ok(LoginOutcome { device: login.device, recovery_key: new.map(|new| new.key), replaces_key, warning, shared })
}

/// Logs the shared device in, unless its stored session works. It gets no keys.
async fn log_in_shared(
    api: &Api,
    config: &config::Matrix,
    password: &Secret,
    shared: SharedLogin,
) -> anyhow::Result<SharedOutcome> {
    let SharedLogin { load, save, force } = shared;
    if let Some(Credential::AccessToken(token)) = &config.credential {
        if force {
            bail!(
                "matrix.access_token is the shared device's token: replace it there, or take it out and use --shared"
            );
        }
        // The receiver reports a token that is not accepted.
        let owner = api.whoami(token.expose()).await.ok();
        return Ok(SharedOutcome::FromConfig(owner.and_then(|owner| owner.device)));
    }
    let stored = load().await.context("cannot read the shared session")?;
    let stored = stored.as_deref().and_then(StoredSession::parse).filter(|stored| stored.is_of(config));
    if let Some(stored) = &stored
        && !force
        && !stored.access_token.is_empty()
    {
        match api.whoami(&stored.access_token).await.map_err(SendError::from) {
            Ok(_) => return Ok(SharedOutcome::Kept(stored.device_id.clone())),
            Err(error) if error.reason == Reason::TokenRejected => {}
            Err(error) => return Err(detail(&config.homeserver, &error)).context("cannot check the shared session"),
        }
    }
    let keep = async |session: &StoredSession| {
        save(session.to_text()?).await.context("cannot store the shared session; run login again")
    };
    let named = if let Some(stored) = stored {
        stored
    } else {
        let named = StoredSession::named(&config.user_id, &config.homeserver, device_name());
        keep(&named).await?;
        named
    };
    let login = log_in_as(api, config, password, Some(&named.device_id), SHARED_DEVICE).await?;
    keep(&named.logged_in(&login, &config.homeserver, Clock::system().wall())).await?;
    Ok(SharedOutcome::LoggedIn(login.device))
}

async fn log_in_as(
    api: &Api,
    config: &config::Matrix,
    password: &Secret,
    device: Option<&str>,
    name: &str,
) -> anyhow::Result<LoginResponse> {
    let login = api.log_in(&config.user_id, password.expose(), device, name).await;
    let login = login.map_err(|error| detail(&config.homeserver, &error))?;
    if login.user != config.user_id {
        // Best effort: nobody uses this device.
        let _ = api.log_out(&login.token).await;
        bail!(
            "logged in as {}, but matrix.user_id is {}: write the user id as the homeserver does",
            login.user,
            config.user_id
        );
    }
    Ok(login)
}

/// The error with the homeserver that it is about, which may be another one than the operator thinks.
fn detail(homeserver: &Homeserver, error: &SendError) -> anyhow::Error {
    anyhow::anyhow!("homeserver {homeserver}: {}", error.detail)
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

/// Ends the session stored in `store.path` on the homeserver, and removes it and its keys; a session that replicas share
/// goes on. Returns the device, or `None` without a session.
///
/// # Errors
/// When the homeserver does not end the session (then nothing is removed), or on a disk error.
pub(crate) async fn log_out(config: &config::Matrix, store_path: PathBuf) -> anyhow::Result<Option<String>> {
    let path = StoredSession::path(&store_path);
    let Some(session) = StoredSession::read(&path)? else { return Ok(None) };
    let mut there = config.clone();
    there.homeserver = Homeserver::parse(&session.homeserver).context("the stored session names no homeserver")?;
    let api = Api::new(&there).await.map_err(|error| detail(&there.homeserver, &error))?;
    api.log_out(&session.access_token).await.map_err(|error| {
        detail(&there.homeserver, &error).context("the homeserver did not end the session, so nothing was removed")
    })?;
    let folder = SdkStore::new(config, &store_path, &session.device_id).folder();
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        _ => {}
    }
    device::forget(&store_path)?;
    StoredSession::remove(&path)?;
    Ok(Some(session.device_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_names_the_homeserver_and_never_the_password() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{free}");
        let environment = [("MAR_MATRIX__HOMESERVER", url.as_str()), ("MAR_MATRIX__USER_ID", "@alerts:example.org")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = config::Config::load(None, &environment, config::Purpose::Login).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let request = LoginRequest {
            config: &config.matrix,
            store_path: folder.path().to_owned(),
            password: Secret::new("hunter2"),
            reset_identity: false,
            shared: None,
        };
        let Err(error) = log_in(request).await else { panic!("nobody answers there") };
        let error = format!("{error:#}");
        assert!(error.contains(&format!("homeserver {url}/: cannot connect")), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
