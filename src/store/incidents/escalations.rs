//! Incidents that nobody takes: which are due for the next person, and the note that calls them. The step and its notes
//! are one commit, so that a crash neither forgets nor repeats them.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, Row as _};

use crate::store::db::statement;
use crate::{
    model::{Alert, IncidentId, NewNote, NoteArgs, NoteKind, NotificationId, RouteName, Timestamp},
    store::{
        Store, StoreError,
        cards::save::CardWriter,
        db::{rows, writer::WriteContext},
    },
};

/// Incidents that are read at once; the others follow when these are escalated.
const MOST: i64 = 10_000;

/// An incident of the step's route that fires for as long as the step says, is severe enough, and neither taken nor
/// escalated to the step before: $1 route, $2 the latest start, $3 the severity, $4 the step.
const DUE: &str = "incident.closed_at IS NULL AND incident.route = $1 AND incident.state = 'firing' \
     AND incident.fired_at <= $2 AND incident.severity <= $3 \
     AND NOT EXISTS (SELECT 1 FROM escalation WHERE escalation.incident = incident.id AND escalation.step = $4) \
     AND NOT EXISTS (SELECT 1 FROM act WHERE act.incident = incident.id AND act.kind = 'take' AND act.state = 'live')";

/// One entry of a route's `escalate`.
#[derive(Clone)]
pub struct EscalationStep {
    pub route: RouteName,
    /// Counted from 0.
    pub step: usize,
    /// Since the incident opened or reopened.
    pub after: Duration,
    /// The rank of the least severe alerts for which somebody is called.
    pub min_severity: u32,
    /// Whether an alert is one for which somebody is called.
    pub concerns: Arc<dyn Fn(&Alert) -> bool + Send + Sync>,
}

/// An incident that may be due. Whether one of its alerts is severe enough can only change with its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscalationCandidate {
    pub incident: IncidentId,
    pub rev: i64,
}

impl Store {
    /// Incidents for which the time of the step has come, the longest waiting first. `fired_after` leaves out those that
    /// began to fire no later.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn escalation_candidates(
        &self,
        step: &EscalationStep,
        fired_after: Option<Timestamp>,
    ) -> Result<Vec<EscalationCandidate>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        // Made of literals only.
        let sql = format!(
            "SELECT incident.id, incident.rev FROM incident WHERE {DUE} AND incident.fired_at > $5 \
             ORDER BY incident.fired_at, incident.id LIMIT $6"
        );
        statement::query(sqlx::AssertSqlSafe(sql))
            .bind(step.route.as_str())
            .bind(self.clock.now().minus(step.after).0)
            .bind(i64::from(step.min_severity))
            .bind(number(step.step))
            .bind(fired_after.map_or(i64::MIN, |at| at.0))
            .bind(MOST)
            .fetch_all(&mut *connection)
            .await?
            .iter()
            .map(|row| Ok(EscalationCandidate { incident: IncidentId(row.try_get("id")?), rev: row.try_get("rev")? }))
            .collect()
    }

    /// Takes the step for those of `incidents` for which it is still due, and returns these.
    ///
    /// # Errors
    /// When it cannot be committed; none is escalated then.
    pub async fn escalate(
        &self,
        step: &EscalationStep,
        incidents: Vec<IncidentId>,
    ) -> Result<Vec<IncidentId>, StoreError> {
        let (step, now) = (step.clone(), self.clock.now());
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let mut escalated = Vec::new();
                    for incident in incidents {
                        if escalate(connection, context, &step, &incident, now).await? {
                            escalated.push(incident);
                        }
                    }
                    Ok(escalated)
                })
            })
            .await
    }
}

async fn escalate(
    connection: &mut AnyConnection,
    context: &mut WriteContext,
    step: &EscalationStep,
    incident: &IncidentId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = format!("SELECT incident.notification FROM incident WHERE incident.id = $5 AND {DUE}");
    let due: Option<String> = statement::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(step.route.as_str())
        .bind(now.minus(step.after).0)
        .bind(i64::from(step.min_severity))
        .bind(number(step.step))
        .bind(incident.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(notification) = due.map(NotificationId) else { return Ok(false) };
    if !concerns_one(connection, step, incident).await? {
        return Ok(false);
    }
    statement::query("INSERT INTO escalation (incident, step, at) VALUES ($1, $2, $3)")
        .bind(incident.as_str())
        .bind(number(step.step))
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    let args = NoteArgs { step: Some(step.step), ..NoteArgs::default() };
    let note = NewNote { kind: NoteKind::Escalation, args, cards: None };
    CardWriter { connection, context, now }.say(incident, &note, &notification).await?;
    Ok(true)
}

async fn concerns_one(
    connection: &mut AnyConnection,
    step: &EscalationStep,
    incident: &IncidentId,
) -> Result<bool, StoreError> {
    let mut alerts = rows::stream_alerts(connection, incident);
    while let Some(alert) = alerts.try_next().await? {
        if (step.concerns)(&alert) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets the steps of an incident that fires once more after it was closed: they are due again.
pub(crate) async fn forget(connection: &mut AnyConnection, incident: &IncidentId) -> Result<(), StoreError> {
    statement::query("DELETE FROM escalation WHERE incident = $1").bind(incident.as_str()).execute(connection).await?;
    Ok(())
}

fn number(step: usize) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}
