//! The guard of the tree: who may import whom. It reads every path in `src/` and fails on an import that the table does
//! not allow, on a foreign crate outside of the module that owns it, and on files that import each other in a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::visit::Visit;

/// Module -> what it may import besides itself. `*`: everything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("text", &[]),
    ("file_watch", &[]),
    ("pacing", &["model"]),
    ("clock", &["model"]),
    ("lifecycle", &["model"]),
    ("metrics", &["model"]),
    ("health", &["model"]),
    ("telemetry", &["model"]),
    ("config", &["model"]),
    ("intake", &["model", "config"]),
    ("render", &["model", "config", "text"]),
    ("store", &["model", "config", "clock", "metrics", "health"]),
    (
        "http",
        &[
            "model",
            "config",
            "intake",
            "store",
            "render",
            "clock",
            "lifecycle",
            "metrics",
            "health",
            "pacing",
            "file_watch",
        ],
    ),
    ("delivery", &["model", "config", "store", "render", "clock", "lifecycle", "metrics", "health", "pacing"]),
    (
        "alertmanager",
        &[
            "model",
            "config",
            "store",
            "clock",
            "lifecycle",
            "metrics",
            "health",
            "intake",
            "pacing",
            "file_watch",
            "text",
            "api_client",
        ],
    ),
    // What both Alertmanager and the sources of evidence are asked with.
    ("api_client", &["model", "config", "file_watch", "text"]),
    (
        "evidence",
        &[
            "model",
            "config",
            "store",
            "render",
            "api_client",
            "clock",
            "lifecycle",
            "metrics",
            "health",
            "pacing",
            "text",
        ],
    ),
    (
        "acts",
        &[
            "model",
            "config",
            "store",
            "render",
            "alertmanager",
            "evidence",
            "clock",
            "lifecycle",
            "metrics",
            "health",
            "pacing",
            "text",
        ],
    ),
    (
        "matrix",
        &[
            "model",
            "config",
            "clock",
            "lifecycle",
            "metrics",
            "health",
            "delivery",
            "acts",
            "evidence",
            "pacing",
            "file_watch",
            "text",
        ],
    ),
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
    ("tiny_skia", &["evidence"]),
    ("ab_glyph", &["evidence"]),
];

