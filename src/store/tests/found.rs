//! What polls read, and where their findings are applied.

use std::collections::BTreeSet;

use tokio::time::{sleep, timeout};

use super::*;
use crate::model::{Conclusion, Found, PollMark, Seen};

fn gone(fingerprint: &str) -> Vec<Found> {
    vec![Found { fingerprint: fingerprint.to_owned(), conclusion: Conclusion::Gone, starts_at: None }]
}

/// Closes what is found as gone, with all its alerts.
fn closing() -> Judge {
    Arc::new(|incident, found, now| {
        assert_eq!(found.len(), 1);
        let alerts = incident.alerts.iter().map(|alert| Alert { state: AlertState::Gone, ..alert.clone() }).collect();
        Some(Changes {
            state: IncidentState::Gone,
            closed_at: Some(now),
            write: IncidentWrite::Update,
            doc: IncidentDoc { quiet: true, ..IncidentDoc::default() },
            alerts,
            ..adding(None, "", IncidentState::Gone, Vec::new())
        })
    })
}

async fn all_open(store: &Store) -> Vec<crate::model::PolledIncident> {
    let (mut cursor, mut all) = (OpenCursor::default(), Vec::new());
    loop {
        let page = store.open_page(&key("").route, "r", &mut cursor).await.expect("read");
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn state_of(store: &Store, incident: &IncidentId) -> (String, Option<i64>, i64, i64) {
    sqlx::query_as("SELECT state, closed_at, rev, heard_at FROM incident WHERE id = $1")
        .bind(incident.as_str())
        .fetch_one(&store.readers.pool)
        .await
        .expect("read")
}

#[tokio::test]
async fn all_that_is_open_is_read_once() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    assert!(store.receivers_with_open(&key("").route, Timestamp(0)).await.expect("read").is_empty());
    for n in 0..450 {
        store.ingest(ingest(&format!("g{n}"), "a", IncidentState::Firing)).await.expect("committed");
    }
    store.ingest(ingest("g7", "a", IncidentState::Resolved)).await.expect("committed");
    store.ingest(ingest("g8", "b", IncidentState::Firing)).await.expect("committed");
    assert_eq!(store.receivers_with_open(&key("").route, Timestamp(0)).await.expect("read"), ["r"]);
    let all = all_open(&store).await;
    assert_eq!(all.len(), 449, "one is resolved");
    assert_eq!(all.iter().map(|one| one.id.clone()).collect::<BTreeSet<_>>().len(), 449);
    let alerts: Vec<usize> = all.iter().map(|one| one.alerts.len()).filter(|&alerts| alerts != 1).collect();
    assert_eq!(alerts, [2]);
}

#[tokio::test]
async fn large_incidents_come_page_by_page_but_whole() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    for group in ["g1", "g2", "g3", "g4"] {
        let alerts: Vec<Alert> = (0..9_000).map(|n| alert(&format!("a{n:05}"), AlertState::Firing)).collect();
        let many = Ingest {
            decide: Arc::new(move |known, _| Changes {
                alerts: alerts.clone(),
                ..adding(known, "", IncidentState::Firing, Vec::new())
            }),
            ..ingest(group, "", IncidentState::Firing)
        };
        store.ingest(many).await.expect("committed");
    }
    let (mut cursor, mut pages) = (OpenCursor::default(), Vec::new());
    loop {
        let page = store.open_page(&key("").route, "r", &mut cursor).await.expect("read");
        if page.is_empty() {
            break;
        }
        assert!(page.iter().all(|one| one.alerts.len() == 9_000));
        pages.push(page.len());
    }
    assert_eq!(pages, [3, 1]);
}

