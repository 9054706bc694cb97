//! What is heard in a room, and what is not.

use super::*;

#[tokio::test]
async fn nobody_is_heard_where_nothing_is_allowed() {
    let mut world = World::with("[routes.default]\n").await;
    let (_, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 100);
    world.says(ALICE, "!ack", &card).await;
    world.reacts(ALICE, "👀", &card).await;
    world.event(ALICE, in_room("!help")).await;
    world.works().await;
    assert!(world.acts().await.is_empty());
    assert_eq!(world.position().await, None);
}

#[tokio::test]
async fn what_is_no_command_of_ours_is_nothing() {
    let mut world = World::new().await;
    let (_, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 100);
    for body in ["ack", "I would !ack this", "!!!", ""] {
        world.says(ALICE, body, &card).await;
    }
    world.says(ALICE, "!ack", "$thread-of-others").await;
    world.event(ALICE, in_room("!frobnicate")).await;
    world.reacts(ALICE, "👍", &card).await;
    world.reacts(ALICE, "👀", "$message-of-others").await;
    world.redacts(ALICE, "$message-of-others").await;
    world.event(ALICE, RoomEventContent::Other).await;
    world.reacts("@bot:example.org", "👀", &card).await;
    world.works().await;
    assert!(world.acts().await.is_empty(), "{:?}", world.acts().await);
    // The last one that was stored at once was the first.
    assert_eq!(world.position().await.as_deref(), Some("$event-1"));
    world.clock.advance(Duration::from_secs(31));
    world.listener.tick().await.expect("stored");
    assert_eq!(world.position().await.as_deref(), Some("$event-11"));
}

#[tokio::test]
async fn an_event_of_another_room_is_not_acted_on() {
    let mut world = World::with("[actions]\n[routes.other]\nrooms = [\"!elsewhere:example.org\"]\n").await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 100);
    let event = world.make(ALICE, in_thread("!ack", &card));
    let reaction = RoomEventContent::Reaction { target: card, key: "👀".to_owned() };
    let reaction = world.make(ALICE, reaction);
    let elsewhere = RoomAddress::parse("!elsewhere:example.org").expect("a room");
    let events = RoomEvents {
        room: elsewhere,
        room_id: "!elsewhere:example.org".to_owned(),
        is_encrypted: false,
        events: vec![event, reaction],
        gap: false,
    };
    world.listener.start().await.expect("read");
    world.listener.hear(events).await.expect("heard");
    world.works().await;
    assert!(world.acts().await.is_empty() && world.taken_by(&incident).await.is_empty());
}

/// Another address of the room, and nobody may act there: it is open all the same.
#[tokio::test]
async fn lists_name_what_is_open_on_all_routes_of_a_room() {
    let toml = format!(
        "[matrix.aliases]\n\"#ops:example.org\" = {ROOM:?}\n[routes.other]\nrooms = [\"#ops:example.org\"]\n\
         [routes.other.actions]\n"
    );
    let mut world = World::with(&toml).await;
    two_pods(&world).await;
    world.rooms.power(ALICE, 0);
    let event = world.make(ALICE, in_room("!alerts"));
    let alias = RoomAddress::parse("#ops:example.org").expect("an alias");
    let events =
        RoomEvents { room: alias, room_id: ROOM.to_owned(), is_encrypted: false, events: vec![event], gap: false };
    world.listener.hear(events).await.expect("heard");
    let other = RouteName::parse("other").expect("a route");
    worker::carry_out_due(&world.context, &other).await.expect("carried out");
    assert_eq!(world.answers().await, ["ℹ️ 1 incident is open here"]);
}

/// A receiver that is new to an old alert says what its card says, also of alerts that the list has not read.
#[tokio::test]
async fn a_list_says_since_when_what_fires_has_fired() {
    let mut world = World::new().await;
    let mut alerts: Vec<Alert> = (1..=6)
        .map(|number| alert(&number.to_string(), &[("alertname", "A"), ("pod", &format!("p{number}"))]))
        .collect();
    (alerts[0].state, alerts[0].starts_at) = (AlertState::Resolved, NOW.minus(Duration::from_hours(6)));
    alerts[5].starts_at = NOW.minus(Duration::from_hours(2));
    world.notify("A", &alerts, IncidentState::Firing).await;
    world.rooms.power(ALICE, 0);
    world.event(ALICE, in_room("!alerts")).await;
    world.works().await;
    let body = world.contents().await[0]["body"].as_str().expect("a text").to_owned();
    assert!(body.contains("5 firing, 1 resolved, since 16:20"), "{body}");
}

