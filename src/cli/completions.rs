//! `completions SHELL`: shell completions.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use clap::{Args, Command};
use clap_complete::Shell;

/// Writes completions for a shell to standard output.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  matrix-alertmanager-receiver completions bash \\
    > /etc/bash_completion.d/matrix-alertmanager-receiver
  matrix-alertmanager-receiver completions zsh \\
    > \"${fpath[1]}/_matrix-alertmanager-receiver\"
  matrix-alertmanager-receiver completions fish \\
    > ~/.config/fish/completions/matrix-alertmanager-receiver.fish")]
pub struct Completions {
    /// The shell to write them for.
    shell: Shell,
}

impl Completions {
    pub fn run(self, mut command: Command) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        match std::io::stdout().write_all(&script) {
            // The reader of `completions bash | head` has enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            written => Ok(written.map(|()| ExitCode::SUCCESS)?),
        }
    }
}
