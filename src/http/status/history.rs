//! The last hours in memory: regular samples of the counters, so that handling an alert costs nothing extra.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    metrics::Totals,
    model::Timestamp,
    render::status::{Bar, Picture},
};

/// Enough for the widest span, plus the sample before it.
const SAMPLES: usize = 6 * 60 * 4 + 1;
/// How far back the picture goes, and the period of one bar: the first span that the receiver's uptime does not exceed.
const SPANS: [(Duration, Duration); 3] = [
    (Duration::from_mins(15), Duration::from_secs(15)),
    (Duration::from_hours(1), Duration::from_mins(1)),
    (Duration::from_hours(6), Duration::from_mins(5)),
];

#[derive(Debug, Default)]
pub struct History {
    samples: Mutex<VecDeque<(Timestamp, Totals)>>,
}

impl History {
    pub fn take(&self, now: Timestamp, totals: Totals) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back((now, totals));
        if samples.len() > SAMPLES {
            samples.pop_front();
        }
    }

    /// The picture up to `now`, with `totals` as the newest sample.
    pub fn picture(&self, now: Timestamp, totals: Totals) -> Picture {
        let mut samples: Vec<(Timestamp, Totals)> = {
            let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.iter().copied().collect()
        };
        samples.push((now, totals));
        let age = samples.first().map_or(Duration::ZERO, |(first, _)| now.since(*first));
        let (span, each) = SPANS.into_iter().find(|(span, _)| age <= *span).unwrap_or(SPANS[SPANS.len() - 1]);
        let mut bars = vec![Bar::default(); usize::try_from(span.as_secs() / each.as_secs()).unwrap_or(0)];
        for pair in samples.windows(2) {
            let ((_, before), (at, after)) = (pair[0], pair[1]);
            // Counted from the right, where `now` is.
            let back = usize::try_from(now.since(at).as_millis() / each.as_millis()).unwrap_or(usize::MAX);
            if let Some(bar) = bars.len().checked_sub(back.saturating_add(1)).and_then(|index| bars.get_mut(index)) {
                bar.accepted += (after.accepted - before.accepted).max(0.0);
                bar.delivered += (after.delivered - before.delivered).max(0.0);
                bar.seconds += (after.seconds - before.seconds).max(0.0);
            }
        }
        Picture { span, each, bars }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(accepted: f64, delivered: f64, seconds: f64) -> Totals {
        Totals { accepted, delivered, seconds }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn counts_go_into_the_bar_of_their_time() {
        let history = History::default();
        history.take(at(0), totals(0.0, 0.0, 0.0));
        history.take(at(60), totals(3.0, 1.0, 0.5));
        let picture = history.picture(at(65), totals(4.0, 2.0, 2.5));
        assert_eq!((picture.span, picture.bars.len()), (Duration::from_mins(15), 60));
        let last = picture.bars[59];
        assert_eq!((last.accepted, last.delivered, last.seconds), (4.0, 2.0, 2.5));
        let later = history.picture(at(80), totals(4.0, 2.0, 2.5));
        assert_eq!((later.bars[58].accepted, later.bars[59].accepted), (3.0, 1.0));
        assert!(later.bars[..58].iter().all(|bar| *bar == Bar::default()));
    }

    #[test]
    fn it_goes_back_as_far_as_the_receivers_life_and_no_further_than_six_hours() {
        let history = History::default();
        for (age, span) in [(0, 15), (899, 15), (901, 60), (3599, 60), (3601, 360), (12 * 3600, 360)] {
            history.take(at(age), totals(0.0, 0.0, 0.0));
            let picture = history.picture(at(age), totals(0.0, 0.0, 0.0));
            assert_eq!(picture.span, Duration::from_mins(span), "{age} s");
        }
        for sample in 0..10_000 {
            history.take(at(sample * 15), totals(0.0, 0.0, 0.0));
        }
        assert_eq!(history.samples.lock().expect("no panic").len(), SAMPLES);
    }
}
