//! The same notification again, which is most of what Alertmanager sends in quiet times: known by its digest, read
//! beside the writer, and written down for many at once.

use super::{
    find::{newest_incident, with_unresolved},
    ingest::{Ingest, Ingested},
    takings,
};
use crate::{
    model::{Known, Outcome, Timestamp},
    store::{Store, StoreError, cards::save::live_cards, db::repeats::Repeat},
};

impl Store {
    /// `None`: not a mere repeat, to be decided inside the writer's transaction.
    ///
    /// What is read here may change before the commit. Both webhooks are then unanswered at once, and taking this one
    /// for the earlier one is as true as the other way round: it adds nothing.
    pub(crate) async fn try_repeat(
        &self,
        ingest: &Ingest,
        group_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Ingested>, StoreError> {
        if ingest.content_hash.is_empty() || !ingest.beats.is_empty() {
            return Ok(None);
        }
        let known = {
            let mut connection = self.readers.acquire().await?;
            let Some(incident) = newest_incident(&mut connection, &ingest.key, group_hash).await? else {
                return Ok(None);
            };
            if !incident.is_repeated_by(&ingest.content_hash) {
                return Ok(None);
            }
            // What it repeats to its own incident may be new to others that hold the same alerts.
            let others =
                with_unresolved(&mut connection, &ingest.key.route, Some(&incident.id), &ingest.resolved).await?;
            if !others.is_empty() {
                return Ok(None);
            }
            let cards = live_cards(&mut connection, &incident.id).await?.into_iter().map(|(state, _)| state).collect();
            let taken = takings::is_taken(&mut connection, &incident.id).await?;
            Known { incident, cards, repeated: true, taken }
        };
        let changes = (ingest.decide)(Some(&known), now);
        if changes.visible || !changes.notes.is_empty() || changes.outcome != Outcome::Unchanged {
            return Ok(None);
        }
        let (incident, notification) = (known.incident.id, known.incident.notification);
        self.writer.repeats(Repeat { incident: incident.clone(), notification: notification.clone(), at: now }).await?;
        Ok(Some(Ingested {
            notification,
            incident: Some(incident),
            outcome: changes.outcome,
            forgotten: 0,
            elsewhere: 0,
            left_absent: false,
            unarmed: 0,
        }))
    }
}
