-- What Alertmanager's API says, and what people ask for in rooms.

-- What the API said of the alert last; NULL: nothing. JSON, see model/seen.rs.
ALTER TABLE alert ADD COLUMN seen TEXT;
-- When a poll last found one of its alerts in Alertmanager, if that was long after its last notification.
ALTER TABLE incident ADD COLUMN listed_at BIGINT;
-- What polls called gone, and may find again.
CREATE INDEX incident_gone ON incident (route, receiver, closed_at) WHERE state = 'gone';
-- When the incident opened, or reopened last; escalation counts from here.
ALTER TABLE incident ADD COLUMN fired_at BIGINT NOT NULL DEFAULT 0;
UPDATE incident SET fired_at = opened_at;

-- The only alert that an event is about, by its fingerprint.
ALTER TABLE op ADD COLUMN alert TEXT;
-- Finds the card of an event to which somebody reacts or replies.
CREATE INDEX op_event ON op (event_id) WHERE event_id IS NOT NULL;

-- What somebody asked for in a room, by an event. It is here before Alertmanager is asked for anything.
-- megolm: session and index of the encrypted event, so that a copy of it acts no second time.
-- state: asked, in_doubt (Alertmanager may have done it), live (its effect lasts), ended (that is over), done (it had no
-- lasting effect), refused. incident has no foreign key: the row stays until it is too old to be read again.
CREATE TABLE act (
    id         TEXT   NOT NULL PRIMARY KEY,
    event_id   TEXT   NOT NULL,
    megolm     TEXT,
    route      TEXT   NOT NULL,
    room       TEXT   NOT NULL,
    sender     TEXT   NOT NULL,
    name       TEXT   NOT NULL DEFAULT '',
    kind       TEXT   NOT NULL,
    incident   TEXT,
    card       TEXT,
    args       TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    outcome    TEXT,
    asked_at   BIGINT NOT NULL,
    next_try   BIGINT,
    attempts   BIGINT NOT NULL DEFAULT 0,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX act_event ON act (event_id);
CREATE UNIQUE INDEX act_megolm ON act (megolm) WHERE megolm IS NOT NULL;
CREATE INDEX act_incident ON act (incident, kind) WHERE incident IS NOT NULL;
CREATE INDEX act_unfinished ON act (route, next_try) WHERE state IN ('asked', 'in_doubt');
CREATE INDEX act_live ON act (route) WHERE state = 'live';
CREATE INDEX act_over ON act (ended_at) WHERE ended_at IS NOT NULL;

-- The silences that an act makes, one for each alertname. Times are those of the wall clock, as Alertmanager's are.
-- state: wanted, in_doubt, live, ended, failed. silence_id: once Alertmanager has given it.
CREATE TABLE silence (
    act        TEXT   NOT NULL REFERENCES act (id) ON DELETE CASCADE,
    n          BIGINT NOT NULL,
    route      TEXT   NOT NULL,
    incident   TEXT   NOT NULL,
    marker     TEXT   NOT NULL,
    matchers   TEXT   NOT NULL,
    comment    TEXT   NOT NULL,
    created_by TEXT   NOT NULL,
    starts_at  BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL,
    silence_id TEXT,
    state      TEXT   NOT NULL,
    PRIMARY KEY (act, n)
);
CREATE INDEX silence_incident ON silence (incident);
CREATE INDEX silence_id ON silence (silence_id) WHERE silence_id IS NOT NULL;
CREATE INDEX silence_open ON silence (route) WHERE state IN ('wanted', 'in_doubt', 'live');

-- What a room is answered: notices and reactions, which are not a card's own events. Frozen, like an op.
-- state: waiting, in_doubt, done, refused.
CREATE TABLE answer (
    id       BIGINT NOT NULL PRIMARY KEY,
    act      TEXT   NOT NULL,
    room     TEXT   NOT NULL,
    card     TEXT,
    type     TEXT   NOT NULL,
    content  TEXT   NOT NULL,
    txn_id   TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    device   TEXT,
    state    TEXT   NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    event_id TEXT,
    ended_at BIGINT
);
CREATE INDEX answer_waiting ON answer (room, id) WHERE state IN ('waiting', 'in_doubt');
CREATE INDEX answer_act ON answer (act);
CREATE INDEX answer_event ON answer (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX answer_over ON answer (ended_at) WHERE ended_at IS NOT NULL;
-- The last ones of a room, which reading it back finds among its events.
CREATE INDEX answer_sent ON answer (room, id) WHERE event_id IS NOT NULL;

-- The last event of a room that was looked at for acts. By room id: an address may come to stand for another room.
CREATE TABLE room_position (
    room_id  TEXT   NOT NULL PRIMARY KEY,
    event_id TEXT   NOT NULL,
    at       BIGINT NOT NULL
);

-- The escalation steps of an incident that have been taken since it opened or reopened.
CREATE TABLE escalation (
    incident TEXT   NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
    step     BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (incident, step)
);
