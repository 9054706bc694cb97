//! Whether an attempt fails because of the homeserver or because of the op itself. Pure.

use std::time::Duration;

use crate::model::{CardId, Timestamp, TxnId};

/// An attempt that has failed for this long without an answer is given up, if the homeserver otherwise answers.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub tries: u32,
    pub time: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 10, time: Duration::from_mins(5) }
    }
}

/// What was asked of the homeserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// To send this op, or to search for it.
    Op(TxnId),
    /// To look at the first event of this card.
    RootCheck(CardId),
    /// To search for first events after the start.
    RootSearch,
    /// To send this answer, or to search for it.
    Answer(TxnId),
}

/// What else is known of the homeserver at the moment of a failure.
#[derive(Clone, Copy, Debug)]
pub struct ServerSigns {
    pub now: Timestamp,
    /// Sends that have succeeded, of all lanes.
    pub passed: u64,
    pub last_sync: Option<Timestamp>,
    /// The last sync, or the last try to connect, failed.
    pub faulty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The homeserver may fail on everything.
    Homeserver,
    /// Others got through meanwhile, so it fails alone.
    Own,
    /// The patience is used up, and the homeserver answers others.
    Poisoned,
}

/// Counts the failures in a row of one attempt.
#[derive(Debug, Default)]
pub struct PoisonCheck {
    patience: Patience,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    attempt: Attempt,
    failures: u32,
    first: Timestamp,
    last: Timestamp,
    passed: u64,
    /// Another send got through between two of the failures.
    own: bool,
}

impl PoisonCheck {
    #[cfg(test)]
    pub fn new(patience: Patience) -> Self {
        Self { patience, run: None }
    }

    /// Judges one more failure without a usable answer: a 5xx, no answer or an unreadable one.
    pub fn failed(&mut self, attempt: &Attempt, signs: &ServerSigns) -> Verdict {
        let Some(run) = self.run.as_mut().filter(|run| run.attempt == *attempt) else {
            self.begin(attempt, signs);
            return Verdict::Homeserver;
        };
        let passed = signs.passed > run.passed;
        if signs.faulty && !passed {
            // In an outage the number of failures says nothing about the op.
            self.begin(attempt, signs);
            return Verdict::Homeserver;
        }
        let answers = passed || signs.last_sync.is_some_and(|at| at > run.last);
        run.failures += 1;
        run.own |= passed;
        (run.last, run.passed) = (signs.now, signs.passed);
        let Patience { tries, time } = self.patience;
        if answers && (run.failures >= tries || signs.now.since(run.first) >= time) {
            self.run = None;
            return Verdict::Poisoned;
        }
        if run.own { Verdict::Own } else { Verdict::Homeserver }
    }

    fn begin(&mut self, attempt: &Attempt, signs: &ServerSigns) {
        let ServerSigns { now, passed, .. } = *signs;
        self.run = Some(Run { attempt: attempt.clone(), failures: 1, first: now, last: now, passed, own: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { tries: 3, time: Duration::from_mins(5) };

    fn signs(second: i64, passed: u64, last_sync: Option<i64>) -> ServerSigns {
        let at = |second: i64| Timestamp(second * 1000);
        ServerSigns { now: at(second), passed, last_sync: last_sync.map(at), faulty: false }
    }

    fn verdicts(all: &[ServerSigns]) -> Vec<Verdict> {
        let mut poison = PoisonCheck::new(PATIENCE);
        all.iter().map(|signs| poison.failed(&Attempt::RootSearch, signs)).collect()
    }

    #[test]
    fn an_op_that_fails_while_others_get_through_fails_alone() {
        use Verdict::{Homeserver, Own, Poisoned};
        assert_eq!(verdicts(&[signs(0, 0, None), signs(1, 1, None), signs(2, 2, None)]), [Homeserver, Own, Poisoned]);
        // It stays its own fault while nobody else sends, but is given up only with a sign of life.
        assert_eq!(
            verdicts(&[signs(0, 0, None), signs(1, 1, None), signs(2, 1, None), signs(3, 2, None)]),
            [Homeserver, Own, Own, Poisoned]
        );
    }

    #[test]
    fn a_sync_is_a_sign_of_life_but_no_proof_that_sends_work() {
        use Verdict::{Homeserver, Poisoned};
        assert_eq!(
            verdicts(&[signs(0, 0, Some(0)), signs(9, 0, Some(5)), signs(19, 0, Some(15))]),
            [Homeserver, Homeserver, Poisoned]
        );
        assert_eq!(verdicts(&[signs(0, 0, None), signs(301, 0, Some(300))]), [Homeserver, Poisoned], "by time");
    }

    #[test]
    fn an_outage_never_uses_up_the_patience() {
        let silent: Vec<ServerSigns> = (0..100).map(|minute| signs(minute * 60, 0, Some(0))).collect();
        assert!(verdicts(&silent).iter().all(|verdict| *verdict == Verdict::Homeserver));
        let mut outage: Vec<ServerSigns> =
            (0..9).map(|n| ServerSigns { faulty: true, ..signs(n * 60, 0, None) }).collect();
        outage.push(signs(600, 0, Some(599)));
        assert!(
            verdicts(&outage).iter().all(|verdict| *verdict == Verdict::Homeserver),
            "the first failure after it counts as one"
        );
    }

    #[test]
    fn another_op_starts_from_zero() {
        let mut poison = PoisonCheck::new(PATIENCE);
        for n in 0..6 {
            let op = Attempt::Op(TxnId(format!("t{n}")));
            let passed = u64::try_from(n).unwrap();
            assert_eq!(poison.failed(&op, &signs(n, passed, None)), Verdict::Homeserver);
        }
    }
}
