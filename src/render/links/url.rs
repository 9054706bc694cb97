//! What makes a URL valid and safe to be sent. Anything but an http or https URL is not a link.

use url::Url;

use crate::config::Rewrite;

/// Logs links carry whole queries; a longer one could not be opened.
pub(crate) const MAX_URL: usize = 4096;
/// A longer text is not a URL, though rewriting could shorten it.
pub(crate) const MAX_READ: usize = 4 * MAX_URL;

/// Gives an http or https URL without credentials, in characters that are safe in an HTML attribute.
pub(crate) fn safe(raw: &str) -> Option<String> {
    let raw = raw.trim();
    if raw.is_empty() || raw.len() > MAX_READ {
        return None;
    }
    let mut url = Url::parse(&encoded(raw)).ok()?;
    // The parser decodes hosts, so encoded characters may be raw again.
    let plain = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    if !matches!(url.scheme(), "http" | "https") || !url.host_str().is_some_and(plain) {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some(url.into())
}

/// Encodes what people leave raw in a URL (such as a log selector) and what the URL standard allows but link parsers
/// mishandle. Existing escapes stay as they are.
pub(crate) fn encoded(raw: &str) -> String {
    let mut url = String::with_capacity(raw.len() + 16);
    for (at, c) in raw.char_indices() {
        match c {
            '{' => url.push_str("%7B"),
            '}' => url.push_str("%7D"),
            '|' => url.push_str("%7C"),
            '"' => url.push_str("%22"),
            '\'' => url.push_str("%27"),
            '<' => url.push_str("%3C"),
            '>' => url.push_str("%3E"),
            '\\' => url.push_str("%5C"),
            '^' => url.push_str("%5E"),
            '`' => url.push_str("%60"),
            '%' if !raw.as_bytes()[at + 1..].iter().take(2).filter(|b| b.is_ascii_hexdigit()).count().eq(&2) => {
                url.push_str("%25");
            }
            c if c.is_whitespace() || c.is_control() => url.push_str("%20"),
            c => url.push(c),
        }
    }
    url
}

/// Replaces the first matching prefix that ends at a boundary of the URL (`http://prom:90` does not match
/// `http://prom:9090/`). The result must be a safe URL as well.
pub(super) fn rewritten(rules: &[Rewrite], url: String) -> Option<String> {
    for rule in rules {
        let Some(rest) = url.strip_prefix(rule.from.as_str()) else { continue };
        if rule.from.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?', '#']) {
            return safe(&format!("{}{rest}", rule.to));
        }
    }
    Some(url)
}

/// Normalises each `from` as parsing normalises links: `http://Prom:80` matches `http://prom/graph`.
pub(crate) fn normal_rules(rules: &[Rewrite]) -> Vec<Rewrite> {
    let normal = |rule: &Rewrite| {
        let mut from = safe(&rule.from).unwrap_or_else(|| rule.from.clone());
        if !rule.from.ends_with('/') {
            from.truncate(from.trim_end_matches('/').len());
        }
        Rewrite { from, to: rule.to.clone() }
    };
    rules.iter().map(normal).collect()
}

/// The first of several links in an annotation. What separates them may also stand in a query, all but blanks.
pub(crate) fn first_of(raw: &str) -> &str {
    const SEPARATORS: [char; 2] = [',', ';'];
    let raw = raw.trim();
    let query = raw.find('?').unwrap_or(raw.len());
    let begins = |at: usize| {
        let before = raw[..at].chars().next_back();
        let separated = before.is_some_and(|c| c.is_whitespace() || (at < query && SEPARATORS.contains(&c)));
        separated && ["http://", "https://"].iter().any(|scheme| raw[at..].starts_with(scheme))
    };
    let end = raw.match_indices("http").map(|(at, _)| at).find(|at| begins(*at)).unwrap_or(raw.len());
    raw[..end].trim_end_matches(|c: char| c.is_whitespace() || SEPARATORS.contains(&c))
}

/// `https://` in front of what begins with the name of a host, as people write it.
pub(crate) fn with_scheme(raw: &str) -> Option<String> {
    let host = raw.split(['/', '?', '#']).next().unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default();
    let is_name = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let top = name.rsplit('.').next().unwrap_or_default();
    let is_host = name.contains('.') && name.split('.').all(is_name) && top.bytes().all(|b| b.is_ascii_alphabetic());
    is_host.then(|| format!("https://{raw}"))
}
