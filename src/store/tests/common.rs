//! What alerts have in common, on each way by which they are written.

use super::*;
use crate::model::{Conclusion, Found};

fn labelled(fingerprint: &str, labels: &[(&str, &str)]) -> Alert {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Alert { doc: AlertDoc { labels, ..AlertDoc::default() }, ..alert(fingerprint, AlertState::Firing) }
}

fn ingest_of(content_hash: &str, alerts: &[Alert]) -> Ingest {
    let alerts = alerts.to_vec();
    Ingest {
        content_hash: content_hash.to_owned(),
        decide: Arc::new(move |known, _| Changes {
            alerts: alerts.clone(),
            ..adding(known, "", IncidentState::Firing, Vec::new())
        }),
        ..ingest("g", "", IncidentState::Firing)
    }
}

async fn written(store: &Store) -> Vec<String> {
    let mut written = Vec::new();
    for sql in ["SELECT coalesce(common, '-') FROM incident", "SELECT doc FROM alert ORDER BY fingerprint"] {
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&store.readers.pool).await.expect("read");
        written.extend(rows);
    }
    written
}

async fn read(store: &Store) -> Vec<Alert> {
    store.incident_of(&key("g")).await.expect("read").expect("an incident").alerts
}

#[tokio::test]
async fn what_alerts_have_in_common_is_written_once_and_read_with_each() {
    let first = [
        labelled("a", &[("alertname", "A"), ("instance", "n1"), ("job", "node")]),
        labelled("b", &[("alertname", "A"), ("instance", "n2"), ("job", "node")]),
    ];
    // One that changes, and one that comes and does not have all of it.
    let later = [
        labelled("b", &[("alertname", "A"), ("instance", "n3"), ("job", "node")]),
        labelled("c", &[("alertname", "A"), ("instance", "n4")]),
    ];
    let polled = labelled("a", &[("alertname", "A"), ("job", "other")]);
    // By the statements that openings share, and by themselves.
    for content_hash in ["h", ""] {
        let folder = TempDir::new().expect("a folder");
        let Fixture { store, .. } = open(folder.path()).await;
        let opened = store.ingest(ingest_of(content_hash, &first)).await.expect("committed");
        let (common, docs) = (
            r#"{"labels":{"alertname":"A","job":"node"}}"#,
            [r#"{"labels":{"instance":"n1"}}"#, r#"{"labels":{"instance":"n2"}}"#],
        );
        assert_eq!(written(&store).await, [&[common], &docs[..]].concat());
        assert_eq!(read(&store).await, first);
        store.ingest(ingest_of("", &later)).await.expect("committed");
        let docs = written(&store).await;
        assert_eq!(docs[2..], [r#"{"labels":{"instance":"n3"}}"#, r#"{"labels":{"instance":"n4","job":null}}"#]);
        assert_eq!(read(&store).await, [&first[..1], &later[..]].concat());
        // By a poll.
        let found = vec![Found { fingerprint: "a".to_owned(), conclusion: Conclusion::Gone, starts_at: None }];
        let judged = vec![Judged { incident: opened.incident.expect("an incident"), found, refresh: false }];
        let changed = polled.clone();
        let judge: Judge = Arc::new(move |_, _, _| {
            let firing = adding(None, "", IncidentState::Firing, Vec::new());
            Some(Changes { write: IncidentWrite::Update, alerts: vec![changed.clone()], ..firing })
        });
        let mark = store.poll_mark().await.expect("read");
        assert_eq!(store.apply_found(mark, judged, judge).await.expect("committed").changed, 1);
        assert_eq!(written(&store).await[1], r#"{"labels":{"job":"other"}}"#);
        assert_eq!(read(&store).await, [std::slice::from_ref(&polled), &later[..]].concat());
    }
}

/// An incident that an earlier version has opened.
#[tokio::test]
async fn documents_of_before_are_whole() {
    let folder = TempDir::new().expect("a folder");
    let Fixture { store, .. } = open(folder.path()).await;
    let alerts = [labelled("a", &[("alertname", "A"), ("job", "node")])];
    store.ingest(ingest_of("", &alerts)).await.expect("committed");
    store.run_sql("UPDATE incident SET common = NULL").await;
    store.run_sql(r#"UPDATE alert SET doc = '{"labels":{"alertname":"B"},"annotations":{}}'"#).await;
    assert_eq!(read(&store).await, [labelled("a", &[("alertname", "B")])]);
    let later = labelled("b", &[("alertname", "B")]);
    store.ingest(ingest_of("", std::slice::from_ref(&later))).await.expect("committed");
    assert_eq!(written(&store).await[2], r#"{"labels":{"alertname":"B"}}"#);
    assert_eq!(read(&store).await[1], later);
}
