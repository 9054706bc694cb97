//! Two Alertmanagers of one cluster, of which one dies between the request for a silence and its answer.

use std::time::Duration;

use super::{N01, QUIET, answers, done, fires, in_force, joined, mark, start};
use crate::harness::{
    Alertmanager, AlertmanagerConfig, DEADLINE, FaultProxy, Match, ReceiverBuilder, Scene, eventually,
};

/// Whether the other peer has the silence before the first one dies.
async fn one_dies(has_spread: bool) {
    let scene = Scene::new().await;
    let oncall = joined(&scene, "oncall", 50).await;
    let mut receiver = ReceiverBuilder::of(&scene).toml(super::ACTIONS).unstarted();
    let config = || AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
    let mut first = Alertmanager::start(config().clustered()).await;
    let second = Alertmanager::start(config().peer_of(&first)).await;
    eventually("a cluster of two", DEADLINE, async || (second.cluster_size().await == 2).then_some(())).await;
    let proxy = FaultProxy::start(&first.url()).await;
    start(&mut receiver, &[proxy.url(), second.url()]).await;
    let card = fires(&scene, &second, &[N01]).await;

    let posts = Match::when(|request| request.method == reqwest::Method::POST);
    let mut held = proxy.hold(posts);
    let command = oncall.say_in_thread(&scene.room.id, &card, "!silence 1h").await;
    let answer = held.next(DEADLINE).await;
    assert_eq!(answer.exchange.upstream, Some(200));
    if has_spread {
        eventually("the other has it", DEADLINE, async || (in_force(&second).await.len() == 1).then_some(())).await;
    }
    first.kill9();
    answer.cut();
    proxy.heal();
    // As of a peer that is gone: connections are refused.
    proxy.down().await;
    if !has_spread {
        // What it had may be lost with it, or not: only it can say so.
        let unknown = |view: &crate::harness::RoomView| answers(view, &command).is_empty();
        // What came before the end may take a moment to be listed.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let spread = !in_force(&second).await.is_empty();
        if !spread {
            scene.room.assert_settled("nobody knows", QUIET, unknown).await;
        }
        first.restart().await;
        proxy.up().await;
    }
    scene.room.wait_for("answered", DEADLINE * 2, |view| done(view, &command).is_some()).await;
    if has_spread {
        first.restart().await;
        proxy.up().await;
    }
    for alertmanager in [&first, &second] {
        eventually("one silence on each", DEADLINE * 2, async || {
            (in_force(alertmanager).await.len() == 1).then_some(())
        })
        .await;
    }
    // Longer than polls, which would find a second one.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (of_first, of_second) = (in_force(&first).await, in_force(&second).await);
    assert_eq!((of_first.len(), of_second.len()), (1, 1), "{of_first:#?} {of_second:#?}");
    assert_eq!((mark(&of_first[0]), &of_first[0]["id"]), (mark(&of_second[0]), &of_second[0]["id"]));
    scene.room.assert_settled("one answer", QUIET, |view| done(view, &command).is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_that_has_spread_stays_the_only_one() {
    one_dies(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_that_may_be_lost_is_made_once_more_only_if_it_is() {
    one_dies(false).await;
}
