//! Operator's templates, through the program: in rooms, in `check`, `render` and at the start.

use std::{path::Path, process::Command};

use crate::{
    commands::{nobody, run},
    harness::{Alert, DEADLINE, Payload, ReceiverBuilder, RoomView, Scene},
};

const RESOLVED_FAILS: &str = "⚡ <b>{{ name }}</b> on {{ labels.instance }}<script>x</script>\n\
    {% if state == \"resolved\" and labels.instance == \"n01\" %}{{ alerts[0].nope }}{% endif %}";

#[tokio::test(flavor = "multi_thread")]
async fn rooms_show_what_the_operator_wrote_each_route_its_own() {
    let scene = Scene::new().await;
    let (ops, web) = (scene.another_room("ops").await, scene.another_room("web").await);
    let builder = ReceiverBuilder::of(&scene).route("ops", &[&ops.id]).route("web", &[&web.id]);
    let common =
        builder.file("common.j2", "⚡ <b>{{ name }}</b> {{ state }}<script>x</script><br>{{ labels.instance }}");
    let reply = builder.file("reply.j2", "say: {{ news[0].words }}");
    let own = builder.file("ops.j2", "ops {{ name }} {{ counts.firing }}/{{ counts.resolved }}");
    let receiver = builder
        .set("templates.card_html", common)
        .set("templates.reply_text", reply)
        .set("routes.ops.templates.card_html", own)
        .start()
        .await;
    let hostile = || Payload::group("DiskFull").alert(Alert::firing("<b>n01</b>"));
    for route in ["default", "ops", "web"] {
        receiver.accept(route, hostile()).await;
    }
    let one = |view: &RoomView| view.cards().len() == 1;
    let card = scene.room.wait_for("the card", DEADLINE, one).await.card();
    assert_eq!(card.formatted_body(), "⚡ <strong>DiskFull</strong> firing<br>&#60;b&#62;n01&#60;/b&#62;");
    assert!(card.first_line().starts_with("🟠 WARNING DiskFull"), "the plain form stays built in: {}", card.body());
    assert_eq!(ops.wait_for("the card", DEADLINE, one).await.card().formatted_body(), "ops DiskFull 1/0");
    assert_eq!(web.wait_for("the card", DEADLINE, one).await.card().formatted_body(), card.formatted_body());

    receiver.accept("ops", Payload::group("DiskFull").alert(Alert::resolved("<b>n01</b>"))).await;
    let green = |view: &RoomView| one(view) && view.card().formatted_body() == "ops DiskFull 0/1";
    let view = ops.wait_for("the edit", DEADLINE, green).await;
    let root = view.card().event_id().to_owned();
    let view = ops.wait_for("the notice", DEADLINE, |view| view.thread_of(&root).len() == 1).await;
    let said = view.thread_of(&root).remove(0);
    assert_eq!(said.body(), "say: resolved after 2 min");
    assert!(said.formatted_body().contains("<strong>DiskFull</strong>"), "{}", said.formatted_body());
    for (template, reason) in [("card_html", "error"), ("reply_text", "error"), ("card_html", "too_large")] {
        let labels = [("template", template), ("reason", reason)];
        assert_eq!(receiver.metric("render_fallbacks_total", &labels).await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_template_fails_is_built_in_and_the_others_are_not() {
    let scene = Scene::new().await;
    let builder = ReceiverBuilder::of(&scene);
    let path = builder.file("card.j2", RESOLVED_FAILS);
    let receiver = builder.set("templates.card_html", path.as_str()).start().await;
    for name in ["One", "Two"] {
        let instance = if name == "One" { "n01" } else { "n02" };
        receiver.accept("default", Payload::group(name).alert(Alert::firing(instance))).await;
    }
    let shown = |view: &RoomView, html: &str| view.cards().iter().any(|card| card.formatted_body() == html);
    let both = |view: &RoomView| {
        shown(view, "⚡ <strong>One</strong> on n01") && shown(view, "⚡ <strong>Two</strong> on n02")
    };
    scene.room.wait_for("both cards", DEADLINE, both).await;
    for name in ["One", "Two"] {
        let instance = if name == "One" { "n01" } else { "n02" };
        receiver.accept("default", Payload::group(name).alert(Alert::resolved(instance))).await;
    }
    let built_in = |view: &RoomView| {
        let one = view.cards_with("One");
        one.len() == 1 && one[0].formatted_body().contains("<strong>RESOLVED</strong>")
    };
    let edited = |view: &RoomView| {
        let two = view.cards_with("Two");
        two.len() == 1 && two[0].edits > 0
    };
    let view = scene.room.wait_for("one in the built-in form", DEADLINE, |view| built_in(view) && edited(view)).await;
    assert!(shown(&view, "⚡ <strong>Two</strong> on n02"), "{}", view.text());
    let labels = [("template", "card_html"), ("reason", "error")];
    let fallbacks = receiver.wait_metric("render_fallbacks_total", &labels, |count| count >= 1.0).await;
    assert!(fallbacks <= 2.0, "{fallbacks}");
    let log = receiver.wait_log(&["template failed; used the built-in one", "templates.card_html"]).await;
    assert!(log.contains(&format!("{path}:2:")) && log.contains("unknown name `nope`"), "{log}");
    assert_eq!(receiver.logs().matches("template failed; used the built-in one").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told_by_check_and_keep_it_from_starting() {
    let bot = nobody();
    let builder = ReceiverBuilder::new(&bot).route("default", &["!abc:localhost"]).route("ops", &["!def:localhost"]);
    let bad = builder.file("bad.j2", "{{ name }}\n{{ nmae }}");
    let odd = builder.file("odd.j2", "<table>{{ name }}</table>");
    let folder = Path::new(&bad).parent().expect("a folder").display().to_string();
    let good = builder.file("good.j2", "{{ headline }}");
    let receiver = builder
        .set("templates.card_text", good.as_str())
        .set("templates.card_html", odd.as_str())
        .set("routes.ops.templates.card_html", bad.as_str())
        .set("routes.ops.templates.digest_html", folder.as_str())
        .unstarted();
    let digest = format!("routes.ops.templates.digest_html: {folder}: is a folder");
    let card = format!("routes.ops.templates.card_html: {bad}:2:4: unknown name `nmae`");
    let ran = run(&receiver, &bot, &["check"]).await;
    ran.says(1, &[&["FAULT", &digest], &["FAULT", &card], &["2 faults"]]);
    let served = receiver.cli(&["serve"]).await;
    let reported = String::from_utf8_lossy(&served.stderr).into_owned();
    assert_eq!(served.status.code(), Some(1), "{reported}");
    assert!(reported.contains(&digest) && reported.contains(&card), "{reported}");
    assert!(!receiver.store_path().exists(), "a faulty start touches nothing");

    let receiver = ReceiverBuilder::new(&bot).route("default", &["!abc:localhost"]);
    let (good, odd) =
        (receiver.file("good.j2", "{{ headline }}"), receiver.file("odd.j2", "<table>{{ name }}</table>"));
    let receiver =
        receiver.set("templates.card_text", good.as_str()).set("templates.card_html", odd.as_str()).unstarted();
    run(&receiver, &bot, &["check"]).await.says(
        0,
        &[
            &["ok", "templates.card_text", &good, "good on all 12 samples"],
            &["ok", "templates.card_html", &odd],
            &["note", "templates.card_html", "uses <table>, which messages leave out"],
        ],
    );
}

fn render(args: &[&str]) -> (Option<i32>, String, String) {
    let payload = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/payloads/webhook-firing-single.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_matrix-alertmanager-receiver"));
    let output = command.env_clear().args(["render", payload]).args(args).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn render_shows_a_payload_with_a_template() {
    let scratch = crate::harness::process::Scratch::new("render");
    let file = |name: &str, text: &str| scratch.write(name, text).to_str().expect("a UTF-8 path").to_owned();
    let html = format!("card_html={}", file("a", "<i>{{ name }}</i>"));
    assert_eq!(render(&["--template", &html]), (Some(0), "<em>DiskFull</em>\n".to_owned(), String::new()));
    let text = format!("card_text={}", file("b", "{{ name }} in words"));
    assert_eq!(render(&["--template", &text]).1, "DiskFull in words\n");
    // Both, and the event they give.
    let (_, event, _) = render(&["--template", &html, "--template", &text, "--format", "json"]);
    assert!(event.contains("\"body\": \"DiskFull in words\"") && event.contains("<em>DiskFull</em>"), "{event}");
    let digest = format!("digest_text={}", file("c", "{{ name }}: {{ incidents[0].name }}"));
    assert_eq!(render(&["--template", &digest]).1, "1 incident: DiskFull\n");
    let reply = format!("reply_text={}", file("d", "{{ news[0].words }}"));
    assert!(render(&["--template", &reply]).1.starts_with("new on n01"), "{:?}", render(&["--template", &reply]));

    let path = file("e", "x\n {{ name | nope }}");
    let (code, shown, reported) = render(&["--template", &format!("card_html={path}")]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    let expected =
        format!("error: --template card_html: {path}:2:12: unknown filter: filter nope is unknown (on the sample");
    assert!(reported.starts_with(&expected), "{reported}");
    // Good on every sample, but not on this payload.
    let path = file("f", "x{% if name == \"DiskFull\" %}{{ counts.nope }}{% endif %}");
    let (code, _, reported) = render(&["--template", &format!("card_html={path}")]);
    assert_eq!(code, Some(1));
    assert!(reported.starts_with(&format!("error: --template card_html: {path}:1:")), "{reported}");
    let (code, _, reported) = render(&["--template", "nonsense=x"]);
    assert_eq!(code, Some(2));
    assert!(reported.contains("card_html, card_text, digest_html"), "{reported}");
}
