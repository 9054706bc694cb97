-- Ops in the order of the store's counter, since clocks jump; and what their failures tell.
-- frozen_seq, ended_seq: the counter when the op was frozen and when it ended; 0 for ops of earlier versions.
-- failed_seq: the counter at the last try that had no usable answer. alone: another event got through between two such
-- tries, so that the homeserver takes sends and not this one. reason: why the last try failed.
ALTER TABLE op ADD COLUMN frozen_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE op ADD COLUMN ended_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE op ADD COLUMN failed_seq BIGINT;
ALTER TABLE op ADD COLUMN alone BIGINT NOT NULL DEFAULT 0;
ALTER TABLE op ADD COLUMN reason TEXT;
UPDATE op SET reason = CASE
    WHEN error LIKE 'server_error:%' THEN 'server_error'
    WHEN error LIKE 'no_answer:%' THEN 'no_answer'
    WHEN error LIKE 'unreadable:%' THEN 'unreadable'
    END
WHERE state = 'dead';
CREATE INDEX op_done ON op (room, ended_seq, ended_at) WHERE state = 'done';
-- Sends that were acknowledged at once: what proves that the homeserver takes events.
CREATE INDEX op_passed ON op (ended_seq) WHERE state = 'done' AND attempts = 1;
