-- Finds the incidents in which an alert is not resolved, when it is reported resolved in another.
CREATE INDEX alert_unresolved ON alert (fingerprint, incident) WHERE state <> 'resolved';

-- by_receiver: it was notified without a route in the URL, so that the config's "receivers" say which route it takes.
-- moved_to: the route that its notifications take now.
ALTER TABLE incident ADD COLUMN by_receiver BIGINT NOT NULL DEFAULT 0;
ALTER TABLE incident ADD COLUMN moved_to TEXT;
CREATE INDEX incident_moved ON incident (moved_to, receiver, group_hash) WHERE moved_to IS NOT NULL;
