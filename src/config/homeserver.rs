//! The homeserver: the URL of its client API, or the server name whose `.well-known` names that URL.

use std::fmt;

use url::Url;

use super::values::is_server_name;

/// An http or https URL with a host and without user name or password, or a server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homeserver {
    url: Url,
    /// The normalised text of the setting; homeservers with different texts are different.
    text: String,
    by_name: bool,
}

impl Homeserver {
    /// `None`: neither a URL of a server nor a server name without a port.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !text.contains("://") {
            // A port would be the federation's, which says nothing about the client API.
            let name = text.contains('.') && !text.contains(':') && is_server_name(text);
            let url = name.then(|| Url::parse(&format!("https://{text}/")).ok()).flatten()?;
            return Some(Self { text: url.host_str()?.to_owned(), url, by_name: true });
        }
        let url = Url::parse(text).ok()?;
        let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
        let bare = url.username().is_empty() && url.password().is_none();
        let whole = url.query().is_none() && url.fragment().is_none();
        (plain && bare && whole).then(|| Self { text: url.as_str().to_owned(), url, by_name: false })
    }

    /// The URL; for a server name `https://<name>/`, below which its `.well-known` is.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether only the server name was given, so that the URL of the client API is to be looked up.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.by_name
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn host_str(&self) -> Option<&str> {
        self.url.host_str()
    }
}

impl fmt::Display for Homeserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_names() {
        for (text, url, name) in [
            ("https://matrix.example.org", "https://matrix.example.org/", false),
            ("http://127.0.0.1:8008/base", "http://127.0.0.1:8008/base", false),
            ("Example.org", "https://example.org/", true),
        ] {
            let parsed = Homeserver::parse(text).unwrap();
            assert_eq!((parsed.url().as_str(), parsed.is_name()), (url, name));
            // The text that is stored with a session parses to the same homeserver.
            assert_eq!(Homeserver::parse(parsed.as_str()), Some(parsed));
        }
        for text in ["", "localhost", "example.org:8448", "user@example.org", "example.org/x", "ftp://x", "https://u@x"]
        {
            assert_eq!(Homeserver::parse(text), None, "{text}");
        }
    }
}
