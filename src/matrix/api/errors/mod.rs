//! What a failed request means: an error of the SDK -> an [`ApiError`] -> a [`SendError`]. The error code and the status
//! decide, never the text, which every homeserver words differently.

use std::{error::Error as _, time::Duration};

use jiff::fmt::rfc2822::DateTimeParser;
use matrix_sdk::{
    HttpError, reqwest,
    ruma::api::{
        client::uiaa::UiaaResponse,
        error::{Error as ErrorResponse, ErrorBody, ErrorCode, ErrorKind, FromHttpResponseError, RetryAfter},
    },
    ruma::exports::http as web,
};

use crate::{
    model::{Reason, SendError},
    text::one_line,
};

/// A homeserver's own text is cut after this many characters.
const MAX_TEXT: usize = 300;
/// The detail of a send to a room that the last sync shows as left.
pub(crate) const NOT_IN_ROOM: &str = "not in the room";
/// The longest wait that a homeserver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A failed request: what it means for a send, and the Matrix error code if the answer has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub error: SendError,
    pub errcode: Option<String>,
    /// The token has ended, but its device still exists for the next login.
    pub soft_logout: bool,
}

impl ApiError {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        send_error(reason, detail).into()
    }

    /// Judges an error of the SDK, which may also have happened on this side of the network.
    pub fn from_sdk(error: &matrix_sdk::Error) -> Self {
        use matrix_sdk::Error;
        match error {
            Error::Http(error) => Self::from_http(error),
            Error::WrongRoomState(_) => Self::new(Reason::RoomRefused, NOT_IN_ROOM),
            Error::OlmError(_) | Error::MegolmError(_) | Error::NoOlmMachine | Error::DecryptorError(_) => {
                Self::new(Reason::KeysNotReady, format!("cannot get the keys of the encrypted room: {error}"))
            }
            Error::StateStore(_) | Error::CryptoStoreError(_) | Error::EventCacheStore(_) | Error::Io(_) => {
                Self::new(Reason::NotReady, format!("the store of the Matrix session failed: {error}"))
            }
            Error::Timeout => no_answer().into(),
            // An identical request of another task failed, and the SDK does not say how.
            Error::ConcurrentRequestFailed => Self::new(Reason::ServerError, error.to_string()),
            _ => Self::new(Reason::NotReady, error.to_string()),
        }
    }

    pub fn from_http(error: &HttpError) -> Self {
        match error {
            HttpError::Reqwest(error) => Self::from_network(error),
            HttpError::Api(error) => match error.as_ref() {
                FromHttpResponseError::Server(UiaaResponse::MatrixError(response)) => Self::from_response(response),
                FromHttpResponseError::Server(UiaaResponse::AuthResponse(_)) => {
                    Self::new(Reason::AccountRefused, "the homeserver asks for further proof of identity")
                }
                _ => Self::new(Reason::Unreadable, "the homeserver's answer is not valid Matrix JSON"),
            },
            HttpError::Cached(error) => Self::from_http(error),
            // The request was never built and so never sent: this says nothing about the content.
            _ => Self::new(Reason::NotReady, format!("cannot build the request: {error}")),
        }
    }

    /// Judges an answer with an error status.
    fn from_response(response: &ErrorResponse) -> Self {
        let (errcode, text) = match &response.body {
            ErrorBody::Standard(body) => (Some(body.kind.errcode().to_string()), body.message.clone()),
            // A field that the SDK requires is missing; the code still counts.
            ErrorBody::Json(body) => {
                let field = |name: &str| body.get(name).and_then(|value| value.as_str()).map(ToOwned::to_owned);
                (field("errcode"), field("error").unwrap_or_default())
            }
            ErrorBody::NotJson { .. } => (None, String::new()),
        };
        let status = response.status_code.as_u16();
        let reason = reason_of(status, errcode.as_deref());
        let detail = match &errcode {
            // Every request carries a token, so something on the way dropped it.
            Some(code) if code == "M_MISSING_TOKEN" => {
                format!("{status} {code}: {text} (does matrix.homeserver redirect to another address?)")
            }
            Some(code) if text.is_empty() => format!("{status} {code}"),
            Some(code) => format!("{status} {code}: {text}"),
            None => format!("{status} without a Matrix error (a proxy's answer?)"),
        };
        let obeyed = matches!(reason, Reason::RateLimited | Reason::ServerError);
        let retry_after = obeyed.then(|| retry_after_in_body(&response.body)).flatten();
        let soft_logout = match &response.body {
            ErrorBody::Standard(body) => matches!(&body.kind, ErrorKind::UnknownToken(data) if data.soft_logout),
            _ => false,
        };
        Self { error: SendError { retry_after, ..send_error(reason, detail) }, errcode, soft_logout }
    }

    fn from_network(error: &reqwest::Error) -> Self {
        // Connecting comes first: a timeout while connecting is both, and nothing has been sent then.
        if error.is_connect() || error.is_builder() {
            Self::new(Reason::Unreachable, format!("cannot connect: {}", causes(error)))
        } else if error.is_timeout() {
            no_answer().into()
        } else if error.is_redirect() {
            Self::new(Reason::ServerError, "too many redirects")
        } else {
            Self::new(Reason::NoAnswer, format!("the connection broke: {}", causes(error)))
        }
    }

    /// Judges the failure of a request that resolves an alias or joins a room: it is the room's own unless it clearly
    /// is the account's or the homeserver's. Another server may have caused the answer, and joins have a rate limit
    /// apart from that of sends, so 5xx, silence and 429 say nothing about sends to other rooms.
    pub fn for_join(self) -> SendError {
        let SendError { reason, retry_after, detail } = self.error;
        let matrix = self.errcode.is_some_and(|code| code != "M_RESOURCE_LIMIT_EXCEEDED");
        let (reason, detail) = match reason {
            Reason::RateLimited => {
                (Reason::JoinLimited, format!("the homeserver limits how often rooms are joined: {detail}"))
            }
            Reason::ServerError if !matrix => (reason, detail),
            Reason::Unreachable | Reason::NotReady | Reason::TokenRejected | Reason::AccountRefused => (reason, detail),
            _ => (Reason::RoomRefused, format!("not joined: {detail}")),
        };
        SendError { reason, retry_after, detail }
    }
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        Self { error, errcode: None, soft_logout: false }
    }
}

