//! The report of an import: a line for each key, in the order of the file.

use super::keys::Key;
use crate::cli::support::output::clean;

pub(super) struct Report {
    /// The name of the imported file.
    file: String,
    /// With the line of the key; `usize::MAX` for a key that is not set.
    lines: Vec<(usize, Verdict, String)>,
    /// What to do with Alertmanager's config.
    urls: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The key means the same here.
    Kept,
    /// The key is carried over and does something else here.
    Changes,
    /// The operator must finish it.
    Hand,
    /// The key cannot be carried over, and nothing depends on it.
    Nothing,
    /// metio does not know the key.
    Ignored,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Changes => "changes",
            Self::Hand => "needs your hand",
            Self::Nothing => "no counterpart",
            Self::Ignored => "ignored, as metio does: it knows no such key",
        }
    }
}

impl Report {
    pub(super) fn of(file: &str) -> Self {
        Self { file: file.to_owned(), lines: Vec::new(), urls: Vec::new() }
    }

    pub(super) fn kept(&mut self, key: &Key, to: &str) {
        self.add(key.line, &key.path, to, Verdict::Kept, "");
    }

    pub(super) fn changes(&mut self, key: &Key, to: &str, text: &str) {
        self.add(key.line, &key.path, to, Verdict::Changes, text);
    }

    /// `to` is empty where no key of ours takes over.
    pub(super) fn hand(&mut self, key: &Key, to: &str, text: &str) {
        self.add(key.line, &key.path, to, Verdict::Hand, text);
    }

    pub(super) fn nothing(&mut self, key: &Key, text: &str) {
        self.add(key.line, &key.path, "", Verdict::Nothing, text);
    }

    pub(super) fn ignored(&mut self, key: &Key) {
        self.add(key.line, &key.path, "", Verdict::Ignored, "");
    }

    /// A key that is not set and needs a decision nevertheless.
    pub(super) fn unset(&mut self, key: &str, to: &str, text: &str) {
        self.add(usize::MAX, key, to, Verdict::Hand, text);
    }

    /// A line about Alertmanager's config.
    pub(super) fn url(&mut self, line: String) {
        self.urls.push(line);
    }

    fn add(&mut self, line: usize, key: &str, to: &str, verdict: Verdict, text: &str) {
        let file = &self.file;
        let place = if line == usize::MAX { file.clone() } else { format!("{file}:{line}") };
        let to = if to.is_empty() { String::new() } else { format!(" -> {to}") };
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        let text = format!("{place}: {}{to}: {}{text}", without_credentials(key), verdict.text());
        self.lines.push((line, verdict, text));
    }

    pub(super) fn needs_a_hand(&self) -> bool {
        self.count(Verdict::Hand) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|(_, found, _)| *found == verdict).count()
    }

    /// The whole report; `output` is where the TOML is or may go.
    pub(super) fn text(&self, output: &str) -> String {
        let mut lines: Vec<_> = self.lines.iter().collect();
        // The sort is stable: keys that are not set come last, in the order in which they were added.
        lines.sort_by_key(|(line, ..)| *line);
        let [kept, changes, hand, nothing, ignored] =
            [Verdict::Kept, Verdict::Changes, Verdict::Hand, Verdict::Nothing, Verdict::Ignored]
                .map(|verdict| self.count(verdict));
        let head =
            "read as metio/matrix-alertmanager-receiver reads it at commit d74351b; other versions may know other keys";
        let counts = format!(
            "{kept} kept, {changes} changed, {hand} for your hand, {nothing} without counterpart, {ignored} ignored"
        );
        let next = format!("next: matrix-alertmanager-receiver check --online --config {output}");
        let lines = [head].into_iter().chain(lines.into_iter().map(|(.., text)| text.as_str()));
        let rest = [counts.as_str()].into_iter().chain(self.urls.iter().map(String::as_str)).chain([next.as_str()]);
        lines.chain(rest).map(|line| clean(line) + "\n").collect()
    }
}

/// A key may hold a URL; this takes user name and password out of it.
fn without_credentials(key: &str) -> String {
    let Some((before, rest)) = key.split_once("://") else { return key.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((credentials, _)) = authority.rsplit_once('@') else { return key.to_owned() };
    format!("{before}://…{}", &rest[credentials.len()..])
}
