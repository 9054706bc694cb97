//! The operator's templates that are in use, and what they make of a message.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value as Json;

use super::{
    engine::{self, Compiled, FallbackReason, TemplateError},
    sanitise, value,
};
use crate::{
    config::{TemplateFile, TemplateName},
    model::{Incident, RouteName},
    render::message::Message,
};

/// All operator templates, compiled. Without any, everything is built in.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// The templates of `[templates]`, for digests whose incidents come by routes with different ones.
    pub(super) common: TemplateSet,
    pub(super) routes: BTreeMap<RouteName, TemplateSet>,
}

/// The templates of one route.
#[derive(Clone, Debug, Default)]
pub(in crate::render) struct TemplateSet(pub(super) BTreeMap<TemplateName, Arc<CustomTemplate>>);

/// One template file.
#[derive(Debug)]
pub(super) struct CustomTemplate {
    pub(super) name: TemplateName,
    pub(super) file: TemplateFile,
    pub(super) compiled: Compiled,
    /// The number of samples that it was tried on.
    pub(super) samples: usize,
    /// What its trial found that is not an error.
    pub(super) notes: Vec<String>,
}

/// A fallback to the built-in template, because the operator's failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    pub template: TemplateName,
    /// The config key that names the file.
    pub file: TemplateFile,
    pub fault: TemplateError,
}

impl TemplateSet {
    /// Replaces the forms of `built_in` by those that the templates give.
    pub(in crate::render) fn apply(
        &self,
        [html, text]: [TemplateName; 2],
        built_in: Message,
        view: impl FnOnce() -> Json,
    ) -> (Message, Vec<Fallback>) {
        let (html, text) = (self.0.get(&html), self.0.get(&text));
        if html.is_none() && text.is_none() {
            return (built_in, Vec::new());
        }
        let context = value::context(&view());
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
        if !message.fits() {
            // Either form could be the long one, but the two belong together.
            let too_large = || engine::too_large(message.bytes());
            fallbacks.extend(used.into_iter().map(|custom| custom.fallback(too_large())));
            message = built_in;
        }
        (message, fallbacks)
    }
}

impl CustomTemplate {
    /// Renders one form, safe to be sent.
    pub(super) fn form(&self, context: &minijinja::Value) -> Result<String, TemplateError> {
        let raw = self.compiled.run(context)?;
        let form = if self.name.is_html() {
            let sanitised = sanitise::sanitise(&raw).ok_or_else(|| {
                TemplateError::whole(FallbackReason::Error, "elements are nested too deep, or never closed")
            })?;
            if sanitised.text.trim().is_empty() { String::new() } else { sanitised.html }
        } else {
            sanitise::plain(&raw)
        };
        if form.is_empty() {
            Err(TemplateError::whole(FallbackReason::Empty, "gives an empty message"))
        } else {
            Ok(form)
        }
    }

    fn fallback(&self, fault: TemplateError) -> Fallback {
        Fallback { template: self.name, file: self.file.clone(), fault }
    }
}

impl Templates {
    /// The templates for a message about these incidents.
    pub(in crate::render) fn of(&self, incidents: &[&Incident]) -> &TemplateSet {
        let mut sets = incidents.iter().map(|incident| self.routes.get(&incident.key.route).unwrap_or(&self.common));
        let Some(first) = sets.next() else { return &self.common };
        let same = |set: &TemplateSet| {
            set.0.len() == first.0.len() && set.0.iter().zip(&first.0).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
        };
        if sets.all(same) { first } else { &self.common }
    }
}
