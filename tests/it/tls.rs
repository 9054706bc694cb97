//! Webhooks by HTTPS: a real Alertmanager, certificates that change, and clients that never speak.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
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
    AlertToPost, Alertmanager, AlertmanagerConfig, Authority, DEADLINE, Leaf, Payload, Receiver, ReceiverBuilder,
    Scene, eventually, open_files, process::Scratch,
};

/// More than `http/admission.rs` serves and lets wait.
const SILENT: usize = 448 + 64 + 128 + 40;

/// A TLS connection for one test, and the certificate that it got.
struct Connection {
    stream: TlsStream<TcpStream>,
    certificate: CertificateDer<'static>,
}

impl Connection {
    async fn open(receiver: &Receiver, authority: &Authority) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.file()).expect("a file")).expect("an authority");
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("TLS")
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(receiver.address()).await.expect("a place in the backlog");
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a handshake");
        let (_, tls) = stream.get_ref();
        assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
        let certificate = tls.peer_certificates().expect("certificates")[0].clone().into_owned();
        Self { stream, certificate }
    }

    /// A request on the connection, which stays open.
    async fn livez(&mut self) -> String {
        self.stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is open");
        let mut answer = vec![0; 1024];
        let read = self.stream.read(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
    }
}

fn certificate_in(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(&leaf.cert).expect("a certificate")
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanager_posts_by_https() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    let leaf = authority.leaf("receiver", &[], 30);
    let receiver = ReceiverBuilder::of(&scene).tls(&authority, &leaf).webhook_token("a-token-of-a-test").start().await;
    let http =
        |tls: serde_json::Value| json!({ "authorization": { "credentials": "a-token-of-a-test" }, "tls_config": tls });
    let webhook = AlertmanagerConfig::webhook(&receiver.webhook_url("default"));
    let trusting = webhook.clone().webhook_setting("http_config", http(json!({ "ca_file": authority.file() })));
    let alertmanager = Alertmanager::start(trusting).await;
    alertmanager.post_alerts(&[AlertToPost::firing(&[("alertname", "DiskFull")])]).await;
    scene.room.wait_for("the card", DEADLINE, |view| view.cards_with("DiskFull").len() == 1).await;

    // Without the authority it refuses us, and the log tells what it lacks.
    let stranger = Alertmanager::start(webhook.webhook_setting("http_config", http(json!({})))).await;
    stranger.post_alerts(&[AlertToPost::firing(&[("alertname", "Unseen")])]).await;
    receiver.wait_log(&["WARN", "TLS handshake failed", "ca_file", "not_trusted"]).await;
    let failed = "tls_handshakes_failed_total";
    receiver.wait_metric(failed, &[("reason", "not_trusted")], |failed| failed >= 1.0).await;
    // Nor does it get through without TLS.
    let plain = reqwest::Client::builder().no_proxy().build().expect("a client");
    assert!(plain.get(format!("http://{}/livez", receiver.address())).send().await.is_err());
    receiver.wait_metric(failed, &[("reason", "not_tls")], |failed| failed == 1.0).await;
    assert!(receiver.metric("tls_certificate_not_after_timestamp_seconds", &[]).await > 1.7e9);

    let health = receiver.get("/healthz").await.json();
    assert_eq!(health["parts"]["certificate"]["status"], "ok", "{health:#}");
    commands_find_it(&receiver, &authority).await;
    scene.room.wait_for("the test", DEADLINE, |view| view.cards_with("ReceiverTest").len() == 1).await;
}

