//! The operator's links: `routes.X.links`, each a minijinja template of a URL.
//!
//! They are compiled and tried at start, so that a mistake shows then and not as a missing link. A URL made from labels
//! passes the same checks as every other link.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use crate::{
    config,
    model::{Alert, AlertState, Incident, Labels, RouteName},
};

/// The errors in the link templates of the config, one on each line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct LinkTemplateErrors(pub Vec<String>);

/// The links of all routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct CustomLinks {
    env: Arc<Environment<'static>>,
    /// Label, URL and condition of each link; URL and condition are names of templates.
    routes: BTreeMap<RouteName, Vec<Compiled>>,
}

#[derive(Clone, Debug)]
struct Compiled {
    label: String,
    url: String,
    when: Option<String>,
}

/// What a link template gives for one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A text that should be a URL.
    Url(String),
    /// The link does not apply: its condition is false, or the alert lacks a label.
    NotHere,
    Failed,
}

impl CustomLinks {
    /// # Errors
    /// One line for each template that cannot be compiled, or fails on a sample alert.
    pub(crate) fn new(routes: &BTreeMap<RouteName, config::Route>) -> Result<Self, LinkTemplateErrors> {
        let mut env = Environment::empty();
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.add_filter("urlencode", urlencode);
        env.add_filter("default", minijinja::filters::default);
        env.add_filter("lower", minijinja::filters::lower);
        env.add_filter("upper", minijinja::filters::upper);
        env.add_filter("trim", minijinja::filters::trim);
        env.add_filter("replace", minijinja::filters::replace);
        env.add_filter("first", minijinja::filters::first);
        env.add_filter("last", minijinja::filters::last);
        env.add_filter("split", minijinja::filters::split);
        env.add_test("defined", minijinja::tests::is_defined);
        env.add_test("startingwith", minijinja::tests::is_startingwith);
        env.add_test("endingwith", minijinja::tests::is_endingwith);
        let (mut compiled, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, route) in routes {
            let mut links = Vec::new();
            for (index, link) in route.links.iter().enumerate() {
                let key = format!("routes.{name}.links[{index}]");
                let url = format!("{key}.url");
                add(&mut env, &url, ["", &link.url, ""], &mut faults);
                let when = link.when.as_ref().map(|condition| {
                    let when = format!("{key}.when");
                    match env.compile_expression(condition).map(|_| ()) {
                        Ok(()) => add(&mut env, &when, ["{% if ", condition, " %}1{% endif %}"], &mut faults),
                        Err(error) => faults.push(described(&when, &error, condition)),
                    }
                    when
                });
                links.push(Compiled { label: link.label.clone(), url, when });
            }
            if !links.is_empty() {
                compiled.insert(name.clone(), links);
            }
        }
        if faults.is_empty() {
            Ok(Self { env: Arc::new(env), routes: compiled })
        } else {
            Err(LinkTemplateErrors(faults))
        }
    }

    /// The number of links of the incident's route.
    pub(crate) fn count(&self, incident: &Incident) -> usize {
        self.routes.get(&incident.key.route).map_or(0, Vec::len)
    }

    /// The label and the outcome of one of them.
    pub(crate) fn link(&self, incident: &Incident, alert: &Alert, index: usize) -> Option<(&str, Outcome)> {
        let link = self.routes.get(&incident.key.route)?.get(index)?;
        let context = context(incident, alert);
        let render = |name: &str| self.env.get_template(name).and_then(|template| template.render(&context));
        let outcome = |error: &Error| if lacks(error) { Outcome::NotHere } else { Outcome::Failed };
        if let Some(when) = &link.when {
            match render(when) {
                Ok(met) if met.is_empty() => return Some((&link.label, Outcome::NotHere)),
                Ok(_) => {}
                Err(error) => return Some((&link.label, outcome(&error))),
            }
        }
        let url = render(&link.url).map_or_else(|error| outcome(&error), Outcome::Url);
        Some((&link.label, if url == Outcome::Url(String::new()) { Outcome::NotHere } else { url }))
    }
}

