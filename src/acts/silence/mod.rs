//! Silences in Alertmanager: which ones, whether they reach too far, and that each is made once.

pub mod cover;
pub mod expire;
mod extend;
pub mod make;
pub mod matchers;
mod said;
pub mod surplus;