#[tokio::test]
async fn findings_change_the_incident_and_its_card_but_not_when_it_was_heard_of() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let snapshot = snapshot(&store).await;
    let op = store.freeze(op_for(&snapshot, OpKind::Card, "t")).await.expect("frozen");
    store.finish(&op, "$t").await.expect("recorded");
    assert_eq!(due_kinds(&store).await, (0, 0, 0));
    let incident = snapshot.incidents[0].0.id.clone();
    let (_, _, rev, heard_at) = state_of(&store, &incident).await;
    clock.advance(Duration::from_mins(1));
    let mark = store.poll_mark().await.expect("read");
    assert!(mark.0 >= rev);
    let judged = vec![Judged { incident: incident.clone(), found: gone("a"), refresh: false }];
    let wake_ups = store.wake_ups(&room());
    let applied = store.apply_found(mark, judged.clone(), closing()).await.expect("committed");
    assert_eq!(applied, Applied { changed: 1, dropped: 0 });
    assert!(wake_ups.has_changed().expect("a store"), "its lane is awake");
    assert_eq!(due_kinds(&store).await, (0, 0, 1), "an edit, and no reply");
    let (state, closed_at, new_rev, still_heard_at) = state_of(&store, &incident).await;
    assert_eq!((state.as_str(), closed_at, still_heard_at), ("gone", Some(clock.now().0), heard_at));
    assert!(new_rev > rev);
    // What is gone is looked for, and may be found.
    let mut cursor = OpenCursor::and_gone_since(Timestamp(0));
    let page = store.open_page(&key("").route, "r", &mut cursor).await.expect("read");
    assert_eq!(page.iter().map(|one| &one.id).collect::<Vec<_>>(), [&incident]);
    assert!(store.open_page(&key("").route, "r", &mut cursor).await.expect("read").is_empty());
    assert_eq!(store.receivers_with_open(&key("").route, Timestamp(0)).await.expect("read"), ["r"]);
    assert!(store.receivers_with_open(&key("").route, clock.now()).await.expect("read").is_empty(), "for a while");
    let firing: Judge = Arc::new(|_, _, _| Some(adding(None, "a", IncidentState::Firing, Vec::new())));
    let last = PollMark(i64::MAX);
    assert_eq!(store.apply_found(last, judged.clone(), Arc::clone(&firing)).await.expect("committed").changed, 1);
    let (state, closed_at, ..) = state_of(&store, &incident).await;
    assert_eq!((state.as_str(), closed_at), ("firing", None));
    // Not once its group has another one.
    store.apply_found(last, judged.clone(), closing()).await.expect("committed");
    let another = Ingest {
        decide: Arc::new(|_, _| adding(None, "a", IncidentState::Firing, Vec::new())),
        ..ingest("g", "a", IncidentState::Firing)
    };
    store.ingest(another).await.expect("committed");
    assert_eq!(store.apply_found(last, judged, firing).await.expect("committed"), Applied { changed: 0, dropped: 1 });
}

#[tokio::test]
async fn findings_of_before_a_webhook_are_dropped() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let mut incidents = Vec::new();
    for n in 0..120 {
        let ingested = store.ingest(ingest(&format!("g{n}"), "a", IncidentState::Firing)).await.expect("committed");
        incidents.push(ingested.incident.expect("an incident"));
    }
    let mark = store.poll_mark().await.expect("read");
    store.ingest(ingest("g3", "b", IncidentState::Firing)).await.expect("committed");
    let judged =
        incidents.iter().map(|incident| Judged { incident: incident.clone(), found: gone("a"), refresh: false });
    let applied = store.apply_found(mark, judged.collect(), closing()).await.expect("committed");
    assert_eq!(applied, Applied { changed: 119, dropped: 1 });
    assert_eq!(state_of(&store, &incidents[3]).await.0, "firing");
}

#[tokio::test]
async fn what_alertmanager_lists_does_not_become_stale() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let hour = Duration::from_hours(1);
    let ingested = store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let incident = ingested.incident.expect("an incident");
    clock.advance(hour);
    let listed = vec![Judged { incident: incident.clone(), found: Vec::new(), refresh: true }];
    let mark = store.poll_mark().await.expect("read");
    let rev = state_of(&store, &incident).await.2;
    assert_eq!(store.apply_found(mark, listed, closing()).await.expect("committed").changed, 0);
    assert_eq!(state_of(&store, &incident).await.2, rev, "nothing to show");
    assert_eq!(all_open(&store).await[0].heard_at, clock.now());
    assert_eq!(store.close_stale(&key("").route, hour).await.expect("committed"), 0);
    clock.advance(hour);
    assert_eq!(store.close_stale(&key("").route, hour).await.expect("committed"), 1);
}

#[tokio::test]
async fn a_webhook_that_leaves_something_absent_is_noticed() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, clock, .. } = open(folder.path()).await;
    let mut absences = store.absences();
    store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    assert!(!absences.has_changed().expect("a store"));
    let now = clock.now();
    let leaving = Ingest {
        decide: Arc::new(move |known, _| Changes {
            alerts: vec![Alert { changed_at: now, ..alert("a", AlertState::Absent) }],
            ..adding(known, "", IncidentState::Quiet, Vec::new())
        }),
        ..ingest("g", "", IncidentState::Quiet)
    };
    store.ingest(leaving).await.expect("committed");
    assert_eq!(absences.borrow_and_update().get(&key("").route), Some(&1));
}

