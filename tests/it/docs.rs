//! The documentation tells the truth: quoted log lines, metrics, config keys and links are those of the program.

mod reference;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use self::source::Source;

const PROGRAM: &str = "matrix-alertmanager-receiver";
const METRICS: &str = "matrix_alertmanager_receiver_";
/// Stands for what differs in a quoted line.
const GAP: char = '…';

#[test]
fn every_quoted_log_line_is_one_that_the_program_writes() {
    let source = Source::read();
    let mut quoted = 0;
    for (place, line) in quotes("log: ") {
        quoted += 1;
        source.writes(&line).unwrap_or_else(|fault| panic!("{place}: {line:?}: {fault}"));
    }
    assert!(quoted > 30, "only {quoted} quoted log lines were found");
}

#[test]
fn every_quoted_answer_is_one_that_the_program_gives() {
    let source = Source::read();
    let mut quoted = 0;
    for (place, line) in quotes("says: ") {
        quoted += 1;
        source.says(&line).unwrap_or_else(|fault| panic!("{place}: {line:?}: {fault}"));
    }
    assert!(quoted > 15, "only {quoted} quoted answers were found");
}

#[test]
fn a_line_that_the_program_does_not_write_is_seen() {
    let source = Source::read();
    for (line, expected) in [
        ("INFO the store commits again, mostly", "no such line at this level"),
        ("WARN the store commits again", "no such line at this level"),
        ("INFO the store commits again reason=…", "no such line at this level"),
        ("WARN cannot send to the homeserver homeserver=\"…\" reason=\"token_refused\"", "not in src: token_refused"),
        ("INFO ready store=… path=…", "no such line at this level"),
        ("WARN sync failed error=\"gone fishing: …\"", "not in src: gone fishing:"),
    ] {
        assert_eq!(source.writes(line), Err(expected.to_owned()), "{line}");
    }
    source.writes("WARN sync failed reason=\"no_answer\" error=\"…\"").expect("a line of the program");
}

#[test]
fn every_metric_that_is_named_exists() {
    let registered = crate::harness::metric_sources();
    let exists = |name: &str| {
        ["", "_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .any(|name| registered.contains(&format!("\"{name}\"")))
    };
    assert!(exists("delivery_seconds_bucket") && !exists("deliveries_total"));
    let mut named = 0;
    for path in markdown() {
        let text = fs::read_to_string(&path).expect("a page");
        for (at, _) in text.match_indices(METRICS) {
            let name = leading(&text[at + METRICS.len()..], |c| c.is_ascii_alphanumeric() || c == '_');
            // The bare prefix tells what all names begin with.
            if !name.is_empty() {
                named += 1;
                assert!(exists(name), "{}: {METRICS}{name}", path.display());
            }
        }
    }
    assert!(named > 30, "only {named} metrics were found");
}

/// With `--help` behind it, a command is read to its end and not run; what it does not know is an error.
#[test]
fn every_command_line_is_one_that_the_program_takes() {
    let mut lines: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for (place, line) in quotes(&format!("{PROGRAM} ")).into_iter().chain(quotes(&format!("./{PROGRAM} "))) {
        // Synopses are not commands.
        if !line.contains(['[', GAP]) {
            lines.entry(arguments_of(&line)).or_insert(place);
        }
    }
    assert!(lines.len() > 15, "only {} command lines were found", lines.len());
    for (arguments, place) in lines {
        let output = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"))
            .args(&arguments)
            .arg("--help")
            .output()
            .expect("the program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {arguments:?}: {said}");
    }
}

#[test]
fn a_command_line_ends_where_the_shell_would_end_it() {
    for (line, expected) in [
        ("check --online   # homeserver", vec!["check", "--online"]),
        ("lint-rules 'a b' \"c|d\" | jq", vec!["lint-rules", "a b", "c|d"]),
        ("healthcheck && echo alive", vec!["healthcheck"]),
        ("completions bash >file", vec!["completions", "bash"]),
    ] {
        assert_eq!(arguments_of(line), expected, "{line}");
    }
}

