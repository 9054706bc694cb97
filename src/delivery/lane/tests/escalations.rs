//! Whom the room calls for what nobody takes.

use std::time::Duration;

use super::*;
use crate::store::EscalationStep;

const ESCALATE: &str = r#"escalate = [
    { after = "10m", min_severity = "warning", users = ["@second:example.org"] },
    { after = "20m", min_severity = "warning", users = ["@third:example.org"], room = true },
    { after = "30m", min_severity = "critical", users = ["@boss:example.org"] },
]"#;

impl Harness {
    /// Takes a step of the route for all that is due.
    async fn escalate(&self, step: usize) {
        let config = self.config();
        let route = config.routes.values().next().expect("a route");
        let entry = route.escalate[step].clone();
        let step = EscalationStep {
            route: route.name.clone(),
            step,
            after: Duration::ZERO,
            min_severity: 3,
            concerns: Arc::new(move |alert| entry.concerns(alert, &config.display)),
        };
        let due = self.context.store.escalation_candidates(&step, None).await.expect("read");
        let due = due.into_iter().map(|one| one.incident).collect();
        self.context.store.escalate(&step, due).await.expect("committed");
    }
}

async fn escalating(more: &str) -> Harness {
    Harness::with(ROOM, Clock::system(), &format!("{ESCALATE}\n{more}")).await
}

fn mentions(sent: &Sent) -> String {
    sent.content["m.mentions"].to_string()
}

fn first_line(sent: &Sent) -> &str {
    sent.content["body"].as_str().and_then(|body| body.lines().next()).expect("a line")
}

#[tokio::test]
async fn one_reply_calls_those_of_the_step_however_changes_are_shown() {
    for (updates, relation) in [("thread", "m.thread"), ("edit", "m.thread"), ("reply", "card"), ("post", "card")] {
        let mut harness = escalating(&format!("updates = \"{updates}\"")).await;
        harness.start();
        harness.post("a").await;
        harness.settled().await;
        harness.escalate(0).await;
        let sent = harness.settled().await;
        assert_eq!(kinds(&sent)[1..], [format!("{relation} m.text")], "{updates}");
        assert_eq!(mentions(&sent[1]), r#"{"user_ids":["@second:example.org"]}"#, "{updates}");
        let line = first_line(&sent[1]);
        assert!(line.starts_with("🟠 A: nobody took it, firing on a since "), "{updates}: {line}");
        harness.escalate(0).await;
        assert_eq!(harness.settled().await.len(), 2, "{updates}: once");
    }
}

#[tokio::test]
async fn what_waits_together_is_one_reply_that_calls_all() {
    let mut harness = escalating("mentions = { users = [\"@oncall:example.org\"], min_severity = \"warning\" }").await;
    harness.post("a").await;
    harness.start();
    harness.settled().await;
    harness.stop().await;
    harness.post("a b").await;
    harness.escalate(0).await;
    harness.escalate(1).await;
    harness.start();
    let sent = harness.settled().await;
    let replies: Vec<&Sent> =
        sent.iter().filter(|sent| sent.content["m.relates_to"]["rel_type"] == "m.thread").collect();
    assert_eq!(replies.len(), 1, "{sent:#?}");
    assert!(first_line(replies[0]).contains("nobody took it"), "{}", first_line(replies[0]));
    assert_eq!(
        mentions(replies[0]),
        r#"{"user_ids":["@second:example.org","@third:example.org","@oncall:example.org"],"room":true}"#
    );
}

#[tokio::test]
async fn a_card_that_was_not_posted_calls_after_its_first_event() {
    let mut harness = escalating("").await;
    harness.post("a").await;
    harness.escalate(0).await;
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text", "m.thread m.text"]);
    assert_eq!((mentions(&sent[0]).as_str(), mentions(&sent[1]).contains("@second")), ("{}", true));
}

#[tokio::test]
async fn a_digest_calls_once_for_all_that_is_due() {
    let mut harness = escalating("digest_above = 1").await;
    for group in ["g1", "g2", "g3"] {
        harness.post_group(group, group).await;
    }
    harness.start();
    let posted = harness.settled().await.len();
    harness.stop().await;
    harness.escalate(0).await;
    harness.start();
    let sent = harness.settled().await.split_off(posted);
    assert_eq!((posted, kinds(&sent)), (1, vec!["m.thread m.text".to_owned()]));
    let body = sent[0].content["body"].as_str().expect("a body");
    assert_eq!(body.matches("nobody took it").count(), 3, "{body}");
    assert_eq!(mentions(&sent[0]), r#"{"user_ids":["@second:example.org"]}"#);
}

#[tokio::test]
async fn a_call_that_is_no_longer_true_is_not_made() {
    for why in ["taken", "resolved", "absent", "not severe enough", "no such step"] {
        let mut harness = escalating("").await;
        harness.post("a").await;
        harness.start();
        harness.settled().await;
        harness.stop().await;
        harness.escalate(0).await;
        let sql = match why {
            "taken" => {
                "INSERT INTO act (id, event_id, route, room, sender, kind, incident, args, state, asked_at) \
                 SELECT 'a', 'a', 'default', '!r:x', '@u:x', 'take', id, '{}', 'live', 1 FROM incident"
            }
            "not severe enough" => "UPDATE note SET args = '{\"step\":2}'",
            "no such step" => "UPDATE note SET args = '{\"step\":7}'",
            _ => "SELECT 1",
        };
        harness.context.store.run_sql(sql).await;
        match why {
            "resolved" => harness.post("-a").await,
            "absent" => harness.post("").await,
            _ => {}
        }
        harness.start();
        let sent = harness.settled().await;
        let calls = sent.iter().filter(|sent| first_line(sent).contains("nobody took it")).count();
        assert_eq!(calls, 0, "{why}: {sent:#?}");
    }
}
