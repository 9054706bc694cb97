//! The example file is the reference for operators: it must not say anything that is not so.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::{Config, Folder, Purpose, REQUIRED, good, variables};
use crate::config::{load::read, tree::join};

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// Each example in a comment, below the header of its table.
fn commented() -> Vec<String> {
    let mut header = "";
    let mut examples = Vec::new();
    for line in EXAMPLE.lines() {
        if line.starts_with('[') {
            header = line;
        } else if let Some(example) = line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)) {
            examples.push(format!("{header}\n{example}\n"));
        }
    }
    examples
}

fn parts(config: &Config) -> Vec<String> {
    let Config { http, matrix, store, routes, links, templates, display, log, compat, lint, evidence } = config;
    vec![
        format!("{http:#?}"),
        format!("{:#?} {:#?}", matrix.homeserver, matrix.user_id),
        format!("{store:#?}"),
        format!("{routes:#?}"),
        format!("{links:#?}"),
        format!("{templates:#?}"),
        format!("{display:#?}"),
        format!("{log:#?}"),
        format!("{compat:#?}"),
        format!("{lint:#?}"),
        format!("{evidence:#?}"),
    ]
}

#[test]
fn shows_the_real_defaults() {
    // The token stands in for the file, which is only there where the receiver runs.
    let example = Folder::new().load(EXAMPLE, &[("MATRIX_ACCESS_TOKEN", "t")], Purpose::Serve).expect("a good example");
    assert_eq!(parts(&example), parts(&good("")));
}

#[test]
fn every_commented_example_is_good() {
    let examples = commented();
    assert!(examples.len() >= 9, "{examples:#?}");
    for example in examples {
        let loaded = Folder::new().load(&example, &[], Purpose::Render);
        assert!(loaded.is_ok(), "{example}: {loaded:#?}");
    }
}

#[test]
fn names_every_key() {
    let mut documented = BTreeSet::new();
    let mut known = BTreeSet::new();
    for text in commented().iter().map(String::as_str).chain([EXAMPLE, REQUIRED]) {
        if text != REQUIRED {
            paths(&DeTable::parse(text).expect("TOML").into_inner(), "", &mut documented);
        }
        let folder = Folder::new();
        let file = folder.write("config.toml", text);
        let (_, reader) = read(Some(&file), &variables(&[]), Purpose::Render).expect("TOML");
        known.extend(reader.known().keys().cloned());
    }
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "not in config.example.toml: {missing:?}");
    assert!(known.len() > 35, "{known:?}");
}

fn paths(table: &DeTable<'_>, parent: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = join(parent.trim_end_matches('.'), key.get_ref());
        nested(value.get_ref(), &format!("{path}."), found);
        found.insert(path);
    }
}

fn nested(value: &DeValue<'_>, parent: &str, found: &mut BTreeSet<String>) {
    match value {
        DeValue::Table(table) => paths(table, parent, found),
        DeValue::Array(items) => items.iter().for_each(|item| nested(item.get_ref(), parent, found)),
        _ => {}
    }
}
