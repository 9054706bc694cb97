-- What a webhook, a room's turn, the sync or a scrape asks for is found by an index, however many cards, events and
-- notes there are. Also the ends of foreign keys: a row that goes is looked for in all that refers to it.

CREATE INDEX note_card ON note (card);
CREATE INDEX note_incident ON note (incident);

-- A first event that is gone from its room, and all cards of a room.
CREATE INDEX card_room ON card (room, root_event);
-- The cards whose place another one took.
CREATE INDEX card_superseded ON card (superseded_by) WHERE superseded_by IS NOT NULL;

-- The events of a room in the order in which they were acknowledged, and what is over by its age.
CREATE INDEX op_done ON op (room, ended_at) WHERE state = 'done';
CREATE INDEX op_over ON op (ended_at) WHERE state IN ('done', 'refused');

-- Repeats of a group, and what an event brought into the room.
CREATE INDEX notification_group ON notification (group_hash, at);
-- Which notifications are still some incident's last.
CREATE INDEX incident_notification ON incident (notification);