/// Compiles a template and tries it. `parts` are the operator's text and what surrounds it.
fn add(env: &mut Environment<'static>, key: &str, parts: [&str; 3], faults: &mut Vec<String>) {
    let fault = |error: &Error| {
        let start = error.range().map_or(0, |range| range.start.saturating_sub(parts[0].len()));
        placed(key, error, parts[1], start)
    };
    if let Err(error) = env.add_template_owned(key.to_owned(), parts.concat()) {
        faults.push(fault(&error));
        return;
    }
    for sample in samples() {
        let tried = env.get_template(key).and_then(|template| template.render(&sample));
        match tried {
            Err(error) if !lacks(&error) => {
                faults.push(fault(&error));
                return;
            }
            _ => {}
        }
    }
}

/// Whether a template used something that the alert lacks. Operators such as `~` report that only in the message.
fn lacks(error: &Error) -> bool {
    error.kind() == ErrorKind::UndefinedError || error.detail().is_some_and(|detail| detail.contains("undefined"))
}

fn described(key: &str, error: &Error, source: &str) -> String {
    placed(key, error, source, error.range().map_or(0, |range| range.start))
}

/// `routes.default.links[0].url: column 12: …`; the column counts characters, as editors do.
fn placed(key: &str, error: &Error, source: &str, start: usize) -> String {
    let column = source.get(..start).map_or(1, |before| before.chars().count() + 1);
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{key}: column {column}: {}{detail}", error.kind())
}

/// The variables of a link template. Times are RFC 3339, and in milliseconds.
fn context(incident: &Incident, alert: &Alert) -> Value {
    let label = |name: &str| alert.doc.labels.get(name).map_or("", String::as_str);
    let ends_at = alert.ends_at.filter(|_| alert.state == AlertState::Resolved);
    let rfc3339 = |ms: i64| jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default();
    let mut context = BTreeMap::from([
        ("labels", map(&alert.doc.labels)),
        ("annotations", map(&alert.doc.annotations)),
        ("status", Value::from(alert.state.as_str())),
        ("name", Value::from(label("alertname"))),
        ("severity", Value::from(label("severity"))),
        ("startsAt", Value::from(rfc3339(alert.starts_at.0))),
        ("startsAtMs", Value::from(alert.starts_at.0)),
        ("generatorURL", Value::from(alert.doc.generator_url.as_str())),
        ("externalURL", Value::from(incident.doc.external_url.as_str())),
        ("fingerprint", Value::from(alert.fingerprint.as_str())),
        ("route", Value::from(incident.key.route.as_str())),
        ("receiver", Value::from(incident.key.receiver.as_str())),
    ]);
    if let Some(end) = ends_at {
        context.insert("endsAt", Value::from(rfc3339(end.0)));
        context.insert("endsAtMs", Value::from(end.0));
    }
    Value::from(context)
}

fn map(labels: &Labels) -> Value {
    Value::from(labels.clone())
}

/// A firing and a resolved alert with the usual fields.
fn samples() -> [Value; 2] {
    let text = |pairs: &[(&'static str, &'static str)]| Value::from(pairs.iter().copied().collect::<BTreeMap<_, _>>());
    let sample = |status: &'static str| {
        let mut context = BTreeMap::from([
            (
                "labels",
                text(&[("alertname", "Sample"), ("severity", "critical"), ("namespace", "media"), ("pod", "a-0")]),
            ),
            ("annotations", text(&[("summary", "a sample")])),
            ("status", Value::from(status)),
            ("name", Value::from("Sample")),
            ("severity", Value::from("critical")),
            ("startsAt", Value::from("2026-11-22T18:19:50Z")),
            ("startsAtMs", Value::from(1_795_371_590_000_i64)),
            ("generatorURL", Value::from("https://prometheus.example.org/graph")),
            ("externalURL", Value::from("https://alertmanager.example.org")),
            ("fingerprint", Value::from("c6eadffa33fcdf37")),
            ("route", Value::from("default")),
            ("receiver", Value::from("matrix")),
        ]);
        if status == "resolved" {
            context.insert("endsAt", Value::from("2026-11-22T18:30:00Z"));
            context.insert("endsAtMs", Value::from(1_795_372_200_000_i64));
        }
        Value::from(context)
    };
    [sample("firing"), sample("resolved")]
}

/// Encodes all but letters, digits and `-_.~`, much like `encodeURIComponent`.
fn urlencode(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(urlencoding::encode(&value.to_string()).into_owned())
}
