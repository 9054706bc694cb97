-- What the alerts of a group had in common when the incident was opened, as JSON; without a value: nothing. `alert.doc` says
-- only what differs from it (a JSON merge patch), so a version from before this step cannot read what was written after it.
ALTER TABLE incident ADD COLUMN common TEXT;
