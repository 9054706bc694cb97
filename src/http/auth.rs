//! Whether a webhook may post. Compared in constant time, so that the time taken tells nothing about the secret.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::Answer;
use crate::{config::Auth, model::Timestamp};

/// The one `Authorization` value that is let in. Hashed: equal lengths make the comparison truly constant in time.
#[derive(Debug)]
pub enum Guard {
    Open,
    Bearer { token: [u8; 32] },
    Basic { credentials: [u8; 32] },
}

impl Guard {
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
    /// The answer for whom it does not let in.
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

/// Says a refusal once a minute: anybody who reaches the port could fill the log otherwise.
#[derive(Debug, Default)]
pub struct Refusals {
    told: AtomicI64,
}

impl Refusals {
    pub fn is_news(&self, now: Timestamp) -> bool {
        let told = self.told.load(Ordering::Relaxed);
        let news = told == 0 || now.since(Timestamp(told)) >= Duration::from_mins(1);
        news && self.told.compare_exchange(told, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
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
        Guard::new(auth).check(&headers).is_ok()
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
