//! Each mode of the fault proxy, against a real homeserver.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Fault, FaultProxy, Kind, Match, Outcome, Reply, Room, Scene, User, http};

/// Long enough to tell "does not answer" from "answers".
const PATIENCE: Duration = Duration::from_millis(500);

struct Proxied {
    proxy: FaultProxy,
    room: Room,
    /// Talks through the proxy.
    bot: User,
}

impl Proxied {
    async fn new() -> Self {
        let Scene { synapse, mut bot, room, .. } = Scene::new().await;
        let proxy = FaultProxy::start(&synapse.url()).await;
        bot.homeserver = proxy.url();
        Self { proxy, room, bot }
    }

    /// Sends a message as its transaction; the error is one of the network.
    async fn send(&self, txn: &str) -> reqwest::Result<http::Answer> {
        self.send_within(DEADLINE, txn).await
    }

    async fn send_within(&self, limit: Duration, txn: &str) -> reqwest::Result<http::Answer> {
        let room = urlencoding::encode(&self.room.id);
        let url = format!("{}/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}", self.bot.homeserver);
        let request = http::client().put(url).json(&json!({ "msgtype": "m.text", "body": txn }));
        http::Answer::to(request.timeout(limit).bearer_auth(&self.bot.access_token)).await
    }

    /// The bodies in the room.
    async fn arrived(&self) -> Vec<String> {
        self.room.view().await.cards().iter().map(|card| card.body().to_owned()).collect()
    }
}

#[tokio::test]
async fn what_passes_is_recorded() {
    let proxied = Proxied::new().await;
    assert_eq!(proxied.send("a").await.expect("an answer").status, 200);
    let sends = proxied.proxy.seen(Kind::Send);
    assert_eq!(sends.len(), 1);
    let send = &sends[0];
    assert_eq!((send.txn.as_deref(), send.room.as_deref()), (Some("a"), Some(proxied.room.id.as_str())));
    assert_eq!((send.upstream, send.outcome, &send.body["body"]), (Some(200), Outcome::Answered(200), &json!("a")));
    let view = proxied.room.view().await;
    assert_eq!(send.event_id.as_deref(), Some(view.card().event_id()));
    assert_eq!(proxied.proxy.sends(), (1, 1));
    proxied.proxy.forget();
    assert_eq!(proxied.proxy.sends(), (0, 0));
}

#[tokio::test]
async fn a_long_poll_passes_unharmed() {
    let proxied = Proxied::new().await;
    let first = proxied.bot.get("/v3/sync?timeout=0").await;
    let since = first["next_batch"].as_str().expect("a token");
    let path = format!("/v3/sync?timeout=40000&since={since}");
    let room = proxied.room.id.clone();
    let late = async {
        tokio::time::sleep(PATIENCE).await;
        proxied.send("late").await.expect("an answer");
    };
    let (sync, ()) = tokio::join!(proxied.bot.call(Method::GET, &path, None), late);
    assert_eq!(sync.json()["rooms"]["join"][&room]["timeline"]["events"][0]["content"]["body"], "late");
    assert_eq!(proxied.proxy.most_at_once(Kind::Sync), 1);
}

