//! What a session leaves on disk: its file (after a login) and the SDK's store of its device.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use matrix_sdk::{
    Client, SessionMeta, SessionTokens, SqliteStoreConfig,
    authentication::matrix::MatrixSession,
    config::RequestConfig,
    cross_process_lock::CrossProcessLockConfig,
    ruma::{OwnedDeviceId, UserId},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::Homeserver,
    matrix::api::{
        client::{API_VERSION, Api, LoggedIn, TokenValidity},
        errors,
    },
    model::{Reason, SendError, Timestamp},
};

/// Every request through the SDK must answer within this (a sync: within this and its long poll).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// `session.json`: what a login gave, so that the next start need not log in again.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredSession {
    pub user_id: String,
    pub device_id: String,
    pub access_token: String,
    pub homeserver: String,
    /// Gets the next access token; `None`: the one there is does not end, or nothing but a login replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// When the access token ends, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

impl StoredSession {
    pub(crate) fn new(made: &LoggedIn, homeserver: &Homeserver, now: Timestamp) -> Self {
        let session = Self {
            user_id: made.user.clone(),
            device_id: made.device.clone(),
            access_token: made.token.clone(),
            homeserver: homeserver.to_string(),
            refresh_token: None,
            expires_at: None,
        };
        session.renewed(made.token.clone(), &made.validity, now)
    }

    /// The same session with its next token.
    pub(crate) fn renewed(self, access_token: String, validity: &TokenValidity, now: Timestamp) -> Self {
        let expires_at =
            validity.lifetime.and_then(|life| i64::try_from(life.as_millis()).ok()).map(|life| now.0 + life);
        Self { access_token, refresh_token: validity.refresh_token.clone(), expires_at, ..self }
    }

    pub fn path(store: &Path) -> PathBuf {
        store.join("session.json")
    }

    /// `None` when there is no file.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        // serde's message may quote the text, which holds the token.
        let session = serde_json::from_str(&text).ok().with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Some(session))
    }

    /// Replaces the file at once or not at all; only the owner may read it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_private(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Removes the file, if there is one.
    pub fn remove(path: &Path) -> anyhow::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Replaces a file at once or not at all; only the owner may read it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Whether the keys of a device are in the store: for those who must not open it.
pub(crate) fn has_keys(store: &Path, device: &str) -> bool {
    SdkStore { store, user: "", device, passphrase: None }.exists()
}

/// A session that is known by its device and token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Some tokens have none, such as those that an admin API makes.
    pub device: Option<String>,
    pub token: String,
    /// When the token ends, if it does and can be renewed before.
    pub ends: Option<Timestamp>,
}

/// Where the SDK's store of a device lies, and what it is encrypted with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SdkStore<'a> {
    /// `store.path`.
    pub store: &'a Path,
    pub user: &'a str,
    pub device: &'a str,
    pub passphrase: Option<&'a str>,
}

/// In a folder whose store has a passphrase. The SDK would take one for an open store and leave it half encrypted.
const SEALED: &str = "has-passphrase";

