//! Operator's templates: what they are given, what is made of what they give, and what becomes of those that fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde_json::Value as Json;

use super::{
    FallbackReason, TemplateError, Templates, samples,
    sanitise::{plain, sanitise},
    set::{CustomTemplate, TemplateSet},
    trial::TemplateFileErrors,
};
use crate::{
    config::{self, Config, Purpose, TemplateFile, TemplateName},
    model::{Incident, RouteName, Timestamp},
    render::{
        MAX_BYTES, Style,
        tests::{
            check::words_of,
            rendered::{digest_card, whole_card},
        },
    },
};

const NOW: Timestamp = Timestamp(1_795_350_600_000);

fn style() -> Style {
    Style::new(&config::Display::default(), &config::Links::default()).unwrap()
}

fn config(toml: &str) -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, toml.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
    let config = Config::load(Some(&file), &BTreeMap::new(), Purpose::Render).unwrap();
    (folder, config)
}

/// One template under one name, tried as at start.
fn tried(name: TemplateName, source: impl AsRef<[u8]>) -> Result<CustomTemplate, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.j2");
    std::fs::write(&path, source).unwrap();
    let file = TemplateFile { key: format!("templates.{}", name.as_str()), path };
    let style = style();
    let tried = CustomTemplate::load(name, &file, &style, &samples::all(&style));
    tried.map_err(|fault| fault.to_string().replace(folder.path().to_str().unwrap(), ""))
}

fn fault(source: &str) -> String {
    tried(TemplateName::CardHtml, source).expect_err(source)
}

/// A style whose cards are made by this template, on route `default`. It is not tried, so that it may be bad.
fn untried(name: TemplateName, source: &str) -> Style {
    let style = style();
    let fields: BTreeSet<String> = samples::all(&style)
        .iter()
        .filter(|sample| sample.kind.contains(&name))
        .flat_map(|sample| sample.view.as_object().unwrap().keys().cloned())
        .collect();
    let compiled = super::engine::Compiled::new(source, name.is_html(), &style.zone, &fields).unwrap();
    let file = TemplateFile { key: "templates.x".to_owned(), path: PathBuf::from("x.j2") };
    let custom = CustomTemplate { name, file, compiled, samples: 0, notes: Vec::new() };
    let set = BTreeMap::from([(name, std::sync::Arc::new(custom))]);
    style.with_templates(Templates { common: TemplateSet(set), routes: BTreeMap::new() })
}

fn incident(name: &str) -> Incident {
    samples::incidents().into_iter().find(|(known, _)| *known == name).unwrap().1
}

fn set(name: &str) -> Templates {
    let folder = format!("{}/templates/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = |template: TemplateName| {
        let name = template.as_str();
        format!("{name} = \"{folder}/{}.j2\"\n", name.replace('_', "."))
    };
    let files: String = TemplateName::ALL.map(file).concat();
    let (_folder, config) = config(&format!("[templates]\n{files}"));
    Templates::load(&config, &style()).unwrap_or_else(|faults| panic!("{name}: {faults}"))
}

#[test]
fn every_example_is_good_on_every_sample() {
    for name in ["terse", "verbose", "classic"] {
        let templates = set(name);
        let mut shown = String::new();
        for tried in templates.tried() {
            assert_eq!(tried.notes, [""; 0], "{name}: {}", tried.file.key);
            assert!(tried.samples >= 3, "{}", tried.file.key);
            let custom = &templates.common.0[&tried.template];
            for sample in samples::all(&style()) {
                if !sample.kind.contains(&tried.template) {
                    continue;
                }
                let context = super::value::context(&sample.view);
                let raw = custom.compiled.run(&context).unwrap();
                let form = custom.form(&context).unwrap();
                if tried.template.is_html() {
                    // Only the built-in templates' markup, and nothing that had to be taken out.
                    words(&form);
                    assert_eq!(sanitise(&form).unwrap().html, form, "{name}: {}", sample.name);
                    let tags = |html: &str| html.matches('<').count();
                    assert_eq!(tags(&raw), tags(&form), "{name}: {}: {raw}", sample.name);
                }
                let readable = form.replace("<br>", "<br>\n").replace("<p>", "\n<p>");
                shown.extend(["## ", tried.template.as_str(), " · ", sample.name, "\n", &readable, "\n\n"]);
            }
        }
        // Both forms of a set must fit together.
        let style = style().with_templates(templates);
        for (sample, incident) in samples::incidents() {
            let rendered = whole_card(&style, &incident, NOW);
            assert!(rendered.fallbacks.is_empty(), "{name}: {sample}: {:?}", rendered.fallbacks);
            assert!(rendered.message.bytes() <= MAX_BYTES);
        }
        insta::assert_snapshot!(format!("example_{name}"), shown);
    }
}

