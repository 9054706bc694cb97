//! Who may see the status page, which names rooms, users and labels of alerts.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Version, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    config::{Auth, Config},
    http::{
        answer::Answer,
        auth::Header,
        state::{Front, Side},
    },
};

/// The headers by which a proxy shows that it forwards a request.
const FORWARDED: [&str; 7] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server", "x-real-ip"];

/// # Errors
/// The answer for a client that may not see the page.
pub fn check(front: &Front, config: &Config, side: Side, version: Version, headers: &HeaderMap) -> Result<(), Answer> {
    match side {
        // The middleware of that listener has checked the credentials.
        Side::Admin => Ok(()),
        Side::Main { has_admin: true, .. } => Err(Answer::not_found("the status page is served on http.admin only")),
        Side::Main { address, .. } if address.ip().to_canonical().is_loopback() && is_local(version, headers) => Ok(()),
        Side::Main { .. } if matches!(config.http.auth, Auth::None) => {
            Err(Answer::forbidden("without credentials the status page is shown on localhost only; set http.admin"))
        }
        Side::Main { .. } => enter(front, &Header::new(&config.http.auth), headers),
    }
}

/// Requires the credentials of `http.admin` for every path.
pub async fn admit(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    let config = front.config();
    let Some(admin) = &config.http.admin else {
        return Answer::forbidden("the config no longer has http.admin").into_response();
    };
    let auth = Auth::Basic { username: admin.username.clone(), password: admin.password.clone() };
    match enter(&front, &Header::new(&auth), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(answer) => answer.into_response(),
    }
}

fn enter(front: &Front, expected: &Header, headers: &HeaderMap) -> Result<(), Answer> {
    expected.check(headers).inspect_err(|_| {
        // A browser's first request never has credentials; the 401 makes it ask for them.
        if headers.contains_key(header::AUTHORIZATION) && front.log_limits.status_page.allows("", front.clock.now()) {
            tracing::warn!("status page refused: wrong credentials");
        }
    })
}

/// Whether a browser on this machine asks for this machine. A foreign page whose name was made to resolve here (DNS
/// rebinding) asks for that name; a proxy sends other headers. By default nginx sends none, but it speaks HTTP/1.0, as
/// no browser does.
fn is_local(version: Version, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    version >= Version::HTTP_11 && is_loopback(host) && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

/// `localhost`, `127.0.0.1:9088`, `[::1]`.
fn is_loopback(host: &str) -> bool {
    let (name, rest) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let is_address = name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    is_port && (is_address || name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_on_this_machine() {
        for (version, name, value, expected) in [
            (Version::HTTP_11, "accept", "*/*", true),
            (Version::HTTP_2, "accept", "*/*", true),
            (Version::HTTP_10, "accept", "*/*", false),
            (Version::HTTP_11, "x-forwarded-for", "10.0.0.1", false),
            (Version::HTTP_11, "via", "1.1 proxy", false),
        ] {
            let header = |value| axum::http::HeaderValue::from_static(value);
            let headers: HeaderMap =
                [(header::HOST, header("127.0.0.1:9088")), (axum::http::HeaderName::from_static(name), header(value))]
                    .into_iter()
                    .collect();
            assert_eq!(is_local(version, &headers), expected, "{version:?} {name}");
        }
    }

    #[test]
    fn names_of_this_machine() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost:9088", true),
            ("127.0.0.1:9088", true),
            ("127.8.9.10", true),
            ("[::1]:9088", true),
            ("[::1]", true),
            ("", false),
            ("localhost.evil.example", false),
            ("evil.example:9088", false),
            ("127.0.0.1.evil.example", false),
            ("localhost:9088@evil.example", false),
            ("10.0.0.1:9088", false),
            ("[fe80::1]", false),
            ("[::1]evil", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
