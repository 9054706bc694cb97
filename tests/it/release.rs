//! `scripts/release`, as far as it goes without a release build: what is in the archive, and that it is the same twice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::harness::process::Scratch;

const NAME: &str = "matrix-alertmanager-receiver";
const BINARY: &str = env!("CARGO_BIN_EXE_matrix-alertmanager-receiver");

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn release(binary: &Path, dist: &Path, trial: bool) -> Output {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release"));
    command.env("BINARY", binary).env("DIST", dist).env("DEB", "0").env_remove("DIRTY");
    if trial {
        command.env("DIRTY", "1");
    }
    command.output().expect("bash")
}

/// A debug build is ten times as large with its symbols.
fn stripped(scratch: &Scratch) -> PathBuf {
    let binary = scratch.join("stripped");
    run(Command::new("strip").arg("-o").arg(&binary).arg(BINARY));
    binary
}

#[test]
fn the_archive_holds_what_one_needs_and_the_checksums_are_right() {
    let scratch = Scratch::new("release");
    let binary = stripped(&scratch);
    let (dist, again) = (scratch.join("dist"), scratch.join("again"));
    let output = release(&binary, &dist, true);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let top = format!("{NAME}-{}-{}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let archive = dist.join(format!("{top}.tar.gz"));
    let listed =
        run(Command::new("tar").arg("--list").arg("--verbose").arg("--numeric-owner").arg("--file").arg(&archive));
    assert!(listed.lines().all(|line| line.split_whitespace().nth(1) == Some("0/0")), "{listed}");
    for (mode, file) in [
        ("-rwxr-xr-x", NAME),
        ("-rw-r--r--", "README.md"),
        ("-rw-r--r--", "LICENSE"),
        ("-rw-r--r--", "CHANGELOG.md"),
        ("-rw-r--r--", "config.example.toml"),
        ("-rw-r--r--", "completions/matrix-alertmanager-receiver.bash"),
        ("-rw-r--r--", "completions/_matrix-alertmanager-receiver"),
        ("-rw-r--r--", "completions/matrix-alertmanager-receiver.fish"),
        ("-rw-r--r--", "systemd/matrix-alertmanager-receiver.service"),
    ] {
        let path = format!(" {top}/{file}");
        assert!(listed.lines().any(|line| line.starts_with(mode) && line.ends_with(&path)), "{mode}{path}\n{listed}");
    }
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&dist));
    let sums = fs::read_to_string(dist.join("SHA256SUMS")).expect("a file");
    assert_eq!(sums.lines().count(), 1, "{sums}");

    assert!(release(&binary, &again, true).status.success());
    assert_eq!(sums, fs::read_to_string(again.join("SHA256SUMS")).expect("a file"), "the same twice");
}

#[test]
fn a_binary_of_another_version_is_no_release() {
    let scratch = Scratch::new("release-other");
    let other = scratch.write("other", "#!/bin/sh\necho matrix-alertmanager-receiver 0.0.1 '(x)'\n");
    run(Command::new("chmod").arg("755").arg(&other));
    let output = release(&other, &scratch.join("dist"), true);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("0.0.1"), "{said}");
    // Nor is one of sources that are not committed, or of a commit that the binary is not of.
    let other = scratch.write("same", &format!("#!/bin/sh\necho {NAME} {} '(0)'\n", env!("CARGO_PKG_VERSION")));
    run(Command::new("chmod").arg("755").arg(&other));
    let output = release(&other, &scratch.join("dist"), false);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("DIRTY=1"), "{said}");
    assert!(!scratch.join("dist").exists());
}