/// With the certificates of the system, or as the options say.
async fn wget_trusts_as_the_system(receiver: &Receiver, authority: &Authority) {
    let scratch = Scratch::new("wget");
    let link = scratch.join("wget");
    symlink(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"), &link).expect("a link");
    let url = format!("{}/livez", receiver.url());
    let named = format!("--ca-certificate={}", authority.file());
    for (option, system, code) in [
        (None, None, 4),
        (None, Some(authority.file()), 0),
        (Some(named.as_str()), None, 0),
        (Some("--no-check-certificate"), None, 0),
    ] {
        let mut command = std::process::Command::new(&link);
        command
            .env_clear()
            .envs(system.map(|file| ("SSL_CERT_FILE", file)))
            .args(["-qO-", "--spider", &url])
            .args(option);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{option:?}: {said}");
        assert_eq!(said.contains("certificate"), code != 0, "{option:?}: {said}");
    }
}

/// By the config alone, although no system trusts the authority.
async fn commands_find_it(receiver: &Receiver, authority: &Authority) {
    for (args, code, expected) in [
        (&["healthcheck"][..], 0, ""),
        (&["healthcheck", "--url", &receiver.url()], 0, ""),
        (&["healthcheck", "--url", &receiver.url().replace("https", "http")], 1, "unhealthy"),
        (&["send-test", "default", "--for", "10ms"], 0, "resolved: accepted"),
        (&["check"], 0, "http: TLS with the certificate in "),
    ] {
        let output = receiver.cli(args).await;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    wget_trusts_as_the_system(receiver, authority).await;
    // The token goes to nobody with another certificate, be it one of the same authority.
    let other = authority.leaf("other", &[], 30);
    let path = other.cert.to_str().expect("UTF-8");
    let config = fs::read_to_string(receiver.config_path()).expect("a config");
    let config = config.replace(authority.path("receiver.pem").to_str().expect("UTF-8"), path);
    let scratch = Scratch::new("other");
    let file = scratch.write("config.toml", &config);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"))
        .env_clear()
        .args(["send-test", "default", "--config", file.to_str().expect("UTF-8")])
        .output()
        .expect("the receiver's binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("certificate is not the one in http.tls.cert_file"), "{said}");
}

/// As Kubernetes does it: the files are links through a link that is swapped.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_served_and_connections_stay() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    let (first, second) = (authority.leaf("first", &[], 30), authority.leaf("second", &[], 60));
    let mount = Scratch::new("mount");
    for (version, leaf) in [("v1", &first), ("v2", &second)] {
        fs::create_dir(mount.join(version)).expect("a folder");
        fs::copy(&leaf.cert, mount.join(version).join("tls.crt")).expect("a copy");
        fs::copy(&leaf.key, mount.join(version).join("tls.key")).expect("a copy");
    }
    symlink("v1", mount.join("..data")).expect("a link");
    for file in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(file), mount.join(file)).expect("a link");
    }
    let mounted = Leaf { cert: mount.join("tls.crt"), key: mount.join("tls.key") };
    let receiver = ReceiverBuilder::of(&scene).tls(&authority, &mounted).start().await;
    let ends = "tls_certificate_not_after_timestamp_seconds";
    let first_ends = receiver.wait_metric(ends, &[], |at| at > 0.0).await;
    let mut old = Connection::open(&receiver, &authority).await;
    assert_eq!((old.livez().await, &old.certificate), ("HTTP/1.1 200 OK".to_owned(), &certificate_in(&first)));

    symlink("v2", mount.join("..next")).expect("a link");
    fs::rename(mount.join("..next"), mount.join("..data")).expect("swapped");
    receiver.wait_log(&["INFO", "a new certificate is in use", "not_after="]).await;
    assert_eq!(old.livez().await, "HTTP/1.1 200 OK", "what is open stays");
    let mut new = Connection::open(&receiver, &authority).await;
    assert_eq!((new.livez().await, &new.certificate), ("HTTP/1.1 200 OK".to_owned(), &certificate_in(&second)));
    let second_ends = receiver.metric(ends, &[]).await;
    let days = (second_ends - first_ends) / 86_400.0;
    assert!((29.9..30.1).contains(&days), "{days}");
    assert!(!receiver.logs().contains("is refused"), "nothing was wrong in between");
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_the_old_one_stays() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    let leaf = authority.leaf("served", &[], 30);
    let (good_cert, good_key) = (fs::read(&leaf.cert).expect("PEM"), fs::read(&leaf.key).expect("PEM"));
    let other = authority.leaf("other", &[], 30);
    let served = certificate_in(&leaf);
    let receiver = ReceiverBuilder::of(&scene).tls(&authority, &leaf).start().await;
    let refused = "the new certificate is refused, the one in use stays";
    let successful = "tls_certificate_last_reload_successful";
    receiver.wait_metric(successful, &[], |yes| yes == 1.0).await;

    fs::copy(&other.key, &leaf.key).expect("a copy");
    receiver.wait_log(&["WARN", refused, "http.tls.key_file", "is not the key of the certificate"]).await;
    receiver.wait_metric(successful, &[], |yes| yes == 0.0).await;
    let health = receiver.get("/healthz").await.json();
    assert_eq!(
        (&health["status"], &health["parts"]["certificate"]["status"]),
        (&"degraded".into(), &"degraded".into())
    );
    assert!(!health.to_string().contains(leaf.key.to_str().expect("UTF-8")), "{health:#}");
    assert_eq!(Connection::open(&receiver, &authority).await.certificate, served);

    // A file that is being written, and one that has ended: each is said once.
    fs::write(&leaf.cert, &good_cert[..good_cert.len() / 2]).expect("a file");
    receiver.wait_log(&["WARN", refused, "http.tls.cert_file", "cut off"]).await;
    let ended = authority.leaf("ended", &[], -1);
    fs::copy(&ended.cert, &leaf.cert).expect("a copy");
    fs::copy(&ended.key, &leaf.key).expect("a copy");
    receiver.wait_log(&["WARN", refused, "out of its time"]).await;
    assert_eq!(Connection::open(&receiver, &authority).await.certificate, served);

    fs::write(&leaf.cert, &good_cert).expect("a file");
    fs::write(&leaf.key, &good_key).expect("a file");
    receiver.wait_log(&["INFO", "the certificate's files hold the pair in use again"]).await;
    receiver.wait_metric(successful, &[], |yes| yes == 1.0).await;
    assert_eq!(receiver.logs().matches(refused).count(), 3, "{}", receiver.logs());
    assert!(!receiver.logs().contains("PRIVATE KEY"));
}

