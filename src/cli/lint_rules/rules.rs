//! The alerting rules of a file: Prometheus' own `groups:`, PrometheusRule resources, and lists of them.

use crate::cli::support::yaml::{NodeRef, Position, Tree, YamlError};

/// Bound of the rules of one file; repeated aliases make many rules of few bytes.
const MAX_RULES: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule<'a> {
    pub(super) group: &'a str,
    pub(super) name: &'a str,
    /// The position of its first key.
    pub(super) place: Position,
    pub(super) expr: Option<&'a str>,
    pub(super) annotations: Option<NodeRef>,
    /// Set even if the value is empty.
    pub(super) logs_url: Option<NodeRef>,
    /// Whether it has a summary or a description.
    pub(super) has_words: bool,
    pub(super) severity: Option<NodeRef>,
}

/// The rules of a file.
#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    pub(super) alerting: Vec<Rule<'a>>,
    pub(super) recording: usize,
    /// Entries that are neither alerting nor recording rules: group and position.
    pub(super) odd: Vec<(&'a str, Position)>,
}

impl<'a> Rules<'a> {
    /// Collects the rules of all documents; documents of other kinds are skipped.
    ///
    /// # Errors
    /// When a rule has a duplicate key, which Prometheus rejects, or there are too many rules.
    pub(super) fn of(tree: &'a Tree<'_>) -> Result<Self, YamlError> {
        let mut rules = Self::default();
        for document in tree.documents() {
            rules.take_document(tree, document)?;
        }
        Ok(rules)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.alerting.is_empty() && self.recording == 0 && self.odd.is_empty()
    }

    fn take_document(&mut self, tree: &'a Tree<'_>, document: NodeRef) -> Result<(), YamlError> {
        match text(tree, document, "kind") {
            None => self.take_groups(tree, document),
            Some("List" | "PrometheusRuleList") => {
                for item in list(tree, document, "items") {
                    self.take_resource(tree, item)?;
                }
                Ok(())
            }
            Some(_) => self.take_resource(tree, document),
        }
    }

    fn take_resource(&mut self, tree: &'a Tree<'_>, resource: NodeRef) -> Result<(), YamlError> {
        let ours = text(tree, resource, "kind") == Some("PrometheusRule")
            && text(tree, resource, "apiVersion").is_some_and(|v| v.starts_with("monitoring.coreos.com/"));
        match tree.get(resource, "spec") {
            Some(spec) if ours => self.take_groups(tree, spec),
            _ => Ok(()),
        }
    }

    fn take_groups(&mut self, tree: &'a Tree<'_>, holder: NodeRef) -> Result<(), YamlError> {
        for group in list(tree, holder, "groups") {
            let name = text(tree, group, "name").unwrap_or_default();
            unique(tree, group)?;
            for rule in list(tree, group, "rules") {
                self.take_rule(tree, name, rule)?;
            }
        }
        Ok(())
    }

    fn take_rule(&mut self, tree: &'a Tree<'_>, group: &'a str, rule: NodeRef) -> Result<(), YamlError> {
        let place = tree.place(rule);
        if tree.exhausted() || self.alerting.len() + self.recording + self.odd.len() >= MAX_RULES {
            return Err(YamlError::at(place, format!("more than {MAX_RULES} rules in one file")));
        }
        unique(tree, rule)?;
        let annotations = tree.get(rule, "annotations").filter(|&map| tree.is_map(map));
        let labels = tree.get(rule, "labels").filter(|&map| tree.is_map(map));
        for map in [annotations, labels].into_iter().flatten() {
            unique(tree, map)?;
        }
        let Some(name) = text(tree, rule, "alert") else {
            match text(tree, rule, "record") {
                Some(_) => self.recording += 1,
                None => self.odd.push((group, place)),
            }
            return Ok(());
        };
        let says = |key: &str| annotations.is_some_and(|map| text(tree, map, key).is_some());
        self.alerting.push(Rule {
            group,
            name,
            place,
            expr: text(tree, rule, "expr"),
            annotations,
            logs_url: annotations.and_then(|map| tree.get(map, "logs_url")),
            has_words: says("summary") || says("description"),
            severity: labels.and_then(|map| tree.get(map, "severity")),
        });
        Ok(())
    }
}

fn text<'a>(tree: &'a Tree<'_>, map: NodeRef, key: &str) -> Option<&'a str> {
    tree.text(tree.get(map, key)?)
}

fn list(tree: &Tree<'_>, map: NodeRef, key: &str) -> Vec<NodeRef> {
    tree.get(map, key).and_then(|list| tree.items(list)).unwrap_or_default()
}

fn unique(tree: &Tree<'_>, map: NodeRef) -> Result<(), YamlError> {
    let twice = tree.key_twice(map);
    twice.map_or(Ok(()), |(place, key)| Err(YamlError::at(place, format!("duplicate key {key:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<String, YamlError> {
        let tree = Tree::parse(text)?;
        let rules = Rules::of(&tree)?;
        let name = |rule: &Rule<'_>| format!("{}/{}:{}", rule.group, rule.name, rule.place.line);
        let mut names: Vec<String> = rules.alerting.iter().map(name).collect();
        names.push(format!("{}+{}", rules.recording, rules.odd.len()));
        Ok(names.join(" "))
    }

    #[test]
    fn rules_of_every_kind_of_file() {
        let groups = "groups: [{name: g, rules: [{alert: A, expr: x}, {record: r, expr: x}, {alrt: B}]}]";
        let resource = format!("{{kind: PrometheusRule, apiVersion: monitoring.coreos.com/v1, spec: {{{groups}}}}}");
        for (text, expected) in [
            (groups.to_owned(), "g/A:1 1+1"),
            (format!("a: 1\n---\n{groups}\n---\n# no\n---\n{resource}\n"), "g/A:3 g/A:7 2+2"),
            (format!("kind: List\nitems:\n- {resource}\n- {{kind: ConfigMap, data: 1}}\n- x\n"), "g/A:3 1+1"),
            (resource.replace("PrometheusRule", "Other"), "0+0"),
            (resource.replace("coreos", "elsewhere"), "0+0"),
            (format!("kind: ConfigMap\n{groups}\n"), "0+0"),
            ("groups: [1, {rules: x}, {rules: [1, [], {}]}]".to_owned(), "0+3"),
            ("- just\n- text\n".to_owned(), "0+0"),
            (String::new(), "0+0"),
            ("x: &r {alert: A}\ngroups: [{rules: [*r, {<<: *r, alert: B}]}]".to_owned(), "/A:1 /B:2 0+0"),
        ] {
            assert_eq!(names(&text).unwrap(), expected, "{text}");
        }
        let twice = names("groups:\n- rules:\n  - alert: A\n    labels:\n      a: 1\n      a: 2\n").unwrap_err();
        assert_eq!(twice.to_string(), "6:7: duplicate key \"a\"");
    }

    #[test]
    fn many_rules_of_few_bytes_are_refused() {
        let many = |what: &str| vec![what; 1000].join(", ");
        let text = format!(
            "r: &r {{alert: A}}\nl: &l [{}]\ng: &g {{name: g, rules: *l}}\ngroups: [{}]\n",
            many("*r"),
            many("*g")
        );
        assert!(names(&text).unwrap_err().to_string().contains("rules in one file"));
    }
}
