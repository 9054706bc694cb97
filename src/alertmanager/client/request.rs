//! One request to one peer, and what its answer means.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::{ApiError, ApiFault, parse};
use crate::{
    api_client::{self, QUOTED, Secrets, Service, Unread, host, in_words},
    config::Alertmanager,
    text::one_line,
};

/// A longer answer is not read.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What is asked, as the metric names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Groups,
    Alerts,
    Silences,
    Status,
    PostSilence,
    DeleteSilence,
}

impl Call {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Alerts => "alerts",
            Self::Silences => "silences",
            Self::Status => "status",
            Self::PostSilence => "post_silence",
            Self::DeleteSilence => "delete_silence",
        }
    }

    fn method(self) -> Method {
        match self {
            Self::PostSilence => Method::POST,
            Self::DeleteSilence => Method::DELETE,
            Self::Groups | Self::Alerts | Self::Silences | Self::Status => Method::GET,
        }
    }
}

/// A request, but for the peer.
pub(super) struct Request {
    pub(super) call: Call,
    /// Below `/api/v2`.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

/// A complete answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Whether its body says that it is JSON.
    is_json: bool,
    pub(super) body: Vec<u8>,
}

/// Builds the HTTP client of one Alertmanager.
///
/// # Errors
/// A text that names the config key.
pub(super) fn build(config: &Alertmanager) -> Result<reqwest::Client, String> {
    api_client::build(&Service {
        name: "Alertmanager",
        key: "alertmanager",
        ca_file: config.ca_file.as_deref(),
        https: config.urls.iter().any(|url| url.scheme() != "http"),
    })
}

/// Sends `request` to the peer at `base` and reads its answer.
///
/// # Errors
/// When there is no answer, or none that can be read to its end.
pub(super) async fn send(
    http: &reqwest::Client,
    config: &Alertmanager,
    base: &Url,
    request: &Request,
) -> Result<Answer, ApiError> {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["api", "v2"]).extend(&request.path);
    }
    if !request.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&request.query);
    }
    let mut builder = http.request(request.call.method(), url);
    if let Some(body) = &request.body {
        builder = builder.json(body);
    }
    let secrets = Secrets::read(&config.auth, &config.headers).await;
    let failed = |error: &reqwest::Error| ApiError {
        // With a body that streams, or another kind of error, it cannot be known what has arrived.
        kind: if error.is_connect() || error.is_builder() { ApiFault::NotSent } else { ApiFault::InDoubt },
        detail: secrets.blanked(&format!("{}: {}", host(base), in_words(error))),
    };
    let answer = secrets.add_to(builder).send().await.map_err(|error| failed(&error))?;
    let status = answer.status();
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|value| value.contains("json"));
    let body = api_client::read(answer, MAX_BODY).await.map_err(|fault| match fault {
        Unread::Broken(error) => ApiError { kind: ApiFault::InDoubt, ..failed(&error) },
        Unread::TooLong => error(base, ApiFault::InDoubt, "the answer is longer than 64 MiB"),
    })?;
    let answer = Answer { status, is_json, body };
    if status.is_success() { Ok(answer) } else { Err(refusal(base, request.call, &answer, &secrets)) }
}

/// An error about this peer.
pub(super) fn error(base: &Url, kind: ApiFault, what: &str) -> ApiError {
    ApiError { kind, detail: format!("{}: {what}", host(base)) }
}

const NO_API: &str = "has no API at this URL (404); check the path of the URL";

/// What an answer means that is not 2xx.
fn refusal(base: &Url, call: Call, answer: &Answer, secrets: &Secrets) -> ApiError {
    // Blanked before it is cut: the beginning of a secret is one as well.
    let words = one_line(secrets.blanked(&parse::message(&answer.body)).trim(), QUOTED);
    let said = if words.is_empty() { String::new() } else { format!(": {words}") };
    let status = answer.status.as_u16();
    let (kind, what) = match status {
        401 | 403 => (ApiFault::Unauthorized, format!("refused our credentials ({status}){said}")),
        404 if call == Call::DeleteSilence && is_unknown_silence(answer) => {
            (ApiFault::NotFound, format!("does not know this silence{said}"))
        }
        500 if call == Call::DeleteSilence && words.contains("silence not found") => {
            // Alertmanager before 0.26.
            (ApiFault::NotFound, "does not know this silence".to_owned())
        }
        404 if call == Call::DeleteSilence => (ApiFault::Refused, format!("{NO_API}{said}")),
        404 if call == Call::PostSilence && answer.is_json => (ApiFault::NotFound, format!("answered 404{said}")),
        404 => (ApiFault::NotFound, format!("{NO_API}{said}")),
        300..=399 => (ApiFault::Refused, format!("redirects ({status}): name the address that it leads to as the URL")),
        500.. => (ApiFault::InDoubt, format!("answered {status}{said}")),
        409 => (ApiFault::Refused, format!("is not ready (409){said}")),
        _ => (ApiFault::Refused, format!("refused it ({status}){said}")),
    };
    error(base, kind, &what)
}

/// Whether a 404 is about the silence. Where there is no API, a server says so in a page or a line of text.
fn is_unknown_silence(answer: &Answer) -> bool {
    answer.is_json || answer.body.trim_ascii().is_empty()
}

/// Whether the peer answered in a way that the next one may answer better.
pub(super) fn may_ask_next(error: &ApiError) -> bool {
    matches!(error.kind, ApiFault::NotSent | ApiFault::InDoubt)
}
