-- What is shown in a card's thread beside what people asked for, and the switches that beats keep alive.

-- logs or graph: it is evidence; NULL: the answer to something else.
ALTER TABLE answer ADD COLUMN evidence TEXT;
-- After this it is not sent any more; NULL: it waits as long as it takes. Only what nobody asked for has it.
ALTER TABLE answer ADD COLUMN until BIGINT;

-- One switch for each set of labels of a heartbeat of the config, armed by its first beat.
-- labels: a JSON object of strings, names in order. due_at: when its alarm is raised if no beat comes.
-- graced: due_at was extended once since the last beat. resolved_at: Alertmanager said that the alert is over, and no
-- beat has come since. state: beating or missing.
CREATE TABLE heartbeat (
    route       TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    labels      TEXT   NOT NULL,
    armed_at    BIGINT NOT NULL,
    beat_at     BIGINT NOT NULL,
    due_at      BIGINT NOT NULL,
    graced      BIGINT NOT NULL DEFAULT 0,
    resolved_at BIGINT,
    state       TEXT   NOT NULL,
    PRIMARY KEY (route, name, labels)
);
CREATE INDEX heartbeat_due ON heartbeat (due_at) WHERE state = 'beating';
