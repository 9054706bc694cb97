-- An alert that is reported resolved is looked for in all open incidents of its route.
CREATE INDEX alert_held ON alert (fingerprint) WHERE state <> 'resolved';
