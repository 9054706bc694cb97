//! Reads switches, and changes one together with the incident that it is while it is missing: one commit, so that a crash
//! neither loses nor repeats an alarm.

use super::rows;
use crate::{
    model::{Changes, IncidentId, Known, RoomAddress, Switch, SwitchKey, Timestamp},
    store::{Store, StoreError, incidents::ingest::apply_own},
};

/// What becomes of a switch.
#[derive(Clone, Debug)]
pub struct SwitchChange {
    /// `None`: it is forgotten.
    pub switch: Option<Switch>,
    /// What becomes of its incident.
    pub alarm: Option<Changes>,
}

/// What is known of a switch and its newest incident -> what changes; `None`: nothing.
pub type DecideSwitch = Box<dyn FnOnce(&Switch, Option<&Known>, Timestamp) -> Option<SwitchChange> + Send>;

impl Store {
    /// Every switch that is armed, in the order of route, name and labels.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn heartbeats(&self) -> Result<Vec<Switch>, StoreError> {
        let mut connection = self.monitoring.acquire().await?;
        rows::all(&mut connection).await
    }

    /// Changes a switch and its incident, which is shown in `rooms`. `None`: the switch is not there any more, or nothing
    /// changed.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn change_heartbeat(
        &self,
        key: SwitchKey,
        rooms: Vec<RoomAddress>,
        decide: DecideSwitch,
    ) -> Result<Option<Option<IncidentId>>, StoreError> {
        let clock = self.clock.clone();
        self.writer
            .write(move |connection, context| {
                Box::pin(async move {
                    let Some(switch) = rows::one(connection, &key).await? else { return Ok(None) };
                    let (now, mut becomes) = (clock.now(), None);
                    let of_alarm = key.incident();
                    let incident = apply_own(connection, context, &of_alarm, &rooms, now, |known| {
                        let change = decide(&switch, known, now)?;
                        becomes = Some(change.switch);
                        change.alarm
                    })
                    .await?;
                    match &becomes {
                        None => return Ok(None),
                        Some(None) => rows::delete(connection, &key).await?,
                        Some(Some(switch)) => rows::update(connection, switch).await?,
                    }
                    Ok(Some(incident))
                })
            })
            .await
    }

    /// Changes every switch for which `change` has something, in one commit.
    ///
    /// # Errors
    /// When it cannot be committed.
    pub async fn change_heartbeats(
        &self,
        change: impl Fn(&Switch) -> Option<Switch> + Send + 'static,
    ) -> Result<usize, StoreError> {
        self.writer
            .write(move |connection, _| {
                Box::pin(async move {
                    let changed: Vec<Switch> = rows::all(connection).await?.iter().filter_map(change).collect();
                    for switch in &changed {
                        rows::update(connection, switch).await?;
                    }
                    Ok(changed.len())
                })
            })
            .await
    }
}
