//! Webhooks posted to a wrong URL. Alertmanager drops a notification after a 404 or 405, so extra slashes are ignored,
//! and any other POST counts as a webhook, is logged and answered with the right path.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Extension,
    extract::{Request, State},
    http::{Method, StatusCode, Uri, uri::PathAndQuery},
};

use super::{
    answer::Answer,
    state::{App, Front, Side},
};
use crate::{config::Config, intake};

/// The longest path that is logged, in characters.
const SHOWN: usize = 128;
/// The number of routes to suggest where the path names none.
const NAMED: usize = 4;
/// The path for the answers to strangers, and the one to suggest without routes.
const ANY: &str = "/alerts/<route>";

/// The parts of a webhook's path, ignoring extra slashes; `None` for any other path.
fn webhook(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (parts.first() == Some(&"alerts") && parts.len() <= 2).then_some(parts)
}

/// Whether `path` is one of webhooks.
pub fn is_webhook(path: &str) -> bool {
    webhook(path).is_some()
}

/// Turns `//alerts//default/` into `/alerts/default`. Only for webhooks, so that a proxy's rules for other paths cannot
/// be evaded.
pub async fn without_extra_slashes(mut request: Request) -> Request {
    if let Some(uri) = webhook(request.uri().path()).and_then(|parts| with_path(request.uri(), &parts)) {
        *request.uri_mut() = uri;
    }
    request
}

