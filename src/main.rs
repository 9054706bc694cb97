//! Parses the command line and exits with the code that the command returns.

use std::process::ExitCode;

use matrix_alertmanager_receiver::cli;

/// Gives back what a storm took; the C library's allocator keeps it, in an arena for each thread. `.cargo/config.toml` sets
/// it. Other processors keep the C library's: there a system may have larger pages than the one that built this, with which
/// this allocator does not start.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
