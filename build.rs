//! Puts the commit into the binary, for `--version` and `build_info`, and the functions of a start side by side.

use std::{collections::HashSet, env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=MAR_BUILD_COMMIT");
    for path in [".git/HEAD", ".git/refs/heads", ".git/packed-refs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let commit = env::var("MAR_BUILD_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(from_git);
    println!("cargo::rustc-env=MAR_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    order_functions();
}

/// Source archives have no history; then the commit is unknown, and it builds all the same.
fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

/// Has the linker put the functions first that a start runs. The kernel maps 64 KiB around each page that is used, so that
/// these functions, spread over the whole program, would take most of it into memory. Where the linker is another, or
/// names have changed, the program works the same, and takes some MiB more.
fn order_functions() {
    const NAMES: &str = ".cargo/functions.txt";
    println!("cargo::rerun-if-env-changed=MAR_LINK_MAP");
    println!("cargo::rerun-if-changed={NAMES}");
    if env::var("PROFILE").as_deref() != Ok("release") || !links_with_lld() {
        return;
    }
    // For scripts/functions, which looks up the names of what a start runs. Callgrind follows a program in its `.text` alone, and
    // so that one is in the compiler's order.
    if let Ok(map) = env::var("MAR_LINK_MAP") {
        pass_to_linker(&format!("-Map={map}"));
        return;
    }
    if let Ok(names) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(NAMES)) {
        let script = Path::new(&env::var("OUT_DIR").expect("a folder")).join("functions.ld");
        fs::write(&script, linker_script(&names)).expect("it is writable");
        pass_to_linker("-T");
        pass_to_linker(&script.display().to_string());
    }
}

/// A function has a section that is named after it. A name that ends where Rust adds a hash stands for all hashes. Behind
/// them, the names with a hash stand for all hashes as well: another target or version has others, and a few hundred functions
/// elsewhere are enough for the whole program to be mapped.
fn linker_script(names: &str) -> String {
    let any = |name: &str| if name.ends_with("17h") { "*" } else { "" };
    let exact = names.lines().map(|name| format!("{name}{}", any(name)));
    let mut seen = HashSet::new();
    let others = names.lines().filter_map(|name| Some(name.split_at(name.rfind("17h")? + 3)));
    let others =
        others.filter(|(plain, hash)| !hash.is_empty() && seen.insert(*plain)).map(|(plain, _)| format!("{plain}*"));
    let sections: Vec<_> = exact.chain(others).map(|name| format!("*(.text.{name})")).collect();
    format!("SECTIONS {{\n.text.ordered : {{\n{}\n}}\n}} INSERT BEFORE .text;\n", sections.join("\n"))
}

fn pass_to_linker(option: &str) {
    println!("cargo::rustc-link-arg-bins=-Xlinker");
    println!("cargo::rustc-link-arg-bins={option}");
}

/// Whether the compiler brings its own linker, LLD, and nobody has chosen another.
fn links_with_lld() -> bool {
    let variable = |name| env::var(name).unwrap_or_default();
    if variable("TARGET") != "x86_64-unknown-linux-gnu" || !variable("RUSTC_LINKER").is_empty() {
        return false;
    }
    if variable("CARGO_ENCODED_RUSTFLAGS").contains("link") {
        return false;
    }
    let Ok(output) = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Path::new(&sysroot).join("lib/rustlib").join(variable("HOST")).join("bin/gcc-ld/ld.lld").exists()
}
