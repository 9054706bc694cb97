//! `[display]`

use jiff::tz::TimeZoneDatabase;

use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Display, Severity},
    values::text,
};

/// The look of a severity that the defaults do not know.
const EMOJI: &str = "⚪";
const COLOR: &str = "#6e7781";

pub(super) fn read(display: &Section<'_>) -> Display {
    let defaults = Display::default();
    let each = "a table such as { names = [\"critical\", \"page\"], emoji = \"🔴\", word = \"CRITICAL\", \
                color = \"#d1242f\" }";
    Display {
        timezone: display
            .read("timezone", "an IANA time zone such as \"Europe/Berlin\" or \"UTC\"", timezone)
            .unwrap_or(defaults.timezone),
        severities: severities(display, each).unwrap_or(defaults.severities),
        places: display.list("places", "a list of labels such as [\"tenant\", \"queue\"]", place).unwrap_or_default(),
        hide_labels: display
            .list("hide_labels", "a label such as \"endpoint\", or \"__*__\" with * for anything", text)
            .unwrap_or(defaults.hide_labels),
    }
}

/// Accepts only zones that are built in, since an image may lack tz data.
fn timezone(item: &Item<'_>) -> Result<String, BadValue> {
    let name = text(item)?;
    TimeZoneDatabase::bundled().get(&name).map_err(|_| BadValue::Unexpected)?;
    Ok(name)
}

fn severities(display: &Section<'_>, each: &str) -> Option<Vec<Severity>> {
    let severities = display.list("severities", each, severity)?;
    let item = display.item("severities")?;
    if severities.is_empty() {
        item.fault(format!("found an empty list, expected at least one entry, {each}"));
    }
    let mut seen: Vec<String> = Vec::new();
    for name in severities.iter().flat_map(|severity| &severity.names) {
        // Severities of alerts are compared in the same way.
        let name = name.to_ascii_lowercase();
        if seen.contains(&name) {
            item.fault(format!("names {name:?} twice, expected every name once"));
        }
        seen.push(name);
    }
    Some(severities)
}

fn place(item: &Item<'_>) -> Result<Vec<String>, BadValue> {
    let labels = item.items()?;
    let labels: Vec<String> = labels.iter().map(text).collect::<Result<_, _>>()?;
    if labels.is_empty() { Err(BadValue::Unexpected) } else { Ok(labels) }
}

/// An entry inherits what it leaves out from the default entry that shares a name with it.
fn severity(item: &Item<'_>) -> Result<Severity, BadValue> {
    let entry = item.section()?;
    let names = entry.list("names", "a value of the severity label such as \"critical\"", text).unwrap_or_default();
    if names.is_empty() {
        item.fault("an entry without names, expected some such as names = [\"critical\"]");
    }
    let builtin = Display::default();
    let like = names.iter().find_map(|name| builtin.severities.get(usize::try_from(builtin.rank(Some(name))).ok()?));
    let (emoji, word, color) = match like {
        Some(like) => (like.emoji.clone(), like.word.clone(), like.color.clone()),
        None => (EMOJI.to_owned(), names.first().map(|name| name.to_uppercase()).unwrap_or_default(), COLOR.to_owned()),
    };
    Ok(Severity {
        emoji: entry.read("emoji", "an emoji such as \"🔴\"", text).unwrap_or(emoji),
        word: entry.read("word", "a word such as \"CRITICAL\"", text).unwrap_or(word),
        color: entry.read("color", "a color such as \"#d1242f\"", hex_color).unwrap_or(color),
        names,
    })
}

fn hex_color(item: &Item<'_>) -> Result<String, BadValue> {
    let text = item.text().ok_or(BadValue::Unexpected)?;
    let digits = text.strip_prefix('#').ok_or(BadValue::Unexpected)?;
    let good = digits.len() == 6 && digits.chars().all(|c| c.is_ascii_hexdigit());
    if good { Ok(text.to_owned()) } else { Err(BadValue::Unexpected) }
}
