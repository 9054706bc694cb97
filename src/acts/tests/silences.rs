//! Silences: which ones, how far, and each once.

use super::{alertmanager::Fate, *};

const STEP: Duration = Duration::from_secs(6);

/// Time passes, and what becomes due is done.
async fn passes(world: &World, time: Duration) {
    let steps = time.as_secs().div_ceil(STEP.as_secs());
    for _ in 0..steps {
        world.clock.advance(STEP);
        world.works().await;
    }
}

async fn with_power() -> (World, IncidentId, String) {
    let world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.rooms.power(BOB, 50);
    (world, incident, card)
}

#[tokio::test]
async fn a_reaction_silences_and_its_removal_ends_it() {
    let (mut world, _, card) = with_power().await;
    let reaction = world.reacts(ALICE, "🔕\u{FE0F}", &card).await;
    world.works().await;
    assert_eq!(world.alertmanager.matchers(), ["alertname=A"]);
    let silence = &world.alertmanager.silences()[0];
    assert_eq!(silence["createdBy"], ALICE);
    assert_eq!(silence["startsAt"], "2026-11-22T18:20:00Z");
    assert_eq!(silence["endsAt"], "2026-11-22T20:20:00Z");
    assert!(silence["comment"].as_str().expect("text").starts_with("silenced from a Matrix room [mar:"), "{silence}");
    assert_eq!(world.answers().await, ["🔕 A silenced until 20:20 UTC by Alice <b>"]);
    let body = world.contents().await[0]["body"].as_str().expect("text").to_owned();
    assert!(body.contains("2 firing alerts now: alertname=\"A\""), "{body}");
    assert_eq!(world.polls(), 1);
    world.redacts(ALICE, &reaction).await;
    world.works().await;
    assert!(world.alertmanager.silences().is_empty());
    assert_eq!(world.acts().await, ["silence ended done", "undo done done"]);
    assert_eq!(world.polls(), 2);
    world.reacts(ALICE, "🔕", &card).await;
    world.works().await;
    assert_eq!(world.alertmanager.silences().len(), 1, "it counts again");
}

#[tokio::test]
async fn a_command_silences_for_as_long_and_with_a_reason() {
    let (mut world, _, card) = with_power().await;
    world.says(ALICE, "!silence 30m disk \"sda\" [mar:x/0] is replaced", &card).await;
    world.works().await;
    let silence = &world.alertmanager.silences()[0];
    assert_eq!(silence["endsAt"], "2026-11-22T18:50:00Z");
    assert!(silence["comment"].as_str().expect("text").starts_with("disk \"sda\" [mar:x/0] is replaced [mar:"));
    assert_eq!(world.answers().await, ["✅", "🔕 A silenced until 18:50 UTC by Alice <b>"]);
    for (command, refusal) in [
        ("!silence 2", "❌ 2 is not a duration; it needs a unit: !silence 2h"),
        ("!silence 25h", "❌ A silence lasts at most 24h here: !silence 24h"),
    ] {
        world.says(ALICE, command, &card).await;
        world.works().await;
        assert_eq!(world.answers().await.last().map(String::as_str), Some(refusal));
    }
    world.says(BOB, "!unsilence", &card).await;
    world.works().await;
    assert!(world.alertmanager.silences().is_empty());
    world.says(BOB, "!unsilence", &card).await;
    world.works().await;
    assert_eq!(world.answers().await.last().map(String::as_str), Some("❌ No silence was made from here"));
}

#[tokio::test]
async fn a_second_one_extends_and_never_shortens() {
    let (mut world, _, card) = with_power().await;
    world.says(ALICE, "!silence 1h first", &card).await;
    world.works().await;
    let first = world.alertmanager.silences()[0].clone();
    world.says(ALICE, "!silence 30m shorter", &card).await;
    world.works().await;
    assert_eq!(world.alertmanager.silences(), std::slice::from_ref(&first), "as it was");
    assert_eq!(world.answers().await.last().map(String::as_str), Some("🔕 A silenced until 19:20 UTC by Alice <b>"));
    world.clock.advance(Duration::from_mins(10));
    world.says(ALICE, "!silence 2h longer", &card).await;
    world.works().await;
    let longer = world.alertmanager.silences();
    assert_eq!((longer.len(), &longer[0]["id"]), (1, &first["id"]));
    assert_eq!(longer[0]["startsAt"], first["startsAt"]);
    assert_eq!(longer[0]["endsAt"], "2026-11-22T20:30:00Z");
    // Somebody ended it in Alertmanager: the next one is a silence again.
    world.alertmanager.expire(first["id"].as_str().expect("an id"));
    world.says(ALICE, "!silence 1h again", &card).await;
    world.works().await;
    assert_eq!(world.alertmanager.silences().len(), 1);
}

