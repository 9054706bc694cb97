//! `check` of what is asked of Alertmanager: its peers, whether it posts here, and whether a silence could be made.

use std::{collections::BTreeSet, sync::Arc};

use super::report::Report;
use crate::{
    alertmanager::{
        api::{NewSilence, PeerStatus},
        client::{ApiFault, Client},
    },
    cli::support::{
        output::excerpt,
        yaml::{NodeRef, Tree},
    },
    config::{Alertmanager, Config, Route},
    metrics::Metrics,
    model::{RouteName, Timestamp},
};

/// Notes what can be said without asking.
pub(super) fn understood(config: &Config, report: &mut Report) {
    for route in config.routes.values() {
        let name = &route.name;
        if let Some(alertmanager) = &route.alertmanager {
            let urls: Vec<_> = alertmanager.urls.iter().map(|url| url.as_str().trim_end_matches('/')).collect();
            report.ok(format!("route {name}: asks Alertmanager at {}", urls.join(", ")));
        }
        if route.actions.is_some() && route.alertmanager.is_none() {
            report.note(format!(
                "route {name}: incidents can be taken from its rooms, but not silenced: it has no Alertmanager -> set \
                 alertmanager.urls, or routes.{name}.alertmanager"
            ));
        }
        if route.actions.is_none() && !route.escalate.is_empty() {
            report.note(format!(
                "route {name}: escalate always calls, since nobody can take an incident without [actions]"
            ));
        }
    }
}

/// Asks every Alertmanager, each once.
pub(super) async fn check(config: &Config, report: &mut Report) {
    for (first, alertmanager) in config.alertmanagers() {
        // What is counted is of no interest here.
        let metrics = Arc::new(Metrics::new(&[], &[], "", ""));
        let client = Client::new(alertmanager.clone(), first.clone(), metrics);
        let routes: Vec<&Route> = config.routes.values().filter(|route| is_asked(route, alertmanager)).collect();
        let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        let title = format!("alertmanager of {}", names.join(", "));
        let answers = peers(&client, &title, report).await;
        if let Some(status) = answers.first() {
            for route in &routes {
                routing(&status.config, route, config, report);
            }
        }
        if !answers.is_empty() && routes.iter().any(|route| route.actions.is_some()) {
            silences(&client, &title, report).await;
        }
    }
}

fn is_asked(route: &Route, alertmanager: &Arc<Alertmanager>) -> bool {
    route.alertmanager.as_ref().is_some_and(|own| Arc::ptr_eq(own, alertmanager))
}

async fn peers(client: &Client, title: &str, report: &mut Report) -> Vec<PeerStatus> {
    let mut answers = Vec::new();
    for peer in 0..client.peers() {
        match client.status(peer).await {
            Ok(status) => {
                let or =
                    |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { excerpt(text) };
                let (version, cluster) = (or(&status.version, "not said"), or(&status.cluster, "not said"));
                report.ok(format!("{title}: {} answers, version {version}, cluster {cluster}", client.host(peer)));
                answers.push(status);
            }
            Err(error) => report.fault(format!("{title}: {error} -> {}", advice(error.kind))),
        }
    }
    if client.peers() > 1 && answers.iter().any(|status| status.cluster == "disabled") {
        report.note(format!(
            "{title}: the peers are not clustered, so a silence would be made on one of them only -> give each \
             Alertmanager a route of its own, or start them with --cluster.peer"
        ));
    }
    answers
}

fn advice(fault: ApiFault) -> &'static str {
    match fault {
        ApiFault::NotSent => "check alertmanager.urls, the network and ca_file",
        ApiFault::InDoubt | ApiFault::Refused => "check what answers at this address",
        ApiFault::Unauthorized => "check username and password, bearer token and headers",
        ApiFault::NotFound => "a path is part of the URL: /alertmanager of Mimir, --web.external-url's of Alertmanager",
    }
}

