-- Which cards are due is read from the beginning of an index, however many are due.

-- That of the most severe of a card's incidents; 0 is the most severe.
ALTER TABLE card ADD COLUMN severity BIGINT NOT NULL DEFAULT 0;
UPDATE card SET severity = coalesce((SELECT min(incident.severity) FROM card_incident
    JOIN incident ON incident.id = card_incident.incident WHERE card_incident.card = card.id), 0);

-- Not in the room yet, in the order in which they go out.
CREATE INDEX card_new ON card (room, severity, dirty_since, id)
    WHERE dirty_since IS NOT NULL AND root_event IS NULL AND state = 'live';
-- In the room, and behind.
CREATE INDEX card_behind ON card (room, dirty_since, id) WHERE dirty_since IS NOT NULL AND root_event IS NOT NULL;