#[tokio::test]
async fn an_event_acts_once_however_often_it_comes() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    let event = world.make(ALICE, in_thread("!ack", &card));
    for _ in 0..2 {
        world.hears(vec![event.clone()], false).await;
    }
    let mut world = world.restarted("[actions]\n").await;
    world.hears(vec![event], false).await;
    world.works().await;
    assert_eq!(world.acts().await, ["take live done"]);
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
}

#[tokio::test]
async fn what_was_missed_is_read_from_where_it_was_left() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.event(ALICE, RoomEventContent::Other).await;
    let mut world = world.restarted("[actions]\n").await;
    let missed = |events, gap| RoomEvents { room: room(), room_id: ROOM.to_owned(), is_encrypted: false, events, gap };
    let fresh = RoomEvent {
        event_id: "$fresh".to_owned(),
        age: Some(Duration::from_mins(9)),
        ..world.make(ALICE, in_thread("!ack", &card))
    };
    let old = RoomEvent {
        event_id: "$old".to_owned(),
        age: Some(Duration::from_mins(11)),
        ..world.make(ALICE, in_thread("!silence", &card))
    };
    world.rooms.missed.lock().expect("a lock").extend([Err(rooms::down()), Ok(missed(vec![old, fresh], true))]);
    world.listener.start().await.expect("read");
    world.listener.tick().await.expect("tried");
    // What comes meanwhile is heard, but the place stays.
    world.next_event = 100;
    let now = world.says(ALICE, "!why", &card).await;
    world.works().await;
    assert_eq!(world.position().await.as_deref(), Some("$event-1"));
    world.clock.advance(Duration::from_secs(5));
    world.listener.tick().await.expect("read");
    world.works().await;
    assert_eq!(*world.rooms.read_from.lock().expect("a lock"), ["$event-1", "$event-1"]);
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
    assert_eq!(world.alertmanager.posts(), 0, "what is old is said again");
    let answers = world.answers().await;
    let too_late = "❌ Too late: that was sent over 10 minutes ago. Say it again";
    let cut = "ℹ️ Not all messages of the last time were read here; repeat commands without an answer";
    for expected in [too_late, cut, "✅"] {
        assert_eq!(answers.iter().filter(|answer| *answer == expected).count(), 1, "{expected}: {answers:?}");
    }
    assert_eq!(world.position().await.as_deref(), Some("$fresh"));
    assert_eq!(now, "$event-101");
    // After a gap as well.
    let late = RoomEvent { event_id: "$late".to_owned(), ..world.make(ALICE, in_thread("!unack", &card)) };
    world.rooms.missed.lock().expect("a lock").push_back(Ok(missed(vec![late], false)));
    let next = world.make(ALICE, RoomEventContent::Other);
    world.hears(vec![next], true).await;
    world.works().await;
    assert!(world.taken_by(&incident).await.is_empty());
    assert_eq!(world.rooms.read_from.lock().expect("a lock").last().map(String::as_str), Some("$fresh"));
}

#[tokio::test]
async fn in_a_room_that_was_never_read_nothing_counts_from_before() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.listener.start().await.expect("read");
    world.clock.advance(Duration::from_mins(1));
    let of = |age, id: &str, event: RoomEvent| RoomEvent { age, event_id: id.to_owned(), ..event };
    let command = world.make(ALICE, in_thread("!ack", &card));
    let before = of(Some(Duration::from_mins(2)), "$before", command.clone());
    let unknown = of(None, "$unknown", command.clone());
    world.hears(vec![before, unknown], false).await;
    world.works().await;
    assert!(world.acts().await.is_empty());
    world.hears(vec![of(Some(Duration::from_secs(30)), "$after", command)], false).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
    assert!(world.rooms.read_from.lock().expect("a lock").is_empty());
}

#[tokio::test]
async fn the_first_command_of_a_room_counts_also_if_nobody_was_there_to_hear_it() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.listener.start().await.expect("read");
    let mut world = world.restarted("[actions]\n").await;
    world.clock.advance(Duration::from_mins(5));
    let command = world.make(ALICE, in_thread("!ack", &card));
    let at = |minutes, id: &str| RoomEvent {
        event_id: id.to_owned(),
        age: Some(Duration::from_mins(minutes)),
        ..command.clone()
    };
    // The homeserver does not know the place, so that the reading ends at a bound.
    let events = vec![at(6, "$before-it-was-allowed"), at(1, "$while-it-was-down")];
    let missed = RoomEvents { room: room(), room_id: ROOM.to_owned(), is_encrypted: false, events, gap: true };
    world.rooms.missed.lock().expect("a lock").push_back(Ok(missed));
    world.listener.start().await.expect("read");
    world.listener.tick().await.expect("read");
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
    assert_eq!((world.acts().await.len(), world.answers().await), (1, vec!["✅".to_owned()]));
}

