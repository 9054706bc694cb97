//! Log lines as a notice.

use super::{
    check::{assert_fits_encrypted, assert_sound, show},
    samples::{at, style},
};
use crate::{
    model::Timestamp,
    render::{
        MAX_BYTES, Message,
        answer::{ShownLogs, logs},
    },
};

const LINK: &str = "https://grafana.example.org/explore?schemaVersion=1&panes=%7B%7D";

fn lines(texts: &[&str]) -> Vec<(Timestamp, String)> {
    texts.iter().zip(0..).map(|(text, n)| (Timestamp(at(12, 3).0 + n * 1500), (*text).to_owned())).collect()
}

fn shown(lines: &[(Timestamp, String)], more: usize, more_than: bool) -> Message {
    let message = logs(&style(), &ShownLogs { of: "", lines, more, more_than, link: Some(LINK) }, at(12, 30));
    assert_sound(&message);
    message
}

fn first(message: &Message) -> &str {
    message.body.lines().next().unwrap_or_default()
}

#[test]
fn lines_with_their_times_and_the_link() {
    let lines = lines(&["starting", "  at com.example.Main(Main.java:7)", "ERROR <b>\"disk\"</b> & more"]);
    insta::assert_snapshot!(show(&shown(&lines, 190, true)), @r#"
    📜 Logs: 3 lines, 190 or more further (times in UTC)<pre><code>12:03:00 starting
    12:03:01   at com.example.Main(Main.java:7)
    12:03:03 ERROR &#60;b&#62;&#34;disk&#34;&#60;/b&#62; &#38; more</code></pre><a href="https://grafana.example.org/explore?schemaVersion=1&#38;panes=%7B%7D">All logs</a>
    --
    📜 Logs: 3 lines, 190 or more further (times in UTC)
    12:03:00 starting
    12:03:01   at com.example.Main(Main.java:7)
    12:03:03 ERROR <b>"disk"</b> & more
    All logs: https://grafana.example.org/explore?schemaVersion=1&panes=%7B%7D
    "#);
}

#[test]
fn the_first_line_counts() {
    let two = lines(&["a", "b"]);
    for (lines, more, more_than, expected) in [
        (&two[..], 0, false, "📜 Logs: 2 lines (times in UTC)"),
        (&two[..1], 1, false, "📜 Logs: 1 line, 1 further (times in UTC)"),
        (&two[..], 198, true, "📜 Logs: 2 lines, 198 or more further (times in UTC)"),
        (&two[..], 0, true, "📜 Logs: 2 lines, perhaps further ones (times in UTC)"),
        (&[], 7, false, "📜 Logs: no line, 7 further"),
    ] {
        assert_eq!(first(&shown(lines, more, more_than)), expected);
    }
    let of = ShownLogs { of: "api-1\n<b>", lines: &two, more: 0, more_than: false, link: None };
    let message = logs(&style(), &of, at(12, 30));
    assert_sound(&message);
    assert_eq!(message.body, "📜 Logs of api-1 <b>: 2 lines (times in UTC)\n12:03:00 a\n12:03:01 b");
    // The day stands where it is another one.
    let message = logs(&style(), &of, Timestamp(at(12, 30).0 + 86_400_000));
    assert!(message.body.contains(" 12:03:00 a") && !message.body.contains("\n12:03"), "{}", message.body);
}

#[test]
fn a_line_is_cut_whoever_hands_it_over() {
    let long = "x".repeat(3000);
    let message = shown(&lines(&[&long]), 0, false);
    let shown = message.body.lines().nth(1).expect("a line");
    assert!(shown.ends_with('…') && shown.matches('x').count() == 300, "{shown}");
}

#[test]
fn hostile_lines_stay_lines() {
    let hostile = [
        "</code></pre><script>alert(1)</script>",
        "a\nb\r\n\u{1b}[31mc\u{0}d\u{2028}e",
        "\u{202e}turned\u{2066} שלום عالم",
        "@room @alice:example.org https://evil.example.org",
        "",
        "&lt;b&gt;",
    ];
    let message = shown(&lines(&hostile), 0, false);
    assert_eq!(message.body.lines().count(), hostile.len() + 2, "{}", message.body);
    assert!(message.html.matches("<pre>").count() == 1 && !message.html.contains("<script"), "{}", message.html);
    for link in ["javascript:alert(1)", "https://u:p@", "", &format!("https://a/{}", "x".repeat(5000))] {
        let lines = lines(&["a"]);
        let logs = logs(
            &style(),
            &ShownLogs { of: "", lines: &lines, more: 0, more_than: false, link: Some(link) },
            at(12, 30),
        );
        assert_sound(&logs);
        assert!(!logs.html.contains("All logs"), "{}", logs.html);
    }
}

#[test]
fn whatever_the_lines_are_they_fit_and_the_newest_win() {
    for text in ["\"", "<", "&", "ש", "😀", "a", "\u{1}", "\\", "\u{e9}"] {
        let long = text.repeat(400);
        let lines = lines(&vec![long.as_str(); 50]);
        let message = shown(&lines, 3, true);
        assert_fits_encrypted(&message);
        assert!(message.bytes() <= MAX_BYTES);
        let count = message.body.lines().count() - 2;
        assert!(
            first(&message).starts_with(&format!("📜 Logs: {count} lines, {} or more", 53 - count)),
            "{}",
            first(&message)
        );
        let newest = format!("{}", jiff::Timestamp::from_millisecond(lines[49].0.0).unwrap().strftime("%H:%M:%S"));
        assert!(count > 2 && message.body.contains(&newest), "{count}");
    }
}
