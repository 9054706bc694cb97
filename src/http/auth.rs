//! Whether a client may post webhooks. Comparisons take constant time, so that the duration reveals nothing about the
//! secret.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::Answer;
use crate::config::{Auth, Compat};

/// The accepted credentials.
#[derive(Debug)]
pub struct Guard {
    header: Header,
    /// The hash of the accepted `?secret=`; `None` ignores the query.
    query: Option<[u8; 32]>,
}

/// The accepted `Authorization` value. Hashes have equal lengths, which makes the comparison truly constant in time.
#[derive(Debug)]
pub enum Header {
    Open,
    Bearer { token: [u8; 32] },
    Basic { credentials: [u8; 32] },
}

/// Which credentials let a webhook in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// The header, or none were required.
    Header,
    /// The query's `secret`.
    Query,
}

impl Guard {
    pub fn new(auth: &Auth, compat: &Compat) -> Self {
        let secret = match auth {
            Auth::None => None,
            Auth::Bearer(secret) | Auth::Basic { password: secret, .. } => Some(hash(secret.expose().as_bytes())),
        };
        Self { header: Header::new(auth), query: secret.filter(|_| compat.query_secret) }
    }

    /// # Errors
    /// The answer for a client without valid credentials.
    pub fn check(&self, headers: &HeaderMap, query: Option<&str>) -> Result<CredentialSource, Answer> {
        match (self.header.check(headers), &self.query) {
            (Ok(()), _) => Ok(CredentialSource::Header),
            (Err(_), Some(expected)) if query_secret(query).is_some_and(|given| same(given.as_bytes(), expected)) => {
                Ok(CredentialSource::Query)
            }
            (Err(answer), _) => Err(answer),
        }
    }
}

/// The query's `secret`, if it has exactly one.
fn query_secret(query: Option<&str>) -> Option<Cow<'_, str>> {
    let mut secrets = url::form_urlencoded::parse(query?.as_bytes()).filter(|(name, _)| name == "secret");
    let (_, secret) = secrets.next()?;
    secrets.next().is_none().then_some(secret)
}

impl Header {
    pub fn new(auth: &Auth) -> Self {
        match auth {
            Auth::None => Self::Open,
            Auth::Bearer(token) => Self::Bearer { token: hash(token.expose().as_bytes()) },
            Auth::Basic { username, password } => {
                Self::Basic { credentials: hash(format!("{username}:{}", password.expose()).as_bytes()) }
            }
        }
    }

    /// # Errors
    /// The answer for a client without valid credentials.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let given = headers.get(header::AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        match self {
            Self::Open => Ok(()),
            Self::Bearer { token } => {
                let matches = given.and_then(|value| after_scheme(value, "bearer")).is_some_and(|t| same(t, token));
                if matches { Ok(()) } else { Err(Answer::unauthorized(r#"Bearer realm="alerts""#)) }
            }
            Self::Basic { credentials } => {
                let decoded = given
                    .and_then(|value| after_scheme(value, "basic"))
                    .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
                let matches = decoded.is_some_and(|pair| same(&pair, credentials));
                if matches { Ok(()) } else { Err(Answer::unauthorized(r#"Basic realm="alerts", charset="UTF-8""#)) }
            }
        }
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn same(given: &[u8], expected: &[u8; 32]) -> bool {
    hash(given).ct_eq(expected).into()
}

/// What follows the scheme; scheme names are compared without regard to case (RFC 9110, 11.1).
fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    name.eq_ignore_ascii_case(scheme.as_bytes()).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::config::Secret;

    fn let_in(auth: &Auth, value: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header"));
        }
        let by_header = |query| Guard::new(auth, &Compat::default()).check(&headers, query).is_ok();
        for query in ["secret=s3cret", "secret=pa:ss"] {
            assert_eq!(by_header(None), by_header(Some(query)), "the query counts by default");
        }
        by_header(None)
    }

    #[test]
    fn the_query_counts_where_the_config_says_so() {
        let compat = Compat { query_secret: true, ..Compat::default() };
        let bearer = Auth::Bearer(Secret::new("s3 c&ret"));
        let basic = Auth::Basic { username: "alertmanager".to_owned(), password: Secret::new("s3 c&ret") };
        for (query, expected) in [
            (Some("secret=s3%20c%26ret"), true),
            (Some("a=b&secret=s3+c%26ret"), true),
            (Some("secret=s3+c%26re"), false),
            (Some("secret=s3+c%26rett"), false),
            (Some("secret="), false),
            (Some("Secret=s3+c%26ret"), false),
            (Some("secret=x&secret=s3+c%26ret"), false),
            (Some("secret=s3+c%26ret&secret=s3+c%26ret"), false),
            (Some("secret=s3 c&ret"), false),
            (Some(""), false),
            (None, false),
        ] {
            for auth in [&bearer, &basic] {
                let proof = Guard::new(auth, &compat).check(&HeaderMap::new(), query);
                assert_eq!(proof.ok(), expected.then_some(CredentialSource::Query), "{auth:?} {query:?}");
            }
        }
        // A valid header is enough, and an invalid one does not invalidate the query.
        for (header, query, proof) in [
            ("Bearer s3 c&ret", None, CredentialSource::Header),
            ("Bearer s3 c&ret", Some("secret=x"), CredentialSource::Header),
            ("Bearer x", Some("secret=s3+c%26ret"), CredentialSource::Query),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(header))]);
            assert_eq!(Guard::new(&bearer, &compat).check(&headers, query).ok(), Some(proof), "{header} {query:?}");
        }
        assert_eq!(
            Guard::new(&Auth::None, &compat).check(&HeaderMap::new(), Some("secret=")).ok(),
            Some(CredentialSource::Header)
        );
    }

    #[test]
    fn only_the_right_credentials_are_let_in() {
        let bearer = Auth::Bearer(Secret::new("s3cret"));
        let basic = Auth::Basic { username: "am".to_owned(), password: Secret::new("pa:ss") };
        let encoded = BASE64_STANDARD.encode("am:pa:ss");
        for (auth, value, expected) in [
            (&Auth::None, None, true),
            (&Auth::None, Some("Bearer whatever"), true),
            (&bearer, None, false),
            (&bearer, Some("Bearer s3cret"), true),
            (&bearer, Some("bearer  s3cret "), true),
            (&bearer, Some("Bearer s3cre"), false),
            (&bearer, Some("Bearer s3cret2"), false),
            (&bearer, Some("Bearer"), false),
            (&bearer, Some("Bearer "), false),
            (&bearer, Some("s3cret"), false),
            (&bearer, Some("Basic s3cret"), false),
            (&basic, Some(&format!("Basic {encoded}")), true),
            (&basic, Some(&format!("BASIC {encoded}")), true),
            (&basic, Some("Basic am:pa:ss"), false),
            (&basic, Some(&format!("Basic {}", BASE64_STANDARD.encode("am:pass"))), false),
            (&basic, Some(&format!("Bearer {encoded}")), false),
        ] {
            assert_eq!(let_in(auth, value), expected, "{auth:?} {value:?}");
        }
    }
}
