//! What the config says about reconciling.

use std::time::Duration;

use crate::{
    config::{Display, Route, Updates},
    model::Timestamp,
};

/// What counts as "long absent" where reminders are off.
pub(super) const DEFAULT_REMIND_AFTER: Duration = Duration::from_mins(30);

/// The settings of a route that decide.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    pub remind_after: Option<Duration>,
    pub reopen_after: Duration,
    /// The age at which a new firing alert makes the receiver post the card again; `None` never does.
    pub repost_after: Option<Duration>,
    /// Whether cards notify after their first event; false with `updates = "edit"`.
    pub speaks: bool,
    /// How far the wall clock, which Alertmanager's times refer to, is ahead of `now`, in milliseconds.
    pub ahead: i64,
    pub display: &'a Display,
}

impl<'a> Rules<'a> {
    #[must_use]
    pub fn of(route: &Route, display: &'a Display) -> Self {
        Self {
            remind_after: route.remind_after,
            reopen_after: route.reopen_after,
            // A post of its own is visible anyway, and with edits alone nothing should ring after the first event.
            repost_after: route.repost_after.filter(|_| matches!(route.updates, Updates::Thread | Updates::Reply)),
            speaks: route.updates != Updates::Edit,
            ahead: 0,
            display,
        }
    }

    /// Converts a time of ours to the wall clock.
    pub(super) fn wall(&self, at: Timestamp) -> Timestamp {
        at.moved(self.ahead)
    }
}
