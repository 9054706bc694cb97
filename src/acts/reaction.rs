//! Which reactions ask for something.

use crate::model::ActKind;

/// Bytes of a key that are looked at; the longest one that acts has far fewer.
const MAX_KEY: usize = 64;

/// What a reaction asks for. Clients add variation selectors and skin tones as they like, which are left out.
#[must_use]
pub fn parse(key: &str) -> Option<ActKind> {
    if key.len() > MAX_KEY {
        return None;
    }
    let bare: String =
        key.chars().filter(|c| !matches!(c, '\u{FE0E}' | '\u{FE0F}' | '\u{1F3FB}'..='\u{1F3FF}')).collect();
    match bare.as_str() {
        "✅" | "👀" => Some(ActKind::Take),
        "🔕" => Some(ActKind::Silence),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_without_variants_and_skin_tones() {
        for (key, expected) in [
            ("✅", Some(ActKind::Take)),
            ("✅\u{FE0F}", Some(ActKind::Take)),
            ("✅\u{FE0E}", Some(ActKind::Take)),
            ("👀", Some(ActKind::Take)),
            ("👀\u{FE0F}", Some(ActKind::Take)),
            ("👀\u{1F3FD}", Some(ActKind::Take)),
            ("🔕", Some(ActKind::Silence)),
            ("🔕\u{FE0F}", Some(ActKind::Silence)),
            ("🔔", None),
            ("👍", None),
            ("👍\u{1F3FD}", None),
            ("✅✅", None),
            ("✔️", None),
            ("", None),
            ("\u{FE0F}", None),
            ("🔕 please", None),
        ] {
            assert_eq!(parse(key), expected, "{key:?}");
        }
        assert_eq!(parse(&"🔕\u{FE0F}".repeat(100)), None);
    }
}
