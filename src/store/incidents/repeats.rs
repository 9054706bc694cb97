//! The same notification again, which is most of what Alertmanager sends in quiet times: known by its digest, read
//! beside the writer, and written down for many at once.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::ingest::{Ingest, Ingested, holding, newest_incident};
use crate::{
    model::{IncidentId, Known, NotificationId, Outcome, Timestamp},
    store::{Store, StoreError, cards},
};

/// An open incident was heard of again, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Repeat {
    pub incident: IncidentId,
    /// The notification that is repeated.
    pub notification: NotificationId,
    pub at: Timestamp,
}

impl Store {
    /// `None`: not a mere repeat, to be decided inside the writer's transaction.
    ///
    /// What is read here may change before the commit. Both webhooks are then unanswered at once, and taking this one
    /// for the earlier of the two is as true as the other way round: it adds nothing to what had been told before.
    pub(crate) async fn heard_again(
        &self,
        ingest: &Ingest,
        group_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Ingested>, StoreError> {
        if ingest.digest.is_empty() {
            return Ok(None);
        }
        let known = {
            let mut connection = self.readers.acquire().await?;
            let Some(incident) = newest_incident(&mut connection, &ingest.key, group_hash).await? else {
                return Ok(None);
            };
            if !incident.is_as_told_by(&ingest.digest) {
                return Ok(None);
            }
            // What it repeats to its own incident may be new to others that hold the same alerts.
            let others = holding(&mut connection, &ingest.key.route, Some(&incident.id), &ingest.resolved).await?;
            if !others.is_empty() {
                return Ok(None);
            }
            let cards = cards::of(&mut connection, &incident.id).await?.into_iter().map(|(state, _)| state).collect();
            Known { incident, cards, repeated: true }
        };
        let changes = (ingest.decide)(Some(&known), now);
        if changes.news || !changes.notes.is_empty() || changes.outcome != Outcome::Unchanged {
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
        }))
    }
}

/// Writes down all that was heard again, in a few statements however many they are.
pub(crate) async fn save(connection: &mut SqliteConnection, repeats: &[&Repeat]) -> Result<(), sqlx::Error> {
    let Some(latest) = repeats.iter().map(|repeats| repeats.at.0).max() else { return Ok(()) };
    let mut update = QueryBuilder::<Sqlite>::new("UPDATE incident SET heard_at = ");
    update.push_bind(latest).push(" WHERE id IN (");
    let mut ids = update.separated(", ");
    for repeats in repeats {
        ids.push_bind(repeats.incident.as_str());
    }
    update.push(")").build().persistent(false).execute(&mut *connection).await?;

    let mut times: HashMap<&str, i64> = HashMap::new();
    for repeats in repeats {
        *times.entry(repeats.notification.as_str()).or_default() += 1;
    }
    // Nearly always each once, and then this is one statement.
    let mut by_count: HashMap<i64, Vec<&str>> = HashMap::new();
    for (notification, count) in times {
        by_count.entry(count).or_default().push(notification);
    }
    for (count, notifications) in by_count {
        let mut update = QueryBuilder::<Sqlite>::new("UPDATE notification SET repeats = repeats + ");
        update.push_bind(count).push(" WHERE id IN (");
        let mut ids = update.separated(", ");
        for notification in notifications {
            ids.push_bind(notification);
        }
        update.push(")").build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}
