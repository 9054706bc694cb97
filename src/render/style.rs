//! How messages look: what the config says about times, severities, links and templates.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{
    links::{
        custom::{CustomLinks, LinkTemplateErrors},
        url,
    },
    templates::set::Templates,
    text,
};
use crate::{
    config::{self, Severity},
    model::{Incident, RouteName},
};

/// How messages look; built once from the config.
#[derive(Clone, Debug)]
pub struct Style {
    pub(super) zone: TimeZone,
    pub(super) display: config::Display,
    pub(super) rewrite: Vec<config::Rewrite>,
    /// Makes the Logs links of routes that the config no longer has.
    grafana: Option<config::Grafana>,
    /// Makes the Logs links of each route.
    route_grafana: BTreeMap<RouteName, Option<config::Grafana>>,
    pub(super) custom_links: CustomLinks,
    pub(super) templates: Templates,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("display.timezone: unknown time zone {0:?}; use an IANA name like \"Europe/Berlin\"")]
pub struct StyleError(String);

impl Style {
    /// # Errors
    /// When the time zone is unknown.
    pub fn new(display: &config::Display, links: &config::Links) -> Result<Self, StyleError> {
        let zone = TimeZone::get(&display.timezone).map_err(|_| StyleError(display.timezone.clone()))?;
        Ok(Self {
            zone,
            display: display.clone(),
            rewrite: url::normal_rules(&links.rewrite),
            grafana: links.grafana.clone(),
            route_grafana: BTreeMap::new(),
            custom_links: CustomLinks::default(),
            templates: Templates::default(),
        })
    }

    /// Adds the links that the routes configure.
    ///
    /// # Errors
    /// When a template of `routes.X.links` cannot be compiled, or fails on a sample alert.
    pub fn with_routes(mut self, routes: &BTreeMap<RouteName, config::Route>) -> Result<Self, LinkTemplateErrors> {
        self.custom_links = CustomLinks::new(routes)?;
        self.route_grafana = routes.iter().map(|(name, route)| (name.clone(), route.grafana.clone())).collect();
        Ok(self)
    }

    /// Uses these templates in place of the built-in ones.
    #[must_use]
    pub fn with_templates(self, templates: Templates) -> Self {
        Self { templates, ..self }
    }

    /// Where the logs of an incident's alerts are.
    pub(super) fn grafana(&self, incident: &Incident) -> Option<&config::Grafana> {
        self.route_grafana.get(&incident.key.route).unwrap_or(&self.grafana).as_ref()
    }

    /// The severity of this rank; `None` for a rank that the config does not have.
    pub(super) fn severity(&self, rank: u32) -> Option<&Severity> {
        usize::try_from(rank).ok().and_then(|rank| self.display.severities.get(rank))
    }

    /// The emoji of a severity; white for one that the config does not have.
    pub(super) fn emoji(&self, rank: u32) -> String {
        let known = self.severity(rank);
        let emoji = known.map(|severity| text::cut(&text::clean(&severity.emoji), 8)).unwrap_or_default();
        if emoji.is_empty() { "⚪".to_owned() } else { emoji }
    }
}
