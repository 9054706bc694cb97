-- A new group writes to fewer pages: each index whose entries lie in no order takes a page for almost each group.

-- By the name and the beginning of the fingerprint, which the alerts of a group rarely share with others.
DROP INDEX alert_named;
CREATE INDEX alert_named ON alert (name_hash, substr(fingerprint, 1, 6)) WHERE state <> 'resolved';

-- Open incidents are in incident_open.
DROP INDEX incident_group;
CREATE INDEX incident_past ON incident (route, receiver, group_hash, rev) WHERE closed_at IS NOT NULL;

-- The incident of which it speaks. Without a value: it spoke of none, or an earlier version wrote it.
ALTER TABLE notification ADD COLUMN incident TEXT;
CREATE INDEX notification_incident ON notification (incident, at) WHERE incident IS NOT NULL;
CREATE INDEX notification_other ON notification (group_hash, at) WHERE incident IS NULL;
DROP INDEX notification_group;
