//! What a scripted Loki answers, and what becomes of it.

use serde_json::json;
use url::Url;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{any, header, method, path, query_param},
};

use super::*;
use crate::config::{ApiAuth, Secret};

fn source(url: &str) -> EvidenceSource {
    EvidenceSource { url: Url::parse(url).expect("a URL"), auth: ApiAuth::None, headers: Vec::new(), ca_file: None }
}

fn wanted(lines: usize) -> LogsWanted {
    LogsWanted {
        query: "{app=\"x\"} |= \"a b\"".to_owned(),
        link: None,
        from: Timestamp(1_795_305_600_000),
        to: Timestamp(1_795_305_900_001),
        lines,
    }
}

fn streams(count: usize) -> serde_json::Value {
    let values: Vec<_> =
        (0..count).rev().map(|n| json!([format!("{}", 1_795_305_600_000_000_000 + n), format!("line {n}")])).collect();
    json!({ "status": "success", "data": { "resultType": "streams", "result": [{ "stream": {}, "values": values }] } })
}

async fn answers(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn fetched(answer: ResponseTemplate) -> Result<LogLines, NoEvidence> {
    let server = answers(answer).await;
    fetch(&source(&server.uri()), &[], &wanted(10)).await
}

#[tokio::test]
async fn what_is_asked() {
    let server = MockServer::start().await;
    let request = Mock::given(method("GET"))
        .and(path("/api/datasources/proxy/uid/loki/loki/api/v1/query_range"))
        .and(query_param("query", "{app=\"x\"} |= \"a b\""))
        .and(query_param("start", "1795305600000000000"))
        .and(query_param("end", "1795305900001000000"))
        .and(query_param("limit", "200"))
        .and(query_param("direction", "backward"))
        .and(header("x-scope-orgid", "team-a"))
        .and(header("authorization", "Bearer t"));
    request.respond_with(ResponseTemplate::new(200).set_body_json(streams(200))).expect(1).mount(&server).await;
    let source = EvidenceSource {
        auth: ApiAuth::Bearer(Secret::new("t")),
        headers: vec![("x-scope-orgid".to_owned(), Secret::new("team-a"))],
        ..source(&format!("{}/api/datasources/proxy/uid/loki", server.uri()))
    };
    let lines = fetch(&source, &[], &wanted(2)).await.expect("lines");
    let expected = ["line 198", "line 199"].map(|line| (Timestamp(1_795_305_600_000), line.to_owned()));
    assert_eq!(lines, LogLines { lines: expected.to_vec(), more: 198, more_than: true });
}

#[tokio::test]
async fn what_becomes_of_answers() {
    let (json, html) = ("application/json", "text/html; charset=utf-8");
    let answer = |status, body: &str, kind: &str| ResponseTemplate::new(status).set_body_raw(body.to_owned(), kind);
    let parse = "parse error at line 1, col 5: syntax error: unexpected IDENTIFIER";
    for (answer, outcome, expected) in [
        (answer(400, parse, "text/plain"), "no_query", "Loki cannot read the query: parse error at line 1, col 5"),
        (answer(400, "parse error at line 1", "text/plain"), "no_query", "Loki cannot read the query: parse error"),
        (answer(400, "syntax error: x", "text/plain"), "no_query", "Loki cannot read the query: syntax error: x"),
        (
            answer(400, "max entries limit per query exceeded, limit > max_entries_limit (200 > 100)", "text/plain"),
            "failed",
            "refused it (400): max entries limit",
        ),
        (answer(401, "no org id", "text/plain"), "failed", "set X-Scope-OrgID in evidence.loki.headers"),
        (
            answer(401, r#"{"message":"Invalid API key"}"#, json),
            "failed",
            "refused our credentials (401): Invalid API key",
        ),
        (
            answer(404, r#"{"message":"Data source not found"}"#, json),
            "failed",
            "check the path of the URL: Data source not found",
        ),
        (answer(302, "", html), "failed", "redirects (302)"),
        (answer(500, "context deadline exceeded", "text/plain"), "failed", "answered 500: context deadline exceeded"),
        (answer(204, "", json), "failed", "answers what is not JSON; check evidence.loki.url"),
        // It lies about its type.
        (answer(200, "<html>log in</html>", json), "failed", "answers what is not JSON; check evidence.loki.url"),
        (answer(200, r#"{"status":"success","data":{"version":"2.42"}}"#, json), "failed", "not what Loki answers"),
        (
            answer(200, r#"{"data":{"resultType":"matrix","result":[]}}"#, json),
            "no_query",
            "the link shows a number, not lines",
        ),
        // A wrong tenant.
        (answer(200, &streams(0).to_string(), json), "empty", "Loki has no lines for this query and time"),
        (answer(200, &" ".repeat(9 * 1024 * 1024), json), "failed", "the answer is longer than 8 MiB"),
    ] {
        let error = fetched(answer).await.expect_err("no lines");
        assert_eq!(error.outcome(), outcome, "{error}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.chars().count() < 420 && !text.contains('\n'), "{text}");
    }
    let lines = fetched(answer(200, &streams(3).to_string(), html)).await.expect("lines, whatever the type");
    assert_eq!((lines.lines.len(), lines.more, lines.more_than), (3, 0, false));
}

#[test]
fn why_there_is_no_answer_is_why_there_are_no_lines() {
    use crate::api_client::Unanswered;
    for (why, expected) in [
        (Unanswered::TimedOut("loki: no answer within 10 s".to_owned()), NoEvidence::TimedOut),
        (Unanswered::Failed("loki: cannot connect".to_owned()), NoEvidence::Failed("loki: cannot connect".to_owned())),
        (Unanswered::TooLong("loki: too long".to_owned()), NoEvidence::Failed("loki: too long".to_owned())),
    ] {
        assert_eq!(NoEvidence::from(why), expected);
    }
}

/// The answer would be good if somebody followed.
#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = answers(ResponseTemplate::new(200).set_body_json(streams(1))).await;
    let moved = ResponseTemplate::new(302).insert_header("location", elsewhere.uri());
    let error = fetched(moved).await.expect_err("no lines").to_string();
    assert!(error.contains("redirects (302)"), "{error}");
    assert!(elsewhere.received_requests().await.expect("requests").is_empty());
}

#[tokio::test]
async fn what_is_shown_is_without_secrets_also_those_of_the_config() {
    let line = "\u{1b}[31mpassword=hunter2\u{1b}[0m of customer-42";
    let body = json!({ "data": { "resultType": "streams", "result": [{ "values": [["1", line]] }] } });
    let server = answers(ResponseTemplate::new(200).set_body_json(body)).await;
    let patterns = [Regex::new("customer-[0-9]+").expect("a pattern")];
    let lines = fetch(&source(&server.uri()), &patterns, &wanted(10)).await.expect("lines");
    assert_eq!(lines.lines, [(Timestamp(0), "password=*** of ***".to_owned())]);
}

#[tokio::test]
async fn a_query_that_no_url_can_hold_is_not_sent() {
    let server = answers(ResponseTemplate::new(200)).await;
    let long = LogsWanted { query: format!("{{a=\"{}\"}}", "x".repeat(8000)), ..wanted(10) };
    let error = fetch(&source(&server.uri()), &[], &long).await.expect_err("too long");
    assert_eq!(error, NoEvidence::NoQuery("the query is longer than 7 KiB".to_owned()));
    assert!(server.received_requests().await.expect("requests").is_empty());
}