fn with_path(uri: &Uri, path: &[&str]) -> Option<Uri> {
    let path = format!("/{}", path.join("/"));
    if uri.path() == path {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

/// A POST to a path that takes no webhooks.
#[derive(Debug)]
pub struct LostWebhook {
    path: String,
    /// Whether it has the credentials for webhooks.
    is_known: bool,
    right: String,
}

impl LostWebhook {
    pub fn of(front: &Front, side: Side, request: &Request) -> Self {
        let (settings, uri) = (front.settings(), request.uri());
        let is_known = settings.guard.check(request.headers(), uri.query()).is_ok();
        let right = right_path(&settings.config, uri.path());
        let right = if side == Side::Admin { format!("{right} of http.listen") } else { right };
        Self { path: shown(uri.path()), is_known, right }
    }

    pub fn warn(&self, front: &Front, status: StatusCode) {
        // All strangers share one entry; otherwise they could use up the limit.
        let cause = if self.is_known { &self.path } else { "" };
        if front.log_limits.misdirected.allows(cause, front.clock.now()) {
            tracing::warn!(
                path = self.path,
                right = self.right,
                status = status.as_u16(),
                credentials = self.is_known,
                "webhook lost: this path takes none"
            );
        }
    }

    /// The path for the answer. Only clients with credentials see names of routes.
    fn hint(&self) -> &str {
        if self.is_known { &self.right } else { ANY }
    }
}

pub async fn not_found(State(app): State<Arc<App>>, Extension(side): Extension<Side>, request: Request) -> Answer {
    if request.method() != Method::POST {
        return Answer::not_found("not found");
    }
    let post = LostWebhook::of(&app, side, &request);
    Answer::not_found(&format!("not found; post webhooks to {}", post.hint()))
}

pub async fn not_allowed(State(app): State<Arc<App>>, Extension(side): Extension<Side>, request: Request) -> Answer {
    let answer = Answer::method_not_allowed("GET, HEAD");
    if request.method() != Method::POST {
        return answer;
    }
    let post = LostWebhook::of(&app, side, &request);
    answer.with_hint(&format!("post webhooks to {}", post.hint()))
}

/// The intended path: that of a route named anywhere in `path`, else those of some routes.
fn right_path(config: &Config, path: &str) -> String {
    let named = |part: &str| {
        let part = urlencoding::decode(part).ok()?;
        Some(intake::route_of_path(config, &part).ok()?.0.name.as_str().to_owned())
    };
    if let Some(name) = path.split('/').rev().filter(|part| !part.is_empty()).find_map(named) {
        return format!("/alerts/{name}");
    }
    let mut routes: Vec<Cow<'_, str>> =
        config.routes.keys().take(NAMED).map(|name| format!("/alerts/{}", name.as_str()).into()).collect();
    if config.routes.len() > NAMED {
        routes.push(ANY.into());
    }
    if routes.is_empty() { ANY.to_owned() } else { routes.join(" or ") }
}

/// A path for the log, where strangers choose it: printable and of bounded length.
fn shown(path: &str) -> String {
    let clean: String = path.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).take(SHOWN).collect();
    if path.chars().count() > SHOWN { clean + "..." } else { clean }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::config::Purpose;

    #[tokio::test]
    async fn slashes_too_many_are_overlooked_in_paths_of_webhooks() {
        for (uri, expected) in [
            ("/alerts", "/alerts"),
            ("/alerts/", "/alerts"),
            ("//alerts///", "/alerts"),
            ("/alerts/?secret=a//b/", "/alerts?secret=a//b/"),
            ("/alerts/default/", "/alerts/default"),
            ("//alerts//default//?a=%2F", "/alerts/default?a=%2F"),
            ("http://receiver:9088//alerts/default", "http://receiver:9088/alerts/default"),
            // A room keeps its encoding, including an encoded slash.
            ("/alerts/%21room%3Aexample.org/", "/alerts/%21room%3Aexample.org"),
            ("/alerts/%23a%2F%2Fb:example.org/", "/alerts/%23a%2F%2Fb:example.org"),
            ("/alerts/!room:example.org/", "/alerts/!room:example.org"),
            // Not paths of webhooks.
            ("/metrics/", "/metrics/"),
            ("//metrics", "//metrics"),
            ("//", "//"),
            ("/", "/"),
            ("/alerts/a/b/", "/alerts/a/b/"),
            ("/x//alerts/", "/x//alerts/"),
            ("/Alerts/", "/Alerts/"),
            ("/%61lerts/", "/%61lerts/"),
        ] {
            let request = Request::builder().uri(uri).body(Body::empty()).expect("a request");
            assert_eq!(without_extra_slashes(request).await.uri(), expected, "{uri}");
        }
    }

    #[test]
    fn the_right_path_is_that_of_the_route_that_is_named() {
        let config = |more: &str| {
            let text = format!("[routes.default]\nrooms = [\"!a:a\"]\n[routes.team]\nrooms = [\"!b:a\"]\n{more}");
            Config::parse(&text, "test", Purpose::Render).expect("a good config")
        };
        let plain = config("");
        for (path, expected) in [
            ("/team", "/alerts/team"),
            ("/webhook/team/", "/alerts/team"),
            ("/receiver/alerts/team", "/alerts/team"),
            ("/alerts/team/v2", "/alerts/team"),
            ("/webhook", "/alerts/default or /alerts/team"),
            ("/webhook/%FF", "/alerts/default or /alerts/team"),
            ("/webhook/%21b%3Aa", "/alerts/default or /alerts/team"),
            ("/", "/alerts/default or /alerts/team"),
        ] {
            assert_eq!(right_path(&plain, path), expected, "{path}");
        }
        let compat = config("[compat]\nroom_paths = true\nnames = { \"Old\" = \"team\" }");
        for path in ["/webhook/%21b%3Aa", "/Old/", "/webhook/!b:a"] {
            assert_eq!(right_path(&compat, path), "/alerts/team", "{path}");
        }
        let many: Vec<_> = (0..9).map(|n| format!("[routes.r{n}]\nrooms = [\"!r{n}:a\"]")).collect();
        let many = right_path(&config(&many.join("\n")), "/webhook");
        assert_eq!(many, "/alerts/default or /alerts/r0 or /alerts/r1 or /alerts/r2 or /alerts/<route>");
    }

    #[test]
    fn a_path_is_cleaned_and_cut() {
        assert_eq!(shown("/webhook/%1b%0A"), "/webhook/%1b%0A");
        assert_eq!(shown("/a\u{202e}\u{7}b ü"), "/a??b??");
        assert_eq!(shown(&format!("/{}", "x".repeat(5_000))).len(), SHOWN + 3);
    }
}
