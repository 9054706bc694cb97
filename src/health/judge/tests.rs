//! What is said of states.

use super::*;
use crate::{
    health::{ArmedSwitch, Heartbeat, Peer, PeerFault, Replica, report::Numbers},
    model::{RouteName, SwitchKey},
};

const NOW: Timestamp = Timestamp(1_795_305_600_000);

fn judged(numbers: Option<Numbers>, change: impl FnOnce(&mut State)) -> Report {
    let mut state = State { started_at: Some(NOW), last_sync: Some(NOW), connected: true, ..State::default() };
    change(&mut state);
    judge(Input { state, numbers, now: NOW, wall: NOW, routes: Vec::new(), ids: MatrixIds::Blanked })
}

fn hold(until: Timestamp) -> Hold {
    Hold { reason: "token_rejected: @bot:a".to_owned(), rate_limit: false, since: NOW, until: Some(until) }
}

#[test]
fn the_worst_part_decides() {
    let good = || Some(Numbers::default());
    let ago = |seconds| Some(NOW.minus(Duration::from_secs(seconds)));
    for (report, status, reason) in [
        (judged(good(), |_| {}), Status::Ok, None),
        (judged(None, |_| {}), Status::Degraded, None),
        (judged(good(), |state| state.stopping = true), Status::Failing, Some("shutting down")),
        (
            judged(Some(Numbers { oldest: ago(121), ..Numbers::default() }), |_| {}),
            Status::Degraded,
            Some("the oldest undelivered change is 121 s old"),
        ),
        (judged(Some(Numbers { oldest: ago(119), ..Numbers::default() }), |_| {}), Status::Ok, None),
        (judged(good(), |state| state.account_hold = Some(hold(NOW))), Status::Degraded, Some("token_rejected: [id]")),
        (judged(good(), |state| state.account_hold = Some(hold(NOW.minus(3 * OVERDUE)))), Status::Ok, None),
        (judged(good(), |state| state.last_sync = ago(301)), Status::Degraded, Some("no sync has succeeded for 301 s")),
    ] {
        let first = report.undelivered.first().map(String::as_str);
        assert_eq!((report.status, first), (status, reason), "{report:?}");
    }
}

#[test]
fn an_alertmanager_that_does_not_answer_degrades_and_pages_nobody() {
    let peer = |host: &str, good: Option<u64>, fault: Option<(u64, &str)>| {
        let ago = |seconds| NOW.minus(Duration::from_secs(seconds));
        let fault = fault.map(|(seconds, what)| PeerFault { since: ago(seconds), reason: format!("{host}: {what}") });
        Peer { host: host.to_owned(), asked_at: None, last_good: good.map(ago), fault }
    };
    let refused = Some((60, "cannot connect: Connection refused"));
    for (peers, status, reason) in [
        (vec![], None, ""),
        (vec![peer("am-0:9093", None, None)], Some(Status::Ok), "not asked yet since the start"),
        (vec![peer("am-0:9093", Some(5), None), peer("am-1:9093", Some(9), None)], Some(Status::Ok), "answers"),
        (
            vec![peer("am-0:9093", Some(90), refused), peer("am-1:9093", Some(5), None)],
            Some(Status::Degraded),
            "route default: am-0:9093: cannot connect: Connection refused (since 2026-11-21T23:59:00Z), other peers are \
             asked in its place",
        ),
        (
            vec![peer("am-0:9093", None, Some((60, "refused our credentials (401): no @bot:a")))],
            Some(Status::Degraded),
            "route default: am-0:9093: refused our credentials (401): no [id] (since 2026-11-21T23:59:00Z)",
        ),
    ] {
        let report = judged(Some(Numbers::default()), |state| {
            if !peers.is_empty() {
                state.alertmanagers.insert(RouteName::parse("default").unwrap(), peers.clone());
            }
        });
        let part = report.alertmanager.as_ref();
        assert_eq!(part.map(|part| part.status), status, "{peers:?}");
        assert_eq!(part.map_or("", |part| part.reason.as_str()), reason);
        assert_eq!(report.status, status.unwrap_or(Status::Ok));
        assert!(report.undelivered.is_empty(), "{report:?}");
    }
}

#[test]
fn without_syncs_nobody_can_act() {
    let bare = |acting| {
        judged(Some(Numbers::default()), |state| {
            (state.no_keys, state.acting) = (Some(NoKeys::NoDevice), acting);
        })
    };
    assert_eq!(bare(false).sync.status, Status::Ok);
    let acting = bare(true).sync;
    assert_eq!(acting.status, Status::Degraded);
    assert!(acting.reason.contains("nobody can act from rooms"), "{acting:?}");
    let synced = judged(Some(Numbers::default()), |state| state.acting = true);
    assert_eq!(synced.sync.status, Status::Ok);
}

