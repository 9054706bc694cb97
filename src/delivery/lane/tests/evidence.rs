//! Evidence: a card is handed on once it is shown, and what belongs beside it is sent last, once, in time or not at all.

use super::*;
use crate::{
    model::{EvidenceKind, ShownCard},
    store::{NewAnswer, Unasked},
};

const EVIDENCE: &str = "[routes.default.evidence]\ngraph = true\n\
    [evidence]\nprometheus = { url = \"http://prometheus.example.org\" }";
const START: Timestamp = Timestamp(1_800_000_000_000);

type Shown = Arc<Mutex<Vec<ShownCard>>>;

async fn harness(clock: Clock, toml: &str) -> (Harness, Shown) {
    let mut harness = Harness::with(ROOM, clock, toml).await;
    let shown = Shown::default();
    let taken = Arc::clone(&shown);
    harness.context.on_shown = Arc::new(move |card| taken.lock().expect("a lock").push(card));
    (harness, shown)
}

fn roots(shown: &Shown) -> Vec<String> {
    shown.lock().expect("a lock").iter().map(|card| card.root.clone()).collect()
}

/// Once there are so many: a card is handed on after the store has it as shown.
async fn handed_on(shown: &Shown, count: usize) -> Vec<String> {
    for _ in 0..1_000 {
        if roots(shown).len() >= count {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    roots(shown)
}

impl Harness {
    async fn evidence(&self, txn: &str) {
        self.freeze(txn, true).await;
    }

    async fn freeze(&self, txn: &str, is_evidence: bool) {
        let now = self.context.clock.now();
        let route = RouteName::parse("default").expect("a name");
        let unasked = Unasked { kind: EvidenceKind::Graph, route, until: now.plus(ShownCard::TOO_LATE) };
        let content = serde_json::json!({
            "msgtype": "m.image", "body": "a graph", "url": "mxc://a/b",
            "m.relates_to": { "rel_type": "m.thread", "event_id": "$root", "m.in_reply_to": { "event_id": "$asked" } },
            "matrix_alertmanager_receiver": { "op": txn },
        });
        let answer = NewAnswer {
            act: format!("$card-{txn}"),
            room: RoomAddress::parse(ROOM).expect("a room"),
            card: None,
            event_type: "m.room.message".to_owned(),
            content: content.to_string(),
            txn_id: TxnId(txn.to_owned()),
            at: now,
            unasked: is_evidence.then_some(unasked),
        };
        self.context.store.freeze_answer(answer).await.expect("committed");
    }

    /// What became of `pieces` of evidence, once nothing is left to be sent.
    async fn outcomes(&self, pieces: u64) -> Vec<(&'static str, u64)> {
        let room = RoomAddress::parse(ROOM).expect("a room");
        for _ in 0..1_000 {
            let outcomes = ["sent", "late", "limited", "storm", "failed"];
            let counts = outcomes.map(|outcome| (outcome, self.evidence_counted(outcome)));
            let is_over = self.context.store.next_answer(&room).await.expect("read").is_none();
            if is_over && counts.iter().map(|(_, count)| count).sum::<u64>() == pieces {
                return counts.into_iter().filter(|(_, count)| *count > 0).collect();
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("still there: {:#?}", self.sent());
    }

    fn evidence_counted(&self, outcome: &str) -> u64 {
        self.context.metrics.evidence.with_label_values(&["default", "graph", outcome]).get()
    }

    fn txns(&self) -> Vec<String> {
        let sent = self.sent();
        sent.iter().map(|sent| sent.txn_id.as_str().to_owned()).filter(|txn| txn.len() < 9).collect()
    }
}

fn only(outcome: &'static str) -> Vec<(&'static str, u64)> {
    vec![(outcome, 1)]
}

#[tokio::test]
async fn a_card_of_one_incident_is_handed_on_once() {
    let (mut harness, shown) = harness(Clock::system(), EVIDENCE).await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    harness.post("a b").await;
    harness.post("-a -b").await;
    harness.settled().await;
    let cards = shown.lock().expect("a lock").clone();
    let [card] = cards.as_slice() else { panic!("{cards:?}") };
    assert_eq!((card.root.as_str(), card.room.as_str(), card.route.as_str()), ("$1", ROOM, "default"));
    let (incident, _) = harness.context.store.only_incident(&card.card).await.expect("read").expect("one");
    assert_eq!(card.incident, incident);
}

#[tokio::test]
async fn nothing_is_handed_on_where_no_route_shows_evidence() {
    let (mut harness, shown) = harness(Clock::system(), "").await;
    harness.start();
    harness.post("a").await;
    harness.settled().await;
    assert!(roots(&shown).is_empty());
}

#[tokio::test]
async fn no_digest_is_handed_on_and_nothing_in_a_storm() {
    let (mut digest, shown) = harness(Clock::system(), &format!("digest_above = 3\n{EVIDENCE}")).await;
    for group in ["g", "h", "i", "j", "k", "l"] {
        digest.post_group(group, "a").await;
    }
    digest.start();
    assert_eq!(digest.settled().await.len(), 1, "a digest");
    assert!(roots(&shown).is_empty());
    let (mut storm, shown) = harness(Clock::system(), EVIDENCE).await;
    storm.start();
    for group in ["g", "h", "i", "j"] {
        storm.post_group(group, "a").await;
        storm.settled().await;
    }
    assert_eq!(handed_on(&shown, 3).await, ["$1", "$2", "$3"], "the fourth makes it a storm");
}

#[tokio::test]
async fn nothing_is_handed_on_under_a_rate_limit_or_late() {
    let (mut limited, shown) = harness(Clock::system(), EVIDENCE).await;
    limited.script(&[Some(Err(Reason::RateLimited))]);
    limited.start();
    limited.post("a").await;
    limited.settled().await;
    // The limit is over, and sends are scarce still.
    limited.post_group("h", "a").await;
    limited.settled().await;
    assert!(roots(&shown).is_empty());
    for (age, count) in [(120, 1), (121, 0)] {
        let clock = Clock::manual(START);
        let (mut late, shown) = harness(clock.clone(), EVIDENCE).await;
        late.post("a").await;
        clock.advance(Duration::from_secs(age));
        late.start();
        late.settled().await;
        assert_eq!(handed_on(&shown, count).await.len(), count, "after {age} s");
    }
}

#[tokio::test]
async fn a_card_that_is_found_again_is_handed_on() {
    let (mut harness, shown) = harness(Clock::system(), EVIDENCE).await;
    *harness.transport.forgets.lock().expect("a lock") = true;
    harness.script(&[Some(Err(Reason::NoAnswer))]);
    harness.start();
    harness.post("a").await;
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    let arrived = harness.sent()[0].txn_id.clone();
    harness.transport.arrived.lock().expect("a lock").push(arrived);
    assert_eq!(harness.settled().await.len(), 1);
    assert_eq!(handed_on(&shown, 1).await, ["$1"]);
}

#[tokio::test]
async fn evidence_goes_after_cards_and_after_what_people_asked_for() {
    let mut harness = Harness::new(ROOM).await;
    harness.evidence("shown").await;
    harness.freeze("asked", false).await;
    harness.post("a").await;
    harness.start();
    assert_eq!(harness.outcomes(1).await, only("sent"));
    let sent = harness.sent();
    assert_eq!((sent.len(), harness.txns()), (3, vec!["asked".to_owned(), "shown".to_owned()]));
    assert_eq!(sent[2].content["msgtype"], "m.image");
}

#[tokio::test]
async fn what_is_late_is_dropped() {
    let clock = Clock::manual(START);
    let mut harness = Harness::at(ROOM, clock.clone()).await;
    harness.evidence("late").await;
    clock.advance(ShownCard::TOO_LATE + Duration::from_secs(1));
    harness.evidence("early").await;
    harness.start();
    let outcomes = harness.outcomes(2).await;
    assert_eq!(outcomes, [("sent", 1), ("late", 1)]);
    assert_eq!(harness.txns(), ["early"]);
}

#[tokio::test]
async fn under_a_rate_limit_it_is_dropped() {
    let mut harness = Harness::new(ROOM).await;
    let error = SendError { retry_after: Some(Duration::ZERO), ..scripted(Reason::RateLimited) };
    harness.context.gate.close(&error);
    harness.evidence("shown").await;
    harness.start();
    assert_eq!(harness.outcomes(1).await, only("limited"));
    assert!(harness.sent().is_empty());
}

/// Its own refusal makes nobody wait.
#[tokio::test]
async fn a_limit_that_it_meets_itself_closes_no_gate() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[Some(Err(Reason::RateLimited))]);
    harness.evidence("shown").await;
    harness.start();
    assert_eq!(harness.outcomes(1).await, only("limited"));
    assert!(harness.context.gate.is_open());
    assert_eq!(harness.txns(), ["shown"]);
}

#[tokio::test]
async fn in_a_storm_that_began_since_it_is_dropped() {
    let mut harness = Harness::new(ROOM).await;
    harness.start();
    for group in ["g", "h", "i", "j"] {
        harness.post_group(group, "a").await;
        harness.settled().await;
    }
    harness.evidence("shown").await;
    assert_eq!(harness.outcomes(1).await, only("storm"));
    assert!(harness.txns().is_empty());
}

#[tokio::test]
async fn what_surely_did_not_arrive_is_given_up_and_holds_nothing() {
    for reason in [Reason::Unreachable, Reason::RoomRefused, Reason::KeysNotReady, Reason::BadEvent, Reason::NotReady] {
        let mut harness = Harness::new(ROOM).await;
        harness.script(&[Some(Err(reason))]);
        harness.evidence("shown").await;
        harness.start();
        assert_eq!(harness.outcomes(1).await, only("failed"), "{reason:?}");
        harness.freeze("asked", false).await;
        harness.post("a").await;
        harness.settled_within(100).await;
        assert!(harness.outcomes(1).await == only("failed"));
        assert_eq!(harness.txns(), ["shown", "asked"], "{reason:?}: one try");
        assert!(harness.context.gate.is_open());
        assert!(harness.context.health.snapshot().rooms.values().all(|room| room.hold.is_none()));
    }
}

#[tokio::test]
async fn one_in_doubt_goes_out_again_under_its_transaction_id() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[Some(Err(Reason::NoAnswer))]);
    harness.evidence("shown").await;
    harness.start();
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    // It waits for its next try, and others do not.
    harness.freeze("asked", false).await;
    assert_eq!(harness.outcomes(1).await, only("sent"));
    assert_eq!(harness.txns(), ["shown", "asked", "shown"]);
}

