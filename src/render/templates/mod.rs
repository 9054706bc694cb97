//! The operator's own templates: read and tried at start, and replaced by the built-in one for every message that they
//! cannot give.

mod engine;
mod samples;
mod sanitise;
pub(super) mod set;
#[cfg(test)]
mod tests;
mod trial;
mod value;
pub(super) mod view;

pub use self::{
    engine::{FallbackReason, TemplateError},
    set::{Fallback, Templates},
    trial::{TemplateFileError, TemplateFileErrors, TemplateReport},
};
