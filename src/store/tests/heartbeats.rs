//! Switches, and the incidents that missing ones are.

use super::*;
use crate::model::{Beat, HEARTBEATS, Labels, Switch, SwitchKey};

fn switch_key(cluster: &str) -> SwitchKey {
    let labels = Labels::from([("cluster".to_owned(), cluster.to_owned())]);
    SwitchKey { route: RouteName::parse("default").expect("a route"), name: "prometheus".to_owned(), labels }
}

fn beat(cluster: &str, firing: bool) -> Ingest {
    Ingest { beats: vec![Beat { key: switch_key(cluster), firing }], ..unchanged("beats") }
}

async fn beats(store: &Store, cluster: &str, firing: bool) {
    let decide = Arc::new(|_: Option<&Known>, _| Changes {
        outcome: Outcome::Beat,
        write: IncidentWrite::None,
        visible: false,
        ..adding(None, "", IncidentState::Resolved, Vec::new())
    });
    store.ingest(Ingest { decide, ..beat(cluster, firing) }).await.expect("committed");
}

fn raising() -> DecideSwitch {
    Box::new(|switch, known, now| {
        let switch = Some(Switch { missing_since: Some(now), ..switch.clone() });
        Some(SwitchChange { switch, alarm: Some(adding(known, "heartbeat", IncidentState::Firing, Vec::new())) })
    })
}

#[tokio::test]
async fn a_beat_ends_what_was_said_since_the_last_and_a_resolved_one_is_kept_as_it_was_first_said() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let one = async || store.heartbeats().await.expect("read").remove(0);
    beats(&store, "a", true).await;
    let armed_at = clock.now();
    clock.advance(Duration::from_secs(10));
    beats(&store, "a", false).await;
    let resolved_at = clock.now();
    clock.advance(Duration::from_secs(10));
    beats(&store, "a", false).await;
    assert_eq!((one().await.beat_at, one().await.resolved_at), (armed_at, Some(resolved_at)));
    store
        .change_heartbeats(|switch| Some(Switch { graced_at: Some(Timestamp(7)), ..switch.clone() }))
        .await
        .expect("done");
    beats(&store, "a", true).await;
    let expected = Switch {
        key: switch_key("a"),
        armed_at,
        beat_at: clock.now(),
        graced_at: None,
        resolved_at: None,
        missing_since: None,
    };
    assert_eq!(one().await, expected);
}

#[tokio::test]
async fn an_alarm_and_its_switch_are_one_commit_and_survive_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    beats(&store, "a", true).await;
    let panics: DecideSwitch = Box::new(|_, _, _| panic!("on purpose"));
    store.change_heartbeat(switch_key("a"), vec![room()], panics).await.expect_err("undone");
    assert_eq!(store.heartbeats().await.expect("read")[0].missing_since, None);
    assert!(store.incident_of(&switch_key("a").incident()).await.expect("read").is_none());
    let raised = store.change_heartbeat(switch_key("a"), vec![room()], raising()).await.expect("committed");
    let incident = raised.flatten().expect("an incident");
    // Nothing was sent before the process ended.
    store.close().await;
    drop(store);
    let Fixture { store, .. } = open(folder.path()).await;
    let due = store.due(&room()).await.expect("read");
    assert_eq!(due.new.len(), 1, "the card is still to be sent, once");
    let known = store.incident_of(&switch_key("a").incident()).await.expect("read").expect("an incident");
    assert_eq!((known.id, known.key.receiver.as_str()), (incident, HEARTBEATS));
    assert!(store.heartbeats().await.expect("read")[0].missing_since.is_some());
}

#[tokio::test]
async fn what_is_not_there_is_not_changed() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let changed = store.change_heartbeat(switch_key("a"), vec![room()], raising()).await.expect("committed");
    assert_eq!(changed, None);
    assert!(store.due(&room()).await.expect("read").new.is_empty());
}
