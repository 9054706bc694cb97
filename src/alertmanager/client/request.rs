//! One request to one peer, and what its answer means.

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{HeaderName, HeaderValue},
    redirect::Policy,
};
use serde_json::Value;
use url::Url;

use super::{ApiError, ApiFault, parse};
use crate::{
    config::{Alertmanager, ApiAuth, Secret},
    file_watch,
    text::one_line,
};

/// For all of a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For a connection alone, well below [`TIMEOUT`]: only then is it certain that nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A longer answer is not read.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// How much of a server's own words an error quotes, in characters.
const QUOTED: usize = 200;

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

/// Builds the HTTP client of one Alertmanager. It follows no redirects, since a POST would become a GET and credentials
/// would go elsewhere; and it keeps no connections, since one that the peer has closed meanwhile would leave a request in
/// doubt that a new connection answers.
///
/// # Errors
/// A text that names the config key.
pub(super) fn build(config: &Alertmanager) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("matrix-alertmanager-receiver/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT);
    if let Some(file) = &config.ca_file {
        let named = |what: String| format!("alertmanager.ca_file: {}: {what}", file.display());
        let pem = fs::read(file).map_err(|error| named(error.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| named("not PEM".to_owned()))?;
        if certificates.is_empty() {
            return Err(named("no certificate in it".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    } else if config.urls.iter().all(|url| url.scheme() == "http") {
        // Root certificates take time to load, and a slim image may have none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| format!("cannot build an HTTP client for Alertmanager: {error}"))
}

/// The host of a peer, with its port if that is not the scheme's own.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
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
    let secrets = Secrets::read(config).await;
    let failed = |error: &reqwest::Error| ApiError {
        // With a body that streams, or another kind of error, it cannot be known what has arrived.
        kind: if error.is_connect() || error.is_builder() { ApiFault::NotSent } else { ApiFault::InDoubt },
        detail: secrets.blanked(&format!("{}: {}", host(base), in_words(error))),
    };
    let answer = secrets.add_to(builder).send().await.map_err(|error| failed(&error))?;
    let status = answer.status();
    let content_type = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
    let is_json = content_type.is_some_and(|value| value.contains("json"));
    let body = read(answer).await.map_err(|fault| match fault {
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

enum Unread {
    Broken(reqwest::Error),
    TooLong,
}

async fn read(mut answer: Response) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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

/// The innermost cause, which alone says what happened.
fn in_words(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    match cause {
        _ if error.is_timeout() && error.is_connect() => "no connection within 4 s".to_owned(),
        _ if error.is_timeout() => "no answer within 10 s".to_owned(),
        Some(cause) if error.is_connect() => format!("cannot connect: {}", one_line(&cause.to_string(), QUOTED)),
        Some(cause) => format!("no complete answer: {}", one_line(&cause.to_string(), QUOTED)),
        None => "no complete answer".to_owned(),
    }
}

/// The secrets of one request, as their files have them now.
struct Secrets {
    auth: ApiAuth,
    headers: Vec<(String, Secret)>,
}

impl Secrets {
    async fn read(config: &Alertmanager) -> Self {
        let auth = match &config.auth {
            ApiAuth::None => ApiAuth::None,
            ApiAuth::Bearer(token) => ApiAuth::Bearer(current(token).await),
            ApiAuth::Basic { username, password } => {
                ApiAuth::Basic { username: username.clone(), password: current(password).await }
            }
        };
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, value) in &config.headers {
            headers.push((name.clone(), current(value).await));
        }
        Self { auth, headers }
    }

    fn add_to(&self, mut request: RequestBuilder) -> RequestBuilder {
        for (name, value) in &self.headers {
            // The config has valid ones only; a file may hold anything meanwhile.
            if let (Ok(name), Ok(mut value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose()))
            {
                value.set_sensitive(true);
                request = request.header(name, value);
            }
        }
        match &self.auth {
            ApiAuth::None => request,
            ApiAuth::Bearer(token) => request.bearer_auth(token.expose()),
            ApiAuth::Basic { username, password } => request.basic_auth(username, Some(password.expose())),
        }
    }

    /// `text` without any of the secrets: a server may repeat what it was sent.
    fn blanked(&self, text: &str) -> String {
        let (of_auth, as_sent) = match &self.auth {
            ApiAuth::None => (None, None),
            ApiAuth::Bearer(secret) => (Some(secret), None),
            ApiAuth::Basic { username, password } => {
                (Some(password), Some(STANDARD.encode(format!("{username}:{}", password.expose()))))
            }
        };
        let secrets = of_auth.into_iter().chain(self.headers.iter().map(|(_, value)| value));
        // A short value, such as the name of a tenant, is part of many words.
        let long = secrets.map(Secret::expose).chain(as_sent.as_deref()).filter(|secret| secret.len() > 3);
        long.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

/// The secret as its file has it now; the previous one while the file has no usable content, which a reload reports.
async fn current(secret: &Secret) -> Secret {
    let Some(file) = secret.file() else { return secret.clone() };
    let bytes = file_watch::read(file).await.ok();
    bytes.and_then(|bytes| secret.renewed(bytes).ok()).unwrap_or_else(|| secret.clone())
}