/// Posts a silence that no server can make: without matchers, and over since 1970. Whoever may make one gets a 400 or a 422;
/// a 401, 403 or 404 comes before anybody looks at the body.
async fn silences(client: &Client, title: &str, report: &mut Report) {
    let impossible = NewSilence {
        id: None,
        matchers: Vec::new(),
        starts_at: Timestamp(0),
        ends_at: Timestamp(1),
        created_by: "matrix-alertmanager-receiver check".to_owned(),
        comment: "check --online; this must not exist".to_owned(),
    };
    match client.post_silence(&impossible).await {
        Err(error) if error.kind == ApiFault::Refused && !error.detail.contains("redirects") => {
            report.ok(format!("{title}: a silence could be made"));
        }
        Err(error) if error.kind == ApiFault::Unauthorized => report.fault(format!(
            "{title}: a silence could not be made: {error} -> allow POST /api/v2/silences and DELETE /api/v2/silence/… for \
             these credentials"
        )),
        Err(error) => report.fault(format!("{title}: a silence could not be made: {error} -> {}", advice(error.kind))),
        Ok(id) => {
            let removed = client.expire_silence(&id).await;
            let then = removed.map_or_else(|error| error.to_string(), |()| "it was expired at once".to_owned());
            report.note(format!("{title}: took a silence without matchers ({}), {then}", excerpt(&id)));
        }
    }
}

/// Whether a receiver in Alertmanager's config posts to a route.
#[derive(Debug, PartialEq, Eq)]
enum Posts {
    /// These receivers do.
    By(Vec<String>),
    /// Only receivers whose URLs are hidden could.
    Hidden,
    Nobody,
    /// There is no config in the answer, or none that can be read.
    Unknown,
}

fn routing(yaml: &str, route: &Route, config: &Config, report: &mut Report) {
    let name = &route.name;
    match posts(yaml, route, config) {
        Posts::By(receivers) => report.ok(format!(
            "route {name}: Alertmanager's receiver {} posts here",
            receivers.iter().map(|name| excerpt(name)).collect::<Vec<_>>().join(", ")
        )),
        Posts::Hidden => report.note(format!(
            "route {name}: Alertmanager hides the URLs of its webhooks, so that it cannot be said whether one posts to \
             /alerts/{name}"
        )),
        Posts::Nobody => report.note(format!(
            "route {name}: no webhook in Alertmanager's routes has a URL that ends in /alerts/{name}, nor in /alerts for one \
             of routes.{name}.receivers; that is right only if something in between changes the URL"
        )),
        Posts::Unknown => {
            report.note(format!("route {name}: Alertmanager does not show its config, so what posts here is not known"));
        }
    }
}

fn posts(yaml: &str, route: &Route, config: &Config) -> Posts {
    let Ok(tree) = Tree::parse(yaml) else { return Posts::Unknown };
    let Some(&root) = tree.documents().first() else { return Posts::Unknown };
    let Some(receivers) = tree.get(root, "receivers").and_then(|list| tree.items(list)) else { return Posts::Unknown };
    let mut used = BTreeSet::new();
    if let Some(top) = tree.get(root, "route") {
        collect_receivers(&tree, top, MAX_DEPTH, &mut used);
    }
    let (mut found, mut hidden) = (Vec::new(), false);
    for receiver in receivers {
        let Some(name) = tree.get(receiver, "name").and_then(|name| tree.text(name)) else { continue };
        if !used.contains(name) {
            continue;
        }
        let webhooks = tree.get(receiver, "webhook_configs").and_then(|list| tree.items(list)).unwrap_or_default();
        let mut posts = false;
        for webhook in webhooks {
            match tree.get(webhook, "url").and_then(|url| tree.text(url)) {
                Some(url) if url.contains("<secret>") => hidden = true,
                Some(url) => posts |= leads_here(url, name, route, config),
                // `url_file`.
                None => hidden = true,
            }
        }
        if posts {
            found.push(name.to_owned());
        }
    }
    match (found.is_empty(), hidden) {
        (false, _) => Posts::By(found),
        (true, true) => Posts::Hidden,
        (true, false) => Posts::Nobody,
    }
}

