//! The answer to a question, and what one means that is not 2xx.

use reqwest::Response;
use serde_json::Value;

use super::Secrets;
use crate::text::one_line;

/// How much of a server's own words an error quotes, in characters.
pub(crate) const QUOTED: usize = 200;
/// A longer body is not searched for words.
const MAX_WORDS: usize = 64 * 1024;

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum Unread {
    Broken(reqwest::Error),
    TooLong,
}

/// Reads at most `most` bytes of the body, and never keeps more of it.
pub(crate) async fn read(mut answer: Response, most: usize) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > most {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A complete answer.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    pub(super) host: String,
    pub(super) secrets: Secrets,
}

impl Answer {
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `what` as an error about this server, without secrets, on one line and bounded.
    #[must_use]
    pub fn error(&self, what: &str) -> String {
        one_line(&self.secrets.blanked(&format!("{}: {what}", self.host)), 2 * QUOTED)
    }

    /// The server's own words in the body of an error, without secrets, on one line and bounded; empty for none.
    #[must_use]
    pub fn words(&self) -> String {
        // Blanked before it is cut: the beginning of a secret is one as well.
        one_line(self.secrets.blanked(&message(&self.body)).trim(), QUOTED)
    }

    /// What an answer means that is not 2xx.
    #[must_use]
    pub fn refusal(&self) -> String {
        let words = self.words();
        let said = if words.is_empty() { String::new() } else { format!(": {words}") };
        let status = self.status;
        self.error(&match status {
            401 | 403 => format!("refused our credentials ({status}){said}"),
            404 => format!("has no API at this URL (404); check the path of the URL{said}"),
            429 => format!("is asked too much (429){said}"),
            300..=399 => format!("redirects ({status}): name the address that it leads to as the URL"),
            500.. => format!("answered {status}{said}"),
            _ => format!("refused it ({status}){said}"),
        })
    }
}

/// What Prometheus (`error`), Grafana (`message`) and others say in an object or a string of JSON, or plain text.
fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..MAX_WORDS).unwrap_or(body));
    match serde_json::from_str(&text) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(fields)) => {
            let said = ["error", "message"].iter().find_map(|key| fields.get(*key)?.as_str());
            said.unwrap_or_default().to_owned()
        }
        // The page of a proxy says nothing in its first line.
        _ if text.trim_start().starts_with('<') => String::new(),
        _ => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn the_words_of_servers() {
        for (body, expected) in [
            ("no org id\n", "no org id\n"),
            (r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#, "parse error"),
            (r#"{"message":"Access denied","traceID":"1"}"#, "Access denied"),
            (r#""a string""#, "a string"),
            ("<html>502</html>", ""),
            (r#"{"error":7}"#, ""),
            ("", ""),
        ] {
            assert_eq!(message(body.as_bytes()), expected, "{body}");
        }
        assert!(message(&vec![b'x'; 1 << 20]).len() <= super::MAX_WORDS);
    }
}