/// They have a place before they have shaken hands, and lose it soon; at once, where another needs it.
#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_are_bounded_in_number_and_time() {
    open_files();
    let scene = Scene::new().await;
    let authority = Authority::new();
    let leaf = authority.leaf("receiver", &[], 30);
    let receiver = ReceiverBuilder::of(&scene).tls(&authority, &leaf).start().await;
    let begun = Instant::now();
    let mut open = Vec::new();
    for _ in 0..SILENT {
        open.push(TcpStream::connect(receiver.address()).await.expect("a place in the backlog"));
    }
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    eprintln!("an alert got through {:?} after the flood began", begun.elapsed());
    // The longest silent make room; the others have their time.
    eventually("all have ended", DEADLINE, async || {
        let metrics = receiver.metrics().await;
        let displaced = metrics.sum("http_connections_closed_total", &[("reason", "displaced")]);
        let in_time = metrics.sum("tls_handshakes_failed_total", &[("reason", "timeout")]);
        (displaced > 0.0 && in_time > 0.0 && displaced + in_time >= SILENT as f64).then_some(())
    })
    .await;
    let mut byte = [0];
    let ended = tokio::time::timeout(DEADLINE, open[0].read(&mut byte)).await.expect("it was closed");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_stops_the_start() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    let good = authority.leaf("good", &[], 30);
    let other = authority.leaf("other", &[], 30);
    let encrypted = authority.path("encrypted.key");
    authority.openssl(&["pkcs8", "-topk8", "-in", "good.key", "-out", "encrypted.key", "-passout", "pass:hunter2"]);
    let missing = authority.path("missing.pem");
    for (cert, key, fault) in [
        (&missing, &good.key, "http.tls.cert_file: PATH: cannot be read: No such file"),
        (&good.cert, &missing, "http.tls.key_file: PATH: cannot be read: No such file"),
        (&good.key, &good.key, "http.tls.cert_file: PATH: holds no PEM certificate"),
        (&good.cert, &good.cert, "http.tls.key_file: PATH: holds no PEM private key"),
        (&good.cert, &encrypted, "http.tls.key_file: PATH: holds an encrypted key"),
        (&good.cert, &other.key, "http.tls.key_file: PATH: is not the key of the certificate in http.tls.cert_file"),
    ] {
        let at_fault = if fault.contains("cert_file: ") { cert } else { key };
        let fault = fault.replace("PATH", at_fault.to_str().expect("UTF-8"));
        let leaf = Leaf { cert: cert.clone(), key: key.clone() };
        let failed = ReceiverBuilder::of(&scene).tls(&authority, &leaf).try_start().await;
        let failed = failed.expect_err(&fault);
        assert!(failed.status.is_some() && failed.log.contains(&fault), "{fault}\n{failed}");
        assert!(!failed.log.contains("PRIVATE KEY"), "{failed}");
        let output = ReceiverBuilder::of(&scene).tls(&authority, &leaf).unstarted().cli(&["check"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(&fault), "{fault}\n{said}");
    }
}

