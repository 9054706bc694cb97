//! Checks and corrects one `logs_url`. Template placeholders keep their bytes throughout.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use url::Url;

use super::{
    faults::Code,
    placeholders::{Masked, Placeholder, Unclosed, placeholders},
    settings::Settings,
};
use crate::render::links::explore::{Form, LogsUrl, Problem};

/// The bound of [`LogsUrl`].
const MAX_VALUE: usize = 64 * 1024;
/// Longest percent-encoded placeholder, in bytes.
const MAX_ENCODED: usize = 600;
const MAX_PLACEHOLDERS: usize = 200;
/// The datasource of a pane whose queries name their datasources one by one.
const MIXED: &str = "-- Mixed --";
/// Labels of an alert that are also labels of its logs, in the order in which a selector names them.
const SELECTORS: [&str; 5] = ["namespace", "pod", "container", "job", "instance"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inspected {
    /// Code, message, and whether `corrected` corrects the fault. Those of ignored codes are among them, uncorrected.
    pub(super) faults: Vec<(Code, String, bool)>,
    /// The corrected value; `None` if nothing can be corrected.
    pub(super) corrected: Option<String>,
    /// Ignored codes whose faults `corrected` would correct as well, since it cannot be written without that.
    pub(super) entangled: Vec<&'static str>,
}

impl Inspected {
    fn add(&mut self, code: Code, message: impl Into<String>, corrects: bool) {
        // Several panes may have the same fault.
        let message = message.into();
        if !self.faults.iter().any(|(known, said, _)| *known == code && *said == message) {
            self.faults.push((code, message, corrects));
        }
    }
}

/// Checks a value. `kept` are the only labels that the alert can have, if known.
pub(super) fn inspect(value: &str, settings: &Settings, kept: Option<&[String]>) -> Inspected {
    let mut found = inspect_once(value, settings, kept);
    // A second pass finds placeholders of which only one end was encoded.
    if let Some(further) =
        found.corrected.as_deref().and_then(|corrected| inspect_once(corrected, settings, kept).corrected)
    {
        found.corrected = Some(further);
    }
    found.entangled = entangled(&found, settings, kept);
    found
}

/// The ignored codes among the faults that the corrected value does not have any more.
fn entangled(found: &Inspected, settings: &Settings, kept: Option<&[String]>) -> Vec<&'static str> {
    let ignored = found.faults.iter().map(|(code, ..)| *code).filter(|code| settings.ignores(*code));
    let mut codes: BTreeSet<&'static str> = ignored.map(Code::as_str).collect();
    let Some(corrected) = found.corrected.as_deref().filter(|_| !codes.is_empty()) else { return Vec::new() };
    for (left, ..) in inspect_once(corrected, settings, kept).faults {
        codes.remove(left.as_str());
    }
    codes.into_iter().collect()
}

fn inspect_once(value: &str, settings: &Settings, kept: Option<&[String]>) -> Inspected {
    let mut found = Inspected::default();
    if value.len() > MAX_VALUE {
        found.add(Code::Link(Problem::TooLong), format!("logs_url {}", Problem::TooLong), false);
        return found;
    }
    let value = value.trim();
    let (mut text, mut placeholders) = match with_placeholders(value) {
        Ok(read) => read,
        Err(Unclosed(at)) => {
            let begin: String = value[at..].chars().take(20).collect();
            found.add(Code::Template, format!("logs_url has a placeholder that does not end: {begin}"), false);
            return found;
        }
    };
    if placeholders.len() > MAX_PLACEHOLDERS {
        found.add(Code::Template, format!("logs_url has more than {MAX_PLACEHOLDERS} placeholders"), false);
        return found;
    }
    if text != value {
        let why = "logs_url has percent-encoded placeholders, which Prometheus does not fill in";
        found.add(Code::EncodedPlaceholder, why, true);
        if settings.ignores(Code::EncodedPlaceholder) {
            (text, placeholders) = (value.to_owned(), super::placeholders::placeholders(value).unwrap_or_default());
        }
    }
    check_labels(&placeholders, settings, kept, &mut found);
    let masked = Masked::of(&text, &placeholders);
    let link = LogsUrl::parse_with(&masked.text, |problem| !settings.ignores(Code::Link(problem)));
    let mut states: Vec<Value> = link.states().cloned().collect();
    if link.broken().is_none() {
        for state in &mut states {
            each_pane(link.form(), state, |pane| check_pane(pane, link.form(), settings, &mut found));
        }
    }
    for &problem in link.problems() {
        // If the datasource was known, the pane has it by now.
        let corrects = match problem {
            Problem::NoDatasource => found.faults.iter().any(|(code, ..)| *code == Code::Link(problem)),
            Problem::NoState | Problem::NoQuery => false,
            _ => !problem.is_fatal(),
        };
        found.add(Code::Link(problem), format!("logs_url {problem}"), corrects);
    }
    // Those that could be left as they are, are; of the others `entangled` reports.
    for (code, _, corrects) in &mut found.faults {
        *corrects &= !settings.ignores(*code);
    }
    if link.broken().is_none() {
        let url = with_states(&link.to_url(), link.form(), &states, &found);
        let url = check_host(url, link.is_explore(), settings, &mut found);
        let again = LogsUrl::parse(&url);
        for (code, _, corrects) in &mut found.faults {
            *corrects &= !matches!(code, Code::Link(problem) if again.problems().contains(problem));
        }
        if found.faults.iter().any(|(.., corrects)| *corrects) {
            found.corrected = Some(masked.unmask(&url));
        }
    } else {
        found.faults.iter_mut().for_each(|(.., corrects)| *corrects = false);
    }
    found
}

