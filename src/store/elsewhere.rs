//! An alert that is reported resolved is so in every open incident of the route that holds it, whichever group told it.

use std::collections::BTreeSet;

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::{Store, StoreError, cards, ingest::Job, rows};
use crate::model::{
    Changes, Incident, IncidentId, Known, NotificationId, Over, RoomAddress, RouteName, Timestamp,
};

/// Fingerprints that one look-up names.
const CHUNK: usize = 500;
/// Incidents that one transaction changes; the rest of a long list follows in further ones, before the webhook is answered.
const BATCH: usize = 50;

type Decide = Box<dyn Fn(&Known, &[Over], Timestamp) -> Changes + Send + Sync>;

/// What a notification says of alerts that other groups may hold.
pub struct Elsewhere {
    /// Sorted by fingerprint.
    pub over: Vec<Over>,
    /// The rules: another incident that holds some of them -> what changes.
    pub decide: Decide,
}

/// Incidents that are still to be changed.
pub(super) struct Rest {
    pub elsewhere: Elsewhere,
    pub held: Vec<IncidentId>,
    pub notification: NotificationId,
}

impl Store {
    /// One more transaction's worth. Should it fail, the notification is not answered with 200 and comes again.
    pub(super) async fn resolve_rest(&self, rest: Rest) -> Result<(usize, Option<Rest>), StoreError> {
        let clock = self.clock.clone();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move { Job::new(connection, context, clock.now()).resolve_elsewhere(rest).await })
            })
            .await
    }
}

impl Job<'_> {
    /// How many were changed, and what is left.
    pub(super) async fn resolve_elsewhere(&mut self, mut rest: Rest) -> Result<(usize, Option<Rest>), StoreError> {
        let later = rest.held.split_off(rest.held.len().min(BATCH));
        let mut touched = 0;
        for incident in std::mem::replace(&mut rest.held, later) {
            // It may have changed since it was found.
            let Some(known) = self.open_incident(&incident).await? else { continue };
            let changes = (rest.elsewhere.decide)(&known, &rest.elsewhere.over, self.now);
            if !changes.news {
                continue;
            }
            self.change(&known.incident, &changes, &rest.notification).await?;
            touched += 1;
        }
        Ok((touched, (!rest.held.is_empty()).then_some(rest)))
    }

    async fn open_incident(&mut self, incident: &IncidentId) -> Result<Option<Known>, StoreError> {
        let sql = format!("SELECT {} FROM incident WHERE id = $1 AND closed_at IS NULL", rows::INCIDENT);
        // Made of literals only.
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(incident.as_str())
            .fetch_optional(&mut *self.connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let mut incident = rows::incident(&row)?;
        incident.alerts = rows::alerts_of(self.connection, &incident.id).await?;
        Ok(Some(Known { incident, cards: Vec::new(), repeated: false }))
    }

    /// When its own group was heard of stays as it is: nothing was said of its other alerts.
    async fn change(
        &mut self,
        incident: &Incident,
        changes: &Changes,
        notification: &NotificationId,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE incident SET state = $2, severity = $3, closed_at = $4, rev = $5, notification = $6, doc = $7 \
             WHERE id = $1",
        )
        .bind(incident.id.as_str())
        .bind(changes.state.as_str())
        .bind(i64::from(changes.severity))
        .bind(changes.closed_at.map(|at| at.0))
        .bind(self.context.next())
        .bind(notification.as_str())
        .bind(rows::to_json(&changes.doc)?)
        .execute(&mut *self.connection)
        .await?;
        rows::save_alerts(self.connection, &incident.id, &changes.alerts).await?;
        let mut rooms = Vec::new();
        for (_, room) in cards::of(self.connection, &incident.id).await? {
            rooms.extend(RoomAddress::parse(&room).ok());
        }
        self.save_cards(&incident.id, &rooms, changes, notification).await
    }
}

/// Open incidents of the route in which one of `over`, sorted by fingerprint, ends an alert; all but `own`.
pub(super) async fn holding(
    connection: &mut SqliteConnection,
    route: &RouteName,
    over: &[Over],
    own: Option<&IncidentId>,
) -> Result<Vec<IncidentId>, StoreError> {
    let mut found = BTreeSet::new();
    for chunk in over.chunks(CHUNK) {
        // From the alerts to the incidents, never the other way round: there may be thousands of open ones.
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT alert.incident, alert.fingerprint, alert.starts_at FROM alert CROSS JOIN incident \
             WHERE incident.id = alert.incident AND incident.closed_at IS NULL AND alert.state <> 'resolved' \
             AND incident.route = ",
        );
        query.push_bind(route.as_str()).push(" AND alert.fingerprint IN (");
        let mut fingerprints = query.separated(", ");
        for one in chunk {
            fingerprints.push_bind(one.fingerprint.as_str());
        }
        for row in query.push(")").build().persistent(false).fetch_all(&mut *connection).await? {
            let starts_at = Timestamp(row.try_get("starts_at")?);
            if Over::of(chunk, row.try_get("fingerprint")?, starts_at).is_some() {
                found.insert(row.try_get::<String, _>("incident")?);
            }
        }
    }
    Ok(found.into_iter().map(IncidentId).filter(|id| Some(id) != own).collect())
}
