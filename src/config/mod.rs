//! Reads TOML and the environment into a [`Config`].

mod env;
mod faults;
mod homeserver;
mod load;
mod purpose;
mod reader;
mod restart;
mod schema;
mod secret;
mod sections;
mod templates;
#[cfg(test)]
mod tests;
mod tree;
mod unknown;
mod values;

pub use self::{
    env::{environment, files, service_links},
    faults::ConfigFaults,
    homeserver::Homeserver,
    purpose::Purpose,
    schema::{
        Actions, Admin, Alertmanager, Allow, ApiAuth, Auth, Compat, Config, Credential, Display, Escalation, Evidence,
        EvidenceSource, ExtraLink, Grafana, Heartbeat, Http, LINT_CODES, Links, Lint, Log, LogFormat, LokiLabel,
        MAX_LOG_LINES, MAX_MENTIONS_BYTES, Matrix, Mentions, Proxy, Rewrite, Route, RouteEvidence, Severity, Store,
        Tls, Updates,
    },
    secret::Secret,
    sections::database_url_from,
    templates::{TemplateFile, TemplateName, Templates},
    values::parse_duration,
};