/// The value with its placeholders decoded, and where they are.
fn with_placeholders(value: &str) -> Result<(String, Vec<Placeholder>), Unclosed> {
    let given = placeholders(value)?;
    let mut text = String::with_capacity(value.len());
    let mut at = 0;
    // Between plain placeholders there may be others that were encoded along with the JSON.
    for placeholder in &given {
        text.push_str(&with_decoded_placeholders(&value[at..placeholder.bytes.start]));
        text.push_str(&value[placeholder.bytes.clone()]);
        at = placeholder.bytes.end;
    }
    text.push_str(&with_decoded_placeholders(&value[at..]));
    // The decoded text may not be a template at all.
    match placeholders(&text) {
        Ok(placeholders) => Ok((text, placeholders)),
        Err(_) => Ok((value.to_owned(), given)),
    }
}

/// Decodes only placeholders that name a label: LogQL has its own templates, which must stay encoded.
fn with_decoded_placeholders(text: &str) -> String {
    const OPEN: &str = "%7B%7B";
    const CLOSE: &str = "%7D%7D";
    // ASCII only, so that both have the same bytes.
    let upper = text.to_ascii_uppercase();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(start) = upper[at..].find(OPEN).map(|found| at + found) {
        let near = &upper[start..upper.floor_char_boundary(start + MAX_ENCODED)];
        let end = near.find(CLOSE).map_or(start + OPEN.len(), |found| start + found + CLOSE.len());
        let inside = text[start..end].replace('+', " ");
        let decoded =
            urlencoding::decode(&inside).map(|placeholder| placeholder.replace("\\\"", "\"")).unwrap_or_default();
        let names_labels = placeholders(&decoded)
            .is_ok_and(|placeholders| placeholders.len() == 1 && !placeholders[0].labels.is_empty());
        // Of several opening braces the last two belong to the placeholder.
        let (keep, placeholder) = if names_labels { (start, decoded.as_str()) } else { (start + "%7B".len(), "") };
        out.push_str(&text[at..keep]);
        out.push_str(placeholder);
        at = if names_labels { end } else { keep };
    }
    out.push_str(&text[at..]);
    out
}

fn check_labels(placeholders: &[Placeholder], settings: &Settings, kept: Option<&[String]>, found: &mut Inspected) {
    for label in placeholders.iter().flat_map(|placeholder| &placeholder.labels) {
        match kept {
            Some(kept) => {
                if let Some(why) = lost_label("logs_url", label, kept) {
                    found.add(Code::LostLabel, why, false);
                }
            }
            None if !settings.labels.contains(label) => {
                let why = format!("logs_url shows the unknown label {label:?}");
                let near = nearest(label, settings.labels.iter().map(String::as_str)).map(str::to_owned);
                let hint = near.map_or(" (add it with --label)".to_owned(), |near| format!("; did you mean {near:?}?"));
                found.add(Code::UnknownLabel, format!("{why}{hint}"), false);
            }
            _ => {}
        }
    }
}

