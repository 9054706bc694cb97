//! Finds the incidents that a notification is about.

use std::collections::BTreeSet;

use sqlx::{AnyConnection, Row as _};

use crate::store::db::statement;
use crate::{
    model::{AlertKey, CardId, Incident, IncidentId, IncidentKey, Known, RouteName},
    store::{
        StoreError,
        cards::save::live_card,
        db::{rows, statement::SqlBuilder},
    },
};

/// Selects from `wanted` the alerts of open incidents that are not resolved. From the alerts to the incidents, never the
/// other way round: there may be thousands of open ones.
pub(crate) const UNRESOLVED: &str = " FROM wanted CROSS JOIN alert CROSS JOIN incident \
     WHERE alert.name_hash IN (0, wanted.name_hash) AND alert.fingerprint = wanted.fingerprint \
     AND alert.state <> 'resolved' AND incident.id = alert.incident AND incident.closed_at IS NULL";

/// Begins a statement about `alerts`, with the table that [`UNRESOLVED`] reads.
pub(crate) fn wanted(alerts: &[AlertKey]) -> SqlBuilder {
    let mut query = SqlBuilder::new("WITH wanted (name_hash, fingerprint) AS (VALUES ");
    for (n, alert) in alerts.iter().enumerate() {
        query.push(if n == 0 { "(" } else { ", (" }).push_bind(alert.name_hash);
        query.push(", ").push_bind(alert.fingerprint.as_str()).push(")");
    }
    query.push(") ");
    query
}

/// The open incidents of the route in which one of these is not resolved; all but `own`.
pub(crate) async fn with_unresolved(
    connection: &mut AnyConnection,
    route: &RouteName,
    own: Option<&IncidentId>,
    alerts: &[AlertKey],
) -> Result<Vec<IncidentId>, StoreError> {
    let mut found = BTreeSet::new();
    for chunk in alerts.chunks(rows::CHUNK) {
        let mut query = wanted(chunk);
        query.push("SELECT DISTINCT alert.incident").push(UNRESOLVED).push(" AND incident.route = ");
        query.push_bind(route.as_str());
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

/// The same with its live cards and whether somebody took it, but without its alerts, all in one trip.
pub(crate) async fn newest_known(
    connection: &mut AnyConnection,
    key: &IncidentKey,
    group_hash: &str,
) -> Result<Option<Known>, StoreError> {
    let rows = statement::query(
        "SELECT incident.*, CASE WHEN EXISTS (SELECT 1 FROM act WHERE act.incident = incident.id AND act.kind = 'take' \
         AND act.state = 'live') THEN 1 ELSE 0 END AS taken, card.id AS card, card.spoke_at, \
         CASE WHEN card.kind = 'incident' AND card.root_event IS NOT NULL THEN card.root_at END AS posted_at, \
         CASE WHEN EXISTS (SELECT 1 FROM note WHERE note.card = card.id) THEN 1 ELSE 0 END AS notes_waiting \
         FROM incident LEFT JOIN card_incident ON card_incident.incident = incident.id \
         LEFT JOIN card ON card.id = card_incident.card AND card.state = 'live' \
         WHERE incident.id = (SELECT id FROM incident WHERE route = $1 AND receiver = $2 AND group_hash = $3 \
         ORDER BY CASE WHEN closed_at IS NULL THEN 0 ELSE 1 END, rev DESC LIMIT 1)",
    )
    .bind(key.route.as_str())
    .bind(&key.receiver)
    .bind(group_hash)
    .fetch_all(connection)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut cards = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(id) = row.try_get::<Option<String>, _>("card")? {
            cards.push(live_card(row, CardId(id))?);
        }
    }
    let taken = first.try_get::<i64, _>("taken")? != 0;
    Ok(Some(Known { incident: rows::incident(first)?, cards, repeated: false, taken }))
}