#[test]
fn faults_name_line_and_column() {
    let head = "templates.card_html: /template.j2:";
    for (source, expected) in [
        ("one\n  {{ name ", "2:"),
        ("{% if name %}", "1:"),
        ("{{ name }}\n{{ name | no_such }}", "2:11: unknown filter: filter no_such is unknown"),
        ("{{ name | safe }}", "1:11: unknown filter: filter safe is unknown"),
        ("{{ name }}\n  é {{ nmae }}", "2:8: unknown name `nmae`; available: alertmanager_url, alerts, "),
        ("{{ name }}{% for alert in alerts %}\n{{ alert.nmae }}{% endfor %}", "2:"),
        ("{{ counts.firng }}", "1:"),
        ("{{ no_function() }}", "1:4: unknown name `no_function`"),
        ("{{ name.first() }}", "1:"),
        ("{{ now | time(\"%!\") }}", "1:"),
        ("{% for i in range(100000) %}{% for j in range(100000) %}{{ name }}{% endfor %}{% endfor %}", "1:"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "1:"),
        ("{% include \"/etc/passwd\" %}", "1:4: a template cannot load others"),
        ("{{ \"x\" * 100000 }}", " gives 100000 bytes; a message holds at most 22528"),
        ("{{ \"x\" * 1000000000 }}", "1:"),
        ("{# nothing #}", " gives an empty message"),
        ("<br> <p></p>", " gives an empty message"),
        ("<script>alert(1)</script>", " gives an empty message"),
    ] {
        let fault = fault(source);
        assert!(fault.starts_with(&format!("{head}{expected}")), "{source}\n{fault}");
    }
    assert!(
        fault("{% for alert in alerts %}{{ alert.nmae }}{% endfor %}").contains("unknown name `nmae`; available: ")
    );
    assert!(fault("{{ counts.firng }}").contains("unknown name `firng`; available: absent, firing, "));
    // Only some samples have what it needs.
    let some = fault("{{ name }}{% if state == \"stale\" %}\n{{ alerts[0].nope }}{% endif %}");
    assert!(some.contains("template.j2:2:") && some.ends_with("(on the sample \"no news\")"), "{some}");
}

#[test]
fn runaways_are_stopped() {
    let endless = "{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}";
    assert!(fault(endless).contains("ran too long"), "{}", fault(endless));
    let doubling =
        "{% set ns = namespace(x=\"xx\") %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
    assert!(fault(doubling).contains("ran too long"), "{}", fault(doubling));
    let deep = "<b>".repeat(1000);
    assert!(fault(&format!("{{{{ name }}}}{deep}")).contains("nested too deep"));
}

#[test]
fn files_that_are_no_templates() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: PathBuf| TemplateFile { key: "templates.card_html".to_owned(), path }.read().expect_err("a fault");
    assert!(at(folder.path().join("nothing")).starts_with("cannot read: No such file"));
    assert_eq!(at(folder.path().to_owned()), "is a folder, expected a template file");
    assert_eq!(at("/dev/zero".into()), "is not a regular file, expected a template file");
    let file = folder.path().join("x");
    std::fs::write(&file, b"one\n\xff").unwrap();
    assert_eq!(at(file.clone()), "is not UTF-8 text (line 2)");
    std::fs::write(&file, vec![b'x'; 64 * 1024 + 1]).unwrap();
    assert_eq!(at(file), "is larger than 65536 bytes");
}

