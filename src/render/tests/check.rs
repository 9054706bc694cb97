//! What must hold for every message, whatever it was made from.

use crate::render::{MAX_BYTES, Message, text::is_right_to_left};

/// Both forms, the HTML with a line break after each part, so that a snapshot can be read.
pub(super) fn show(message: &Message) -> String {
    assert_sound(message);
    let mut html = message.html.clone();
    for part in ["<br>", "<ul>", "</li>", "</ul>"] {
        html = html.replace(part, &format!("{part}\n"));
    }
    format!("{html}\n--\n{}", message.body)
}

pub(super) fn assert_sound(message: &Message) {
    let first = message.body.lines().next().unwrap_or_default();
    assert!(!first.trim().is_empty(), "a first line");
    assert_eq!(first, first_line_of_html(&message.html), "the same words in both forms");
    assert!(first.chars().count() <= 110, "longer than a push notification: {first}");
    assert!(!first.contains("  "), "blanks: {first:?}");
    let first_html = first_part(&message.html);
    assert!(!first_html.contains("<a "), "a link in the first line: {first_html}");
    assert!(message.bytes() <= MAX_BYTES, "{} bytes", message.bytes());
    let words = words_of(&message.html);
    for text in message.body.lines().chain(words.iter().map(String::as_str)) {
        assert_contained(text);
    }
}

/// What a phone shows of the HTML.
pub(super) fn first_line_of_html(html: &str) -> String {
    words_of(first_part(html)).concat()
}

fn first_part(html: &str) -> &str {
    let end = ["<br>", "<ul>"].iter().filter_map(|end| html.find(end)).min().unwrap_or(html.len());
    &html[..end]
}

/// The text between the tags, line by line, entities decoded. Fails on anything that is not exactly the markup that
/// we write, and on tags that do not match.
pub(in crate::render) fn words_of(html: &str) -> Vec<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut words = vec![String::new()];
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let text = decoded(&rest[..at]);
        words.last_mut().unwrap().push_str(&text);
        let end = rest[at..].find('>').unwrap_or_else(|| panic!("an open tag: {rest}")) + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        match tag {
            "strong" | "em" | "del" | "code" | "ul" | "li" => open.push(tag),
            _ if is_span(tag) => open.push("span"),
            _ if is_link(tag) => open.push("a"),
            "br" => {}
            _ => {
                let name = tag.strip_prefix('/').unwrap_or_else(|| panic!("<{tag}> is not ours"));
                assert_eq!(open.pop(), Some(name), "tags that do not match: {html}");
            }
        }
        if ["br", "ul", "/ul", "/li"].contains(&tag) {
            words.push(String::new());
        }
    }
    words.last_mut().unwrap().push_str(&decoded(rest));
    assert!(open.is_empty(), "never closed: {open:?}");
    words
}

fn is_span(tag: &str) -> bool {
    let color = tag.strip_prefix("span data-mx-color=\"#").and_then(|rest| rest.strip_suffix('"'));
    color.is_some_and(|color| color.len() == 6 && color.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_link(tag: &str) -> bool {
    let Some(href) = tag.strip_prefix("a href=\"").and_then(|rest| rest.strip_suffix('"')) else { return false };
    let href = decoded(href);
    let url = url::Url::parse(&href).unwrap_or_else(|e| panic!("{href}: {e}"));
    assert!(matches!(url.scheme(), "http" | "https"), "{href}");
    assert!(url.username().is_empty() && url.password().is_none(), "{href}");
    assert!(href.is_ascii() && !href.contains([' ', '"', '<', '>', '{', '}', '|', '\\', '`']), "{href}");
    true
}

fn decoded(text: &str) -> String {
    assert!(!text.contains(['"', '\'', '>']), "not escaped: {text}");
    let mut parts = text.split('&');
    let mut decoded = parts.next().unwrap().to_owned();
    for part in parts {
        let (entity, rest) = part.split_once(';').unwrap_or_else(|| panic!("a raw ampersand: {text}"));
        let code: u32 =
            entity.strip_prefix('#').and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("&{entity};"));
        decoded.push(char::from_u32(code).unwrap());
        decoded.push_str(rest);
    }
    decoded
}

/// Nothing steers the direction of text but our own isolates, and those are closed on their line.
fn assert_contained(text: &str) {
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '\u{2068}' => depth += 1,
            '\u{2069}' => depth = depth.checked_sub(1).unwrap_or_else(|| panic!("nothing to close: {text:?}")),
            _ => {
                assert!(!c.is_control(), "a control character: {text:?}");
                assert!(
                    !matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}' | '\u{061C}')
                );
                assert!(depth > 0 || !is_right_to_left(c), "not isolated: {text:?}");
            }
        }
    }
    assert_eq!(depth, 0, "left open: {text:?}");
}
