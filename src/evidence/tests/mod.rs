//! Evidence against scripted sources and a scripted homeserver.

pub(crate) mod scripted;
mod showing;

pub(crate) use self::showing::linked;

use std::{collections::BTreeMap, sync::Arc};

use tempfile::TempDir;

use crate::{
    config::{Config, Display, Purpose},
    model::{
        Alert, AlertDoc, AlertState, Incident, IncidentDoc, IncidentId, IncidentKey, IncidentState, Labels, LeftOut,
        NotificationId, RouteName, Timestamp,
    },
};

pub(crate) fn config(toml: &str) -> Arc<Config> {
    let folder = TempDir::new().expect("a folder");
    let env = BTreeMap::from(
        [
            ("MATRIX_HOMESERVER", "https://matrix.example.org"),
            ("MATRIX_USER_ID", "@bot:example.org"),
            ("MATRIX_ACCESS_TOKEN", "t"),
            ("MATRIX_ROOM_ID", "!room:example.org"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let file = folder.path().join("config.toml");
    std::fs::write(&file, toml).expect("written");
    Arc::new(Config::load(Some(&file), &env, Purpose::Serve).unwrap_or_else(|faults| panic!("{faults:?}")))
}

pub(crate) fn display() -> Display {
    config("").display.clone()
}

pub(crate) fn alert(name: &str, severity: &str, state: AlertState) -> Alert {
    let labels = [("alertname", "A"), ("pod", name), ("severity", severity)];
    Alert {
        fingerprint: name.to_owned(),
        state,
        starts_at: Timestamp(0),
        ends_at: None,
        absent_since: None,
        changed_at: Timestamp(0),
        seen: None,
        doc: AlertDoc {
            labels: Labels::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned()))),
            ..AlertDoc::default()
        },
    }
}

pub(crate) fn incident(alerts: Vec<Alert>) -> Incident {
    Incident {
        id: IncidentId("i".to_owned()),
        key: IncidentKey {
            route: RouteName::parse("default").expect("a name"),
            receiver: "r".to_owned(),
            group_key: "g".to_owned(),
        },
        state: IncidentState::Firing,
        severity: 0,
        opened_at: Timestamp(0),
        last_notified_at: Timestamp(0),
        closed_at: None,
        flaps: 0,
        rev: 1,
        notification: NotificationId("n".to_owned()),
        doc: IncidentDoc::default(),
        alerts,
        left_out: LeftOut::default(),
        taken: Vec::new(),
    }
}
