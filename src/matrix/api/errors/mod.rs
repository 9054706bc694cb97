//! What a failed request means: an error of the SDK -> a [`Fault`] -> a [`SendError`]. Decided by error code and
//! status, never by the text, which every homeserver words differently.

use std::{error::Error as _, time::Duration};

use jiff::fmt::rfc2822::DateTimeParser;
use matrix_sdk::{
    HttpError, reqwest,
    ruma::api::{
        client::uiaa::UiaaResponse,
        error::{Error as ApiError, ErrorBody, ErrorCode, ErrorKind, FromHttpResponseError, RetryAfter},
    },
    ruma::exports::http as web,
};

use crate::model::{Reason, SendError};
use crate::text::one_line;

/// A homeserver's own text is cut after this many characters.
const MAX_TEXT: usize = 300;
/// As the last sync tells, without asking.
pub(crate) const NOT_IN_ROOM: &str = "not in the room";
/// No homeserver is obeyed for longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// A failed request: what it means for a send, and the error code where the answer was Matrix's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub error: SendError,
    pub errcode: Option<String>,
    /// The token is over, but its device is still there for whoever logs in under it.
    pub soft_logout: bool,
}

impl Fault {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { error: fault(reason, detail), errcode: None, soft_logout: false }
    }

    /// The same, for a request that resolves an alias or joins a room: such a failure is the room's own unless it
    /// clearly is the account's or the homeserver's. Another server may stand behind the answer, and joins have a
    /// rate limit apart from that of sends, so 5xx, silence and 429 say nothing about sends to other rooms.
    pub fn of_join(self) -> SendError {
        let SendError { reason, retry_after, detail } = self.error;
        let limited = reason == Reason::RateLimited;
        let matrix = self.errcode.is_some_and(|code| code != "M_RESOURCE_LIMIT_EXCEEDED");
        let reason = match reason {
            Reason::ServerError if !matrix => reason,
            Reason::Unreachable | Reason::NotReady | Reason::TokenRejected | Reason::AccountRefused => reason,
            _ => Reason::RoomRefused,
        };
        let reason = if limited { Reason::JoinLimited } else { reason };
        let detail = if reason == Reason::JoinLimited {
            format!("the homeserver limits how often rooms are entered: {detail}")
        } else if reason == Reason::RoomRefused {
            format!("not joined: {detail}")
        } else {
            detail
        };
        SendError { reason, retry_after, detail }
    }
}

impl From<SendError> for Fault {
    fn from(error: SendError) -> Self {
        Self { error, errcode: None, soft_logout: false }
    }
}

impl From<Fault> for SendError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

pub(crate) fn fault(reason: Reason, detail: impl Into<String>) -> SendError {
    SendError { reason, retry_after: None, detail: clean(&detail.into()) }
}

/// An error of the SDK, which may lie on this side of the network as well.
pub(crate) fn sdk(error: &matrix_sdk::Error) -> Fault {
    use matrix_sdk::Error;
    match error {
        Error::Http(error) => http(error),
        Error::WrongRoomState(_) => Fault::new(Reason::RoomRefused, NOT_IN_ROOM),
        Error::OlmError(_) | Error::MegolmError(_) | Error::NoOlmMachine | Error::DecryptorError(_) => {
            Fault::new(Reason::KeysNotReady, format!("the keys of the encrypted room cannot be had: {error}"))
        }
        Error::StateStore(_) | Error::CryptoStoreError(_) | Error::EventCacheStore(_) | Error::Io(_) => {
            Fault::new(Reason::NotReady, format!("the store of the Matrix session fails: {error}"))
        }
        Error::Timeout => Fault::new(Reason::NoAnswer, "no answer in time"),
        // Somebody else's identical request failed, and the SDK does not say how.
        Error::ConcurrentRequestFailed => Fault::new(Reason::ServerError, error.to_string()),
        _ => Fault::new(Reason::NotReady, error.to_string()),
    }
}

pub(crate) fn http(error: &HttpError) -> Fault {
    match error {
        HttpError::Reqwest(error) => network(error),
        HttpError::Api(error) => match error.as_ref() {
            FromHttpResponseError::Server(UiaaResponse::MatrixError(error)) => api(error),
            FromHttpResponseError::Server(UiaaResponse::AuthResponse(_)) => {
                Fault::new(Reason::AccountRefused, "the homeserver asks for further proof of identity")
            }
            _ => Fault::new(Reason::Unreadable, "the homeserver's answer is not Matrix's"),
        },
        HttpError::Cached(error) => http(error),
        // Never built, so never sent: not a verdict on the content.
        _ => Fault::new(Reason::NotReady, format!("the request could not be made: {error}")),
    }
}

