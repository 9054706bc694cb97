//! Blanks what is secret in a line. A rule that blanks too much costs a word; one that blanks too little costs a password.

use std::sync::LazyLock;

use regex::{Captures, Regex, Replacer as _};

pub(super) const BLANK: &str = "***";
/// In place of the lines of a private key.
pub(super) const PRIVATE_KEY: &str = "*** (private key)";

/// A built-in rule: what it finds, and what stands in its place.
struct Rule {
    regex: Regex,
    put: fn(&Captures<'_>) -> String,
}

/// `line` without what is secret. The operator's patterns see it first, as it is.
pub(super) fn redacted(line: &str, more: &[Regex]) -> String {
    let line = more.iter().fold(line.to_owned(), |line, regex| {
        // As a text: a `$` in it would name a group.
        regex.replace_all(&line, regex::NoExpand(BLANK)).into_owned()
    });
    RULES.iter().fold(line, |line, rule| {
        let mut put = rule.put;
        rule.regex.replace_all(&line, put.by_ref()).into_owned()
    })
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule =
        |pattern: &str, put: fn(&Captures<'_>) -> String| Rule { regex: Regex::new(pattern).expect("a constant"), put };
    let known = TOKENS.join("|");
    vec![
        rule(KEY_BLOCK, |_| PRIVATE_KEY.to_owned()),
        rule(HEADERS, |found| format!("{}{BLANK}", &found[1])),
        rule(SCHEMES, credentials),
        rule(URLS, user_info),
        rule(r"\b([\w.+-]+):[^\s@/]+@((?:tcp|udp|unix)\()", |found| format!("{}:{BLANK}@{}", &found[1], &found[2])),
        rule(&format!(r"(^|[^A-Za-z0-9_])(?:{known})"), |found| format!("{}{BLANK}", &found[1])),
        rule(&pairs(), pair),
        rule(r"(?i)(jdbc:oracle:[a-z]+:[^\s/@]+/)[^\s@]+@", |found| format!("{}{BLANK}@", &found[1])),
        rule(r"(\s(?:-u|--user)[ =][\w.@-]+:)\S+", |found| format!("{}{BLANK}", &found[1])),
        rule(OPTIONS, |found| format!("{}{BLANK}", &found[1])),
        rule(r"[A-Za-z0-9+/]{40,}={0,2}", blob),
    ]
});

/// A private key on one line, also one that is cut off.
const KEY_BLOCK: &str = "-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?\
                         (?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|$)";

/// Headers all of whose values are credentials, up to the end of the quotation or the line.
const HEADERS: &str = r#"(?i)(\b(?:proxy-)?authorization\\?["']?\s*[:=,]\s*\[?\s*\\?["']?|\b(?:set-)?cookie2?\\?["']?\s*[:=]\s*\[?\s*\\?["']?)[^"'\\\]]+"#;

/// What follows the word of a scheme of HTTP authentication.
const SCHEMES: &str = r#"(?i)\b(bearer|basic|auth (?:plain|login|xoauth2))((?:\s|%20|\+|[:=]\s*)\s*\\?["']?)([A-Za-z0-9._~+/=-]{6,}|%[0-9A-F]{2}[^\s"']+)"#;

/// A URL with something that ends in an `@`, the last one of the word. It may also be one in its path.
const URLS: &str = r#"(?i)\b([a-z][a-z0-9+.-]{1,20}://)([^\s"'<>`]*)@"#;

/// Options of commands, whose value is the next word.
const OPTIONS: &str =
    r#"(?i)((?:^|\s)--?[a-z-]*(?:password|passwd|passphrase|secret|token|api-?key|access-?key)\s+)[^\s"'-][^\s"']*"#;

/// Tokens that are known by how they begin or are built.
const TOKENS: [&str; 24] = [
    // AWS, Google, Azure.
    r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AROA|AIDA|ANPA|ANVA|AIPA)[A-Z0-9]{16}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"ya29\.[A-Za-z0-9_-]{16,}",
    r"GOCSPX-[A-Za-z0-9_-]{16,}",
    r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",
    // JWTs, also encrypted ones.
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}",
    // GitHub, GitLab.
    r"gh[pousr]_[A-Za-z0-9]{20,}",
    r"github_pat_[A-Za-z0-9_]{20,}",
    r"gl[a-z]{2,6}-[A-Za-z0-9_.-]{20,}",
    // Slack and its webhooks, Discord's, Telegram's bots.
    r"xox[a-z]-[A-Za-z0-9-]{10,}",
    r"xapp-[A-Za-z0-9-]{10,}",
    r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]+",
    r"(?:discord|discordapp)\.com/api/webhooks/[A-Za-z0-9/_-]+",
    r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    // Payment and mail.
    r"(?:[srp]k_(?:live|test)|whsec)_[A-Za-z0-9]{10,}",
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"sq0[a-z]{3}-[A-Za-z0-9_-]{20,}",
    // Models, registries, clouds.
    r"sk-[A-Za-z0-9_-]{20,}",
    r"(?:hf|npm|dckr_pat|dop_v1|doo_v1|shpat|shpss|shpca|sntrys|sntryu|lin_api|rubygems|figd)_[A-Za-z0-9_=+/-]{20,}",
    r"pypi-[A-Za-z0-9_-]{20,}",
    // Grafana, Vault and Terraform.
    r"gl(?:sa|c)_[A-Za-z0-9_+/=-]{20,}",
    r"(?:hv[sbr]\.[A-Za-z0-9_-]{20,}|s\.[A-Za-z0-9]{24}\b|[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{40,})",
    // Matrix homeservers; age.
    r"(?:syt|syr|syl|mat|mct|mcr|mua|mpt)_[A-Za-z0-9_=.+/-]{16,}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{20,}",
];