#[test]
fn no_import_breaks_the_table() {
    let sources = Sources::read();
    let mut faults = Vec::new();
    for (module, file) in &sources.files {
        let faults_here = faults_in(module.first().map_or("lib", String::as_str), &file.paths);
        faults.extend(faults_here.into_iter().map(|fault| format!("{}: {fault}", file.path.display())));
    }
    assert!(faults.is_empty(), "forbidden imports:\n{}", faults.join("\n"));
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let circles = circles(&Sources::read().imports());
    assert!(circles.is_empty(), "files that import each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn the_guard_sees_forbidden_imports() {
    for (module, text, expected) in [
        ("model", "use crate::store::Store;", "model must not import store"),
        ("store", "use crate::{\n    clock::Clock,\n    render::{self, Style},\n};", "store must not import render"),
        ("intake", "fn f() { crate::http::bind() }", "intake must not import http"),
        ("intake", "fn f() -> Vec<crate::http::Bound> { Vec::new() }", "intake must not import http"),
        ("delivery", "use matrix_sdk::Client;", "matrix_sdk belongs to matrix, not to delivery"),
        ("http", "fn f(x: sqlx::Error) {}", "sqlx belongs to store, not to http"),
        ("model", "fn f() { println!(\"{}\", crate::store::NAME) }", "model must not import store"),
        ("nowhere", "", "nowhere is not in the table"),
    ] {
        assert_eq!(faults_in(module, &paths_of(&[module.to_owned()], text)), [expected], "{module}: {text}");
    }
    for (module, text) in [
        ("delivery", "use crate::{model::Op, store::Store};\nuse super::retry;"),
        ("model", "// crate::store is not imported here\n/// [`crate::store`] neither\nfn f() {}"),
        ("store", "use crate::model::{Incident, IncidentId};"),
    ] {
        assert!(faults_in(module, &paths_of(&[module.to_owned()], text)).is_empty(), "{module}: {text}");
    }
}

#[test]
fn the_guard_sees_circles() {
    let files = [
        ("a", "mod b; mod c; pub use c::C; fn f() { b::g() }"),
        ("a::b", "use super::C; fn g() {}"),
        ("a::c", "use crate::d::D; pub struct C;"),
        ("d", "fn f(_: crate::a::b::B) {}"),
        ("e", "use crate::d::D;"),
    ];
    let files = files.map(|(module, text)| {
        let module: Vec<String> = module.split("::").map(ToOwned::to_owned).collect();
        let path = PathBuf::from(format!("{}.rs", module.join("/")));
        let paths = paths_of(&module, text);
        (module, File { path, exports: exports_of(text), paths })
    });
    // `a` and its own children may use each other.
    assert_eq!(circles(&Sources { files: files.into() }.imports()), ["a/b.rs, a/c.rs, d.rs"]);
}

/// A path of names, `crate` left out.
type Module = Vec<String>;

struct File {
    path: PathBuf,
    /// Every path that it names. Those of this crate are absolute and begin with `crate`.
    paths: BTreeSet<Vec<String>>,
    /// Names that it re-exports, and the path below it where they come from.
    exports: BTreeMap<String, Vec<String>>,
}

struct Sources {
    files: BTreeMap<Module, File>,
}

impl Sources {
    fn read() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = rust_files(&source).into_iter().map(|path| {
            let text = fs::read_to_string(&path).expect("a source file");
            let module = module_of(&path, &source);
            let paths = paths_of(&module, &text);
            (
                module,
                File {
                    path: path.strip_prefix(&source).expect("below src").to_owned(),
                    exports: exports_of(&text),
                    paths,
                },
            )
        });
        Self { files: files.collect() }
    }

    /// File -> the files whose names it uses. A folder's `mod.rs` and what lies in the folder are one to each other.
    fn imports(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut edges: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
        for (module, file) in &self.files {
            let own = edges.entry(&file.path).or_default();
            for path in &file.paths {
                let Some((home, imported)) = self.home_of(path) else { continue };
                if !home.starts_with(module) && !module.starts_with(home) {
                    own.insert(&imported.path);
                }
            }
        }
        edges
    }

    /// The file that defines what a path of this crate names, behind all re-exports.
    fn home_of(&self, path: &[String]) -> Option<(&Module, &File)> {
        let mut path = path.strip_prefix(&["crate".to_owned()])?.to_vec();
        loop {
            let length = (1..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
            let (module, file) = self.files.get_key_value(&path[..length])?;
            let exported = path.get(length).and_then(|name| file.exports.get(name));
            match exported {
                Some(from) => path = [&module[..], from].concat(),
                None => return Some((module, file)),
            }
        }
    }
}

/// Sets of files each of which imports all the others, directly or by way of them.
fn circles(edges: &BTreeMap<&Path, BTreeSet<&Path>>) -> Vec<String> {
    let reaches = |from: &Path| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = next.pop() {
            for next_file in edges.get(file.as_path()).into_iter().flatten() {
                if seen.insert(next_file.to_path_buf()) {
                    next.push(next_file.to_path_buf());
                }
            }
        }
        seen
    };
    let imported: BTreeMap<&Path, BTreeSet<PathBuf>> = edges.keys().map(|file| (*file, reaches(file))).collect();
    let circle_of = |file: &Path| {
        let both =
            imported[file].iter().filter(|other| imported.get(other.as_path()).is_some_and(|back| back.contains(file)));
        both.map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let circles: BTreeSet<String> =
        edges.keys().map(|file| circle_of(file)).filter(|circle| !circle.is_empty()).collect();
    circles.into_iter().collect()
}

fn faults_in(module: &str, paths: &BTreeSet<Vec<String>>) -> Vec<String> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
        return vec![format!("{module} is not in the table")];
    };
    let mut faults = BTreeSet::new();
    for path in paths {
        let first = path[0].as_str();
        if let ("crate", Some(imported)) = (first, path.get(1))
            && imported != module
            && ALLOWED.iter().any(|(name, _)| name == imported)
            && !allowed.contains(&"*")
            && !allowed.contains(&imported.as_str())
        {
            faults.insert(format!("{module} must not import {imported}"));
        }
        if let Some((owned, owners)) = OWNERS.iter().find(|(owned, _)| *owned == first)
            && !owners.contains(&module)
        {
            faults.insert(format!("{owned} belongs to {}, not to {module}", owners[0]));
        }
    }
    faults.into_iter().collect()
}