/// Bound of routes within routes, since aliases can make a chain of any length.
const MAX_DEPTH: usize = 64;

/// The receivers that a route of Alertmanager and those below it name.
fn collect_receivers<'t>(tree: &'t Tree<'_>, route: NodeRef, depth: usize, found: &mut BTreeSet<&'t str>) {
    if depth == 0 {
        return;
    }
    found.extend(tree.get(route, "receiver").and_then(|name| tree.text(name)));
    for below in tree.get(route, "routes").and_then(|list| tree.items(list)).unwrap_or_default() {
        collect_receivers(tree, below, depth - 1, found);
    }
}

/// Whether a webhook of this receiver with this URL lands on the route, as far as its path says.
fn leads_here(url: &str, receiver: &str, route: &Route, config: &Config) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    if path.ends_with("/alerts") {
        let owner = config.routes.values().find(|route| route.receivers.iter().any(|name| name == receiver));
        return owner.map_or(route.name.as_str() == "default", |owner| owner.name == route.name);
    }
    let Some((before, last)) = path.rsplit_once('/') else { return false };
    let named = |name: &RouteName| *name == route.name;
    before.ends_with("/alerts") && (last == route.name.as_str() || config.compat.names.get(last).is_some_and(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Purpose;

    #[test]
    fn receivers_that_post_here_are_found() {
        let toml = "[routes.default]\nrooms = [\"!a:b\"]\n[routes.ops]\nrooms = [\"!a:b\"]\nreceivers = [\"team\"]\n\
                    [compat]\nnames = { Old = \"ops\" }\n";
        let config = Config::parse(toml, "test", Purpose::Render).expect("a config");
        let by = |names: &[&str]| Posts::By(names.iter().map(ToString::to_string).collect());
        for (receiver, url, default, ops) in [
            ("a", "http://mar:9088/alerts/default", by(&["a"]), Posts::Nobody),
            ("a", "http://mar:9088/below/alerts/ops/?x=y", Posts::Nobody, by(&["a"])),
            ("a", "http://mar:9088/alerts/Old", Posts::Nobody, by(&["a"])),
            ("a", "http://mar:9088/alerts", by(&["a"]), Posts::Nobody),
            ("team", "http://mar:9088/alerts/", Posts::Nobody, by(&["team"])),
            ("a", "http://mar:9088/alerts/defaults", Posts::Nobody, Posts::Nobody),
            ("a", "http://mar:9088/default", Posts::Nobody, Posts::Nobody),
            ("a", "<secret>", Posts::Hidden, Posts::Hidden),
            ("unused", "http://mar:9088/alerts/default", Posts::Nobody, Posts::Nobody),
        ] {
            let used = if receiver == "unused" { "a" } else { receiver };
            let yaml = format!(
                "route:\n  receiver: x\n  routes:\n  - routes:\n    - receiver: {used}\nreceivers:\n- name: x\n- name: {receiver}\n  \
                 webhook_configs:\n  - send_resolved: true\n    url: {url}\n"
            );
            let found = |name: &str| {
                let route = config.routes.values().find(|route| route.name.as_str() == name).expect("a route");
                posts(&yaml, route, &config)
            };
            assert_eq!((found("default"), found("ops")), (default, ops), "{receiver} {url}");
        }
        let route = config.routes.values().next().expect("a route");
        let file = "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url_file: /url}]}]";
        assert_eq!(posts(file, route, &config), Posts::Hidden);
        for unknown in ["", "a: [", "receivers: 7", "[]"] {
            assert_eq!(posts(unknown, route, &config), Posts::Unknown, "{unknown}");
        }
    }
}
