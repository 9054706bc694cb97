-- What is shown in a card's thread beside what people asked for, and the switches that beats keep alive.

-- Evidence that nobody asked for is an answer as well. Its act is the first event of its card.
-- evidence: logs or graph; NULL: somebody asked for it.
ALTER TABLE answer ADD COLUMN evidence TEXT;
-- After this it is not sent any more.
ALTER TABLE answer ADD COLUMN until BIGINT;
-- By which it is counted.
ALTER TABLE answer ADD COLUMN route TEXT;

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
