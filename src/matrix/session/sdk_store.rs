//! The SDK's store of a device: its keys, encrypted if `matrix.store_passphrase_file` is set.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use matrix_sdk::{
    Client, SessionMeta, SessionTokens, SqliteStoreConfig, authentication::matrix::MatrixSession,
    config::RequestConfig, cross_process_lock::CrossProcessLockConfig, ruma::OwnedDeviceId,
};

use super::session_file::write_private;
use crate::{
    config::{self, Secret},
    matrix::api::{
        client::{API_VERSION, Api, parse_user},
        errors,
    },
    model::{Reason, SendError},
};

/// The time limit of each request through the SDK; a sync may take its long poll in addition.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Marks a folder whose store has a passphrase. The SDK would open a store without one and leave it half encrypted.
const SEALED: &str = "has-passphrase";

/// Whether the store has the keys of a device, without opening it.
pub(crate) fn has_keys(store: &Path, device: &str) -> bool {
    SdkStore { store, user: "", device, passphrase: None }.exists()
}

/// Where the SDK's store of a device is, and what it is encrypted with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SdkStore<'a> {
    /// `store.path`.
    store: &'a Path,
    user: &'a str,
    device: &'a str,
    passphrase: Option<&'a str>,
}

impl<'a> SdkStore<'a> {
    pub fn new(config: &'a config::Matrix, store: &'a Path, device: &'a str) -> Self {
        let passphrase = config.store_passphrase.as_ref().map(Secret::expose);
        Self { store, user: &config.user_id, device, passphrase }
    }

    /// The folder of this device's store: the SDK's store serves a single device. The homeserver chooses the device id,
    /// so the id must not be able to name a path.
    pub fn folder(&self) -> PathBuf {
        self.store.join("matrix").join(urlencoding::encode(self.device).replace('.', "%2E"))
    }

    /// Whether keys were ever kept there.
    pub fn exists(&self) -> bool {
        self.folder().join("matrix-sdk-crypto.sqlite3").exists()
    }

    /// Opens the store and restores the session of `token` in it. This sends no request: only the first sync uploads
    /// keys.
    ///
    /// # Errors
    /// For the whole account. A store that does not fit or is damaged is never deleted: it may have the only copy of
    /// the keys.
    pub async fn open(&self, api: &Api, token: &str) -> Result<Client, SendError> {
        let folder = self.folder();
        let failed = |why: String| {
            let text = format!("cannot open the store of the Matrix session in {}: {why}", folder.display());
            errors::send_error(Reason::NotReady, text)
        };
        let user_id = parse_user(self.user)?;
        self.prepare(&folder).map_err(|error| failed(format!("{error:#}")))?;

        let config = SqliteStoreConfig::with_low_memory_config(&folder).passphrase(self.passphrase);
        let client = Client::builder()
            .homeserver_url(&api.homeserver)
            .http_client(api.http.clone())
            .respect_login_well_known(false)
            // Fixed, as for our own requests: a homeserver whose `/versions` is broken or blocked by a proxy still
            // works. No request here needs a later version or an unstable feature.
            .server_versions([API_VERSION])
            // Set on the builder: the config of a single request does not cover the requests that the SDK sends before.
            .request_config(RequestConfig::new().disable_retry().timeout(REQUEST_TIMEOUT))
            .sqlite_store_with_config_and_cache_path(config, None::<&Path>)
            .cross_process_store_config(CrossProcessLockConfig::SingleProcess)
            .build()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let session = MatrixSession {
            meta: SessionMeta { user_id, device_id: OwnedDeviceId::from(self.device) },
            tokens: SessionTokens { access_token: token.to_owned(), refresh_token: None },
        };
        client.restore_session(session).await.map_err(|error| failed(error.to_string()))?;
        Ok(client)
    }

    fn prepare(&self, folder: &Path) -> anyhow::Result<()> {
        let mark = folder.join(SEALED);
        match (self.exists(), mark.exists(), self.passphrase.is_some()) {
            (true, true, false) => anyhow::bail!("it has a passphrase; set matrix.store_passphrase_file"),
            (true, false, true) => anyhow::bail!(
                "it was created without a passphrase; remove matrix.store_passphrase_file from the config, or log in as \
                 a new device"
            ),
            _ => {}
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if self.passphrase.is_some() { write_private(&mark, b"") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use matrix_sdk::reqwest;

    use super::*;

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

    /// Keys that a wrong passphrase cannot read must be reported, and never overwritten.
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
        assert!(refusal.contains("cannot open") && !refusal.contains("wrong\""), "{refusal}");
        assert_eq!(open("SEALED", Some(right)).await.unwrap(), key);
        let key = open("OPEN", None).await.unwrap();
        assert!(open("OPEN", Some(right)).await.unwrap_err().contains("created without a passphrase"));
        assert_eq!(open("OPEN", None).await.unwrap(), key);
        let raw = fs::read(sdk_store(home.path(), "SEALED").folder().join("matrix-sdk-crypto.sqlite3")).unwrap();
        assert!(!raw.windows(5).any(|window| window == b"right"));
    }
}
