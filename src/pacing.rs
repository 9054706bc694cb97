//! Pauses between tries, and saying a thing once.

use std::time::Duration;

use tokio::time::Instant;

/// Grows from try to try up to a cap, with jitter, so that many receivers do not return as one.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// The next pause: doubled each time, 20 % more or less.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.cap);
        pause.mul_f64(rand::random_range(0.8..1.2)).min(self.cap)
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The same fault is logged again after this, and then after twice as long each time.
const REMIND_FIRST: Duration = Duration::from_mins(10);
const REMIND_LAST: Duration = Duration::from_hours(12);

/// The last fault that was logged: the same one is logged again ever less often.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    text: String,
    at: Instant,
    silence: Duration,
}

impl Told {
    /// Whether `text` differs from what was said last, or that was long ago.
    pub fn is_news(&mut self, text: &str) -> bool {
        self.is_news_at(text, Instant::now())
    }

    fn is_news_at(&mut self, text: &str, now: Instant) -> bool {
        let silence = match &self.last {
            Some(last) if last.text == text && now.duration_since(last.at) < last.silence => return false,
            Some(last) if last.text == text => (last.silence * 2).min(REMIND_LAST),
            _ => REMIND_FIRST,
        };
        self.last = Some(Fault { text: text.to_owned(), at: now, silence });
        true
    }

    /// Whether there was a fault; forgets it.
    pub fn is_over(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let pauses: Vec<f64> = (0..8).map(|_| backoff.pause().as_secs_f64()).collect();
        for (pause, base) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            assert!((base * 0.8..=base * 1.2).contains(pause) && *pause <= 30.0, "{pause} is not about {base}");
        }
        backoff.reset();
        assert!(backoff.pause() < Duration::from_millis(1201));
    }

    #[test]
    fn the_same_fault_is_said_ever_less_often() {
        let (mut told, began) = (Told::default(), Instant::now());
        let minutes = |minute: &u64| told.is_news_at("a", began + Duration::from_mins(*minute));
        assert_eq!((0..=150).filter(minutes).collect::<Vec<_>>(), [0, 10, 30, 70, 150]);
    }

    #[test]
    fn a_fault_is_said_once_until_it_changes() {
        let mut told = Told::default();
        assert!(!told.is_over());
        assert!(told.is_news("a"));
        assert!(!told.is_news("a"));
        assert!(told.is_news("b"));
        assert!(told.is_over());
        assert!(!told.is_over());
        assert!(told.is_news("b"));
    }
}