#[tokio::test]
async fn refused_before_the_homeserver() {
    let proxied = Proxied::new().await;
    let proxy = &proxied.proxy;
    proxy.fault_times(1, Match::sends(), Fault::Cut);
    assert!(!proxied.send("cut").await.expect_err("no answer").is_timeout());
    proxy.fault_times(1, Match::sends_to(&proxied.room.id), Fault::Hang);
    assert!(proxied.send_within(PATIENCE * 4, "hang").await.expect_err("no answer").is_timeout());
    proxy.fault(Match::sends_with("poison"), Fault::error(413, "M_TOO_LARGE"));
    proxy.fault_times(1, Match::sends(), Fault::limited(Duration::from_millis(1500)));
    let limited = proxied.send("limited").await.expect("an answer");
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("2")));
    assert_eq!(limited.json()["retry_after_ms"], 1500);
    assert_eq!(proxied.send("poison").await.expect("an answer").json()["errcode"], "M_TOO_LARGE");
    assert_eq!(proxied.send("a").await.expect("an answer").status, 200);
    proxy.heal();
    assert_eq!(proxied.send("poison").await.expect("an answer").status, 200);
    proxy.fault(Match::all(), Fault::garbage());
    assert_eq!(proxied.send("garbage").await.expect("an answer").json(), Value::Null);
    proxy.fault(Match::sends(), Fault::bad_gateway());
    assert_eq!(proxied.send("gateway").await.expect("an answer").status, 502);
    assert_eq!(proxied.arrived().await, ["a", "poison"]);
    let outcomes: Vec<_> = proxy.seen(Kind::Send).into_iter().map(|send| send.outcome).collect();
    assert_eq!(outcomes[..3], [Outcome::Cut, Outcome::Gone, Outcome::Answered(429)]);
}

#[tokio::test]
async fn lost_behind_the_homeserver() {
    let proxied = Proxied::new().await;
    let proxy = &proxied.proxy;
    proxy.fault_times(1, Match::sends(), Fault::CutAfter);
    assert!(!proxied.send("cut").await.expect_err("no answer").is_timeout());
    proxy.fault_times(1, Match::sends(), Fault::HangAfter);
    assert!(proxied.send_within(PATIENCE * 4, "hang").await.expect_err("no answer").is_timeout());
    proxy
        .wait_for("the room has it", DEADLINE, |one| one.txn.as_deref() == Some("hang") && one.upstream.is_some())
        .await;
    proxy.fault_times(1, Match::sends(), Fault::RespondAfter(Reply::new(504, "text/html", "<html>")));
    assert_eq!(proxied.send("replaced").await.expect("an answer").status, 504);
    assert_eq!(proxied.arrived().await, ["cut", "hang", "replaced"]);
    assert_eq!(proxy.sends(), (3, 0));
    proxied.send("cut").await.expect("an answer");
    assert_eq!(proxied.arrived().await.len(), 3, "the homeserver knows the transaction");
}

#[tokio::test]
async fn an_answer_is_held_until_the_test_or_the_client_lets_go() {
    let proxied = Proxied::new().await;
    let mut answers = proxied.proxy.hold(Match::sends());
    let test = async {
        let held = answers.next(DEADLINE).await;
        assert_eq!(held.exchange.upstream, Some(200));
        assert_eq!(proxied.arrived().await, ["released"], "done, but not answered");
        assert_eq!(proxied.proxy.sends(), (1, 0));
        held.release();
    };
    let (answer, ()) = tokio::join!(proxied.send("released"), test);
    assert_eq!(answer.expect("an answer").status, 200);

    let (answer, ()) = tokio::join!(proxied.send("cut"), async { answers.next(DEADLINE).await.cut() });
    assert!(!answer.expect_err("no answer").is_timeout());

    let held = tokio::select! {
        held = answers.next(DEADLINE) => held,
        answer = proxied.send("gone") => panic!("it is to be held: {answer:?}"),
    };
    proxied.proxy.wait_for("the client is gone", DEADLINE, |exchange| exchange.outcome == Outcome::Gone).await;
    held.release();
    assert_eq!(proxied.arrived().await, ["released", "cut", "gone"]);
}

#[tokio::test]
async fn down_means_refused_and_what_is_open_is_closed() {
    let proxied = Proxied::new().await;
    proxied.proxy.fault_times(1, Match::sends(), Fault::Hang);
    let down = async {
        proxied.proxy.wait_for("the send", DEADLINE, |exchange| exchange.kind == Kind::Send).await;
        proxied.proxy.down().await;
    };
    let (open, ()) = tokio::join!(proxied.send("open"), down);
    assert!(!open.expect_err("no answer").is_timeout());
    assert!(proxied.send("refused").await.expect_err("no listener").is_connect());
    proxied.proxy.up().await;
    proxied.send("a").await.expect("an answer");
    assert_eq!(proxied.arrived().await, ["a"]);
}
