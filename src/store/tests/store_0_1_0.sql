-- What 0.1.0 holds of three groups at 1 800 000 000 000: two are open, one was opened and closed while the clock was three
-- days ahead.
INSERT INTO meta (key, value) VALUES ('store', '01KCSTORE'), ('seq', '6');
INSERT INTO notification (id, at, route, group_hash, body_hash, repeats, body) VALUES
    ('01A', 1799996400000, 'default', 'h1', 'b1', 0, NULL),
    ('01B', 1800000000000, 'default', 'h2', 'b2', 0, NULL),
    ('01C', 1800259200000, 'default', 'd0b4034c6ca7ee87f65ccb76f6c7a8ca', 'b3', 0, NULL);
INSERT INTO incident (id, route, receiver, group_key, group_hash, state, severity, opened_at, heard_at, closed_at, flaps,
    rev, notification, doc) VALUES
    ('I1', 'default', 'r', 'early', 'h1', 'firing', 0, 1799996400000, 1799996400000, NULL, 0, 1, '01A',
     '{"group_labels":{},"external_url":""}'),
    ('I2', 'default', 'r', 'late', 'h2', 'firing', 0, 1800000000000, 1800000000000, NULL, 0, 2, '01B',
     '{"group_labels":{},"external_url":""}'),
    ('I3', 'default', 'r', 'ahead', 'd0b4034c6ca7ee87f65ccb76f6c7a8ca', 'resolved', 0, 1800259200000, 1800259300000, 1800259300000, 0, 4, '01C',
     '{"group_labels":{},"external_url":""}');
INSERT INTO alert (incident, fingerprint, state, starts_at, ends_at, absent_since, changed_at, doc) VALUES
    ('I1', 'a', 'firing', 1799996400000, NULL, NULL, 1799996400000, '{"labels":{},"annotations":{}}'),
    ('I2', 'a', 'absent', 1800000000000, NULL, 1800000000000, 1800000000000, '{"labels":{},"annotations":{}}'),
    ('I3', 'a', 'resolved', 1800259200000, 1800259300000, NULL, 1800259300000, '{"labels":{},"annotations":{}}');
INSERT INTO card (id, room, kind, root_event, root_at, last_reply, spoke_at, dirty_since, superseded_by) VALUES
    ('C1', '!room:example.org', 'incident', '$1', 1799996400000, NULL, 1799996400000, NULL, NULL),
    ('C3', '!room:example.org', 'incident', '$3', 1800259200000, NULL, 1800259200000, 1800259300000, NULL);
INSERT INTO card_incident (card, incident, shown_rev) VALUES ('C1', 'I1', 1), ('C3', 'I3', 3);
INSERT INTO note (id, card, incident, kind, at, notification, args, op) VALUES
    (5, 'C3', 'I3', 'resolved', 1800259300000, '01C', '{}', NULL);
