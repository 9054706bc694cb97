//! Several receivers on one PostgreSQL.

mod roles;
