//! Rows <-> types of the model.

use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{
    common::Common,
    json::{from_json, to_json},
    statement::SqlBuilder,
};
use crate::store::db::statement;
use crate::{
    model::{
        Alert, AlertState, Card, CardId, CardKind, CardState, Form, Incident, IncidentId, IncidentKey, IncidentState,
        LeftOut, Note, NoteKind, NotificationId, Op, OpKind, OpState, PolledAlert, RoomAddress, RouteName, Timestamp,
        TxnId, name_hash,
    },
    store::StoreError,
};

/// Rows that go into one statement.
pub(crate) const CHUNK: usize = 500;

pub(crate) const INCIDENT: &str = "id, route, receiver, group_key, state, severity, opened_at, heard_at, closed_at, \
     flaps, rev, notification, doc";

fn bad(what: &str, value: &str) -> StoreError {
    StoreError::Database(format!("the store holds an unknown {what}: {value:?}"))
}

/// Reads a number that was written as unsigned.
fn unsigned(row: &AnyRow, column: &str) -> Result<u32, StoreError> {
    let number: i64 = row.try_get(column)?;
    u32::try_from(number).map_err(|_| bad(column, &number.to_string()))
}

fn time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp(row.try_get(column)?))
}

fn maybe_time(row: &AnyRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp))
}

fn word<T>(row: &AnyRow, column: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    parse(text).ok_or_else(|| bad(column, text))
}

fn document<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    from_json(row.try_get(column)?, column)
}

fn maybe_document<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|_| document(row, column)).transpose()
}

/// Reads an incident without its alerts.
pub(crate) fn incident(row: &AnyRow) -> Result<Incident, StoreError> {
    Ok(Incident {
        id: IncidentId(row.try_get("id")?),
        key: IncidentKey {
            route: word(row, "route", |text| RouteName::parse(text).ok())?,
            receiver: row.try_get("receiver")?,
            group_key: row.try_get("group_key")?,
        },
        state: word(row, "state", IncidentState::parse)?,
        severity: unsigned(row, "severity")?,
        opened_at: time(row, "opened_at")?,
        last_notified_at: time(row, "heard_at")?,
        closed_at: maybe_time(row, "closed_at")?,
        flaps: unsigned(row, "flaps")?,
        rev: row.try_get("rev")?,
        notification: NotificationId(row.try_get("notification")?),
        doc: document(row, "doc")?,
        alerts: Vec::new(),
        left_out: LeftOut::default(),
        taken: Vec::new(),
    })
}

fn alert(row: &AnyRow, common: &Common) -> Result<Alert, StoreError> {
    Ok(Alert {
        fingerprint: row.try_get("fingerprint")?,
        state: word(row, "state", AlertState::parse)?,
        starts_at: time(row, "starts_at")?,
        ends_at: maybe_time(row, "ends_at")?,
        absent_since: maybe_time(row, "absent_since")?,
        changed_at: time(row, "changed_at")?,
        seen: maybe_document(row, "seen")?,
        doc: common.document(row.try_get("doc")?)?,
    })
}

/// An alert without what only messages show.
pub(crate) fn polled_alert(row: &AnyRow) -> Result<PolledAlert, StoreError> {
    Ok(PolledAlert {
        fingerprint: row.try_get("fingerprint")?,
        state: word(row, "state", AlertState::parse)?,
        seen: maybe_document(row, "seen")?,
        absent_since: maybe_time(row, "absent_since")?,
        starts_at: time(row, "starts_at")?,
    })
}

pub(crate) fn card(row: &AnyRow) -> Result<Card, StoreError> {
    Ok(Card {
        id: CardId(row.try_get("id")?),
        room: word(row, "room", |text| RoomAddress::parse(text).ok())?,
        kind: word(row, "kind", CardKind::parse)?,
        state: word(row, "state", CardState::parse)?,
        root_event: row.try_get("root_event")?,
        root_at: maybe_time(row, "root_at")?,
        last_reply: row.try_get("last_reply")?,
        spoke_at: maybe_time(row, "spoke_at")?,
        dirty_since: maybe_time(row, "dirty_since")?,
        superseded_by: row.try_get::<Option<String>, _>("superseded_by")?.map(CardId),
    })
}

pub(crate) fn note(row: &AnyRow) -> Result<Note, StoreError> {
    Ok(Note {
        id: row.try_get("id")?,
        card: CardId(row.try_get("card")?),
        incident: IncidentId(row.try_get("incident")?),
        kind: word(row, "kind", NoteKind::parse)?,
        at: time(row, "at")?,
        notification: NotificationId(row.try_get("notification")?),
        args: document(row, "args")?,
    })
}

pub(crate) fn op(row: &AnyRow) -> Result<Op, StoreError> {
    Ok(Op {
        txn_id: TxnId(row.try_get("txn_id")?),
        card: CardId(row.try_get("card")?),
        room: word(row, "room", |text| RoomAddress::parse(text).ok())?,
        kind: word(row, "kind", OpKind::parse)?,
        content: row.try_get("content")?,
        rev: row.try_get("rev")?,
        last_edit: row.try_get::<i64, _>("last_edit")? != 0,
        form: word(row, "form", Form::parse)?,
        speaks: row.try_get::<i64, _>("speaks")? != 0,
        since: time(row, "since")?,
        notification: NotificationId(row.try_get("notification")?),
        incident: IncidentId(row.try_get("incident")?),
        device: row.try_get("device")?,
        state: word(row, "state", OpState::parse)?,
        first_try: maybe_time(row, "first_try")?,
        attempts: unsigned(row, "attempts")?,
        frozen_seq: row.try_get("frozen_seq")?,
        alone: row.try_get::<i64, _>("alone")? != 0,
    })
}

