//! Where the config comes from, and all that a start or a reload reads and checks.

use std::path::{Path, PathBuf};

use crate::{
    config::{self, Config, LogFormat, Purpose},
    file_watch::Fingerprint,
    render::{Style, templates::Templates},
    telemetry,
};

/// Where the config comes from, and what it was when it was first read.
pub struct Source {
    pub(super) file: Option<PathBuf>,
    pub(super) log: telemetry::Filter,
    /// What the files held when the config was read.
    pub(super) seen: Fingerprint,
}

impl Source {
    /// Reads the config for a start.
    ///
    /// # Errors
    /// With everything that is wrong with it, or with `log.filter`.
    pub fn read(file: Option<&Path>) -> anyhow::Result<(Config, Self)> {
        let own: Vec<PathBuf> = file.iter().map(|path| path.to_path_buf()).collect();
        let before = Fingerprint::read(&own);
        let env = config::environment();
        let config = Config::load(file, &env, Purpose::Serve)?;
        let log = telemetry::init(config.log.format == LogFormat::Json, &config.log.filter)?;
        let links = config::service_links(&env);
        if !links.is_empty() {
            tracing::debug!(variables = links.join(" "), "ignored Kubernetes service variables");
        }
        warn_of_odd_passwords(&config);
        let seen = Fingerprint::read(&watched_files(file, &config));
        // If the file changed while it was read, the first look must find a difference.
        let seen = if Fingerprint::read(&own) == before { seen } else { Fingerprint::default() };
        Ok((config, Self { file: file.map(Path::to_owned), log, seen }))
    }

    /// The files to watch while `config` is active: its own, and those that it and the environment name.
    pub(super) fn watched_files(&self, config: &Config) -> Vec<PathBuf> {
        watched_files(self.file.as_deref(), config)
    }
}

fn watched_files(file: Option<&Path>, config: &Config) -> Vec<PathBuf> {
    let named = config.files().into_iter().chain(file).map(Path::to_owned);
    named.chain(config::files(&config::environment())).collect()
}

/// Reads and checks for a reload all that a start reads and checks.
///
/// # Errors
/// With everything that is wrong, a line each.
pub(super) fn read_again(file: Option<&Path>) -> Result<(Config, Style), Vec<String>> {
    let config = Config::load(file, &config::environment(), Purpose::Serve);
    let config = config.map_err(|faults| faults.lines().to_vec())?;
    let in_lines = |error: &anyhow::Error| format!("{error:#}").lines().map(str::to_owned).collect::<Vec<_>>();
    telemetry::check(&config.log.filter).map_err(|error| in_lines(&error))?;
    let style = style_of(&config).map_err(|error| in_lines(&error))?;
    warn_of_odd_passwords(&config);
    Ok((config, style))
}

/// How messages look, with all templates compiled and tried on samples.
///
/// # Errors
/// With what is wrong with the time zone, links or templates.
pub(super) fn style_of(config: &Config) -> anyhow::Result<Style> {
    let style = Style::new(&config.display, &config.links)?.with_routes(&config.routes)?;
    let templates = Templates::load(config, &style)?;
    Ok(style.with_templates(templates))
}

fn warn_of_odd_passwords(config: &Config) {
    for odd in config.odd_passwords() {
        tracing::warn!(password = odd, "password looks wrongly copied");
    }
}