#[tokio::test]
async fn one_that_is_never_answered_holds_a_card_up_for_seconds_only() {
    let mut harness = Harness::new(ROOM).await;
    *harness.transport.hangs.lock().expect("a lock") = true;
    harness.evidence("shown").await;
    harness.start();
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    harness.post("a").await;
    harness.settled_within(5_000).await;
    assert_eq!(harness.outcomes(1).await, only("sent"));
    assert_eq!(harness.txns(), ["shown", "shown"]);
    assert!(harness.sent()[1].content["m.relates_to"].is_null(), "the card goes first");
}

#[tokio::test]
async fn in_doubt_it_is_sent_until_it_is_late() {
    let clock = Clock::manual(START);
    let mut harness = Harness::at(ROOM, clock.clone()).await;
    harness.script(&[Some(Err(Reason::NoAnswer))]);
    harness.evidence("shown").await;
    harness.start();
    while harness.sent().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
    clock.advance(ShownCard::TOO_LATE + Duration::from_secs(1));
    assert_eq!(harness.outcomes(1).await, only("failed"));
    assert_eq!(harness.txns(), ["shown"]);
}

#[tokio::test]
async fn it_is_never_in_the_room_twice() {
    for (reads, outcome, tries) in [
        (vec![], "sent", 1),
        (vec![Ok(ReadBack { events: Vec::new(), complete: true })], "sent", 2),
        (vec![Ok(ReadBack { events: Vec::new(), complete: false })], "failed", 1),
        (vec![Err(Reason::NoAnswer)], "sent", 1),
    ] {
        let mut harness = Harness::new(ROOM).await;
        *harness.transport.forgets.lock().expect("a lock") = true;
        harness.script(&[Some(Err(Reason::NoAnswer))]);
        harness.transport.arrived.lock().expect("a lock").push(TxnId("shown".to_owned()));
        harness.transport.reads.lock().expect("a lock").extend(reads.clone());
        harness.evidence("shown").await;
        harness.start();
        assert_eq!(harness.outcomes(1).await, only(outcome), "{reads:?}");
        assert_eq!(harness.txns().len(), tries, "{reads:?}");
        assert_eq!(harness.context.metrics.possible_duplicates.get(), 0);
    }
}

/// Such as one that was uploaded in the clear, in a room that has become encrypted since: asked means answered.
#[tokio::test]
async fn a_picture_that_was_asked_for_and_is_refused_is_answered_in_words() {
    let mut harness = Harness::new(ROOM).await;
    harness.script(&[Some(Err(Reason::BadEvent))]);
    harness.freeze("asked", false).await;
    harness.start();
    harness.outcomes(0).await;
    let [picture, words] = harness.sent().try_into().expect("two events");
    assert_eq!(
        (picture.content["msgtype"].as_str(), words.content["msgtype"].as_str()),
        (Some("m.image"), Some("m.notice"))
    );
    assert!(words.content["body"].as_str().expect("text").starts_with("❌ The picture could not be sent"), "{words:?}");
    assert_eq!(words.content["m.relates_to"]["event_id"], "$root");
    assert_eq!(words.content["m.relates_to"]["m.in_reply_to"]["event_id"], "$asked");
    assert_eq!(words.content["matrix_alertmanager_receiver"]["op"], words.txn_id.as_str());
}
