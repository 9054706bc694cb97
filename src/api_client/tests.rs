//! One question to a scripted server.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::oneshot,
};
use url::Url;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, body_string, header, method, path, query_param},
};

use super::*;
use crate::config::{ApiAuth, EvidenceSource, Secret};

const MIB: usize = 1024 * 1024;

fn source(url: &str) -> EvidenceSource {
    EvidenceSource { url: Url::parse(url).expect("a URL"), auth: ApiAuth::None, headers: Vec::new(), ca_file: None }
}

fn question<'a>(pairs: &'a [(&'a str, String)]) -> Question<'a> {
    Question { key: "evidence.loki", path: &["api", "v1", "query"], pairs, form: false, max_body: 16 * MIB }
}

async fn answers(template: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(template).mount(&server).await;
    server
}

async fn refusal(status: u16, body: &str) -> String {
    let server = answers(ResponseTemplate::new(status).set_body_string(body)).await;
    let source = EvidenceSource { auth: ApiAuth::Bearer(Secret::new("t0ken-abc")), ..source(&server.uri()) };
    ask(&source, &question(&[])).await.expect("an answer").refusal()
}

#[tokio::test]
async fn a_question_goes_below_the_prefix_with_what_the_config_says() {
    let server = MockServer::start().await;
    let basic = header("authorization", "Basic bWFyOnB3");
    let query = Mock::given(method("GET")).and(path("/a/b/api/v1/query")).and(query_param("query", "{a=\"b & c+d\"}"));
    let answer = ResponseTemplate::new(200).set_body_string("got");
    query.and(basic).and(header("x-scope-orgid", "team a")).respond_with(answer).expect(1).mount(&server).await;
    let form = Mock::given(method("POST")).and(path("/a/b/api/v1/query")).and(body_string("query=a%26b&x=%25"));
    let form = form.and(header("content-type", "application/x-www-form-urlencoded"));
    form.respond_with(ResponseTemplate::new(200).set_body_string("posted")).expect(1).mount(&server).await;
    for base in [format!("{}/a/b", server.uri()), format!("{}/a/b/", server.uri())] {
        let source = EvidenceSource {
            auth: ApiAuth::Basic { username: "mar".to_owned(), password: Secret::new("pw") },
            headers: vec![("x-scope-orgid".to_owned(), Secret::new("team a"))],
            ..source(&base)
        };
        if base.ends_with('b') {
            let answer = ask(&source, &question(&[("query", "{a=\"b & c+d\"}".to_owned())])).await.expect("an answer");
            assert!(answer.is_success() && answer.body == b"got");
        } else {
            let pairs = [("query", "a&b".to_owned()), ("x", "%".to_owned())];
            let answer = ask(&source, &Question { form: true, ..question(&pairs) }).await.expect("an answer");
            assert_eq!(answer.body, b"posted");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_in_words_on_one_line_and_without_secrets() {
    for (status, body, expected) in [
        (401, "no org id\n", ": refused our credentials (401): no org id"),
        (403, r#"{"message":"t0ken-abc lacks\na right"}"#, "refused our credentials (403): *** lacks a right"),
        (404, "404 page not found", "has no API at this URL (404); check the path of the URL: 404 page not found"),
        (302, "", "redirects (302): name the address that it leads to as the URL"),
        (429, "slow down", "is asked too much (429): slow down"),
        (502, "<html>Bad gateway</html>", "answered 502"),
        (422, r#"{"error":"too many samples"}"#, "refused it (422): too many samples"),
    ] {
        let words = refusal(status, body).await;
        assert!(words.starts_with("127.0.0.1:") && words.ends_with(expected), "{status}: {words}");
    }
    let long = refusal(400, &format!("t0ken-abc\u{202e}{}t0ken-abc", "x".repeat(185))).await;
    assert!(long.chars().count() < 300 && !long.contains("t0k") && !long.contains('\u{202e}'), "{long}");
}

/// Whatever part of the credentials a server repeats, and also where an error quotes it.
#[tokio::test]
async fn no_secret_of_the_config_is_repeated() {
    let body = "bWFyOnBhc3N3b3JkLTE= password-1 header-1 ab";
    let server = answers(ResponseTemplate::new(400).set_body_string(body)).await;
    let source = EvidenceSource {
        auth: ApiAuth::Basic { username: "mar".to_owned(), password: Secret::new("password-1") },
        headers: [("x-token", "header-1"), ("x-scope-orgid", "ab")]
            .map(|(name, value)| (name.to_owned(), Secret::new(value)))
            .to_vec(),
        ..source(&server.uri())
    };
    let answer = ask(&source, &question(&[])).await.expect("an answer");
    assert_eq!(answer.words(), "*** *** *** ab", "a short one is part of many words");
    assert!(answer.error("with password-1").ends_with(": with ***"), "{}", answer.error("with password-1"));
}

/// So that no trace of the HTTP client shows them.
#[tokio::test]
async fn headers_with_secrets_are_sensitive() {
    let headers = [("x-token".to_owned(), Secret::new("t"))];
    for auth in
        [ApiAuth::Bearer(Secret::new("t")), ApiAuth::Basic { username: "u".to_owned(), password: Secret::new("p") }]
    {
        let request = reqwest::Client::new().get("http://127.0.0.1:1");
        let request = Secrets::read(&auth, &headers).await.add_to(request).build().expect("a request");
        assert!(
            request.headers().len() == 2 && request.headers().values().all(reqwest::header::HeaderValue::is_sensitive)
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = answers(ResponseTemplate::new(200)).await;
    let server = answers(ResponseTemplate::new(307).insert_header("location", target.uri())).await;
    assert_eq!(ask(&source(&server.uri()), &question(&[])).await.expect("an answer").status, 307);
    assert!(target.received_requests().await.expect("requests").is_empty());
}

/// A server that begins an answer of `offered` bytes, and then says how many of them somebody took.
async fn offers(offered: usize) -> (String, oneshot::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (done, taken) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let _ = stream.read(&mut [0; 4096]).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {offered}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("a head");
        let (chunk, mut taken) = (vec![b' '; 64 * 1024], 0);
        while taken < offered && stream.write_all(&chunk).await.is_ok() {
            taken += chunk.len();
        }
        let _ = done.send(taken);
    });
    (url, taken)
}

#[tokio::test]
async fn of_a_huge_answer_no_more_is_read_than_the_bound() {
    let (url, taken) = offers(200 * MIB).await;
    let error = ask(&source(&url), &question(&[])).await.err().expect("no answer");
    assert!(error.to_string().ends_with("the answer is longer than 16 MiB"), "{error}");
    let taken = taken.await.expect("a count");
    // What the sockets of both ends hold comes on top.
    assert!((16 * MIB..48 * MIB).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_server_that_hangs_or_is_not_there() {
    let (url, _taken) = offers(0).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_url = format!("http://{}", silent.local_addr().expect("an address"));
    assert!(ask(&source(&url), &question(&[])).await.is_ok_and(|answer| answer.body.is_empty()));
    let began = Instant::now();
    let error = ask(&source(&silent_url), &question(&[])).await.err().expect("no answer");
    let host = silent_url.trim_start_matches("http://");
    assert_eq!(error, Unanswered::TimedOut(format!("{host}: no answer within 10 s")));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    drop(silent);
    let error = ask(&source(&silent_url), &question(&[])).await.err().expect("no answer").to_string();
    assert!(error.starts_with(&format!("{host}: cannot connect: ")), "{error}");
}

#[tokio::test]
async fn secrets_and_certificates_are_as_their_files_are_now() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    let tenant = folder.path().join("tenant");
    std::fs::write(&token, "second\n").expect("a file");
    std::fs::write(&tenant, "b\n").expect("a file");
    let server = MockServer::start().await;
    let second = Mock::given(header("authorization", "Bearer second")).and(header("x-scope-orgid", "b"));
    second.respond_with(ResponseTemplate::new(200)).expect(1).mount(&server).await;
    let auth = ApiAuth::Bearer(Secret::from_file("first", token));
    let headers = vec![("x-scope-orgid".to_owned(), Secret::from_file("a", tenant))];
    let renewed = EvidenceSource { auth, headers, ..source(&server.uri()) };
    assert!(ask(&renewed, &question(&[])).await.is_ok_and(|answer| answer.is_success()));
    let ca_file = Some(folder.path().join("ca.pem"));
    let error = ask(&EvidenceSource { ca_file, ..source("https://127.0.0.1:1") }, &question(&[])).await.err();
    assert!(error.is_some_and(|error| error.to_string().starts_with("evidence.loki.ca_file: ")));
}
