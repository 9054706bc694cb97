-- Words in place of numbers that stand for something.

-- form: how much the event shows (full, counts, one_line).
ALTER TABLE op ADD COLUMN form TEXT NOT NULL DEFAULT 'full';
UPDATE op SET form = CASE plainness WHEN 0 THEN 'full' WHEN 1 THEN 'counts' ELSE 'one_line' END;
ALTER TABLE op DROP COLUMN plainness;
