//! An Alertmanager that cannot be asked.

use std::time::Duration;

use tokio::time::Instant;

use super::{N01, Stage, answers, is_ticked, message};

/// From the command to its refusal, by the design.
const WITHIN: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn an_alertmanager_that_is_down_is_said_in_the_thread_within_two_minutes() {
    let mut stage = Stage::new().await;
    let card = stage.fires(&[N01]).await;
    stage.alertmanager.kill9();
    let asked = Instant::now();
    let command = stage.says(&stage.oncall, &card, "!silence 1h").await;
    // Nothing else waits for it.
    let ack = stage.says(&stage.scene.sre, &card, "!ack by hand").await;
    let room = &stage.scene.room;
    let view = room.wait_for("refused", WITHIN, |view| !answers(view, &command).is_empty()).await;
    eprintln!("refused after {:?}", asked.elapsed());
    let answer = answers(&view, &command).remove(0);
    assert!(answer.first_line().starts_with("❌ Not silenced: Alertmanager cannot be reached"), "{}", answer.body());
    assert!(!is_ticked(&view, &command), "{}", view.text());
    let view = room.wait_for("taken", WITHIN, |view| is_ticked(view, &ack)).await;
    assert!(message(&view, &card).has(": by hand"), "{}", view.text());
    stage.alertmanager.restart().await;
    let settled = room.assert_settled("one answer", super::QUIET, |view| answers(view, &command).len() == 1).await;
    assert!(super::in_force(&stage.alertmanager).await.is_empty(), "{}", settled.text());
}
