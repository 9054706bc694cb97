//! What a `logs_url` is: a link to Grafana Explore, whose state is JSON in a query parameter, or any other link.
//!
//! People write these links by hand into rules, and a room is less forgiving than a browser: [`LogsUrl::parse`] repairs
//! what it can (raw JSON, a missing `schemaVersion`, times as numbers) and names each repair as a [`Problem`].
//! [`LogsUrl::put_range`] gives panes without a time range the alert's range. The rules are those of Grafana's
//! `public/app/features/explore/hooks/useStateSync/migrators/{v0,v1}.ts` and `state/utils.ts` (`fromURLRange`).
//!
//! Parameters that need no repair keep their bytes, and of a state only `range` changes.

mod loki;
mod pane;
mod problem;
mod range;
mod raw_url;

use serde_json::Value;

pub use self::{
    loki::{log_query, loki_url, quoted},
    pane::{Form, Pane},
    problem::Problem,
    range::Range,
    raw_url::html_unescaped,
};
use self::{
    pane::{array_pane, is_pane, object_pane},
    range::{each_pane, put_range, repair_range},
    raw_url::{Param, RawUrl},
};
use super::url;

/// Longer values are not parsed; a link of this length could not be opened either.
const MAX_READ: usize = 64 * 1024;

/// A `logs_url`, parsed and repaired.
#[derive(Clone, Debug)]
pub struct LogsUrl {
    url: RawUrl,
    form: Option<Form>,
    /// The index of each state's parameter, and the state.
    states: Vec<(usize, Value)>,
    problems: Vec<Problem>,
}

impl LogsUrl {
    /// Parses any text; [`Self::broken`] says whether it gives a link.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        Self::parse_with(raw, |_| true)
    }

    /// The same, but repairs a missing schema version and a time range only where `repairs` says so. All other problems
    /// have to be repaired to read the link at all.
    pub(crate) fn parse_with(raw: &str, repairs: impl Fn(Problem) -> bool) -> Self {
        let mut problems = Vec::new();
        let raw = raw.trim();
        if raw.len() > MAX_READ {
            let url = RawUrl::other("");
            return Self { url, form: None, states: Vec::new(), problems: vec![Problem::TooLong] };
        }
        let mut url = RawUrl::of_explore(raw, &mut problems).unwrap_or_else(|| RawUrl::other(raw));
        let form = form_of(&url);
        let mut states = Vec::new();
        if let Some(form) = form {
            for index in 0..url.params.len() {
                if is_state(form, &url.params[index]) {
                    let state = state(&mut url.params[index], form, repairs(Problem::RangeNotStrings), &mut problems);
                    states.extend(state.map(|value| (index, value)));
                }
            }
            if form == Form::Panes && !has_schema_version(&url) {
                problems.push(Problem::NoSchemaVersion);
                if repairs(Problem::NoSchemaVersion) {
                    put_schema_version(&mut url, &mut states);
                }
            }
        } else if url.is_explore {
            problems.push(Problem::NoState);
        }
        let mut parsed = Self { url, form, states, problems };
        parsed.check_url(raw);
        parsed.note_gaps();
        parsed.problems.sort_unstable();
        parsed.problems.dedup();
        parsed
    }

    /// Whether it links to Grafana Explore, with or without a state.
    #[must_use]
    pub fn is_explore(&self) -> bool {
        self.url.is_explore
    }

    /// `None` for a link to anything but Grafana Explore, and for one to Explore without a state.
    #[must_use]
    pub fn form(&self) -> Option<Form> {
        self.form
    }

    /// The decoded states as JSON: one for `panes`, one each for `left` and `right`.
    pub fn states(&self) -> impl Iterator<Item = &Value> {
        self.states.iter().map(|(_, state)| state)
    }

    /// Every pane of every state.
    #[must_use]
    pub fn panes(&self) -> Vec<Pane<'_>> {
        let form = self.form;
        let panes = self.states.iter().flat_map(|(_, state)| match (form, state) {
            (Some(Form::Panes), Value::Object(panes)) => panes.values().filter_map(object_pane).collect(),
            (_, Value::Array(items)) => vec![array_pane(items)],
            (_, state) => object_pane(state).into_iter().collect::<Vec<_>>(),
        });
        panes.collect()
    }

    /// The first query for Loki that is not hidden. One that names no kind of datasource, as old links do, counts as one,
    /// since the link is meant for logs.
    #[must_use]
    pub fn loki_query(&self) -> Option<&str> {
        if self.broken().is_some() {
            return None;
        }
        let of_loki = |query: &Value| query["datasource"]["type"].as_str().is_none_or(|kind| kind == "loki");
        let queries = self.panes().into_iter().flat_map(|pane| pane.queries);
        queries
            .filter(|query| of_loki(query) && query["hide"] != Value::Bool(true))
            .find_map(|query| query.get("expr")?.as_str().map(str::trim).filter(|expr| !expr.is_empty()))
    }

    /// All problems of the value, repaired or not, without duplicates.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Why the value gives no link.
    #[must_use]
    pub fn broken(&self) -> Option<Problem> {
        self.problems.iter().copied().find(|problem| problem.is_fatal())
    }

    /// Adds `range` to each pane without one and returns whether there was one. It is idempotent.
    pub fn put_range(&mut self, range: Range) -> bool {
        if self.broken().is_some() {
            return false;
        }
        let (from, to) = range.strings();
        let mut put = false;
        for (index, state) in &mut self.states {
            let mut missing = false;
            each_pane(self.form, state, &mut |pane| missing |= put_range(pane, &from, &to));
            if missing {
                self.url.params[*index].set(&state.to_string());
                put = true;
            }
        }
        put
    }

    /// The repaired value, percent-encoded throughout: an http or https URL without credentials, unless it is broken.
    #[must_use]
    pub fn to_url(&self) -> String {
        url::encoded(&self.url.to_string())
    }

    fn check_url(&mut self, raw: &str) {
        let url = self.to_url();
        match url::safe(&url) {
            None if url.len() > url::MAX_READ => self.problems.push(Problem::TooLong),
            None => self.problems.push(Problem::NotAUrl),
            Some(_) if has_credentials(raw) => self.problems.push(Problem::Credentials),
            Some(_) => {}
        }
        if url::encoded(raw) != raw {
            self.problems.push(Problem::NotEncoded);
        }
    }

    fn note_gaps(&mut self) {
        if self.broken().is_some() {
            return;
        }
        let panes = self.panes();
        let no_datasource = panes.iter().any(|pane| pane.datasource.is_none());
        let no_query = panes.iter().any(|pane| pane.queries.is_empty());
        self.problems.extend(no_datasource.then_some(Problem::NoDatasource));
        self.problems.extend(no_query.then_some(Problem::NoQuery));
    }
}