#[tokio::test]
async fn what_cannot_be_decrypted_waits_for_its_key() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    *world.rooms.is_encrypted.lock().expect("a lock") = true;
    world.rooms.power(ALICE, 50);
    world.event(ALICE, RoomEventContent::Other).await;
    let [readable, never] = ["$readable", "$never"]
        .map(|id| RoomEvent { event_id: id.to_owned(), ..world.make(ALICE, RoomEventContent::Undecryptable) });
    let content = in_thread("!ack", &card);
    let decrypted = RoomEvent { trust: Trust::Signed, content, ..readable.clone() };
    world.hears(vec![readable, never], false).await;
    world.clock.advance(Duration::from_secs(31));
    world.listener.tick().await.expect("tried");
    let position = world.position().await;
    assert_eq!(position.as_deref(), Some("$event-1"), "a restart would read them again");
    world.rooms.decrypted.lock().expect("a lock").insert("$readable".to_owned(), decrypted);
    world.clock.advance(Duration::from_secs(16));
    world.listener.tick().await.expect("tried");
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
    world.clock.advance(Duration::from_mins(10));
    world.listener.tick().await.expect("tried");
    world.works().await;
    assert_eq!(
        world.answers().await,
        ["✅", "❌ This message cannot be decrypted here; if it was a command, send it again"]
    );
    world.clock.advance(Duration::from_secs(31));
    world.listener.tick().await.expect("stored");
    assert_eq!(world.position().await.as_deref(), Some("$never"));
}

/// A send that the homeserver has not answered: its event is in the room, and its id not known here.
#[tokio::test]
async fn what_is_said_on_an_event_waits_for_its_send_to_be_answered() {
    let mut world = World::new().await;
    let incident = world.notify("A", &[alert("1", &[("alertname", "A")])], IncidentState::Firing).await;
    world.rooms.power(ALICE, 50);
    world.event(ALICE, RoomEventContent::Other).await;
    let (_, op) = world.send_card().await;
    world.reacts(ALICE, "✅", "$card-A").await;
    world.reacts(BOB, "✅", "$talk").await;
    let reply = RoomEventContent::Text { body: "!ack".to_owned(), thread: None, reply_to: Some("$card-A".to_owned()) };
    let last = world.event(ALICE, reply).await;
    world.ticks(Duration::from_secs(31)).await;
    assert_eq!(
        (world.acts().await.len(), world.position().await.as_deref()),
        (0, Some("$event-1")),
        "a restart reads on there"
    );
    // Set aside, it is looked for later.
    world.store().park(&op.txn_id, "no answer", world.clock.now().plus(Duration::from_mins(1))).await.expect("parked");
    world.ticks(Duration::from_secs(1)).await;
    assert!(world.acts().await.is_empty());

    world.answered(&op, "A").await;
    world.ticks(Duration::from_secs(1)).await;
    world.works().await;
    assert_eq!((world.acts().await.len(), world.taken_by(&incident).await), (2, vec![ALICE.to_owned()]));
    assert_eq!(world.answers().await, ["✅"], "the command's mark");
    world.ticks(Duration::from_secs(31)).await;
    assert_eq!(world.position().await, Some(last));
}

#[tokio::test]
async fn what_waits_for_a_send_asks_for_nothing_once_it_is_taken_back_or_too_old() {
    let mut world = World::new().await;
    let incident = world.notify("A", &[alert("1", &[("alertname", "A")])], IncidentState::Firing).await;
    world.rooms.power(ALICE, 50);
    let (_, op) = world.send_card().await;
    let reaction = world.reacts(ALICE, "✅", "$card-A").await;
    let taken_back = world.redacts(ALICE, &reaction).await;
    // Once the place may go on, and once it is stored.
    world.ticks(Duration::from_secs(31)).await;
    assert_eq!(world.position().await, Some(taken_back));
    let late = world.reacts(ALICE, "👀", "$card-A").await;
    world.ticks(Duration::from_mins(10)).await;
    assert_eq!(world.position().await, Some(late));
    world.answered(&op, "A").await;
    world.ticks(Duration::from_secs(1)).await;
    world.works().await;
    assert!(world.acts().await.is_empty() && world.taken_by(&incident).await.is_empty());
}

