//! Renders a message's HTML for a terminal: bold, colours, and clickable links (OSC 8).
//!
//! It knows the few tags of the built-in templates and drops all others.

const RESET_COLOR: &str = "\x1b[39m";

/// The text of `html` with escape sequences. Control characters of the text never reach the terminal.
pub(crate) fn from_html(html: &str) -> String {
    let mut out = String::with_capacity(html.len() * 2);
    let mut rest = html;
    while let Some((text, after)) = rest.split_once('<') {
        push_text(&mut out, text);
        let (tag, after) = after.split_once('>').unwrap_or((after, ""));
        push_tag(&mut out, tag);
        rest = after;
    }
    push_text(&mut out, rest);
    out
}

fn push_tag(out: &mut String, tag: &str) {
    let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
    match name {
        "strong" => out.push_str("\x1b[1m"),
        "/strong" => out.push_str("\x1b[22m"),
        "em" => out.push_str("\x1b[3m"),
        "/em" => out.push_str("\x1b[23m"),
        "del" => out.push_str("\x1b[9m"),
        "/del" => out.push_str("\x1b[29m"),
        "code" => out.push_str("\x1b[36m"),
        "span" => out.push_str(&color(attributes).unwrap_or_default()),
        "/code" | "/span" => out.push_str(RESET_COLOR),
        "a" => {
            out.push_str("\x1b]8;;");
            push_text(out, attribute(attributes, "href").unwrap_or_default());
            out.push_str("\x1b\\\x1b[4m");
        }
        "/a" => out.push_str("\x1b[24m\x1b]8;;\x1b\\"),
        "br" | "/ul" => out.push('\n'),
        "li" => out.push_str("\n  • "),
        _ => {}
    }
}

/// The 24-bit colour of a `data-mx-color="#rrggbb"`.
fn color(attributes: &str) -> Option<String> {
    let digits = attribute(attributes, "data-mx-color")?.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    let part = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    Some(format!("\x1b[38;2;{};{};{}m", part(0)?, part(2)?, part(4)?))
}

fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    attributes.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')
}

/// Text with its entities resolved and without control characters.
fn push_text(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('&') {
        push_clean(out, plain);
        rest = after;
        if let Some((c, after)) = after.split_once(';').and_then(|(entity, after)| Some((resolved(entity)?, after))) {
            push_clean(out, c.encode_utf8(&mut [0; 4]));
            rest = after;
        } else {
            out.push('&');
        }
    }
    push_clean(out, rest);
}

fn push_clean(out: &mut String, text: &str) {
    out.extend(text.chars().filter(|c| !c.is_control()));
}

/// Built-in templates use numbers; custom ones may use names.
fn resolved(entity: &str) -> Option<char> {
    match entity {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => char::from_u32(entity.strip_prefix('#')?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::from_html;

    /// Escape sequences made visible.
    fn shown(html: &str) -> String {
        from_html(html).replace('\x1b', "␛")
    }

    #[test]
    fn a_card() {
        let card = "🔴 <span data-mx-color=\"#d1242f\"><strong>CRITICAL</strong></span> <strong>DiskFull</strong> · 1 firing, \
                    1 resolved<br><code>job=node</code> <code>x=a &#38; b</code><ul>\n<li><strong>n01</strong> — \
                    90% · <a href=\"https://logs.example/?a=1&#38;b=2\">Logs</a></li>\n<li><del>n02</del> resolved</li>\n\
                    <li><em>n03</em> no longer reported</li>\n</ul>since 12:03 UTC";
        insta::assert_snapshot!(shown(card), @r"
        🔴 ␛[38;2;209;36;47m␛[1mCRITICAL␛[22m␛[39m ␛[1mDiskFull␛[22m · 1 firing, 1 resolved
        ␛[36mjob=node␛[39m ␛[36mx=a & b␛[39m
          • ␛[1mn01␛[22m — 90% · ␛]8;;https://logs.example/?a=1&b=2␛\␛[4mLogs␛[24m␛]8;;␛\
          • ␛[9mn02␛[29m resolved
          • ␛[3mn03␛[23m no longer reported
        since 12:03 UTC
        ");
    }

    #[test]
    fn text_cannot_steer_the_terminal() {
        assert_eq!(shown("a\x1b]0;title\x07b&#27;[31mc&#155;d"), "a]0;titleb[31mcd");
        assert_eq!(
            shown("<a href=\"https://x.example/&#27;\\&#7;\">y</a>"),
            "␛]8;;https://x.example/\\␛\\␛[4my␛[24m␛]8;;␛\\"
        );
    }

    #[test]
    fn unknown_markup_is_dropped() {
        for (html, text) in [
            ("a &#60;b&#62; &lt;&amp;&#39;&quot;", "a <b> <&'\""),
            ("a & b &; &nope; &#x41; &#99999999999;", "a & b &; &nope; &#x41; &#99999999999;"),
            ("<script>x</script><img src=y>", "x"),
            ("<span style=\"x\">y</span>", "y␛[39m"),
            ("<span data-mx-color=\"#zzzzzz\">y", "y"),
            ("open <strong", "open ␛[1m"),
            ("", ""),
        ] {
            assert_eq!(shown(html), text, "{html}");
        }
    }
}
