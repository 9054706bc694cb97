//! Finds the incidents that a notification is about.

use std::collections::BTreeSet;

use sqlx::AnyConnection;

use crate::store::db::statement;
use crate::{
    model::{Incident, IncidentId, IncidentKey, RouteName},
    store::{
        StoreError,
        db::{rows, statement::SqlBuilder},
    },
};

pub(crate) const WITH_UNRESOLVED: &str = "SELECT DISTINCT alert.incident FROM alert CROSS JOIN incident \
     WHERE incident.id = alert.incident AND incident.closed_at IS NULL AND alert.state <> 'resolved' \
     AND incident.route = ";

/// The open incidents of the route in which one of these is not resolved; all but `own`.
pub(crate) async fn with_unresolved(
    connection: &mut AnyConnection,
    route: &RouteName,
    own: Option<&IncidentId>,
    fingerprints: &[String],
) -> Result<Vec<IncidentId>, StoreError> {
    let mut found = BTreeSet::new();
    for chunk in fingerprints.chunks(rows::CHUNK) {
        // From the alerts to the incidents, never the other way round: there may be thousands of open ones.
        let mut query = SqlBuilder::new(WITH_UNRESOLVED);
        query.push_bind(route.as_str()).push(" AND alert.fingerprint IN (");
        query.push_list(chunk.iter().map(String::as_str));
        let ids: Vec<String> = query.build_query_scalar().fetch_all(&mut *connection).await?;
        found.extend(ids.into_iter().map(IncidentId));
    }
    Ok(found.into_iter().filter(|id| Some(id) != own).collect())
}

/// The incident of the group that a notification speaks of, without its alerts: the open one, else the one that changed
/// last. By the store's counter, since a clock that was ahead once would put a closed one before an open one.
pub(crate) async fn newest_incident(
    connection: &mut AnyConnection,
    key: &IncidentKey,
    group_hash: &str,
) -> Result<Option<Incident>, StoreError> {
    statement::query(
        "SELECT * FROM incident WHERE route = $1 AND receiver = $2 AND group_hash = $3 \
         ORDER BY CASE WHEN closed_at IS NULL THEN 0 ELSE 1 END, rev DESC LIMIT 1",
    )
    .bind(key.route.as_str())
    .bind(&key.receiver)
    .bind(group_hash)
    .fetch_optional(connection)
    .await?
    .as_ref()
    .map(rows::incident)
    .transpose()
}
