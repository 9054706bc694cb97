//! What must hold for every message, whatever it was made from.

use crate::{
    config::Mentions,
    model::{IncidentId, TxnId},
    render::{
        Envelope, MAX_BYTES, Message, Relation, card_content, edit_content, reply_content, text::is_right_to_left,
    },
};

/// What a homeserver takes as one event (Client-Server API, "Size limits").
const MAX_EVENT: usize = 65_536;
/// The event around its content as servers sign and count it: sender and room id (255 bytes each at most), type and
/// times, 10 + 10 ids of earlier events (47 each in quotes and comma), a hash, a signature with the server's name.
const EVENT: usize = 2 * 255 + 200 + 20 * 47 + 60 + 450;
/// `m.room.encrypted` beside its ciphertext: algorithm, keys and ids, and the relation, which stays readable.
const ENCRYPTED: usize = 500 + 350;
/// What Megolm puts around the plaintext: the message's header, a padding of up to 16 bytes, 8 of authentication and 64 of
/// signature; and before that `room_id` and `type` beside the content.
const MEGOLM: usize = 16 + 16 + 8 + 64 + 350;
/// As many bytes of user ids as the config admits; see `config::MAX_MENTIONS_BYTES`.
const MENTIONED: usize = crate::config::MAX_MENTIONS_BYTES;

/// Both forms, the HTML with a line break after each part, so that a snapshot can be read.
pub(super) fn show(message: &Message) -> String {
    assert_sound(message);
    let mut html = message.html.clone();
    for part in ["<br>", "</ul>"] {
        html = html.replace(part, &format!("{part}\n"));
    }
    format!("{html}\n--\n{}", message.body)
}

pub fn assert_sound(message: &Message) {
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

/// As a card, a reply and an edit, which holds the text twice, and with as many mentions as there may be, it fits into an
/// event, plain and encrypted. The ciphertext is base64: 4 bytes for 3.
pub fn assert_fits_encrypted(message: &Message) {
    let users = vec![format!("@{}:x", "u".repeat(MENTIONED / 4 - 6)); 4];
    let mentions = Mentions { min_severity: Some(0), users, room: true };
    let (op, incident) = (TxnId("x".repeat(40)), IncidentId("x".repeat(26)));
    let envelope = Envelope { op: &op, incident: &incident, notice: false, mentions: Some(&mentions) };
    let event_id = format!("${}", "x".repeat(43));
    let relation = Relation::Thread { last_reply: Some(&event_id) };
    for content in [
        card_content(message, &envelope),
        reply_content(message, &event_id, relation, &envelope),
        edit_content(message, &event_id, &envelope),
    ] {
        let ciphertext = ((content.len() + MEGOLM) * 4).div_ceil(3);
        let event = ciphertext + ENCRYPTED + EVENT;
        assert!(event <= MAX_EVENT, "{event} bytes encrypted, of {} bytes of content", content.len());
    }
}

/// What a phone shows of the HTML.
pub(super) fn first_line_of_html(html: &str) -> String {
    words_of(first_part(html)).concat()
}

fn first_part(html: &str) -> &str {
    let end = ["<br>", "<ul>", "<pre>"].iter().filter_map(|end| html.find(end)).min().unwrap_or(html.len());
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
        let mut lines = text.split(if open.contains(&"pre") { '\n' } else { '\0' });
        words.last_mut().unwrap().push_str(lines.next().unwrap_or_default());
        words.extend(lines.map(ToOwned::to_owned));
        let end = rest[at..].find('>').unwrap_or_else(|| panic!("an open tag: {rest}")) + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        match tag {
            "strong" | "em" | "del" | "code" | "ul" | "li" | "pre" => open.push(tag),
            _ if is_span(tag) => open.push("span"),
            _ if is_link(tag) => open.push("a"),
            "br" => {}
            _ => {
                let name = tag.strip_prefix('/').unwrap_or_else(|| panic!("<{tag}> is not ours"));
                assert_eq!(open.pop(), Some(name), "tags that do not match: {html}");
            }
        }
        if ["br", "ul", "/ul", "/li", "pre", "/pre"].contains(&tag) {
            words.push(String::new());
        }
        if ["ul", "/li"].contains(&tag) {
            rest = rest.strip_prefix('\n').unwrap_or(rest);
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
