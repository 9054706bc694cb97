//! HTTP for commands: the receiver's address, and a client that says why there was no answer.

use std::{
    error::Error as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use reqwest::{Client, RequestBuilder, redirect::Policy};
use rustls::{CertificateError, OtherError};
use url::{Host, Url};

use super::{output::excerpt, tls};
use crate::config::Http;

/// Identifies the command in the server's log.
pub(crate) const USER_AGENT: &str = concat!("matrix-alertmanager-receiver/", env!("CARGO_PKG_VERSION"));

/// Parses the base address of `--url`.
pub(crate) fn receiver_url(text: &str) -> Result<Url, String> {
    let expected = "expected the receiver's address, such as http://127.0.0.1:9088";
    let secrets = "leave user name and password out: they are taken from http.auth of the config";
    http_url(text, expected, secrets)
}

/// Parses the address of a Grafana.
pub(crate) fn grafana_url(text: &str) -> Result<Url, String> {
    let expected = "expected the address of a Grafana, such as https://grafana.example.org";
    let url = http_url(text, expected, "leave user name and password out: everyone could read them")?;
    if url.query().is_some() || url.fragment().is_some() { Err(expected.to_owned()) } else { Ok(url) }
}

/// Parses the address of a Prometheus.
pub(crate) fn prometheus_url(text: &str) -> Result<Url, String> {
    let expected = "expected the address of a Prometheus, such as http://prometheus:9090";
    let secrets = "leave user name and password out: evidence.prometheus in the config can have them";
    let url = http_url(text, expected, secrets)?;
    if url.query().is_some() || url.fragment().is_some() { Err(expected.to_owned()) } else { Ok(url) }
}

fn http_url(text: &str, expected: &str, secrets: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; {expected}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(expected.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(secrets.to_owned());
    }
    Ok(url)
}

/// Which certificates a command accepts from the receiver over https.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trust<'a> {
    /// Those of the system's authorities.
    System,
    /// Only the first certificate in this file, whatever name is in it: the receiver of the same config is called by its
    /// address.
    Only(&'a Path),
    /// Any: nothing secret is sent, and only the presence of an answer counts.
    Anybody,
}

/// The URL of this config's receiver on the same machine. An unspecified listen address becomes loopback.
pub(crate) fn local_url(http: &Http) -> anyhow::Result<Url> {
    let listen = http.listen;
    anyhow::ensure!(listen.port() != 0, "http.listen leaves the port to the system: set --url");
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{}/", SocketAddr::new(ip, listen.port()))).context("http.listen")
}

/// `path` below `base`, percent-encoded.
pub(crate) fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// A client for one call to the receiver at `base`. If that is `ours`, it bypasses proxies, which must not see our token and
/// may not reach this machine. It follows no redirects, since a POST would become a GET.
pub(crate) fn client(base: &Url, timeout: Duration, trust: Trust<'_>, ours: bool) -> anyhow::Result<Client> {
    let mut builder = Client::builder().user_agent(USER_AGENT).timeout(timeout).redirect(Policy::none());
    if ours {
        builder = builder.no_proxy();
    }
    builder = match trust {
        // Root certificates take time to load, and a slim image may have none.
        _ if base.scheme() == "http" && is_loopback(base) => builder.tls_certs_only([]),
        Trust::System => builder,
        Trust::Only(file) => builder.tls_backend_preconfigured(tls::pinned_to(file)?),
        Trust::Anybody => builder.tls_certs_only([]).tls_danger_accept_invalid_certs(true),
    };
    builder.build().context("cannot make an HTTP client")
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    }
}

/// A complete response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: String,
}

/// Sends the request.
///
/// # Errors
/// With the reason why there was no answer.
pub(crate) async fn ask(request: RequestBuilder) -> Result<Answer, String> {
    let answer = request.send().await.map_err(|error| in_words(&error))?;
    let status = answer.status().as_u16();
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(excerpt);
    let body = answer.text().await.map_err(|error| in_words(&error))?;
    Ok(Answer { status, location, body })
}

/// The innermost cause, which alone says what happened.
pub(crate) fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    let cause = refusal(error).unwrap_or_else(|| cause.map_or_else(|| error.to_string(), ToString::to_string));
    if error.is_connect() { format!("cannot connect: {cause}") } else { cause }
}

/// The message of our own certificate verifier, which rustls would print as a Rust value.
fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(words)))) = error.downcast_ref() {
        return Some(words.to_string());
    }
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => refusal(inner),
        None => refusal(error.source()?),
    }
}

/// Runs a command's requests.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, Tls};

    fn http(listen: &str) -> Http {
        let listen = listen.parse().expect("an address");
        Http { listen, max_body_bytes: 1024, allow_unauthenticated: false, auth: Auth::None, tls: None, admin: None }
    }

    #[test]
    fn an_address_for_all_is_called_on_loopback() {
        for (listen, url) in [
            ("127.0.0.1:9088", "http://127.0.0.1:9088/"),
            ("0.0.0.0:9088", "http://127.0.0.1:9088/"),
            ("[::]:80", "http://[::1]/"),
            ("[::1]:9088", "http://[::1]:9088/"),
            ("192.0.2.7:9088", "http://192.0.2.7:9088/"),
        ] {
            assert_eq!(local_url(&http(listen)).unwrap().as_str(), url);
        }
        assert!(local_url(&http("127.0.0.1:0")).is_err());
        let tls = Tls { cert_file: "x".into(), key_file: "y".into() };
        let https = Http { tls: Some(tls), ..http("0.0.0.0:9088") };
        assert_eq!(local_url(&https).unwrap().as_str(), "https://127.0.0.1:9088/");
    }

    #[test]
    fn paths_go_below_the_base() {
        for (base, url) in [
            ("http://x", "http://x/alerts/a%2Fb"),
            ("http://x/", "http://x/alerts/a%2Fb"),
            ("https://x/prefix", "https://x/prefix/alerts/a%2Fb"),
            ("https://x/prefix/", "https://x/prefix/alerts/a%2Fb"),
        ] {
            assert_eq!(below(&receiver_url(base).unwrap(), &["alerts", "a/b"]).as_str(), url);
        }
    }

    #[test]
    fn only_the_address_of_a_server_is_a_base() {
        for bad in ["", "localhost", "localhost:9088", "ftp://x", "mailto:a@b", "http://u:p@x", "http://u@x"] {
            assert!(receiver_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_addresses_bypass_proxies() {
        for (url, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://127.8.0.1", true),
            ("http://[::1]:1", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://localhost:1", true),
            ("http://localhost.example.org", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
