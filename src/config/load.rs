//! From file and environment to a [`Config`], or to the list of all that is wrong with them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Config, env,
    faults::{Fault, Faults, Origin},
    reader::Reader,
    sections,
    tree::{self, Table},
    unknown,
};

/// What the configuration is read for: how much of it must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Everything: a homeserver, a user and at least one route with a room. Secret files are read.
    Serve,
    /// What posts webhooks itself: how they prove that they may, and where to; no account, no room. Secret files are
    /// read.
    Webhook,
    /// Homeserver and user, no room: one logs in before one knows the rooms. Secret files are read.
    Login,
    /// What ends a session that is there: nothing must be given. Secret files are read.
    Logout,
    /// Commands that need no server: whatever is missing reads as its default or a placeholder, and no secret file is
    /// opened. What is there must still be right.
    Render,
}

impl Purpose {
    pub(super) fn needs_account(self) -> bool {
        matches!(self, Self::Serve | Self::Login)
    }

    pub(super) fn needs_rooms(self) -> bool {
        self == Self::Serve
    }

    pub(super) fn reads_secrets(self) -> bool {
        self != Self::Render
    }
}

impl Config {
    /// Reads `file`, if there is one, and lays the environment over it. `env` is passed in (see [`super::environment`])
    /// so that nothing but the caller decides what counts.
    ///
    /// # Errors
    /// With every fault at once, a line each; none holds the value of a secret.
    pub fn load(file: Option<&Path>, env: &BTreeMap<String, String>, purpose: Purpose) -> Result<Self, Faults> {
        let (config, reader) = read(file, env, purpose)?;
        reader.finish(config)
    }

    /// What the text of a config file says alone, without any environment; `name` stands for the file in faults.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, name: &str, purpose: Purpose) -> Result<Self, Faults> {
        let place: Arc<str> = name.into();
        let settings = tree::parse(text, &place).map_err(Faults::new)?;
        let (config, reader) = finish(settings, purpose, place, Vec::new());
        reader.finish(config)
    }
}

/// The config as far as it could be read, and the reader with the faults and the keys it was asked for.
pub(super) fn read(
    file: Option<&Path>,
    env: &BTreeMap<String, String>,
    purpose: Purpose,
) -> Result<(Config, Reader), Faults> {
    let place: Arc<str> = file.map_or("environment".into(), |path| path.display().to_string().into());
    let mut settings = match file {
        Some(path) => read_file(path, &place).map_err(Faults::new)?,
        None => Table::new(),
    };
    let (layers, faults) = env::layers(env, purpose);
    for layer in layers {
        tree::overlay(&mut settings, layer, "");
    }
    Ok(finish(settings, purpose, place, faults))
}

fn finish(settings: Table, purpose: Purpose, place: Arc<str>, faults: Vec<Fault>) -> (Config, Reader) {
    let reader = Reader::new(settings, purpose, place, faults);
    let config = sections::read(&reader.root());
    unknown::report(&reader);
    (config, reader)
}

fn read_file(path: &Path, place: &Arc<str>) -> Result<Table, Vec<Fault>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![Fault { origin: Origin::Unset(place.clone()), text: format!("cannot read: {error}") }])?;
    tree::parse(&text, place)
}
