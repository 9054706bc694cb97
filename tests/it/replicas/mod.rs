//! Several receivers on one PostgreSQL, and the way there.

mod check;
mod copy;
mod faults;
mod kills;
mod load;
mod roles;
mod sessions;
