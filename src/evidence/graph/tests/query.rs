//! What is asked of a Prometheus, here a scripted one.

use std::time::Duration;

use serde_json::json;
use url::Url;
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

use super::super::{
    super::{MAX_ANSWER, NoEvidence},
    GraphWanted, draw, draw_range,
    query::Span,
};
use crate::{
    config::{ApiAuth, EvidenceSource},
    model::Timestamp,
};

const NOW: Timestamp = Timestamp(1_795_877_100_250);

#[test]
fn the_time_that_is_shown() {
    let minutes = |minutes: u64| Duration::from_mins(minutes);
    for (age, shown, step) in [
        (None, 60, 15),
        (Some(0), 60, 15),
        (Some(9), 60, 15),
        (Some(20), 120, 29),
        (Some(100), 600, 144),
        (Some(240), 1440, 346),
        (Some(5_000_000), 1440, 346),
    ] {
        let span = Span::of(age.map(|age| NOW.minus(minutes(age))), NOW);
        assert_eq!(span, Span { from: NOW.minus(minutes(shown)), to: NOW, step }, "{age:?}");
    }
    // A clock that is behind Alertmanager's.
    assert_eq!(Span::of(Some(NOW.plus(minutes(5))), NOW).from, NOW.minus(minutes(60)));
    assert_eq!(Span::of(Some(Timestamp(i64::MIN)), NOW).from, NOW.minus(minutes(1440)));
    assert_eq!(Span::last(minutes(31 * 1440), NOW).step, 10_714);
}

fn source(server: &MockServer) -> EvidenceSource {
    let url = Url::parse(&format!("{}/prefix", server.uri())).unwrap();
    EvidenceSource { url, auth: ApiAuth::None, headers: Vec::new(), ca_file: None }
}

fn wanted(expr: &str) -> GraphWanted {
    GraphWanted { expr: expr.to_owned(), firing: Vec::new(), began: None, now: NOW, timezone: "UTC".to_owned() }
}

async fn server(answer: impl Fn(&str) -> ResponseTemplate + Send + Sync + 'static) -> MockServer {
    let server = MockServer::start().await;
    let respond = move |request: &Request| {
        let in_body = String::from_utf8_lossy(&request.body).into_owned();
        answer(&format!("{}{in_body}", request.url.query().unwrap_or_default()))
    };
    Mock::given(path("/prefix/api/v1/query_range")).respond_with(respond).mount(&server).await;
    server
}

fn one_line() -> ResponseTemplate {
    let at = NOW.0 as f64 / 1e3;
    let result = json!([{"metric": {"instance": "db-1"}, "values": [[at - 15.0, "1"], [at, "0"]]}]);
    ResponseTemplate::new(200)
        .set_body_json(json!({"status": "success", "data": {"resultType": "matrix", "result": result}}))
}

#[tokio::test]
async fn the_left_side_is_asked_for_and_drawn() {
    let server = server(|_| one_line()).await;
    let picture = draw(&source(&server), &wanted("(up{job=\"a b\"} == 0) and x")).await.unwrap();
    assert_eq!(picture.alt, "up{job=\"a b\"}, 13:45–14:45 UTC: db-1 is 0, threshold = 0");
    let requests = server.received_requests().await.unwrap();
    let asked: Vec<&str> = requests.iter().filter_map(|request| request.url.query()).collect();
    assert_eq!(asked, ["query=up%7Bjob%3D%22a+b%22%7D&start=1795873500.250&end=1795877100.250&step=15&timeout=9s"]);
    draw_range(&source(&server), &wanted("up"), Duration::from_hours(6)).await.unwrap();
    // Too long for a URL.
    let long = format!("up{{a=\"{}\"}} > 5", "x".repeat(3_000));
    draw(&source(&server), &wanted(&long)).await.unwrap();
    let requests = server.received_requests().await.unwrap();
    assert!(requests[1].url.query().unwrap().contains("step=87"));
    assert_eq!((requests[2].method.as_str(), requests[2].url.query()), ("POST", None));
    assert!(requests[2].body.starts_with(b"query=up%7Ba%3D%22xxx"));
}

#[tokio::test]
async fn of_too_many_series_those_that_fire_are_asked_for() {
    let server = server(|asked| {
        let whole = asked.contains("up+%3D%3D+0");
        if whole { one_line() } else { ResponseTemplate::new(200).set_body_bytes(vec![b' '; MAX_ANSWER + 1]) }
    })
    .await;
    let picture = draw(&source(&server), &wanted("up == 0")).await.unwrap();
    assert!(picture.alt.contains("db-1 is 0"), "{}", picture.alt);
    let fault = draw(&source(&server), &wanted("up")).await.unwrap_err();
    assert!(fault.to_string().ends_with("the answer is longer than 8 MiB"), "{fault}");
    assert_eq!(server.received_requests().await.unwrap().len(), 3);
}

#[tokio::test]
async fn why_there_is_no_graph() {
    let empty = json!({"status": "success", "data": {"resultType": "matrix", "result": []}});
    let bad = json!({"status": "error", "errorType": "bad_data", "error": "parse error: unexpected \u{7}end"});
    for (answer, outcome, words) in [
        (ResponseTemplate::new(200).set_body_json(&empty), "empty", "has no values"),
        (ResponseTemplate::new(400).set_body_json(&bad), "failed", "refused it (400): parse error: unexpected  end"),
        (ResponseTemplate::new(200).set_body_json(&bad), "failed", "the query failed: parse error: unexpected  end"),
        (ResponseTemplate::new(200).set_body_string("<html>"), "failed", "the answer is not JSON of Prometheus"),
        (ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:1/"), "failed", "redirects (302)"),
        (ResponseTemplate::new(401), "failed", "refused our credentials (401)"),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET")).respond_with(answer).mount(&server).await;
        let fault = draw(&source(&server), &wanted("up")).await.unwrap_err();
        assert_eq!(fault.outcome(), outcome, "{fault}");
        assert!(fault.to_string().contains(words), "{fault}");
    }
    let nobody = EvidenceSource {
        url: Url::parse("http://127.0.0.1:1").unwrap(),
        auth: ApiAuth::None,
        headers: Vec::new(),
        ca_file: None,
    };
    assert!(matches!(draw(&nobody, &wanted("up")).await, Err(NoEvidence::Failed(_))));
    assert!(matches!(draw(&nobody, &wanted(" ")).await, Err(NoEvidence::NoQuery(_))));
    assert!(matches!(draw(&nobody, &wanted(&"x".repeat(20_000))).await, Err(NoEvidence::NoQuery(_))));
}
