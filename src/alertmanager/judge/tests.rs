//! The table of "Know", row by row.

use super::*;
use crate::model::{Labels, Seen};

const A: &str = "00000000000000aa";
const NOW: Timestamp = Timestamp(100_000_000);
const MINUTE: Duration = Duration::from_mins(1);

fn alert(state: AlertState, seen: Option<Finding>) -> PolledAlert {
    PolledAlert {
        fingerprint: A.to_owned(),
        state,
        seen: seen.map(Seen::from),
        absent_since: None,
        starts_at: Timestamp(1),
    }
}

fn incident(alert: PolledAlert) -> PolledIncident {
    PolledIncident { id: IncidentId("i".to_owned()), rev: 1, heard_at: NOW, alerts: vec![alert] }
}

fn silence(id: &str, until: i64) -> KnownSilence {
    KnownSilence { id: id.to_owned(), by: "Bob".to_owned(), until: Timestamp(until), comment: "disk".to_owned() }
}

fn listing(alerts: Vec<ApiAlert>, is_conclusive: bool) -> Peer {
    let listed = alerts.into_iter().map(|alert| (alert.fingerprint.clone(), alert)).collect();
    Peer { listed: Some(Arc::new(listed)), is_conclusive }
}

fn listed(silenced_by: &[&str], inhibited_by: &[&str], muted_by: &[&str]) -> ApiAlert {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    ApiAlert {
        fingerprint: A.to_owned(),
        labels: Labels::new(),
        silenced_by: owned(silenced_by),
        inhibited_by: owned(inhibited_by),
        muted_by: owned(muted_by),
        ..ApiAlert::default()
    }
}

fn answers(peers: Vec<Peer>) -> Answers {
    let silences = [silence("s1", 10), silence("s2", 30), silence("s3", 20)];
    Answers {
        peers,
        silences: Arc::new(silences.into_iter().map(|silence| (silence.id.clone(), silence)).collect()),
        names: HashMap::from([("cause".to_owned(), "NodeDown".to_owned())]),
    }
}

fn memory() -> Memory {
    Memory::new(Duration::from_secs(10))
}

fn one(alert: &PolledAlert, answers: &Answers) -> Option<Conclusion> {
    let found = judge(&incident(alert.clone()), answers, &mut memory(), NOW);
    found.into_iter().next().map(|found| found.conclusion)
}

fn silenced(ids: &[(&str, i64)]) -> Finding {
    Finding::Silenced { silences: ids.iter().map(|(id, until)| silence(id, *until)).collect() }
}

#[test]
fn what_is_listed() {
    use AlertState::{Absent, Firing, Gone};
    let inhibited = || Finding::Inhibited { by: vec!["NodeDown".to_owned()] };
    let muted = || Finding::Muted { by: vec!["weekend".to_owned()] };
    let rows = [
        (Firing, None, listed(&[], &[], &[]), None),
        (Firing, None, listed(&["s1"], &[], &[]), Some(silenced(&[("s1", 10)]))),
        (Firing, None, listed(&[], &["cause", "other"], &[]), Some(inhibited())),
        (Firing, None, listed(&[], &[], &["weekend"]), Some(muted())),
        (Firing, None, listed(&["s1"], &["cause"], &["weekend"]), Some(silenced(&[("s1", 10)]))),
        (
            Absent,
            None,
            listed(&["s1", "s2", "s3", "gone"], &[], &[]),
            Some(silenced(&[("s2", 30), ("s3", 20), ("s1", 10)])),
        ),
        (Absent, Some(silenced(&[("s1", 10)])), listed(&["s1"], &[], &[]), None),
        (Absent, Some(silenced(&[("s1", 5)])), listed(&["s1"], &[], &[]), Some(silenced(&[("s1", 10)]))),
        (Absent, Some(silenced(&[("s9", 5)])), listed(&["s9"], &[], &[]), None),
        (Absent, Some(silenced(&[("s1", 10)])), listed(&[], &["cause"], &[]), Some(inhibited())),
        (Absent, Some(inhibited()), listed(&[], &["unnamed"], &[]), None),
        (Absent, Some(silenced(&[("s1", 10)])), listed(&[], &[], &[]), Some(Finding::Active)),
        (Absent, None, listed(&[], &[], &[]), Some(Finding::Active)),
        (Gone, None, listed(&[], &[], &[]), Some(Finding::Active)),
        (Gone, None, listed(&["s1"], &[], &[]), Some(silenced(&[("s1", 10)]))),
    ];
    for (n, (state, seen, api, expected)) in rows.into_iter().enumerate() {
        let found = one(&alert(state, seen), &answers(vec![listing(vec![api], true)]));
        assert_eq!(found, expected.map(Conclusion::Listed), "row {n}");
    }
}

