//! The rooms that addresses resolve to. A resolved alias keeps its room until the operator changes it.

pub(crate) mod addresses;

use sqlx::{AnyConnection, Row as _};

use super::{Store, StoreError};
use crate::model::{ResolvedRoom, RoomAddress};
use crate::store::db::statement;

impl Store {
    /// # Errors
    /// When the store cannot be read.
    pub async fn resolved_rooms(&self) -> Result<Vec<(RoomAddress, ResolvedRoom)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        read(&mut connection).await
    }

    /// # Errors
    /// When it cannot be committed.
    pub async fn set_resolved_room(&self, address: RoomAddress, resolved: ResolvedRoom) -> Result<(), StoreError> {
        self.writer
            .write(move |connection, _| {
                Box::pin(async move {
                    statement::query(
                        "INSERT INTO room (name, room_id, successor) VALUES ($1, $2, $3)
                         ON CONFLICT (name) DO UPDATE SET room_id = excluded.room_id, successor = excluded.successor",
                    )
                    .bind(address.as_str())
                    .bind(&resolved.first)
                    .bind(&resolved.successor)
                    .execute(connection)
                    .await
                    .map(drop)?;
                    Ok(())
                })
            })
            .await
    }
}

pub(super) async fn read(connection: &mut AnyConnection) -> Result<Vec<(RoomAddress, ResolvedRoom)>, StoreError> {
    let rows = statement::query("SELECT name, room_id, successor FROM room WHERE room_id IS NOT NULL")
        .fetch_all(connection)
        .await?;
    let mut resolved = Vec::new();
    for row in rows {
        // An address that this version cannot parse is not in its config either.
        let Ok(address) = RoomAddress::parse(row.try_get("name")?) else { continue };
        resolved.push((address, ResolvedRoom { first: row.try_get("room_id")?, successor: row.try_get("successor")? }));
    }
    Ok(resolved)
}
