//! How to reach the homeserver: trusted certificates, the proxy, and the address of the client-server API.

use std::{fs, time::Duration};

use matrix_sdk::{HttpError, reqwest};
use serde_json::Value;
use url::Url;

use super::errors::{self, ApiError};
use crate::{
    config::{self, Homeserver, Proxy},
    model::{Reason, SendError},
};

/// The time limit for connecting, and for reading a `.well-known`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A `.well-known` has a few lines, but a web server may answer with anything.
const MAX_WELL_KNOWN: usize = 64 * 1024;

/// Builds the HTTP client for the homeserver. The SDK shares it, so that all requests take the same route.
///
/// # Errors
/// A text that names the config key, without the proxy's password.
pub(crate) fn build(config: &config::Matrix) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("matrix-alertmanager-receiver/", env!("CARGO_PKG_VERSION")))
        // Separates "cannot connect", where nothing was sent, from "no answer".
        .connect_timeout(TIMEOUT);
    if let Some(file) = &config.ca_file {
        let named = |what: String| format!("matrix.ca_file: {}: {what}", file.display());
        let pem = fs::read(file).map_err(|error| named(error.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| named("not PEM".to_owned()))?;
        if certificates.is_empty() {
            return Err(named("no certificate in it".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder = match &config.proxy {
        Proxy::Environment => builder,
        Proxy::None => builder.no_proxy(),
        Proxy::Url(url) => {
            let proxy = reqwest::Proxy::all(url.expose());
            builder.proxy(proxy.map_err(|_| "matrix.proxy: not the URL of a proxy".to_owned())?)
        }
    };
    builder.build().map_err(|error| format!("cannot build an HTTPS client: {error}"))
}

/// Finds the URL of the client-server API, through `.well-known` if the config has only a server name
/// (<https://spec.matrix.org/v1.18/client-server-api/#well-known-uris>).
///
/// # Errors
/// When the name does not answer, or not with an address. A retry may help.
pub(crate) async fn locate(http: &reqwest::Client, homeserver: &Homeserver) -> Result<Url, SendError> {
    if !homeserver.is_name() {
        return Ok(homeserver.url().clone());
    }
    let source = homeserver.url().join(".well-known/matrix/client").unwrap_or_else(|_| homeserver.url().clone());
    let unusable = |what: &str| errors::send_error(Reason::ServerError, format!("{source}: {what}"));
    let broken = |error: reqwest::Error| {
        let error = ApiError::from_http(&HttpError::Reqwest(error)).error;
        SendError { detail: format!("{source}: {}", error.detail), ..error }
    };
    let mut answer = http.get(source.clone()).timeout(TIMEOUT).send().await.map_err(broken)?;
    if answer.status().as_u16() == 404 {
        tracing::info!(%homeserver, "no .well-known; using the server name as address");
        return Ok(homeserver.url().clone());
    }
    if !answer.status().is_success() {
        return Err(unusable(&format!("answered {}", answer.status().as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_WELL_KNOWN {
            return Err(unusable("too long for a .well-known"));
        }
    }
    let json: Value = serde_json::from_slice(&body).map_err(|_| unusable("not JSON"))?;
    let base = json["m.homeserver"]["base_url"].as_str().and_then(Homeserver::parse);
    match base {
        // The URL may be anybody's mistake; it must not make us send the token in the clear.
        Some(base) if base.url().scheme() == "https" && !base.is_name() => {
            tracing::info!(%homeserver, url = %base, "found the homeserver through .well-known");
            Ok(base.url().clone())
        }
        Some(_) => Err(unusable("names an address without https; if that is intended, set it as matrix.homeserver")),
        None => Err(unusable("has no address in m.homeserver.base_url")),
    }
}
