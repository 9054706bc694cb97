//! What is told of an import: a line for each key, in the order of the file.

use super::keys::Key;
use crate::cli::support::output::clean;

#[derive(Default)]
pub(super) struct Report {
    lines: Vec<Line>,
    /// What to do with Alertmanager's config.
    urls: Vec<String>,
}

struct Line {
    /// `None`: of a key that is not there.
    at: Option<usize>,
    key: String,
    to: Option<String>,
    verdict: Verdict,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It means the same here.
    Kept,
    /// It is carried over and does something else here.
    Changes,
    /// It is for the operator to finish.
    Hand,
    /// It cannot be carried over, and nothing depends on it.
    Nothing,
    /// metio does not know it.
    Ignored,
}

impl Report {
    pub(super) fn kept(&mut self, key: &Key, to: &str) {
        self.add(key, Some(to), Verdict::Kept, "");
    }

    pub(super) fn changes(&mut self, key: &Key, to: &str, text: &str) {
        self.add(key, Some(to), Verdict::Changes, text);
    }

    pub(super) fn hand(&mut self, key: &Key, to: Option<&str>, text: &str) {
        self.add(key, to, Verdict::Hand, text);
    }

    pub(super) fn nothing(&mut self, key: &Key, text: &str) {
        self.add(key, None, Verdict::Nothing, text);
    }

    pub(super) fn ignored(&mut self, key: &Key) {
        self.add(key, None, Verdict::Ignored, "");
    }

    /// A key that is not set and has to be thought about all the same.
    pub(super) fn unset(&mut self, key: &str, to: &str, text: &str) {
        let (key, to) = (key.to_owned(), Some(to.to_owned()));
        self.lines.push(Line { at: None, key, to, verdict: Verdict::Hand, text: text.to_owned() });
    }

    /// A line of the part on Alertmanager.
    pub(super) fn url(&mut self, line: String) {
        self.urls.push(line);
    }

    fn add(&mut self, key: &Key, to: Option<&str>, verdict: Verdict, text: &str) {
        let (at, to) = (Some(key.line), to.map(str::to_owned));
        self.lines.push(Line { at, key: key.path.clone(), to, verdict, text: text.to_owned() });
    }

    pub(super) fn needs_a_hand(&self) -> bool {
        self.count(Verdict::Hand) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|line| line.verdict == verdict).count()
    }

    /// All of it; `file` is what was read, `output` where the TOML is or may go.
    pub(super) fn text(&self, file: &str, output: &str) -> String {
        let mut told = vec![
            "read as metio/matrix-alertmanager-receiver reads it at commit d74351b; other versions may know other keys"
                .to_owned(),
        ];
        let mut lines: Vec<&Line> = self.lines.iter().collect();
        // The sort is stable: what is not in the file comes last, in the order in which it was thought of.
        lines.sort_by_key(|line| line.at.unwrap_or(usize::MAX));
        told.extend(lines.into_iter().map(|line| line.text(file)));
        let [kept, changes, hand, nothing, ignored] =
            [Verdict::Kept, Verdict::Changes, Verdict::Hand, Verdict::Nothing, Verdict::Ignored]
                .map(|verdict| self.count(verdict));
        told.push(format!(
            "{kept} kept, {changes} changed, {hand} for your hand, {nothing} without counterpart, {ignored} ignored"
        ));
        told.extend(self.urls.iter().cloned());
        told.push(format!("next: matrix-alertmanager-receiver check --online --config {output}"));
        let lines: Vec<String> = told.iter().map(|line| clean(line)).collect();
        lines.join("\n") + "\n"
    }
}

impl Line {
    fn text(&self, file: &str) -> String {
        let place = self.at.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        let to = self.to.as_ref().map_or_else(String::new, |to| format!(" -> {to}"));
        let verdict = match self.verdict {
            Verdict::Kept => "kept",
            Verdict::Changes => "changes",
            Verdict::Hand => "needs your hand",
            Verdict::Nothing => "no counterpart",
            Verdict::Ignored => "ignored, as metio does: it knows no such key",
        };
        let text = if self.text.is_empty() { String::new() } else { format!(": {}", self.text) };
        format!("{place}: {}{to}: {verdict}{text}", without_credentials(&self.key))
    }
}

/// A URL may be part of a key, and user name and password part of it.
fn without_credentials(key: &str) -> String {
    let Some((before, rest)) = key.split_once("://") else { return key.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((credentials, _)) = authority.rsplit_once('@') else { return key.to_owned() };
    format!("{before}://…{}", &rest[credentials.len()..])
}
