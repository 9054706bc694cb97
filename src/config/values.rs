//! Parsers of values: texts, numbers, durations, user ids, URLs.

use std::time::Duration;

use super::reader::{BadValue, Item};

pub(super) const DURATION: &str = "a duration such as \"7d\", \"30m\" or \"90s\"";

/// Largest first, in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A string of one line that is not blank.
pub(super) fn text(item: &Item<'_>) -> Result<String, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    if text.trim().is_empty() || text.contains(char::is_control) {
        Err(BadValue::Unexpected)
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn boolean(item: &Item<'_>) -> Result<bool, BadValue> {
    item.boolean().ok_or(BadValue::Unexpected)
}

/// `false`, in place of a table that would turn something on.
pub(super) fn off(item: &Item<'_>) -> Result<(), BadValue> {
    if item.boolean() == Some(false) { Ok(()) } else { Err(BadValue::Unexpected) }
}

/// A whole number, `least` or more.
pub(super) fn number(item: &Item<'_>, least: usize) -> Result<usize, BadValue> {
    let number = item.integer().and_then(|number| usize::try_from(number).ok());
    number.filter(|number| *number >= least).ok_or(BadValue::Unexpected)
}

/// One of a few words.
pub(super) fn word<T: Copy>(item: &Item<'_>, words: &[(&str, T)]) -> Result<T, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or(BadValue::Unexpected)
}

/// A duration longer than zero.
pub(super) fn duration(item: &Item<'_>) -> Result<Duration, BadValue> {
    duration_or_zero(item)
        .and_then(|duration| if duration.is_zero() { Err(BadValue::Unexpected) } else { Ok(duration) })
}

pub(super) fn duration_or_never(item: &Item<'_>) -> Result<Option<Duration>, BadValue> {
    if item.text() == Some("never") { Ok(None) } else { duration(item).map(Some) }
}

pub(super) fn duration_or_zero(item: &Item<'_>) -> Result<Duration, BadValue> {
    item.text().and_then(parse_duration).ok_or(BadValue::Unexpected)
}

/// Parses `7d` or `1h30m`: whole numbers, each with a unit smaller than the one before. A number without a unit is rejected,
/// since its unit is anybody's guess.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total, mut units) = (text, 0_u64, UNITS.as_slice());
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let at = units.iter().position(|(name, _)| *name == unit)?;
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(units[at].1)?)?;
        (rest, units) = (tail, &units[at + 1..]);
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// `@local:server`, at most 255 bytes. Which other characters a local part may hold differs between servers.
pub(super) fn user_id(item: &Item<'_>) -> Result<String, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    let clean = text.len() <= 255 && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let parts = text.strip_prefix('@').and_then(|rest| rest.split_once(':'));
    match parts {
        Some((local, server)) if clean && !local.is_empty() && is_server_name(server) => Ok(text.to_owned()),
        _ => Err(BadValue::Unexpected),
    }
}

/// Whether `name` may be a host or address with an optional port, by its alphabet; the homeserver decides about the rest.
pub(super) fn is_server_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))
}

/// The start of an http or https URL. It is not parsed as a URL: a prefix may end in the middle of a host name.
pub(super) fn url_prefix(item: &Item<'_>) -> Result<String, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    let rest =
        ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).ok_or(BadValue::Unexpected)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(BadValue::Because(
            "holds a user name or password, which would end up in the room: leave it out".to_owned(),
        ));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(BadValue::Unexpected);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("250ms", 250),
            ("0s", 0),
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
        ];
        for (text, milliseconds) in good {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        let bad = [
            "",
            "7",
            "7x",
            "h",
            "-1h",
            "1.5h",
            "1h 30m",
            "30m1h",
            "1m1m",
            "1H",
            "99999999999999999999s",
            "9999999999999999w",
        ];
        for text in bad {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn server_names() {
        for good in ["example.org", "localhost", "localhost:8448", "[::1]:8448", "10.0.0.1"] {
            assert!(is_server_name(good), "{good}");
        }
        for bad in ["", "exa mple", "example.org/path", "exämple.org"] {
            assert!(!is_server_name(bad), "{bad}");
        }
    }
}