/// Names of values that are secrets, as a part of the name or at its end.
const SECRET_NAMES: [&str; 4] = [
    r"[\w.-]*(?:passw(?:or)?d|passphrase|passwort|pwd|secret|credential|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|encryption[_-]?key|signing[_-]?key|auth[_-]?key|shared[_-]?access|connection[_-]?string)[\w-]*",
    r"[\w.-]*(?:token|jwt|signature|otp|session[_-]?id|sessionid|csrf|xsrf)",
    r"(?:[\w.-]*[_.-])?(?:pass|pw|sig|key|pin|auth)",
    r"SharedAccessKey|SharedAccessSignature|AccountKey",
];

/// `name=value`, `name: value`, `"name": "value"` and the like, also within a text of JSON. Groups: name, what is between,
/// value.
fn pairs() -> String {
    let names = SECRET_NAMES.join("|");
    let between = r#"\\*["']?\s*(?:=>|:=|[=:])\s*\[?\s*"#;
    // Within a text of JSON a quotation has one backslash before each mark, and marks within it have three.
    let value = concat!(
        r#"\\"(?:[^"\\]|\\[^"\\]|\\\\\\"|\\\\)*(?:\\")?|\\{2,}"(?:[^"\\]|\\+[^"\\])*(?:\\+")?|"#,
        r#""(?:[^"\\]|\\.)*"?|\\*'[^']*'?|`[^`]*`?|[^\s"'`,;&(){}\[\]][^\s"',;&]*|[(\[{<]+[^\s"'`,;&(){}\[\]:][^\s"',;&]*"#
    );
    format!(r"(?i)\b({names})({between})({value})")
}

/// Keeps what is empty, what says that there is no secret, and what goes on in a sentence: `invalid token: expected …`.
fn pair(found: &Captures<'_>) -> String {
    let (name, between, value) = (&found[1], &found[2], &found[3]);
    let bare = value.trim_matches(['"', '\'', '`', '\\']);
    let (lower, of_name) = (bare.to_ascii_lowercase(), name.to_ascii_lowercase());
    let in_prose = bare == value && between.ends_with(' ') && PROSE.contains(&lower.trim_end_matches(['.', ':', '!']));
    let is_about = ABOUT.iter().any(|end| of_name.ends_with(end));
    let harmless = NOTHING.contains(&lower.as_str()) || bare.contains(BLANK) || in_prose || is_about;
    if harmless || !may_be_secret(&of_name, bare) {
        return found[0].to_owned();
    }
    let quote: String = value.chars().take_while(|c| "\"'`\\".contains(*c)).collect();
    let closed = if value.len() > quote.len() && value.ends_with(quote.as_str()) { quote.as_str() } else { "" };
    // `(password=x)`
    let brackets = if quote.is_empty() { value.trim_end_matches([')', '}', ']', '>']).len() } else { value.len() };
    format!("{name}{between}{quote}{BLANK}{closed}{}", &value[brackets..])
}

/// Values that are not secrets.
const NOTHING: [&str; 8] = ["", "null", "nil", "none", "<nil>", "true", "false", "undefined"];