#[test]
fn all_faulty_files_are_told_at_once() {
    let toml = "[templates]\ncard_html = \"FOLDER/missing\"\n[routes.ops]\ntemplates = { reply_text = \"FOLDER\" }";
    let (folder, config) = config(toml);
    let TemplateFileErrors(faults) = Templates::load(&config, &style()).unwrap_err();
    let lines: Vec<String> =
        faults.iter().map(|fault| fault.to_string().replace(folder.path().to_str().unwrap(), "")).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("templates.card_html: /missing: cannot read: "), "{lines:#?}");
    assert_eq!(lines[1], "routes.ops.templates.reply_text: : is a folder, expected a template file");
}

#[test]
fn only_the_markup_that_clients_show_is_left() {
    for (raw, expected) in [
        ("a <b>bold</b> <i>word</i> <s>gone</s>", "a <strong>bold</strong> <em>word</em> <del>gone</del>"),
        ("<script>alert(1)</script>x", "x"),
        ("<style>*{}</style>x<!-- c -->", "x"),
        ("<p onclick=\"x()\" class=\"y\">x</p>", "<p>x</p>"),
        ("x<img src=x onerror=alert(1)>y", "xy"),
        ("<table><tr><td>a</td></tr></table>", "a"),
        ("<h1>a</h1><font color=\"#fff\">b</font>", "ab"),
        ("<strong>never closed", "<strong>never closed</strong>"),
        ("</ul></li>x", "x"),
        ("<em><strong>crossed</em></strong>", "<em><strong>crossed</strong></em>"),
        ("<a href=\"javascript:alert(1)\">x</a>", "x"),
        ("<a class=\"a\" href=\"javascript:alert(1)\">x</a>", "x"),
        ("<a href=\" JavaScript:alert(1)\">x</a>", "x"),
        ("<a href=\"data:text/html,x\">x</a><a>y</a>", "xy"),
        ("<a href=\"//example.org\">x</a>", "x"),
        ("<a href=\"https://u:secret@example.org/\" target=_blank>x</a>", "<a href=\"https://example.org/\">x</a>"),
        (
            "<a href=\"https://example.org/?a=1&amp;b={x}\">x</a>",
            "<a href=\"https://example.org/?a=1&#38;b=%7Bx%7D\">x</a>",
        ),
        ("<span data-mx-color=\"#ff0000\" style=\"x\">x</span>", "<span data-mx-color=\"#ff0000\">x</span>"),
        ("<span data-mx-color=\"red\">x</span>", "x"),
        ("<span data-mx-bg-color=\"#ff0000\">x</span>", "x"),
        ("<svg><a href=\"https://x.example\">x</a></svg>y", "y"),
        ("<mx-reply>old</mx-reply>new", "new"),
        ("&lt;b&gt; &amp; \" '", "&#60;b&#62; &#38; &#34; &#39;"),
        ("\n  a\n   b  <br>\n  c\n<ul>\n <li> d </li>\n</ul>\n e ", "a b<br>c<ul>\n<li>d</li>\n</ul>e"),
        ("<pre>a\n  b</pre>", "<pre>a\n  b</pre>"),
    ] {
        let sanitised = sanitise(raw).unwrap();
        assert_eq!(sanitised.html, expected, "{raw}");
        words(&sanitised.html);
        assert_eq!(sanitise(&sanitised.html).unwrap().html, sanitised.html, "twice: {raw}");
    }
    let dropped = sanitise("<table><b>x</b></table><a href=\"x:y\">l</a>").unwrap().dropped;
    assert_eq!(dropped.into_iter().collect::<Vec<_>>(), ["a[href]", "table"]);
    // Far deeper than a room would show, but not so deep as to be refused.
    let nested = format!("{}x{}", "<em>".repeat(90), "</em>".repeat(90));
    assert!(sanitise(&nested).unwrap().html.matches("<em>").count() <= 33);
    for endless in ["<b>".repeat(7000), "<b></i>".repeat(3000), "<div><p>".repeat(3000), "</b><q>".repeat(3000)] {
        assert_eq!(sanitise(&endless), None);
    }
}

/// Entities and tags are ours. The built-in templates' own check knows no block but `ul`.
fn words(html: &str) {
    let as_list =
        |html: String, tag: &str| html.replace(&format!("<{tag}>"), "<ul>").replace(&format!("</{tag}>"), "</ul>");
    words_of(&["pre", "p", "blockquote", "ol"].into_iter().fold(html.to_owned(), as_list));
}

