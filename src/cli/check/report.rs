//! The findings of a check, a line each.

use std::{fmt::Display, process::ExitCode};

/// Prints the findings and counts them.
#[derive(Debug, Default)]
pub(super) struct Report {
    good: usize,
    notes: usize,
    faults: usize,
    unchecked: usize,
}

impl Report {
    pub(super) fn ok(&mut self, line: impl Display) {
        self.good += 1;
        println!("ok     {line}");
    }

    /// Prints something that needs no action.
    pub(super) fn note(&mut self, line: impl Display) {
        self.notes += 1;
        println!("note   {line}");
    }

    /// Prints what could not be checked, so that the end does not claim it.
    pub(super) fn unchecked(&mut self, line: impl Display) {
        self.unchecked += 1;
        self.note(line);
    }

    pub(super) fn fault(&mut self, line: impl Display) {
        self.faults += 1;
        eprintln!("FAULT  {line}");
    }

    pub(super) fn end(&self, online: bool) -> ExitCode {
        match self.faults {
            0 => println!("{}", self.verdict(online)),
            1 => eprintln!("1 fault"),
            faults => eprintln!("{faults} faults"),
        }
        if self.faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// What was found without a fault: no more than was checked.
    fn verdict(&self, online: bool) -> String {
        let Self { good, notes, unchecked, .. } = self;
        match (online, unchecked) {
            (true, 0) => format!("all is well ({good} ok, {notes} to note)"),
            (true, _) => format!("no fault in what was checked ({good} ok, {notes} to note, {unchecked} not checked)"),
            (false, _) => {
                format!("the config is good ({good} ok, {notes} to note); check --online asks the homeserver as well")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_well_only_if_all_was_checked() {
        let mut report = Report::default();
        report.ok("x");
        assert_eq!(report.verdict(true), "all is well (1 ok, 0 to note)");
        report.unchecked("y");
        assert_eq!(report.verdict(true), "no fault in what was checked (1 ok, 1 to note, 1 not checked)");
    }
}
