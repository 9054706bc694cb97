//! Parses the command line and exits with the code that the command returns.

use std::process::ExitCode;

use clap::Parser as _;
use matrix_alertmanager_receiver::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