#[test]
fn another_peer_that_has_it_is_believed() {
    let absent = alert(AlertState::Absent, None);
    let peers = vec![listing(Vec::new(), true), listing(vec![listed(&["s1"], &[], &[])], true)];
    assert_eq!(one(&absent, &answers(peers)), Some(Conclusion::Listed(silenced(&[("s1", 10)]))));
}

#[test]
fn what_was_not_heard_of_is_heard_of_again() {
    let mut unheard = alert(AlertState::Absent, Some(silenced(&[("s1", 10)])));
    unheard.seen.as_mut().expect("seen").unheard_since = Some(NOW);
    let there = answers(vec![listing(vec![listed(&["s1"], &[], &[])], true)]);
    assert_eq!(one(&unheard, &there), Some(Conclusion::Listed(silenced(&[("s1", 10)]))));
}

/// Polls as (seconds since the first one, conclusive), and what the last of them comes to.
fn missed(alert: &PolledAlert, polls: &[(u64, bool)]) -> Option<Conclusion> {
    let mut memory = memory();
    let mut last = None;
    for (at, is_conclusive) in polls {
        memory.begin();
        let now = NOW.plus(Duration::from_secs(*at));
        let answers = answers(vec![listing(Vec::new(), true), listing(Vec::new(), *is_conclusive)]);
        last = judge(&incident(alert.clone()), &answers, &mut memory, now).pop().map(|found| found.conclusion);
        memory.end();
    }
    last
}

#[test]
fn gone_needs_two_polls_in_which_every_peer_is_sure() {
    use AlertState::{Absent, Firing, Gone};
    let silent = || Some(silenced(&[("s1", 10)]));
    let gone = Some(Conclusion::Gone);
    let unheard = |at: u64| Some(Conclusion::Unheard(NOW.plus(Duration::from_secs(at))));
    let rows = vec![
        (Absent, None, vec![(0, true)], None),
        (Absent, None, vec![(0, true), (9, true)], None),
        (Absent, None, vec![(0, true), (10, true)], gone.clone()),
        (Absent, silent(), vec![(0, true), (60, true)], gone.clone()),
        (Absent, silent(), vec![(0, false), (60, true)], None),
        (Absent, silent(), vec![(0, false), (60, true), (120, true)], gone.clone()),
        (Absent, silent(), vec![(0, true), (60, false), (120, true)], gone.clone()),
        (Absent, silent(), vec![(0, false)], None),
        (Absent, silent(), vec![(0, false), (60, false)], unheard(0)),
        (Firing, None, vec![(0, false), (60, false)], None),
        (Firing, None, vec![(0, true), (60, true)], None),
        (Firing, None, vec![(0, true), (60, true), (899, true)], None),
        (Firing, None, vec![(0, true), (60, true), (900, true)], gone.clone()),
        (Firing, Some(Finding::Active), vec![(0, true), (60, true)], None),
        (Firing, None, vec![(0, false), (60, true), (900, true)], None),
        (Firing, None, vec![(0, true), (900, false)], None),
        (Gone, None, vec![(0, true), (60, true)], None),
    ];
    for (n, (state, seen, polls, expected)) in rows.into_iter().enumerate() {
        assert_eq!(missed(&alert(state, seen), &polls), expected, "row {n}: {polls:?}");
    }
}

#[test]
fn a_peer_that_does_not_answer_is_not_sure() {
    let absent = alert(AlertState::Absent, None);
    let mut memory = memory();
    let half = answers(vec![listing(Vec::new(), true), Peer::default()]);
    for minute in 0..3 {
        let found = judge(&incident(absent.clone()), &half, &mut memory, NOW.plus(minute * MINUTE));
        assert!(found.iter().all(|found| found.conclusion != Conclusion::Gone), "{found:?}");
    }
    assert_eq!(one(&absent, &answers(Vec::new())), None, "no peer at all");
}