/// Ends of names that tell something about a secret.
const ABOUT: [&str; 12] =
    ["name", "ref", "path", "file", "type", "length", "policy", "ttl", "version", "key_id", "key-id", "keyid"];

/// Words that follow such a name in sentences.
const PROSE: [&str; 40] = [
    "a",
    "an",
    "authentication",
    "bad",
    "cannot",
    "context",
    "could",
    "denied",
    "does",
    "eof",
    "error",
    "expected",
    "expired",
    "failed",
    "forbidden",
    "got",
    "http",
    "in",
    "invalid",
    "is",
    "malformed",
    "missing",
    "must",
    "no",
    "not",
    "open",
    "permission",
    "read",
    "required",
    "rpc",
    "secrets",
    "the",
    "timeout",
    "too",
    "unable",
    "unauthorized",
    "unexpected",
    "unknown",
    "user",
    "was",
];

/// Whether it may be one, where the name is only sometimes that of a secret.
fn may_be_secret(name: &str, value: &str) -> bool {
    let last = name.rsplit(['_', '.', '-']).next().unwrap_or_default();
    let known = ["private", "access", "account", "encryption", "signing", "auth", "api", "shared"];
    match last {
        "pass" => !value.chars().all(|c| c.is_ascii_digit()),
        "key" if known.iter().any(|kind| name.contains(kind)) => true,
        "key" => is_odd(value, 16),
        "pin" | "auth" | "sig" => is_odd(value, 8),
        _ => true,
    }
}

/// Whether a value looks like a secret by itself: so many characters or more, digits among letters.
fn is_odd(value: &str, least: usize) -> bool {
    let has = |of: fn(&char) -> bool| value.chars().any(|c| of(&c));
    let of_words = value.contains(['/', ':', ' ']);
    value.len() >= least && !of_words && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
}

/// Keeps words of a sentence: `basic authentication`.
fn credentials(found: &Captures<'_>) -> String {
    let (scheme, between, value) = (&found[1], &found[2], &found[3]);
    let words =
        ["authentication", "authorization", "credential", "credentials", "challenge", "scheme", "tokens", "realm="];
    let is_word = words.iter().any(|word| value.to_ascii_lowercase().trim_end_matches(['.', '-']) == *word)
        || value.starts_with("realm=");
    // What base64 makes of a name and a password has capitals or digits.
    let is_text =
        scheme.eq_ignore_ascii_case("basic") && !value.contains(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit());
    if is_word || is_text { found[0].to_owned() } else { format!("{scheme}{between}{BLANK}") }
}

/// Blanks the password of a URL, and a long user name without one, which is a token.
fn user_info(found: &Captures<'_>) -> String {
    let (scheme, text) = (&found[1], &found[2]);
    // An @ behind the first slash is of the path, if the part before it can be a host.
    let (authority, path) = text.split_once('/').map_or((text, None), |(before, path)| (before, Some(path)));
    if let Some(path) = path {
        let host = authority.rsplit('@').next().unwrap_or_default();
        let port = host.rsplit_once(':').map_or("", |(_, port)| port);
        if authority.contains('@') {
            return format!("{}/{path}@", user_info_of(scheme, authority));
        }
        if port.chars().all(|c| c.is_ascii_digit()) {
            return found[0].to_owned();
        }
    }
    match text.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:{BLANK}@"),
        None if text.len() >= 16 => format!("{scheme}{BLANK}@"),
        None => found[0].to_owned(),
    }
}

/// The same of `user:password@host`, to its last `@`.
fn user_info_of(scheme: &str, authority: &str) -> String {
    let (info, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    match info.split_once(':') {
        Some((user, _)) => format!("{scheme}{user}:{BLANK}@{host}"),
        None if info.len() >= 16 => format!("{scheme}{BLANK}@{host}"),
        None => format!("{scheme}{authority}"),
    }
}

/// Blanks what can only be random bytes in base64: capitals, small letters and digits, and not the slashes of a path.
fn blob(found: &Captures<'_>) -> String {
    let text = &found[0];
    let has = |of: fn(&char) -> bool| text.chars().any(|c| of(&c));
    let random = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    let slashes = text.matches('/').count();
    if random && slashes * 8 < text.len() { BLANK.to_owned() } else { text.to_owned() }
}

#[cfg(test)]
#[path = "redact_tests.rs"]
mod tests;
