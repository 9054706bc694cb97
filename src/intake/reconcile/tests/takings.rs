//! When a taking ends, and what it holds back.

use super::*;

#[test]
fn a_taking_ends_with_the_incident_or_with_something_that_it_had_not_known() {
    // What came before, what comes now, and whether that ends a taking.
    let cases: [(&[&str], &str, bool, &str); 11] = [
        (&["a"], "a", false, "a repeat"),
        (&["a"], "-a", true, "it closes"),
        (&["a b"], "-a b", false, "a part of it resolves"),
        (&["a b", "-a b"], "a b", false, "a flap"),
        (&["a b"], "b", false, "one is absent"),
        (&["a"], "", false, "all are absent, as under a silence"),
        (&["a", ""], "a", false, "absent and back"),
        (&["a"], "a b", true, "one that it had not known"),
        (&["a"], "a -b", false, "one that was over when it was first seen"),
        (&["a", "-a"], "a", true, "it reopens"),
        (&["a b", "-a b", "b"], "a c", true, "a flap and another one"),
    ];
    for (before, now, ends, why) in cases {
        let mut scene = Scene::new();
        for alerts in before {
            scene.after(MINUTE).shown(alerts);
        }
        let known = scene.incident.clone().expect("an incident");
        let changes = scene.after(MINUTE).get(&payload(now));
        assert_eq!(changes.ends_taking(&known), ends, "{why}");
    }
}

#[test]
fn nobody_is_reminded_of_what_somebody_took() {
    for (taken, expected) in [(false, "reminded firing reminder()"), (true, "unchanged firing")] {
        let mut scene = play(&[("a", "opened firing")]);
        scene.taken = taken;
        assert_eq!(scene.after(30 * MINUTE).shown("a"), expected, "taken: {taken}");
        assert_eq!(scene.after(MINUTE).shown("a b"), "changed firing new_firing(b)", "but of all else");
    }
}
