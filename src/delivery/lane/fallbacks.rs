//! Counts and tells where a built-in template took the place of one of the operator's own.

use std::collections::BTreeMap;

use crate::{metrics::Metrics, render::templates::Fallback, store::NewOp};

/// What was told last of each template, by its config key; as many as there are in the config.
#[derive(Debug, Default)]
pub(super) struct Fallbacks {
    told: BTreeMap<String, String>,
}

impl Fallbacks {
    /// A template that fails on every message is told once, and again when it fails for another reason.
    pub(super) fn tell(&mut self, metrics: &Metrics, op: &NewOp, fallbacks: &[Fallback]) {
        for Fallback { template, file, fault } in fallbacks {
            metrics.render_fallbacks.with_label_values(&[template.as_str(), fault.reason.as_str()]).inc();
            let text = format!("{}:{fault}", file.path.display());
            if self.told.get(&file.key) == Some(&text) {
                continue;
            }
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, template = file.key, reason = fault.reason.as_str(),
                fault = text, "a template failed; the built-in one took its place"
            );
            self.told.insert(file.key.clone(), text);
        }
    }
}
