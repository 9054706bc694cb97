//! Puts the commit into the binary, for `--version` and `build_info`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=MAR_BUILD_COMMIT");
    for path in [".git/HEAD", ".git/refs/heads", ".git/packed-refs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = std::env::var("MAR_BUILD_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(from_git);
    println!("cargo::rustc-env=MAR_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// Source archives have no history; then the commit is unknown, and it builds all the same.
fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}
