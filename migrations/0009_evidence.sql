-- What is shown in a card's thread beside what people asked for, and the switches that beats keep alive.

-- Evidence that nobody asked for is an answer as well. Its act is the first event of its card.
-- evidence: logs or graph; NULL: somebody asked for it.
ALTER TABLE answer ADD COLUMN evidence TEXT;
-- After this it is not sent any more.
ALTER TABLE answer ADD COLUMN until BIGINT;
-- By which it is counted.
ALTER TABLE answer ADD COLUMN route TEXT;

-- One switch for each set of labels of a heartbeat of the config, armed by its first beat. When its alarm is due is not
-- kept: it follows from these times and the timeout of the config, which a reload may change.
-- labels: a JSON object of strings, names in order. graced_at: its time was counted from here, since beats may not have
-- been heard before; NULL: not since the last beat. resolved_at: Alertmanager said that the alert is over, and no beat
-- has come since. missing_since: its alarm was raised then; NULL: it beats.
CREATE TABLE heartbeat (
    route         TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    labels        TEXT   NOT NULL,
    armed_at      BIGINT NOT NULL,
    beat_at       BIGINT NOT NULL,
    graced_at     BIGINT,
    resolved_at   BIGINT,
    missing_since BIGINT,
    PRIMARY KEY (route, name, labels)
);