#[tokio::test]
async fn several_people_share_a_silence_until_nobody_wants_it() {
    let (mut world, incident, card) = with_power().await;
    let of_alice = world.reacts(ALICE, "🔕", &card).await;
    world.works().await;
    let first = world.alertmanager.silences()[0].clone();
    world.clock.advance(Duration::from_mins(10));
    let of_bob = world.reacts(BOB, "🔕", &card).await;
    world.works().await;
    let shared = world.alertmanager.silences();
    assert_eq!((shared.len(), &shared[0]["id"]), (1, &first["id"]));
    assert_eq!(shared[0]["endsAt"], "2026-11-22T20:30:00Z", "as long as Bob wants it");
    assert_eq!(
        world.answers().await.last().map(String::as_str),
        Some("🔕 A silenced until 20:30 UTC by @bob:example.org")
    );
    assert_eq!(world.acts().await, ["silence live done", "silence live done"]);
    world.redacts(ALICE, &of_alice).await;
    world.works().await;
    assert_eq!(world.alertmanager.silences(), shared, "Bob wants it still");
    // Alice once more, and longer, and Bob no more.
    world.says(ALICE, "!silence 3h", &card).await;
    world.works().await;
    world.redacts(BOB, &of_bob).await;
    world.works().await;
    let longer = world.alertmanager.silences();
    assert_eq!((longer.len(), &longer[0]["id"]), (1, &first["id"]));
    assert_eq!(longer[0]["endsAt"], "2026-11-22T21:30:00Z");
    assert_eq!(world.store().silences_of_incident(&incident).await.expect("read").len(), 1);
    let of_bob = world.reacts(BOB, "🔕", &card).await;
    world.works().await;
    world.says(BOB, "!unsilence", &card).await;
    world.works().await;
    assert!(world.alertmanager.silences().is_empty(), "for all who wanted it");
    world.redacts(BOB, &of_bob).await;
    world.works().await;
    assert_eq!(world.acts().await.last().map(String::as_str), Some("unsilence done done"), "nothing is left to undo");
}

/// What one has in doubt, another waits for.
#[tokio::test]
async fn nobody_makes_a_second_silence_while_the_first_is_in_doubt() {
    let (mut world, _, card) = with_power().await;
    world.alertmanager.then(&[Fate::AnswerLost]);
    world.says(ALICE, "!silence 1h", &card).await;
    world.says(BOB, "!silence 2h", &card).await;
    world.works().await;
    assert_eq!((world.alertmanager.silences().len(), world.acts().await[1].as_str()), (1, "silence asked "));
    passes(&world, Duration::from_secs(10)).await;
    let silences = world.alertmanager.silences();
    assert_eq!((silences.len(), &silences[0]["endsAt"]), (1, &"2026-11-22T20:20:00Z".into()));
    assert_eq!(world.acts().await, ["silence live done", "silence live done"]);
}

