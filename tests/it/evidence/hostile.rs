//! Loki and Prometheus that hang, refuse, lie, redirect or never end.

use std::time::Duration;

use jiff::Timestamp;

use super::{all_from, card, card_after, graphs, group, is_complete, logs, pieces, shows};
use crate::{
    harness::{DEADLINE, Manner, ReceiverBuilder, Room, RoomView, Scene, Source},
    memory::{MOST_KIB, Watch},
};

/// For a card, on a loaded machine. Behind a piece of evidence that hangs it would take ten.
const IN_TIME: Duration = Duration::from_secs(9);
/// Of one answer of 200 MiB: the 8 that are read, and what the kernel keeps on the way.
const MOST_TAKEN: usize = 48 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_source_does_cards_come_as_ever_and_memory_is_bounded() {
    let (scene, source, elsewhere) = (Scene::new().await, Source::start().await, Source::start().await);
    let cases = [
        (Manner::Well, "sent"),
        (Manner::Hangs, "timeout"),
        (Manner::HangsInTheBody, "timeout"),
        (Manner::Endless, "failed"),
        (Manner::Lies, "failed"),
        (Manner::Nested, "failed"),
        (Manner::Zipped, "failed"),
        (Manner::Redirects(format!("{}/elsewhere", elsewhere.url())), "failed"),
        (Manner::Status(500, "\u{1b}[31m<b>out of order</b>".repeat(10_000)), "failed"),
        (Manner::Status(429, "too many".to_owned()), "failed"),
    ];
    // A room for each, since a fourth card within ten seconds is a storm.
    let mut rooms: Vec<Room> = Vec::new();
    let mut builder = ReceiverBuilder::of(&scene).toml(&all_from(&source));
    for n in 0..cases.len() {
        let room = scene.another_room(&format!("room {n}")).await;
        builder = builder.route(&format!("r{n}"), &[&room.id]).toml(&shows(&format!("r{n}")));
        rooms.push(room);
    }
    let mut receiver = builder.start().await;
    let watch = Watch::on(&receiver);
    for (n, (manner, outcome)) in cases.iter().enumerate() {
        let (route, name, room) = (format!("r{n}"), format!("Case{n}"), &rooms[n]);
        let (asked, taken) = (source.asked().len(), source.taken());
        source.answers(manner.clone());
        for which in ["First", "Second"] {
            let (name, since) = (format!("{which}{name}"), Timestamp::now());
            receiver.accept(&route, group(&name)).await;
            let (_, took) = card_after(room, &name, since).await;
            assert!(took < IN_TIME, "{manner:?}: {name} after {took:?}\n{}", receiver.log_tail());
        }
        for kind in ["logs", "graph"] {
            let labels = [("route", route.as_str()), ("kind", kind)];
            let ended = async |count: f64| receiver.wait_metric("evidence_total", &labels, |n| n >= count).await;
            assert_eq!(ended(2.0).await, 2.0);
            let labels = [("route", route.as_str()), ("kind", kind), ("outcome", *outcome)];
            assert_eq!(receiver.metric("evidence_total", &labels).await, 2.0, "{manner:?}\n{}", receiver.log_tail());
        }
        let expected = if *outcome == "sent" { 4 } else { 0 };
        assert_eq!(pieces(&room.view().await), expected, "{manner:?}");
        // The graph of the whole expression may be asked for where that of its left side is not to be had.
        let (asked, taken) = (source.asked().len() - asked, source.taken() - taken);
        assert!((4..=6).contains(&asked), "{manner:?}: asked {asked} times");
        assert!(taken / asked < MOST_TAKEN, "{manner:?}: {taken} bytes in {asked} answers");
    }
    assert!(elsewhere.asked().is_empty(), "a redirect was followed: {:?}", elsewhere.asked());
    assert!(source.taken() > 0, "an answer without end was begun");
    assert_eq!(receiver.exit_status(), None);
    let peak = watch.end();
    eprintln!("at most {} MiB held", peak / 1024);
    assert!(peak < MOST_KIB, "{} MiB", peak / 1024);
    let health = receiver.get("/healthz").await.json();
    assert_eq!(health["status"], "ok", "{health:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_leaves_the_lane_to_other_cards_and_the_receiver_to_its_end() {
    let (scene, source) = (Scene::new().await, Source::start().await);
    source.answers(Manner::Hangs);
    let mut receiver = super::receiver(&scene, &source).await;
    for (n, name) in ["One", "Two", "Three"].iter().enumerate() {
        let since = Timestamp::now();
        receiver.accept("default", group(name)).await;
        let (_, took) = card_after(&scene.room, name, since).await;
        assert!(took < IN_TIME, "{n}: {took:?}");
    }
    receiver.accept("default", group("One").json()).await;
    let ended = Timestamp::now();
    receiver.accept("default", crate::harness::Payload::group("One").alert(super::alert("n01").ended(ended))).await;
    let green = |view: &RoomView| card(view, "One").is_some_and(|card| card.first_line().starts_with('🟢'));
    scene.room.wait_for("the first card turns green", DEADLINE, green).await;
    // What was being made is not waited for.
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    assert!(!receiver.logs().contains("shutdown timed out"), "{}", receiver.log_tail());
    source.answers(Manner::Well);
    receiver.spawn();
    receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    receiver.accept("default", group("Four")).await;
    scene.room.wait_for("evidence again", DEADLINE, |view| is_complete(view, "Four")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_refuses_connections_costs_nothing() {
    let scene = Scene::new().await;
    let (loki, source) = (Source::nowhere(), Source::start().await);
    let toml = format!("{}{}", super::sources(&loki, &source.url()), shows("default"));
    let receiver = ReceiverBuilder::of(&scene).toml(&toml).start().await;
    let since = Timestamp::now();
    receiver.accept("default", group("DiskFull")).await;
    let (root, took) = card_after(&scene.room, "DiskFull", since).await;
    assert!(took < IN_TIME, "{took:?}");
    // The other kind does not suffer from it.
    let shown = |view: &RoomView| graphs(view, root.event_id()).len() == 1;
    let view = scene.room.assert_settled("the graph alone", super::QUIET, shown).await;
    assert!(logs(&view, root.event_id()).is_empty());
    let labels = [("kind", "logs"), ("outcome", "failed")];
    receiver.wait_metric("evidence_total", &labels, |count| count == 1.0).await;
    receiver.wait_log(&["INFO", "evidence not shown", "kind=\"logs\"", "failed"]).await;
}