#[test]
fn config_md_has_every_key_and_no_other() {
    let example = fs::read_to_string(root().join("config.example.toml")).expect("config.example.toml");
    let keys = example_keys(&example);
    let page = fs::read_to_string(root().join("docs/CONFIG.md")).expect("docs/CONFIG.md");
    let documented: BTreeSet<String> = first_cells(&page).into_iter().filter(|key| key.contains('.')).collect();
    assert!(keys.len() > 50, "only {} keys were found", keys.len());
    let missing: Vec<_> = keys.difference(&documented).collect();
    assert!(missing.is_empty(), "config.example.toml has what docs/CONFIG.md does not name: {missing:?}");
    let unknown: Vec<_> = documented.difference(&keys).collect();
    assert!(unknown.is_empty(), "docs/CONFIG.md names what config.example.toml does not have: {unknown:?}");
    for line in page.lines() {
        let Some((before, after)) = line.split_once("`MAR_").filter(|_| line.starts_with("| `")) else { continue };
        let key = before.trim_start_matches("| `").split('`').next().unwrap_or_default();
        let expected = key.to_uppercase().replace('.', "__");
        assert_eq!(after.split('`').next(), Some(expected.as_str()), "the variable of {key}");
    }
}

#[test]
fn keys_of_inline_tables_are_keys() {
    let text = "[routes.default]\n# Not = this.\nrooms = [\"a = b\"]\n#links = [{ label = \"x\", url = '{ y = z }' }]\n\
                #grafana = { labels = [\"pod\", { alert = \"job\", loki = \"app\" }], org_id = 2 }\n";
    let keys: Vec<_> = example_keys(text).into_iter().collect();
    let expected = [
        "routes.X.grafana",
        "routes.X.grafana.labels",
        "routes.X.grafana.labels.alert",
        "routes.X.grafana.labels.loki",
        "routes.X.grafana.org_id",
        "routes.X.links",
        "routes.X.links.label",
        "routes.X.links.url",
        "routes.X.rooms",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages: BTreeMap<PathBuf, String> =
        markdown().into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("a page"))).collect();
    let mut links = 0;
    for (path, text) in &pages {
        for target in relative_links(text) {
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let led_to = if file.is_empty() { path.clone() } else { joined(path, file) };
            assert!(led_to.exists(), "{}: ({target}) leads nowhere", path.display());
            if let Some(page) = pages.get(&led_to).filter(|_| !anchor.is_empty()) {
                assert!(anchors(page).contains(anchor), "{}: ({target}): no such heading", path.display());
            }
        }
    }
    assert!(links > 60, "only {links} links were found");
}

/// The site is made of these (`scripts/docs`), in this order.
#[test]
fn every_page_is_in_the_summary_once() {
    let summary = root().join("docs/SUMMARY.md");
    let listed: Vec<PathBuf> = relative_links(&fs::read_to_string(&summary).expect("docs/SUMMARY.md"))
        .iter()
        .map(|link| joined(&summary, link))
        .collect();
    let once: BTreeSet<&PathBuf> = listed.iter().collect();
    assert_eq!(once.len(), listed.len(), "docs/SUMMARY.md names a page twice");
    let for_readers = |path: &PathBuf| {
        let within = path.strip_prefix(root()).expect("a page of ours");
        *path != summary
            && (within.components().count() == 1 || within.starts_with("docs") || within.starts_with("deploy"))
    };
    let pages = markdown();
    let missing: Vec<_> = pages.iter().filter(|page| for_readers(page) && !once.contains(page)).collect();
    assert!(
        missing.is_empty(),
        "docs/SUMMARY.md lacks {missing:?}: add each to the part where its readers look for it"
    );
}

#[test]
fn headings_have_the_anchors_that_git_servers_give_them() {
    let text = "# One: `two_three`, 4 & five?\n```\n# not a heading\n```\n## A-b\n## A-b\n";
    let expected = ["a-b", "a-b-1", "one-two_three-4--five"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
    let links = relative_links("[a](b.md#c) `[d](e)` [f](https://g) ![h](i.png)\n```\n[j](k)\n```\n");
    assert_eq!(links, ["b.md#c", "i.png"]);
}

/// `scripts/dendrite` leaves them out.
#[test]
fn every_test_that_is_not_for_dendrite_exists_and_is_explained() {
    let script = fs::read_to_string(root().join("scripts/dendrite")).expect("the script");
    let list = script.split("<<'LIST'\n").nth(1).and_then(|rest| rest.split("\nLIST\n").next()).expect("a list");
    let page = fs::read_to_string(root().join("docs/HOMESERVERS.md")).expect("docs/HOMESERVERS.md");
    for line in list.lines() {
        let (name, why) = line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}"));
        let (module, function) = name.rsplit_once("::").unwrap_or_else(|| panic!("no module: {name}"));
        let file = root().join("tests/it").join(module.replace("::", "/")).with_extension("rs");
        let source = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {}: {error}", file.display()));
        assert!(source.contains(&format!("fn {function}(")), "{name} is not in {}", file.display());
        assert!(page.contains(&format!("| `{name}` | {why} |")), "docs/HOMESERVERS.md does not explain {name}: {why}");
    }
    let explained = page.lines().filter(|line| line.starts_with("| `") && line.contains("::")).count();
    assert_eq!(explained, list.lines().count(), "docs/HOMESERVERS.md explains others as well");
}

