//! `dead-letters`: what a homeserver refuses in every form is not lost, and the operator decides.

use std::{os::unix::fs::PermissionsExt as _, process::Output};

use serde_json::Value;

use crate::harness::{DEADLINE, Fault, FaultProxy, Match, Payload, Receiver, ReceiverBuilder, Scene};

async fn run(receiver: &Receiver, args: &[&str]) -> (i32, String, String) {
    let all: Vec<&str> = ["dead-letters"].iter().chain(args).copied().collect();
    let Output { status, stdout, stderr } = receiver.cli(&all).await;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

/// What a command that succeeds says.
async fn said(receiver: &Receiver, args: &[&str]) -> String {
    let (code, out, err) = run(receiver, args).await;
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    out
}

async fn refused(receiver: &Receiver, args: &[&str]) -> String {
    let (code, out, err) = run(receiver, args).await;
    assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {err}");
    err
}

async fn listed(receiver: &Receiver) -> Vec<Value> {
    serde_json::from_str(&said(receiver, &["list", "--json"]).await).expect("a JSON list")
}

/// A group that the homeserver takes in no form.
async fn bury(receiver: &Receiver, proxy: &FaultProxy, group: &str) {
    let dead = [("state", "dead")];
    let before = receiver.metric("dead_letters_total", &[]).await;
    let stored = receiver.metric("outbox_ops", &dead).await;
    proxy.fault_times(3, Match::sends(), Fault::error(413, "M_TOO_LARGE"));
    receiver.accept("default", Payload::group(group).firing(&["n01"])).await;
    receiver.wait_metric("dead_letters_total", &[], |dead| dead == before + 1.0).await;
    // It is counted before it is stored.
    receiver.wait_metric("outbox_ops", &dead, |dead| dead == stored + 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_tried_again_and_dropped() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let mut receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    let socket = receiver.store_path().join("control.sock");
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    assert_eq!(said(&receiver, &[]).await, "no dead letters\n");

    bury(&receiver, &proxy, "DiskFull").await;
    bury(&receiver, &proxy, "HostDown").await;
    proxy.heal();
    let letters = listed(&receiver).await;
    assert_eq!(letters.len(), 2, "{letters:#?}");
    let first = &letters[0];
    assert_eq!((&first["room"], &first["kind"]), (&"default/1".into(), &"card".into()), "{first:#}");
    assert_eq!(first["address"], scene.room.id.as_str());
    assert!(first["says"].as_str().is_some_and(|says| says.contains("DiskFull")), "{first:#}");
    assert!(first["reason"].as_str().is_some_and(|reason| reason.contains("413")), "{first:#}");
    let id = |n: usize| letters[n]["id"].as_str().expect("an id");
    let table = said(&receiver, &[]).await;
    for words in ["ID", "default/1", id(0), id(1), "DiskFull", "HostDown"] {
        assert!(table.contains(words), "{words} in\n{table}");
    }
    let shown: Value = serde_json::from_str(&said(&receiver, &["show", id(0), "--json"]).await).expect("JSON");
    assert_eq!((&shown["id"], &shown["content"]["body"]), (&first["id"], &first["says"]), "{shown:#}");
    assert!(said(&receiver, &["show", id(0)]).await.contains("\"msgtype\": \"m.text\""));

    assert!(said(&receiver, &["retry", id(0)]).await.contains("a new card with the newest state follows"));
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    assert!(view.card().has("DiskFull") && view.card().has("n01"), "{}", view.text());
    receiver.wait_log(&["dead letter is tried again", id(0)]).await;
    assert!(refused(&receiver, &["retry", id(0)]).await.contains("no such dead letter"));
    assert!(refused(&receiver, &["show", "../x"]).await.contains("no such dead letter"));

    assert!(said(&receiver, &["drop", "--all"]).await.contains(&format!("{}: dropped", id(1))));
    receiver.wait_log(&["dead letter dropped", id(1)]).await;
    assert_eq!(listed(&receiver).await.len(), 0);
    assert_eq!(receiver.get("/healthz/delivery").await.status, 200);

    // A socket that a killed receiver left behind is replaced, and one that stops leaves none.
    receiver.kill9();
    assert!(refused(&receiver, &[]).await.contains("is the receiver running? nothing listens at /"));
    receiver.restart().await;
    assert_eq!(said(&receiver, &[]).await, "no dead letters\n");
    receiver.accept("default", Payload::group("After").firing(&["n02"])).await;
    let view = scene.room.wait_for("two cards", DEADLINE, |view| view.cards_with("After").len() == 1).await;
    assert_eq!(view.cards().len(), 2, "each once, and the dropped one never: {}", view.text());
    receiver.sigterm(DEADLINE).await;
    assert!(!socket.exists());
    assert!(
        refused(&receiver, &[]).await.contains(&format!("is the receiver running? no socket at {}", socket.display()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_too_long_for_a_socket_is_a_warning() {
    let scene = Scene::new().await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("x".repeat(110));
    let receiver = ReceiverBuilder::of(&scene).set("store.path", path.to_str().expect("UTF-8")).start().await;
    receiver.wait_log(&["control socket unavailable", "commands cannot connect"]).await;
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    assert!(refused(&receiver, &[]).await.contains("cannot connect to"));
}