/// Every path that a file names, `self` and `super` resolved. Inline modules count as the file; their tests are left out.
fn paths_of(module: &[String], text: &str) -> BTreeSet<Vec<String>> {
    let mut named = Named { module, depth: 0, paths: BTreeSet::new() };
    named.visit_file(&syn::parse_file(text).expect("Rust"));
    named.paths
}

struct Named<'a> {
    module: &'a [String],
    /// How many inline modules lie around.
    depth: usize,
    paths: BTreeSet<Vec<String>>,
}

impl Named<'_> {
    fn add(&mut self, path: &[String]) {
        let absolute = |names: &[String]| [&["crate".to_owned()], names].concat();
        let ups = path.iter().take_while(|name| *name == "super").count();
        let path = match path[0].as_str() {
            "self" => [absolute(self.module), path[1..].to_vec()].concat(),
            "super" => {
                let ups_of_file = ups.saturating_sub(self.depth).min(self.module.len());
                let parent = &self.module[..self.module.len() - ups_of_file];
                [absolute(parent), path[ups..].to_vec()].concat()
            }
            _ => path.to_vec(),
        };
        self.paths.insert(path);
    }
}

impl<'ast> Visit<'ast> for Named<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        let inline = usize::from(item.content.is_some());
        self.depth += inline;
        syn::visit::visit_item_mod(self, item);
        self.depth -= inline;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for (path, _) in leaves(&item.tree) {
            self.add(&path);
        }
    }

    /// What a macro is given need not be Rust, so it is read word by word.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let text = call.tokens.to_string().replace(" :: ", "::");
        for path in
            text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').filter(|word| word.contains("::"))
        {
            let names: Vec<String> = path.split("::").filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
            if names.len() > 1 {
                self.add(&names);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.add(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        }
        syn::visit::visit_path(self, path);
    }
}

/// Names that a file re-exports from its own children.
fn exports_of(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut exports = BTreeMap::new();
    for item in syn::parse_file(text).expect("Rust").items {
        let syn::Item::Use(item) = item else { continue };
        if matches!(item.vis, syn::Visibility::Inherited) {
            continue;
        }
        for (path, name) in leaves(&item.tree) {
            let path: Vec<String> = path.into_iter().skip_while(|name| name == "self").collect();
            if !["crate", "super"].contains(&path[0].as_str()) && path.len() > 1 {
                exports.insert(name, path);
            }
        }
    }
    exports
}

/// The paths of a `use`, each with the name that it brings in.
fn leaves(tree: &syn::UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        syn::UseTree::Path(path) => {
            let below = leaves(&path.tree).into_iter();
            let name = path.ident.to_string();
            below.map(|(rest, last)| ([vec![name.clone()], rest].concat(), last)).collect()
        }
        syn::UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        syn::UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        syn::UseTree::Rename(name) => vec![(vec![name.ident.to_string()], name.rename.to_string())],
        syn::UseTree::Glob(_) => vec![(vec!["*".to_owned()], "*".to_owned())],
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let is_cfg_test = |attribute: &syn::Attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    };
    attributes.iter().any(is_cfg_test)
}

fn module_of(file: &Path, source: &Path) -> Module {
    let relative = file.strip_prefix(source).expect("below src").with_extension("");
    let mut module: Module = relative.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

/// Files without those of tests beside the code, which may feed a layer through others as the program would.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if name == "tests" {
            continue;
        }
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