#[test]
fn ids_in_a_homeservers_words_are_blanked() {
    for (text, expected) in [
        ("User @bot:example.org not in room !abc:example.org (None)", "User [id] not in room [id] (None)"),
        ("no room '#ops:example.org'", "no room [id]"),
        ("nothing to hide! 100 % @ home", "nothing to hide! 100 % @ home"),
    ] {
        assert_eq!(without_ids(text), expected);
    }
}

#[test]
fn a_missing_heartbeat_degrades_and_never_fails() {
    let of = |name: &str, armed: Option<Option<Timestamp>>| Heartbeat {
        key: SwitchKey {
            route: RouteName::parse("default").expect("a name"),
            name: name.to_owned(),
            labels: [("cluster".to_owned(), name.to_owned())].into(),
        },
        armed: armed.map(|missing_since| ArmedSwitch { beat_at: NOW, due: NOW, is_resolved: false, missing_since }),
    };
    let part = |heartbeats: Vec<Heartbeat>| {
        let report = judged(Some(Numbers::default()), |state| state.heartbeats = heartbeats);
        (report.status, report.heartbeats.map(|part| part.reason), report.undelivered.len())
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(part(vec![]), (Status::Ok, None, 0));
    assert_eq!(part(vec![of("a", Some(None))]), (Status::Ok, said("all beat"), 0));
    let (status, reason, undelivered) = part(vec![of("a", Some(None)), of("b", None)]);
    assert_eq!((status, undelivered), (Status::Ok, 0));
    assert!(reason.is_some_and(|reason| reason.ends_with(": default/b")));
    let missing = vec![of("a", Some(Some(NOW))), of("a", Some(None)), of("b", Some(Some(NOW)))];
    let expected = said("missing: default/a (1 of 2), default/b; alerts may not reach us");
    assert_eq!(part(missing), (Status::Degraded, expected, 0));
}

#[test]
fn a_follower_is_healthy_as_one_and_nobody_leading_degrades() {
    let replica = |leads, leader: Option<&str>, nobody_for: Option<u64>| Replica {
        name: "B".to_owned(),
        leads,
        leader: leader.map(ToOwned::to_owned),
        nobody_since: nobody_for.map(|seconds| NOW.minus(Duration::from_secs(seconds))),
    };
    for (replica, status, words) in [
        (replica(false, Some("A"), None), Status::Ok, "replica B, leader is A"),
        (replica(true, Some("B"), None), Status::Ok, "replica B leads"),
        (replica(false, None, None), Status::Ok, "replica B, leader is not known"),
        (replica(false, None, Some(15)), Status::Ok, "replica B, leader is not known"),
        (
            replica(false, None, Some(16)),
            Status::Degraded,
            "replica B, nobody has led for 16 s, so that nothing gets into rooms",
        ),
        (
            replica(false, Some("B"), None),
            Status::Ok,
            "replica B, leader is an earlier run of it, or another replica of this name",
        ),
    ] {
        let report = judged(Some(Numbers::default()), |state| state.replica = Some(replica.clone()));
        let part = report.replica.expect("several share the store");
        assert_eq!((part.status, part.reason.as_str()), (status, words));
        assert_eq!((report.status, report.undelivered.len()), (status, usize::from(status != Status::Ok)), "{words}");
    }
    assert_eq!(judged(Some(Numbers::default()), |_| {}).replica, None, "the only one");
}

#[test]
fn what_only_the_leader_learns_is_forgotten_with_the_lead() {
    let fault = PeerFault { since: NOW, reason: "no answer".to_owned() };
    let peer = Peer { host: "am:9093".to_owned(), fault: Some(fault), ..Peer::default() };
    let leading = |state: &mut State| {
        let route = RouteName::parse("default").expect("a name");
        state.alertmanagers.insert(route, vec![peer.clone()]);
        state.account_hold = Some(hold(NOW.plus(Duration::from_mins(1))));
        state.replica = Some(Replica { name: "A".to_owned(), leads: true, ..Replica::default() });
    };
    assert_eq!(judged(Some(Numbers::default()), leading).status, Status::Degraded);
    let report = judged(Some(Numbers::default()), |state| {
        leading(state);
        state.end_lead();
        state.replica = Some(Replica { name: "A".to_owned(), leader: Some("B".to_owned()), ..Replica::default() });
    });
    assert_eq!((report.status, report.undelivered), (Status::Ok, Vec::new()));
    assert_eq!(report.alertmanager.expect("a part").reason, "the leader asks it");
}
