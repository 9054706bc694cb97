//! Silences from a room: made, extended and ended in Alertmanager, and shown on the card.

use tokio::time::Instant;

use super::{N01, N02, QUIET, Stage, answers, done, is_ticked, joined, mark, matchers, message, minutes_left};
use crate::harness::{Alertmanager, RoomView};

fn is_silenced(view: &RoomView, card: &str) -> bool {
    let card = message(view, card);
    card.first_line().starts_with("🔕 SILENCED") && card.has("silenced by ")
}

fn fires_again(view: &RoomView, card: &str) -> bool {
    let card = message(view, card);
    card.first_line().starts_with("🔴") && !card.has("silenced by ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bell_silences_what_the_card_is_about_and_its_removal_ends_that() {
    for program in Alertmanager::versions() {
        let stage = Stage::by(&program).await;
        let other = [("alertname", "Other"), ("instance", "n01"), ("severity", "critical")];
        stage.fires(&[&other]).await;
        let card = stage.fires(&[N01, N02]).await;
        let room = &stage.scene.room.id;

        let asked = Instant::now();
        let bell = stage.oncall.react(room, &card, "🔕").await;
        let silence = stage.silences(1).await.remove(0);
        eprintln!("{}: silence after {:?}", program.display(), asked.elapsed());
        assert_eq!(matchers(&silence), ["alertname=DiskFull"]);
        assert_eq!(silence["createdBy"], stage.oncall.user_id.as_str());
        assert!((115..=120).contains(&minutes_left(&silence)), "{silence:#}");
        let view = stage.wait_for("the card says so", |view| is_silenced(view, &card)).await;
        eprintln!("{}: on the card after {:?}", program.display(), asked.elapsed());
        let by = format!("silenced by {} until ", stage.oncall.local());
        assert!(message(&view, &card).has(&by), "{}", view.text());
        let told = |view: &RoomView| view.thread_of(&card).iter().any(|reply| reply.has("2 firing alerts now:"));
        stage.wait_for("the answer", told).await;

        let asked = Instant::now();
        stage.oncall.redact(room, &bell).await;
        stage.silences(0).await;
        eprintln!("{}: expired after {:?}", program.display(), asked.elapsed());
        stage.wait_for("the card says so", |view| fires_again(view, &card)).await;
        eprintln!("{}: on the card after {:?}", program.display(), asked.elapsed());
        let settled = |view: &RoomView| fires_again(view, &card) && view.cards().len() == 2;
        stage.scene.room.assert_settled("no message beside that", QUIET, settled).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_silences_extends_never_shortens_and_ends() {
    let stage = Stage::new().await;
    let card = stage.fires(&[N01, N02]).await;

    let first = stage.says(&stage.oncall, &card, "!silence 1h disk is replaced").await;
    let view = stage.wait_for("the answer", |view| done(view, &first).is_some()).await;
    let answer = done(&view, &first).expect("an answer");
    for needle in ["DiskFull silenced until ", "2 firing alerts now:", "alertname=\"DiskFull\"", stage.oncall.local()] {
        assert!(answer.body().contains(needle), "{needle}: {}", answer.body());
    }
    let silence = stage.silences(1).await.remove(0);
    let (id, comment) = (silence["id"].clone(), silence["comment"].as_str().expect("a comment"));
    assert!(comment.starts_with("disk is replaced [mar:"), "{comment}");
    assert!((58..=60).contains(&minutes_left(&silence)), "{silence:#}");
    let shown = |view: &RoomView| is_silenced(view, &card) && message(view, &card).has(": disk is replaced");
    stage.wait_for("the card", shown).await;

    for (command, minutes) in [("!silence 2h", 118..=120), ("!silence 30m", 118..=120)] {
        let again = stage.says(&stage.oncall, &card, command).await;
        stage.wait_for(command, |view| done(view, &again).is_some()).await;
        let silence = stage.silences(1).await.remove(0);
        assert_eq!((&silence["id"], minutes.contains(&minutes_left(&silence))), (&id, true), "{command} {silence:#}");
    }

    // Anybody who may act can end it, with a reply outside of the thread too.
    let end = stage.scene.sre.reply(&stage.scene.room.id, &card, "!unsilence").await;
    stage.silences(0).await;
    stage.wait_for("ended", |view| is_ticked(view, &end) && fires_again(view, &card)).await;
    let nothing = stage.says(&stage.oncall, &card, "!unsilence").await;
    let view = stage.wait_for("an answer", |view| !answers(view, &nothing).is_empty()).await;
    assert!(
        answers(&view, &nothing)[0].first_line().starts_with("❌ No silence was made from here"),
        "{}",
        view.text()
    );
}

/// Two people have the same idea in the same second.
#[tokio::test(flavor = "multi_thread")]
async fn two_people_at_once_make_one_silence() {
    let stage = Stage::new().await;
    let card = stage.fires(&[N01, N02]).await;
    let third = joined(&stage.scene, "third", 50).await;
    let (one, two, bell) = tokio::join!(
        stage.says(&stage.scene.sre, &card, "!silence 1h mine"),
        stage.says(&stage.oncall, &card, "!silence 2h mine"),
        third.react(&stage.scene.room.id, &card, "🔕"),
    );
    let answered = |view: &RoomView| {
        let of_bell = view.thread_of(&card).iter().filter(|reply| reply.has(third.local())).count();
        done(view, &one).is_some() && done(view, &two).is_some() && of_bell == 1
    };
    stage.scene.room.assert_settled("all are answered", QUIET, answered).await;
    let silence = stage.silences(1).await.remove(0);
    assert!((118..=120).contains(&minutes_left(&silence)), "{silence:#}");
    assert!(mark(&silence).ends_with("/0]"));

    // It lasts as long as one of them wants it.
    third.redact(&stage.scene.room.id, &bell).await;
    stage.scene.room.assert_settled("others want it", QUIET, |view| is_silenced(view, &card)).await;
    stage.silences(1).await;
    let end = stage.says(&stage.oncall, &card, "!unsilence").await;
    stage.silences(0).await;
    stage.wait_for("ended for all", |view| is_ticked(view, &end) && fires_again(view, &card)).await;
}
