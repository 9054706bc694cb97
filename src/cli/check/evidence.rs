//! `check` of where evidence comes from, and of what routes show of it.

use serde_json::Value;

use super::report::Report;
use crate::{
    api_client::{Answer, Question, Unanswered, ask},
    cli::support::output::excerpt,
    config::{Config, Evidence, EvidenceSource, Heartbeat, Route},
    render::answer::duration,
};

/// A longer answer is not read, in bytes: labels and a number are short.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Notes what can be said without asking.
pub(super) fn understood(config: &Config, report: &mut Report) {
    for (key, source) in config.evidence.iter().flat_map(Evidence::sources) {
        report.ok(format!("{key}: asks {}", source.url.as_str().trim_end_matches('/')));
    }
    let shown = config.routes.values().filter_map(|route| Some((route, shown(route)?)));
    let mut any = false;
    for (route, what) in shown {
        any = true;
        report.ok(format!("route {}: {what}", route.name));
    }
    if config.evidence.is_some() && !any && config.routes.values().all(|route| route.actions.is_none()) {
        report.note(
            "evidence: nothing shows it -> set routes.X.evidence, or [actions], so that !logs and !graph can ask for it",
        );
    }
    for route in config.routes.values() {
        for heartbeat in &route.heartbeats {
            report.ok(format!("route {}: {}", route.name, watched(heartbeat)));
        }
    }
}

fn watched(heartbeat: &Heartbeat) -> String {
    let by = if heartbeat.by.is_empty() { String::new() } else { format!(", for each {}", heartbeat.by.join(", ")) };
    let ping = if heartbeat.ping_url.is_some() { ", pings onwards" } else { "" };
    format!("heartbeat {} within {}{by}{ping}", heartbeat.name, duration(heartbeat.timeout))
}

/// What a route's cards get; `None`: nothing.
fn shown(route: &Route) -> Option<String> {
    let evidence = route.evidence.as_ref()?;
    let lines = (evidence.logs > 0).then(|| format!("{} log lines", evidence.logs));
    let graph = evidence.graph.then(|| "a graph".to_owned());
    let pieces: Vec<String> = lines.into_iter().chain(graph).collect();
    let where_to = if evidence.encrypted_only { ", in encrypted rooms only" } else { "" };
    (!pieces.is_empty()).then(|| format!("cards get {}{where_to}", pieces.join(" and ")))
}

