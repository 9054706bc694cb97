//! Taking, giving back, and who may.

use super::*;

#[tokio::test]
async fn a_reaction_takes_and_its_removal_gives_back() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    let before = world.incident(&incident).await.rev;
    let reaction = world.reacts(ALICE, "👀\u{FE0F}", &card).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
    assert_eq!(world.answers().await, [""; 0], "the card says it");
    let rev = world.incident(&incident).await.rev;
    assert!(rev > before, "its rooms must show it");
    assert!(!world.store().due(&room()).await.expect("read").edits.is_empty());
    world.redacts(ALICE, &reaction).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [""; 0]);
    assert_eq!(world.acts().await, ["take ended undone", "undo done done"]);
    world.reacts(ALICE, "✅", &card).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE], "it counts again");
    assert!(world.alertmanager.posts() == 0 && world.polls() == 0, "Alertmanager knows nothing of it");
}

#[tokio::test]
async fn a_command_takes_with_a_word_and_unack_gives_back() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.rooms.power(ONCALL, 0);
    let command = world.says(ALICE, "!ack looking at <b>it</b>", &card).await;
    world.works().await;
    world.says(ONCALL, "!ACK", &card).await;
    world.works().await;
    let taken = world.incident(&incident).await.taken;
    assert_eq!(taken.iter().map(|taken| taken.user.as_str()).collect::<Vec<_>>(), [ALICE, ONCALL]);
    assert_eq!((taken[0].name.as_str(), taken[0].text.as_str()), ("Alice <b>", "looking at <b>it</b>"));
    assert_eq!(world.answers().await, ["✅", "✅"]);
    assert_eq!(world.contents().await[0]["m.relates_to"]["event_id"], command.as_str());
    world.says(ALICE, "!ack now at home", &card).await;
    world.works().await;
    assert_eq!(world.incident(&incident).await.taken[0].text, "now at home", "one live taking for each");
    world.says(ALICE, "!unack", &card).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ONCALL], "only one's own");
    world.says(ALICE, "!unack", &card).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [""; 0], "and without one, all");
    world.says(ALICE, "!unack", &card).await;
    world.works().await;
    assert_eq!(world.answers().await.last().map(String::as_str), Some("❌ Nobody has taken this"));
}

#[tokio::test]
async fn who_may_not_is_refused_once() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(BOB, 0);
    for _ in 0..3 {
        world.reacts(BOB, "👀", &card).await;
        world.says(BOB, "!silence", &card).await;
        world.works().await;
    }
    let refusal = "❌ This needs power level 50 or to be listed in actions.allow.users; yours is 0";
    assert_eq!(world.answers().await, [refusal]);
    assert!(world.taken_by(&incident).await.is_empty() && world.alertmanager.posts() == 0);
    assert_eq!(world.count("take", "denied") + world.count("silence", "denied"), 6, "all are counted");
    assert!(world.acts().await.len() <= 2, "and not kept");
    // The right is asked for each time: whoever gets it need not wait.
    world.clock.advance(Duration::from_secs(30));
    world.rooms.power(BOB, 50);
    world.reacts(BOB, "👀", &card).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [BOB]);
    world.rooms.leaves(BOB);
    world.says(BOB, "!unack", &card).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [BOB], "a former member may nothing");
}

#[tokio::test]
async fn a_moderator_undoes_only_with_the_right() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.rooms.power(BOB, 40);
    let reaction = world.reacts(ALICE, "👀", &card).await;
    world.works().await;
    world.redacts(BOB, &reaction).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
    assert!(world.answers().await[0].starts_with("❌ This needs power level 50"));
    world.rooms.leaves(ALICE);
    let mut own = world.make(ALICE, RoomEventContent::Redaction { target: reaction });
    own.event_id = "$own".to_owned();
    world.hears(vec![own], false).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [""; 0], "its sender always may");
}

