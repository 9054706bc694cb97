//! The session of the device that all replicas share.

use crate::store::{Store, StoreError, db::meta};

pub(super) const SESSION: &str = "shared_session";

impl Store {
    /// What [`Store::set_shared_session`] kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn shared_session(&self) -> Result<Option<String>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(meta::read(&mut connection, SESSION).await?)
    }

    /// Keeps the session of the shared device. It holds a token, so that no log may show it.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn set_shared_session(&self, text: String) -> Result<(), StoreError> {
        self.write(move |connection, _| Box::pin(async move { Ok(meta::write(connection, SESSION, &text).await?) }))
            .await
    }
}
