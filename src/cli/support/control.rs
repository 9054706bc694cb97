//! A client of the running receiver, over its control socket.

use std::{
    io::ErrorKind,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use reqwest::{Client, Method};
use serde_json::Value;
use url::Url;

use super::{
    http_client,
    output::{clean, excerpt},
};
use crate::{config::Config, http::CONTROL_SOCKET};

/// Longer than any query of the store takes.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the running receiver.
pub(crate) struct Control {
    socket: PathBuf,
    client: Client,
}

impl Control {
    /// # Errors
    /// When no receiver answers at its socket; says why.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Self> {
        let socket = config.store.path.join(CONTROL_SOCKET);
        reach(&socket)?;
        let builder = Client::builder().user_agent(http_client::USER_AGENT).timeout(TIMEOUT).no_proxy();
        let client = builder.tls_certs_only([]).unix_socket(socket.as_path()).build();
        Ok(Self { client: client.context("cannot make an HTTP client")?, socket })
    }

    /// # Errors
    /// With the receiver's reason, or why it cannot be reached.
    pub(crate) async fn ask(&self, method: Method, path: &[&str], body: Option<&Value>) -> anyhow::Result<Value> {
        // A URL needs a host; the socket is the address.
        let url = http_client::below(&Url::parse("http://localhost/")?, path);
        let request = self.client.request(method, url);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = http_client::ask(request).await;
        let answer = answer.map_err(|why| anyhow::anyhow!("{}: {why}", self.socket.display()))?;
        let json: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if answer.status != 200 {
            bail!("{}", json["error"].as_str().map_or_else(|| excerpt(&answer.body), clean));
        }
        Ok(json)
    }
}

/// Checks that the socket is served; an HTTP client's errors would not say what is wrong.
fn reach(socket: &Path) -> anyhow::Result<()> {
    let at = socket.display();
    match UnixStream::connect(socket) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => bail!("is the receiver running? no socket at {at}"),
            ErrorKind::ConnectionRefused => bail!("is the receiver running? nothing listens at {at}"),
            ErrorKind::PermissionDenied => {
                bail!("permission denied: {at} is only for the receiver's user and root")
            }
            _ => bail!("cannot connect to {at}: {error}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_the_receiver_cannot_be_reached() {
        let folder = tempfile::TempDir::new().unwrap();
        let socket = folder.path().join(CONTROL_SOCKET);
        let why = |socket: &Path| reach(socket).unwrap_err().to_string();
        assert!(why(&socket).starts_with("is the receiver running? no socket at /"), "{}", why(&socket));
        // Left behind by a receiver that was killed.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(why(&socket).contains("nothing listens"), "{}", why(&socket));
        let long = folder.path().join("x".repeat(120)).join(CONTROL_SOCKET);
        assert!(why(&long).contains("cannot connect"), "{}", why(&long));
    }
}