/// What is wrong if the annotation `name` shows `label` while the expression keeps only `kept`.
pub(super) fn lost_label(name: &str, label: &str, kept: &[String]) -> Option<String> {
    if kept.iter().any(|kept| kept == label) {
        return None;
    }
    let kept = if kept.is_empty() { "no label".to_owned() } else { format!("only {}", kept.join(", ")) };
    Some(format!("{name} shows the label {label:?}, but the rule's expression keeps {kept}"))
}

/// The known name that is most similar to `name`.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    known.filter(|other| likeness(other) >= 0.7).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

fn each_pane(form: Option<Form>, state: &mut Value, mut act: impl FnMut(&mut Map<String, Value>)) {
    match (form, state) {
        (Some(Form::Panes), Value::Object(panes)) => panes.values_mut().filter_map(Value::as_object_mut).for_each(act),
        (Some(Form::Left), Value::Object(pane)) => act(pane),
        // The array form of old Grafanas has its datasource in the third place and no names for its queries.
        _ => {}
    }
}

/// Checks and corrects datasource and queries of a pane.
fn check_pane(pane: &mut Map<String, Value>, form: Option<Form>, settings: &Settings, found: &mut Inspected) {
    let named = |pane: &Map<String, Value>| {
        pane.get("datasource").and_then(Value::as_str).filter(|name| !name.trim().is_empty()).map(str::to_owned)
    };
    let own = pane.get("queries").and_then(Value::as_array).and_then(|queries| queries.iter().find_map(query_uid));
    // What queries without a datasource take: the pane's, or the one that it should have.
    let known = settings.datasource.clone().or(own);
    match (named(pane), &settings.datasource) {
        (None, _) => {
            if let Some(uid) = &known {
                let code = Code::Link(Problem::NoDatasource);
                found.add(code, format!("logs_url {}", Problem::NoDatasource), true);
                if !settings.ignores(code) {
                    pane.insert("datasource".to_owned(), Value::String(uid.clone()));
                }
            }
        }
        (Some(name), Some(required)) if name != *required && name != MIXED => {
            let why = format!("logs_url names the datasource {name:?}, not {required:?}");
            found.add(Code::WrongDatasource, why, true);
            if !settings.ignores(Code::WrongDatasource) {
                pane.insert("datasource".to_owned(), Value::String(required.clone()));
            }
        }
        _ => {}
    }
    let uid = named(pane).or(known);
    let Some(queries) = pane.get_mut("queries").and_then(Value::as_array_mut) else { return };
    let mut taken: Vec<String> = queries.iter().filter_map(ref_id).map(str::to_owned).collect();
    for query in queries {
        if ref_id(query).is_none() {
            found.add(Code::NoRefId, "logs_url has a query without refId", true);
            if !settings.ignores(Code::NoRefId) {
                let free =
                    ('A'..='Z').map(String::from).find(|name| !taken.contains(name)).unwrap_or_else(|| "Z1".into());
                query["refId"] = Value::String(free.clone());
                taken.push(free);
            }
        }
        check_query(query, uid.as_deref(), form, settings, found);
    }
}

fn check_query(query: &mut Value, uid: Option<&str>, form: Option<Form>, settings: &Settings, found: &mut Inspected) {
    let kind = query["datasource"]["type"].as_str().unwrap_or("loki").to_owned();
    let says = |key: &str| query[key].as_str().is_some_and(|text| !text.trim().is_empty());
    if !says("expr") && kind == "loki" {
        found.add(Code::Link(Problem::NoQuery), "logs_url has a query without expr", false);
    }
    let keeps_form = settings.ignores(Code::QueryDatasource);
    let put = |query: &mut Value, uid: &str| match &mut query["datasource"] {
        Value::Object(datasource) if keeps_form => {
            datasource.insert("uid".to_owned(), uid.into());
        }
        datasource if keeps_form => *datasource = uid.into(),
        datasource => *datasource = json!({ "type": kind, "uid": uid }),
    };
    let own = query_uid(query);
    let whole = own.is_some() && query["datasource"]["type"].is_string();
    if let (Some(own), Some(required)) = (&own, &settings.datasource)
        && own != required
    {
        found.add(Code::WrongDatasource, format!("logs_url names the datasource {own:?}, not {required:?}"), true);
        if !settings.ignores(Code::WrongDatasource) {
            return put(query, required);
        }
    }
    // Queries have their own datasource only in the form with panes.
    if form == Some(Form::Panes) && !whole {
        let uid = own.as_deref().or(uid).filter(|uid| *uid != MIXED);
        let why = "logs_url has a query without a datasource of the form {\"type\": …, \"uid\": …}";
        found.add(Code::QueryDatasource, why, uid.is_some());
        if let Some(uid) = uid.filter(|_| !keeps_form) {
            put(query, uid);
        }
    }
}

