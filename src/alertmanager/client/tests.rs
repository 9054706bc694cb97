//! What each answer of each version means, on a scripted server.

use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_partial_json, header, method, path, query_param},
};

use super::*;
use crate::{
    alertmanager::api::Matcher,
    config::{ApiAuth, Secret},
    model::RoomName,
};

fn config(urls: &[&str]) -> Alertmanager {
    Alertmanager {
        urls: urls.iter().map(|url| Url::parse(url).expect("a URL")).collect(),
        auth: ApiAuth::None,
        headers: Vec::new(),
        ca_file: None,
        poll: None,
    }
}

fn client_of(config: Alertmanager) -> Client {
    let route = RouteName::parse("default").expect("a name");
    let metrics = Metrics::new(std::slice::from_ref(&route), &[RoomName("default/1".to_owned())], "v", "c");
    Client::new(Arc::new(config), route, Arc::new(metrics))
}

fn client(urls: &[&str]) -> Client {
    client_of(config(urls))
}

fn silence(id: Option<&str>) -> NewSilence {
    let matcher = Matcher { name: "alertname".to_owned(), value: "X".to_owned(), is_regex: false, is_equal: true };
    NewSilence {
        id: id.map(ToOwned::to_owned),
        matchers: vec![matcher],
        starts_at: Timestamp(1_795_305_600_000),
        ends_at: Timestamp(1_795_312_800_500),
        created_by: "@sre:example.org".to_owned(),
        comment: "known [mar:1/0]".to_owned(),
    }
}

/// A port where nobody listens, so that a connection is refused.
async fn nobody_at() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

/// A server that takes connections and ends them once a request has come.
async fn cuts_off() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    url
}

async fn answers(status: u16, body: &str, content_type: &str) -> MockServer {
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(status).set_body_raw(body.to_owned(), content_type);
    Mock::given(wiremock::matchers::any()).respond_with(answer).mount(&server).await;
    server
}

const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

