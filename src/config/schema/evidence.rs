//! `[evidence]`, `routes.X.evidence` and `[[routes.X.heartbeats]]`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use regex::Regex;
use url::Url;

use super::api_auth::{ApiAuth, files_of_service};
use crate::config::secret::Secret;

/// The services that have the lines and the numbers behind an alert. At least one is set.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub loki: Option<EvidenceSource>,
    pub prometheus: Option<EvidenceSource>,
    /// What is blanked in log lines beside what always is.
    pub redact: Vec<Regex>,
}

impl Evidence {
    /// The sources that are set, by the key of each.
    pub fn sources(&self) -> impl Iterator<Item = (&'static str, &EvidenceSource)> {
        let sources = [("evidence.loki", &self.loki), ("evidence.prometheus", &self.prometheus)];
        sources.into_iter().filter_map(|(key, source)| Some((key, source.as_ref()?)))
    }
}

/// A service that evidence is read from.
#[derive(Clone, Debug)]
pub struct EvidenceSource {
    /// http or https, without credentials, a path prefix is kept. No slash at the end.
    pub url: Url,
    pub auth: ApiAuth,
    /// Names are lower case and valid; none is `authorization`, `host` or about the body.
    pub headers: Vec<(String, Secret)>,
    /// PEM certificates of authorities to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
}

impl EvidenceSource {
    /// The files of its secrets and certificates.
    pub(in crate::config) fn files(&self) -> impl Iterator<Item = &Path> {
        files_of_service(&self.auth, &self.headers, self.ca_file.as_deref())
    }
}

/// What a route's cards get in their threads without anybody asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEvidence {
    /// Log lines; 0: none.
    pub logs: usize,
    pub graph: bool,
    /// Index into `display.severities`: cards this severe or more.
    pub min_severity: u32,
    /// Only in rooms that are encrypted.
    pub encrypted_only: bool,
}

impl RouteEvidence {
    /// Log lines where Loki is set and nothing else is said.
    pub(in crate::config) const LOGS: usize = 10;
}

/// A dead man's switch: the alerts that match are beats, and their absence is an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Unique in its route.
    pub name: String,
    /// Labels that a beat has, at least one.
    pub matches: BTreeMap<String, String>,
    /// Labels by whose values beats belong to separate switches.
    pub by: Vec<String>,
    pub timeout: Duration,
    /// Requested with each beat while the route's delivery is healthy; an http or https URL.
    pub ping_url: Option<Secret>,
}
