//! Which alert of an incident evidence is about.
