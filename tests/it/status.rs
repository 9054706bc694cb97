//! The status page, in a real browser: what it shows, that it stays fresh by itself, and that nothing in it gets loose.

use std::{path::PathBuf, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{
    Alert, Browser, DEADLINE, Fault, FaultProxy, Homeserver, Match, NARROW, NewRoom, Payload, Receiver,
    ReceiverBuilder, Room, Scene, WIDE, eventually, http::Answer,
};

/// Pictures for a person to look at, where `MAR_TEST_PICTURES` names a folder for them.
async fn look(browser: &Browser, name: &str) {
    let Some(folder) = std::env::var_os("MAR_TEST_PICTURES").map(PathBuf::from) else { return };
    for (width, size) in [("wide", WIDE), ("narrow", NARROW)] {
        browser.resize(size).await;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme).await;
            browser.picture(&folder.join(format!("{name}-{width}-{scheme}.png"))).await;
        }
    }
    browser.resize(WIDE).await;
    browser.prefer("light").await;
}

/// No script failed, the policy had nothing to refuse, and nothing sticks out of a phone's screen.
async fn assert_sound(browser: &Browser) {
    for size in [NARROW, WIDE] {
        browser.resize(size).await;
        assert_eq!(browser.overflow().await, 0, "wider than {size:?}");
    }
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

async fn wait_ok(receiver: &Receiver) {
    eventually("all well", DEADLINE, async || {
        Some(receiver.get("/healthz").await.json()).filter(|json| json["status"] == "ok")
    })
    .await;
}

/// Where links of the page lead, with their words.
async fn links(browser: &Browser) -> Vec<(String, String)> {
    let found = browser.run("return [...document.querySelectorAll('a')].map(a => [a.innerText, a.href])").await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_receiver_is_ok_and_news_come_in_by_themselves() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    wait_ok(&receiver).await;
    let browser = Browser::start().await;
    browser.open(&receiver.url()).await;
    let text = browser.text().await;
    assert!(browser.title().await.starts_with("OK"), "{text}");
    let order =
        ["OK", "Accepting", "Homeserver", "Rooms", "Waiting", "Delivered last", "Open incidents", "Dead letters"];
    let places: Vec<_> =
        order.iter().map(|part| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"))).collect();
    assert!(places.is_sorted(), "{text}");
    for wanted in [
        "Webhooks are taken, and every room shows all that was accepted.",
        "None has been accepted yet.",
        "Nothing since the start.",
        "Answers, and takes the access token",
        &scene.bot.user_id,
        "default/1",
    ] {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    assert_sound(&browser).await;
    look(&browser, "idle").await;

    browser.run("window.stays = true").await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01", "n02"])).await;
    let view = scene.room.wait_for("the card", DEADLINE, |view| view.cards().len() == 1).await;
    let text = browser.wait_text("the incident", |text| text.contains("DiskFull") && text.contains("new card")).await;
    assert!(text.contains("2 firing"), "{text}");
    assert_eq!(browser.run("return window.stays").await, true, "the page was loaded again");
    // The link of the incident's card is the event that is in the room.
    let card = view.card().event_id().to_owned();
    let server = scene.bot.user_id.split_once(':').expect("a user id").1;
    let expected = format!(
        "https://matrix.to/#/{}/{}?via={server}",
        urlencoding::encode(&scene.room.id),
        urlencoding::encode(&card)
    );
    let links = links(&browser).await;
    assert!(links.contains(&("card in default/1".to_owned(), expected)), "{links:#?}");
    assert!(links.iter().all(|(_, url)| url.starts_with("https://matrix.to/#/")), "{links:#?}");
    assert_sound(&browser).await;
    look(&browser, "one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_answer_leaves_a_page_that_says_so() {
    let scene = Scene::new().await;
    let mut receiver = ReceiverBuilder::of(&scene).start().await;
    wait_ok(&receiver).await;
    let browser = Browser::start().await;
    browser.open(&receiver.url()).await;
    receiver.kill9();
    let text = browser.wait_text("the page is stale", |text| text.contains("Stale since")).await;
    assert!(text.contains("the receiver does not answer") && text.contains("Accepting"), "{text}");
    assert!(browser.title().await.starts_with("Stale"));
    look(&browser, "stale").await;
    receiver.restart().await;
    browser.wait_text("the page is fresh", |text| !text.contains("Stale since")).await;
    assert!(!browser.title().await.starts_with("Stale"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_room_comes_first_with_why_and_until_when() {
    let scene = Scene::new().await;
    let locked = scene.another_room("locked").await;
    let alias = scene.another_room("aliased").await;
    let receiver = ReceiverBuilder::of(&scene)
        .route("platform", &[&alias.id])
        .route("team", &[&locked.id])
        .set("display.timezone", "Europe/Berlin")
        .start()
        .await;
    wait_ok(&receiver).await;
    scene.sre.kick(&locked.id, &scene.bot).await;
    receiver.accept("team", Payload::group("PodCrashLooping").alert(Alert::firing("jellyfin-0").critical())).await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let browser = Browser::start().await;
    browser.open(&receiver.url()).await;
    // While it is tried, the page says "just now".
    let wanted = [
        "room_refused",
        "new card",
        "Held since",
        "tried again in",
        "Wrong room id, or not in the room",
        "1 card waits",
        "not yet in team/1",
    ];
    let text = browser.wait_text("held", |text| wanted.iter().all(|wanted| text.contains(wanted))).await;
    assert!(browser.title().await.starts_with("Degraded"), "{text}");
    let rows = browser.run("return [...document.querySelectorAll('tbody th')].map(cell => cell.innerText)").await;
    let first = rows[0].as_str().unwrap_or_default();
    assert!(first.starts_with("team/1") && first.contains(&locked.id), "{rows:#}");
    let waiting = text.split("Waiting").last().unwrap_or_default();
    assert!(waiting.contains("PodCrashLooping"), "{text}");
    let zone = browser.run("return document.querySelector('time').title").await;
    assert!(zone.as_str().is_some_and(|at| at.ends_with("CET") || at.ends_with("CEST")), "{zone}");
    // The two never disagree.
    assert_eq!(receiver.get("/healthz").await.json()["status"], "degraded");
    assert_sound(&browser).await;
    look(&browser, "held").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_bounded_and_readable() {
    const GROUPS: usize = 80;
    let scene = Scene::limited().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    wait_ok(&receiver).await;
    let names = ["PodCrashLooping", "NodeDiskPressure", "TargetDown", "KubeAPIDown", "CertificateExpires"];
    let group = |n: usize| {
        let alert =
            Alert::firing(&format!("node{:02}.example.org:9100", n % 17)).label("namespace", &format!("team-{n}"));
        let alert = if n.is_multiple_of(9) { alert.critical() } else { alert };
        Payload::group(names[n % names.len()]).group_label("namespace", &format!("team-{n}")).alert(alert)
    };
    futures_util::future::join_all((0..20).map(|n| receiver.accept("default", group(n)))).await;
    scene.room.wait_for("some of them", DEADLINE, |view| !view.cards().is_empty()).await;
    proxy.fault(Match::sends(), Fault::limited(Duration::from_secs(45)));
    futures_util::future::join_all((20..GROUPS).map(|n| receiver.accept("default", group(n)))).await;
    let browser = Browser::start().await;
    browser.open(&receiver.url()).await;
    let text = browser.wait_text("limited", |text| text.contains("limits our rate")).await;
    assert!(
        text.contains(&format!("Open incidents {GROUPS}")) || text.contains(&format!("Open incidents\n{GROUPS}")),
        "{text}"
    );
    assert!(text.contains("and 30 more, less severe or newer"), "{text}");
    let shown = browser.run("return document.querySelectorAll('main > section:nth-of-type(6) li').length").await;
    assert_eq!(shown, 50, "{text}");
    let first = browser.run("return document.querySelector('main > section:nth-of-type(6) li').innerText").await;
    assert!(first.as_str().is_some_and(|row| row.contains("CRITICAL")), "{first}");
    assert!(text.contains("“Rate limited”"), "{text}");
    assert_sound(&browser).await;
    look(&browser, "storm").await;
    // What was unfolded stays so when the page is read again, and what is focused stays focused.
    browser.run("document.querySelector('details').open = true; document.querySelector('main a').focus()").await;
    browser.run("document.querySelector('main').dataset.old = 'yes'").await;
    let state = "const main = document.querySelector('main'); \
                 return [main.dataset.old ?? 'new', main.querySelector('details')?.open, document.activeElement.tagName]";
    let kept = eventually("the page is read again", DEADLINE, async || {
        Some(browser.run(state).await).filter(|state| state[0] == "new")
    });
    assert_eq!(kept.await, json!(["new", true, "A"]));
}

/// For docs/HEALTH.md; it takes as long as the picture of the last minutes does.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes a picture and takes four minutes: make picture"]
async fn a_picture_of_a_few_minutes() {
    let folder = PathBuf::from(std::env::var_os("MAR_TEST_PICTURES").expect("MAR_TEST_PICTURES names a folder"));
    let scene = Scene::new().await;
    let (locked, team) = (scene.another_room("locked").await, scene.another_room("team").await);
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene)
        .homeserver(&proxy.url())
        .route("media", &[&team.id])
        .route("storage", &[&locked.id])
        .start()
        .await;
    wait_ok(&receiver).await;
    scene.sre.kick(&locked.id, &scene.bot).await;
    let disk = Alert::firing("nas01").critical().annotation("summary", "Array md0 on nas01 has lost a disk");
    receiver.accept("storage", Payload::group("RaidDegraded").alert(disk)).await;
    let pod = Alert::firing("jellyfin-0").critical().annotation("summary", "Pod media/jellyfin-0 is crash looping");
    receiver.accept("media", Payload::group("PodCrashLooping").group_label("namespace", "media").alert(pod)).await;
    for step in 0..48_usize {
        // Busier in the middle, and limited for a while.
        if step == 24 {
            proxy.fault_times(1, Match::sends(), Fault::limited(Duration::from_secs(12)));
        }
        let nodes = ["controlplane1", "controlplane2", "controlplane3", "controlplane4"];
        let payload = Payload::group("NodeDiskPressure").group_label("cluster", "home");
        receiver.accept("default", payload.firing(&nodes[..=step % 4])).await;
        for n in 0..(step % 16).saturating_sub(9) {
            let name = ["TargetDown", "KubeJobFailed", "CertificateExpires"][n % 3];
            let alert = if step < 40 { Alert::firing("node-exporter") } else { Alert::resolved("node-exporter") };
            receiver.accept("default", Payload::group(name).group_label("job", "node").alert(alert)).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let browser = Browser::start().await;
    browser.resize((1000, 900)).await;
    browser.open(&receiver.url()).await;
    browser.picture(&folder.join("status.png")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_told_with_the_command_that_mends_them() {
    let scene = Scene::new().await;
    let proxy = FaultProxy::start(&scene.synapse.url()).await;
    let receiver = ReceiverBuilder::of(&scene).homeserver(&proxy.url()).start().await;
    proxy.fault_times(3, Match::sends(), Fault::error(413, "M_TOO_LARGE"));
    receiver.accept("default", Payload::group("A").firing(&["n01"])).await;
    receiver.wait_metric("dead_letters_total", &[("reason", "too_large")], |dead| dead == 1.0).await;
    let browser = Browser::start().await;
    browser.open(&receiver.url()).await;
    let text = browser.wait_text("the letter", |text| text.contains("too_large")).await;
    for wanted in ["matrix-alertmanager-receiver dead-letters", "new card for default/1", "it is a dead letter"] {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    assert!(browser.title().await.starts_with("Degraded"));
    assert_sound(&browser).await;
}

/// What labels say is text on the page, and as narrow as it.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_labels_are_text() {
    const MARKUP: &str = r#"<img src=x onerror="window.loose=1"><script>window.loose=2</script>"#;
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).start().await;
    let evil = [
        ("Markup", MARKUP.to_owned()),
        ("Link", "javascript:window.loose=3 https://evil.example/ \" onclick=\"window.loose=4".to_owned()),
        ("Direction", "\u{202e}txet desrever \u{2066}עברית".to_owned()),
        ("Long", "x".repeat(4000)),
        ("Broken", "</main></body><main>\u{0}\u{7f}\r\n{{ 7*7 }} &lt;b&gt; '\"`".to_owned()),
    ];
    for (name, text) in &evil {
        let alert = Alert::firing("n01").label("pod", text).annotation("summary", text).critical();
        receiver
            .accept("default", Payload::group(&format!("{name} {text}")).group_label("team", text).alert(alert))
            .await;
    }
    receiver.wait_metric("incidents_open", &[("route", "default")], |open| open == 5.0).await;
    let browser = Browser::start().await;
    browser.open(&receiver.url()).await;
    let text = browser.wait_text("all of them", |text| evil.iter().all(|(name, _)| text.contains(name))).await;
    assert!(text.contains("<img src=x onerror="), "{text}");
    assert!(!text.contains(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}' | '\u{2067}')), "{text:?}");
    assert_eq!(browser.run("return window.loose ?? null").await, Value::Null);
    let strays = "return document.querySelectorAll('main img, main script, main [onclick], main [style]').length";
    assert_eq!(browser.run(strays).await, 0);
    assert_eq!(browser.run("return document.querySelectorAll('main').length").await, 1);
    let links = links(&browser).await;
    assert!(links.iter().all(|(_, url)| url.starts_with("https://matrix.to/#/")), "{links:#?}");
    assert_sound(&browser).await;
    look(&browser, "hostile").await;
}

async fn ask(receiver: &Receiver, headers: &[(&str, &str)]) -> Answer {
    let request = receiver.request(Method::GET, "/?unknown=1");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::to(request).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_the_page_is_for_this_machine() {
    let scene = Scene::new().await;
    let receiver = ReceiverBuilder::of(&scene).webhook_token("hook-token").start().await;
    let page = ask(&receiver, &[]).await;
    assert_eq!(page.status, 200);
    for (header, expected) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(page.header(header), Some(expected));
    }
    let policy = page.header("content-security-policy").expect("a policy").to_owned();
    for wanted in
        ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "connect-src 'self'"]
    {
        assert!(policy.contains(wanted), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!page.body.contains("hook-token") && !page.body.contains(&scene.bot.access_token));
    let head = Answer::to(receiver.request(Method::HEAD, "/")).await.expect("an answer");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let post = Answer::to(receiver.request(Method::POST, "/")).await.expect("an answer");
    assert_eq!(post.status, 405);
    assert_eq!(receiver.metric("http_requests_total", &[("handler", "status"), ("code", "200")]).await, 2.0);

    // Another name was made to lead here, or a proxy asks for somebody else: then it is for holders of the credentials.
    for stranger in [("host", "evil.example"), ("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")] {
        let refused = ask(&receiver, &[stranger]).await;
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(r#"Bearer realm="alerts""#)));
        assert_eq!(ask(&receiver, &[stranger, ("authorization", "Bearer hook-token")]).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn off_loopback_the_page_wants_credentials() {
    let scene = Scene::new().await;
    let open = ReceiverBuilder::of(&scene).everywhere().set("http.allow_unauthenticated", true).start().await;
    let refused = ask(&open, &[]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("http.admin"), "{}", refused.body);
    assert!(!refused.body.contains("<html"), "{}", refused.body);

    let bearer = ReceiverBuilder::of(&scene).everywhere().webhook_token("hook-token").start().await;
    assert_eq!(ask(&bearer, &[]).await.status, 401);
    assert!(!bearer.logs().contains("status page refused"), "nobody has tried a credential");
    assert_eq!(ask(&bearer, &[("authorization", "Bearer wrong")]).await.status, 401);
    bearer.wait_log(&["status page refused: wrong credentials"]).await;
    assert_eq!(ask(&bearer, &[("authorization", "Bearer hook-token")]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_is_for_who_knows_the_password() {
    let scene = Scene::new().await;
    let (builder, admin) = ReceiverBuilder::of(&scene).admin("operator", "open sesame");
    let receiver = builder.start().await;
    wait_ok(&receiver).await;
    let main = ask(&receiver, &[]).await;
    assert_eq!(main.status, 404);
    assert!(main.body.contains("http.admin"), "{}", main.body);

    let client = crate::harness::http::client();
    for path in ["/", "/metrics", "/healthz", "/livez", "/nothing", "/alerts/default"] {
        let refused = Answer::to(client.get(format!("http://{admin}{path}"))).await.expect("an answer");
        assert_eq!((refused.status, refused.header("www-authenticate").is_some()), (401, true), "{path}");
        let wrong = client.get(format!("http://{admin}{path}")).basic_auth("operator", Some("wrong"));
        assert_eq!(wrong.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let known = |path: &str| client.get(format!("http://{admin}{path}")).basic_auth("operator", Some("open sesame"));
    for (path, status) in
        [("/", 200), ("/metrics", 200), ("/healthz", 200), ("/nothing", 404), ("/alerts/default", 404)]
    {
        assert_eq!(known(path).send().await.expect("an answer").status().as_u16(), status, "{path}");
    }
    // A webhook that comes here by mistake is not lost without a word.
    let webhook = client.post(format!("http://{admin}/alerts/default"));
    let lost = Answer::to(webhook.basic_auth("operator", Some("open sesame"))).await.expect("an answer");
    assert_eq!(lost.status, 404);
    assert!(lost.body.contains("/alerts/default of http.listen"), "{}", lost.body);
    receiver.wait_log(&["WARN webhook lost: this path takes none", "/alerts/default of http.listen"]).await;
    let counted = receiver.metric("http_requests_total", &[("handler", "alerts"), ("code", "404")]).await;
    assert_eq!(counted, 1.0);

    let browser = Browser::start().await;
    browser.open(&format!("http://operator:open%20sesame@{admin}/")).await;
    assert!(browser.title().await.starts_with("OK"), "{}", browser.text().await);
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let text = browser.wait_text("news", |text| text.contains("DiskFull")).await;
    assert!(!text.contains("Stale"), "{text}");
    assert_sound(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_address_that_is_taken_is_told_by_its_key() {
    let scene = Scene::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (builder, _) = ReceiverBuilder::of(&scene).admin("operator", "open sesame");
    let failure = builder.set("http.admin.listen", address.as_str()).try_start().await.expect_err("the port is taken");
    assert!(failure.log.contains(&format!("http.admin.listen: cannot listen on {address}")), "{failure}");
}

/// The homeserver is gone: the page says so, and what is accepted meanwhile waits in sight.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_where_an_operator_looks_first() {
    let mut synapse = Homeserver::private().await;
    let (bot, sre) = (synapse.user("alerts").await, synapse.user("sre").await);
    let room = Room::with(&sre, &bot, NewRoom::named("ops")).await;
    let receiver = ReceiverBuilder::new(&bot).route("default", &[&room.id]).start().await;
    wait_ok(&receiver).await;
    synapse.stop().await;
    receiver.accept("default", Payload::group("DiskFull").firing(&["n01"])).await;
    let browser = Browser::start().await;
    browser.open(&receiver.url()).await;
    let text = browser
        .wait_text("the outage", |text| text.contains("“Homeserver down”") && text.contains("1 card waits"))
        .await;
    assert!(text.contains("Homeserver:") && text.contains("not yet in default/1"), "{text}");
    look(&browser, "outage").await;
    synapse.start().await;
    browser.wait_text("the card is there", |text| text.contains("card in default/1")).await;
    // The card may be there before the next sync has succeeded.
    eventually("all well again", DEADLINE * 2, async || browser.title().await.starts_with("OK").then_some(())).await;
    assert_sound(&browser).await;
}
