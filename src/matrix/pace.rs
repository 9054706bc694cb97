//! Pauses between tries, and saying a thing once.

use std::time::Duration;

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

/// The last fault that was logged: the same one again is no news.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Option<String>,
}

impl Told {
    /// Whether `text` differs from what was said last.
    pub fn is_news(&mut self, text: &str) -> bool {
        let news = self.last.as_deref() != Some(text);
        if news {
            self.last = Some(text.to_owned());
        }
        news
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