#[test]
fn plain_text_is_tidy() {
    assert_eq!(plain("\n\n a  \r\n\tb\u{7}\n\n\n\nc\n\n"), " a\n b\n\nc");
}

#[test]
fn labels_are_text_whatever_a_template_does() {
    let hostile = incident("hostile labels");
    for source in [
        "{{ name }} {{ labels.instance }}",
        "{% autoescape false %}{{ name }} {{ labels.instance }}{% endautoescape %}",
        "{% set x %}{{ name }}{% endset %}{{ x }} {{ labels.instance ~ \"<b>\" }}",
        "{% macro m(x) %}<em>{{ x }}</em>{% endmacro %}{{ m(name) }} {{ labels.instance }}",
        "<em title=\"{{ labels.instance }}\">{{ [name, labels.instance] | join(\"<br>\") }}</em>",
        "{% for name, value in labels | items %}{{ name | upper }}={{ value | replace(\"x\", \"<\") }} {% endfor %}",
    ] {
        let rendered = whole_card(&untried(TemplateName::CardHtml, source), &hostile, NOW);
        assert_eq!(rendered.fallbacks, [], "{source}");
        let html = rendered.message.html;
        assert!(!html.contains("<script") && !html.contains("<a ") && !html.contains("<h1"), "{source}: {html}");
        assert!(html.contains("&#60;"), "{source}: {html}");
        words_of(&html);
    }
    // As a link's address it is one only if it is http or https.
    let link = "x <a href=\"{{ annotations.runbook_url }}\">r</a> <a href=\"{{ annotations.logs_url }}\">l</a>";
    let html = whole_card(&untried(TemplateName::CardHtml, link), &hostile, NOW).message.html;
    assert_eq!(html, "x r <a href=\"https://grafana.example.org/explore\">l</a>");
}

#[test]
fn what_templates_are_offered() {
    let shown = |source: &str| {
        let style = untried(TemplateName::CardText, source);
        let rendered = whole_card(&style, &incident("one alert firing"), NOW);
        assert_eq!(rendered.fallbacks, [], "{source}");
        rendered.message.body
    };
    assert_eq!(shown("{{ \"a b&c/é\" | urlencode }}"), "a%20b%26c%2F%C3%A9");
    assert_eq!(shown("{{ \"one two three four\" | truncate(12) }}"), "one two…");
    assert_eq!(shown("{{ (now - starts_at) | duration }}, {{ took }}"), "27 min, 27 min");
    assert_eq!(shown("{{ starts_at | time }} {{ starts_at | time(\"%Y-%m-%d\") }}"), "12:03 2026-11-22");
    assert_eq!(shown("{{ labels.nope }}[{{ ends_at }}]{{ labels.nope | default(\"-\") }}"), "[]-");
    assert_eq!(shown("{% if labels.nope %}a{% else %}b{% endif %}{{ alerts | length }}"), "b1");
    assert_eq!(shown("x{{ labels.nope | truncate(9) }}{{ labels.nope | urlencode }}"), "x");
    assert_eq!(shown("{{ labels.pod }} <b> & {{ severity }}"), "jellyfin-0 <b> & critical");
    // Right-to-left text is isolated where it is printed, and nowhere else.
    let style = untried(TemplateName::CardText, "x {{ labels.direction }} {{ labels.direction | urlencode }}");
    let body = whole_card(&style, &incident("hostile labels"), NOW).message.body;
    assert!(body.starts_with("x \u{2068}txet \u{5e9}") && !body.contains("%E2%81%A8"), "{body}");
}

