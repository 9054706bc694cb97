-- Times are BIGINT milliseconds since the epoch. Nothing here is SQLite's own: PostgreSQL may follow.

-- store: the id of this file; device: the Matrix device that sends; seq: the last number given out (revisions, notes).
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- One accepted webhook. One that changes nothing only counts up `repeats` of the one that it repeats.
CREATE TABLE notification (
    id         TEXT   NOT NULL PRIMARY KEY,
    at         BIGINT NOT NULL,
    route      TEXT   NOT NULL,
    group_hash TEXT   NOT NULL,
    body_hash  TEXT   NOT NULL,
    repeats    BIGINT NOT NULL DEFAULT 0,
    body       BLOB
);
CREATE INDEX notification_at ON notification (at);

-- One Alertmanager group on one route, from first firing until every alert is resolved.
CREATE TABLE incident (
    id           TEXT   NOT NULL PRIMARY KEY,
    route        TEXT   NOT NULL,
    receiver     TEXT   NOT NULL,
    group_key    TEXT   NOT NULL,
    group_hash   TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    severity     BIGINT NOT NULL,
    opened_at    BIGINT NOT NULL,
    heard_at     BIGINT NOT NULL,
    closed_at    BIGINT,
    flaps        BIGINT NOT NULL,
    rev          BIGINT NOT NULL,
    notification TEXT   NOT NULL,
    doc          TEXT   NOT NULL
);
CREATE UNIQUE INDEX incident_open ON incident (route, receiver, group_hash) WHERE closed_at IS NULL;
CREATE INDEX incident_group ON incident (route, receiver, group_hash, opened_at);
CREATE INDEX incident_state ON incident (state, heard_at);
CREATE INDEX incident_closed ON incident (closed_at) WHERE closed_at IS NOT NULL;

CREATE TABLE alert (
    incident     TEXT   NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
    fingerprint  TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    starts_at    BIGINT NOT NULL,
    ends_at      BIGINT,
    absent_since BIGINT,
    changed_at   BIGINT NOT NULL,
    doc          TEXT   NOT NULL,
    PRIMARY KEY (incident, fingerprint)
);

-- What a room shows. `room` is the address that the config names.
CREATE TABLE card (
    id            TEXT   NOT NULL PRIMARY KEY,
    room          TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    root_event    TEXT,
    root_at       BIGINT,
    last_reply    TEXT,
    spoke_at      BIGINT,
    dirty_since   BIGINT,
    superseded_by TEXT
);
CREATE INDEX card_due ON card (room, dirty_since) WHERE dirty_since IS NOT NULL;

-- Which incidents a card shows, and up to which revision its room has seen them.
CREATE TABLE card_incident (
    card      TEXT   NOT NULL REFERENCES card (id) ON DELETE CASCADE,
    incident  TEXT   NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
    shown_rev BIGINT NOT NULL,
    PRIMARY KEY (card, incident)
);
CREATE INDEX card_incident_incident ON card_incident (incident);

-- Something to say in a card's thread; `op` is set while an op says it.
CREATE TABLE note (
    id           BIGINT NOT NULL PRIMARY KEY,
    card         TEXT   NOT NULL REFERENCES card (id) ON DELETE CASCADE,
    incident     TEXT   NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
    kind         TEXT   NOT NULL,
    at           BIGINT NOT NULL,
    notification TEXT   NOT NULL,
    args         TEXT   NOT NULL,
    op           TEXT
);
CREATE INDEX note_waiting ON note (card) WHERE op IS NULL;
CREATE INDEX note_op ON note (op) WHERE op IS NOT NULL;

-- A frozen room event. Its content is dropped once it is acknowledged.
CREATE TABLE op (
    txn_id       TEXT   NOT NULL PRIMARY KEY,
    card         TEXT   NOT NULL REFERENCES card (id) ON DELETE CASCADE,
    room         TEXT   NOT NULL,
    kind         TEXT   NOT NULL,
    content      TEXT   NOT NULL,
    rev          BIGINT NOT NULL,
    plainness    BIGINT NOT NULL,
    speaks       BIGINT NOT NULL,
    since        BIGINT NOT NULL,
    notification TEXT   NOT NULL,
    incident     TEXT   NOT NULL,
    device       TEXT,
    state        TEXT   NOT NULL,
    first_try    BIGINT,
    next_try     BIGINT,
    attempts     BIGINT NOT NULL,
    event_id     TEXT,
    error        TEXT,
    ended_at     BIGINT
);
CREATE UNIQUE INDEX op_unfinished ON op (room) WHERE state IN ('in_flight', 'in_doubt');
CREATE INDEX op_card ON op (card);
CREATE INDEX op_left ON op (state, room) WHERE state NOT IN ('done', 'refused');

CREATE TABLE room (
    name        TEXT NOT NULL PRIMARY KEY,
    room_id     TEXT,
    held_reason TEXT,
    held_until  BIGINT,
    successor   TEXT
);
