//! Floods: what is beyond a bound is refused in a defined way, counted, and over when the flood is.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{Alert, DEADLINE, Payload, Receiver, ReceiverBuilder, Scene, eventually, open_files};

/// As `http/admission.rs` has it: those that are not reserved.
const CONNECTIONS: usize = 448;
/// More than that, the reserved ones and those that may wait.
const FLOOD: usize = CONNECTIONS + 64 + 128 + 40;

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

/// Those that have kept us waiting longest make room, so that whoever comes with something to say is served at once.
#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_close_those_that_wait_longest() {
    open_files();
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut open = Vec::new();
    for number in 0..FLOOD {
        open.push(connect(&receiver, "POST /alerts HTTP/1.1\r\nHost: x\r\n").await);
        if number % 100 == 99 {
            receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
        }
    }
    // Those that are accepted at the same time may change places; that it is the oldest is proven beside the code.
    let (oldest, newest) = (FLOOD - CONNECTIONS - 100, FLOOD - CONNECTIONS + 100);
    eventually("the oldest are closed", DEADLINE, async || {
        let mut closed = 0;
        for stream in &mut open[..oldest] {
            closed += usize::from(is_closed(stream).await);
        }
        (closed == oldest).then_some(())
    })
    .await;
    let mut served = 0;
    for stream in &mut open[newest..] {
        served += usize::from(!is_closed(stream).await);
    }
    assert_eq!(served, FLOOD - newest, "no more of them than must");
    let displaced = receiver.metric("http_connections_closed_total", &[("reason", "displaced")]).await;
    assert!(displaced >= (FLOOD - CONNECTIONS) as f64, "{displaced}");
    receiver.wait_log(&["WARN", "closing idle connections"]).await;
}

/// Also who says nothing at all loses his place, before any request has shown the version of HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut silent = connect(&receiver, "").await;
    let mut byte = [0];
    // `http/server.rs` gives it 30 s.
    let ended = timeout(DEADLINE * 2, silent.read(&mut byte)).await.expect("it was closed");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// Without a file for it accepting a connection failed; those that knock meanwhile are served later.
#[tokio::test(flavor = "multi_thread")]
async fn want_of_open_files_is_said_and_passes() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    scene.room.wait_for("nothing yet", DEADLINE, |view| view.cards().is_empty()).await;
    let limit = |files: &str| {
        let limit = format!("--nofile={files}:");
        let limited =
            std::process::Command::new("prlimit").args(["--pid", &receiver.pid().to_string(), &limit]).status();
        assert!(limited.expect("prlimit (util-linux)").success(), "{limit}");
    };
    limit("4");
    let mut early = connect(&receiver, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    receiver.wait_log(&["WARN", "accepting a connection failed", "Too many open files"]).await;
    limit("1024");
    let mut answer = String::new();
    timeout(DEADLINE, early.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    assert_eq!(receiver.logs().matches("accepting a connection failed").count(), 1, "{}", receiver.log_tail());
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
    receiver.wait_log(&["too many webhook bytes in flight; answering 503"]).await;
    let mut refused = 0;
    for stream in &mut open {
        let mut answer = vec![0; 4096];
        let read = timeout(DEADLINE, stream.read(&mut answer)).await.expect("in time").expect("an answer");
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: "), "{text}");
        refused += usize::from(text.contains("too many webhook bytes in flight"));
    }
    assert!((16..=17).contains(&refused), "{refused} of 20 found no place in 16 MiB");
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
}

/// Two hundred connections, each with a webhook of nearly 4 MiB: each is taken or asked to come again.
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
    // What was answered 503 may still be written.
    let post = async || receiver.post("default", Payload::group("B").firing(&["n01"])).await.status;
    eventually("the next is taken", DEADLINE, async || (post().await == 200).then_some(())).await;
}
