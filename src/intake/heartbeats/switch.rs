//! When the alarm of a switch is due. Only the receiver's own time counts, so that a clock that is set changes nothing.

use std::time::Duration;

use crate::model::{Switch, Timestamp};

/// How long after Alertmanager called the alert resolved another Alertmanager of the cluster may still send a beat.
pub const RESOLVED_FOR: Duration = Duration::from_mins(1);

/// A time in which beats may have come and not been heard: the receiver was stopped or suspended, or answered 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// What is to be done about a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It beats, or its time has not come.
    Beating,
    /// Its alarm is due.
    Raise,
    /// Its alarm was raised, and still holds.
    Missing,
    /// Its alarm was raised, and it beats again.
    IsBack,
}

/// When its alarm is due if no beat comes.
#[must_use]
pub fn due(switch: &Switch, timeout: Duration) -> Timestamp {
    let from = |at: Timestamp| switch.graced_at.map_or(at, |graced_at| graced_at.max(at));
    let silent = from(switch.beat_at).plus(timeout);
    match switch.resolved_at {
        Some(resolved_at) => silent.min(from(resolved_at).plus(RESOLVED_FOR)),
        None => silent,
    }
}

#[must_use]
pub fn judge(switch: &Switch, timeout: Duration, now: Timestamp) -> Verdict {
    match switch.missing_since {
        Some(since) if switch.beat_at >= since => Verdict::IsBack,
        Some(_) => Verdict::Missing,
        None if now >= due(switch, timeout) => Verdict::Raise,
        None => Verdict::Beating,
    }
}

/// The switch after a gap; `None`: it stays as it is. The first gap since the last beat gives it a whole timeout from now
/// on. Each further one only leaves its own time out, so that restarts without end are not an excuse without end: the
/// time in which beats would have been heard adds up to two timeouts at most.
#[must_use]
pub fn graced(switch: &Switch, gap: Gap) -> Option<Switch> {
    if switch.missing_since.is_some() || switch.beat_at >= gap.to {
        return None;
    }
    let graced_at = match switch.graced_at {
        None => gap.to,
        Some(graced_at) => graced_at.plus(gap.to.since(gap.from)).min(gap.to),
    };
    Some(Switch { graced_at: Some(graced_at), ..switch.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, RouteName, SwitchKey};

    const MIN: i64 = 60_000;
    const TIMEOUT: Duration = Duration::from_mins(15);

    fn at(minutes: i64) -> Timestamp {
        Timestamp(minutes * MIN)
    }

    fn switch(beat_at: i64) -> Switch {
        let route = RouteName::parse("default").expect("a name");
        Switch {
            key: SwitchKey { route, name: "prometheus".to_owned(), labels: Labels::new() },
            armed_at: at(0),
            beat_at: at(beat_at),
            graced_at: None,
            resolved_at: None,
            missing_since: None,
        }
    }

    fn gap(from: i64, to: i64) -> Gap {
        Gap { from: at(from), to: at(to) }
    }

    #[test]
    fn silence_and_a_resolved_beat_raise_the_alarm_and_a_beat_ends_it() {
        let resolved = |at_minute| Switch { resolved_at: Some(at(at_minute)), ..switch(10) };
        let missing = |beat_at| Switch { missing_since: Some(at(30)), ..switch(beat_at) };
        for (switch, now, expected) in [
            (switch(10), 24, Verdict::Beating),
            (switch(10), 25, Verdict::Raise),
            (resolved(14), 14, Verdict::Beating),
            (resolved(14), 15, Verdict::Raise),
            // Silence is older than the word that it is over.
            (resolved(24), 25, Verdict::Raise),
            (missing(10), 31, Verdict::Missing),
            (missing(10), 500, Verdict::Missing),
            (missing(30), 30, Verdict::IsBack),
            (missing(31), 90, Verdict::IsBack),
        ] {
            assert_eq!(judge(&switch, TIMEOUT, at(now)), expected, "{switch:?} at {now}");
        }
    }

    #[test]
    fn another_timeout_counts_at_once_but_ends_no_alarm() {
        assert_eq!(judge(&switch(10), Duration::from_mins(5), at(15)), Verdict::Raise);
        assert_eq!(judge(&switch(10), Duration::from_hours(1), at(30)), Verdict::Beating);
        let missing = Switch { missing_since: Some(at(25)), ..switch(10) };
        assert_eq!(judge(&missing, Duration::from_hours(1), at(30)), Verdict::Missing);
    }

    #[test]
    fn a_gap_gives_a_timeout_once_and_further_ones_their_own_length() {
        for (gaps, expected) in [
            // One hour down.
            (vec![gap(11, 71)], 86),
            (vec![gap(11, 12)], 27),
            // Restarts without end: each costs a minute, and 14 of 15 minutes are heard.
            (vec![gap(11, 12), gap(20, 21), gap(25, 26)], 29),
            // Short, then for an hour: nothing could be heard in it.
            (vec![gap(11, 12), gap(20, 80)], 87),
        ] {
            let after = gaps.iter().fold(switch(10), |switch, gap| graced(&switch, *gap).unwrap_or(switch));
            assert_eq!(due(&after, TIMEOUT), at(expected), "{gaps:?}");
        }
    }

    #[test]
    fn what_beat_after_the_gap_needs_no_grace_and_an_alarm_gets_none() {
        assert_eq!(graced(&switch(70), gap(10, 70)), None);
        // When a process ended is known to a minute only: its last beat may be younger than that.
        assert_eq!(graced(&switch(11), gap(10, 70)).map(|switch| due(&switch, TIMEOUT)), Some(at(85)));
        assert_eq!(graced(&Switch { missing_since: Some(at(26)), ..switch(10) }, gap(30, 70)), None);
    }

    #[test]
    fn a_resolved_beat_is_not_graced_away() {
        let resolved = Switch { resolved_at: Some(at(12)), ..switch(10) };
        let once = graced(&resolved, gap(12, 72)).expect("a change");
        assert_eq!(due(&once, TIMEOUT), at(73));
        let twice = graced(&once, gap(72, 74)).expect("a change");
        assert_eq!(due(&twice, TIMEOUT), at(75), "two minutes later, since they were not heard");
        assert_eq!(judge(&twice, TIMEOUT, at(75)), Verdict::Raise);
    }
}