#[tokio::test]
async fn answers_to_a_new_silence() {
    use ApiFault::{InDoubt, NotFound, Refused, Unauthorized};
    for (status, body, content_type, expected) in [
        // Alertmanager.
        (200, r#"{"silenceID":"s-1"}"#, JSON, Ok("s-1")),
        (
            422,
            r#"{"code":602,"message":"comment in body is required"}"#,
            JSON,
            Err((Refused, "comment in body is required")),
        ),
        (400, r#""failed to create silence: limits""#, JSON, Err((Refused, "failed to create silence: limits"))),
        (404, r#""silence not found""#, JSON, Err((NotFound, "silence not found"))),
        (401, "Unauthorized", PLAIN, Err((Unauthorized, "401"))),
        (500, r#""store is broken""#, JSON, Err((InDoubt, "store is broken"))),
        // Grafana.
        (202, r#"{"silenceID":"s-2"}"#, JSON, Ok("s-2")),
        (202, r#"{"id":"s-3","message":"silence created"}"#, JSON, Ok("s-3")),
        (403, r#"{"message":"Access denied"}"#, JSON, Err((Unauthorized, "Access denied"))),
        (409, r#"{"message":"alertmanager not ready"}"#, JSON, Err((Refused, "alertmanager not ready"))),
        // Whatever stands in front of it.
        (404, "404 page not found", PLAIN, Err((NotFound, "check the path"))),
        (502, "<html>Bad Gateway</html>", "text/html", Err((InDoubt, "answered 502"))),
        (307, "", PLAIN, Err((Refused, "redirects (307)"))),
        (200, "<html>log in</html>", "text/html", Err((InDoubt, "no id of a silence"))),
        (200, r#"{"silenceID":null}"#, JSON, Err((InDoubt, "no id of a silence"))),
        (429, "slow down", PLAIN, Err((Refused, "slow down"))),
    ] {
        let server = answers(status, body, content_type).await;
        let made = client(&[&server.uri()]).post_silence(&silence(None)).await;
        match (&made, expected) {
            (Ok(id), Ok(expected)) => assert_eq!(id, expected, "{status} {body}"),
            (Err(error), Err((kind, words))) => {
                assert_eq!(error.kind, kind, "{status} {body}: {error}");
                assert!(error.detail.contains(words), "{status} {body}: {error}");
                assert!(error.detail.starts_with(&server.address().to_string()), "{error}");
            }
            _ => panic!("{status} {body}: {made:?}"),
        }
    }
}

#[tokio::test]
async fn answers_to_an_expiry() {
    use ApiFault::{InDoubt, Refused, Unauthorized};
    for (status, body, content_type, expected) in [
        (200, "", PLAIN, Ok(())),
        (200, r#"{"message":"silence deleted"}"#, JSON, Ok(())),
        (404, "", "", Ok(())),
        (404, r#"{"message":"silence not found"}"#, JSON, Ok(())),
        (500, r#""silence not found""#, JSON, Ok(())),
        (500, r#""store is broken""#, JSON, Err(InDoubt)),
        // A wrong path must not read as done.
        (404, "404 page not found", PLAIN, Err(Refused)),
        (404, "<html>Not Found</html>", "text/html", Err(Refused)),
        (422, r#"{"code":601,"message":"must be of type uuid"}"#, JSON, Err(Refused)),
        (401, "Unauthorized", PLAIN, Err(Unauthorized)),
    ] {
        let server = answers(status, body, content_type).await;
        let expired = client(&[&server.uri()]).expire_silence("a/b").await;
        assert_eq!(expired.map_err(|error| error.kind), expected, "{status} {body}");
        assert_eq!(server.received_requests().await.unwrap()[0].url.path(), "/api/v2/silence/a%2Fb");
    }
}

#[tokio::test]
async fn an_expiry_asks_on_until_a_peer_knows_the_silence() {
    let unknown = answers(404, "", "").await;
    let knows = answers(200, "", PLAIN).await;
    client(&[&unknown.uri(), &knows.uri()]).expire_silence("x").await.expect("expired");
    assert_eq!(knows.received_requests().await.unwrap().len(), 1);
    client(&[&nobody_at().await, &unknown.uri()]).expire_silence("x").await.expect("nobody knows it");
    let cut = client(&[&cuts_off().await, &nobody_at().await]).expire_silence("x").await;
    assert_eq!(cut.unwrap_err().kind, ApiFault::InDoubt);
}

#[tokio::test]
async fn a_write_goes_to_the_next_peer_only_if_nothing_was_sent() {
    let good = answers(200, r#"{"silenceID":"s"}"#, JSON).await;
    let made = client(&[&nobody_at().await, &good.uri()]).post_silence(&silence(None)).await;
    assert_eq!(made.as_deref(), Ok("s"));
    let broken = answers(503, "", PLAIN).await;
    for first in [cuts_off().await, broken.uri()] {
        let before = good.received_requests().await.unwrap().len();
        let error = client(&[&first, &good.uri()]).post_silence(&silence(None)).await.unwrap_err();
        assert_eq!(error.kind, ApiFault::InDoubt, "{error}");
        assert_eq!(good.received_requests().await.unwrap().len(), before, "{first}");
    }
    let error = client(&[&nobody_at().await]).post_silence(&silence(None)).await.unwrap_err();
    assert_eq!(error.kind, ApiFault::NotSent, "{error}");
    assert!(error.detail.contains("cannot connect"), "{error}");
}

#[tokio::test]
async fn a_read_goes_to_the_next_peer() {
    let good = answers(200, "[]", JSON).await;
    for first in
        [nobody_at().await, cuts_off().await, answers(503, "", PLAIN).await.uri(), answers(200, "{", JSON).await.uri()]
    {
        let client = client(&[&first, &good.uri()]);
        assert_eq!(client.alerts_of_receiver("r", None).await, Ok((1, Vec::new())), "{first}");
        let alone = client.alerts_of_receiver("r", Some(0)).await;
        assert!(matches!(alone.unwrap_err().kind, ApiFault::NotSent | ApiFault::InDoubt), "{first}");
    }
    let refuses = answers(401, "", PLAIN).await;
    let error = client(&[&refuses.uri(), &good.uri()]).silences(false, None).await.unwrap_err();
    assert_eq!(error.kind, ApiFault::Unauthorized);
    assert_eq!(client(&[&good.uri()]).status(7).await.unwrap_err().kind, ApiFault::NotSent);
}

#[tokio::test]
async fn prefix_headers_and_credentials_are_sent() {
    let server = MockServer::start().await;
    let mock = Mock::given(method("POST"))
        .and(path("/tenant/alertmanager/api/v2/silences"))
        .and(header("x-scope-orgid", "team-a"))
        .and(header("authorization", "Bearer new-token"))
        .and(body_partial_json(json!({
            "id": "old",
            "startsAt": "2026-11-22T00:00:00Z",
            "endsAt": "2026-11-22T02:00:00.5Z",
            "createdBy": "@sre:example.org",
            "comment": "known [mar:1/0]",
            "matchers": [{ "name": "alertname", "value": "X", "isRegex": false, "isEqual": true }],
        })))
        .respond_with(ResponseTemplate::new(200).set_body_json(json!({ "silenceID": "new" })));
    mock.expect(1).mount(&server).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "new-token\n").expect("a file");
    let client = client_of(Alertmanager {
        auth: ApiAuth::Bearer(Secret::from_file("old-token", file)),
        headers: vec![("x-scope-orgid".to_owned(), Secret::new("team-a"))],
        ..config(&[&format!("{}/tenant/alertmanager", server.uri())])
    });
    assert_eq!(client.post_silence(&silence(Some("old"))).await.as_deref(), Ok("new"));
}

#[tokio::test]
async fn filters_are_escaped_and_checked() {
    let server = MockServer::start().await;
    let groups = json!([
        { "receiver": { "name": "a.b" }, "alerts": [{ "fingerprint": "1" }] },
        { "receiver": { "name": "aXb" }, "alerts": [{ "fingerprint": "2", "receivers": [{ "name": "a.b" }] }] },
    ]);
    let alerts = json!([
        { "fingerprint": "1", "labels": { "a": "x\"\\\n", "b": "1" } },
        { "fingerprint": "2", "labels": { "a": "other" } },
    ]);
    for (at, name, value, body) in [
        ("/api/v2/alerts/groups", "receiver", r"a\.b", groups),
        ("/api/v2/alerts", "filter", "a=\"x\\\"\\\\\\n\"", alerts),
    ] {
        let answer = ResponseTemplate::new(200).set_body_json(body);
        Mock::given(path(at)).and(query_param(name, value)).respond_with(answer).expect(1).mount(&server).await;
    }
    let client = client(&[&server.uri()]);
    let fingerprints = |alerts: Vec<ApiAlert>| alerts.into_iter().map(|alert| alert.fingerprint).collect::<Vec<_>>();
    assert_eq!(fingerprints(client.alerts_of_receiver("a.b", None).await.expect("an answer").1), ["1"]);
    let labels = [("a".to_owned(), "x\"\\\n".to_owned()), ("absent".to_owned(), String::new())];
    let found = client.alerts_with(&labels[..1]).await.expect("an answer");
    assert_eq!(fingerprints(found), ["1"]);
    assert_eq!(filter("host name", "x"), "\"host name\"=\"x\"");
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let server = answers(200, &format!("[{}]", " ".repeat(64 * 1024 * 1024)), JSON).await;
    let error = client(&[&server.uri()]).alerts_with(&[]).await.unwrap_err();
    assert!(error.detail.ends_with("the answer is longer than 64 MiB"), "{error}");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = answers(200, "[]", JSON).await;
    let server = MockServer::start().await;
    let answer = ResponseTemplate::new(302).insert_header("location", target.uri());
    Mock::given(wiremock::matchers::any()).respond_with(answer).mount(&server).await;
    let error = client(&[&server.uri()]).silences(true, None).await.unwrap_err();
    assert_eq!(error.kind, ApiFault::Refused, "{error}");
    assert!(target.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn no_error_holds_a_secret_or_a_second_line() {
    let long = format!("denied: pa55-word, t0ken-in-header\\n{}", "x".repeat(500));
    let server = answers(400, &format!("\"{long}\""), JSON).await;
    let client = client_of(Alertmanager {
        auth: ApiAuth::Basic { username: "mar".to_owned(), password: Secret::new("pa55-word") },
        headers: vec![("x-token".to_owned(), Secret::new("t0ken-in-header"))],
        ..config(&[&server.uri()])
    });
    let error = client.silences(true, None).await.unwrap_err().to_string();
    assert!(error.contains("denied: ***, *** xxx") && error.ends_with('…'), "{error}");
    assert!(error.chars().count() < 300 && !error.contains('\n'), "{error}");
    let shown = format!("{client:?} {:?}", client.config);
    assert!(!shown.contains("pa55-word") && !shown.contains("t0ken"), "{shown}");
}

/// Credentials as they were sent, and at the place where the quotation ends.
#[tokio::test]
async fn what_a_server_repeats_of_the_request_is_blanked() {
    for words in ["got Basic bWFyOnBhNTUtd29yZA==".to_owned(), format!("{} pa55-word", "x".repeat(192))] {
        let server = answers(401, &format!("\"{words}\""), JSON).await;
        let client = client_of(Alertmanager {
            auth: ApiAuth::Basic { username: "mar".to_owned(), password: Secret::new("pa55-word") },
            ..config(&[&server.uri()])
        });
        let error = client.silences(true, None).await.unwrap_err().to_string();
        assert!(error.contains("***") && !error.contains("pa55") && !error.contains("bWFy"), "{error}");
    }
}

#[tokio::test]
async fn requests_are_counted_and_peers_are_noted() {
    let good = answers(200, r#"{"cluster":{"status":"ready"}}"#, JSON).await;
    let (health, clock) = (Arc::new(Health::default()), Clock::manual(Timestamp(1_000)));
    let client = client(&[&nobody_at().await, &good.uri()]).with_health(health.clone(), clock);
    let up = |client: &Client| client.metrics.alertmanager.up.with_label_values(&["default"]).get();
    client.status(0).await.unwrap_err();
    assert_eq!(up(&client), 0);
    client.status(1).await.expect("an answer");
    assert_eq!(up(&client), 1);
    client.post_silence(&silence(None)).await.unwrap_err();
    let peers = health.snapshot().alertmanagers.remove(client.route()).expect("noted");
    assert_eq!((peers[0].last_good, peers[1].last_good), (None, Some(Timestamp(1_000))));
    assert!(peers[0].fault.as_ref().is_some_and(|fault| fault.reason.contains("cannot connect")), "{peers:?}");
    assert_eq!(peers[1].fault, None, "an answer that is refused is an answer");
    let count =
        |call, outcome| client.metrics.alertmanager.requests.with_label_values(&["default", call, outcome]).get();
    assert_eq!(
        (count("status", "not_sent"), count("status", "ok"), count("post_silence", "in_doubt")),
        (1, 1, 1),
        "{:?}",
        client.metrics.encode()
    );
}

#[tokio::test]
async fn peers_are_asked_again_when_nobody_did() {
    let good = answers(200, "{}", JSON).await;
    let (health, clock) = (Arc::new(Health::default()), Clock::manual(Timestamp(1_000)));
    let client = client(&[&good.uri()]).with_health(health, clock.clone());
    let minute = Duration::from_mins(1);
    client.ask_idle_peers(minute).await;
    client.ask_idle_peers(minute).await;
    assert_eq!(good.received_requests().await.unwrap().len(), 1);
    clock.advance(minute);
    client.ask_idle_peers(minute).await;
    assert_eq!(good.received_requests().await.unwrap().len(), 2);
}

#[tokio::test]
async fn routes_that_share_an_alertmanager_are_counted_each() {
    let config = |toml: &str| Config::parse(toml, "test", crate::config::Purpose::Render).expect("a config");
    let both = config(
        "[routes.a]\nrooms = [\"!a:b\"]\n[routes.b]\nrooms = [\"!a:b\"]\n[alertmanager]\nurls = [\"http://127.0.0.1:9\"]\n",
    );
    let routes: Vec<RouteName> = both.routes.keys().cloned().collect();
    let metrics = Arc::new(Metrics::new(&routes, &[], "v", "c"));
    let (health, clock) = (Arc::new(Health::default()), Clock::manual(Timestamp(1_000)));
    let clients = Client::of_routes(&both, &metrics, &health, &clock);
    assert_eq!(clients.values().map(|client| client.route.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    for client in clients.values() {
        client.status(0).await.unwrap_err();
    }
    let text = metrics.encode().expect("text");
    for sample in
        ["alertmanager_up{route=\"a\"} 0", "alertmanager_up{route=\"b\"} 0", "outcome=\"not_sent\",route=\"b\"} 1"]
    {
        assert!(text.contains(sample), "{sample}\n{text}");
    }
    let one = config("[routes.a]\nrooms = [\"!a:b\"]\nalertmanager = { urls = [\"http://127.0.0.1:9\"] }\n");
    let kept = Client::of_routes(&one, &metrics, &health, &clock);
    let peers = health.snapshot().alertmanagers;
    assert_eq!((kept.len(), peers.len()), (1, 1));
    assert!(peers[&routes[0]][0].fault.is_some(), "what is known of a peer that stays is kept");
    let text = metrics.encode().expect("text");
    assert!(
        !text.contains("alertmanager_up{route=\"b\"}") && text.contains("alertmanager_up{route=\"a\"} 0"),
        "{text}"
    );
}

#[test]
fn odd_fields_lose_nothing_beside_them() {
    let body = br#"[{"receiver": 7, "alerts": [
        {"fingerprint": 5, "labels": {"a": 1, "b": "x"}, "receivers": [{"name": "r"}, 3, {"name": null}],
         "startsAt": "never", "status": {"silencedBy": "s", "inhibitedBy": null, "mutedBy": ["m", 4, "n"]}},
        "not an alert", null, [1], {"receivers": [{"name": "r"}], "status": [], "labels": null, "fingerprint": "f\ud83d\udd15"}]},
        {"alerts": "none"}, null]"#;
    let alerts = parse::groups(body, "r").expect("JSON");
    assert_eq!(alerts.len(), 2, "{alerts:#?}");
    assert_eq!(alerts[0].labels, [("b".to_owned(), "x".to_owned())].into());
    assert_eq!((&alerts[0].muted_by, alerts[0].starts_at), (&vec!["m".to_owned(), "n".to_owned()], None));
    assert_eq!(alerts[1].fingerprint, "f🔕");

    let silences = parse::silences(
        br#"[{"id": "a", "status": {"state": "active"}, "matchers": [{"name": "x", "value": "y", "isEqual": 3}, 1],
              "endsAt": "2026-11-22T02:00:00.500+02:00", "comment": {"a": [1]}, "annotations": {}}, {"id": 3}, []]"#,
    );
    let silences = silences.expect("JSON");
    assert_eq!(
        (silences.len(), silences[0].state, silences[0].ends_at.0),
        (1, SilenceState::Active, 1_795_305_600_500)
    );
    let matcher = Matcher { name: "x".to_owned(), value: "y".to_owned(), is_regex: false, is_equal: true };
    assert_eq!(silences[0].matchers, [matcher]);

    let status =
        parse::status(br#"{"uptime": "0001-01-01T00:00:00.000Z", "cluster": null, "versionInfo": {"version": "N/A"}}"#);
    assert_eq!(status, Ok(PeerStatus { version: "N/A".to_owned(), ..PeerStatus::default() }));
    assert_eq!(parse::alerts(b"null"), Ok(Vec::new()));
    for bad in ["", "[", "{}", "7", "\"x\"", "[{\"a\":]"] {
        assert!(parse::alerts(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn captured_answers_of_two_versions() {
    for (groups, silences, status, version, muted) in [
        (
            &include_bytes!("../../../tests/fixtures/alertmanager/groups-0.25.json")[..],
            &include_bytes!("../../../tests/fixtures/alertmanager/silences-0.25.json")[..],
            &include_bytes!("../../../tests/fixtures/alertmanager/status-0.25.json")[..],
            "0.25.0",
            &[][..],
        ),
        (
            include_bytes!("../../../tests/fixtures/alertmanager/groups-0.35.json"),
            include_bytes!("../../../tests/fixtures/alertmanager/silences-0.35.json"),
            include_bytes!("../../../tests/fixtures/alertmanager/status-0.35.json"),
            "0.35.0",
            &["always".to_owned()],
        ),
    ] {
        let alerts = parse::groups(groups, "matrix").expect("JSON");
        let named = |name: &str| {
            let found = alerts.iter().find(|alert| alert.labels.get("alertname").is_some_and(|found| found == name));
            found.expect(name)
        };
        let silence = &parse::silences(silences).expect("JSON")[0];
        assert_eq!(alerts.len(), 5, "{version}");
        assert_eq!(named("Silenced").silenced_by, [silence.id.as_str()]);
        assert_eq!(named("Effect").inhibited_by, [named("Cause").fingerprint.as_str()]);
        assert_eq!(named("Muted").muted_by, muted);
        assert_eq!((silence.state, silence.comment.as_str()), (SilenceState::Active, "known [mar:1/0]"));
        let status = parse::status(status).expect("JSON");
        assert_eq!((status.version.as_str(), status.cluster.as_str()), (version, "disabled"));
        assert!(status.up_since.is_some() && status.config.contains("time_intervals"));
    }
}

/// What a poll of a large installation costs is measured by `make bench`; here only that it is one pass.
#[test]
fn thousands_of_alerts_are_read_at_once() {
    let alert = |n: usize| {
        json!({ "fingerprint": format!("{n:016x}"), "labels": { "alertname": "X", "instance": format!("host-{n}") },
                "annotations": { "summary": "s".repeat(200) }, "receivers": [{ "name": "r" }],
                "startsAt": "2026-11-22T02:00:00.500Z", "status": { "state": "active", "silencedBy": [] } })
    };
    let groups: Vec<Value> = (0..500)
        .map(|_| json!({ "receiver": { "name": "r" }, "alerts": (0..10).map(alert).collect::<Vec<_>>() }))
        .collect();
    let body = serde_json::to_vec(&groups).expect("JSON");
    let started = std::time::Instant::now();
    assert_eq!(parse::groups(&body, "r").expect("JSON").len(), 5_000);
    assert!(started.elapsed() < Duration::from_secs(5));
}
