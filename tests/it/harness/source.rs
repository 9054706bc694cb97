//! What stands in for Loki and Prometheus at once: it answers both as they do, or as nobody should.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Response, StatusCode, header},
};
use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{process::free_port, webhook::Served};

/// Of an answer without end.
const CHUNK: usize = 64 * 1024;
const ENDLESS: usize = 200 * 1024 * 1024;
/// What its log lines say.
pub const LINE: &str = "level=error msg=\"disk is full\"";

/// How it answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Manner {
    /// Three lines to Loki's clients, a rising series to Prometheus'.
    Well,
    /// Never.
    Hangs,
    /// With a head, the first bytes of a body, and nothing more.
    HangsInTheBody,
    /// With 200 MiB of one answer.
    Endless,
    /// With a page of HTML that it calls JSON.
    Lies,
    /// With JSON that nothing else sends, deeply nested.
    Nested,
    /// With an answer that it calls compressed.
    Zipped,
    Redirects(String),
    Status(u16, String),
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    asked: Mutex<Vec<String>>,
    /// Bytes of endless answers that clients took.
    taken: Mutex<usize>,
}

#[derive(Debug)]
pub struct Source {
    served: Served,
    shared: Arc<Shared>,
}

impl Source {
    pub async fn start() -> Self {
        let shared = Shared { manner: Mutex::new(Manner::Well), asked: Mutex::default(), taken: Mutex::default() };
        let shared = Arc::new(shared);
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        Self { served: Served::start(router).await, shared }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.served.port)
    }

    /// Where nobody listens.
    pub fn nowhere() -> String {
        format!("http://127.0.0.1:{}", free_port())
    }

    /// From now on.
    pub fn answers(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
    }

    /// The paths and queries that it was asked.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared.asked).clone()
    }

    /// Bytes of endless answers that were taken from it.
    pub fn taken(&self) -> usize {
        *lock(&self.shared.taken)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let form = axum::body::to_bytes(body, 1024 * 1024).await.unwrap_or_default();
    let mut asked = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    if !form.is_empty() {
        asked = format!("{asked}?{}", String::from_utf8_lossy(&form));
    }
    lock(&shared.asked).push(asked.clone());
    let manner = lock(&shared.manner).clone();
    match manner {
        Manner::Well => say(200, "application/json", well(&asked).to_string()),
        Manner::Hangs => std::future::pending().await,
        Manner::HangsInTheBody => {
            let first = stream::once(async { Ok::<_, std::convert::Infallible>(Bytes::from_static(b"{\"status\":")) });
            body_of(Body::from_stream(first.chain(stream::pending())))
        }
        Manner::Endless => body_of(endless(shared)),
        Manner::Lies => say(200, "application/json", "<html><body>It works!</body></html>"),
        Manner::Nested => say(200, "application/json", "[".repeat(1024 * 1024)),
        Manner::Zipped => {
            let mut response = say(200, "application/json", well(&asked).to_string());
            response.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().expect("a value"));
            response
        }
        Manner::Redirects(to) => {
            let mut response = say(307, "text/plain", "over there");
            response.headers_mut().insert(header::LOCATION, to.parse().expect("a value"));
            response
        }
        Manner::Status(status, text) => say(status, "text/plain", text),
    }
}

fn say(status: u16, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = body_of(body.into());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().expect("a value"));
    response
}

fn body_of(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().expect("a value"));
    response
}

/// The beginning of a good answer, and one line that does not end.
fn endless(shared: Arc<Shared>) -> Body {
    let head = r#"{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["1","#;
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let rest = stream::iter(0..ENDLESS / CHUNK).map(move |_| {
        *lock(&shared.taken) += CHUNK;
        Ok::<_, std::convert::Infallible>(chunk.clone())
    });
    Body::from_stream(stream::once(async move { Ok(Bytes::from(format!("{head}\""))) }).chain(rest))
}

fn well(asked: &str) -> Value {
    let now = Timestamp::now();
    if asked.contains("/loki/") {
        let values: Vec<[String; 2]> =
            (0..3).map(|n| [(now.as_nanosecond() - n * 1_000_000).to_string(), LINE.to_owned()]).collect();
        json!({
            "status": "success",
            "data": { "resultType": "streams", "result": [{ "stream": { "app": "shop" }, "values": values }] },
        })
    } else {
        let values: Vec<Value> = (0..60_u32)
            .map(|n| json!([now.as_second() - 3_600 + 60 * i64::from(n), (f64::from(n) * 1.5).to_string()]))
            .collect();
        let series = json!({ "metric": { "instance": "n01" }, "values": values });
        json!({ "status": "success", "data": { "resultType": "matrix", "result": [series] } })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