#[tokio::test]
async fn an_extension_whose_answer_is_lost_is_made_once() {
    let (mut world, _, card) = with_power().await;
    world.says(ALICE, "!silence 1h", &card).await;
    world.works().await;
    let id = world.alertmanager.silences()[0]["id"].clone();
    world.alertmanager.then(&[Fate::AnswerLost]);
    world.says(ALICE, "!silence 3h", &card).await;
    world.works().await;
    passes(&world, Duration::from_secs(12)).await;
    let silences = world.alertmanager.silences();
    assert_eq!((silences.len(), &silences[0]["id"], world.alertmanager.posts()), (1, &id, 2));
    assert_eq!(world.answers().await.last().map(String::as_str), Some("🔕 A silenced until 21:20 UTC by Alice <b>"));
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_silence() {
    let (mut world, _, card) = with_power().await;
    world.alertmanager.then(&[Fate::AnswerLost]);
    world.says(ALICE, "!silence", &card).await;
    world.works().await;
    assert!(world.answers().await.is_empty(), "it is not known yet");
    passes(&world, Duration::from_secs(6)).await;
    assert_eq!((world.alertmanager.silences().len(), world.alertmanager.posts()), (1, 1));
    assert_eq!(world.answers().await.len(), 2);
}

#[tokio::test]
async fn a_lost_request_is_made_again() {
    let (mut world, _, card) = with_power().await;
    world.alertmanager.then(&[Fate::Lost, Fate::Lost]);
    world.says(ALICE, "!silence", &card).await;
    world.works().await;
    passes(&world, Duration::from_secs(18)).await;
    assert_eq!((world.alertmanager.silences().len(), world.alertmanager.posts()), (1, 3));
    assert_eq!(world.acts().await, ["silence live done"]);
}

#[tokio::test]
async fn what_cannot_be_known_is_said_and_watched() {
    let (mut world, _, card) = with_power().await;
    world.alertmanager.then(&[Fate::AnswerLost]);
    world.says(ALICE, "!silence 1h", &card).await;
    world.works().await;
    world.alertmanager.down(true);
    passes(&world, Duration::from_secs(110)).await;
    assert_eq!(world.answers().await, ["❓ The silence may have been made: Alertmanager did not say"]);
    passes(&world, Duration::from_mins(3)).await;
    assert_eq!(world.answers().await.len(), 1, "said once");
    world.alertmanager.down(false);
    passes(&world, Duration::from_mins(1)).await;
    assert_eq!(world.answers().await.last().map(String::as_str), Some("🔕 A silenced until 19:20 UTC by Alice <b>"));
    assert_eq!((world.alertmanager.silences().len(), world.alertmanager.posts()), (1, 1));
}

#[tokio::test]
async fn what_was_not_made_by_then_is_not_made_later() {
    let (mut world, _, card) = with_power().await;
    world.alertmanager.then(&[Fate::Lost]);
    world.says(ALICE, "!silence 1h", &card).await;
    world.works().await;
    world.alertmanager.down(true);
    passes(&world, Duration::from_secs(110)).await;
    world.alertmanager.down(false);
    passes(&world, Duration::from_mins(1)).await;
    assert_eq!((world.alertmanager.silences().len(), world.alertmanager.posts()), (0, 1));
    assert_eq!(
        world.answers().await.last().map(String::as_str),
        Some("❌ Not silenced: Alertmanager did not take it in time")
    );
}

#[tokio::test]
async fn an_alertmanager_that_is_down_is_said_within_two_minutes() {
    let (mut world, _, card) = with_power().await;
    world.alertmanager.down(true);
    world.says(ALICE, "!silence", &card).await;
    world.works().await;
    assert!(world.answers().await.is_empty());
    passes(&world, Duration::from_secs(100)).await;
    assert_eq!(world.answers().await, ["❌ Not silenced: Alertmanager did not answer"]);
    world.alertmanager.down(false);
    passes(&world, Duration::from_mins(5)).await;
    assert_eq!((world.alertmanager.posts(), world.answers().await.len()), (0, 1), "and that is the end of it");
}

#[tokio::test]
async fn a_refusal_is_passed_on() {
    let (mut world, _, card) = with_power().await;
    world.alertmanager.then(&[Fate::Refused]);
    world.says(ALICE, "!silence", &card).await;
    world.works().await;
    assert_eq!(world.answers().await, ["❌ Not silenced: Alertmanager refused it"]);
    let body = world.contents().await[0]["body"].as_str().expect("text").to_owned();
    assert!(body.contains("limit of silences reached"), "{body}");
    assert_eq!(world.acts().await, ["silence refused failed"]);
}

#[tokio::test]
async fn a_silence_reaches_no_further_than_its_incident() {
    let (mut world, _, card) = with_power().await;
    let labels = |pairs: &[(&str, &str)]| alert("", pairs).doc.labels;
    world.alertmanager.fires("9", "pager", &labels(&[("alertname", "A"), ("team", "y")]));
    world.says(ALICE, "!silence", &card).await;
    world.works().await;
    assert_eq!(world.alertmanager.matchers(), ["alertname=A team=x"], "what its alerts have in common is added");
    world.alertmanager.fires("8", "pager", &labels(&[("alertname", "A"), ("team", "x"), ("instance", "db-1")]));
    world.says(BOB, "!silence", &card).await;
    world.works().await;
    assert_eq!(world.alertmanager.silences().len(), 1);
    assert_eq!(
        world.answers().await.last().map(String::as_str),
        Some("❌ Not silenced: that would silence 1 other alert as well")
    );
    let contents = world.contents().await;
    let body = contents.last().expect("one")["body"].as_str().expect("text");
    assert!(body.contains("A instance=\"db-1\" (receiver: pager)"), "{body}");
}

#[tokio::test]
async fn one_silence_for_each_alertname() {
    let mut world = World::new().await;
    world.rooms.power(ALICE, 50);
    let alerts = ["B", "C", "D"].map(|name| alert(name, &[("alertname", name), ("job", "j")]));
    for one in &alerts {
        world.alertmanager.fires(&one.fingerprint, "matrix", &one.doc.labels);
    }
    let (_, card) = world.fires("mixed", &alerts).await;
    world.alertmanager.then(&[Fate::AnswerLost]);
    let reaction = world.reacts(ALICE, "🔕", &card).await;
    world.works().await;
    passes(&world, Duration::from_secs(12)).await;
    let mut matchers = world.alertmanager.matchers();
    matchers.sort();
    assert_eq!((matchers.len(), world.alertmanager.posts()), (3, 3), "{matchers:?}");
    assert_eq!(world.answers().await.len(), 1);
    world.redacts(ALICE, &reaction).await;
    world.works().await;
    assert!(world.alertmanager.silences().is_empty());
}

#[tokio::test]
async fn what_is_undone_while_in_doubt_does_not_stay() {
    for fate in [Fate::AnswerLost, Fate::Lost] {
        let (mut world, _, card) = with_power().await;
        world.alertmanager.then(&[fate]);
        let reaction = world.reacts(ALICE, "🔕", &card).await;
        world.works().await;
        world.redacts(ALICE, &reaction).await;
        world.works().await;
        passes(&world, Duration::from_secs(42)).await;
        assert!(world.alertmanager.silences().is_empty(), "{fate:?}");
        assert_eq!(world.alertmanager.posts(), 1, "{fate:?}: not made again");
        assert!(world.acts().await[1].starts_with("undo done"), "{fate:?} {:?}", world.acts().await);
    }
}

#[tokio::test]
async fn without_an_alertmanager_nothing_is_silenced() {
    let (mut world, incident, card) = with_power().await;
    world.context.clients = Arc::new(|_| None);
    world.says(ALICE, "!silence", &card).await;
    world.says(ALICE, "!ack", &card).await;
    world.works().await;
    let refusal = "❌ No Alertmanager is configured for this route, so nothing can be silenced";
    assert_eq!(world.answers().await, [refusal, "✅"]);
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
}

#[tokio::test]
async fn a_silence_that_is_over_is_known_to_be() {
    let (mut world, incident, card) = with_power().await;
    world.says(ALICE, "!silence 1h", &card).await;
    world.works().await;
    assert_eq!(world.store().silences_of_incident(&incident).await.expect("read").len(), 1);
    world.clock.advance(Duration::from_hours(2));
    assert_eq!(world.store().end_expired_silences(&route(), world.clock.wall()).await.expect("committed"), 1);
    assert_eq!(world.acts().await, ["silence ended done"]);
    assert!(world.store().silences_of_incident(&incident).await.expect("read").is_empty());
}

#[tokio::test]
async fn in_an_encrypted_room_a_silence_needs_proof() {
    let (mut world, _, card) = with_power().await;
    *world.rooms.is_encrypted.lock().expect("a lock") = true;
    for user in [ALICE, ONCALL] {
        world.rooms.power(user, 100);
    }
    let room_events = |event| RoomEvents {
        room: room(),
        room_id: ROOM.to_owned(),
        is_encrypted: true,
        events: vec![event],
        gap: false,
    };
    for (sender, trust, expected) in [
        (ONCALL, Trust::Plain, "❌ This room is encrypted and the command was not: send it encrypted"),
        (
            ONCALL,
            Trust::Unsigned,
            "❌ The command came from a device that is not verified: verify this session, then repeat it",
        ),
        (ALICE, Trust::Signed, "❌ In an encrypted room a silence needs your name in actions.allow.users"),
        (ONCALL, Trust::Signed, "🔕 A silenced until 20:20 UTC by @oncall:example.org"),
    ] {
        let event = RoomEvent { trust, ..world.make(sender, in_thread("!silence", &card)) };
        world.listener.hear(room_events(event)).await.expect("heard");
        world.works().await;
        assert_eq!(world.answers().await.last().map(String::as_str), Some(expected));
    }
    world.reacts(ONCALL, "🔕", &card).await;
    world.works().await;
    assert_eq!(
        world.answers().await.last().map(String::as_str),
        Some("❌ Use !silence here: reactions are not encrypted")
    );
    // A copy of an encrypted event does nothing.
    let original = RoomEvent {
        trust: Trust::Signed,
        megolm: Some("session/1".to_owned()),
        ..world.make(ONCALL, in_thread("!ack", &card))
    };
    let copy = RoomEvent { event_id: "$copy".to_owned(), ..original.clone() };
    let before = world.acts().await.len();
    for event in [original, copy] {
        world.listener.hear(room_events(event)).await.expect("heard");
    }
    assert_eq!(world.acts().await.len(), before + 1);
}

#[tokio::test]
async fn a_missing_heartbeat_is_not_alertmanager_s_to_silence() {
    let (mut world, _, card) = with_power().await;
    world.context.store.run_sql("UPDATE incident SET receiver = '(heartbeats)'").await;
    for by_reaction in [true, false] {
        if by_reaction {
            world.reacts(ALICE, "🔕", &card).await;
        } else {
            world.says(ALICE, "!silence", &card).await;
        }
        world.works().await;
        let answers = world.answers().await;
        let last = answers.last().expect("an answer");
        assert_eq!(last, "❌ This is not an alert of Alertmanager, so a silence cannot hold it back");
    }
    assert!(world.alertmanager.silences().is_empty());
    // Taking needs no Alertmanager.
    world.reacts(ALICE, "👀", &card).await;
    world.works().await;
    assert!(world.acts().await.contains(&"take live done".to_owned()), "{:?}", world.acts().await);
}
