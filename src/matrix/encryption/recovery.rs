//! What of the account's trust lies on disk: the recovery key, and how far making it has come.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Secret},
    matrix::session::storage::write_private,
};

/// Where the recovery key of an account is, and whether this receiver made the account's identity.
#[derive(Clone, Debug)]
pub(crate) struct RecoveryKit {
    store: PathBuf,
    user: String,
    /// `matrix.recovery_key_file`.
    pub configured: Option<Secret>,
}

/// How far making the account's identity has come. An identity that the receiver did not make is never given new
/// recovery by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Begun, and the recovery key is in nobody's hands yet.
    Making,
    /// The recovery key was written to `recovery-key`, or printed by `login`.
    Made,
}

#[derive(Serialize, Deserialize)]
struct Note {
    user_id: String,
    stage: Stage,
}

impl RecoveryKit {
    pub fn new(store: &Path, config: &config::Matrix) -> Self {
        Self { store: store.to_owned(), user: config.user_id.clone(), configured: config.recovery_key.clone() }
    }

    fn file(&self) -> PathBuf {
        self.store.join("recovery-key")
    }

    fn note_file(&self) -> PathBuf {
        self.store.join("identity.json")
    }

    /// Whether the key lies in `store.path`.
    pub fn is_here(&self) -> bool {
        self.file().exists()
    }

    /// The key that there is: the configured one before the one in `store.path`.
    pub fn recovery_key(&self) -> anyhow::Result<Option<Secret>> {
        if let Some(key) = &self.configured {
            return Ok(Some(key.clone()));
        }
        match fs::read_to_string(self.file()) {
            Ok(text) => Ok(Some(Secret::new(text.trim()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.file().display())),
        }
    }

    /// `None`: the receiver did not make this account's identity, as far as is known.
    pub fn stage(&self) -> Option<Stage> {
        let note: Note = serde_json::from_str(&fs::read_to_string(self.note_file()).ok()?).ok()?;
        (note.user_id == self.user).then_some(note.stage)
    }

    pub fn note(&self, stage: Stage) -> anyhow::Result<()> {
        write_private(&self.note_file(), &serde_json::to_vec(&Note { user_id: self.user.clone(), stage })?)
    }

    /// Puts the key where the operator finds it.
    pub fn keep(&self, key: &Secret) -> anyhow::Result<()> {
        write_private(&self.file(), format!("{}\n", key.expose()).as_bytes())?;
        self.note(Stage::Made)
    }

    /// The account has no identity that the key belongs to any more. It is set aside all the same: keys are never deleted.
    pub fn set_aside(&self) -> anyhow::Result<()> {
        match fs::rename(self.file(), self.store.join("recovery-key.old")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot set {} aside", self.file().display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn recovery_kit(store: &Path, user: &str, configured: Option<&str>) -> RecoveryKit {
        RecoveryKit { store: store.to_owned(), user: user.to_owned(), configured: configured.map(Secret::new) }
    }

    #[test]
    fn a_kept_key_is_private_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let mine = recovery_kit(home.path(), "@a:x", None);
        assert_eq!((mine.recovery_key().unwrap(), mine.stage(), mine.is_here()), (None, None, false));
        mine.note(Stage::Making).unwrap();
        assert_eq!(mine.stage(), Some(Stage::Making));
        mine.keep(&Secret::new("EsTj 3yST")).unwrap();
        assert_eq!(mine.recovery_key().unwrap().unwrap().expose(), "EsTj 3yST");
        assert_eq!(mine.stage(), Some(Stage::Made));
        for file in ["recovery-key", "identity.json"] {
            let mode = fs::metadata(home.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        // Another account's note says nothing about this one.
        assert_eq!(recovery_kit(home.path(), "@b:x", None).stage(), None);
        let told = recovery_kit(home.path(), "@a:x", Some("configured"));
        assert_eq!(told.recovery_key().unwrap().unwrap().expose(), "configured");
        mine.set_aside().unwrap();
        mine.set_aside().unwrap();
        assert!(fs::read_to_string(home.path().join("recovery-key.old")).unwrap().contains("EsTj"));
        assert_eq!(mine.recovery_key().unwrap(), None);
        assert_eq!(mine.stage(), Some(Stage::Made), "that it was made stays known");
    }
}