/// Grafana reads `panes` where it is; `left` beside it is then ignored.
fn form_of(url: &RawUrl) -> Option<Form> {
    let has = |name: &str| url.params.iter().any(|param| param.name() == name && !param.is_empty());
    if !url.is_explore {
        None
    } else if has("panes") {
        Some(Form::Panes)
    } else if has("left") || has("right") {
        Some(Form::Left)
    } else {
        None
    }
}

fn is_state(form: Form, param: &Param) -> bool {
    let names: &[&str] = if form == Form::Panes { &["panes"] } else { &["left", "right"] };
    names.contains(&param.name()) && !param.is_empty()
}

/// Parses the state of a parameter and repairs it in place, its range only if `repairs_range`.
fn state(param: &mut Param, form: Form, repairs_range: bool, problems: &mut Vec<Problem>) -> Option<Value> {
    let Some(mut state) = param.json(problems) else {
        problems.push(Problem::NotJson);
        return None;
    };
    let shaped = match (form, &state) {
        (Form::Panes, Value::Object(panes)) => !panes.is_empty() && panes.values().all(is_pane),
        // Grafana rejects a short form without all four: from, to, datasource and a query.
        (Form::Left, Value::Array(items)) => items.len() > 3,
        (Form::Left, state) => is_pane(state),
        (Form::Panes, _) => false,
    };
    if !shaped {
        problems.push(Problem::WrongShape);
        return None;
    }
    let before = (!repairs_range).then(|| state.clone());
    let mut repaired = false;
    each_pane(Some(form), &mut state, &mut |pane| repaired |= repair_range(pane));
    if repaired {
        problems.push(Problem::RangeNotStrings);
        match before {
            Some(before) => state = before,
            None => param.set(&state.to_string()),
        }
    }
    Some(state)
}

fn has_schema_version(url: &RawUrl) -> bool {
    let version = url.params.iter().find(|param| param.name() == "schemaVersion");
    let version = version.and_then(|param| param.value.as_deref()?.parse::<u32>().ok());
    version.is_some_and(|version| version >= 1)
}

fn put_schema_version(url: &mut RawUrl, states: &mut [(usize, Value)]) {
    if let Some(param) = url.params.iter_mut().find(|param| param.name() == "schemaVersion") {
        param.value = Some("1".to_owned());
        return;
    }
    url.params.insert(0, Param { key: "schemaVersion".to_owned(), value: Some("1".to_owned()) });
    for (index, _) in states {
        *index += 1;
    }
}

/// Whether the URL has a user name or password, even an empty one.
fn has_credentials(raw: &str) -> bool {
    let authority =
        raw.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    authority.contains('@')
}

#[cfg(test)]
mod tests;