#[test]
fn what_fails_is_built_in_for_that_message_alone() {
    let on = |source: &str, name: &str| {
        let incident = incident(name);
        let rendered = whole_card(&untried(TemplateName::CardHtml, source), &incident, NOW);
        let built_in = whole_card(&style(), &incident, NOW).message;
        assert_eq!(rendered.message.body, built_in.body, "the other form stays built in");
        let fault: Option<TemplateError> = rendered.fallbacks.first().map(|fallback| fallback.fault.clone());
        assert_eq!(rendered.message.html == built_in.html, fault.is_some());
        fault
    };
    let fails_on_resolved = "ok\n{% if state == \"resolved\" %}{{ alerts[0].nope }}{% endif %}";
    assert_eq!(on(fails_on_resolved, "one alert firing"), None);
    let fault = on(fails_on_resolved, "one alert resolved").unwrap();
    assert_eq!((fault.reason, fault.place.map(|(line, _)| line)), (FallbackReason::Error, Some(2)));
    let reason = |source| on(source, "forty alerts").map(|fault| fault.reason);
    assert_eq!(reason("{% for a in alerts %}{{ \"x\" * 1000 }}{% endfor %}"), Some(FallbackReason::TooLarge));
    // Alone it would fit; together with the built-in plain form it does not.
    assert_eq!(reason("{{ \"x\" * 20000 }}"), Some(FallbackReason::TooLarge));
    assert_eq!(reason("{% for a in alerts %} {% endfor %}"), Some(FallbackReason::Empty));
    assert_eq!(
        reason("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        Some(FallbackReason::TooSlow)
    );
}

#[test]
fn routes_have_their_own() {
    let toml = "[templates]\ncard_html = \"FOLDER/common\"\ndigest_text = \"FOLDER/digest\"\nreply_text = \"FOLDER/reply\"\n\
        [routes.ops]\ntemplates = { card_html = \"FOLDER/ops\" }\n\
        [routes.web]\n[routes.dev]\ntemplates = { digest_text = \"FOLDER/dev\" }";
    let (folder, config) = config(toml);
    for name in ["common", "digest", "reply", "ops", "dev"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let templates = Templates::load(&config, &style()).unwrap();
    assert_eq!(templates.tried().len(), 5);
    let style = style().with_templates(templates);
    let of = |route: &str, name: &str| {
        let mut incident = incident(name);
        incident.key.route = RouteName::parse(route).unwrap();
        incident
    };
    let html = |route: &str| whole_card(&style, &of(route, "one alert firing"), NOW).message.html;
    assert_eq!([html("ops"), html("web"), html("dev")], ["ops", "common", "common"]);
    let digest = |routes: [&str; 2]| {
        let pair = [of(routes[0], "one alert firing"), of(routes[1], "several alerts")];
        let refs: Vec<&Incident> = pair.iter().collect();
        digest_card(&style, &refs, NOW).message.body
    };
    assert_eq!(digest(["dev", "dev"]), "dev");
    assert_eq!(digest(["web", "web"]), "digest");
    // Routes that do not agree share a room: what is common to all.
    assert_eq!(digest(["web", "dev"]), "digest");
}

#[test]
fn the_documentation_names_every_field_and_no_other() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TEMPLATES.md")).unwrap();
    let documented = |section: &str| -> BTreeSet<String> {
        let start = docs.find(&format!("\n### {section}\n")).unwrap_or_else(|| panic!("a section {section}")) + 5;
        let end = docs[start..].find("\n### ").map_or(docs.len(), |end| start + end);
        let rows = docs[start..end].lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        rows.map(|(name, _)| name.to_owned()).collect()
    };
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for sample in samples::all(&style()) {
        let top = match sample.kind[0] {
            TemplateName::CardHtml => "Card",
            TemplateName::DigestHtml => "Digest",
            _ => "Reply",
        };
        collect(top, &sample.view, &mut found);
    }
    assert_eq!(found.len(), 8, "{found:#?}");
    for (section, names) in found {
        assert_eq!(documented(section), names, "{section}");
    }
}

/// The names of a map, and of those within it, by the documentation's section.
fn collect(section: &'static str, json: &Json, found: &mut BTreeMap<&'static str, BTreeSet<String>>) {
    let fields = json.as_object().unwrap();
    found.entry(section).or_default().extend(fields.keys().cloned());
    for (name, value) in fields {
        let inner = match name.as_str() {
            "incidents" => "Card",
            "alerts" => "Alert",
            "links" => "Link",
            "lines" => "Line",
            "news" => "News",
            "counts" => "Counts",
            _ => continue,
        };
        match value {
            Json::Array(items) => items.iter().for_each(|item| collect(inner, item, found)),
            value => collect(inner, value, found),
        }
    }
}
