//! Clients that ask and never read the answers, more of them than there are places: webhooks get through all the same,
//! and the pile is gone after a while.

use std::{fs, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sqlx::AnyConnection;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::harness::{
    Authority, DEADLINE, Payload, Receiver, ReceiverBuilder, Scene, eventually,
    http::{Answer, client},
    open_files,
};

/// More than `http/admission.rs` serves and lets wait.
const PILE: usize = 448 + 64 + 128 + 40;
/// As `http/admission.rs` has it.
const ORDINARY: usize = 448;
/// As `http/connection.rs` has it.
const UNREAD: Duration = Duration::from_secs(30);
/// As `http/pool.rs` has it.
const UNREAD_BYTES: usize = 8 * 1024 * 1024;
/// So many answers are more than a kernel keeps for a client, also one that gives each connection megabytes.
const REQUESTS: usize = 300;
/// A webhook must be taken within this, on a machine that is busy with the flood. It may be tried again, as Alertmanager
/// does. Shorter than the time after which a body that does not come ends by itself.
const SOON: Duration = Duration::from_secs(6);

fn asks(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

/// A connection whose own side holds next to nothing of what nobody reads.
async fn connect(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(address.parse().expect("an address")).await.expect("a place in the backlog")
}

async fn pile(address: &str, headers: &str) -> Vec<TcpStream> {
    let mut pile = Vec::new();
    for _ in 0..PILE {
        let mut stream = connect(address).await;
        // One that is closed at once may be so before this is written.
        let _ = stream.write_all(asks("/metrics", headers).repeat(REQUESTS).as_bytes()).await;
        pile.push(stream);
    }
    pile
}

/// Alerts on connections of their own, each answered soon: while the pile grows old, not only at its beginning.
async fn webhooks_get_through(receiver: &Receiver) {
    let mut slowest = Duration::ZERO;
    for number in 0..10 {
        let begun = Instant::now();
        let payload = Payload::group(&format!("Unread{number}")).firing(&["n01"]).json();
        let taken = eventually("200", DEADLINE, async || {
            let answer = receiver.try_post("default", payload.clone()).await.ok()?;
            (answer.status == 200).then_some(())
        });
        timeout(SOON, taken).await.unwrap_or_else(|_| panic!("webhook {number} was not taken within {SOON:?}"));
        let probed = eventually("200", DEADLINE, async || {
            let livez = Answer::to(receiver.request(reqwest::Method::GET, "/livez")).await.ok()?;
            (livez.status == 200).then_some(())
        });
        timeout(SOON, probed).await.unwrap_or_else(|_| panic!("probe {number} was not answered within {SOON:?}"));
        slowest = slowest.max(begun.elapsed());
    }
    eprintln!("ten webhooks in a flood, the slowest took {slowest:?}");
}

fn sockets(receiver: &Receiver) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", receiver.pid())).expect("it runs");
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

async fn the_pile_goes(receiver: &Receiver, before: usize) {
    // Once all wait for their clients, one makes room for each that comes, or for the memory of an answer.
    eventually("metrics among those that nobody reads", UNREAD, async || {
        let answer = Answer::to(receiver.request(reqwest::Method::GET, "/metrics")).await.ok()?;
        let displaced = answer.body.lines().find(|line| line.contains("closed_total{reason=\"displaced\"}"))?;
        (!displaced.ends_with(" 0")).then_some(())
    })
    .await;
    receiver.wait_log(&["WARN", "closing idle connections"]).await;
    eventually("the pile is gone", UNREAD + DEADLINE, async || (sockets(receiver) <= before + 4).then_some(())).await;
    let closed = async |reason| receiver.metric("http_connections_closed_total", &[("reason", reason)]).await;
    let (displaced, unread) = (closed("displaced").await, closed("unread").await);
    eprintln!("{displaced} displaced, {unread} unread; {}", peak(receiver));
    assert!(displaced > 0.0 && unread > 0.0, "{displaced} displaced, {unread} unread");
}

fn peak(receiver: &Receiver) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", receiver.pid())).expect("it runs");
    status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_never_read_hold_up_nobody() {
    open_files();
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let before = sockets(&receiver);
    let pile = pile(&receiver.address(), "").await;
    webhooks_get_through(&receiver).await;
    the_pile_goes(&receiver, before).await;
    drop(pile);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_they_by_tls() {
    open_files();
    let scene = Scene::new().await;
    let authority = Authority::new();
    let leaf = authority.leaf("receiver", &[], 30);
    let receiver = ReceiverBuilder::of(&scene).tls(&authority, &leaf).start().await;
    let before = sockets(&receiver);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).expect("a file")).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut pile: Vec<TlsStream<TcpStream>> = Vec::new();
    for _ in 0..PILE {
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        // Each gets its handshake, since it is younger than the others.
        let connected = connector.connect(name, connect(&receiver.address()).await).await;
        let mut stream = connected.expect("a handshake");
        let _ = stream.write_all(asks("/metrics", "").repeat(REQUESTS).as_bytes()).await;
        let _ = stream.flush().await;
        pile.push(stream);
    }
    webhooks_get_through(&receiver).await;
    the_pile_goes(&receiver, before).await;
    drop(pile);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_they_on_the_admin_listener() {
    open_files();
    let scene = Scene::new().await;
    let (builder, admin) = ReceiverBuilder::of(&scene).admin("operator", "open sesame");
    let receiver = builder.start().await;
    let before = sockets(&receiver);
    let known = format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode("operator:open sesame"));
    let pile = pile(&admin, &known).await;
    webhooks_get_through(&receiver).await;
    // While the pile is not yet worked off, the few places of this listener may all be busy.
    for path in ["/", "/metrics", "/livez"] {
        eventually("an answer of the admin listener", DEADLINE, async || {
            let request = client().get(format!("http://{admin}{path}")).basic_auth("operator", Some("open sesame"));
            (Answer::to(request).await.ok()?.status == 200).then_some(())
        })
        .await;
    }
    the_pile_goes(&receiver, before).await;
    drop(pile);
}

/// Also where there are places left, what nobody reads takes no more than its share of memory.
#[tokio::test(flavor = "multi_thread")]
async fn nor_do_their_answers_take_much_memory() {
    let scene = Scene::new().await;
    let mut builder = ReceiverBuilder::of(&scene);
    for number in 0..5 {
        builder = builder.route(&format!("team{number}"), &[&scene.room.id]);
    }
    let receiver = builder.start().await;
    let answer = receiver.get("/metrics").await.body.len();
    let enough = UNREAD_BYTES / answer;
    assert!(enough + 40 < ORDINARY, "{enough} answers of {answer} bytes");
    let mut pile = Vec::new();
    for _ in 0..enough + 20 {
        let mut stream = connect(&receiver.address()).await;
        stream.write_all(asks("/metrics", "").repeat(20).as_bytes()).await.expect("a place");
        pile.push(stream);
    }
    receiver.wait_log(&["WARN", "unread answers take too much memory"]).await;
    assert!(!receiver.logs().contains("all connection slots taken"));
    let closed = async |reason| receiver.metric("http_connections_closed_total", &[("reason", reason)]).await;
    let gone = eventually("the pile is gone", UNREAD + DEADLINE, async || {
        let (displaced, unread) = (closed("displaced").await, closed("unread").await);
        (displaced + unread >= pile.len() as f64).then_some((displaced, unread))
    })
    .await;
    assert!(gone.0 >= 1.0 && gone.1 >= enough as f64 / 2.0, "{gone:?} of {}", pile.len());
    drop(pile);
}

/// Begun and never finished: a handler waits for each of them, and yet they make room.
#[tokio::test(flavor = "multi_thread")]
async fn nor_do_bodies_that_do_not_come() {
    open_files();
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let before = sockets(&receiver);
    let mut pile = Vec::new();
    for _ in 0..PILE {
        let mut stream = connect(&receiver.address()).await;
        let _ = stream.write_all(b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await;
        pile.push(stream);
    }
    webhooks_get_through(&receiver).await;
    eventually("the pile is gone", DEADLINE * 2, async || (sockets(&receiver) <= before + 4).then_some(())).await;
    let count = async |code| receiver.metric("http_requests_total", &[("handler", "alerts"), ("code", code)]).await;
    // What was cut off by us was answered by nobody; the others' time was up.
    assert_eq!(count("400").await, 0.0);
    assert!(receiver.metric("http_connections_closed_total", &[("reason", "displaced")]).await >= 200.0);
    receiver.wait_log(&["WARN", "all connection slots taken"]).await;
    assert!(count("503").await >= 400.0);
    drop(pile);
}

/// Reads to the end of the connection.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    timeout(DEADLINE * 2, stream.read_to_end(&mut read)).await.expect("it ends").expect("answers");
    String::from_utf8(read).expect("UTF-8")
}

/// The kernel's buffers are full for most of the time, and yet it gets all that it has asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_its_answers() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut stream = connect(&receiver.address()).await;
    let requests = format!("{}{}", asks("/metrics", "").repeat(20), asks("/metrics", "Connection: close\r\n"));
    stream.write_all(requests.as_bytes()).await.expect("it is open");
    let (mut read, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        match timeout(DEADLINE, stream.read(&mut piece)).await.expect("in time").expect("more") {
            0 => break,
            bytes => read.extend_from_slice(&piece[..bytes]),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let read = String::from_utf8(read).expect("UTF-8");
    eprintln!("{} bytes each; {}", read.len() / 21, peak(&receiver));
    assert_eq!(read.matches("HTTP/1.1 200 OK").count(), 21);
    assert_eq!(read.matches("\nmatrix_alertmanager_receiver_build_info{").count(), 21);
    assert_eq!(receiver.metric("http_connections_closed_total", &[("reason", "unread")]).await, 0.0);
}

/// The last answer says that it is, so that a client opens another connection for what it has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_after_a_thousand_requests() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let mut stream = TcpStream::connect(receiver.address()).await.expect("a connection");
    let (mut reads, mut writes) = stream.split();
    let requests = asks("/livez", "").repeat(1_100);
    let (answers, _) = tokio::join!(rest(&mut reads), writes.write_all(requests.as_bytes()));
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 1_000);
    assert_eq!(answers.matches("connection: close").count(), 1);
    let last = answers.rfind("HTTP/1.1 200 OK").expect("the last");
    assert!(answers[last..].contains("connection: close"), "{}", &answers[last..]);
    // And the next is served.
    assert_eq!(receiver.get("/livez").await.status, 200);
}

