//! Closes incidents that no notification has mentioned for long.

use std::time::Duration;

use super::takings;
use crate::store::db::statement;
use crate::{
    model::{HEARTBEATS, IncidentId, RouteName},
    store::{Store, StoreError, cards::save::mark_live_due},
};

/// Incidents that one transaction closes.
const BATCH: i64 = 100;

impl Store {
    /// Closes the open incidents of a route that no notification and no poll has mentioned for `after`, as stale, never as
    /// resolved; their cards say so. Returns how many.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn close_stale(&self, route: &RouteName, after: Duration) -> Result<usize, StoreError> {
        let (route, now) = (route.to_string(), self.clock.now());
        let before = now.minus(after);
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let stale: Vec<String> = statement::query_scalar(
                        "SELECT id FROM incident WHERE closed_at IS NULL AND route = $1 AND heard_at <= $2 \
                         AND coalesce(listed_at, heard_at) <= $2 AND receiver <> $4 LIMIT $3",
                    )
                    .bind(&route)
                    .bind(before.0)
                    .bind(BATCH)
                    .bind(HEARTBEATS)
                    .fetch_all(&mut *connection)
                    .await?;
                    for incident in &stale {
                        statement::query("UPDATE incident SET state = 'stale', closed_at = $2, rev = $3 WHERE id = $1")
                            .bind(incident)
                            .bind(now.0)
                            .bind(context.next())
                            .execute(&mut *connection)
                            .await?;
                        takings::end(connection, &IncidentId(incident.clone()), now).await?;
                        mark_live_due(connection, context, incident, now).await?;
                    }
                    Ok(stale.len())
                })
            })
            .await
    }
}
