-- What a webhook, a room's turn, the sync or a scrape asks for is found by an index, however many cards, events and
-- notes there are. Also the ends of foreign keys: a row that goes is looked for in all that refers to it.

CREATE INDEX note_card ON note (card);
CREATE INDEX note_incident ON note (incident);

-- A first event that is gone from its room. Not by room: a room has far too many cards for that.
CREATE INDEX card_root ON card (root_event) WHERE root_event IS NOT NULL;
-- The cards whose place another one took.
CREATE INDEX card_superseded ON card (superseded_by) WHERE superseded_by IS NOT NULL;

-- The events of a room in the order in which they were acknowledged, and what is over by its age.
CREATE INDEX op_done_at ON op (room, ended_at) WHERE state = 'done';
CREATE INDEX op_over ON op (ended_at) WHERE state IN ('done', 'refused');

-- Repeats of a group, and what an event brought into the room.
CREATE INDEX notification_group ON notification (group_hash, at);
-- What has not been heard of for long.
CREATE INDEX incident_heard ON incident (route, heard_at) WHERE closed_at IS NULL;
-- Which notifications are still some incident's last.
CREATE INDEX incident_notification ON incident (notification);
