//! Reduces any HTML to the markup that every client shows. All output of templates passes here before it reaches a
//! room.

use std::collections::{BTreeMap, BTreeSet};

use ruma_html::{Html, ListBehavior, NameReplacement, NodeData, NodeRef, PropertiesNames, SanitizerConfig};

use crate::render::{links::url, text};

/// The elements that Element X on Android keeps; `span` is there for the colour only.
const ALLOWED: [&str; 13] =
    ["a", "strong", "em", "del", "code", "ul", "ol", "li", "pre", "blockquote", "p", "br", "span"];
/// Elements that mean the same as an allowed one.
const REPLACED: [(&str, &str); 5] = [("b", "strong"), ("i", "em"), ("s", "del"), ("strike", "del"), ("tt", "code")];
/// Elements whose content is not text for readers.
const REMOVED: [&str; 14] = [
    "script", "style", "template", "title", "textarea", "noscript", "iframe", "object", "svg", "math", "select", "xmp",
    "noembed", "mx-reply",
];
/// The deepest allowed nesting; lists and quotes need a few levels.
const MAX_DEPTH: u32 = 32;
/// Deeper HTML is not even parsed: dropping the parser's tree is recursive.
const MAX_OPEN: usize = 100;
/// Elements that never contain another of their kind, however often they are opened.
const FLAT: [&str; 6] = ["br", "li", "p", "hr", "img", "wbr"];
/// Elements that start and end a line, so that blanks beside them mean nothing.
const BLOCKS: [&str; 7] = ["ul", "ol", "li", "pre", "blockquote", "p", "br"];

/// What is left of a template's HTML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sanitised {
    pub(super) html: String,
    /// Without any markup.
    pub(super) text: String,
    /// What was removed, for those who check their templates: names of elements, and `a[href]` for links that are not
    /// http or https. The content of removed elements stays, except for scripts and the like.
    pub(super) dropped: BTreeSet<String>,
}

/// `None` if elements are nested too deep.
pub(super) fn sanitise(raw: &str) -> Option<Sanitised> {
    if too_deep(raw) {
        return None;
    }
    let html = Html::parse(raw);
    let mut writer = Writer::default();
    for child in html.children() {
        note_foreign(&child, &mut writer.dropped);
    }
    html.sanitize_with(&config());
    for child in html.children() {
        writer.node(&child, false);
    }
    writer.html.truncate(writer.html.trim_end().len());
    Some(Sanitised { html: writer.html, text: writer.text, dropped: writer.dropped })
}

fn config() -> SanitizerConfig {
    let replaced = REPLACED.into_iter().map(|(old, new)| NameReplacement { old, new });
    SanitizerConfig::new()
        .replace_elements(replaced, ListBehavior::Override)
        .remove_elements(REMOVED)
        .allow_elements(ALLOWED, ListBehavior::Override)
        .allow_attributes(
            [
                PropertiesNames { parent: "a", properties: &["href"] },
                PropertiesNames { parent: "span", properties: &["data-mx-color"] },
            ],
            ListBehavior::Override,
        )
        .max_depth(MAX_DEPTH)
}

/// Counts the unclosed elements of each name. The parser never nests deeper than their sum.
fn too_deep(raw: &str) -> bool {
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for part in raw.split('<').skip(1) {
        let closes = part.starts_with('/');
        let name: String = part.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        let name = name.to_ascii_lowercase();
        if name.is_empty() || FLAT.contains(&name.as_str()) {
            continue;
        }
        let count = open.entry(name).or_default();
        *count = if closes { count.saturating_sub(1) } else { *count + 1 };
        if !closes && open.values().sum::<usize>() > MAX_OPEN {
            return true;
        }
    }
    false
}

fn note_foreign(node: &NodeRef, dropped: &mut BTreeSet<String>) {
    if let Some(element) = node.as_element() {
        let name = element.name.local.as_ref();
        if !ALLOWED.contains(&name) && !REPLACED.iter().any(|(old, _)| *old == name) {
            dropped.insert(name.to_owned());
        }
    }
    for child in node.children() {
        note_foreign(&child, dropped);
    }
}

/// Writes the tree as the built-in templates do: with the same entities, an item of a list on a line of the source, and
/// without other meaningless blanks. ruma-html's own serializer would write other entities, and keep links with unsafe
/// URLs.
#[derive(Default)]
struct Writer {
    html: String,
    text: String,
    dropped: BTreeSet<String>,
}

impl Writer {
    fn node(&mut self, node: &NodeRef, verbatim: bool) {
        match node.data() {
            NodeData::Text(words) => self.words(&words.borrow(), verbatim),
            NodeData::Element(element) => {
                let name = element.name.local.as_ref();
                let attribute = |wanted: &str| {
                    let attributes = element.attrs.borrow();
                    attributes.iter().find(|a| &*a.name.local == wanted).map(|a| a.value.to_string())
                };
                let (open, close) = match name {
                    "br" => return self.line_break(),
                    "a" => {
                        if let Some(url) = attribute("href").as_deref().and_then(url::safe) {
                            (format!("<a href=\"{}\">", escaped(&url)), "</a>".to_owned())
                        } else {
                            self.dropped.insert("a[href]".to_owned());
                            (String::new(), String::new())
                        }
                    }
                    "span" => match attribute("data-mx-color").filter(|color| text::is_color(color)) {
                        Some(color) => (format!("<span data-mx-color=\"{color}\">"), "</span>".to_owned()),
                        None => (String::new(), String::new()),
                    },
                    name => (format!("<{name}>"), format!("</{name}>")),
                };
                let block = BLOCKS.contains(&name);
                self.tag(&open, block);
                if !verbatim && ["ul", "ol"].contains(&name) {
                    self.html.push('\n');
                }
                for child in node.children() {
                    self.node(&child, verbatim || name == "pre");
                }
                self.tag(&close, block);
                if !verbatim && name == "li" {
                    self.html.push('\n');
                }
            }
            _ => {}
        }
    }

    fn tag(&mut self, tag: &str, block: bool) {
        if block {
            self.html.truncate(self.html.trim_end_matches(' ').len());
            self.text.push('\n');
        }
        self.html.push_str(tag);
    }

    fn line_break(&mut self) {
        self.tag("<br>", true);
    }

    fn words(&mut self, words: &str, verbatim: bool) {
        // The template's indentation is not text.
        let mut shown = String::with_capacity(words.len());
        for c in words.chars() {
            let blank = matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}');
            if verbatim && (blank || !c.is_control()) {
                shown.push(c);
            } else if blank {
                let before = shown.chars().next_back();
                if before != Some(' ') && !(before.is_none() && self.at_line_start()) {
                    shown.push(' ');
                }
            } else if !c.is_control() {
                shown.push(c);
            }
        }
        self.text.push_str(&shown);
        self.html.push_str(&escaped(&shown));
    }

    /// Whether a blank here would mean nothing.
    fn at_line_start(&self) -> bool {
        let after_block =
            |name: &&str| self.html.ends_with(&format!("<{name}>")) || self.html.ends_with(&format!("</{name}>"));
        self.html.is_empty() || self.html.ends_with([' ', '\n']) || BLOCKS.iter().any(after_block)
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&#38;"),
            '<' => escaped.push_str("&#60;"),
            '>' => escaped.push_str("&#62;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The plain form: without control characters, trailing blanks and repeated empty lines.
pub(super) fn plain(raw: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in raw.replace("\r\n", "\n").split('\n') {
        let line: String = line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
        let line = line.trim_end();
        if !line.is_empty() || lines.last().is_some_and(|last| !last.is_empty()) {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n").trim_end().to_owned()
}
