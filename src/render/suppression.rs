//! Why Alertmanager holds back an alert, as far as its API has said.

use super::card::group::Group;
use crate::model::{AlertState, Finding, KnownSilence};

/// The silence that all alerts share which matter now; the one of each that ends last.
pub(super) fn shared_silence<'a>(group: &Group<'a>) -> Option<&'a KnownSilence> {
    if group.focus != AlertState::Absent || group.incident.left_out.absent > 0 {
        return None;
    }
    let of = |finding: &'a Finding| match finding {
        Finding::Silenced { silences } => silences.first(),
        _ => None,
    };
    let alerts = group.incident.alerts.iter().filter(|alert| alert.state == AlertState::Absent);
    let mut silences = alerts.map(|alert| alert.seen.as_ref().and_then(|seen| of(&seen.finding)));
    let first = silences.next()??;
    silences.all(|other| other.is_some_and(|other| other.id == first.id)).then_some(first)
}
