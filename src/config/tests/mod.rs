//! Tests of the config as a whole: files and variables in, a config or the text of its faults out.

mod actions;
mod admin;
mod environment;
mod evidence;
mod example;
mod faults;
mod precedence;
mod restart;
mod secrets;
mod settings;

use std::{collections::BTreeMap, path::PathBuf};

use super::{Config, Purpose};

/// All that a start needs, without a credential.
const REQUIRED: &str = r##"
[matrix]
homeserver = "https://matrix.example.org"
user_id = "@alerts:example.org"
[routes.default]
rooms = ["!abc:example.org", "#ops:example.org"]
"##;

/// A folder with a config file in it, gone after the test.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("a file in a temporary folder");
        path
    }

    /// Loads `toml` under `env`. In the faults the folder is left out of all paths.
    fn load(&self, toml: &str, env: &[(&str, &str)], purpose: Purpose) -> Result<Config, Vec<String>> {
        let file = self.write("config.toml", toml);
        Config::load(Some(&file), &variables(env), purpose).map_err(|faults| {
            let folder = format!("{}/", self.dir.path().display());
            faults.lines().iter().map(|line| line.replace(&folder, "")).collect()
        })
    }
}

fn variables(env: &[(&str, &str)]) -> BTreeMap<String, String> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(toml: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    Folder::new().load(toml, env, Purpose::Serve)
}

/// The required keys and `more`, which must be fine.
fn good(more: &str) -> Config {
    load(&format!("{REQUIRED}{more}"), &[]).unwrap_or_else(|faults| panic!("{more}\n{faults:#?}"))
}

/// What is wrong with the required keys and `more`, as one text. `more` starts on line 7, in `[routes.default]`.
fn wrong(more: &str) -> String {
    match load(&format!("{REQUIRED}{more}"), &[]) {
        Ok(_) => panic!("no fault in\n{more}"),
        Err(faults) => faults.join("\n"),
    }
}
