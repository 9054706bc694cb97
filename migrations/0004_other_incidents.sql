-- Finds the incidents in which an alert is not resolved, when it is reported resolved in another.
CREATE INDEX alert_unresolved ON alert (fingerprint, incident) WHERE state <> 'resolved';
