//! The way to the homeserver: private authorities, proxies, and server names in place of URLs.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use crate::harness::{
    Authority, DEADLINE, Fault, FaultProxy, Leaf, Match, Payload, ReceiverBuilder, Reply, RoomView, Scene,
};

/// Names that only the proxy knows.
const NAME: &str = "chat.invalid";
const MATRIX: &str = "matrix.chat.invalid";

/// A proxy that passes on only part of the API, or answers with a page of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_homeserver_that_does_not_tell_its_versions_serves_all_the_same() {
    let page = Reply::new(200, "text/html", "<html><body>It works!</body></html>");
    for reply in [Reply::new(404, "text/html", "<html>404</html>"), page, Reply::error(404, "M_UNRECOGNIZED")] {
        let scene = Scene::new().await;
        let proxy = FaultProxy::start(&scene.synapse.url()).await;
        proxy.fault(Match::when(|one| one.path.ends_with("/versions")), Fault::Respond(reply.clone()));
        let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
        receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
        scene.room.wait_for("a card", DEADLINE, one_card).await;
        receiver.accept("default", Payload::group("DiskFull").resolved(&["n01"])).await;
        scene.room.wait_for("and its edit", DEADLINE, |view| view.card().has("RESOLVED")).await;
        receiver.wait_metric("last_sync_timestamp_seconds", &[], |last| last > 0.0).await;
        assert_eq!(receiver.metric("homeserver_up", &[]).await, 1.0, "{reply:?}");
    }
}

fn one_card(view: &RoomView) -> bool {
    view.cards().len() == 1
}

/// Ends TLS in front of `target` (an http URL); returns the port.
async fn front(leaf: &Leaf, target: &str) -> u16 {
    let chain = CertificateDer::pem_file_iter(&leaf.cert).expect("a file");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(&leaf.key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    let (acceptor, target) = (TlsAcceptor::from(Arc::new(config)), address(target));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let Ok(mut outside) = TcpStream::connect(target).await else { return };
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    port
}

/// `127.0.0.1:PORT` of an http URL.
fn address(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// A proxy that connects names to ports, and keeps the heads of all requests.
struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(names: &[(&str, u16)]) -> Self {
        let names: Vec<_> = names.iter().map(|(name, port)| (format!("{name}:443"), *port)).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (port, seen) = (listener.local_addr().expect("an address").port(), Arc::new(Mutex::default()));
        let proxy = Self { port, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, names.clone(), Arc::clone(&seen)));
            }
        });
        proxy
    }

    fn url(&self, who: &str) -> String {
        format!("http://{who}127.0.0.1:{}", self.port)
    }

    fn heads(&self) -> Vec<String> {
        self.seen.lock().expect("whole").clone()
    }
}

async fn pass(stream: TcpStream, names: Vec<(String, u16)>, seen: Arc<Mutex<Vec<String>>>) {
    let mut inside = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if inside.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().expect("whole").push(head.clone());
    let wanted = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let Some((_, port)) = names.iter().find(|(name, _)| name == wanted) else {
        let _ = inside.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        return;
    };
    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", *port)).await else { return };
    let _ = inside.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await;
    let _ = copy_bidirectional(&mut inside, &mut outside).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_only_where_its_file_is_named() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME, MATRIX], 2);
    let url = format!("https://127.0.0.1:{}", front(&leaf, &scene.synapse.url()).await);
    let stranger = ReceiverBuilder::of(&scene).homeserver(&url).start().await;
    stranger.wait_log(&["cannot send to the homeserver", "certificate"]).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&url).set("matrix.ca_file", authority.file()).start().await;
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, one_card).await;
    let checked = receiver.cli(&["check", "--online"]).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let refused = stranger.cli(&["check", "--online"]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_name_is_looked_up_and_all_goes_through_the_proxy() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    let leaf = authority.leaf("leaf", &[NAME, MATRIX], 2);
    let web = MockServer::start().await;
    let answer = json!({ "m.homeserver": { "base_url": format!("https://{MATRIX}") } });
    let answer = ResponseTemplate::new(200).set_body_json(answer);
    Mock::given(path("/.well-known/matrix/client")).respond_with(answer).mount(&web).await;
    let names = [(NAME, front(&leaf, &web.uri()).await), (MATRIX, front(&leaf, &scene.synapse.url()).await)];
    let of = || ReceiverBuilder::of(&scene).homeserver(NAME).set("matrix.ca_file", authority.file());

    // By the config, with a password that the log must not have.
    let proxy = Proxy::start(&names).await;
    let receiver = of()
        .set("matrix.proxy", proxy.url("receiver:hunter2secret@"))
        .set("log.filter", "trace,reqwest=trace,hyper_util=trace")
        .start()
        .await;
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    scene.room.wait_for("a card", DEADLINE, one_card).await;
    let heads = proxy.heads();
    for name in [NAME, MATRIX] {
        assert!(heads.iter().any(|head| head.starts_with(&format!("CONNECT {name}:443 "))), "{heads:?}");
    }
    // receiver:hunter2secret
    let proven = |head: &String| head.to_ascii_lowercase().contains("proxy-authorization: basic ");
    assert!(heads.iter().all(proven), "{heads:?}");
    let said = receiver.cli(&["check", "--online"]).await;
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    for text in [receiver.logs(), String::from_utf8_lossy(&said.stdout).into_owned()] {
        assert!(!text.contains("hunter2secret"));
    }
    drop(receiver);

    // By the environment; and by neither of them where the config says so.
    let proxy = Proxy::start(&names).await;
    let receiver = of().env("HTTPS_PROXY", &proxy.url("")).start().await;
    receiver.accept("default", Payload::group("B").firing(&["n01"])).await;
    scene.room.wait_for("the next", DEADLINE, |view| view.cards_with("B").len() == 1).await;
    assert!(!proxy.heads().is_empty());
    drop(receiver);
    let proxy = Proxy::start(&names).await;
    let receiver = of().env("HTTPS_PROXY", &proxy.url("")).set("matrix.proxy", "none").start().await;
    receiver.wait_log(&["cannot send to the homeserver", NAME, "cannot connect"]).await;
    let receiver_of_other = of().env("HTTPS_PROXY", &proxy.url("")).env("NO_PROXY", ".invalid").start().await;
    receiver_of_other.wait_log(&["cannot send to the homeserver", NAME, "cannot connect"]).await;
    assert!(proxy.heads().is_empty());
}
