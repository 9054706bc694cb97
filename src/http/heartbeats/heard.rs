//! What webhooks leave for those who watch heartbeats.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::model::{Beat, SwitchKey, Timestamp};

/// Webhooks that are refused this soon after one another are refused all the time in between: Alertmanager tries again
/// within a minute.
const TOGETHER: Duration = Duration::from_mins(2);
/// Others are left out until these are passed on.
const MOST_WAITING: usize = 1_000;

/// The time in which webhooks were answered 503, so that beats may not have been heard.
#[derive(Debug, Default)]
pub struct Refusals {
    span: Mutex<Option<Span>>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    from: Timestamp,
    to: Timestamp,
    is_new: bool,
}

impl Refusals {
    pub(in crate::http) fn note(&self, now: Timestamp) {
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let from = span.filter(|span| now.since(span.to) < TOGETHER).map_or(now, |span| span.from);
        *span = Some(Span { from, to: now, is_new: true });
    }

    #[cfg(test)]
    pub fn note_at(&self, now: Timestamp) {
        self.note(now);
    }

    /// From when to when webhooks were refused; `None`: none was since this was asked last.
    pub fn take(&self) -> Option<(Timestamp, Timestamp)> {
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let found = span.as_mut().filter(|span| span.is_new)?;
        let taken = (found.from, found.to);
        *found = Span { from: found.to, to: found.to, is_new: false };
        Some(taken)
    }
}

/// Accepted beats that wait to be passed on.
#[derive(Debug, Default)]
pub struct AcceptedBeats {
    waiting: Mutex<BTreeSet<SwitchKey>>,
    came: Notify,
}

impl AcceptedBeats {
    /// Bounded by the switches that there can be; a beat that waits already is one.
    pub(in crate::http) fn note(&self, beats: Vec<Beat>) {
        let mut beats = beats.into_iter().filter(|beat| beat.firing).map(|beat| beat.key).peekable();
        if beats.peek().is_none() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST_WAITING {
            waiting.extend(beats);
        }
        self.came.notify_one();
    }

    /// Waits until there are some.
    pub async fn take(&self) -> BTreeSet<SwitchKey> {
        loop {
            let came = self.came.notified();
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !waiting.is_empty() {
                return waiting;
            }
            came.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_beats_wait_and_each_switch_once() {
        let key = |name: &str| {
            let route = crate::model::RouteName::parse("default").expect("a name");
            SwitchKey { route, name: name.to_owned(), labels: crate::model::Labels::new() }
        };
        let beat = |name: &str, firing| Beat { key: key(name), firing };
        let beats = AcceptedBeats::default();
        beats.note(vec![beat("over", false)]);
        beats.note(vec![beat("a", true), beat("over", false)]);
        beats.note(vec![beat("a", true)]);
        assert_eq!(beats.take().await, BTreeSet::from([key("a")]));
    }

    #[test]
    fn refusals_close_to_each_other_are_one_span_and_each_is_taken_once() {
        let refusals = Refusals::default();
        assert_eq!(refusals.take(), None);
        let at = |seconds: i64| Timestamp(seconds * 1_000);
        for (noted, taken) in [
            (vec![10], Some((10, 10))),
            (vec![], None),
            (vec![70], Some((10, 70))),
            (vec![100, 130], Some((70, 130))),
            // Long after, it is another one.
            (vec![500], Some((500, 500))),
        ] {
            for seconds in &noted {
                refusals.note(at(*seconds));
            }
            assert_eq!(refusals.take(), taken.map(|(from, to)| (at(from), at(to))), "{noted:?}");
        }
    }
}
