//! Templates of an operator's own, in place of built-in ones: read and tried at start, and replaced by the built-in one
//! for every message that they cannot give.

mod engine;
mod samples;
mod sanitise;
#[cfg(test)]
mod tests;
mod trial;
mod value;
mod view;

use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;
use serde::Serialize;

use self::{
    engine::Compiled,
    view::{CardView, DigestView, Moment, ReplyView},
};
pub use self::{
    engine::{Fault, Reason},
    trial::{TemplateFault, TemplateFaults, Tried},
};
use super::{MAX_BYTES, Message, Style};
use crate::{
    config::{TemplateFile, TemplateName},
    model::{Form, Incident, Note, RouteName, Timestamp},
};

/// All templates of one's own, compiled. Without any, everything is built in.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// `[templates]`, for digests whose incidents come by routes that do not agree.
    common: Set,
    routes: BTreeMap<RouteName, Set>,
}

type Set = BTreeMap<TemplateName, Arc<Custom>>;

/// One file.
#[derive(Debug)]
struct Custom {
    name: TemplateName,
    file: TemplateFile,
    compiled: Compiled,
    /// On so many it was tried.
    samples: usize,
    /// What its trial brought to light that is no fault.
    notes: Vec<String>,
}

/// A message, and which templates of one's own could not give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub message: Message,
    pub fallbacks: Vec<Fallback>,
}

impl Rendered {
    #[must_use]
    pub fn built_in(message: Message) -> Self {
        Self { message, fallbacks: Vec::new() }
    }
}

/// The built-in template took the place of one that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub template: TemplateName,
    /// The config key that names the file.
    pub file: TemplateFile,
    pub fault: Fault,
}

/// [`super::card`] as the operator wants it.
#[must_use]
pub fn card(style: &Style, incident: &Incident, root_at: Option<Timestamp>, now: Timestamp) -> Rendered {
    let built_in = super::card(style, incident, root_at, now, Form::Full);
    let set = style.templates.of(&[incident]);
    dressed(set, [TemplateName::CardHtml, TemplateName::CardText], built_in, || {
        CardView::new(style, incident, Moment { root_at, now })
    })
}

/// `built_in` is what [`super::digest()`] made of these incidents; `complete` as for that.
#[must_use]
pub fn digest(
    style: &Style,
    incidents: &[&Incident],
    root_at: Option<Timestamp>,
    now: Timestamp,
    built_in: Message,
) -> Rendered {
    let set = style.templates.of(incidents);
    dressed(set, [TemplateName::DigestHtml, TemplateName::DigestText], built_in, || {
        let full = super::digest::in_full(style, incidents, root_at, now);
        DigestView::new(style, incidents, &full, Moment { root_at, now })
    })
}

/// [`super::reply`] as the operator wants it.
#[must_use]
pub fn reply(
    style: &Style,
    incident: &Incident,
    notes: &[&Note],
    root_at: Option<Timestamp>,
    now: Timestamp,
) -> Rendered {
    let built_in = super::reply(style, incident, notes, root_at, now, Form::Full);
    let set = style.templates.of(&[incident]);
    dressed(set, [TemplateName::ReplyHtml, TemplateName::ReplyText], built_in, || {
        let reply = super::reply::reply(style, incident, notes, root_at, now);
        ReplyView::new(style, &[incident], &reply, Moment { root_at, now })
    })
}

/// [`super::post`] as the operator wants it: with the card's templates, since it shows the card as it is now.
#[must_use]
pub fn post(style: &Style, incident: &Incident, notes: &[&Note], now: Timestamp) -> Rendered {
    let built_in = super::post(style, incident, notes, now, Form::Full);
    let set = style.templates.of(&[incident]);
    dressed(set, [TemplateName::CardHtml, TemplateName::CardText], built_in, || {
        CardView::new(style, incident, Moment { root_at: None, now })
    })
}

/// [`super::digest_reply`] as the operator wants it.
#[must_use]
pub fn digest_reply(
    style: &Style,
    incidents: &[&Incident],
    notes: &[&Note],
    root_at: Option<Timestamp>,
    now: Timestamp,
) -> Rendered {
    let built_in = super::digest_reply(style, incidents, notes, root_at, now, Form::Full);
    let set = style.templates.of(incidents);
    dressed(set, [TemplateName::ReplyHtml, TemplateName::ReplyText], built_in, || {
        let reply = super::digest::merged(style, incidents, notes, root_at, now);
        let told = |incident: &&&Incident| notes.iter().any(|note| note.incident == incident.id);
        let told: Vec<&Incident> = incidents.iter().filter(told).copied().collect();
        ReplyView::new(style, &told, &reply, Moment { root_at, now })
    })
}

/// `built_in` with its forms replaced by those that templates give.
fn dressed<V: Serialize>(
    set: &Set,
    [html, text]: [TemplateName; 2],
    built_in: Message,
    view: impl FnOnce() -> V,
) -> Rendered {
    let (html, text) = (set.get(&html), set.get(&text));
    if html.is_none() && text.is_none() {
        return Rendered::built_in(built_in);
    }
    let context = value::context(&serde_json::to_value(view()).unwrap_or_default());
    let mut fallbacks = Vec::new();
    let mut message = built_in.clone();
    let mut used = Vec::new();
    for custom in html.into_iter().chain(text) {
        let part = if custom.name.is_html() { &mut message.html } else { &mut message.body };
        match custom.form(&context) {
            Ok(form) => {
                *part = form;
                used.push(custom);
            }
            Err(fault) => fallbacks.push(custom.fallback(fault)),
        }
    }
    if message.bytes() > MAX_BYTES {
        // Either could be the long one, but the two were meant together.
        let too_large = || engine::too_large(message.bytes());
        fallbacks.extend(used.into_iter().map(|custom| custom.fallback(too_large())));
        message = built_in;
    }
    Rendered { message, fallbacks }
}

impl Custom {
    /// What this template makes of a view, safe to be sent.
    fn form(&self, context: &minijinja::Value) -> Result<String, Fault> {
        let raw = self.compiled.run(context)?;
        let form = if self.name.is_html() {
            let sanitised = sanitise::sanitise(&raw)
                .ok_or_else(|| Fault::whole(Reason::Error, "elements are nested too deep, or never closed"))?;
            if sanitised.text.trim().is_empty() { String::new() } else { sanitised.html }
        } else {
            sanitise::plain(&raw)
        };
        if form.is_empty() { Err(Fault::whole(Reason::Empty, "gives an empty message")) } else { Ok(form) }
    }

    fn fallback(&self, fault: Fault) -> Fallback {
        Fallback { template: self.name, file: self.file.clone(), fault }
    }
}

impl Templates {
    /// Those for a message about these incidents.
    fn of(&self, incidents: &[&Incident]) -> &Set {
        let mut sets = incidents.iter().map(|incident| self.routes.get(&incident.key.route).unwrap_or(&self.common));
        let Some(first) = sets.next() else { return &self.common };
        let same = |set: &Set| {
            set.len() == first.len() && set.iter().zip(first).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
        };
        if sets.all(same) { first } else { &self.common }
    }
}

impl Style {
    /// With these templates in place of built-in ones.
    #[must_use]
    pub fn with_templates(self, templates: Templates) -> Self {
        Self { templates, ..self }
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }
}
