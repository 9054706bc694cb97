-- Cards in every state that 0.1.0 knew, and events of every form. The largest of all numbers as `shown_rev` or `rev`
-- stands for a last edit.
INSERT INTO meta (key, value) VALUES ('seq', '100');
INSERT INTO notification (id, at, route, group_hash, body_hash, repeats, body) VALUES
    ('01A', 1799996400000, 'default', 'h', 'b', 0, NULL);
INSERT INTO incident (id, route, receiver, group_key, group_hash, state, severity, opened_at, heard_at, closed_at, flaps,
    rev, notification, doc) VALUES
    ('live', 'default', 'r', 'live', 'h1', 'firing', 0, 1799996400000, 1799996400000, NULL, 0, 10, '01A',
     '{"group_labels":{},"external_url":""}'),
    ('pending', 'default', 'r', 'pending', 'h2', 'firing', 0, 1799996400000, 1799996400000, NULL, 0, 20, '01A',
     '{"group_labels":{},"external_url":""}'),
    ('done', 'default', 'r', 'done', 'a4c3ed04a95a3da14a9d235c83d868be', 'firing', 0, 1799996400000, 1799996400000, NULL, 0, 30, '01A',
     '{"group_labels":{},"external_url":""}'),
    ('unrouted', 'default', 'r', 'unrouted', 'h4', 'stale', 0, 1799996400000, 1799996400000, 1799996500000, 0, 40, '01A',
     '{"group_labels":{},"external_url":""}'),
    ('unrouted-done', 'default', 'r', 'unrouted-done', 'h5', 'stale', 0, 1799996400000, 1799996400000, 1799996500000, 0,
     50, '01A', '{"group_labels":{},"external_url":""}'),
    ('waiting', 'default', 'r', 'waiting', 'h6', 'firing', 0, 1799996400000, 1799996400000, NULL, 0, 60, '01A',
     '{"group_labels":{},"external_url":""}'),
    ('sending', 'default', 'r', 'sending', 'h7', 'firing', 0, 1799996400000, 1799996400000, NULL, 0, 70, '01A',
     '{"group_labels":{},"external_url":""}');
INSERT INTO card (id, room, kind, root_event, root_at, last_reply, spoke_at, dirty_since, superseded_by) VALUES
    ('live', '!room:example.org', 'incident', '$live', 1799996400000, NULL, 1799996400000, 1799996500000, NULL),
    ('pending', '!room:example.org', 'incident', '$pending', 1799996400000, NULL, 1799996400000, 1799996510000,
     'pending-next'),
    ('pending-next', '!room:example.org', 'incident', '$pending-next', 1799996400000, NULL, 1799996400000, NULL, NULL),
    ('done', '!room:example.org', 'incident', '$done', 1799996400000, NULL, 1799996400000, NULL, 'done-next'),
    ('done-next', '!room:example.org', 'incident', '$done-next', 1799996400000, NULL, 1799996400000, NULL, NULL),
    ('unrouted', '!room:example.org', 'incident', '$unrouted', 1799996400000, NULL, 1799996400000, 1799996520000,
     'unrouted'),
    ('unrouted-done', '!room:example.org', 'incident', '$unrouted-done', 1799996400000, NULL, 1799996400000, NULL,
     'unrouted-done'),
    ('waiting', '!room:example.org', 'incident', '$waiting', 1799996400000, NULL, 1799996400000, NULL, 'waiting-next'),
    ('waiting-next', '!room:example.org', 'incident', NULL, NULL, NULL, NULL, 1799996530000, NULL),
    ('sending', '!room:example.org', 'incident', '$sending', 1799996400000, NULL, 1799996400000, NULL, 'sending-next'),
    ('sending-next', '!room:example.org', 'incident', '$sending-next', 1799996400000, NULL, 1799996400000, NULL, NULL);
INSERT INTO card_incident (card, incident, shown_rev) VALUES
    ('live', 'live', 9), ('pending', 'pending', 0), ('pending-next', 'pending', 20),
    ('done', 'done', 9223372036854775807), ('done-next', 'done', 30), ('unrouted', 'unrouted', 0),
    ('unrouted-done', 'unrouted-done', 9223372036854775807), ('waiting', 'waiting', 59), ('waiting-next', 'waiting', 0),
    ('sending', 'sending', 0), ('sending-next', 'sending', 70);
INSERT INTO op (txn_id, card, room, kind, content, rev, plainness, speaks, since, notification, incident, device, state,
    first_try, next_try, attempts, event_id, error, ended_at) VALUES
    ('full', 'live', '!room:example.org', 'card', '', 9, 0, 1, 1799996400000, '01A', 'live', 'D', 'done',
     1799996400000, NULL, 1, '$live', NULL, 1799996400000),
    ('counts', 'done', '!room:example.org', 'edit', '', 9223372036854775807, 1, 0, 1799996400000, '01A', 'done', 'D',
     'done', 1799996400000, NULL, 1, '$edit', NULL, 1799996400000),
    ('one-line', 'live', '!room:example.org', 'edit', '{"body":"x"}', 9, 2, 0, 1799996400000, '01A', 'live', 'D', 'dead',
     1799996400000, NULL, 1, NULL, 'too_large: 413', 1799996400000),
    ('last', 'sending', '!room:example.org', 'edit', '{"body":"x"}', 9223372036854775807, 1, 0, 1799996400000, '01A',
     'sending', 'D', 'in_flight', 1799996400000, NULL, 1, NULL, NULL, NULL);
