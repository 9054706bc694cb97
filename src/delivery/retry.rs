//! How long to wait after a failed send. Pure.

use std::time::Duration;

use crate::{
    model::{Reason, Scope, SendError},
    pacing::Growth,
};

/// A homeserver that restarts is back in seconds, and asking it costs nothing.
const SERVER: Growth = Growth { first: Duration::from_secs(1), last: Duration::from_secs(30) };
/// The login has its own backoff; nothing is sent until it succeeds.
const ACCOUNT: Growth = Growth { first: Duration::from_millis(500), last: Duration::from_secs(5) };
/// Somebody must invite the bot or raise its power level; asking often does not help.
const ROOM: Growth = Growth { first: Duration::from_secs(5), last: Duration::from_mins(5) };
/// One event fails while others get through: only its room waits.
const ALONE: Growth = Growth { first: Duration::from_secs(1), last: Duration::from_secs(5) };
/// The least wait after a 429: it may ask for none at all, and yet be followed by the next.
const LIMIT_FLOOR: Growth = Growth { first: Duration::from_millis(500), last: Duration::from_secs(4) };
/// The wait after a 429 that does not say how long.
const RATE_LIMIT: Duration = Duration::from_secs(5);
/// The longest wait, even if the homeserver asks for more.
const LONGEST_RATE_LIMIT: Duration = Duration::from_mins(15);

/// The wait after the `failures`th failure in a row (counted from 1). `jitter` in 0..1 spreads receivers that lost the
/// same homeserver at the same moment; it never shortens a wait that the homeserver asked for.
pub fn wait(error: &SendError, failures: u32, jitter: f64) -> Duration {
    if matches!(error.reason, Reason::RateLimited | Reason::JoinLimited) {
        let floor = LIMIT_FLOOR.exact(failures);
        let asked = error.retry_after.unwrap_or(RATE_LIMIT).min(LONGEST_RATE_LIMIT);
        return asked.max(floor) + Duration::from_millis(50).mul_f64(jitter);
    }
    let growth = match error.reason.scope() {
        Scope::Server => SERVER,
        Scope::Account => ACCOUNT,
        Scope::Room | Scope::Event => ROOM,
    };
    // A homeserver or its proxy may say when it will be back.
    let asked = error.retry_after.filter(|_| error.reason.scope() == Scope::Server).unwrap_or_default();
    growth.jittered(failures, jitter).max(asked.min(LONGEST_RATE_LIMIT))
}

/// The same for an event that fails alone.
pub fn wait_alone(failures: u32, jitter: f64) -> Duration {
    ALONE.jittered(failures, jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reason: Reason, retry_after: Option<Duration>) -> SendError {
        SendError { reason, retry_after, detail: String::new() }
    }

    #[test]
    fn a_rate_limit_is_waited_out_and_never_cut_short() {
        let asked = Duration::from_millis(4384);
        for jitter in [0.0, 0.5, 0.99] {
            let waited = wait(&error(Reason::RateLimited, Some(asked)), 9, jitter);
            assert!(waited >= asked && waited < asked + Duration::from_millis(60), "{waited:?}");
        }
        assert_eq!(wait(&error(Reason::RateLimited, None), 1, 0.0), RATE_LIMIT);
    }

    #[test]
    fn a_limit_that_asks_for_no_wait_is_not_hammered() {
        let waits =
            [1, 2, 3, 4, 5, 9].map(|failures| wait(&error(Reason::RateLimited, Some(Duration::ZERO)), failures, 0.0));
        assert_eq!(waits.map(|wait| wait.as_millis()), [500, 1000, 2000, 4000, 4000, 4000]);
    }

    #[test]
    fn a_wait_that_the_homeserver_asks_for_is_kept() {
        let minute = Duration::from_mins(1);
        assert_eq!(wait(&error(Reason::ServerError, Some(minute)), 1, 0.5), minute);
        assert!(wait(&error(Reason::ServerError, Some(Duration::ZERO)), 1, 0.5) >= Duration::from_millis(750));
        assert_eq!(wait(&error(Reason::ServerError, Some(minute * 600)), 1, 0.5), LONGEST_RATE_LIMIT);
    }

    #[test]
    fn faults_back_off_up_to_a_limit() {
        for (reason, last) in
            [(Reason::NoAnswer, SERVER.last), (Reason::NotReady, ACCOUNT.last), (Reason::RoomRefused, ROOM.last)]
        {
            let waits: Vec<Duration> = (1..40).map(|failures| wait(&error(reason, None), failures, 0.5)).collect();
            assert!(waits.is_sorted(), "{reason:?}: {waits:?}");
            assert_eq!(waits.last(), Some(&last), "{reason:?}");
            assert!((1..40).all(|failures| wait(&error(reason, None), failures, 0.999) <= last));
        }
    }
}
