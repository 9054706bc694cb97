//! Facts about the store that others ask for: its id, and the device that sends from it.

use super::{Store, StoreError, db::meta};

const STORE: &str = "store";
const DEVICE: &str = "device";

impl Store {
    /// The Matrix device that sent last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn device(&self) -> Result<Option<String>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(meta::read(&mut connection, DEVICE).await?)
    }

    /// # Errors
    /// When it cannot be committed.
    pub async fn set_device(&self, device: String) -> Result<(), StoreError> {
        self.writer
            .write(move |connection, _| Box::pin(async move { Ok(meta::write(connection, DEVICE, &device).await?) }))
            .await
    }

    /// Gives the store an id when it is new.
    pub(crate) async fn ensure_identity(&self) -> Result<(), StoreError> {
        self.writer
            .write(|connection, _| {
                Box::pin(async move {
                    if meta::read(connection, STORE).await?.is_none() {
                        meta::write(connection, STORE, &ulid::Ulid::new().to_string()).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
