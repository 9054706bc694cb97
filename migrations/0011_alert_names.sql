-- Alerts that are not resolved are found by their names and fingerprints, no longer by their fingerprints alone: those of
-- one notification, which mostly share a name, then lie beside each other in the index, and not each on a page by itself.

-- See model/alert.rs; 0 for alerts that earlier versions wrote.
ALTER TABLE alert ADD COLUMN name_hash BIGINT NOT NULL DEFAULT 0;
CREATE INDEX alert_named ON alert (name_hash, fingerprint, incident) WHERE state <> 'resolved';
DROP INDEX alert_unresolved;