/// Asks every source.
pub(super) async fn check(config: &Config, report: &mut Report) {
    let Some(evidence) = &config.evidence else { return };
    let mut findings = Vec::new();
    if let Some(source) = &evidence.loki {
        findings.push(loki(source).await);
    }
    if let Some(source) = &evidence.prometheus {
        findings.push(prometheus(source).await);
    }
    for finding in findings {
        match finding {
            Finding::Good(line) => report.ok(line),
            Finding::Note(line) => report.note(line),
            Finding::Fault(line) => report.fault(line),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Good(String),
    Note(String),
    Fault(String),
}

const CREDENTIALS: &str = "check username and password, bearer token and headers";

/// Asks for the names of labels: cheap, and below every prefix that has the rest of the API.
async fn loki(source: &EvidenceSource) -> Finding {
    let key = "evidence.loki";
    let fault = |what: &str, advice: &str| Finding::Fault(format!("{key}: {what} -> {advice}"));
    let path = ["loki", "api", "v1", "labels"];
    let answer = match asked(source, &Question { key, path: &path, pairs: &[], form: false, max_body: MAX_BODY }).await
    {
        Ok(answer) => answer,
        Err(finding) => return finding,
    };
    match answer.status {
        200..300 => {}
        401 if answer.words().contains("no org id") => {
            return fault(&answer.refusal(), "set the tenant as X-Scope-OrgID in evidence.loki.headers");
        }
        401 | 403 => return fault(&answer.refusal(), CREDENTIALS),
        404 => {
            let advice =
                "a path is part of the URL, as Grafana's /api/datasources/proxy/uid/<uid>, but not /loki/api/v1";
            return fault(&answer.refusal(), advice);
        }
        _ => return fault(&answer.refusal(), "check what answers at this address"),
    }
    let Some(reply) = success(&answer) else {
        return fault(&answer.error("does not answer as Loki does"), "check evidence.loki.url");
    };
    // A tenant that has nothing has this label nevertheless.
    let all = reply["data"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let labels: Vec<&str> = all.filter(|label| *label != "__name__").collect();
    if labels.is_empty() {
        return Finding::Note(format!(
            "{key}: {} -> if there should be log lines, check the tenant (X-Scope-OrgID in evidence.loki.headers)",
            answer.error("answers, and has no labels of the last hours")
        ));
    }
    let more = if labels.len() > 5 { ", …" } else { "" };
    let labels = labels[..labels.len().min(5)].join(", ");
    Finding::Good(format!("{key}: {}", answer.error(&format!("answers, has the labels {labels}{more}"))))
}

/// Asks for a number that needs no series.
async fn prometheus(source: &EvidenceSource) -> Finding {
    let key = "evidence.prometheus";
    let fault = |what: &str, advice: &str| Finding::Fault(format!("{key}: {what} -> {advice}"));
    let pairs = [("query", "vector(1)".to_owned())];
    let path = ["api", "v1", "query"];
    let question = Question { key, path: &path, pairs: &pairs, form: false, max_body: MAX_BODY };
    let answer = match asked(source, &question).await {
        Ok(answer) => answer,
        Err(finding) => return finding,
    };
    match answer.status {
        200..300 => {}
        401 | 403 => return fault(&answer.refusal(), CREDENTIALS),
        404 => {
            let advice = "a path is part of the URL, as Mimir's /prometheus or --web.external-url's, but not /api/v1";
            return fault(&answer.refusal(), advice);
        }
        _ => return fault(&answer.refusal(), "check what answers at this address"),
    }
    match success(&answer).filter(|reply| reply["data"]["resultType"] == "vector") {
        Some(_) => Finding::Good(format!("{key}: {}", answer.error("answers"))),
        None => fault(&answer.error("does not answer as Prometheus does"), "check evidence.prometheus.url"),
    }
}

async fn asked(source: &EvidenceSource, question: &Question<'_>) -> Result<Answer, Finding> {
    let key = question.key;
    ask(source, question).await.map_err(|error| {
        let advice = match &error {
            Unanswered::TimedOut(_) | Unanswered::TooLong(_) => "check what answers at this address".to_owned(),
            Unanswered::Failed(_) => format!("check {key}.url, the network and ca_file"),
        };
        Finding::Fault(format!("{key}: {} -> {advice}", excerpt(&error.to_string())))
    })
}

/// The answer, if it is one of these APIs.
fn success(answer: &Answer) -> Option<Value> {
    serde_json::from_slice::<Value>(&answer.body).ok().filter(|reply| reply["status"] == "success")
}

#[cfg(test)]
mod tests {
    use url::Url;
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{path, query_param},
    };

    use super::*;
    use crate::{config::ApiAuth, evidence::tests::config};

    fn source(url: &str) -> EvidenceSource {
        EvidenceSource { url: Url::parse(url).expect("a URL"), auth: ApiAuth::None, headers: Vec::new(), ca_file: None }
    }

    fn text(finding: &Finding) -> (&'static str, &str) {
        match finding {
            Finding::Good(text) => ("ok", text),
            Finding::Note(text) => ("note", text),
            Finding::Fault(text) => ("fault", text),
        }
    }

    #[test]
    fn what_is_shown_and_watched_is_said() {
        let sources = "[evidence]\nloki = { url = \"http://l\" }\nprometheus = { url = \"http://p\" }\n";
        for (table, expected) in [
            ("", None),
            ("evidence = {}", Some("cards get 10 log lines and a graph")),
            ("evidence = { logs = 0 }", Some("cards get a graph")),
            ("evidence = { logs = 0, graph = false }", None),
            (
                "evidence = { graph = false, encrypted_only = true }",
                Some("cards get 10 log lines, in encrypted rooms only"),
            ),
        ] {
            let config = config(&format!("[routes.default]\n{table}\n{sources}"));
            assert_eq!(config.routes.values().find_map(shown).as_deref(), expected, "{table}");
        }
        let beat = |more: &str| {
            let entry = format!("{{ name = \"a\", match = {{ alertname = \"W\" }}{more} }}");
            watched(
                &config(&format!("[routes.default]\nheartbeats = [{entry}]\n"))
                    .routes
                    .values()
                    .next()
                    .expect("one")
                    .heartbeats[0],
            )
        };
        assert_eq!(beat(""), "heartbeat a within 15 min");
        let all = ", timeout = \"1h\", by = [\"x\", \"y\"], ping_url = \"https://hc/secret\"";
        assert_eq!(beat(all), "heartbeat a within 1 h, for each x, y, pings onwards");
    }

    #[tokio::test]
    async fn labels_are_named_up_to_five_and_a_source_that_floods_is_a_fault() {
        for (body, kind, expected) in [
            (r#"{"status":"success","data":["a","b","c","d","e"]}"#.to_owned(), "ok", "has the labels a, b, c, d, e"),
            (
                r#"{"status":"success","data":["a","b","c","d","e","f"]}"#.to_owned(),
                "ok",
                "has the labels a, b, c, d, e, …",
            ),
            (
                " ".repeat(MAX_BODY + 1),
                "fault",
                "the answer is longer than 4 MiB -> check what answers at this address",
            ),
        ] {
            let server = MockServer::start().await;
            let answer = ResponseTemplate::new(200).set_body_string(body);
            Mock::given(path("/loki/api/v1/labels")).respond_with(answer).mount(&server).await;
            let finding = loki(&source(&server.uri())).await;
            let (found, text) = text(&finding);
            assert!(found == kind && text.ends_with(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn what_sources_answer() {
        for (is_loki, status, body, kind, expected) in [
            (
                true,
                200,
                r#"{"status":"success","data":["__name__","app","pod"]}"#,
                "ok",
                "answers, has the labels app, pod",
            ),
            (true, 200, r#"{"status":"success"}"#, "note", "check the tenant"),
            (true, 200, r#"{"status":"success","data":["__name__"]}"#, "note", "check the tenant"),
            (true, 200, r#"{"status":"success","data":[]}"#, "note", "has no labels of the last hours"),
            (true, 200, r#"{"status":"error","data":["app"]}"#, "fault", "does not answer as Loki does"),
            (true, 200, "<html>log in</html>", "fault", "does not answer as Loki does -> check evidence.loki.url"),
            (true, 401, "no org id", "fault", "-> set the tenant as X-Scope-OrgID"),
            (true, 401, "who are you", "fault", "(401): who are you -> check username and password"),
            (true, 404, "404 page not found", "fault", "proxy/uid/<uid>, but not /loki/api/v1"),
            (true, 302, "", "fault", "redirects (302)"),
            (false, 200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#, "ok", "answers"),
            (false, 200, r#"{"status":"success","data":[]}"#, "fault", "does not answer as Prometheus does"),
            (false, 403, "denied", "fault", "-> check username and password"),
            (false, 404, "", "fault", "Mimir's /prometheus"),
            (false, 503, "starting", "fault", "answered 503: starting -> check what answers"),
        ] {
            let server = MockServer::start().await;
            let request = if is_loki {
                Mock::given(path("/x/loki/api/v1/labels"))
            } else {
                Mock::given(path("/x/api/v1/query")).and(query_param("query", "vector(1)"))
            };
            request.respond_with(ResponseTemplate::new(status).set_body_string(body)).expect(1).mount(&server).await;
            let source = source(&format!("{}/x", server.uri()));
            let finding = if is_loki { loki(&source).await } else { prometheus(&source).await };
            let (found, text) = text(&finding);
            let begins = if is_loki { "evidence.loki: 127.0.0.1:" } else { "evidence.prometheus: 127.0.0.1:" };
            assert!(found == kind && text.starts_with(begins) && text.contains(expected), "{status} {body}: {text}");
        }
        let finding = prometheus(&source("http://127.0.0.1:9")).await;
        let (_, text) = text(&finding);
        assert!(text.contains("cannot connect") && text.contains("-> check evidence.prometheus.url"), "{text}");
    }
}
