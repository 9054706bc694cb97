//! The cards that the design shows, to the letter.

use super::rendered::card;
use super::samples::{api_down, at, crash_loop, disk_pressure, style};
use crate::model::Form;
use crate::{model::Incident, render::Message};

fn shown(incident: &Incident) -> Message {
    card(&style(), incident, Some(at(12, 3)), at(12, 30), Form::Full)
}

/// HTML as the design writes it: `…` in place of the links, and line breaks for the reader, which only a list has.
pub(super) fn design(html: &str) -> String {
    html.trim().replace("<br>\n", "<br>").replace("\n<ul>", "<ul>").replace("</ul>\n", "</ul>")
}

pub(super) fn without_urls(html: &str) -> String {
    let mut parts = html.split("<a href=\"");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('"').unwrap();
        short.push_str("<a href=\"…\"");
        short.push_str(rest);
    }
    short
}

#[test]
fn one_alert_firing() {
    let message = shown(&crash_loop());
    let wanted = r##"
🔴 <span data-mx-color="#d1242f"><strong>CRITICAL</strong></span> <strong>PodCrashLooping</strong> — Pod media/jellyfin-0 is crash looping<br>
Restarted 5 times in the last 15 minutes.<br>
<code>namespace=media</code> <code>pod=jellyfin-0</code> <code>container=jellyfin</code><br>
since 12:03 UTC · <a href="…">Logs</a> · <a href="…">Source</a> · <a href="…">Runbook</a> · <a href="…">Silence</a>
"##;
    assert_eq!(without_urls(&message.html), design(wanted));
    insta::assert_snapshot!(message.body);
}

#[test]
fn several_alerts() {
    let message = shown(&disk_pressure());
    let wanted = r##"
🟠 <span data-mx-color="#bf5b04"><strong>WARNING</strong></span> <strong>NodeDiskPressure</strong> the-cluster · 2 firing, 1 resolved, 1 no longer reported<br>
<code>mountpoint=/</code> <code>job=node-exporter</code>
<ul>
<li><strong>controlplane1</strong> — disk usage above 90%, only 7.1% remaining · <a href="…">Logs</a></li>
<li><strong>controlplane4</strong> — disk usage above 90%, only 8.8% remaining · since 12:20 · <a href="…">Logs</a></li>
<li><del>controlplane2</del> resolved after 14 min</li>
<li><em>controlplane3</em> no longer reported (silenced?)</li>
</ul>
since 12:03 UTC · <a href="…">Source</a> · <a href="…">Runbook</a> · <a href="…">Silence</a>
"##;
    assert_eq!(without_urls(&message.html), design(wanted));
    insta::assert_snapshot!(message.body);
}

#[test]
fn resolved_alert() {
    let message = shown(&api_down());
    let wanted = r##"
🟢 <span data-mx-color="#1a7f37"><strong>RESOLVED</strong></span> <strong>KubeAPIDown</strong> after 22 min — KubeAPI has disappeared from Prometheus target discovery<br>
<code>job=apiserver</code><br>
12:03–12:25 UTC · <a href="…">Logs</a> · <a href="…">Source</a> · <a href="…">Silence</a>
"##;
    assert_eq!(without_urls(&message.html), design(wanted));
    insta::assert_snapshot!(message.body);
}

/// As weechat-matrix does, and others that drop the tags that they do not know.
#[test]
fn without_tags_the_items_of_a_list_have_a_line_each() {
    let message = shown(&disk_pressure());
    let mut text = message.html.replace("<br>", "\n");
    while let (Some(start), Some(end)) = (text.find('<'), text.find('>')) {
        text.replace_range(start..=end, "");
    }
    let first_words: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(
        first_words,
        ["🟠", "mountpoint=/", "controlplane1", "controlplane4", "controlplane2", "controlplane3", "since"]
    );
}
