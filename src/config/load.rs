//! Loads a [`Config`] from file and environment, or reports everything that is wrong with them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    env,
    faults::{ConfigFault, ConfigFaults, Origin},
    purpose::Purpose,
    reader::Reader,
    schema::Config,
    sections,
    tree::{self, Table},
    unknown,
};

impl Config {
    /// Reads `file`, if there is one, and lays the environment over it. `env` is passed in (see [`super::environment`])
    /// so that the caller decides what counts.
    ///
    /// # Errors
    /// With every error at once, a line each; none holds the value of a secret.
    pub fn load(file: Option<&Path>, env: &BTreeMap<String, String>, purpose: Purpose) -> Result<Self, ConfigFaults> {
        let (config, reader) = read(file, env, purpose)?;
        reader.finish(config)
    }

    /// Parses the text of a config file, without any environment; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, name: &str, purpose: Purpose) -> Result<Self, ConfigFaults> {
        let place: Arc<str> = name.into();
        let settings = tree::parse(text, &place).map_err(ConfigFaults::new)?;
        let (config, reader) = finish(settings, purpose, place, Vec::new());
        reader.finish(config)
    }
}

/// The config as far as it could be read, and the reader with its errors and the keys that were read.
pub(super) fn read(
    file: Option<&Path>,
    env: &BTreeMap<String, String>,
    purpose: Purpose,
) -> Result<(Config, Reader), ConfigFaults> {
    let place: Arc<str> = file.map_or("environment".into(), |path| path.display().to_string().into());
    let mut settings = match file {
        Some(path) => read_file(path, &place).map_err(ConfigFaults::new)?,
        None => Table::new(),
    };
    let (layers, faults) = env::layers(env, purpose);
    for layer in layers {
        tree::overlay(&mut settings, layer, "");
    }
    Ok(finish(settings, purpose, place, faults))
}

fn finish(settings: Table, purpose: Purpose, place: Arc<str>, faults: Vec<ConfigFault>) -> (Config, Reader) {
    let reader = Reader::new(settings, purpose, place, faults);
    let config = sections::read(&reader.root());
    unknown::report(&reader);
    (config, reader)
}

fn read_file(path: &Path, place: &Arc<str>) -> Result<Table, Vec<ConfigFault>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![ConfigFault { origin: Origin::Unset(place.clone()), text: format!("cannot read: {error}") }]
    })?;
    tree::parse(&text, place)
}
