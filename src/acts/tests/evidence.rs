//! `!logs` and `!graph`, against scripted sources.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{kills::killed_after, *};
use crate::{
    evidence::{
        NoEvidence,
        tests::{
            linked,
            scripted::{Fate, refused},
        },
    },
    model::Reason,
};

const TOML: &str = "[actions]\nallow = { power = 50 }\n\
    [evidence]\nloki = { url = \"http://loki.example.org\" }\nprometheus = { url = \"http://prometheus.example.org\" }\n";

/// `A` fires on two pods, both with links.
async fn pods(world: &World) -> (IncidentId, String) {
    let alerts = ["1", "2"].map(|pod| linked(alert(pod, &[("alertname", "A"), ("pod", pod)])));
    world.fires("A", &alerts).await
}

async fn asks(world: &mut World, command: &str, card: &str) -> Value {
    let event = world.says(ALICE, command, card).await;
    world.works().await;
    // A room is answered one question in 10 s.
    world.clock.advance(Duration::from_secs(11));
    let answer = world.contents().await.pop().expect("an answer");
    let relation = &answer["m.relates_to"];
    assert_eq!((&relation["event_id"], &relation["m.in_reply_to"]["event_id"]), (&card.into(), &event.into()));
    answer
}

#[tokio::test]
async fn a_question_for_evidence_is_answered_with_it() {
    let mut world = World::with(TOML).await;
    world.rooms.power(ALICE, 0);
    let (_, card) = pods(&world).await;
    let graph = asks(&mut world, "!graph", &card).await;
    assert_eq!((&graph["msgtype"], &graph["url"]), (&"m.image".into(), &"mxc://example.org/picture".into()));
    let lines = asks(&mut world, "!logs", &card).await;
    assert!(lines["msgtype"] == "m.notice" && lines["body"].as_str().expect("text").contains("second line"), "{lines}");
    for (command, expected) in [("!logs 20", 20), ("!logs 50", 50), ("!logs 500", 50)] {
        asks(&mut world, command, &card).await;
        let wanted = world.evidence.logs_wanted.lock().expect("a lock").clone();
        assert_eq!((wanted[0].lines, wanted.last().expect("one").lines), (10, expected), "{command}");
    }
    assert_eq!((world.count("graph", "done"), world.count("logs", "done")), (1, 4));
}

#[tokio::test]
async fn refusals_say_what_would_help() {
    let failed = Fate::Fails(NoEvidence::Failed("loki.example.org: 400 parse error at line 1, col 2".to_owned()));
    let upload = |reason| Fate::Fails(NoEvidence::NotUploaded(refused(reason, "413 M_TOO_LARGE")));
    for (command, fate, of_upload, words) in [
        ("!logs", failed, Fate::Works, ["❌ Loki gave nothing to show", "parse error at line 1, col 2"]),
        ("!logs", Fate::Fails(NoEvidence::TimedOut), Fate::Works, ["❌ Loki did not answer within 10 s", "narrow"]),
        ("!graph", Fate::Fails(NoEvidence::TimedOut), Fate::Works, ["❌ Prometheus did not answer within 10 s", ""]),
        ("!graph", Fate::Panics, Fate::Works, ["❌ Prometheus gave nothing to show", "its log says more"]),
        ("!graph", Fate::Works, upload(Reason::TooLarge), ["❌ The picture is too large for the homeserver", "413"]),
        ("!graph", Fate::Works, upload(Reason::RateLimited), ["❌ The homeserver limits uploads for now", "minute"]),
    ] {
        let mut world = World::with(TOML).await;
        world.rooms.power(ALICE, 0);
        let (_, card) = pods(&world).await;
        world.evidence.then(&[fate]);
        world.evidence.then_uploads(&[of_upload]);
        let answer = asks(&mut world, command, &card).await;
        let body = answer["body"].as_str().expect("text");
        assert!(body.starts_with(words[0]) && body.contains(words[1]), "{body}");
        assert_eq!(world.count(&command[1..], "failed"), 1, "{command}");
    }
}

#[tokio::test]
async fn only_encrypted_rooms_are_answered_where_the_route_says_so() {
    let mut world = World::with(&format!("{TOML}[routes.default.evidence]\nencrypted_only = true\n")).await;
    world.rooms.power(ALICE, 0);
    let (_, card) = pods(&world).await;
    *world.evidence.is_encrypted.lock().expect("a lock") = Some(false);
    for (command, words) in [
        ("!logs", "❌ Logs are shown in encrypted rooms only, and this one is not"),
        ("!graph", "❌ Graphs are shown in encrypted rooms only, and this one is not"),
    ] {
        assert_eq!(first_line(&asks(&mut world, command, &card).await), words);
    }
    *world.evidence.is_encrypted.lock().expect("a lock") = Some(true);
    assert_eq!(asks(&mut world, "!graph", &card).await["msgtype"], "m.image");
}

