//! What is known of the rate at which the homeserver takes the account's events. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Sends count as scarce for this long after a rate limit.
const SCARCE: Duration = Duration::from_secs(30);
/// So many events within so long are more than Synapse's default limit allows: ten at once and one in five seconds.
const AMPLE: usize = 20;
const AMPLE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Budget {
    /// When the last few events got through, the oldest first.
    passed: VecDeque<Instant>,
    /// When the homeserver last limited the rate.
    limited_at: Option<Instant>,
    /// It took more than a default limit allows, and has not limited the rate since.
    is_ample: bool,
}

impl Budget {
    pub fn record_passed(&mut self, now: Instant) {
        self.passed.push_back(now);
        if self.passed.len() > AMPLE {
            self.passed.pop_front();
        }
        let first = self.passed.front().filter(|_| self.passed.len() == AMPLE);
        self.is_ample |= first.is_some_and(|first| now.duration_since(*first) < AMPLE_WITHIN);
    }

    pub fn record_limit(&mut self, now: Instant) {
        *self = Self { limited_at: Some(now), ..Self::default() };
    }

    /// Whether the homeserver has limited the rate a moment ago.
    pub fn is_scarce(&self, now: Instant) -> bool {
        self.limited_at.is_some_and(|at| now.duration_since(at) < SCARCE)
    }

    pub fn is_ample(&self) -> bool {
        self.is_ample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_default_limit_allows_is_ample_and_until_the_next_limit() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let mut at = start;
        // The default: ten, and then one in five seconds.
        for n in 0..60 {
            at += Duration::from_secs(if n < 10 { 0 } else { 5 });
            budget.record_passed(at);
        }
        assert!(!budget.is_ample());
        for _ in 1..AMPLE {
            budget.record_passed(at);
        }
        assert!(budget.is_ample() && !budget.is_scarce(at));
        budget.record_limit(at);
        assert!(!budget.is_ample() && budget.is_scarce(at) && !budget.is_scarce(at + SCARCE));
    }
}