/// Talk goes on while sends are open, and commands in it that are about no unknown event do not wait.
#[tokio::test]
async fn what_does_not_depend_on_an_unknown_event_does_not_wait() {
    let mut world = World::new().await;
    let (incident, card) = two_pods(&world).await;
    world.notify("B", &[alert("3", &[("alertname", "B")])], IncidentState::Firing).await;
    let (_, op) = world.send_card().await;
    world.rooms.power(ALICE, 50);
    let to_talk = |body: &str, thread: Option<&str>| RoomEventContent::Text {
        body: body.to_owned(),
        thread: thread.map(ToOwned::to_owned),
        reply_to: Some("$talk".to_owned()),
    };
    world.event(ALICE, to_talk("!alerts", None)).await;
    world.event(ALICE, to_talk("!ack", Some(&card))).await;
    world.works().await;
    assert_eq!(world.taken_by(&incident).await, [ALICE]);
    assert_eq!(world.answers().await, ["ℹ️ 2 incidents are open here", "✅"]);
    // What might be about one alert waits, and at last is said to be late, or to be about nothing.
    world.event(ALICE, to_talk("!silence", Some(&card))).await;
    world.event(ALICE, to_talk("!unack", None)).await;
    world.works().await;
    assert_eq!(world.acts().await.len(), 2);
    world.ticks(Duration::from_secs(601)).await;
    world.works().await;
    let late = "❌ Too late: that was sent over 10 minutes ago. Say it again";
    let nowhere = "❌ Reply to a card with this, or write it in the card's thread";
    assert_eq!(world.answers().await[2..], [late, nowhere]);
    assert_eq!(world.alertmanager.posts(), 0);
    world.answered(&op, "B").await;
}

#[tokio::test]
async fn of_one_sender_only_so_many_wait() {
    let mut world = World::new().await;
    world.notify("A", &[alert("1", &[("alertname", "A")])], IncidentState::Firing).await;
    world.rooms.power(ALICE, 50);
    let (_, op) = world.send_card().await;
    world.reacts(ALICE, "✅", "$card-A").await;
    for n in 0..250 {
        world.reacts(BOB, "✅", &format!("$talk-{n}")).await;
    }
    world.answered(&op, "A").await;
    world.ticks(Duration::from_secs(1)).await;
    world.works().await;
    assert_eq!(world.acts().await, ["take live done"]);
}

/// Heard while the room could not be read, and read once more when it could.
#[tokio::test]
async fn a_place_that_catches_up_does_not_pass_what_still_waits() {
    let mut world = World::new().await;
    world.notify("A", &[alert("1", &[("alertname", "A")])], IncidentState::Firing).await;
    world.event(ALICE, RoomEventContent::Other).await;
    let _ = world.send_card().await;
    let reaction = RoomEventContent::Reaction { target: "$card-A".to_owned(), key: "✅".to_owned() };
    let (reaction, talk) = (world.make(ALICE, reaction), world.make(BOB, RoomEventContent::Other));
    let missed = RoomEvents {
        room: room(),
        room_id: ROOM.to_owned(),
        is_encrypted: false,
        events: vec![reaction.clone(), talk],
        gap: false,
    };
    world.rooms.missed.lock().expect("a lock").extend([Err(rooms::down()), Ok(missed)]);
    world.hears(vec![reaction], true).await;
    world.ticks(Duration::from_secs(5)).await;
    world.ticks(Duration::from_secs(31)).await;
    assert_eq!(world.rooms.read_from.lock().expect("a lock").len(), 2);
    assert_eq!(world.position().await.as_deref(), Some("$event-1"));
}

#[tokio::test]
async fn chatter_does_not_fill_the_store() {
    let mut world = World::new().await;
    let (_, card) = two_pods(&world).await;
    world.rooms.power(ALICE, 50);
    world.rooms.power(BOB, 0);
    for _ in 0..100 {
        world.says(ALICE, "!why", &card).await;
        world.says(BOB, "!ack", &card).await;
    }
    assert!(world.acts().await.len() < 40, "{}", world.acts().await.len());
    world.works().await;
    assert_eq!(world.answers().await.len(), 2, "one question, one refusal");
    for _ in 0..100 {
        world.says(BOB, "!ack", &card).await;
    }
    assert!(world.acts().await.len() < 40);
    for _ in 0..8 {
        world.clock.advance(Duration::from_secs(10));
        world.works().await;
    }
    assert_eq!(world.answers().await.len(), 8, "those that waited for their turn");
}