/// The forms of keys that are about, and a certificate that has ended: better an answer that some refuse than none.
#[tokio::test(flavor = "multi_thread")]
async fn other_forms_of_keys_and_an_ended_certificate_are_served() {
    let scene = Scene::new().await;
    let authority = Authority::new();
    let good = authority.leaf("good", &[], 30);
    // SEC1 behind the parameters of its curve, as `openssl ecparam -genkey` writes it.
    authority.openssl(&["ec", "-in", "good.key", "-out", "sec1.key"]);
    authority.openssl(&["ecparam", "-name", "prime256v1", "-out", "parameters"]);
    let parameters = fs::read_to_string(authority.path("parameters")).expect("PEM");
    let sec1 = fs::read_to_string(authority.path("sec1.key")).expect("PEM");
    assert!(parameters.contains("EC PARAMETERS") && sec1.contains("EC PRIVATE KEY"));
    fs::write(authority.path("sec1.key"), format!("{parameters}{sec1}")).expect("a file");
    // PKCS#1.
    let rsa =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rsa", "-keyout", "rsa8.key", "-out", "rsa.pem"];
    authority.openssl(&rsa);
    authority.openssl(&["rsa", "-traditional", "-in", "rsa8.key", "-out", "rsa.key"]);
    let pkcs1 = fs::read_to_string(authority.path("rsa.key")).expect("PEM");
    assert!(pkcs1.contains("RSA PRIVATE KEY"));
    let ended = authority.leaf("ended", &[], -1);
    for (cert, key, code, expected) in [
        (&good.cert, &authority.path("sec1.key"), 0, "http: TLS with the certificate in "),
        (&authority.path("rsa.pem"), &authority.path("rsa.key"), 0, "http: TLS with the certificate in "),
        (&ended.cert, &ended.key, 1, "expired at "),
    ] {
        let leaf = Leaf { cert: cert.clone(), key: key.clone() };
        let output = ReceiverBuilder::of(&scene).tls(&authority, &leaf).unstarted().cli(&["check"]).await;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.code() == Some(code) && said.contains(expected), "{said}");
    }
    let mut receiver = ReceiverBuilder::of(&scene).tls(&authority, &ended).unstarted();
    receiver.spawn();
    receiver.wait_log(&["WARN", "the certificate has ended: clients will refuse it", "not_after="]).await;
    receiver.wait_log(&["INFO", "ready"]).await;
    // It says nothing of the process, which is what is asked.
    eventually("alive", DEADLINE, async || receiver.cli(&["healthcheck"]).await.status.success().then_some(())).await;
}
