-- Words in place of values that stand for something else.

-- form: how much the event shows (full, counts, one_line).
ALTER TABLE op ADD COLUMN form TEXT NOT NULL DEFAULT 'full';
UPDATE op SET form = CASE plainness WHEN 0 THEN 'full' WHEN 1 THEN 'counts' ELSE 'one_line' END;
ALTER TABLE op DROP COLUMN plainness;

-- state: live; superseded (by the card that superseded_by names) and unrouted, which both owe their room a last edit;
-- retired, once that is done. Until now a card that superseded itself was unrouted, and the largest of all numbers as
-- the revision that it shows said that it was retired.
ALTER TABLE card ADD COLUMN state TEXT NOT NULL DEFAULT 'live';
UPDATE card SET state = CASE
    WHEN NOT EXISTS (SELECT 1 FROM card_incident WHERE card_incident.card = card.id
                     AND card_incident.shown_rev < 9223372036854775807) THEN 'retired'
    WHEN superseded_by = id THEN 'unrouted'
    ELSE 'superseded'
    END
WHERE superseded_by IS NOT NULL;
UPDATE card SET superseded_by = NULL WHERE superseded_by = id;
UPDATE card_incident
    SET shown_rev = (SELECT incident.rev FROM incident WHERE incident.id = card_incident.incident)
    WHERE shown_rev = 9223372036854775807;

-- last_edit: it is the last edit of its card.
ALTER TABLE op ADD COLUMN last_edit BIGINT NOT NULL DEFAULT 0;
UPDATE op SET last_edit = 1 WHERE kind = 'edit' AND rev = 9223372036854775807;
UPDATE op SET rev = coalesce((SELECT max(incident.rev) FROM incident
    JOIN card_incident ON card_incident.incident = incident.id WHERE card_incident.card = op.card), 0)
    WHERE rev = 9223372036854775807;

-- Nothing more is said on a card that is not live.
DELETE FROM note WHERE op IS NULL AND card IN (SELECT id FROM card WHERE state <> 'live');
