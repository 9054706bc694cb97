//! The HTTP client of the tests.

use std::{sync::OnceLock, time::Duration};

use reqwest::header::HeaderMap;
use serde_json::Value;

/// The client for all requests of the tests themselves.
///
/// Made once, since loading root certificates takes long. It keeps no connections: a kept one belongs to the runtime of
/// the test that opened it and breaks under the next test.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| builder().build().expect("a client"))
}

/// One that trusts the authority of this PEM file and no other.
pub fn trusting(authority: &str) -> reqwest::Client {
    let pem = std::fs::read(authority).expect("a file");
    let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    builder().tls_certs_only([certificate]).build().expect("a client")
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_mins(1))
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// Sends the request; an error is one of the network.
    pub async fn to(request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.text().await? })
    }

    /// The body as JSON; `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The JSON of a 2xx answer.
    ///
    /// # Panics
    /// On any other status, with `what` and the answer.
    pub fn expect_ok(self, what: &str) -> Value {
        assert!((200..300).contains(&self.status), "{what}: {} {}", self.status, self.body);
        self.json()
    }
}
