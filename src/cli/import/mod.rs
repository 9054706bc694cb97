//! `import`: converts the config of another receiver, and reports line by line what became of each key.

mod draft;
mod keys;
mod links;
mod metio;
mod report;
mod rooms;
mod values;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

use self::{keys::Keys, metio::Imported};
use super::support::{
    input::Input,
    output::{clean, print},
    output_file,
    yaml::Tree,
};

/// Writes the config of another receiver as TOML, and reports line by line what maps, what changes, what has no counterpart.
///
/// Reads the config.yaml of metio/matrix-alertmanager-receiver; jaywink/matrix-alertmanager has variables and no file, and
/// docs/MIGRATING.md has the key for each. The TOML goes to standard output or --output, the report to standard error.
/// Secrets are not copied unless requested: a key that names a file takes their place. The file is read as it is: no
/// variable is filled in.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver import --from metio config.yaml \\
    > receiver.toml
  matrix-alertmanager-receiver import --from metio --with-secrets \\
    --output receiver.toml config.yaml
  matrix-alertmanager-receiver check --online --config receiver.toml

Exit codes: 0 nothing is left to do by hand, 1 something is, which is reported, 2 nothing was written: the file is
unreadable, not YAML or not such a config, or the output exists.")]
pub struct Import {
    /// The receiver that the config is for.
    #[arg(long, value_enum)]
    from: Origin,
    /// The config file; "-" reads standard input.
    file: String,
    /// The file for the TOML, in place of standard output. It must not exist yet.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing file at --output.
    #[arg(long, requires = "output")]
    force: bool,
    /// Write tokens and passwords into the TOML (the file gets mode 0600) in place of the names of files that hold them.
    #[arg(long)]
    with_secrets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Origin {
    /// metio/matrix-alertmanager-receiver
    Metio,
}

impl Import {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let input = Input::named(&self.file);
        let name = clean(&input.name());
        let imported = match input.text().map_err(|error| vec![format!(" {error:#}")]).and_then(|text| {
            let Origin::Metio = self.from;
            import(&text, &name, self.with_secrets)
        }) {
            Ok(imported) => imported,
            Err(faults) => {
                for fault in &faults {
                    eprintln!("error: {name}:{}", clean_end(fault));
                }
                return Ok(ExitCode::from(2));
            }
        };
        match &self.output {
            None => print(imported.toml.trim_end())?,
            Some(path) => {
                if let Err(error) = output_file::create(path, &imported.toml, imported.secret, self.force) {
                    eprintln!("error: {}: {error:#}", path.display());
                    return Ok(ExitCode::from(2));
                }
            }
        }
        let output =
            self.output.as_deref().map_or_else(|| "receiver.toml".to_owned(), |path| path.display().to_string());
        eprint!("{}", imported.report.text(&clean(&output)));
        Ok(if imported.report.needs_a_hand() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// As [`clean`], but keeps the first blank, which separates the file from what is wrong with it.
fn clean_end(fault: &str) -> String {
    let blank = if fault.starts_with(' ') { " " } else { "" };
    format!("{blank}{}", clean(fault))
}

/// Imports the text of a config.
///
/// # Errors
/// With lines that say what is wrong: each begins with a position, or with a blank if there is none.
fn import(text: &str, name: &str, with_secrets: bool) -> Result<Imported, Vec<String>> {
    let tree = Tree::parse(text).map_err(|bad| vec![bad.to_string()])?;
    let keys = Keys::of(&tree).map_err(|bad| bad.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    metio::import(&keys, name, with_secrets).map_err(|error| vec![format!(" {error:#}")])
}

#[cfg(test)]
mod tests;
