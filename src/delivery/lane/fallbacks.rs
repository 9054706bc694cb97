//! Counts and logs where a built-in template took the place of one of the operator's.

use std::collections::BTreeMap;

use crate::{metrics::Metrics, pacing::SayOnce, render::templates::Fallback, store::NewOp};

/// The last fault of each template by its config key, so that there are at most as many as in the config.
#[derive(Debug, Default)]
pub(super) struct Fallbacks {
    logged: BTreeMap<String, SayOnce>,
}

impl Fallbacks {
    /// A template that fails on every message is logged once, again when the fault changes, and ever less often.
    pub(super) fn report(&mut self, metrics: &Metrics, op: &NewOp, fallbacks: &[Fallback]) {
        for Fallback { template, file, fault } in fallbacks {
            metrics.render_fallbacks.with_label_values(&[template.as_str(), fault.reason.as_str()]).inc();
            let text = format!("{}:{fault}", file.path.display());
            if !self.logged.entry(file.key.clone()).or_default().should_log(&text) {
                continue;
            }
            tracing::warn!(
                notification = %op.notification, incident = %op.incident, template = file.key,
                reason = fault.reason.as_str(), fault = text, "template failed; used the built-in one"
            );
        }
    }
}
