//! A silence never reaches beyond the incident for which it was asked.

use serde_json::json;

use super::{N01, N02, QUIET, Stage, answers, done, in_force, is_ticked, matchers};
use crate::harness::{AlertToPost, ReceiverBuilder, Scene, eventually};

/// Another receiver gets what has the label `team`.
async fn with_a_pager() -> Stage {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene);
    let pager = |mut config: crate::harness::AlertmanagerConfig| {
        config.json["route"]["routes"] = json!([{ "matchers": ["team=~\".+\""], "receiver": "pager" }]);
        config.json["receivers"].as_array_mut().expect("receivers").push(json!({ "name": "pager" }));
        config
    };
    Stage::of(scene, receiver, pager).await.started().await
}

async fn posted(stage: &Stage, labels: &[(&str, &str)]) {
    stage.alertmanager.post_alerts(&[AlertToPost::firing(labels)]).await;
    let team = labels.iter().find(|(name, _)| *name == "team").expect("a team").1;
    eventually("the alert of others", super::DEADLINE, async || {
        let alerts = stage.alertmanager.alerts().await;
        alerts.as_array()?.iter().any(|alert| alert["labels"]["team"] == team).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_alerts_narrow_a_silence_or_forbid_it() {
    let stage = with_a_pager().await;
    let card = stage.fires(&[N01, N02]).await;
    posted(&stage, &[("alertname", "DiskFull"), ("instance", "n09"), ("severity", "warning"), ("team", "web")]).await;

    let narrow = stage.says(&stage.oncall, &card, "!silence 1h").await;
    stage.wait_for("done", |view| done(view, &narrow).is_some()).await;
    let silence = stage.silences(1).await.remove(0);
    assert_eq!(matchers(&silence), ["alertname=DiskFull", "severity=critical"]);
    let end = stage.says(&stage.oncall, &card, "!unsilence").await;
    stage.wait_for("ended", |view| is_ticked(view, &end)).await;

    let theirs = [("alertname", "DiskFull"), ("instance", "n01"), ("severity", "critical"), ("team", "db")];
    posted(&stage, &theirs).await;
    let refused = stage.says(&stage.oncall, &card, "!silence 1h").await;
    let bell = stage.oncall.react(&stage.scene.room.id, &card, "🔕").await;
    let said = |view: &crate::harness::RoomView| {
        view.thread_of(&card).iter().filter(|reply| reply.first_line().starts_with("❌ Not silenced")).count() == 2
    };
    let view = stage.scene.room.assert_settled("refused, both", QUIET, said).await;
    let answer = answers(&view, &refused).remove(0);
    assert!(answer.has("that would silence 1 other alert as well"), "{}", answer.body());
    assert!(answer.has("DiskFull instance=\"n01\" (receiver: pager)"), "{}", answer.body());
    assert!(!is_ticked(&view, &refused) && !is_ticked(&view, &bell), "{}", view.text());
    assert_eq!(in_force(&stage.alertmanager).await, [] as [serde_json::Value; 0]);
}
