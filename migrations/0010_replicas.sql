-- Several receivers on one database, of which one leads.

-- Who leads (name: leader). epoch: random, another one with each holder, and checked by each commit of the leader.
-- until: when the lease ends, by the database's clock.
CREATE TABLE lease (
    name   TEXT   NOT NULL PRIMARY KEY,
    holder TEXT   NOT NULL,
    epoch  TEXT   NOT NULL,
    until  BIGINT NOT NULL
);