fn ref_id(query: &Value) -> Option<&str> {
    query.get("refId").and_then(Value::as_str).filter(|name| !name.trim().is_empty())
}

fn query_uid(query: &Value) -> Option<String> {
    let datasource = query.get("datasource")?;
    let uid = datasource.as_str().or_else(|| datasource.get("uid").and_then(Value::as_str));
    uid.filter(|uid| !uid.trim().is_empty()).map(str::to_owned)
}

/// `url` with the given states; unchanged if no fault in them was corrected.
fn with_states(url: &str, form: Option<Form>, states: &[Value], found: &Inspected) -> String {
    let ours = |code: &Code| {
        let of_panes = [Code::NoRefId, Code::QueryDatasource, Code::WrongDatasource];
        of_panes.contains(code) || *code == Code::Link(Problem::NoDatasource)
    };
    let changed = found.faults.iter().any(|(code, _, corrects)| *corrects && ours(code));
    let Some((before, query)) = url.split_once('?').filter(|_| changed) else { return url.to_owned() };
    let names: &[&str] = if form == Some(Form::Panes) { &["panes"] } else { &["left", "right"] };
    let (query, fragment) = query.split_at(query.find('#').unwrap_or(query.len()));
    let mut states = states.iter();
    let params = query.split('&').map(|param| match param.split_once('=') {
        Some((name, value)) if names.contains(&name) && !value.is_empty() => states
            .next()
            .map_or_else(|| param.to_owned(), |state| format!("{name}={}", urlencoding::encode(&state.to_string()))),
        _ => param.to_owned(),
    });
    format!("{before}?{}{fragment}", params.collect::<Vec<_>>().join("&"))
}

/// The link, changed to lead to the required Grafana.
fn check_host(url: String, is_explore: bool, settings: &Settings, found: &mut Inspected) -> String {
    let Some(grafana) = &settings.grafana else { return url };
    let Ok(parsed) = Url::parse(&url) else { return url };
    let base = grafana.path().trim_end_matches('/');
    let below = parsed.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let same_host = parsed.host_str() == grafana.host_str();
    if same_host && parsed.port_or_known_default() == grafana.port_or_known_default() && below {
        return url;
    }
    let required = grafana.as_str().trim_end_matches('/');
    let corrects = is_explore && !settings.ignores(Code::WrongHost);
    found.add(Code::WrongHost, format!("logs_url does not lead to {required}"), corrects);
    match url.find(['?', '#']) {
        Some(query) if corrects => format!("{required}/explore{}", &url[query..]),
        _ => url,
    }
}

/// A value for a rule without one, if the settings and the labels that its expression keeps suffice.
pub(super) fn proposal(settings: &Settings, kept: Option<&[String]>) -> Option<String> {
    let (grafana, uid) = (settings.grafana.as_ref()?, settings.datasource.as_ref()?);
    let kept = kept?;
    let labels = SELECTORS.iter().filter(|label| kept.iter().any(|kept| kept == *label));
    let matchers: Vec<String> = labels.map(|label| format!("{label}=\"{{{{ $labels.{label} }}}}\"")).collect();
    if matchers.is_empty() {
        return None;
    }
    let expr = format!("{{{}}}", matchers.join(","));
    // Built without encoding, and corrected like any other value.
    let datasource = json!({ "type": "loki", "uid": uid });
    let query = json!({ "refId": "A", "expr": expr, "datasource": datasource });
    let panes = json!({ "logs": { "datasource": uid, "queries": [query] } });
    let raw = format!("{}/explore?schemaVersion=1&panes={panes}", grafana.as_str().trim_end_matches('/'));
    let settings = Settings { ignored: BTreeSet::new(), ..settings.clone() };
    inspect(&raw, &settings, Some(kept)).corrected
}

#[cfg(test)]
mod tests;
