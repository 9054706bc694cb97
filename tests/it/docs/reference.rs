//! The reference pages have all that the program has, and nothing else: metrics with their labels, commands, and the
//! codes of `lint-rules`. The keys of the config are held by `config_md_has_every_key_and_no_other`.

use std::{collections::BTreeSet, fs, process::Command};

use matrix_alertmanager_receiver::config::LINT_CODES;

use super::{first_cells, leading, root, section, source::arguments};

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).expect("a page")
}

#[test]
fn metrics_md_has_every_metric_with_its_labels_and_no_other() {
    let registered = registered(&crate::harness::metric_sources());
    assert!(registered.len() > 30, "only {} metrics were found", registered.len());
    let documented: BTreeSet<String> =
        first_cells(&page("METRICS.md")).into_iter().map(|cell| cell.replace(' ', "")).collect();
    let missing: Vec<_> = registered.difference(&documented).collect();
    assert!(missing.is_empty(), "src/metrics/ registers what docs/METRICS.md does not have: {missing:?}");
    let unknown: Vec<_> = documented.difference(&registered).collect();
    assert!(unknown.is_empty(), "docs/METRICS.md has what src/metrics/ does not register: {unknown:?}");
}

#[test]
fn a_registered_metric_is_found_however_it_is_written() {
    let code = "fn f() { maker.gauge(\"alone\", \"Its (help).\"); maker.counters(\n  \"two_total\",\n  help,\n  \
                &[\"a\", \"b\"],\n) maker.histogram(\"h\", \"x\", &[0.1]) maker.gauges(\"none\", \"x\", &[]) }";
    let expected = ["alone", "h", "none", "two_total{a,b}"].map(str::to_owned);
    assert_eq!(registered(code), BTreeSet::from(expected));
}

#[test]
fn commands_md_has_every_command_and_no_other() {
    let output = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver")).arg("--help").output();
    let help = String::from_utf8(output.expect("the program").stdout).expect("UTF-8");
    let (_, list) = help.split_once("\nCommands:\n").expect("the list of commands");
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let known: BTreeSet<&str> =
        names.map(|line| leading(line, |c| c != ' ')).filter(|name| !name.is_empty() && *name != "help").collect();
    assert!(known.len() > 10 && known.contains("serve"), "{known:?}");

    let page = page("COMMANDS.md");
    let (table, _) = page.split_once("\n## ").expect("a section");
    let cells = first_cells(table);
    let documented: BTreeSet<&str> = cells.iter().map(|cell| leading(cell, |c| c != ' ')).collect();
    assert_eq!(documented, known, "docs/COMMANDS.md (left) and --help (right)");
}

#[test]
fn commands_md_has_the_codes_of_lint_rules_in_their_order() {
    let page = page("COMMANDS.md");
    assert_eq!(
        first_cells(section(&page, "## lint-rules")),
        LINT_CODES,
        "docs/COMMANDS.md (left) and the code (right)"
    );
}

/// What the code registers, as `name{label,…}`.
fn registered(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("maker.") {
        let Some((kind, rest)) = code[at + "maker.".len()..].split_once('(') else { continue };
        if !["counter", "counters", "gauge", "gauges", "float_gauges", "int_gauge", "histogram"].contains(&kind) {
            continue;
        }
        let arguments = arguments(rest);
        let mut literals = arguments.split('"').skip(1).step_by(2);
        let name = literals.next().expect("a name");
        let labels = arguments.rsplit_once("&[\"").map_or("", |(_, labels)| labels);
        let labels: Vec<_> = labels.split('"').step_by(2).filter(|label| !label.is_empty()).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        found.insert(format!("{name}{labels}"));
    }
    found
}
