//! Rows of the table `heartbeat`.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::store::db::statement;
use crate::{
    model::{RouteName, Switch, SwitchKey, Timestamp},
    store::{StoreError, db::json::to_json},
};

fn switch(row: &AnyRow) -> Result<Switch, StoreError> {
    let bad = |what: &str| StoreError::Database(format!("the store holds a heartbeat with an unreadable {what}"));
    let maybe = |column| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(Timestamp));
    Ok(Switch {
        key: SwitchKey {
            route: RouteName::parse(row.try_get("route")?).map_err(|_| bad("route"))?,
            name: row.try_get("name")?,
            labels: serde_json::from_str(row.try_get("labels")?).map_err(|_| bad("labels"))?,
        },
        armed_at: Timestamp(row.try_get("armed_at")?),
        beat_at: Timestamp(row.try_get("beat_at")?),
        graced_at: maybe("graced_at")?,
        resolved_at: maybe("resolved_at")?,
        missing_since: maybe("missing_since")?,
    })
}

pub(super) async fn all(connection: &mut AnyConnection) -> Result<Vec<Switch>, StoreError> {
    let rows = statement::query("SELECT * FROM heartbeat ORDER BY route, name, labels").fetch_all(connection).await?;
    rows.iter().map(switch).collect()
}

pub(super) async fn one(connection: &mut AnyConnection, key: &SwitchKey) -> Result<Option<Switch>, StoreError> {
    let row = statement::query("SELECT * FROM heartbeat WHERE route = $1 AND name = $2 AND labels = $3")
        .bind(key.route.as_str())
        .bind(&key.name)
        .bind(to_json(&key.labels)?)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(switch).transpose()
}

/// Changes all but its key and when it was armed.
pub(super) async fn update(connection: &mut AnyConnection, switch: &Switch) -> Result<(), StoreError> {
    statement::query(
        "UPDATE heartbeat SET beat_at = $4, graced_at = $5, resolved_at = $6, missing_since = $7 \
         WHERE route = $1 AND name = $2 AND labels = $3",
    )
    .bind(switch.key.route.as_str())
    .bind(&switch.key.name)
    .bind(to_json(&switch.key.labels)?)
    .bind(switch.beat_at.0)
    .bind(switch.graced_at.map(|at| at.0))
    .bind(switch.resolved_at.map(|at| at.0))
    .bind(switch.missing_since.map(|at| at.0))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(connection: &mut AnyConnection, key: &SwitchKey) -> Result<(), StoreError> {
    statement::query("DELETE FROM heartbeat WHERE route = $1 AND name = $2 AND labels = $3")
        .bind(key.route.as_str())
        .bind(&key.name)
        .bind(to_json(&key.labels)?)
        .execute(connection)
        .await?;
    Ok(())
}
