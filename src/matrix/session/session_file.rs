//! `session.json`: what a login returned, so that the next start need not log in again.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Homeserver},
    matrix::api::client::{LoginResponse, TokenValidity},
    model::Timestamp,
};

/// The content of `session.json`, and the text of the session that replicas share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSession {
    pub user_id: String,
    pub device_id: String,
    pub access_token: String,
    pub homeserver: String,
    /// Gets the next access token; `None`: the token never expires, or only a login replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// When the access token expires, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
}

impl StoredSession {
    pub fn new(login: &LoginResponse, homeserver: &Homeserver, now: Timestamp) -> Self {
        let session = Self {
            user_id: login.user.clone(),
            device_id: login.device.clone(),
            access_token: login.token.clone(),
            homeserver: homeserver.to_string(),
            refresh_token: None,
            expires_at: None,
        };
        session.renewed(login.token.clone(), &login.validity, now)
    }

    /// The same session with its next token.
    pub fn renewed(self, access_token: String, validity: &TokenValidity, now: Timestamp) -> Self {
        let expires_at =
            validity.lifetime.and_then(|life| i64::try_from(life.as_millis()).ok()).map(|life| now.0 + life);
        Self { access_token, refresh_token: validity.refresh_token.clone(), expires_at, ..self }
    }

    /// A device that has a name and no token yet.
    pub fn named(user: &str, homeserver: &Homeserver, device: String) -> Self {
        Self {
            user_id: user.to_owned(),
            device_id: device,
            access_token: String::new(),
            homeserver: homeserver.to_string(),
            refresh_token: None,
            expires_at: None,
        }
    }

    /// Whether it is a session of this account on this homeserver.
    pub fn is_of(&self, config: &config::Matrix) -> bool {
        self.user_id == config.user_id && self.homeserver == config.homeserver.as_str()
    }

    /// Whether its token ends before `now` plus `margin`, both by the wall clock.
    pub fn ends_within(&self, margin: Duration, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| Timestamp(at) < now.plus(margin))
    }

    /// `None` when the text is not a session. serde's message is dropped: it may quote the text, which holds the token.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub fn to_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
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
        Ok(Some(Self::parse(&text).with_context(|| format!("{} is damaged", path.display()))?))
    }

    /// Replaces the file atomically; only the owner may read it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_private(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Removes the file, if it exists.
    pub fn remove(path: &Path) -> anyhow::Result<()> {
        remove_if_exists(path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

/// Replaces a file atomically; only the owner may read it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> std::io::Result<()> {
        remove_if_exists(&new)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn remove_if_exists(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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
}
