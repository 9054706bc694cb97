//! Whose fault it is that an op gets no answer: the homeserver's, or the op's own. Pure.

use std::time::Duration;

use crate::model::{Timestamp, TxnId};

/// After this much without an answer an op is set aside, if the homeserver otherwise answers.
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

/// What else is seen of the homeserver at the moment of a failure.
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
    /// Everything may be concerned.
    Homeserver,
    /// Others got through meanwhile.
    Own,
    /// Own, and for longer than there is patience for.
    Poisoned,
}

/// The failures of one op in a row.
#[derive(Debug, Default)]
pub struct PoisonCheck {
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    op: TxnId,
    failures: u32,
    first: Timestamp,
    last: Timestamp,
    passed: u64,
    /// Another send got through between two of the failures.
    own: bool,
}

impl PoisonCheck {
    /// The op failed once more: a 5xx, no answer or an unreadable one.
    pub fn failed(&mut self, op: &TxnId, signs: &ServerSigns, patience: Patience) -> Verdict {
        let Some(run) = self.run.as_mut().filter(|run| run.op == *op) else {
            self.begin(op, signs);
            return Verdict::Homeserver;
        };
        let passed = signs.passed > run.passed;
        if signs.faulty && !passed {
            // An outage: how often the op failed meanwhile says nothing about the op.
            self.begin(op, signs);
            return Verdict::Homeserver;
        }
        let answers = passed || signs.last_sync.is_some_and(|at| at > run.last);
        run.failures += 1;
        run.own |= passed;
        (run.last, run.passed) = (signs.now, signs.passed);
        if answers && (run.failures >= patience.tries || signs.now.since(run.first) >= patience.time) {
            self.run = None;
            return Verdict::Poisoned;
        }
        if run.own { Verdict::Own } else { Verdict::Homeserver }
    }

    fn begin(&mut self, op: &TxnId, signs: &ServerSigns) {
        let ServerSigns { now, passed, .. } = *signs;
        self.run = Some(Run { op: op.clone(), failures: 1, first: now, last: now, passed, own: false });
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
        let (mut poison, op) = (PoisonCheck::default(), TxnId("t".to_owned()));
        all.iter().map(|signs| poison.failed(&op, signs, PATIENCE)).collect()
    }

    #[test]
    fn others_that_get_through_make_it_the_ops_own_fault() {
        use Verdict::{Homeserver, Own, Poisoned};
        assert_eq!(verdicts(&[signs(0, 0, None), signs(1, 1, None), signs(2, 2, None)]), [Homeserver, Own, Poisoned]);
        // Once told apart, it stays told apart while nobody else sends; but only with a sign of life is it given up.
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
        let vain_searches: Vec<ServerSigns> = (0..100).map(|minute| signs(minute * 60, 0, Some(0))).collect();
        assert!(verdicts(&vain_searches).iter().all(|verdict| *verdict == Verdict::Homeserver));
        let mut outage: Vec<ServerSigns> =
            (0..9).map(|n| ServerSigns { faulty: true, ..signs(n * 60, 0, None) }).collect();
        outage.push(signs(600, 0, Some(599)));
        assert!(verdicts(&outage).iter().all(|verdict| *verdict == Verdict::Homeserver), "the first after it is one");
    }

    #[test]
    fn another_op_starts_anew() {
        let mut poison = PoisonCheck::default();
        for n in 0..6 {
            let op = TxnId(format!("t{n}"));
            let passed = u64::try_from(n).unwrap();
            assert_eq!(poison.failed(&op, &signs(n, passed, None), PATIENCE), Verdict::Homeserver);
        }
    }
}