/// The alerts of an incident, sorted by fingerprint.
pub(crate) async fn alerts_of(connection: &mut AnyConnection, incident: &IncidentId) -> Result<Vec<Alert>, StoreError> {
    // Row by row: each holds its values a second time.
    stream_alerts(connection, incident).try_collect().await
}

/// Reads the alerts of an incident one by one, sorted by fingerprint.
pub(crate) fn stream_alerts<'c>(
    connection: &'c mut AnyConnection,
    incident: &IncidentId,
) -> BoxStream<'c, Result<Alert, StoreError>> {
    some_alerts(connection, incident, i64::MAX)
}

/// Reads at most `most` alerts of an incident.
pub(crate) async fn some_alerts_of(
    connection: &mut AnyConnection,
    incident: &IncidentId,
    most: i64,
) -> Result<Vec<Alert>, StoreError> {
    some_alerts(connection, incident, most).try_collect().await
}

fn some_alerts<'c>(
    connection: &'c mut AnyConnection,
    incident: &IncidentId,
    most: i64,
) -> BoxStream<'c, Result<Alert, StoreError>> {
    let rows = statement::query(
        "SELECT alert.*, incident.common FROM incident JOIN alert ON alert.incident = incident.id \
         WHERE incident.id = $1 ORDER BY alert.fingerprint LIMIT $2",
    )
    .bind(incident.as_str().to_owned())
    .bind(most)
    .fetch(connection);
    let mut common = None;
    rows.map(move |row| {
        let row = row?;
        let common = match &mut common {
            Some(common) => common,
            // The same in each row.
            empty => empty.insert(Common::from_json(row.try_get("common")?)?),
        };
        alert(&row, common)
    })
    .boxed()
}

/// An alert as it is written.
pub(crate) struct AlertRow {
    fingerprint: String,
    name_hash: i64,
    state: AlertState,
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
    absent_since: Option<Timestamp>,
    changed_at: Timestamp,
    /// JSON.
    seen: Option<String>,
    /// What differs from what its incident says of all.
    doc: String,
}

impl AlertRow {
    /// `common`: that of its incident.
    pub fn of(alert: &Alert, common: &Common) -> Result<Self, StoreError> {
        Ok(Self {
            fingerprint: alert.fingerprint.clone(),
            name_hash: name_hash(&alert.doc.labels),
            state: alert.state,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            absent_since: alert.absent_since,
            changed_at: alert.changed_at,
            seen: alert.seen.as_ref().map(to_json).transpose()?,
            doc: common.difference(&alert.doc)?,
        })
    }

    /// About how many bytes it takes with its entries in indexes.
    pub fn size(&self) -> usize {
        200 + self.doc.len()
    }
}

pub(crate) async fn save_alerts(
    connection: &mut AnyConnection,
    incident: &IncidentId,
    common: &Common,
    alerts: &[Alert],
) -> Result<(), StoreError> {
    for chunk in alerts.chunks(CHUNK) {
        let rows = chunk.iter().map(|alert| AlertRow::of(alert, common)).collect::<Result<Vec<_>, _>>()?;
        let rows: Vec<_> = rows.iter().map(|row| (incident, row)).collect();
        insert_alerts(connection, &rows).await?;
    }
    Ok(())
}

/// Writes alerts with the incidents that hold them, in one statement.
pub(crate) async fn insert_alerts(
    connection: &mut AnyConnection,
    alerts: &[(&IncidentId, &AlertRow)],
) -> Result<(), sqlx::Error> {
    let mut query = SqlBuilder::new(
        "INSERT INTO alert (incident, fingerprint, name_hash, state, starts_at, ends_at, absent_since, changed_at, \
         seen, doc) VALUES ",
    );
    for (n, (incident, alert)) in alerts.iter().enumerate() {
        query.push(if n == 0 { "(" } else { ", (" });
        query.push_bind(incident.as_str()).push(", ");
        query.push_bind(alert.fingerprint.as_str()).push(", ");
        query.push_bind(alert.name_hash).push(", ");
        query.push_bind(alert.state.as_str()).push(", ");
        query.push_bind(alert.starts_at.0).push(", ");
        query.push_bind(alert.ends_at.map(|at| at.0)).push(", ");
        query.push_bind(alert.absent_since.map(|at| at.0)).push(", ");
        query.push_bind(alert.changed_at.0).push(", ");
        query.push_bind(alert.seen.as_deref()).push(", ");
        query.push_bind(alert.doc.as_str()).push(")");
    }
    query.push(
        " ON CONFLICT (incident, fingerprint) DO UPDATE SET name_hash = excluded.name_hash, \
         state = excluded.state, starts_at = excluded.starts_at, ends_at = excluded.ends_at, \
         absent_since = excluded.absent_since, changed_at = excluded.changed_at, seen = excluded.seen, \
         doc = excluded.doc",
    );
    query.build().execute(connection).await.map(drop)
}
