//! Notifications that repeat another one, written for many at once.

use std::collections::HashMap;

use super::statement::SqlBuilder;
use crate::model::{IncidentId, NotificationId, Timestamp};

/// An open incident was heard of again, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Repeat {
    pub incident: IncidentId,
    /// The notification that is repeated.
    pub notification: NotificationId,
    pub at: Timestamp,
}

/// What writes down all that was heard again: a few statements however many they are.
pub(crate) fn save(repeats: &[Repeat]) -> Vec<SqlBuilder> {
    let Some(latest) = repeats.iter().map(|repeats| repeats.at.0).max() else { return Vec::new() };
    let mut update = SqlBuilder::new("UPDATE incident SET heard_at = ");
    update.push_bind(latest).push(" WHERE id IN (");
    update.push_padded(repeats.iter().map(|repeats| repeats.incident.as_str()).collect());
    let mut updates = vec![update];

    let mut times: HashMap<&str, i64> = HashMap::new();
    for repeats in repeats {
        *times.entry(repeats.notification.as_str()).or_default() += 1;
    }
    // Nearly always each once, and then this is one statement.
    let mut by_count: HashMap<i64, Vec<&str>> = HashMap::new();
    for (notification, count) in times {
        by_count.entry(count).or_default().push(notification);
    }
    for (count, notifications) in by_count {
        let mut update = SqlBuilder::new("UPDATE notification SET repeats = repeats + ");
        update.push_bind(count).push(" WHERE id IN (");
        update.push_padded(notifications);
        updates.push(update);
    }
    updates
}
