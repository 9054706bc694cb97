//! The heartbeats of the config with their switches.

use crate::{
    config::Config,
    health::{ArmedSwitch, Heartbeat},
    intake::heartbeats::due,
    model::{Labels, Switch, SwitchKey},
};

/// In the order of the config; one that no beat has armed is among them.
#[must_use]
pub fn list(config: &Config, switches: &[Switch]) -> Vec<Heartbeat> {
    let mut all = Vec::new();
    for route in config.routes.values() {
        for heartbeat in &route.heartbeats {
            let own = |switch: &&Switch| switch.key.route == route.name && switch.key.name == heartbeat.name;
            let armed = switches.iter().filter(own).map(|switch| Heartbeat {
                key: switch.key.clone(),
                armed: Some(ArmedSwitch {
                    beat_at: switch.beat_at,
                    due: due(switch, heartbeat.timeout),
                    is_resolved: switch.resolved_at.is_some(),
                    missing_since: switch.missing_since,
                }),
            });
            let before = all.len();
            all.extend(armed);
            if all.len() == before {
                let (route, name) = (route.name.clone(), heartbeat.name.clone());
                all.push(Heartbeat { key: SwitchKey { route, name, labels: Labels::new() }, armed: None });
            }
        }
    }
    all
}
