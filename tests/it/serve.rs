//! Starting and stopping: faults of the config, the environment alone, a homeserver that is down, SIGTERM.

use std::time::Duration;

use crate::harness::{DEADLINE, Fault, FaultProxy, Match, Payload, ReceiverBuilder, Scene};

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_config_are_all_told_and_nothing_starts() {
    let scene = Scene::new().await;
    let failure = ReceiverBuilder::of(&scene)
        .toml("[http]\nlisten = \"0.0.0.0:0\"\nmax_body_byte = 5\n[routes.default]\nremind_after = \"often\"")
        .try_start()
        .await
        .expect_err("it must not start");
    assert!(failure.status.is_some_and(|status| !status.success()), "{failure}");
    for wanted in
        ["http.max_body_byte", "http.max_body_bytes", "routes.default.remind_after", "often", "allow_unauthenticated"]
    {
        assert!(failure.log.contains(wanted), "{wanted} in {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_told_and_nothing_starts() {
    let scene = Scene::new().await;
    let first = ReceiverBuilder::of(&scene).start().await;
    let path = first.store_path().display().to_string();
    let failure = ReceiverBuilder::of(&scene).set("store.path", path).try_start().await.expect_err("it must not start");
    assert!(failure.log.contains("in use by another process"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_short_environment_variables_are_enough() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene)
        .without("matrix")
        .without("routes")
        .env("MATRIX_HOMESERVER", &scene.synapse.url())
        .env("MATRIX_USER_ID", &scene.bot.user_id)
        .env("MATRIX_ACCESS_TOKEN", &scene.bot.access_token)
        .env("MATRIX_ROOM_ID", &scene.room.id)
        .start()
        .await;
    receiver.accept("", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_enough_and_keeps_one_device() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene)
        .without("matrix.access_token")
        .set("matrix.password", scene.bot.password.as_str())
        .start()
        .await;
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("the first card", DEADLINE, |view| view.cards().len() == 1).await;
    let folders = || {
        let folder = receiver.store_path().join("matrix");
        std::fs::read_dir(folder)
            .expect("the SDK's folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect::<Vec<_>>()
    };
    let before = folders();
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    receiver.restart().await;
    receiver.accept("default", Payload::group("B").firing(&["n01"])).await;
    scene.room.wait_for("the second card", DEADLINE, |view| view.cards().len() == 2).await;
    let after: Vec<_> = std::fs::read_dir(receiver.store_path().join("matrix"))
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    assert_eq!(before, after);
    assert_eq!(before.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_send_under_way_and_refuses_what_is_new() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    let mut answers = proxy.hold(Match::sends());
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    let held = answers.next(DEADLINE).await;
    receiver.signal("TERM");
    receiver.wait_log(&["stopping"]).await;
    let post = receiver.post("default", Payload::group("B").firing(&["n01"]));
    let (refused, ready) = tokio::join!(post, receiver.get("/readyz"));
    assert_eq!((refused.status, ready.status), (503, 503), "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    held.release();
    assert_eq!(receiver.sigterm(DEADLINE).await.code(), Some(0));
    assert!(receiver.logs().contains("shown in the room"), "the send under way was recorded:\n{}", receiver.log_tail());
    proxy.heal();
    receiver.restart().await;
    scene.room.assert_settled("one card", Duration::from_secs(2), |view| view.cards().len() == 1).await;
    assert_eq!(proxy.sends().0, 1, "nothing was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_is_down_or_hangs_at_start_does_not_stop_accepting() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    proxy.fault(Match::all(), Fault::Hang);
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    assert_eq!(receiver.get("/readyz").await.status, 200);
    assert_eq!(receiver.get("/livez").await.status, 200);
    assert_eq!(receiver.metric("homeserver_up", &[]).await, 0.0);
    receiver.wait_metric("outbox_ops", &[("state", "waiting")], |waiting| waiting == 1.0).await;
    proxy.heal();
    scene.room.wait_for("the card", DEADLINE * 2, |view| view.cards().len() == 1).await;
    receiver.wait_metric("homeserver_up", &[], |up| up == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_is_quick_also_while_the_homeserver_is_down_or_hangs() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    proxy.down().await;
    let mut down = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    down.accept("default", Payload::group("A").firing(&["n01"])).await;
    // "docker stop" kills after ten seconds.
    assert_eq!(down.sigterm(Duration::from_secs(9)).await.code(), Some(0));
    let hanging_proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut hanging = ReceiverBuilder::of(&scene).homeserver(&hanging_proxy.url()).start().await;
    hanging.wait_metric("homeserver_up", &[], |up| up == 1.0).await;
    hanging_proxy.fault(Match::sends(), Fault::Hang);
    hanging.accept("default", Payload::group("B").firing(&["n01"])).await;
    hanging_proxy.wait_for("the send", DEADLINE, |exchange| exchange.txn.is_some()).await;
    assert_eq!(hanging.sigterm(Duration::from_secs(9)).await.code(), Some(0));
}