#[test]
fn what_is_there_in_between_counts_from_the_start() {
    let absent = incident(alert(AlertState::Absent, Some(silenced(&[("s1", 10)]))));
    let mut memory = memory();
    let (away, there) =
        (answers(vec![listing(Vec::new(), true)]), answers(vec![listing(vec![listed(&["s1"], &[], &[])], true)]));
    for (minute, said) in [(0, &away), (1, &there), (2, &away)] {
        assert_eq!(judge(&absent, said, &mut memory, NOW.plus(minute * MINUTE)), [], "minute {minute}");
    }
    memory.clear();
    assert_eq!(judge(&absent, &away, &mut memory, NOW.plus(3 * MINUTE)), [], "a peer has restarted");
    assert_eq!(judge(&absent, &away, &mut memory, NOW.plus(4 * MINUTE)).len(), 1);
}

#[test]
fn fingerprints_that_cannot_be_alertmanagers_are_not_judged() {
    for fingerprint in ["", "abc", "00000000000000AA", "00000000000000aa0", "prod/disk-full!!"] {
        let own = PolledAlert { fingerprint: fingerprint.to_owned(), ..alert(AlertState::Absent, None) };
        let mut memory = memory();
        let away = answers(vec![listing(Vec::new(), true)]);
        for minute in 0..3 {
            assert_eq!(judge(&incident(own.clone()), &away, &mut memory, NOW.plus(minute * MINUTE)), []);
        }
        assert_eq!(away.needs(&[incident(own.clone())]), Needs::default());
        assert_eq!(unheard(&incident(own), NOW), []);
    }
}

#[test]
fn only_a_settled_peer_of_ours_is_sure() {
    let status = |up: Option<Duration>, cluster: &str, config: &str| PeerStatus {
        up_since: up.map(|up| NOW.minus(up)),
        cluster: cluster.to_owned(),
        config: config.to_owned(),
        ..PeerStatus::default()
    };
    let ours = "receivers:\n- name: r-matrix\n";
    for (status, is_known, expected) in [
        (status(Some(6 * MINUTE), "ready", ours), false, true),
        (status(Some(6 * MINUTE), "disabled", ours), false, true),
        (status(Some(6 * MINUTE), "", ours), false, true),
        (status(Some(5 * MINUTE), "ready", ours), false, false),
        (status(Some(6 * MINUTE), "settling", ours), false, false),
        (status(None, "ready", ours), true, false),
        (status(Some(6 * MINUTE), "ready", "receivers: []"), false, false),
        (status(Some(6 * MINUTE), "ready", ""), false, false),
        (status(Some(6 * MINUTE), "ready", ""), true, true),
    ] {
        assert_eq!(is_conclusive(&status, "r-matrix", is_known, NOW), expected, "{status:?} {is_known}");
    }
    let ahead = PeerStatus { up_since: Some(NOW.plus(MINUTE)), ..status(None, "ready", ours) };
    assert!(!is_conclusive(&ahead, "r-matrix", true, NOW), "its clock is ahead");
    assert!(!is_conclusive(&status(Some(6 * MINUTE), "ready", ours), "", false, NOW), "no name");
}

#[test]
fn more_is_asked_only_where_it_is_needed() {
    let open = |state| [incident(alert(state, None))];
    let with = |api: Vec<ApiAlert>| answers(vec![listing(api, true)]);
    let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    for (state, api, expected) in [
        (AlertState::Firing, vec![listed(&[], &[], &[])], Needs::default()),
        (AlertState::Firing, vec![], Needs { others: true, ..Needs::default() }),
        (AlertState::Gone, vec![], Needs::default()),
        (
            AlertState::Absent,
            vec![listed(&["s1"], &["x"], &[])],
            Needs { silences: names(&["s1"]), ..Needs::default() },
        ),
        (
            AlertState::Absent,
            vec![listed(&[], &["x", "cause"], &[])],
            Needs { names: names(&["x"]), ..Needs::default() },
        ),
    ] {
        assert_eq!(with(api.clone()).needs(&open(state)), expected, "{state:?} {api:?}");
    }
}

#[test]
fn while_nobody_answers_only_what_does_not_notify_is_unheard_of() {
    for (state, expected) in [(AlertState::Firing, 0), (AlertState::Absent, 1), (AlertState::Gone, 0)] {
        let found = unheard(&incident(alert(state, None)), NOW);
        assert_eq!(found.len(), expected, "{state:?}");
    }
    let mut before = alert(AlertState::Absent, Some(Finding::Unknown));
    before.seen.as_mut().expect("seen").unheard_since = Some(Timestamp(1));
    assert_eq!(unheard(&incident(before), NOW), [], "since the first time");
}