impl From<ApiError> for SendError {
    fn from(error: ApiError) -> Self {
        error.error
    }
}

pub(crate) fn send_error(reason: Reason, detail: impl Into<String>) -> SendError {
    SendError { reason, retry_after: None, detail: clean(&detail.into()) }
}

pub(crate) fn not_connected() -> SendError {
    send_error(Reason::NotReady, "not connected yet")
}

pub(crate) fn no_answer() -> SendError {
    send_error(Reason::NoAnswer, "no answer in time")
}

/// Whether the session cannot be used any more, as opposed to a homeserver that is unavailable.
pub(crate) fn ends_session(error: &SendError) -> bool {
    matches!(error.reason, Reason::TokenRejected | Reason::AccountRefused)
}

/// The table: status and error code -> reason. `BadEvent` and `TooLarge` end an event for good, so only what is
/// surely about the event's content may become one of them.
fn reason_of(status: u16, errcode: Option<&str>) -> Reason {
    let code = errcode.map(ErrorCode::from);
    match (status, code) {
        (429, _) | (_, Some(ErrorCode::LimitExceeded)) => Reason::RateLimited,
        (500.., _) | (_, Some(ErrorCode::ResourceLimitExceeded)) => Reason::ServerError,
        (413, _) | (_, Some(ErrorCode::TooLarge)) => Reason::TooLarge,
        (_, Some(code)) => reason_of_code(status, &code),
        // A proxy answered, or there is no homeserver at this address: nothing about event, room or account.
        (_, None) => Reason::ServerError,
    }
}

fn reason_of_code(status: u16, code: &ErrorCode) -> Reason {
    use ErrorCode as C;
    match code {
        C::UnknownToken | C::MissingToken => Reason::TokenRejected,
        C::UserLocked | C::UserSuspended | C::UserDeactivated | C::UserLimitExceeded => Reason::AccountRefused,
        // The endpoint is unknown: an old homeserver, or a proxy that forwards only part of the API.
        C::Unrecognized if matches!(status, 404 | 405) => Reason::ServerError,
        C::Forbidden | C::Unauthorized if status == 401 => Reason::TokenRejected,
        C::Forbidden
        | C::NotFound
        | C::GuestAccessForbidden
        | C::BadState
        | C::IncompatibleRoomVersion
        | C::UnsupportedRoomVersion
        | C::UnableToAuthorizeJoin
        | C::UnableToGrantJoin
        | C::InviteBlocked => Reason::RoomRefused,
        code => match (status, code.as_str()) {
            // The specification has it, the SDK's list does not.
            (_, "M_CONSENT_NOT_GIVEN") => Reason::AccountRefused,
            (401, _) => Reason::TokenRejected,
            // A homeserver's own rules; the room may allow it later, so the event is kept.
            (403 | 404, _) => Reason::RoomRefused,
            (405 | 408, _) => Reason::ServerError,
            _ => Reason::BadEvent,
        },
    }
}

/// Reads `Retry-After` (<https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>). A date counts from the answer's own
/// `Date`, so that our clock and the homeserver's need not agree.
pub(crate) fn retry_after_in_headers(headers: &web::HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &web::HeaderValue| value.to_str().ok()).map(str::trim);
    let again = text(web::header::RETRY_AFTER)?;
    let wait = if let Ok(seconds) = again.parse::<f64>() {
        from_seconds(seconds)?
    } else {
        let date = |text: &str| DateTimeParser::new().parse_timestamp(text).ok();
        let wait = date(again)?.duration_since(date(text(web::header::DATE)?)?);
        Duration::try_from(wait).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn from_seconds(seconds: f64) -> Option<Duration> {
    if seconds.is_nan() {
        return None;
    }
    Some(Duration::from_secs_f64(seconds.clamp(0.0, MAX_RETRY_AFTER.as_secs_f64())))
}

/// Reads `retry_after_ms`. A header counts for more, see [`retry_after_in_headers`].
fn retry_after_in_body(body: &ErrorBody) -> Option<Duration> {
    let wait = match body {
        ErrorBody::Standard(body) => match &body.kind {
            ErrorKind::LimitExceeded(limit) => match limit.retry_after? {
                RetryAfter::Delay(wait) => Some(wait),
                RetryAfter::DateTime(_) => None,
            },
            _ => None,
        },
        ErrorBody::Json(body) => {
            let asked = body.get("retry_after_ms");
            let number = asked.and_then(|asked| asked.as_f64().or_else(|| asked.as_str()?.trim().parse().ok()));
            number.and_then(|millis| from_seconds(millis / 1000.0))
        }
        ErrorBody::NotJson { .. } => None,
    };
    wait.map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// The causes of the error, outermost first. The error's own text is left out, since it holds the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // hyper's outer layer only says that it is the client.
        if !text.starts_with("client error") && texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    if texts.is_empty() { "no details".to_owned() } else { texts.join(": ") }
}

/// A homeserver's text on one line of bounded length.
pub(crate) fn clean(text: &str) -> String {
    one_line(text, MAX_TEXT)
}

#[cfg(test)]
mod tests;
