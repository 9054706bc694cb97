//! How long to wait between tries, and how often to log the same fault.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::model::Timestamp;

/// Waits that double from `first` up to `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    pub first: Duration,
    pub last: Duration,
}

impl Growth {
    /// The wait after the `failures`th failure in a row, counted from 1, without jitter.
    pub fn exact(self, failures: u32) -> Duration {
        self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.last)
    }

    /// The same, 25 % more or less. `jitter` in 0..1 spreads receivers that lost the same homeserver at the same moment.
    pub fn jittered(self, failures: u32, jitter: f64) -> Duration {
        self.exact(failures).mul_f64(0.75 + 0.5 * jitter).min(self.last)
    }
}

/// Counts the failures in a row of one task, and says how long it pauses after each.
#[derive(Debug)]
pub(crate) struct Backoff {
    growth: Growth,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { growth: Growth { first, last }, failures: 0 }
    }

    pub fn pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.growth.jittered(self.failures, rand::random())
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The same fault is logged again after this, and then after twice as long each time.
const REMIND_FIRST: Duration = Duration::from_mins(10);
const REMIND_LAST: Duration = Duration::from_hours(12);

/// The last fault that was logged: the same one is logged again ever less often.
#[derive(Debug, Default)]
pub(crate) struct SayOnce {
    last: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    text: String,
    at: Instant,
    silence: Duration,
}

impl SayOnce {
    /// Whether `text` differs from what was said last, or that was long ago.
    pub fn should_log(&mut self, text: &str) -> bool {
        self.should_log_at(text, Instant::now())
    }

    fn should_log_at(&mut self, text: &str, now: Instant) -> bool {
        let silence = match &self.last {
            Some(last) if last.text == text && now.duration_since(last.at) < last.silence => return false,
            Some(last) if last.text == text => (last.silence * 2).min(REMIND_LAST),
            _ => REMIND_FIRST,
        };
        self.last = Some(Fault { text: text.to_owned(), at: now, silence });
        true
    }

    /// Whether there was a fault; forgets it.
    pub fn clear(&mut self) -> bool {
        self.last.take().is_some()
    }
}

/// Logs each of a few texts once per window: whoever reaches the port could fill the log otherwise.
#[derive(Debug)]
pub(crate) struct LogLimit {
    window: Duration,
    /// Texts per window; further ones are not logged at all.
    most: usize,
    logged: Mutex<(Timestamp, Vec<String>)>,
}

impl LogLimit {
    pub fn new(window: Duration, most: usize) -> Self {
        Self { window, most, logged: Mutex::default() }
    }

    /// Whether `text` should be logged. A clock that was set back starts a window.
    pub fn allows(&self, text: &str, now: Timestamp) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, texts) = &mut *logged;
        if now < *since || now.since(*since) >= self.window {
            (*since, *texts) = (now, Vec::new());
        }
        let allowed = texts.len() < self.most && !texts.iter().any(|known| known == text);
        if allowed {
            texts.push(text.to_owned());
        }
        allowed
    }
}

/// One line a minute, whatever it says.
impl Default for LogLimit {
    fn default() -> Self {
        Self::new(Duration::from_mins(1), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_restart() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let pauses: Vec<f64> = (0..8).map(|_| backoff.pause().as_secs_f64()).collect();
        for (pause, base) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            assert!((base * 0.75..=base * 1.25).contains(pause) && *pause <= 30.0, "{pause} is not about {base}");
        }
        backoff.reset();
        assert!(backoff.pause() < Duration::from_millis(1251));
    }

    #[test]
    fn the_same_fault_is_said_ever_less_often() {
        let (mut say_once, began) = (SayOnce::default(), Instant::now());
        let minutes = |minute: &u64| say_once.should_log_at("a", began + Duration::from_mins(*minute));
        assert_eq!((0..=150).filter(minutes).collect::<Vec<_>>(), [0, 10, 30, 70, 150]);
    }

    #[test]
    fn a_fault_is_said_once_until_it_changes() {
        let mut say_once = SayOnce::default();
        assert!(!say_once.clear());
        assert!(say_once.should_log("a"));
        assert!(!say_once.should_log("a"));
        assert!(say_once.should_log("b"));
        assert!(say_once.clear());
        assert!(!say_once.clear());
        assert!(say_once.should_log("b"));
    }

    #[test]
    fn each_text_is_logged_once_per_window_and_only_a_few() {
        let at = |second: i64| Timestamp(1_000_000 + second * 1000);
        let limit = LogLimit::new(Duration::from_mins(1), 10);
        assert!(limit.allows("/a", at(0)) && limit.allows("/b", at(1)));
        assert!(!limit.allows("/a", at(59)));
        assert!(limit.allows("/a", at(60)), "a minute later");
        assert_eq!((0..100).filter(|n| limit.allows(&format!("/{n}"), at(61))).count(), 9);
        assert!(limit.allows("/a", at(0)), "a clock that was set back does not silence it");
    }
}