#[tokio::test]
async fn what_names_no_query_is_refused_and_a_digest_wants_a_name() {
    let mut world = World::with(TOML).await;
    world.rooms.power(ALICE, 0);
    let (_, card) = world.fires("A", &[alert("1", &[("alertname", "A")])]).await;
    for (command, words, help) in [
        ("!logs", "❌ No alert of this has a Logs link", "logs_url"),
        ("!graph", "❌ No alert of this names its expression", "generatorURL"),
    ] {
        let answer = asks(&mut world, command, &card).await;
        assert_eq!(first_line(&answer), words);
        assert!(answer["body"].as_str().expect("text").contains(help));
    }
    for name in ["Down", "Slow"] {
        world.notify(name, &[linked(alert(name, &[("alertname", name)]))], IncidentState::Firing).await;
    }
    world.store().make_digest(&room()).await.expect("committed").expect("a digest");
    let digest = world.post_card("digest").await.1;
    assert_eq!(
        first_line(&asks(&mut world, "!graph", &digest).await),
        "❌ Say which alert of this message: !graph ALERTNAME"
    );
    assert_eq!(asks(&mut world, "!graph slow", &digest).await["msgtype"], "m.image");
    let wanted = world.evidence.graphs_wanted.lock().expect("a lock").last().expect("one").clone();
    assert_eq!(wanted.firing[0]["alertname"], "Slow");
    world.event(ALICE, in_room("!logs")).await;
    world.works().await;
    assert_eq!(
        world.answers().await.last().map(String::as_str),
        Some("❌ Reply to a card with this, or write it in the card's thread")
    );
}

#[tokio::test]
async fn a_missing_heartbeat_is_asked_nothing() {
    let mut world = World::with(TOML).await;
    world.rooms.power(ALICE, 0);
    let (_, card) = pods(&world).await;
    world.store().run_sql("UPDATE incident SET receiver = '(heartbeats)'").await;
    for (command, words) in
        [("!logs", "❌ A missing heartbeat has no log lines"), ("!graph", "❌ A missing heartbeat has no graph")]
    {
        let answer = asks(&mut world, command, &card).await;
        assert_eq!(first_line(&answer), words);
        assert!(!answer["body"].as_str().expect("text").contains("logs_url"), "{answer}");
    }
    assert_eq!(world.evidence.asked.load(Ordering::Relaxed), 0);
}

/// However many of them hang, an act of the same incident is carried out at once.
#[tokio::test]
async fn evidence_that_hangs_holds_up_no_other_act() {
    let mut world = World::with(TOML).await;
    world.rooms.power(ALICE, 50);
    let (incident, card) = pods(&world).await;
    world.evidence.then(&vec![Fate::Hangs; 20]);
    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker::run(world.context.clone(), stop.clone()));
    for _ in 0..10 {
        world.says(ALICE, "!graph", &card).await;
        world.clock.advance(Duration::from_secs(11));
    }
    world.says(ALICE, "!ack", &card).await;
    let taken = async {
        while world.taken_by(&incident).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), taken).await.expect("taken while evidence hangs");
    assert!(world.evidence.most_at_once.load(Ordering::Relaxed) <= 4);
    stop.cancel();
    timeout(Duration::from_secs(2), worker).await.expect("a stop waits for nothing").expect("no panic");
}

/// Wherever the process dies, the next one answers, and once.
#[tokio::test]
async fn a_question_for_evidence_is_answered_once_wherever_it_dies() {
    let mut polls = 0;
    loop {
        let mut world = World::with(TOML).await;
        world.rooms.power(ALICE, 50);
        let (_, card) = pods(&world).await;
        world.says(ALICE, "!graph", &card).await;
        let was_killed = killed_after(polls, world.works()).await.is_none();
        let world = world.restarted(TOML).await;
        world.works().await;
        let contents = world.contents().await;
        assert_eq!(contents.len(), 1, "killed after {polls}: {contents:?}");
        assert_eq!(contents[0]["msgtype"], "m.image");
        assert_eq!(world.acts().await, ["graph done done"], "killed after {polls}");
        if !was_killed {
            break;
        }
        polls += 1;
    }
    assert!(polls > 5, "it was killed {polls} times only");
}
