//! The same notification again, which is most of what Alertmanager sends in quiet times: known by its digest, read
//! beside the writer, and written down for many at once.

use super::{
    find::{newest_known, with_unresolved},
    ingest::{Ingest, Ingested, LookAhead},
};
use crate::{
    model::{Known, Outcome, Timestamp},
    store::{Store, StoreError, db::repeats::Repeat},
};

impl Store {
    /// Reads what is known of the group, and writes the notification if it is a mere repeat.
    ///
    /// What is read here may change before the commit. Both webhooks are then unanswered at once, and taking this one
    /// for the earlier one is as true as the other way round: it adds nothing.
    pub(super) async fn look_ahead(
        &self,
        ingest: &Ingest,
        group_hash: &str,
        now: Timestamp,
    ) -> Result<LookAhead, StoreError> {
        if ingest.content_hash.is_empty() || !ingest.beats.is_empty() {
            return Ok(LookAhead::Other);
        }
        let known = {
            let mut connection = self.readers.acquire().await?;
            let Some(known) = newest_known(&mut connection, &ingest.key, group_hash).await? else {
                return Ok(LookAhead::Unknown);
            };
            if !known.incident.is_repeated_by(&ingest.content_hash) {
                return Ok(LookAhead::Other);
            }
            // What it repeats to its own incident may be new to others that hold the same alerts.
            let others =
                with_unresolved(&mut connection, &ingest.key.route, Some(&known.incident.id), &ingest.resolved).await?;
            if !others.is_empty() {
                return Ok(LookAhead::Other);
            }
            Known { repeated: true, ..known }
        };
        let changes = (ingest.decide)(Some(&known), now);
        if changes.visible || !changes.notes.is_empty() || changes.outcome != Outcome::Unchanged {
            return Ok(LookAhead::Other);
        }
        let (incident, notification) = (known.incident.id, known.incident.notification);
        self.writer.repeats(Repeat { incident: incident.clone(), notification: notification.clone(), at: now }).await?;
        Ok(LookAhead::Repeated(Ingested::alone(notification, incident, changes.outcome)))
    }
}
