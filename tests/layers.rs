//! The guard of the house: who may import whom. It reads every `crate::` path in `src/` and fails on an edge that
//! the table does not allow, and on a foreign crate outside of the module that owns it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Module -> what it may import besides itself. `*`: everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &["model"]),
    ("lifecycle", &["model"]),
    ("metrics", &["model"]),
    ("health", &["model"]),
    ("telemetry", &["model"]),
    ("config", &["model"]),
    ("intake", &["model", "config"]),
    ("render", &["model", "config"]),
    ("store", &["model", "config", "clock", "metrics", "health"]),
    ("http", &["model", "config", "intake", "store", "render", "clock", "lifecycle", "metrics", "health"]),
    ("delivery", &["model", "config", "store", "render", "clock", "lifecycle", "metrics", "health"]),
    ("matrix", &["model", "config", "clock", "lifecycle", "metrics", "health", "delivery"]),
    ("app", &["*"]),
    ("cli", &["*"]),
    ("main", &["*"]),
    ("lib", &["*"]),
];

/// Foreign crate -> the modules that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("matrix_sdk", &["matrix"]),
    ("sqlx", &["store"]),
    ("axum", &["http", "app"]),
    ("axum_server", &["http"]),
    ("hyper_util", &["http"]),
    ("x509_cert", &["http"]),
    ("askama", &["render"]),
    ("minijinja", &["render"]),
    ("prometheus", &["metrics"]),
    ("clap", &["cli", "main"]),
];

#[test]
fn no_import_breaks_the_table() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for file in rust_files(&source) {
        let module = module_of(&file, &source);
        let text = fs::read_to_string(&file).expect("a source file");
        faults.extend(faults_in(&module, &text).into_iter().map(|fault| format!("{}: {fault}", file.display())));
    }
    assert!(faults.is_empty(), "forbidden edges:\n{}", faults.join("\n"));
}

#[test]
fn the_guard_sees_forbidden_edges() {
    for (module, text, expected) in [
        ("model", "use crate::store::Store;", "model must not import store"),
        ("store", "use crate::{\n    clock::Clock,\n    render::{self, Style},\n};", "store must not import render"),
        ("intake", "fn f() { crate::http::bind() }", "intake must not import http"),
        ("delivery", "use matrix_sdk::Client;", "matrix_sdk belongs to matrix, not to delivery"),
        ("http", "let x: sqlx::Error;", "sqlx belongs to store, not to http"),
        ("nowhere", "", "nowhere is not in the table"),
    ] {
        assert_eq!(faults_in(module, text), [expected], "{module}: {text}");
    }
    for (module, text) in [
        ("delivery", "use crate::{model::Op, store::Store};\nuse super::retry;"),
        ("model", "// crate::store is not imported here\n/// [`crate::store`] neither"),
        ("store", "use crate::model::{Incident, IncidentId};"),
    ] {
        assert!(faults_in(module, text).is_empty(), "{module}: {text}");
    }
}

fn faults_in(module: &str, text: &str) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{module} is not in the table")];
    };
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut faults = Vec::new();
    for imported in imports(&code) {
        if imported != module && !allowed.contains(&"*") && !allowed.contains(&imported.as_str()) {
            faults.push(format!("{module} must not import {imported}"));
        }
    }
    for (owned, owners) in OWNERS {
        if !owners.contains(&module) && names_crate(&code, owned) {
            faults.push(format!("{owned} belongs to {}, not to {module}", owners[0]));
        }
    }
    faults
}

/// The first segments of all `crate::…` paths, groups included.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_segments(group)),
            None => found.extend(ident(rest)),
        }
    }
    found
}

/// The first segment of each item of a `{…}` group, nested groups skipped.
fn first_segments(group: &str) -> Vec<String> {
    let (mut depth, mut expecting, mut found) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            c if expecting && !c.is_whitespace() => {
                found.extend(ident(&group[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    found
}

fn ident(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Whether `name::` stands as a path of its own, not as the end of a longer one.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

fn module_of(file: &Path, source: &Path) -> String {
    let relative = file.strip_prefix(source).expect("below src");
    let first = relative.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Tests beside the code may feed a layer by the way that the program would, through other layers.
fn is_test(file: &Path) -> bool {
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    name == "tests" || name.ends_with("_tests") || file.iter().any(|part| part == "tests")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
            files.push(path);
        }
    }
    files
}
