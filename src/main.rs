//! Parses the command line and exits with the code that the command returns.

use std::process::ExitCode;

use matrix_alertmanager_receiver::cli;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
