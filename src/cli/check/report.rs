//! The findings of a check, a line each.

use std::{fmt::Display, process::ExitCode};

/// Prints the findings and counts them.
#[derive(Debug, Default)]
pub(super) struct Report {
    good: usize,
    notes: usize,
    faults: usize,
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

    pub(super) fn fault(&mut self, line: impl Display) {
        self.faults += 1;
        eprintln!("FAULT  {line}");
    }

    pub(super) fn end(&self, online: bool) -> ExitCode {
        let Self { good, notes, faults } = self;
        match faults {
            0 if online => println!("all is well ({good} ok, {notes} to note)"),
            0 => {
                println!("the config is good ({good} ok, {notes} to note); check --online asks the homeserver as well");
            }
            1 => eprintln!("1 fault"),
            _ => eprintln!("{faults} faults"),
        }
        if self.faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
