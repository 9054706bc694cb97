//! Answers: a status and a JSON object that says why.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// After how many seconds a client should retry; Alertmanager ignores it and uses its own backoff.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    body: Value,
    /// Boxed because it is rare, and answers travel as errors.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Answer {
    pub fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body, header: None }
    }

    fn fault(status: StatusCode, error: &str) -> Self {
        Self { status, body: json!({ "status": "error", "error": error }), header: None }
    }

    pub fn bad_request(error: &str) -> Self {
        Self::fault(StatusCode::BAD_REQUEST, error)
    }

    pub fn unauthorized(challenge: &'static str) -> Self {
        let answer = Self::fault(StatusCode::UNAUTHORIZED, "missing or wrong credentials");
        Self { header: Some(Box::new((header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))), ..answer }
    }

    pub fn forbidden(error: &str) -> Self {
        Self::fault(StatusCode::FORBIDDEN, error)
    }

    pub fn not_found(error: &str) -> Self {
        Self::fault(StatusCode::NOT_FOUND, error)
    }

    pub fn method_not_allowed(allow: &'static str) -> Self {
        let answer = Self::fault(StatusCode::METHOD_NOT_ALLOWED, &format!("method not allowed; use {allow}"));
        Self { header: Some(Box::new((header::ALLOW, HeaderValue::from_static(allow)))), ..answer }
    }

    /// Appends a hint to the error.
    pub fn with_hint(mut self, hint: &str) -> Self {
        if let Some(Value::String(error)) = self.body.get_mut("error") {
            error.push_str("; ");
            error.push_str(hint);
        }
        self
    }

    pub fn unsupported(error: &str) -> Self {
        Self::fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
    }

    pub fn too_large(limit: usize) -> Self {
        Self::fault(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is larger than {limit} bytes"))
    }

    /// Alertmanager retries after a 5xx only.
    pub fn unavailable(error: &str) -> Self {
        let answer = Self::fault(StatusCode::SERVICE_UNAVAILABLE, error);
        Self { header: Some(Box::new((header::RETRY_AFTER, RETRY_AFTER))), ..answer }
    }

    /// Whether it says that the same request may succeed later.
    pub fn asks_to_retry(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// A health answer: the status shows the result, the body the reasons.
    pub fn health(healthy: bool, body: Value) -> Self {
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, body, header: None }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
