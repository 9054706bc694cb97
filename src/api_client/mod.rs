//! What Alertmanager and the sources of evidence are asked with: an HTTP client without surprises, secrets as their files
//! have them now, answers of bounded length, errors in words.

mod answer;
mod ask;
mod connection;
mod secrets;
#[cfg(test)]
mod tests;

pub use self::{
    answer::Answer,
    ask::{Question, Unanswered, ask},
};
pub(crate) use self::{
    answer::{QUOTED, Unread, read},
    connection::{Service, build, host, in_words},
    secrets::Secrets,
};
