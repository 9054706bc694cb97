//! Events that may or may not be in the room.

use super::*;
use crate::clock::Mark;

const HOUR: Duration = Duration::from_hours(1);

impl Harness {
    fn searches(&self) -> usize {
        *self.transport.searches.lock().expect("a lock")
    }

    fn reads(&self, outcomes: Vec<Result<ReadBack, Reason>>) {
        *self.transport.reads.lock().expect("a lock") = outcomes.into();
    }

    fn poison(&self, room: &str, ops: usize) {
        let room = RoomAddress::parse(room).expect("a room");
        self.transport.poisoned.lock().expect("a lock").insert(room, ops);
    }

    pub(super) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        for _ in 0..4_000 {
            if condition().await {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not so: {what}: {:#?}", self.sent());
    }

    fn events(&self, outcome: &str) -> u64 {
        let rooms = self.config().rooms();
        let each = rooms.iter().flat_map(|(_, name)| OpKind::ALL.map(|kind| (name, kind)));
        let count = |(name, kind): (&RoomName, OpKind)| {
            self.context.metrics.room_events.with_label_values(&[name.as_str(), kind.as_str(), outcome]).get()
        };
        each.map(count).sum()
    }

    fn duplicates(&self) -> u64 {
        self.context.metrics.possible_duplicates.get()
    }

    /// A card whose send was not answered, `ago` before lanes start again.
    async fn doubtful(arrived: bool, ago: Duration) -> Self {
        let clock = Clock::manual(Timestamp(1_800_000_000_000));
        let mut harness = Self::with(ROOM, clock, "repost_after = \"never\"").await;
        harness.script(&[Some(Err(Reason::NoAnswer))]);
        harness.start();
        harness.post("a").await;
        harness.until("in doubt", async || harness.events("failed") == 1).await;
        harness.stop().await;
        if arrived {
            let txn = harness.sent()[0].txn_id.clone();
            harness.transport.arrived.lock().expect("a lock").push(txn);
        }
        harness.context.clock.advance(ago);
        harness
    }
}

#[tokio::test]
async fn what_the_homeserver_remembers_is_sent_again_without_reading() {
    let mut harness = Harness::doubtful(false, Duration::from_mins(1)).await;
    harness.start();
    let sent = harness.settled().await;
    assert_eq!((sent.len(), harness.searches(), harness.duplicates()), (2, 0, 0));
    assert_eq!(sent[0].txn_id, sent[1].txn_id);
}

#[tokio::test]
async fn what_has_been_forgotten_but_is_in_the_room_is_adopted() {
    for (ago, device) in [(25 * HOUR, None), (Duration::from_mins(1), Some("OTHER")), (HOUR, None)] {
        let mut harness = Harness::doubtful(true, ago).await;
        *harness.transport.device.lock().expect("a lock") = device.map(str::to_owned);
        harness.start();
        let sent = harness.settled().await;
        assert_eq!((sent.len(), harness.events("adopted"), harness.duplicates()), (1, 1, 0), "{ago:?} {device:?}");
        harness.post("a b").await;
        let sent = harness.settled().await;
        assert_eq!(sent[1].content["m.relates_to"]["event_id"], "$1", "the card is known");
    }
}

#[tokio::test]
async fn a_clock_set_back_makes_nobody_remember_for_longer() {
    let mut harness = Harness::doubtful(true, 25 * HOUR).await;
    harness.context.clock.jump(-25 * 3_600_000);
    harness.start();
    assert_eq!((harness.settled().await.len(), harness.events("adopted"), harness.duplicates()), (1, 1, 0));
}

#[tokio::test]
async fn where_nobody_counted_the_time_the_room_is_asked() {
    let mut harness = Harness::doubtful(true, Duration::from_mins(1)).await;
    // The machine was started in between, and its clock was set back.
    let clock = &harness.context.clock;
    assert!(!clock.resume(&Mark { boot: None, ..clock.mark() }).is_sure);
    clock.advance(Duration::from_millis(1));
    harness.start();
    assert_eq!((harness.settled().await.len(), harness.events("adopted"), harness.duplicates()), (1, 1, 0));
}

#[tokio::test]
async fn what_is_not_in_the_room_is_sent_once_more() {
    let mut harness = Harness::doubtful(false, 25 * HOUR).await;
    // The next try fails as well: this one the homeserver remembers, so there is nothing to read.
    harness.script(&[Some(Err(Reason::NoAnswer))]);
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["card m.text failed", "card m.text failed", "card m.text"]);
    assert!(sent.iter().all(|one| one.txn_id == sent[0].txn_id));
    assert_eq!((harness.searches(), harness.duplicates()), (1, 0));
}

#[tokio::test]
async fn what_cannot_be_found_out_is_sent_again_and_counted() {
    let unread = OwnEvent { event_id: "$x".to_owned(), op: None, incident: None, starts_card: false };
    for read in [ReadBack::default(), ReadBack { events: vec![unread], complete: true }] {
        let mut harness = Harness::doubtful(true, 25 * HOUR).await;
        harness.reads(vec![Ok(read)]);
        harness.start();
        assert_eq!((harness.settled().await.len(), harness.duplicates()), (2, 1));
    }
}

#[tokio::test]
async fn a_room_that_cannot_be_read_for_now_is_waited_for() {
    for reason in [Reason::ServerError, Reason::RateLimited, Reason::TokenRejected] {
        let mut harness = Harness::doubtful(true, 25 * HOUR).await;
        harness.reads(vec![Err(reason)]);
        harness.start();
        assert_eq!((harness.settled().await.len(), harness.searches(), harness.duplicates()), (1, 2, 0), "{reason:?}");
    }
}

#[tokio::test]
async fn a_card_that_only_a_later_state_of_the_store_knew_is_adopted() {
    let mut harness = Harness::at(ROOM, Clock::manual(Timestamp(1_800_000_000_000))).await;
    harness.post("a").await;
    let due = harness.context.store.due(&RoomAddress::parse(ROOM).expect("a room")).await.expect("due").new;
    let snapshot = harness.context.store.snapshot(&due[0].card).await.expect("read").expect("a card");
    let found = |id: &str, incident: &IncidentId, starts_card| OwnEvent {
        event_id: id.to_owned(),
        op: Some(TxnId(format!("lost {id}"))),
        incident: Some(incident.clone()),
        starts_card,
    };
    let incident = &snapshot.incidents[0].0.id;
    let events = vec![
        found("$reply", incident, false),
        found("$root", incident, true),
        found("$x", &IncidentId("?".into()), true),
    ];
    harness.reads(vec![Ok(ReadBack { events, complete: true })]);
    harness.context.clock.advance(HOUR);
    harness.start();
    let sent = harness.settled().await;
    assert_eq!(kinds(&sent), ["m.replace m.text"]);
    assert_eq!(sent[0].content["m.relates_to"]["event_id"], "$root");
    assert_eq!(harness.events("adopted"), 1);
}

/// Two rooms; the homeserver fails on the first ops of the first, and the second goes on all the time.
async fn poisoned(ops: usize) -> Harness {
    let mut harness = Harness::new("!one:example.org,!two:example.org").await;
    harness.poison(ROOM, ops);
    harness.start();
    harness
}

/// Makes a change that the second room shows, and its opposite, in turns, until it is `done`.
async fn change_until(harness: &Harness, change: impl AsyncFn(bool), done: impl Fn() -> bool) {
    let shown = || harness.sent().iter().filter(|one| one.accepted && one.room.as_str() != ROOM).count();
    for n in 0..200 {
        if done() {
            return;
        }
        let before = shown();
        change(n % 2 == 0).await;
        // What changes back before it is shown makes no event, and then nothing gets through beside the op that fails.
        harness.until("shown, or done", async || shown() > before || done()).await;
        sleep(Duration::from_millis(150)).await;
    }
    panic!("not done: {:#?}", harness.sent());
}

/// Changes the card until the first room has this many ops parked.
async fn change_until_parked(harness: &Harness, times: u64) {
    let change = async |more| harness.post(if more { "a b" } else { "a -b" }).await;
    change_until(harness, change, || harness.events("parked") >= times).await;
}

fn in_first(sent: Vec<Sent>) -> Vec<Sent> {
    sent.into_iter().filter(|one| one.room.as_str() == ROOM).collect()
}

#[tokio::test]
async fn an_event_that_alone_fails_is_parked_and_sent_plainer_once_it_is_certainly_absent() {
    let harness = poisoned(1).await;
    harness.post("a").await;
    change_until_parked(&harness, 1).await;
    let sent = in_first(harness.settled().await);
    // How many tries it takes until the other room has had an event between two of them is a matter of load.
    let tries = sent.iter().take_while(|one| one.txn_id == sent[0].txn_id).count();
    assert!(tries >= 2 && sent[..tries].iter().all(|one| !one.accepted), "{sent:#?}");
    assert_eq!(kinds(&sent)[tries], "card m.text", "{sent:#?}");
    assert!(kinds(&sent)[tries + 1..].iter().all(|kind| kind.starts_with("m.")), "one root: {sent:#?}");
    assert!(harness.context.health.snapshot().account_hold.is_none());
    assert_eq!(harness.duplicates(), 0);
}

#[tokio::test]
async fn a_parked_event_that_is_in_the_room_is_adopted() {
    let harness = poisoned(1).await;
    harness.post("a").await;
    harness.until("sent", async || !in_first(harness.sent()).is_empty()).await;
    let txn = in_first(harness.sent())[0].txn_id.clone();
    harness.transport.arrived.lock().expect("a lock").push(txn);
    change_until_parked(&harness, 1).await;
    let sent = in_first(harness.settled().await);
    assert_eq!(harness.events("adopted"), 1);
    let tries = sent.iter().take_while(|one| one.txn_id == sent[0].txn_id).count();
    assert!(kinds(&sent)[tries..].iter().all(|kind| kind.starts_with("m.")), "no second root: {sent:#?}");
}

#[tokio::test]
async fn a_parked_event_of_which_nothing_is_known_holds_only_its_card() {
    let harness = poisoned(1).await;
    harness.reads(vec![Ok(ReadBack::default())]);
    harness.post("a").await;
    change_until_parked(&harness, 1).await;
    harness.until("looked for", async || harness.searches() == 1).await;
    harness.post("a b c").await;
    harness.post_group("other", "z").await;
    let others = async || in_first(harness.sent()).iter().filter(|one| one.accepted).count() == 1;
    harness.until("the other card", others).await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    assert!(harness.context.store.due(&room).await.expect("due") == crate::store::DueCards::default());
    let (_, next) = harness.context.store.open_ops(&room).await.expect("read").parked.expect("still parked");
    assert!(next > harness.context.clock.now().plus(Duration::from_secs(5)), "not at once again");
    assert!(harness.context.store.stats(&[room]).await.expect("stats").ops.contains(&(OpState::Parked, 1)));
}

#[tokio::test]
async fn a_parked_event_of_which_nothing_is_ever_known_is_sent_again_and_counted() {
    let mut harness =
        Harness::at("!one:example.org,!two:example.org", Clock::manual(Timestamp(1_800_000_000_000))).await;
    harness.poison(ROOM, 1);
    harness.reads(std::iter::repeat_with(|| Ok(ReadBack::default())).take(20).collect());
    harness.start();
    harness.post("a").await;
    // The op was parked after two failures; from now on one is enough.
    change_until_parked(&harness, 1).await;
    harness.until("looked for", async || harness.searches() == 1).await;
    for looks in 2..6 {
        harness.context.clock.advance(Duration::from_mins(10));
        // A commit wakes the lanes: they sleep by the real clock.
        harness.post(if looks % 2 == 0 { "a b" } else { "a -b" }).await;
        harness.until("looked for again", async || harness.searches() >= looks).await;
    }
    assert_eq!((harness.duplicates(), harness.events("parked")), (0, 1), "not before an hour of looking");
    harness.context.clock.advance(HOUR);
    harness.post("a b c").await;
    harness.until("sent again and parked again", async || harness.events("parked") == 2).await;
    assert_eq!(harness.duplicates(), 1);
    let card = || in_first(harness.sent()).into_iter().filter(|one| one.content.get("m.relates_to").is_none());
    assert!(card().all(|one| one.txn_id == card().next().expect("one").txn_id), "under its own transaction id");
    let tries = card().count();
    harness.poison(ROOM, 0);
    harness.context.clock.advance(Duration::from_mins(10));
    harness.post("a b c d").await;
    harness.until("looked for again", async || harness.searches() >= 7).await;
    assert_eq!((card().count(), harness.duplicates()), (tries, 1), "another hour begins");
    harness.context.clock.advance(HOUR);
    harness.post("a b c d e").await;
    harness.until("in the room", async || in_first(harness.sent()).iter().any(|one| one.accepted)).await;
    let sent = in_first(harness.settled().await);
    assert_eq!(sent.iter().filter(|one| one.accepted && one.content.get("m.relates_to").is_none()).count(), 1);
    assert_eq!(harness.duplicates(), 2);
}

#[tokio::test]
async fn an_event_that_fails_in_every_form_becomes_a_dead_letter() {
    let harness = poisoned(3).await;
    harness.post("a").await;
    change_until_parked(&harness, 3).await;
    harness
        .until("dead", async || harness.context.metrics.dead_letters.with_label_values(&["server_error"]).get() == 1)
        .await;
}

/// Once it is frozen, a plainer form is an op like any other: its lane sends it until it is acknowledged.
#[tokio::test]
async fn a_plainer_form_that_ends_in_doubt_is_sent_again() {
    let harness = poisoned(1).await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    harness.transport.mute.lock().expect("a lock").push(room);
    harness.post("a").await;
    change_until_parked(&harness, 1).await;
    let sent = in_first(harness.settled().await);
    let tries = sent.iter().take_while(|one| one.txn_id == sent[0].txn_id).count();
    let plainer = &sent[tries..];
    assert!(!plainer[0].accepted && plainer[1].accepted, "{sent:#?}");
    assert_eq!(plainer[0].txn_id, plainer[1].txn_id);
}

/// Syncs and reads succeed, and no send does.
#[tokio::test]
async fn a_homeserver_that_accepts_no_sends_at_all_is_waited_for() {
    let mut harness = Harness::new(ROOM).await;
    *harness.transport.accepts_nothing.lock().expect("a lock") = true;
    harness.start();
    for group in ["one", "two", "three"] {
        harness.post_group(group, "a b").await;
    }
    let health = Arc::clone(&harness.context.health);
    let clock = harness.context.clock.clone();
    let syncs = tokio::spawn(async move {
        loop {
            health.update(|health| health.last_sync = Some(clock.now()));
            sleep(Duration::from_millis(20)).await;
        }
    });
    // One op is parked, and the next is tried more often than the patience allows.
    harness.until("given up on several times", async || harness.sent().len() >= 5).await;
    let room = RoomAddress::parse(ROOM).expect("a room");
    assert_eq!(harness.context.store.stats(std::slice::from_ref(&room)).await.expect("stats").ops.len(), 2);
    assert_eq!(harness.events("parked"), 1, "one finds out: {:#?}", harness.sent());
    assert_eq!(harness.context.metrics.dead_letters.with_label_values(&["server_error"]).get(), 0);
    let forms: std::collections::BTreeSet<TxnId> = harness.sent().into_iter().map(|one| one.txn_id).collect();
    assert_eq!(forms.len(), 2, "no plainer forms");
    assert!(harness.context.health.snapshot().account_hold.is_some(), "and it shows");
    *harness.transport.accepts_nothing.lock().expect("a lock") = false;
    let sent = harness.settled_within(9_000).await;
    syncs.abort();
    let shown: Vec<&Sent> = sent.iter().filter(|one| one.accepted).collect();
    assert!(forms.iter().all(|form| shown.iter().any(|one| one.txn_id == *form)), "in their first form: {sent:#?}");
    assert!(shown.iter().all(|one| one.content["body"].as_str().expect("a body").lines().count() > 1));
    assert_eq!(harness.duplicates(), 0);
}

/// A dead letter of a homeserver fault is retried without an operator, unlike in 0.1.0.
#[tokio::test]
async fn a_dead_letter_of_a_server_fault_is_retried_without_an_operator() {
    let mut harness =
        Harness::at("!one:example.org,!two:example.org", Clock::manual(Timestamp(1_800_000_000_000))).await;
    harness.poison(ROOM, 3);
    harness.start();
    let [one, two] = [ROOM, "!two:example.org"].map(|room| vec![RoomAddress::parse(room).expect("a room")]);
    harness.post_to(one, "g", "a", "warning").await;
    // What was on its way when the gate closed would prove nothing.
    harness.until("a failure", async || !harness.sent().is_empty()).await;
    let dead = || harness.context.metrics.dead_letters.with_label_values(&["server_error"]).get() == 1;
    // The first event of the other room goes before the one that fails.
    let change =
        async |more| harness.post_to(two.clone(), "other", if more { "y z" } else { "y -z" }, "critical").await;
    change_until(&harness, change, dead).await;
    harness.poison(ROOM, 0);
    harness.settled().await;
    let cards = || {
        let cards = in_first(harness.sent()).into_iter().filter(|one| one.accepted);
        cards
            .filter(|one| {
                one.content["body"].as_str().is_some_and(|body| body.split_whitespace().any(|word| word == "a"))
            })
            .count()
    };
    assert_eq!(cards(), 0, "not before its time");
    harness.context.clock.advance(Duration::from_mins(11));
    // Lanes sleep by the real clock; a commit wakes them.
    harness.post_to(two, "other", "x y", "warning").await;
    harness.until("in the room", async || cards() == 1).await;
    let (letters, left) = harness.context.store.dead_letters().await.expect("read");
    assert_eq!((letters.len(), left), (0, 0));
}

/// A homeserver that may forget transaction ids is asked for the event before it is sent again.
#[tokio::test]
async fn a_homeserver_that_may_forget_is_read_before_each_resend() {
    for (arrived, expected) in [(true, (1, 1, 1)), (false, (2, 1, 0))] {
        let mut harness = Harness::doubtful(arrived, Duration::from_mins(1)).await;
        *harness.transport.forgets.lock().expect("a lock") = true;
        harness.start();
        let sent = harness.settled().await;
        assert_eq!((sent.len(), harness.searches(), harness.events("adopted")), expected, "{arrived}");
        assert_eq!(harness.duplicates(), 0);
    }
    let mut harness = Harness::doubtful(true, Duration::from_mins(1)).await;
    *harness.transport.forgets.lock().expect("a lock") = true;
    harness.reads(vec![Ok(ReadBack::default())]);
    harness.start();
    harness.settled().await;
    assert_eq!(harness.duplicates(), 1, "what cannot be known is counted");
}
