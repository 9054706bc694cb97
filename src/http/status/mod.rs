//! `GET /`: one page with what an operator needs when alerts do not arrive.

mod access;
pub(super) mod history;
mod sampler;
mod view;

use std::sync::{Arc, LazyLock};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header},
    response::{Html, IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

pub use self::{access::admit, sampler::sample};
use super::state::{App, Side};
use crate::render::status;

/// Allows only the page's own style sheet and script, by their hashes, and a refresh of the page.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(status::STYLE),
        hash(status::SCRIPT)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

pub async fn page(
    State(app): State<Arc<App>>,
    Extension(side): Extension<Side>,
    version: Version,
    headers: HeaderMap,
) -> Response {
    let settings = app.settings();
    if let Err(answer) = access::check(&app, &settings.config, side, version, &headers) {
        return answer.into_response();
    }
    let page = view::page(&app, &settings).await.map_err(|error| error.to_string());
    match page.and_then(|page| page.html().map_err(|error| error.to_string())) {
        Ok(html) => (guards(), Html(html)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// The headers that restrict what a browser does with the page.
fn guards() -> [(HeaderName, HeaderValue); 7] {
    let fixed = HeaderValue::from_static;
    [
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (header::X_FRAME_OPTIONS, fixed("DENY")),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (header::CACHE_CONTROL, fixed("no-store")),
        (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin")),
    ]
}