/// Leaves an alert of this route absent.
async fn leave_absent(store: &Store, route: &str) {
    let with_route = |ingest: Ingest| Ingest {
        key: IncidentKey { route: RouteName::parse(route).expect("a route"), ..ingest.key },
        ..ingest
    };
    store.ingest(with_route(ingest("g", "a", IncidentState::Firing))).await.expect("committed");
    let leaving = Ingest {
        decide: Arc::new(move |known, now| Changes {
            alerts: vec![Alert { changed_at: now, ..alert("a", AlertState::Absent) }],
            ..adding(known, "", IncidentState::Quiet, Vec::new())
        }),
        ..ingest("g", "", IncidentState::Quiet)
    };
    store.ingest(with_route(leaving)).await.expect("committed");
}

#[tokio::test]
async fn each_replica_notices_each_absence_once() {
    // SQLite has no replicas.
    if !is_shared() {
        return;
    }
    let folders = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let Fixture { store: one, clock, metrics } = open(folders.0.path()).await;
    let other = open_beside(&one, folders.1.path(), clock, metrics).await;
    let seen = |store: &Store, route: &str| {
        store.absences().borrow().get(&RouteName::parse(route).expect("a route")).copied().unwrap_or(0)
    };
    // Notifications come to all in one order, once they listen.
    for (from, to, route) in [(&one, &other, "first"), (&other, &one, "second")] {
        timeout(Duration::from_mins(1), async {
            while seen(to, route) == 0 {
                leave_absent(from, route).await;
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("it listens");
    }
    leave_absent(&one, "default").await;
    leave_absent(&other, "last").await;
    let mut absences = one.absences();
    let last = RouteName::parse("last").expect("a route");
    timeout(Duration::from_mins(1), absences.wait_for(|seen| seen.contains_key(&last)))
        .await
        .expect("it listens")
        .expect("a store");
    assert_eq!((seen(&one, "default"), seen(&one, "last")), (1, 1));
}

#[tokio::test]
async fn silences_made_from_a_room_have_a_name() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let rows = "INSERT INTO act (id, event_id, route, room, sender, name, kind, args, state, asked_at) VALUES \
         ('a1', '$1', 'default', '!r:e', '@alice:e', 'Alice', 'silence', '{}', 'live', 1), \
         ('a2', '$2', 'default', '!r:e', '@bob:e', '', 'silence', '{}', 'live', 1); \
         INSERT INTO silence (act, n, route, incident, marker, matchers, comment, created_by, starts_at, ends_at, \
         silence_id, state) VALUES ('a1', 0, 'default', 'i', 'm', '[]', '', '@alice:e', 1, 2, 's1', 'live'), \
         ('a2', 0, 'default', 'i', 'm', '[]', '', '@bob:e', 1, 2, 's2', 'live')";
    store
        .write(move |connection, _| {
            Box::pin(async move {
                sqlx::Executor::execute(connection, sqlx::raw_sql(rows)).await?;
                Ok(())
            })
        })
        .await
        .expect("committed");
    let ids = ["s1", "s2", "theirs"].map(ToOwned::to_owned);
    let names = store.silenced_by(&ids).await.expect("read");
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        [("s1", "Alice"), ("s2", "@bob:e")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
}

#[tokio::test]
async fn what_was_seen_is_kept_with_the_alert() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let ingested = store.ingest(ingest("g", "a", IncidentState::Firing)).await.expect("committed");
    let seen = Seen {
        finding: crate::model::Finding::Inhibited { by: vec!["NodeDown".to_owned()] },
        unheard_since: Some(Timestamp(7)),
    };
    let (kept, judge_seen) = (seen.clone(), seen.clone());
    let judge: Judge = Arc::new(move |incident, _, _| {
        let alert = Alert { state: AlertState::Absent, seen: Some(judge_seen.clone()), ..incident.alerts[0].clone() };
        Some(Changes {
            state: IncidentState::Quiet,
            alerts: vec![alert],
            ..adding(None, "", IncidentState::Quiet, Vec::new())
        })
    });
    let judged = vec![Judged { incident: ingested.incident.expect("one"), found: gone("a"), refresh: false }];
    let mark = store.poll_mark().await.expect("read");
    store.apply_found(mark, judged, judge).await.expect("committed");
    let all = all_open(&store).await;
    assert_eq!(all[0].alerts[0].seen, Some(kept));
    assert_eq!(snapshot(&store).await.incidents[0].0.alerts[0].seen, Some(seen));
}