impl SdkStore<'_> {
    /// One store per device, since the SDK's serves no second one. The homeserver chose the device id, so it must not
    /// be able to name a path.
    pub fn folder(&self) -> PathBuf {
        self.store.join("matrix").join(urlencoding::encode(self.device).replace('.', "%2E"))
    }

    /// Whether keys were ever kept there.
    pub fn exists(&self) -> bool {
        self.folder().join("matrix-sdk-crypto.sqlite3").exists()
    }

    /// Opens the store and restores the session of `token` in it. Needs no homeserver, and tells it nothing: keys are
    /// uploaded by the first sync only.
    ///
    /// # Errors
    /// In words, for the whole account. A store that does not fit or is damaged is never deleted: its keys may be the
    /// only ones.
    pub async fn open(&self, api: &Api, token: &str) -> Result<Client, SendError> {
        let folder = self.folder();
        let failed = |what: String| {
            let resolved = folder.display();
            errors::fault(
                Reason::NotReady,
                format!("the store of the Matrix session in {resolved} cannot be opened: {what}"),
            )
        };
        let user = UserId::parse(self.user)
            .map_err(|error| errors::fault(Reason::NotReady, format!("matrix.user_id is not a user id: {error}")))?;
        self.prepare(&folder).map_err(|error| failed(format!("{error:#}")))?;

        let config = SqliteStoreConfig::with_low_memory_config(&folder).passphrase(self.passphrase);
        let client = Client::builder()
            .homeserver_url(&api.homeserver)
            .http_client(api.http.clone())
            .respect_login_well_known(false)
            // Said, not asked: as bare requests do, and a homeserver whose `/versions` is broken or cut off by a proxy
            // serves all the same. Nothing that is asked for depends on a later version or on an unstable feature.
            .server_versions([API_VERSION])
            // On the builder: a config on a single request does not reach the requests that the SDK puts before it.
            .request_config(RequestConfig::new().disable_retry().timeout(REQUEST_TIMEOUT))
            .sqlite_store_with_config_and_cache_path(config, None::<&Path>)
            .cross_process_store_config(CrossProcessLockConfig::SingleProcess)
            .build()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let session = MatrixSession {
            meta: SessionMeta { user_id: user, device_id: OwnedDeviceId::from(self.device) },
            tokens: SessionTokens { access_token: token.to_owned(), refresh_token: None },
        };
        client.restore_session(session).await.map_err(|error| failed(error.to_string()))?;
        Ok(client)
    }

    fn prepare(&self, folder: &Path) -> anyhow::Result<()> {
        let mark = folder.join(SEALED);
        match (self.exists(), mark.exists(), self.passphrase.is_some()) {
            (true, true, false) => anyhow::bail!("it has a passphrase: set matrix.store_passphrase_file"),
            (true, false, true) => anyhow::bail!(
                "it was made without a passphrase: take matrix.store_passphrase_file out of the config, or log in for a \
                 new device"
            ),
            _ => {}
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if self.passphrase.is_some() { write_private(&mark, b"") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn session(token: &str) -> StoredSession {
        StoredSession {
            user_id: "@a:x".to_owned(),
            device_id: "D".to_owned(),
            access_token: token.to_owned(),
            homeserver: "https://x/".to_owned(),
            refresh_token: None,
            expires_at: None,
        }
    }

    #[test]
    fn a_session_file_is_replaced_whole_and_private() {
        let home = tempfile::tempdir().unwrap();
        let path = StoredSession::path(home.path());
        assert!(StoredSession::read(&path).unwrap().is_none());
        session("one").write(&path).unwrap();
        // As a crash between writing and renaming leaves it.
        fs::write(path.with_extension("json.new"), "half").unwrap();
        session("two").write(&path).unwrap();
        assert_eq!(StoredSession::read(&path).unwrap().unwrap().access_token, "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_session_file_is_reported_without_its_text() {
        let home = tempfile::tempdir().unwrap();
        let path = StoredSession::path(home.path());
        fs::write(&path, r#"{"access_token": "syt_secret", "user_id": syt_secret}"#).unwrap();
        let error = StoredSession::read(&path).err().unwrap();
        assert!(!format!("{error:?}").contains("syt_secret"));
    }

    fn sdk_store<'a>(store: &'a Path, device: &'a str) -> SdkStore<'a> {
        SdkStore { store, user: "@a:x", device, passphrase: None }
    }

    #[test]
    fn a_device_id_cannot_leave_the_folder() {
        for device in ["../../etc", "..", ".", "a/b", "a\\b\0"] {
            let folder = sdk_store(Path::new("/s"), device).folder();
            assert_eq!(folder.parent(), Some(Path::new("/s/matrix")), "{device}");
            assert!(folder.components().all(|part| part.as_os_str() != ".."), "{device}");
        }
        assert_eq!(sdk_store(Path::new("/s"), "QWERTY_-1").folder(), Path::new("/s/matrix/QWERTY_-1"));
    }

    /// Keys that go unread for a wrong passphrase must be told, and never be overwritten.
    #[tokio::test]
    async fn a_passphrase_is_for_good() {
        let home = tempfile::tempdir().unwrap();
        let api = Api { http: reqwest::Client::new(), homeserver: "http://127.0.0.1:9".parse().unwrap() };
        let (right, wrong) = ("right", "wrong");
        let open = async |device: &'static str, passphrase: Option<&str>| {
            let opened = SdkStore { passphrase, ..sdk_store(home.path(), device) }.open(&api, "token").await;
            match opened {
                Ok(client) => Ok(client.encryption().ed25519_key().await.unwrap()),
                Err(error) => Err(error.detail),
            }
        };
        let key = open("SEALED", Some(right)).await.unwrap();
        assert!(open("SEALED", None).await.unwrap_err().contains("it has a passphrase"));
        let refusal = open("SEALED", Some(wrong)).await.unwrap_err();
        assert!(refusal.contains("cannot be opened") && !refusal.contains("wrong\""), "{refusal}");
        assert_eq!(open("SEALED", Some(right)).await.unwrap(), key);
        let key = open("OPEN", None).await.unwrap();
        assert!(open("OPEN", Some(right)).await.unwrap_err().contains("made without a passphrase"));
        assert_eq!(open("OPEN", None).await.unwrap(), key);
        let raw = fs::read(sdk_store(home.path(), "SEALED").folder().join("matrix-sdk-crypto.sqlite3")).unwrap();
        assert!(!raw.windows(5).any(|window| window == b"right"));
    }
}
