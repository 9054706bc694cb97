//! Who is mentioned: `routes.X.mentions` and `routes.X.escalate`.

use crate::config::{
    reader::{BadValue, Item, Section},
    schema::{Display, Escalation, MAX_MENTIONS_BYTES, Mentions},
    values::{DURATION, boolean, duration, user_id},
};

/// Nobody reads a ladder with more steps.
const MAX_STEPS: usize = 16;

/// `routes.X.mentions`.
pub(super) fn read(section: &Section<'_>, display: &Display) -> Mentions {
    let min_severity = min_severity(section, display);
    let users = users(section);
    let room = section.read("room", "true or false", boolean).unwrap_or(false);
    if users.is_empty() && !room {
        return Mentions::default();
    }
    // 0 is the most severe and the default, since a mention rings at night.
    Mentions { min_severity: Some(min_severity.unwrap_or(0)), users, room }
}

/// `routes.X.escalate`, in the order of `after`.
pub(super) fn escalations(route: &Section<'_>, display: &Display) -> Vec<Escalation> {
    let each = "a table such as { after = \"10m\", users = [\"@second:example.org\"] }";
    let steps = route.list("escalate", each, |item| escalation(item, display)).unwrap_or_default();
    if steps.len() > MAX_STEPS {
        route.item("escalate").iter().for_each(|item| {
            item.fault(format!("found {} entries, expected {MAX_STEPS} or fewer", steps.len()));
        });
    }
    let mut steps = steps;
    steps.sort_by_key(|step| step.after);
    steps
}

fn escalation(item: &Item<'_>, display: &Display) -> Result<Escalation, BadValue> {
    let entry = item.section()?;
    if entry.item("after").is_none() {
        item.fault(format!("an entry without after, expected {DURATION}"));
    }
    let after = entry.read("after", DURATION, duration).unwrap_or_default();
    let min_severity = min_severity(&entry, display).unwrap_or(0);
    let users = users(&entry);
    let room = entry.read("room", "true or false", boolean).unwrap_or(false);
    let calls_nobody = entry.item("users").is_none_or(|users| users.items().is_ok_and(|users| users.is_empty()));
    if calls_nobody && !room {
        item.fault("an entry that calls nobody, expected users, room = true, or both");
    }
    Ok(Escalation { after, min_severity, users, room })
}

/// A rank; `None` if it is not set.
pub(super) fn min_severity(section: &Section<'_>, display: &Display) -> Option<u32> {
    let names: Vec<&str> = display.severities.iter().flat_map(|severity| &severity.names).map(String::as_str).collect();
    let expected = format!("a name from display.severities: {}", names.join(", "));
    section.read("min_severity", &expected, |item| {
        let rank = display.rank(Some(item.text().ok_or(BadValue::Unexpected)?));
        let listed = usize::try_from(rank).is_ok_and(|rank| rank < display.severities.len());
        if listed { Ok(rank) } else { Err(BadValue::Unexpected) }
    })
}

fn users(section: &Section<'_>) -> Vec<String> {
    let users = section.list("users", "a user id such as \"@oncall:example.org\"", user_id).unwrap_or_default();
    if let Some(item) = section.item("users") {
        let bytes: usize = users.iter().map(String::len).sum();
        if bytes > MAX_MENTIONS_BYTES {
            item.fault(format!(
                "names {} users in {bytes} bytes, expected at most {MAX_MENTIONS_BYTES} bytes of user ids, so that an \
                 event can hold them beside the longest card; mention the room instead (room = true)",
                users.len()
            ));
        }
    }
    users
}
