//! Makes hostile text harmless: everything from a payload passes here before a room sees it. Templates escape the HTML,
//! not this file.

use crate::text::is_invisible;

/// Text beyond this many characters is not read; everything that is shown is far shorter.
const MAX_READ: usize = 8192;
/// First strong isolate and its end: right-to-left text between them cannot reorder the text around it.
const ISOLATE: char = '\u{2068}';
const END_OF_ISOLATE: char = '\u{2069}';

/// One line: control characters, line breaks and runs of blanks become one blank; direction marks and invisible
/// characters are removed.
pub(super) fn clean(raw: &str) -> String {
    let mut line = String::with_capacity(raw.len().min(MAX_READ));
    for c in raw.chars().take(MAX_READ) {
        if is_invisible(c) {
            continue;
        }
        if c.is_whitespace() || c.is_control() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
        } else {
            line.push(c);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// The lines of a longer text, each clean, empty ones left out.
pub(super) fn lines(raw: &str) -> Vec<String> {
    raw.split(['\n', '\r', '\u{2028}', '\u{2029}']).take(MAX_READ).map(clean).filter(|l| !l.is_empty()).collect()
}

/// At most `max` characters: cut at a word if one ends in the second half, and marked with `…`.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    // One character for the ellipsis, one for an isolate that the cut leaves open.
    let keep = max.saturating_sub(2);
    let chars: Vec<char> = text.chars().take(keep + 1).collect();
    let mut end = keep.min(chars.len());
    while end > 0 && chars.get(end).is_some_and(|c| joins(*c)) {
        end -= 1;
    }
    if let Some(blank) = chars[..end].iter().rposition(|c| *c == ' ')
        && chars.get(end).is_some_and(|c| *c != ' ')
        && blank * 2 > end
    {
        end = blank;
    }
    let kept: String = chars[..end].iter().collect();
    let mut kept = kept.trim_end_matches([' ', ',', ';', ':', '—', '·', '(', ISOLATE]).to_owned();
    kept.push('…');
    if kept.matches(ISOLATE).count() > kept.matches(END_OF_ISOLATE).count() {
        kept.push(END_OF_ISOLATE);
    }
    kept
}

/// Cuts clean text and isolates it, so that it cannot reorder the text around it.
pub(super) fn show(clean: &str, max: usize) -> String {
    isolate(&cut(clean, max))
}

/// The same with both ends kept: names of one kind often differ in their last characters.
pub(super) fn show_ends(clean: &str, max: usize) -> String {
    let chars: Vec<char> = clean.chars().take(MAX_READ).collect();
    if chars.len() <= max {
        return isolate(clean);
    }
    let tail = max / 3;
    let (head, end) = (&chars[..max - tail - 1], &chars[chars.len() - tail..]);
    isolate(&head.iter().chain(&['…']).chain(end).collect::<String>())
}

pub(super) fn isolate(text: &str) -> String {
    if text.chars().any(is_right_to_left) { format!("{ISOLATE}{text}{END_OF_ISOLATE}") } else { text.to_owned() }
}

/// Whether a part of the text is isolated, so that it must not be split.
pub(super) fn is_isolated(text: &str) -> bool {
    text.contains(ISOLATE)
}

/// Whether `text` names `value` as a whole, and not within a longer word or name; upper and lower case are the same.
pub(super) fn names(text: &str, value: &str) -> bool {
    let (text, value) = (text.to_lowercase(), value.to_lowercase());
    if value.is_empty() {
        return true;
    }
    let of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(&value).any(|(at, found)| {
        let (before, mut after) = (&text[..at], text[at + found.len()..].chars());
        let begins = !before.chars().next_back().is_some_and(|c| of_name(c) || c == '.');
        let next = after.next();
        // A full stop ends a sentence, unless a name goes on behind it.
        let goes_on = next.is_some_and(of_name) || (next == Some('.') && after.next().is_some_and(of_name));
        begins && !goes_on
    })
}

/// Whether `text` says anything that `beyond` does not.
pub(super) fn adds(text: &str, beyond: &str) -> bool {
    let bare = |t: &str| t.to_lowercase().trim_end_matches(['.', '!', '…', ':', ';', ',', ' ']).to_owned();
    !bare(beyond).contains(&bare(text))
}

pub(super) fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{0590}'..='\u{08FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}'
        | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}')
}

/// Whether the character combines with the one before it.
fn joins(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036F}' | '\u{200D}' | '\u{20D0}'..='\u{20FF}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{1F3FB}'..='\u{1F3FF}')
}

/// Whether it is a colour as clients read it, `#rrggbb`.
pub(super) fn is_color(color: &str) -> bool {
    color.len() == 7 && color.starts_with('#') && color[1..].bytes().all(|b| b.is_ascii_hexdigit())
}
