//! The way to the homeserver: whom to trust, through which proxy, and where it is.

use std::{fs, time::Duration};

use matrix_sdk::{HttpError, reqwest};
use serde_json::Value;
use url::Url;

use super::errors;
use crate::{
    config::{self, Homeserver, Proxy, Secret},
    model::{Reason, SendError},
};

/// A connection must be made within this, and a `.well-known` be read.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A `.well-known` is a few lines; a web server may answer with anything.
const MAX_WELL_KNOWN: usize = 64 * 1024;

/// A client for the homeserver. It is shared with the SDK, so that whatever is asked goes the same way.
///
/// # Errors
/// In words, without the proxy's password.
pub(crate) fn client(config: &config::Matrix) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("matrix-alertmanager-receiver/", env!("CARGO_PKG_VERSION")))
        // Lets "cannot connect" be told apart from "no answer": in the first case nothing was sent.
        .connect_timeout(TIMEOUT);
    if let Some(file) = &config.ca_file {
        let told = |what: String| format!("matrix.ca_file: {}: {what}", file.display());
        let pem = fs::read(file).map_err(|error| told(error.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| told("not PEM".to_owned()))?;
        if certificates.is_empty() {
            return Err(told("no certificate in it".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder = match &config.proxy {
        Proxy::Environment => builder,
        Proxy::None => builder.no_proxy(),
        Proxy::Url(url) => builder.proxy(through(url)?),
    };
    builder.build().map_err(|error| format!("cannot make an HTTPS client: {error}"))
}

fn through(url: &Secret) -> Result<reqwest::Proxy, String> {
    reqwest::Proxy::all(url.expose()).map_err(|_| "matrix.proxy: not the URL of a proxy".to_owned())
}

/// The URL of the client API; looked up where only the server name is given
/// (<https://spec.matrix.org/v1.18/client-server-api/#well-known-uris>).
///
/// # Errors
/// When the name does not answer, or not with an address. Trying again later may help.
pub(crate) async fn locate(http: &reqwest::Client, homeserver: &Homeserver) -> Result<Url, SendError> {
    if !homeserver.is_name() {
        return Ok(homeserver.url().clone());
    }
    let resolved = homeserver.url().join(".well-known/matrix/client").unwrap_or_else(|_| homeserver.url().clone());
    let told = |what: &str| errors::fault(Reason::ServerError, format!("{resolved}: {what}"));
    let broke = |error: reqwest::Error| {
        let fault = errors::http(&HttpError::Reqwest(error)).error;
        SendError { detail: format!("{resolved}: {}", fault.detail), ..fault }
    };
    let mut answer = http.get(resolved.clone()).timeout(TIMEOUT).send().await.map_err(broke)?;
    if answer.status().as_u16() == 404 {
        tracing::info!(%homeserver, "no .well-known: taking the server name for the address of the client API");
        return Ok(homeserver.url().clone());
    }
    if !answer.status().is_success() {
        return Err(told(&format!("answers {}", answer.status().as_u16())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(broke)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_WELL_KNOWN {
            return Err(told("too long for a .well-known"));
        }
    }
    let json: Value = serde_json::from_slice(&body).map_err(|_| told("is not JSON"))?;
    let base = json["m.homeserver"]["base_url"].as_str().and_then(Homeserver::parse);
    match base {
        // What tells a URL may be anybody's mistake; the token is not sent in the clear for it.
        Some(base) if base.url().scheme() == "https" && !base.is_name() => {
            tracing::info!(%homeserver, url = %base, "found the homeserver by its .well-known");
            Ok(base.url().clone())
        }
        Some(_) => Err(told("names an address without https: set it as matrix.homeserver if it is meant")),
        None => Err(told("names no address in m.homeserver.base_url")),
    }
}