#[tokio::test]
async fn what_is_withdrawn_before_is_never_done() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    let command = world.says(ALICE, "!ack", &card).await;
    let reaction = world.reacts(ALICE, "👀", &card).await;
    world.redacts(ALICE, &command).await;
    world.redacts(ALICE, &reaction).await;
    world.works().await;
    assert_eq!(world.acts().await, ["take ended withdrawn", "take ended withdrawn"]);
    assert!(world.taken_by(&incident).await.is_empty() && world.answers().await.is_empty());
    // A command that is done stays done when its text is removed.
    let command = world.says(ALICE, "!ack", &card).await;
    world.works().await;
    world.redacts(ALICE, &command).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
}

#[tokio::test]
async fn what_is_over_cannot_be_taken() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.notify("A", &[], IncidentState::Resolved).await;
    world.rooms.power(ALICE, 50);
    world.says(ALICE, "!ack", &card).await;
    world.works().await;
    assert_eq!(world.answers().await, ["❌ This is over: nothing is left to be taken"]);
    assert!(world.taken_by(&incident).await.is_empty());
}

#[tokio::test]
async fn while_the_homeserver_is_away_acts_wait() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    *world.rooms.is_down.lock().expect("a lock") = true;
    world.says(ALICE, "!ack", &card).await;
    world.works().await;
    assert!(world.taken_by(&incident).await.is_empty() && world.answers().await.is_empty());
    *world.rooms.is_down.lock().expect("a lock") = false;
    world.clock.advance(Duration::from_secs(5));
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
}

#[tokio::test]
async fn questions_are_answered_in_words() {
    let mut world = World::new().await;
    let (_, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.rooms.power(BOB, 0);
    world.says(ALICE, "!ack on it", &card).await;
    world.works().await;
    for question in ["!why", "!help", "!logs", "!graph 5", "!sielnce"] {
        world.says(BOB, question, &card).await;
        world.clock.advance(Duration::from_secs(11));
        world.works().await;
    }
    for question in ["!alerts", "!silences", "!help", "!ack", "!nonsense"] {
        world.event(BOB, in_room(question)).await;
        world.clock.advance(Duration::from_secs(11));
        world.works().await;
    }
    let expected = [
        "✅",
        "ℹ️ A: 2 firing",
        "ℹ️ Reply to a card, or write in its thread; !why shows what is known",
        "❌ Logs are not configured",
        "❌ Graphs are not configured",
        "❌ There is no !sielnce; did you mean !silence?",
        "ℹ️ 1 incident is open here",
        "🟢 No silence of what is open here is known",
        "ℹ️ Reply to a card, or write in its thread; !why shows what is known",
        "❌ Reply to a card with this, or write it in the card's thread",
    ];
    assert_eq!(world.answers().await, expected, "commands of others are not answered");
    let why = &world.contents().await[1];
    let body = why["body"].as_str().expect("text");
    for words in ["taken by Alice <b> (@alice:example.org)", "on it", "A a: firing since 18:20 UTC", "A b:"] {
        assert!(body.contains(words), "{words}\n{body}");
    }
    assert!(why["formatted_body"].as_str().expect("HTML").contains("Alice &#60;b&#62;"), "{why}");
    assert_eq!(why["m.relates_to"]["event_id"], card.as_str());
    assert_eq!(why["msgtype"], "m.notice");
}

/// The tasks as they run in the receiver, woken by what is asked for.
#[tokio::test]
async fn the_workers_wake_up_for_what_is_asked() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    let stop = tokio_util::sync::CancellationToken::new();
    let workers = tokio::spawn(worker::run(world.context.clone(), stop.clone()));
    for (command, taken) in [("!ack", 1), ("!unack", 0), ("!ack", 1)] {
        world.says(ALICE, command, &card).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while world.taken_by(&incident).await.len() != taken {
            assert!(tokio::time::Instant::now() < deadline, "{command}: {:?}", world.acts().await);
            tokio::task::yield_now().await;
        }
    }
    stop.cancel();
    workers.await.expect("no panic");
    assert_eq!(world.answers().await, ["✅", "✅", "✅"]);
}