/// Posts again and again until it is aborted, on new connections where the old ones are closed.
async fn posts(address: String, body: String) {
    let head = format!("POST /alerts/default HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    loop {
        let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
        let mut answer = [0; 4096];
        while stream.write_all(format!("{head}{body}").as_bytes()).await.is_ok()
            && stream.read(&mut answer).await.is_ok_and(|read| read > 0)
        {}
    }
}

/// Somebody holds the store's lock, so that each webhook is worked on for seconds: nobody makes room for another.
async fn all_busy(receiver: &Receiver, clients: usize) -> (JoinSet<()>, AnyConnection) {
    let lock = receiver.store().lock().await;
    let mut all = JoinSet::new();
    for number in 0..clients {
        let body = Payload::group(&format!("Busy{number}")).firing(&["n01"]).json().to_string();
        all.spawn(posts(receiver.address(), body));
    }
    (all, lock)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_places_are_busy_webhooks_and_livez_have_some_left() {
    open_files();
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let (busy, lock) = all_busy(&receiver, ORDINARY + 8).await;
    let ask = async |path: &str| timeout(SOON, Answer::to(receiver.request(reqwest::Method::GET, path))).await;
    let refused = eventually("only webhooks and /livez are answered", DEADLINE, async || {
        let answer = ask("/metrics").await.ok()?.ok()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(refused.body.contains("only webhooks and /livez"), "{}", refused.body);
    assert_eq!((refused.header("connection"), refused.header("retry-after")), (Some("close"), Some("5")));
    let livez = ask("/livez").await.expect("in time").expect("an answer");
    assert_eq!(livez.status, 200, "{}", livez.body);
    drop((busy, lock));
    eventually("a webhook is accepted behind hundreds that waited", DEADLINE, async || {
        let answer = receiver.try_post("default", Payload::group("A").firing(&["n01"])).await;
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    })
    .await;
    eventually("all is answered again", DEADLINE, async || {
        (ask("/metrics").await.ok()?.ok()?.status == 200).then_some(())
    })
    .await;
    assert!(receiver.metric("http_requests_total", &[("handler", "metrics"), ("code", "503")]).await >= 1.0);
}

/// Not even one of those that wait longest can go: then what finds no place is closed.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_those_that_are_busy_and_those_that_wait_connections_are_refused() {
    open_files();
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let (busy, lock) = all_busy(&receiver, PILE).await;
    receiver.wait_log(&["WARN", "all connection slots busy; rejecting connections"]).await;
    drop((busy, lock));
    eventually("the flood is over", DEADLINE, async || {
        let answer = receiver.try_post("default", Payload::group("A").firing(&["n01"])).await;
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    })
    .await;
    assert!(receiver.metric("http_connections_refused_total", &[]).await >= 1.0);
}