/// What the pages quote by `marker`, at the start of a fenced line or of code in a line, with the place.
fn quotes(marker: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in markdown() {
        let text = fs::read_to_string(&path).expect("a page");
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let place = format!("{}:{}", path.display(), index + 1);
            let code = if fenced { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
            let quoted = code.iter().filter_map(|code| code.strip_prefix(marker)).filter(|quote| !quote.is_empty());
            found.extend(quoted.map(|quote| (place.clone(), quote.trim().to_owned())));
        }
    }
    found
}

/// The words of a command line as a shell reads them, up to a comment, a pipe, or the next command.
fn arguments_of(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        if let Some(open) = quote {
            if c == open {
                quote = None;
            } else {
                word.get_or_insert_default().push(c);
            }
            continue;
        }
        match c {
            '\'' | '"' => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            '#' if word.is_none() => break,
            '|' | ';' | '&' | '>' | '\\' => break,
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The keys of a commented example, with `X` for the name of a route; also those of inline tables.
fn example_keys(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let (mut table, mut above, mut current) = (String::new(), Vec::<String>::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = name.replace("routes.default", "routes.X");
            continue;
        }
        let line = line.strip_prefix('#').unwrap_or(line);
        // Text begins with a blank behind the #, and so do lines of a list that goes on; those have braces.
        if line.starts_with(' ') && !line.trim_start().starts_with('{') {
            continue;
        }
        for token in tokens(line) {
            match token.as_str() {
                "{" => above.push(std::mem::take(&mut current)),
                "}" => current = above.pop().unwrap_or_default(),
                key => {
                    key.clone_into(&mut current);
                    let path = above.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".");
                    // Keys above the first table are tables themselves.
                    let path = if table.is_empty() { path } else { format!("{table}.{path}") };
                    keys.extend(Some(path).filter(|path| path.contains('.')));
                }
            }
        }
    }
    keys
}

/// Braces and keys of a line of TOML, in their order; strings are passed over.
fn tokens(line: &str) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        if let Some(open) = quote {
            quote = (c != open).then_some(open);
            continue;
        }
        match c {
            '"' | '\'' => quote = Some(c),
            '{' | '}' => found.push(c.to_string()),
            // A key in quotes is a name of the operator's own.
            '=' if !word.is_empty() => found.push(std::mem::take(&mut word)),
            ' ' => continue,
            c if c.is_ascii_alphanumeric() || c == '_' => {
                word.push(c);
                continue;
            }
            _ => {}
        }
        word.clear();
    }
    found
}

/// The code in the first column of all tables: a cell may name several.
fn first_cells(text: &str) -> Vec<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').step_by(2).map(str::to_owned)).filter(|code| !code.is_empty()).collect()
}

/// From a heading to the next of its level.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).expect("the heading");
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// Where links lead that are not to other sites, images included.
fn relative_links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in outside_of_fences(text) {
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("");
        for (at, _) in prose.match_indices("](") {
            let target = leading(&prose[at + 2..], |c| c != ')' && c != ' ');
            if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The anchors of all headings, as GitHub and Forgejo make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in outside_of_fences(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let anchor = title.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
        let mut unique = anchor.clone();
        let mut count = 0;
        while found.contains(&unique) {
            count += 1;
            unique = format!("{anchor}-{count}");
        }
        found.insert(unique);
    }
    found
}

fn outside_of_fences(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line);
        }
    }
    lines
}

fn leading(text: &str, keep: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !keep(c)).unwrap_or(text.len())]
}

/// `file` as seen from `page`, without `..`.
fn joined(page: &Path, file: &str) -> PathBuf {
    let mut path = page.parent().expect("a folder").to_owned();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

/// All pages of the repository.
fn markdown() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    files_below(root(), "md", &mut pages);
    pages
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Neither what is hidden nor what is built.
fn files_below(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            files_below(&path, extension, files);
        } else if path.extension().is_some_and(|found| found == extension) && !is_test(&path) {
            files.push(path);
        }
    }
}

fn is_test(file: &Path) -> bool {
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    name == "tests" || name.ends_with("_tests") || file.parent().is_some_and(|folder| folder.ends_with("tests"))
}