/// An answer with an error status.
pub(crate) fn api(error: &ApiError) -> Fault {
    let (errcode, text) = match &error.body {
        ErrorBody::Standard(body) => (Some(body.kind.errcode().to_string()), body.message.clone()),
        // A field that the SDK insists on is missing; the code counts all the same.
        ErrorBody::Json(body) => {
            let field = |name: &str| body.get(name).and_then(|value| value.as_str()).map(ToOwned::to_owned);
            (field("errcode"), field("error").unwrap_or_default())
        }
        ErrorBody::NotJson { .. } => (None, String::new()),
    };
    let status = error.status_code.as_u16();
    let reason = verdict(status, errcode.as_deref());
    let detail = match &errcode {
        // We always send one, so it was dropped on the way.
        Some(code) if code == "M_MISSING_TOKEN" => {
            format!("{status} {code}: {text} (does matrix.homeserver redirect to another address?)")
        }
        Some(code) if text.is_empty() => format!("{status} {code}"),
        Some(code) => format!("{status} {code}: {text}"),
        None => format!("{status} without a Matrix error (a proxy's answer?)"),
    };
    let obeyed = matches!(reason, Reason::RateLimited | Reason::ServerError);
    let retry_after = obeyed.then(|| retry_after(error)).flatten();
    let soft_logout = match &error.body {
        ErrorBody::Standard(body) => matches!(&body.kind, ErrorKind::UnknownToken(data) if data.soft_logout),
        _ => false,
    };
    Fault { error: SendError { retry_after, ..fault(reason, detail) }, errcode, soft_logout }
}

/// The table: status and error code -> reason. `BadEvent` and `TooLarge` end an event for good, so only what is
/// surely about the event's content may become one of them.
fn verdict(status: u16, errcode: Option<&str>) -> Reason {
    let code = errcode.map(ErrorCode::from);
    match (status, code) {
        (429, _) | (_, Some(ErrorCode::LimitExceeded)) => Reason::RateLimited,
        (500.., _) | (_, Some(ErrorCode::ResourceLimitExceeded)) => Reason::ServerError,
        (413, _) | (_, Some(ErrorCode::TooLarge)) => Reason::TooLarge,
        (_, Some(code)) => by_code(status, &code),
        // A proxy speaks, or no homeserver lives at this address: nothing about event, room or account.
        (_, None) => Reason::ServerError,
    }
}

fn by_code(status: u16, code: &ErrorCode) -> Reason {
    use ErrorCode as C;
    match code {
        C::UnknownToken | C::MissingToken => Reason::TokenRejected,
        C::UserLocked | C::UserSuspended | C::UserDeactivated | C::UserLimitExceeded => Reason::AccountRefused,
        // The endpoint is unknown: an old homeserver, or a proxy that passes on only part of the API.
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
            // In no version of the SDK's list, though the specification has it.
            (_, "M_CONSENT_NOT_GIVEN") => Reason::AccountRefused,
            (401, _) => Reason::TokenRejected,
            // A homeserver's own rules; the room may allow it later, so the event is kept.
            (403 | 404, _) => Reason::RoomRefused,
            (405 | 408, _) => Reason::ServerError,
            _ => Reason::BadEvent,
        },
    }
}

/// What a header says about when to come again (<https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>). A date counts
/// from the answer's own `Date`, so that our clock and the homeserver's need not agree.
pub(crate) fn retry_after_of(headers: &web::HeaderMap) -> Option<Duration> {
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

/// As the body says it, where no header does. See [`retry_after_of`].
fn retry_after(error: &ApiError) -> Option<Duration> {
    let wait = match &error.body {
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

fn network(error: &reqwest::Error) -> Fault {
    // Connecting first: a timeout while connecting is both, and nothing has been sent then.
    if error.is_connect() || error.is_builder() {
        Fault::new(Reason::Unreachable, format!("cannot connect: {}", causes(error)))
    } else if error.is_timeout() {
        Fault::new(Reason::NoAnswer, "no answer in time")
    } else if error.is_redirect() {
        Fault::new(Reason::ServerError, "redirected in circles")
    } else {
        Fault::new(Reason::NoAnswer, format!("the connection broke: {}", causes(error)))
    }
}

/// What lies below the error, outermost first. Not the error's own text: that holds the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // hyper's outer layer says only that it is the client.
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
