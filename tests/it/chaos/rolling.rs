//! SIGTERM and a new process on the same store, again and again, while a sender posts.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{TURN, builder, judge, plan::Plan, report, rooms, sender, settled};
use crate::harness::Scene;

/// `docker stop` kills after ten seconds.
const STOP: Duration = Duration::from_secs(10);
const RESTARTS: u32 = 8;
/// From one stop to the next, if the start is quick.
const PACE: Duration = Duration::from_millis(1_500);
const LOAD: Duration = Duration::from_secs(14);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_loses_and_repeats_nothing() {
    let _turn = TURN.lock().await;
    let scene = Scene::new().await;
    let (rooms, reader) = rooms(&scene).await;
    let plan = Plan::of(1, LOAD, 60);
    let mut receiver = builder(&scene, &rooms).start().await;
    let began = Instant::now();
    let senders = sender::send_all(&plan.groups, &receiver, began);
    for restart in 1..=RESTARTS {
        sleep_until(began + restart * PACE).await;
        let stopped = receiver.sigterm(STOP).await;
        assert_eq!(stopped.code(), Some(0), "{}", receiver.log_tail());
        receiver.spawn();
        receiver.ready().await.unwrap_or_else(|failure| panic!("{failure}"));
    }
    let sent = senders.join_all().await;
    settled(&receiver).await;
    let faults = judge(&rooms, &reader, &sent).await;
    report(&receiver, &rooms, &sent, began).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let broken: Vec<_> = sent.iter().flat_map(|sent| &sent.broken).collect();
    assert!(broken.is_empty(), "neither 503 nor a refused connection: {broken:#?}");
    assert!(sent.iter().any(|sent| sent.refused + sent.unavailable > 0), "no stop met a webhook");
    assert!(!receiver.logs().contains("shutdown timed out"), "{}", receiver.log_tail());
}
