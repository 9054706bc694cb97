//! What a route and the display settings make of the same notifications: updates, mentions, words, times, rooms.

use std::time::Duration;

use crate::harness::{Alert, DEADLINE, Payload, Receiver, ReceiverBuilder, Room, RoomView, Scene, at, view::mentions};

const QUIET: Duration = Duration::from_secs(2);

/// One alert, one more, and all of them over.
async fn a_short_incident(receiver: &Receiver, route: &str, room: &Room) -> RoomView {
    let group = || Payload::group("DiskFull");
    receiver.accept(route, group().firing(&["n01"])).await;
    room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.accept(route, group().firing(&["n01", "n02"])).await;
    room.wait_for("the second alert", DEADLINE, |view| view.cards().len() == 1 && view.card().has("2 firing")).await;
    receiver.accept(route, group().resolved(&["n01", "n02"])).await;
    let green = |view: &RoomView| view.cards().len() == 1 && view.card().has("RESOLVED");
    room.wait_for("green", DEADLINE, green).await;
    room.assert_settled("and nothing more", QUIET, green).await
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_say_news_in_the_thread_as_replies_or_not_at_all() {
    let scene = Scene::new().await;
    let (replies, edits) = (scene.another_room("replies").await, scene.another_room("edits").await);
    let receiver = ReceiverBuilder::of(&scene)
        .route("replies", &[&replies.id])
        .set("routes.replies.updates", "reply")
        .route("edits", &[&edits.id])
        .set("routes.edits.updates", "edit")
        .start()
        .await;
    let (thread, reply, edit) = tokio::join!(
        a_short_incident(&receiver, "default", &scene.room),
        a_short_incident(&receiver, "replies", &replies),
        a_short_incident(&receiver, "edits", &edits),
    );
    let said = |messages: Vec<crate::harness::view::Message>| {
        messages.iter().map(|said| (said.msgtype().to_owned(), said.first_line().to_owned())).collect::<Vec<_>>()
    };
    let expected = |kind: &str, line: &str| (kind.to_owned(), line.to_owned());
    let both = [
        expected("m.text", "🟠 DiskFull: new on n02 — summary of n02"),
        expected("m.notice", "🟢 DiskFull: resolved after 2 min"),
    ];
    let root = |view: &RoomView| view.card().event_id().to_owned();
    // The answers of a thread's messages are for clients that know no threads.
    assert_eq!(said(thread.thread_of(&root(&thread))), both);
    assert_eq!(said(thread.replies_to(&root(&thread))), []);
    assert_eq!(said(reply.replies_to(&root(&reply))), both);
    assert_eq!(said(reply.thread_of(&root(&reply))), []);
    assert_eq!(edit.by_bot().count(), 1 + edit.card().edits, "a card and its edits:\n{}", edit.text());
    for view in [thread, reply, edit] {
        assert!((1..=2).contains(&view.card().edits), "{}", view.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_ring_for_the_first_post_and_new_severe_alerts_alone() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene)
        .toml("[routes.default]\nremind_after = \"1s\"\nmentions = { min_severity = \"critical\", room = true }")
        .set("routes.default.mentions.users", vec![scene.sre.user_id.clone()])
        .start()
        .await;
    let all = vec![scene.sre.user_id.as_str(), "@room"];
    let group = || Payload::group("DiskFull").alert(Alert::firing("n01").critical());
    receiver.accept("default", group()).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    assert_eq!(view.card().mentions(), Some(all.clone()), "the first post");
    let root = view.card().event_id().to_owned();
    let said = async |count: usize| {
        let view = scene.room.wait_for("a reply", DEADLINE, |view| view.thread_of(&root).len() == count).await;
        view.thread_of(&root).remove(count - 1)
    };
    let mentioned = |message: &crate::harness::view::Message| {
        message.mentions().expect("m.mentions").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };

    let warned = || group().firing(&["n02"]);
    receiver.accept("default", warned()).await;
    let newcomer = said(1).await;
    assert!(newcomer.has("new on n02") && mentioned(&newcomer).is_empty(), "{}", newcomer.body());
    receiver.accept("default", warned().alert(Alert::firing("n03").critical())).await;
    let newcomer = said(2).await;
    assert!(newcomer.has("new on n03"), "{}", newcomer.body());
    assert_eq!(mentioned(&newcomer), all, "a new critical alert");
    receiver.accept("default", warned().alert(Alert::resolved("n03").critical())).await;
    let partly = said(3).await;
    assert!(partly.has("n03 resolved") && mentioned(&partly).is_empty(), "{}", partly.body());

    let silent = |view: &RoomView| view.thread_of(&root).len() == 3;
    scene.room.assert_settled("silent for more than a second", Duration::from_secs(3), silent).await;
    receiver.accept("default", warned()).await;
    let reminder = said(4).await;
    assert!(reminder.has("still firing") && mentioned(&reminder).is_empty(), "{}", reminder.body());

    receiver
        .accept("default", Payload::group("DiskFull").alert(Alert::resolved("n01").critical()).resolved(&["n02"]))
        .await;
    assert!(mentioned(&said(5).await).is_empty());
    let view = scene.room.wait_for("green", DEADLINE, |view| view.card().has("RESOLVED")).await;
    let edits = view.edits_of(&root);
    assert!(!edits.is_empty());
    for edit in edits {
        assert_eq!(mentions(&edit.content), Some(vec![]), "an edit makes no phone ring");
    }

    receiver.accept("default", Payload::group("Other").firing(&["n01"])).await;
    let view = scene.room.wait_for("a card", DEADLINE, |view| view.cards().len() == 2).await;
    assert_eq!(view.cards()[1].mentions(), Some(vec![]), "a warning's first post");
}

#[tokio::test(flavor = "multi_thread")]
async fn severities_and_times_are_told_as_configured() {
    let scene = Scene::new().await;
    let severities = r##"[display]
        timezone = "Asia/Kolkata"
        severities = [
            { names = ["page", "p1"], emoji = "🚨", word = "PAGE", color = "#aa0011" },
            { names = ["ticket"], emoji = "🎫", word = "TICKET" },
        ]
        [routes.default]
        mentions = { min_severity = "page", room = true }"##;
    let receiver = ReceiverBuilder::of(&scene).toml(severities).start().await;
    let began = at(0).to_zoned(jiff::tz::TimeZone::get("Asia/Kolkata").expect("a zone"));
    let since = format!("since {}", began.strftime("%H:%M IST"));
    for (severity, line, mentions) in [
        ("P1", "🚨 PAGE Of-P1 — summary of n01", vec!["@room"]),
        ("ticket", "🎫 TICKET Of-ticket — summary of n01", vec![]),
        ("critical", "⚪ CRITICAL Of-critical — summary of n01", vec![]),
    ] {
        let group = format!("Of-{severity}");
        let alert = Alert::firing("n01").label("severity", severity);
        receiver.accept("default", Payload::group(&group).alert(alert)).await;
        let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards_with(&group).len() == 1).await;
        let card = &view.cards_with(&group)[0];
        assert_eq!((card.first_line(), card.mentions()), (line, Some(mentions)));
        assert!(card.has(&since), "{since} in {}", card.body());
        assert_eq!(card.formatted_body().contains("data-mx-color=\"#aa0011\""), severity == "P1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rooms_on_a_route_show_one_incident_each_with_a_card_of_its_own() {
    let scene = Scene::new().await;
    let (second, other) = (scene.another_room("second").await, scene.another_room("other").await);
    let receiver = ReceiverBuilder::new(&scene.bot)
        .route("default", &[&scene.room.id, &second.id])
        .route("other", &[&other.id])
        .start()
        .await;
    let firing = || Payload::group("DiskFull").firing(&["n01"]);
    receiver.accept("default", firing()).await;
    let mut roots = Vec::new();
    for room in [&scene.room, &second] {
        let view = room.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
        roots.push(view.card().event_id().to_owned());
    }
    receiver.wait_metric("incidents_open", &[("route", "default")], |open| open == 1.0).await;
    assert_eq!(receiver.metric("notifications_total", &[("outcome", "opened")]).await, 1.0);

    // The same group on another route is an incident of its own, in that route's room alone.
    receiver.accept("other", firing()).await;
    other.wait_for("a card", DEADLINE, |view| view.cards().len() == 1).await;
    receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
    for (room, root) in [&scene.room, &second].into_iter().zip(&roots) {
        let green =
            |view: &RoomView| view.cards().len() == 1 && view.card().has("RESOLVED") && view.thread_of(root).len() == 1;
        room.wait_for("green, with a notice", DEADLINE, green).await;
        room.assert_settled("and nothing more", QUIET, green).await;
    }
    assert!(other.view().await.card().has("WARNING"), "the other route got nothing of the end");
    receiver.wait_metric("incidents_open", &[("route", "other")], |open| open == 1.0).await;
}
