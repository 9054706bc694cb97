//! The file of the access token or password, which may be replaced while the receiver runs.

use std::{sync::Mutex, time::Duration};

use tokio::time::sleep;

use crate::{config::Secret, file_watch, matrix::context::lock, pacing::SayOnce};

/// How often to read the file.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Reads a secret's file again, and logs once if its content cannot be used.
#[derive(Default)]
pub(super) struct SecretFile {
    logged: Mutex<SayOnce>,
}

impl SecretFile {
    /// The secret as its file has it now; the previous one while the file has no usable content.
    pub async fn current(&self, secret: &Secret) -> Secret {
        self.read(secret).await.unwrap_or_else(|| secret.clone())
    }

    /// The content of the secret's file, if it has one and the content is usable.
    pub async fn read(&self, secret: &Secret) -> Option<Secret> {
        let bytes = file_watch::read(secret.file()?).await;
        // An empty or missing file is being written right now.
        let bytes = bytes.ok().filter(|bytes| !bytes.trim_ascii().is_empty());
        let new = bytes.map(|bytes| secret.renewed(bytes)).transpose();
        let mut logged = lock(&self.logged);
        match &new {
            Err(error) if logged.should_log(error) => {
                tracing::warn!(error, "cannot use new secret; keeping the previous one");
            }
            Err(_) => {}
            Ok(_) => {
                logged.clear();
            }
        }
        new.ok().flatten()
    }

    /// Returns when the file has another secret than `tried`; never for a secret without a file.
    pub async fn changed(&self, secret: Option<&Secret>, tried: Option<&Secret>) {
        loop {
            sleep(INTERVAL).await;
            if let Some(secret) = secret.filter(|secret| secret.file().is_some())
                && Some(&self.current(secret).await) != tried
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replaced_secret_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        let secret = Secret::from_file("old\n", path.clone());
        let file = SecretFile::default();
        assert_eq!(file.current(&secret).await.expose(), "old");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(file.current(&secret).await.expose(), "new");
        for unusable in ["", "\n", "new\nsecond line\n", "\u{feff}new\n"] {
            std::fs::write(&path, unusable).unwrap();
            assert_eq!(file.current(&secret).await.expose(), "old", "{unusable:?}");
        }
    }
}
