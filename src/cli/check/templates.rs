//! Checks that the custom templates render every sample.

use super::report::Report;
use crate::{
    config::Config,
    render::{Style, templates::Templates},
};

pub(super) fn check(config: &Config, report: &mut Report) {
    let style = match Style::new(&config.display, &config.links) {
        Ok(style) => style,
        Err(error) => return report.fault(error),
    };
    match Templates::load(config, &style) {
        Err(faults) => faults.0.iter().for_each(|fault| report.fault(fault)),
        Ok(templates) => {
            for tried in templates.tried() {
                let (key, path) = (&tried.file.key, tried.file.path.display());
                report.ok(format!("{key}: {path}, good on all {} samples", tried.samples));
                for note in &tried.notes {
                    report.note(format!("{key}: {path}: {note}"));
                }
            }
        }
    }
}
