//! What a silence matches: by equality only, so that nothing in a label can be read as a pattern.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    alertmanager::api::Matcher,
    model::{Alert, AlertState, Incident, Labels},
};

/// Silences that one act makes at most, one for each alertname.
pub const MOST: usize = 5;
const ALERTNAME: &str = "alertname";

/// One silence that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub labels: Labels,
    /// What all alerts that it is for have in common beyond that.
    pub common: Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatcherFault {
    /// Everything is resolved or gone.
    NothingOpen,
    /// More alertnames than silences are made at once.
    TooMany(usize),
    /// No label could be matched.
    NoLabels,
    /// The alert is not part of the incident any more.
    NoSuchAlert,
    /// It is an alert of the receiver's own.
    NotAlertmanagers,
}

/// One for each alertname of what is not over: the group's labels and the name.
///
/// # Errors
/// When nothing can be silenced.
pub fn of_incident(incident: &Incident) -> Result<Vec<Wanted>, MatcherFault> {
    let mut by_name: BTreeMap<Option<&str>, Vec<&Alert>> = BTreeMap::new();
    for alert in incident.alerts.iter().filter(|alert| is_open(alert)) {
        by_name.entry(alert.doc.labels.get(ALERTNAME).map(String::as_str)).or_default().push(alert);
    }
    if by_name.is_empty() {
        return Err(MatcherFault::NothingOpen);
    }
    if by_name.len() > MOST {
        return Err(MatcherFault::TooMany(by_name.len()));
    }
    let one = |(name, alerts): (Option<&str>, Vec<&Alert>)| {
        let mut labels = incident.doc.group_labels.clone();
        labels.extend(name.map(|name| (ALERTNAME.to_owned(), name.to_owned())));
        let mut common = common_labels(&alerts);
        common.retain(|name, _| !labels.contains_key(name));
        Wanted { labels, common }
    };
    let wanted: Vec<Wanted> = by_name.into_iter().map(one).collect();
    // Alertmanager refuses matchers that all match nothing.
    if wanted.iter().any(|wanted| wanted.labels.values().all(String::is_empty)) {
        return Err(MatcherFault::NoLabels);
    }
    Ok(wanted)
}

/// All labels of one alert.
///
/// # Errors
/// When it cannot be silenced.
pub fn of_alert(incident: &Incident, fingerprint: &str) -> Result<Vec<Wanted>, MatcherFault> {
    let alert = incident.alerts.iter().find(|alert| alert.fingerprint == fingerprint);
    let alert = alert.ok_or(MatcherFault::NoSuchAlert)?;
    if !is_open(alert) {
        return Err(MatcherFault::NothingOpen);
    }
    if alert.doc.labels.values().all(String::is_empty) {
        return Err(MatcherFault::NoLabels);
    }
    Ok(vec![Wanted { labels: alert.doc.labels.clone(), common: Labels::new() }])
}

#[must_use]
pub fn matchers(labels: &Labels) -> Vec<Matcher> {
    let matcher = |(name, value): (&String, &String)| Matcher {
        name: name.clone(),
        value: value.clone(),
        is_regex: false,
        is_equal: true,
    };
    labels.iter().map(matcher).collect()
}

/// As they are stored.
#[must_use]
pub fn parse(matchers: &str) -> Vec<Matcher> {
    serde_json::from_str(matchers).unwrap_or_default()
}

/// `alertname="A", job="b"`, for people.
#[must_use]
pub fn words(matchers: &[Matcher]) -> String {
    let words = matchers.iter().map(|matcher| {
        let operator = match (matcher.is_equal, matcher.is_regex) {
            (true, false) => "=",
            (true, true) => "=~",
            (false, false) => "!=",
            (false, true) => "!~",
        };
        format!("{}{operator}{:?}", matcher.name, matcher.value)
    });
    words.collect::<Vec<_>>().join(", ")
}

fn is_open(alert: &Alert) -> bool {
    matches!(alert.state, AlertState::Firing | AlertState::Absent)
}

