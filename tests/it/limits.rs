//! Floods: what is beyond a bound is refused in a defined way, counted, and over when the flood is.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{Alert, DEADLINE, Payload, Receiver, ReceiverBuilder, Scene, eventually};

/// As `http/places.rs` has them.
const CONNECTIONS: usize = 512;
const WAITING: usize = 128;

async fn connect(receiver: &Receiver, begun: &str) -> TcpStream {
    let mut stream =
        TcpStream::connect(receiver.url().trim_start_matches("http://")).await.expect("a place in the backlog");
    // What is closed at once may be so before this is written.
    let _ = stream.write_all(begun.as_bytes()).await;
    stream
}

/// Whether the other side has closed it.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(timeout(std::time::Duration::from_millis(5), stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_are_closed_and_counted() {
    // This process needs as many sockets as it opens, beside those of the other tests.
    let own = std::process::id().to_string();
    let raised = std::process::Command::new("prlimit").args(["--pid", &own, "--nofile=8192:"]).status();
    assert!(raised.expect("prlimit (util-linux)").success(), "8,192 open files are needed");
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS + WAITING + 40 {
        open.push(connect(&receiver, "POST /alerts HTTP/1.1\r\nHost: x\r\n").await);
    }
    let mut closed = 0;
    eventually("those beyond are closed", DEADLINE, async || {
        closed = 0;
        for stream in &mut open[CONNECTIONS..] {
            closed += usize::from(is_closed(stream).await);
        }
        (closed >= 30).then_some(())
    })
    .await;
    let mut served = 0;
    for stream in &mut open[..CONNECTIONS - 40] {
        served += usize::from(!is_closed(stream).await);
    }
    assert_eq!(served, CONNECTIONS - 40, "who was there first is served on");
    drop(open);
    eventually("the flood is over", DEADLINE, async || {
        let answer = receiver.try_post("default", Payload::group("A").firing(&["n01"])).await;
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    })
    .await;
    assert!(receiver.metric("http_connections_refused_total", &[]).await >= 30.0);
    receiver.wait_log(&["connections are closed unanswered"]).await;
}

/// Also who says nothing at all loses his place, before any request has told the version of HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut silent = connect(&receiver, "").await;
    let mut byte = [0];
    // `http/serve.rs` gives it 30 s.
    let ended = timeout(DEADLINE * 2, silent.read(&mut byte)).await.expect("it was closed");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// Announced and never sent: they take places, and no memory without end.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_the_budget_are_503() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let begun = "POST /alerts/default HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n{";
        open.push(connect(&receiver, begun).await);
    }
    receiver.wait_log(&["webhooks are answered 503: too much of them is under way at once"]).await;
    let mut refused = 0;
    for stream in &mut open {
        let mut answer = vec![0; 4096];
        let read = timeout(DEADLINE, stream.read(&mut answer)).await.expect("in time").expect("an answer");
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: "), "{text}");
        refused += usize::from(text.contains("too much is under way at once"));
    }
    assert!((16..=17).contains(&refused), "{refused} of 20 found no place in 16 MiB");
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
}

/// Two hundred connections, each with a webhook of nearly 4 MiB: each is taken or told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_large_webhooks_takes_bounded_memory() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    // Named twice: by the alert and by what all alerts have in common.
    let large = "x".repeat(1_900_000);
    let body = Payload::group("A").alert(Alert::firing("n01").annotation("summary", &large)).json().to_string();
    let posts = (0..200).map(|_| async {
        let request = receiver.request(reqwest::Method::POST, "/alerts/default").body(body.clone());
        // An answer that comes before all was sent may end as an error of the network, which is retried like a 503.
        request.send().await.map_or(503, |answer| answer.status().as_u16())
    });
    let answers = futures_util::future::join_all(posts).await;
    assert!(answers.contains(&200) && answers.iter().all(|status| [200, 503].contains(status)), "{answers:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", receiver.pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak").trim();
    let kib: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
    eprintln!("{} of 200 taken, at most {} MiB resident", answers.iter().filter(|s| **s == 200).count(), kib / 1024);
    assert!(kib < 400 * 1024, "{peak}");
    receiver.accept("default", Payload::group("B").firing(&["n01"])).await;
}
