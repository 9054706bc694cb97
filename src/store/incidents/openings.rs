//! The first notification of a group, which is most of what Alertmanager sends in an outage: read and decided beside the
//! writer, and written down for many at once.

use std::sync::Arc;

use super::ingest::{Hashes, Ingest, Ingested};
use crate::{
    model::{AlertState, CardId, Changes, IncidentId, IncidentWrite, NotificationId, Timestamp},
    store::{
        Store, StoreError,
        db::{common::Common, json::to_json, openings::Opening, rows::AlertRow},
    },
};

/// Larger ones are written by themselves: here all rows are in memory at once.
const ALERTS: usize = 500;
const BODY: usize = 512 * 1024;

impl Store {
    /// Writes what [`Ingest::may_be_opening`] as the first notification of its group. `None`: it is more than that, or
    /// something is known of the group; to be decided inside the writer's transaction.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub(super) async fn try_opening(
        &self,
        ingest: &mut Ingest,
        hashes: &Hashes,
        now: Timestamp,
    ) -> Result<Option<Ingested>, StoreError> {
        let changes = (ingest.decide)(None, now);
        if !is_one(&changes) {
            return Ok(None);
        }
        let body = Arc::new(std::mem::take(&mut ingest.body));
        let opening = opening(ingest, hashes, &changes, &body, now)?;
        let (notification, incident) = (opening.notification.clone(), opening.incident.clone());
        let is_written = self.writer.open(opening).await?;
        if !is_written {
            ingest.body = Arc::unwrap_or_clone(body);
            return Ok(None);
        }
        Ok(Some(Ingested::alone(notification, incident, changes.outcome)))
    }
}

impl Ingest {
    /// Whether it can only concern its own incident and one room. Asked before the body is packed.
    pub(super) fn may_be_opening(&self) -> bool {
        self.beats.is_empty() && self.resolved.is_empty() && self.rooms.len() < 2 && self.body.len() <= BODY
    }
}

fn is_one(changes: &Changes) -> bool {
    let says_more = !changes.notes.is_empty() || !changes.reposts.is_empty() || !changes.forgotten.is_empty();
    changes.write == IncidentWrite::Insert
        && changes.visible
        && changes.flaps == 0
        && !says_more
        && changes.alerts.len() <= ALERTS
        && changes.alerts.iter().all(|alert| alert.state != AlertState::Absent)
}

fn opening(
    ingest: &Ingest,
    hashes: &Hashes,
    changes: &Changes,
    body: &Arc<Vec<u8>>,
    now: Timestamp,
) -> Result<Opening, StoreError> {
    let common = Common::of(&changes.alerts);
    let id = || ulid::Ulid::new().to_string();
    Ok(Opening {
        key: ingest.key.clone(),
        group_hash: hashes.group.clone(),
        body: Arc::clone(body),
        body_hash: hashes.body.clone(),
        by_receiver: ingest.by_receiver,
        at: now,
        notification: NotificationId(id()),
        incident: IncidentId(id()),
        state: changes.state,
        severity: changes.severity,
        closed_at: changes.closed_at,
        doc: to_json(&changes.doc)?,
        common: common.to_json()?,
        alerts: changes.alerts.iter().map(|alert| AlertRow::of(alert, &common)).collect::<Result<_, _>>()?,
        card: ingest.rooms.first().map(|room| (CardId(id()), room.clone())),
        // They hold the body's share of the memory.
        _held: Box::new(Arc::clone(&ingest.decide)),
    })
}
