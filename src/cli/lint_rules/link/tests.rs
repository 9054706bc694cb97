use super::*;

fn settings(datasource: Option<&str>, grafana: Option<&str>) -> Settings {
    Settings {
        grafana: grafana.map(|url| url.parse().unwrap()),
        datasource: datasource.map(str::to_owned),
        labels: ["namespace", "pod"].map(str::to_owned).into(),
        severities: Vec::new(),
        ignored: BTreeSet::new(),
    }
}

/// Codes in order, corrected ones with a plus.
fn codes(found: &Inspected) -> String {
    let code =
        |(code, _, corrects): &(Code, String, bool)| format!("{}{}", if *corrects { "+" } else { "" }, code.as_str());
    found.faults.iter().map(code).collect::<Vec<_>>().join(" ")
}

const DATASOURCE: &str = r#""datasource":{"type":"loki","uid":"loki"}"#;

fn panes(expr: &str) -> String {
    // Quotes in a placeholder belong to the template, not to JSON.
    let masked = Masked::of(expr, &placeholders(expr).unwrap());
    let expr = masked.unmask(&masked.text.replace('"', "\\\""));
    format!(r#"{{"a":{{"datasource":"loki","queries":[{{"refId":"A","expr":"{expr}",{DATASOURCE}}}]}}}}"#)
}

/// A link with everything encoded but the placeholders.
fn good(expr: &str) -> String {
    let raw = panes(expr);
    let masked = Masked::of(&raw, &placeholders(&raw).unwrap());
    let encoded = masked.unmask(&urlencoding::encode(&masked.text));
    format!("https://g.example.org/explore?schemaVersion=1&panes={encoded}")
}

fn raw(expr: &str) -> String {
    format!("https://g.example.org/explore?schemaVersion=1&panes={}", panes(expr))
}

const EXPR: &str = r#"{namespace="{{ $labels.namespace }}"}"#;

#[test]
fn what_is_wrong_with_a_value() {
    let placeholder = "https://g.example.org/x?a={{ $labels.namespace }}";
    let with = |from: &str, to: &str| raw(EXPR).replace(from, to);
    for (value, expected) in [
        (good(EXPR), ""),
        (good(r#"{pod="{{ index $labels "pod" }}"} |= "a b""#), ""),
        (placeholder.to_owned(), ""),
        ("https://kibana.example.org/app?q=%22x%22".to_owned(), ""),
        ("{{ .ExternalURL }}/graph".to_owned(), ""),
        (raw(EXPR), "+not_encoded"),
        (format!("{placeholder} x"), "+not_encoded"),
        (with("schemaVersion=1&", ""), "+not_encoded +no_schema_version"),
        (with(r#""refId":"A","#, ""), "+no_ref_id +not_encoded"),
        (with(&format!(",{DATASOURCE}"), ""), "+query_datasource +not_encoded"),
        (with(DATASOURCE, r#""datasource":"loki""#), "+query_datasource +not_encoded"),
        (with(r#""datasource":"loki","#, ""), "+no_datasource +not_encoded"),
        (with(r#""expr""#, r#""exp""#), "no_query +not_encoded"),
        (
            with(r#""queries""#, r#""range":{"from":1700000000000,"to":1700000001000},"queries""#),
            "+not_encoded +range_not_strings",
        ),
        (good(EXPR).replace("{{ $labels.namespace }}", "%7b%7B+%24labels.namespace%20%7D%7D"), "+encoded_hole"),
        (good(r#"{pod="x"} | line_format "XX""#).replace("XX", "%7B%7B.msg%7D%7D"), ""),
        (good(r#"{pod="{{ $labels.pode }}{{ .Labels.app }}"}"#), "unknown_label unknown_label"),
        ("https://g.example.org/x?a={{ $labels.pod".to_owned(), "template"),
        ("not a link".to_owned(), "not_a_url not_encoded"),
        ("ftp://x.example.org".to_owned(), "not_a_url"),
        ("https://g.example.org/explore".to_owned(), "no_state"),
        ("https://g.example.org/explore?schemaVersion=1&panes=%7Bx".to_owned(), "not_json"),
        ("https://g.example.org/explore?schemaVersion=1&panes=%5B%5D".to_owned(), "wrong_shape"),
        (
            format!(
                "https://g.example.org/explore?left={}",
                urlencoding::encode(r#"{"datasource":"loki","queries":[{"refId":"A","expr":"{a=\"b\"}"}]}"#)
            ),
            "",
        ),
        (
            format!(
                "https://g.example.org/explore?left={}",
                urlencoding::encode(r#"["now-1h","now","loki",{"expr":"{a=\"b\"}"}]"#)
            ),
            "",
        ),
        (format!("https://g.example.org/x?{}", "x".repeat(70_000)), "too_long"),
        (format!("https://g.example.org/x?{}", "{{ 1 }}".repeat(201)), "template"),
    ] {
        let found = inspect(&value, &settings(None, None), None);
        assert_eq!(codes(&found), expected, "{value}\n{found:?}");
        let Some(corrected) = &found.corrected else { continue };
        // A corrected value needs no further correction, and all other faults are found again.
        let again = inspect(corrected, &settings(None, None), None);
        assert_eq!(again.corrected, None, "{corrected}\n{again:?}");
        let left = codes(&found).split(' ').filter(|code| !code.starts_with('+')).collect::<Vec<_>>().join(" ");
        assert_eq!(codes(&again), left, "{corrected}");
    }
}

#[test]
fn a_mended_value_asks_the_same() {
    for expr in [
        EXPR,
        r#"{pod="{{ index $labels "pod" }}"} |= "100% a+b&c#d" | x="{{ printf "%s}}" $labels.pod | urlquery }}""#,
    ] {
        let asked = |url: &str| {
            let masked = Masked::of(url, &placeholders(url).unwrap());
            let state = LogsUrl::parse(&masked.text).states().next().unwrap().clone();
            masked.unmask(state["a"]["queries"][0]["expr"].as_str().unwrap())
        };
        let corrected = inspect(&raw(expr), &settings(None, None), None).corrected.unwrap();
        assert_eq!((asked(&raw(expr)).as_str(), asked(&corrected).as_str()), (expr, expr), "{corrected}");
        for placeholder in placeholders(expr).unwrap() {
            assert!(corrected.contains(&expr[placeholder.bytes]), "{corrected}");
        }
    }
    assert_eq!(inspect(&raw(EXPR), &settings(None, None), None).corrected.unwrap(), good(EXPR));
}

#[test]
fn datasource_and_grafana_may_be_required() {
    for (datasource, grafana, expected) in [
        (Some("loki"), Some("https://g.example.org"), ""),
        (Some("loki"), Some("https://g.example.org:443/"), ""),
        (Some("other"), None, "+wrong_datasource"),
        (None, Some("https://other.example.org/grafana/"), "+wrong_host"),
        (None, Some("http://g.example.org"), "+wrong_host"),
        (None, Some("https://g.example.org/exp"), "+wrong_host"),
    ] {
        let settings = settings(datasource, grafana);
        let found = inspect(&good(EXPR), &settings, None);
        assert_eq!(codes(&found), expected, "{found:?}");
        if let Some(corrected) = found.corrected {
            assert_eq!(codes(&inspect(&corrected, &settings, None)), "", "{corrected}");
        }
    }
    let elsewhere = inspect("https://kibana.example.org/x", &settings(None, Some("https://g.example.org")), None);
    assert_eq!((codes(&elsewhere).as_str(), elsewhere.corrected), ("wrong_host", None));
}

#[test]
fn labels_that_the_expression_does_not_keep() {
    let kept = |labels: &[&str]| labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (labels, expected) in [(&["namespace"][..], ""), (&["pod"], "lost_label"), (&[], "lost_label")] {
        let found = inspect(&good(EXPR), &settings(None, None), Some(&kept(labels)));
        assert_eq!(codes(&found), expected);
    }
    // Labels that the expression keeps need not be known.
    let found = inspect(&good(r#"{app="{{ $labels.app }}"}"#), &settings(None, None), Some(&kept(&["app"])));
    assert_eq!(codes(&found), "");
}

#[test]
fn a_missing_value_is_proposed_where_labels_are_sure() {
    let all = settings(Some("loki"), Some("https://g.example.org/"));
    let kept = ["pod", "x", "namespace"].map(str::to_owned);
    let proposed = proposal(&all, Some(&kept)).unwrap();
    assert_eq!(codes(&inspect(&proposed, &all, Some(&kept))), "", "{proposed}");
    assert!(proposed.contains("{{ $labels.namespace }}") && proposed.contains("{{ $labels.pod }}"), "{proposed}");
    for (settings, kept) in [
        (&all, None),
        (&all, Some(&kept[1..2])),
        (&settings(None, Some("https://g.example.org")), Some(&kept[..])),
        (&settings(Some("loki"), None), Some(&kept[..])),
    ] {
        assert_eq!(proposal(settings, kept), None);
    }
}

proptest::proptest! {
    #[test]
    fn corrections_converge(value in "(https://g/explore\\?|panes=|left=|\\{|\\}|\"|\\{\\{|\\}\\}|\\$labels.pod|%7B%7B|%7D|&|#| |ü|:|,|1|\\\\){0,30}") {
        let settings = settings(Some("x"), None);
        if let Some(corrected) = inspect(&value, &settings, None).corrected {
            proptest::prop_assert_eq!(inspect(&corrected, &settings, None).corrected, None);
        }
    }
}

/// A link with every fault that can be corrected by itself; the second query has no datasource.
fn faulty() -> String {
    let queries = r#"[{"expr":"{pod=\"{{ $labels.pod }}\"}","datasource":"other"},{"expr":"{a=\"b\"}"}]"#;
    let state = format!(r#"{{"a":{{"range":{{"from":1700000000000,"to":1700000100000}},"queries":{queries}}}}}"#);
    format!("https://h.example.org/explore?panes={}", urlencoding::encode(&state))
}

#[test]
fn ignored_faults_stay_and_all_others_are_corrected() {
    let settings = settings(Some("loki"), Some("https://g.example.org"));
    let set = |found: &Inspected| found.faults.iter().map(|(code, ..)| code.as_str()).collect::<BTreeSet<_>>();
    let every = set(&inspect(&faulty(), &settings, None));
    let expected = [
        "encoded_hole",
        "no_datasource",
        "no_ref_id",
        "no_schema_version",
        "query_datasource",
        "range_not_strings",
        "wrong_datasource",
        "wrong_host",
    ];
    assert_eq!(every, expected.into());
    let left = |ignored: &BTreeSet<&str>| {
        let ignored = ignored.iter().map(|code| (*code).to_owned()).collect();
        let found = inspect(&faulty(), &Settings { ignored, ..settings.clone() }, None);
        assert_eq!(found.entangled, [""; 0], "{}", codes(&found));
        set(&inspect(&found.corrected.expect("some are corrected"), &settings, None))
    };
    assert_eq!(left(&BTreeSet::new()), BTreeSet::new());
    for one in expected {
        let others = &every - &BTreeSet::from([one]);
        assert_eq!(left(&BTreeSet::from([one])), BTreeSet::from([one]));
        assert_eq!(left(&others), others, "all but {one}");
    }
}

/// Nothing can be written into a link that stays as wrongly encoded as it is.
#[test]
fn what_cannot_be_corrected_without_an_ignored_fault_is_named() {
    let settings = settings(None, None);
    let ignoring = |code: &str| Settings { ignored: BTreeSet::from([code.to_owned()]), ..settings.clone() };
    let value = raw(EXPR).replace("schemaVersion=1&", "");
    let found = inspect(&value, &ignoring("not_encoded"), None);
    assert_eq!((codes(&found).as_str(), found.entangled), ("not_encoded +no_schema_version", vec!["not_encoded"]));
    let value = good(EXPR).replace("schemaVersion=1&", "").replace('&', "&amp;") + "&amp;orgId=1";
    let found = inspect(&value, &ignoring("html_escaped"), None);
    assert_eq!((codes(&found).as_str(), found.entangled), ("html_escaped +no_schema_version", vec!["html_escaped"]));
    let found = inspect(&value, &ignoring("no_schema_version"), None);
    assert_eq!((codes(&found).as_str(), found.entangled), ("+html_escaped no_schema_version", vec![]));
    assert!(!found.corrected.unwrap().contains("schemaVersion"));
    // A value that is made for a rule without one is not there to be left.
    let none = self::settings(Some("loki"), Some("https://g.example.org"));
    let all = Settings { ignored: crate::config::LINT_CODES.map(str::to_owned).into(), ..none.clone() };
    let proposed = |settings| proposal(settings, Some(&["pod".to_owned()])).expect("all is known");
    assert_eq!(proposed(&all), proposed(&none));
}