fn common_labels(alerts: &[&Alert]) -> Labels {
    let Some((first, others)) = alerts.split_first() else { return Labels::new() };
    let mut common: BTreeSet<(&String, &String)> = first.doc.labels.iter().collect();
    for other in others {
        common.retain(|(name, value)| other.doc.labels.get(*name) == Some(value));
    }
    common.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{
        AlertDoc, IncidentDoc, IncidentId, IncidentKey, IncidentState, LeftOut, NotificationId, RouteName, Timestamp,
    };

    pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    pub(crate) fn alert(fingerprint: &str, state: AlertState, pairs: &[(&str, &str)]) -> Alert {
        Alert {
            fingerprint: fingerprint.to_owned(),
            state,
            starts_at: Timestamp(1),
            ends_at: None,
            absent_since: None,
            changed_at: Timestamp(1),
            seen: None,
            doc: AlertDoc { labels: labels(pairs), ..AlertDoc::default() },
        }
    }

    pub(crate) fn incident(group: &[(&str, &str)], alerts: Vec<Alert>) -> Incident {
        let route = RouteName::parse("default").expect("a name");
        Incident {
            id: IncidentId("i".to_owned()),
            key: IncidentKey { route, receiver: "matrix".to_owned(), group_key: "g".to_owned() },
            state: IncidentState::Firing,
            severity: 0,
            opened_at: Timestamp(1),
            last_notified_at: Timestamp(1),
            closed_at: None,
            flaps: 0,
            rev: 1,
            notification: NotificationId("n".to_owned()),
            doc: IncidentDoc { group_labels: labels(group), ..IncidentDoc::default() },
            alerts,
            left_out: LeftOut::default(),
            taken: Vec::new(),
        }
    }

    #[test]
    fn the_group_labels_and_the_name_make_the_matchers() {
        let (firing, over) = (AlertState::Firing, AlertState::Resolved);
        let incident = incident(
            &[("namespace", "shop")],
            vec![
                alert("1", firing, &[("alertname", "A"), ("namespace", "shop"), ("pod", "a"), ("team", "x")]),
                alert(
                    "2",
                    AlertState::Absent,
                    &[("alertname", "A"), ("namespace", "shop"), ("pod", "b"), ("team", "x")],
                ),
                alert("3", firing, &[("alertname", "B"), ("namespace", "shop")]),
                alert("4", over, &[("alertname", "C"), ("namespace", "shop")]),
                alert("5", AlertState::Gone, &[("alertname", "D"), ("namespace", "shop")]),
            ],
        );
        let wanted = |name: &str, common: &[(&str, &str)]| Wanted {
            labels: labels(&[("alertname", name), ("namespace", "shop")]),
            common: labels(common),
        };
        assert_eq!(of_incident(&incident), Ok(vec![wanted("A", &[("team", "x")]), wanted("B", &[])]));
        let one = of_alert(&incident, "2").expect("one");
        let all = labels(&[("alertname", "A"), ("namespace", "shop"), ("pod", "b"), ("team", "x")]);
        assert_eq!(one, vec![Wanted { labels: all, common: Labels::new() }]);
        assert_eq!(of_alert(&incident, "4"), Err(MatcherFault::NothingOpen));
        assert_eq!(of_alert(&incident, "9"), Err(MatcherFault::NoSuchAlert));
        let matchers = matchers(&one[0].labels);
        assert!(matchers.iter().all(|matcher| matcher.is_equal && !matcher.is_regex));
        assert_eq!(words(&matchers), r#"alertname="A", namespace="shop", pod="b", team="x""#);
    }

    #[test]
    fn what_cannot_be_silenced_says_why() {
        let firing = AlertState::Firing;
        let named = |n: usize| alert(&n.to_string(), firing, &[("alertname", &format!("A{n}"))]);
        assert_eq!(of_incident(&incident(&[], vec![])), Err(MatcherFault::NothingOpen));
        assert_eq!(of_incident(&incident(&[], (0..5).map(named).collect())).map(|wanted| wanted.len()), Ok(5));
        assert_eq!(of_incident(&incident(&[], (0..6).map(named).collect())), Err(MatcherFault::TooMany(6)));
        let bare = incident(&[("pod", "")], vec![alert("1", firing, &[("x", "y")])]);
        assert_eq!(of_incident(&bare), Err(MatcherFault::NoLabels));
        let hostile = incident(&[("x", ".*\"}")], vec![alert("1", firing, &[("x", ".*\"}")])]);
        let wanted = of_incident(&hostile).expect("one");
        assert_eq!(words(&matchers(&wanted[0].labels)), r#"x=".*\"}""#);
    }
}
