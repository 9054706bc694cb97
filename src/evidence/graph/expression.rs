//! The expression of an alert, from the link to where it comes from. Only the link's text is read: its host is never
//! asked.

use serde_json::Value;
use url::form_urlencoded;

use super::comparison::{MAX_BYTES, parsed};
use crate::{
    model::Alert,
    render::links::explore::{LogsUrl, html_unescaped},
};

/// Three bytes of a link are one of an expression, and the rest of the link has room.
const MAX_LINK: usize = 4 * MAX_BYTES;
/// Parameters that hold an expression: those of Prometheus, Thanos, Mimir and vmui, and what people write into templates
/// of vmalert.
const PARAMETERS: [&str; 3] = ["g0.expr", "expr", "query"];

/// The PromQL of the alert's rule, if the link to its source names it. Grafana's own rules and links to a page of
/// vmalert do not.
#[must_use]
pub fn of_alert(alert: &Alert) -> Option<String> {
    of_link(&alert.doc.generator_url)
}

fn of_link(link: &str) -> Option<String> {
    let link = link.trim();
    if link.is_empty() || link.len() > MAX_LINK {
        return None;
    }
    let explore = LogsUrl::parse(link);
    let found = if explore.is_explore() { of_panes(&explore) } else { of_parameters(&html_unescaped(link)) };
    found.map(|expr| expr.trim().to_owned()).filter(|expr| !expr.is_empty() && expr.len() <= MAX_BYTES)
}

/// The first query of an Explore link that is PromQL. A rule of Loki links to LogQL.
fn of_panes(explore: &LogsUrl) -> Option<String> {
    let is_prometheus = |query: &Value| {
        let kind = query.pointer("/datasource/type").and_then(Value::as_str);
        kind.is_none_or(|kind| kind.contains("prometheus") || kind.contains("victoriametrics-metrics"))
    };
    let panes = explore.panes();
    let mut queries = panes.iter().flat_map(|pane| &pane.queries).filter(|query| is_prometheus(query));
    queries.find_map(|query| query.get("expr")?.as_str()).map(with_blanks)
}

/// In a state of raw JSON a plus sign is one, but vmalert's `queryEscape` writes blanks as such.
fn with_blanks(expr: &str) -> String {
    let blanks = expr.replace('+', " ");
    if blanks != expr && parsed(expr).is_none() && parsed(&blanks).is_some() { blanks } else { expr.to_owned() }
}

/// Of the query, or of the fragment, in which vmui keeps a path that has a query too.
fn of_parameters(link: &str) -> Option<String> {
    let (before, fragment) = link.split_once('#').unwrap_or((link, ""));
    let queries = [before, fragment].map(|part| part.split_once('?').map_or("", |(_, query)| query));
    PARAMETERS.iter().find_map(|wanted| {
        queries.iter().find_map(|query| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs.find(|(key, value)| key == wanted && !value.trim().is_empty()).map(|(_, value)| value.into_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_where_alerts_come_from() {
        for (link, expr) in [
            ("http://prometheus:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1", Some("up == 0")),
            ("https://example.org/prom/graph?g0.expr=a%20%2B%20b&amp;g0.tab=1", Some("a + b")),
            ("https://example.org/graph?g0.tab=1&amp;g0.expr=x%7Ba%3D%22b%22%7D%20%3E%205", Some("x{a=\"b\"} > 5")),
            ("http://thanos-query:10902/graph?g0.expr=sum%28x%29+%3E+1&g0.tab=1", Some("sum(x) > 1")),
            ("http://prometheus:9090/query?g0.expr=up+%3D%3D+0&g0.show_tree=0&g0.tab=graph", Some("up == 0")),
            ("http://mimir/prometheus/graph?g0.expr=a&g0.tab=1&g1.expr=b", Some("a")),
            ("http://vm:8428/vmui/#/?g0.expr=up%20%3D%3D%200&g0.range_input=1h", Some("up == 0")),
            ("http://vm:8428/vmui/?#/?g0.expr=up%20%3D%3D%200", Some("up == 0")),
            ("http://vm:8481/select/0/vmui/#/?g0.range_input=1h&g0.expr=rate(x%5B5m%5D)%3E1", Some("rate(x[5m])>1")),
            ("http://vm:8428/expr?expr=up%3D%3D0", Some("up==0")),
            ("/graph?g0.expr=up", Some("up")),
            // vmalert with -external.alert.source='explore?left=…', in the forms of its documentation.
            (
                "https://grafana.example.org/explore?orgId=1&left=%5B%22now-1h%22%2C%22now%22%2C%22VictoriaMetrics%22%2C\
                 %7B%22expr%22%3A%22up%20%3D%3D%200%22%7D%2C%7B%22mode%22%3A%22Metrics%22%7D%5D",
                Some("up == 0"),
            ),
            (
                "https://grafana.example.org/explore?orgId=1&left=[\"now-1h\",\"now\",\"VictoriaMetrics\",{\"expr\": \
                 \"vm_rows%7Btype%3D%5C%22x%5C%22%7D+%3E+0\"},{\"mode\":\"Metrics\"},{\"ui\":[true,true,true,\"none\"]}]",
                Some("vm_rows{type=\"x\"} > 0"),
            ),
            (
                "https://grafana.example.org/explore?left={\"datasource\":\"vm\",\"queries\":[{\"expr\":\"a%20%3E%201\",\
                 \"refId\":\"A\"}],\"range\":{\"from\":\"now-1h\",\"to\":\"now\"}}",
                Some("a > 1"),
            ),
            (
                "https://grafana.example.org/explore?schemaVersion=1&panes=%7B%22abc%22%3A%7B%22datasource%22%3A%22P%22%2C\
                 %22queries%22%3A%5B%7B%22refId%22%3A%22A%22%2C%22expr%22%3A%22up%3D%3D0%22%2C%22datasource%22%3A%7B\
                 %22type%22%3A%22prometheus%22%7D%7D%5D%7D%7D",
                Some("up==0"),
            ),
            // A rule of Loki: LogQL.
            (
                "https://grafana.example.org/explore?left={\"queries\":[{\"datasource\":{\"type\":\"loki\",\"uid\":\"l\"},\
                 \"expr\":\"sum(rate({a=\\\"b\\\"}[5m])) > 1\",\"queryType\":\"range\"}]}",
                None,
            ),
            // Grafana's own rules, vmalert's default, and what no program writes.
            ("https://grafana.example.org/alerting/grafana/abc/view?orgId=1", None),
            ("http://vmalert:8880/vmalert/alert?group_id=1&alert_id=2", None),
            ("https://grafana.example.org/explore", None),
            ("http://prometheus:9090/graph?g0.expr=", None),
            ("http://prometheus:9090/graph?g0.expr=+%20", None),
            ("http://prometheus:9090/graph", None),
            ("", None),
            ("#?#", None),
        ] {
            assert_eq!(of_link(link).as_deref(), expr, "{link}");
        }
        assert_eq!(of_link(&format!("http://p/graph?g0.expr={}", "a".repeat(MAX_BYTES + 1))), None);
        assert_eq!(of_link(&format!("http://p/graph?x={}", "a".repeat(9 * MAX_LINK))), None);
    }
}
