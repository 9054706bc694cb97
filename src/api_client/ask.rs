//! One question to a source of evidence.

use reqwest::header::CONTENT_TYPE;
use url::form_urlencoded;

use super::{Answer, Secrets, Service, Unread, build, host, in_words, read};
use crate::config::EvidenceSource;

/// What is asked, but for the base of the URL.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The source's config key, for errors: `evidence.loki`.
    pub key: &'a str,
    /// Below the base, such as `["api", "v1", "query_range"]`.
    pub path: &'a [&'a str],
    pub pairs: &'a [(&'a str, String)],
    /// Whether the pairs go as a form by POST, and not in the URL by GET, which many servers bound to 8 KiB or so.
    pub form: bool,
    /// A longer answer is not read, in bytes.
    pub max_body: usize,
}

/// Why there is no answer. No text of it holds a secret; it is on one line and bounded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("{0}")]
    TimedOut(String),
    #[error("{0}")]
    Failed(String),
    /// The answer is longer than what is read.
    #[error("{0}")]
    TooLong(String),
}

/// Asks once, and nobody but the host of the source's URL. Takes 10 s at most.
///
/// # Errors
/// When there is no answer, or none that can be read to its end. One that is not 2xx is an answer.
pub async fn ask(source: &EvidenceSource, question: &Question<'_>) -> Result<Answer, Unanswered> {
    let http = client(source.clone(), question.key.to_owned()).await?;
    let mut url = source.url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(question.path);
    }
    let pairs = || form_urlencoded::Serializer::new(String::new()).extend_pairs(question.pairs).finish();
    let request = if question.form {
        http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(pairs())
    } else {
        if !question.pairs.is_empty() {
            url.set_query(Some(&pairs()));
        }
        http.get(url)
    };
    let host = host(&source.url);
    let secrets = Secrets::read(&source.auth, &source.headers).await;
    let failed = |error: &reqwest::Error| {
        let text = secrets.blanked(&format!("{host}: {}", in_words(error)));
        let timed_out = error.is_timeout() && !error.is_connect();
        if timed_out { Unanswered::TimedOut(text) } else { Unanswered::Failed(text) }
    };
    let answer = secrets.add_to(request).send().await.map_err(|error| failed(&error))?;
    let status = answer.status().as_u16();
    let body = read(answer, question.max_body).await.map_err(|fault| match fault {
        Unread::Broken(error) => failed(&error),
        Unread::TooLong => Unanswered::TooLong(format!(
            "{host}: the answer is longer than {} MiB",
            question.max_body.div_ceil(1 << 20)
        )),
    })?;
    Ok(Answer { status, body, host, secrets })
}

/// Built for each question, since questions are rare: certificates are as their file has them now.
async fn client(source: EvidenceSource, key: String) -> Result<reqwest::Client, Unanswered> {
    let building = tokio::task::spawn_blocking(move || {
        let https = source.url.scheme() != "http";
        build(&Service { name: &key, key: &key, ca_file: source.ca_file.as_deref(), https })
    });
    building.await.unwrap_or_else(|_| Err("building an HTTP client failed".to_owned())).map_err(Unanswered::Failed)
}
