//! The recovery key on disk, and how far creating the account's identity has come.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Secret},
    matrix::session::session_file::write_private,
};

/// The files `recovery-key` and `identity.json` in `store.path`, and the configured recovery key.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryFiles {
    store: PathBuf,
    user: String,
    /// `matrix.recovery_key_file`.
    pub configured: Option<Secret>,
}

/// How far creating the account's identity has come. The receiver sets recovery up only for an identity that it created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IdentityStage {
    /// Begun, and nobody has the recovery key yet.
    Making,
    /// The recovery key was written to `recovery-key`, or printed by `login`.
    Made,
}

/// The content of `identity.json`.
#[derive(Serialize, Deserialize)]
struct StoredStage {
    user_id: String,
    stage: IdentityStage,
}

impl RecoveryFiles {
    pub fn new(store: &Path, config: &config::Matrix) -> Self {
        Self { store: store.to_owned(), user: config.user_id.clone(), configured: config.recovery_key.clone() }
    }

    fn key_file(&self) -> PathBuf {
        self.store.join("recovery-key")
    }

    fn stage_file(&self) -> PathBuf {
        self.store.join("identity.json")
    }

    /// Whether `store.path` has the key.
    pub fn has_key_file(&self) -> bool {
        self.key_file().exists()
    }

    /// The recovery key: the configured one before the one in `store.path`.
    pub fn recovery_key(&self) -> anyhow::Result<Option<Secret>> {
        if let Some(key) = &self.configured {
            return Ok(Some(key.clone()));
        }
        match fs::read_to_string(self.key_file()) {
            Ok(text) => Ok(Some(Secret::new(text.trim()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.key_file().display())),
        }
    }

    /// `None`: the receiver did not create this account's identity, as far as is known.
    pub fn stage(&self) -> Option<IdentityStage> {
        let stored: StoredStage = serde_json::from_str(&fs::read_to_string(self.stage_file()).ok()?).ok()?;
        (stored.user_id == self.user).then_some(stored.stage)
    }

    pub fn set_stage(&self, stage: IdentityStage) -> anyhow::Result<()> {
        write_private(&self.stage_file(), &serde_json::to_vec(&StoredStage { user_id: self.user.clone(), stage })?)
    }

    /// Writes the key where the operator finds it.
    pub fn write_key(&self, key: &Secret) -> anyhow::Result<()> {
        write_private(&self.key_file(), format!("{}\n", key.expose()).as_bytes())?;
        self.set_stage(IdentityStage::Made)
    }

    /// Begins an identity. The key file of the last one is renamed, since keys are never deleted.
    pub fn begin_identity(&self) -> anyhow::Result<()> {
        self.set_stage(IdentityStage::Making)?;
        match fs::rename(self.key_file(), self.store.join("recovery-key.old")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot rename {}", self.key_file().display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(store: &Path, user: &str, configured: Option<&str>) -> RecoveryFiles {
        RecoveryFiles { store: store.to_owned(), user: user.to_owned(), configured: configured.map(Secret::new) }
    }

    #[test]
    fn a_written_key_is_private_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        let own = files(home.path(), "@a:x", None);
        assert_eq!((own.recovery_key().unwrap(), own.stage(), own.has_key_file()), (None, None, false));
        own.begin_identity().unwrap();
        assert_eq!(own.stage(), Some(IdentityStage::Making));
        own.write_key(&Secret::new("EsTj 3yST")).unwrap();
        assert_eq!(own.recovery_key().unwrap().unwrap().expose(), "EsTj 3yST");
        assert_eq!(own.stage(), Some(IdentityStage::Made));
        for file in ["recovery-key", "identity.json"] {
            let mode = fs::metadata(home.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        // Another account's stage says nothing about this one.
        assert_eq!(files(home.path(), "@b:x", None).stage(), None);
        let configured = files(home.path(), "@a:x", Some("configured"));
        assert_eq!(configured.recovery_key().unwrap().unwrap().expose(), "configured");
        own.begin_identity().unwrap();
        own.begin_identity().unwrap();
        assert!(fs::read_to_string(home.path().join("recovery-key.old")).unwrap().contains("EsTj"));
        assert_eq!((own.recovery_key().unwrap(), own.stage()), (None, Some(IdentityStage::Making)));
    }
}
