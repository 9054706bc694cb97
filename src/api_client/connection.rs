//! The HTTP client, and what its errors mean.

use std::{fs, path::Path, time::Duration};

use reqwest::redirect::Policy;
use url::Url;

use super::QUOTED;
use crate::text::one_line;

/// For all of a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For a connection alone, well below [`TIMEOUT`]: only then is it certain that nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// What a client is built for.
pub(crate) struct Service<'a> {
    /// As errors call it.
    pub(crate) name: &'a str,
    /// The config key of its table.
    pub(crate) key: &'a str,
    pub(crate) ca_file: Option<&'a Path>,
    /// Whether any of its URLs is https.
    pub(crate) https: bool,
}

/// Builds the HTTP client of one service. It follows no redirects, since a POST would become a GET and credentials would go
/// elsewhere; and it keeps no connections, since one that the peer has closed meanwhile would leave a request in doubt that
/// a new connection answers. It reads the certificates, which takes time.
///
/// # Errors
/// A text that names the config key.
pub(crate) fn build(service: &Service<'_>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("matrix-alertmanager-receiver/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT);
    if let Some(file) = service.ca_file {
        let named = |what: String| format!("{}.ca_file: {}: {what}", service.key, file.display());
        let pem = fs::read(file).map_err(|error| named(error.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| named("not PEM".to_owned()))?;
        if certificates.is_empty() {
            return Err(named("no certificate in it".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    } else if !service.https {
        // Root certificates take time to load, and a slim image may have none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| format!("cannot build an HTTP client for {}: {error}", service.name))
}

/// The host of a peer, with its port if that is not the scheme's own.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The innermost cause, which alone says what happened.
pub(crate) fn in_words(error: &reqwest::Error) -> String {
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
