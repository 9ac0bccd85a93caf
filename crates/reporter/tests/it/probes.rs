//! HTTP probes against servers that behave, and against servers that do not.

use std::{fs, time::Duration};

use http::{HeaderMap, HeaderValue};
use node_readiness_reporter::probe::{
    BodyPattern, Check, HttpCheck, Outcome, Prober, ReasonStyle, Roots, TrustError,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    in_time, observe,
    site::{Reply, Site},
};

/// Long enough for any answer that is going to come.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For answers that are not.
const SHORT: Duration = Duration::from_millis(200);

fn check(url: &str, reason_style: ReasonStyle) -> HttpCheck {
    HttpCheck { url: url.parse().unwrap(), headers: HeaderMap::new(), body: None, reason_style }
}

async fn outcome_of(check: HttpCheck) -> Outcome {
    observe::outcome_of(Check::Http(check)).await
}

async fn pod_probe(site: &Site, path: &str) -> Outcome {
    outcome_of(check(&format!("http://localhost:{}{path}", site.port), ReasonStyle::PodProbe)).await
}

async fn endpoint(site: &Site, path: &str) -> Outcome {
    let reason_style = ReasonStyle::Endpoint(Roots::Bundled);
    outcome_of(check(&format!("http://localhost:{}{path}", site.port), reason_style)).await
}

/// Runs a probe as the process does and waits for its first verdict.
async fn first_verdict(url: &str, timeout: Duration) -> (&'static str, &'static str, String) {
    observe::first_verdict(Check::Http(check(url, ReasonStyle::PodProbe)), timeout).await
}

#[tokio::test]
async fn a_status_from_200_to_399_is_healthy() {
    let site = Site::start(|path| Reply::status(path[1..].parse().unwrap())).await;
    for (status, healthy) in [(200, true), (204, true), (304, true), (404, false), (500, false)] {
        let outcome = pod_probe(&site, &format!("/{status}")).await;
        assert_eq!(outcome.healthy, healthy, "{outcome:?}");
        let message = format!("httpGet http://localhost:{}/{status}: status {status}", site.port);
        assert_eq!(outcome.message, message);
    }
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed() {
    let site = Site::start(|path| match path {
        "/good" => Reply::status(200),
        "/bad" => Reply::status(500),
        "/to-good" => Reply::redirect("/good"),
        _ => Reply::redirect("/bad"),
    })
    .await;
    assert!(pod_probe(&site, "/to-good").await.healthy);
    assert!(!pod_probe(&site, "/to-bad").await.healthy);
    assert_eq!(site.heads().len(), 4);
}

#[tokio::test]
async fn a_redirect_to_another_host_is_a_success_and_not_followed() {
    let other = Site::start(|_| Reply::status(500)).await;
    let elsewhere = format!("http://127.0.0.1:{}/", other.port);
    let site = Site::start(move |_| Reply::redirect(&elsewhere)).await;
    let outcome = pod_probe(&site, "/").await;
    assert!(outcome.healthy);
    assert!(outcome.message.ends_with("status 302"), "{outcome:?}");
    assert_eq!(other.heads().len(), 0);
}

#[tokio::test]
async fn an_endpoint_is_healthy_at_2xx_wherever_redirects_lead() {
    let other = Site::start(|_| Reply::status(200)).await;
    let elsewhere = format!("http://127.0.0.1:{}/", other.port);
    let site = Site::start(move |path| match path {
        "/elsewhere" => Reply::redirect(&elsewhere),
        _ => Reply::status(304),
    })
    .await;
    let outcome = endpoint(&site, "/elsewhere").await;
    assert_eq!((outcome.healthy, outcome.reason), (true, "EndpointOK"));
    let outcome = endpoint(&site, "/not-modified").await;
    assert_eq!((outcome.healthy, outcome.reason), (false, "EndpointNotReady"));
}

#[tokio::test]
async fn redirects_end_after_ten_requests() {
    let site = Site::start(|_| Reply::redirect("/")).await;
    let outcome = pod_probe(&site, "/").await;
    assert!(!outcome.healthy);
    assert!(outcome.message.ends_with("too many redirects"), "{outcome:?}");
    assert_eq!(site.heads().len(), 10);
}

#[tokio::test]
async fn each_probe_makes_its_own_connection_and_says_who_it_is() {
    let site = Site::start(|_| Reply::status(200)).await;
    let mut check = check(&format!("http://localhost:{}/x?y=z", site.port), ReasonStyle::PodProbe);
    check.headers.append("x-probe", HeaderValue::from_static("one"));
    check.headers.append("x-probe", HeaderValue::from_static("two"));
    let prober = Prober::new(Check::Http(check)).unwrap();
    in_time(prober.probe()).await;
    in_time(prober.probe()).await;
    let heads = site.heads();
    assert_eq!(heads.len(), 2);
    let head = heads[0].to_lowercase();
    assert!(head.starts_with("get /x?y=z http/1.1\r\n"), "{head}");
    for line in [
        &format!("host: localhost:{}", site.port),
        "connection: close",
        "user-agent: node-readiness-reporter/0.1.0",
        "x-probe: one",
        "x-probe: two",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
}

#[tokio::test]
async fn a_custom_host_and_user_agent_replace_the_usual_ones() {
    let site = Site::start(|_| Reply::status(200)).await;
    let mut check = check(&format!("http://localhost:{}/", site.port), ReasonStyle::PodProbe);
    check.headers.append("Host", HeaderValue::from_static("agent.example.com"));
    check.headers.append("User-Agent", HeaderValue::from_static("custom"));
    outcome_of(check).await;
    let head = site.heads()[0].to_lowercase();
    assert!(head.contains("host: agent.example.com\r\n"), "{head}");
    assert!(head.contains("user-agent: custom\r\n"), "{head}");
    assert_eq!(head.matches("host:").count() + head.matches("user-agent:").count(), 2, "{head}");
}

#[tokio::test]
async fn nobody_listening_is_a_refused_connection() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("http://localhost:{port}/");
    let outcome = outcome_of(check(&url, ReasonStyle::PodProbe)).await;
    assert_eq!(
        (outcome.reason, outcome.message),
        ("ProbeFailed", format!("httpGet {url}: connection refused"))
    );
    let outcome = outcome_of(check(&url, ReasonStyle::Endpoint(Roots::Bundled))).await;
    assert_eq!(outcome.reason, "EndpointConnectionError");
}

#[tokio::test]
async fn garbage_differs_from_a_closed_connection() {
    let site = Site::start(|path| match path {
        "/garbage" => Reply::Bytes("SSH-2.0-OpenSSH_9.2\r\n\r\n".into()),
        "/closed" => Reply::Bytes(String::new()),
        _ => Reply::Bytes("HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\nshort".into()),
    })
    .await;
    for (path, words) in [
        ("/garbage", "not a valid HTTP answer"),
        ("/closed", "connection closed before a complete answer"),
        ("/short", "connection closed before a complete answer"),
    ] {
        let outcome = pod_probe(&site, path).await;
        assert!(!outcome.healthy);
        assert!(outcome.message.ends_with(words), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_cut_at_the_deadline() {
    let mut site = Site::start(|_| Reply::Stall(String::new())).await;
    let url = format!("http://localhost:{}/", site.port);
    let (status, reason, message) = first_verdict(&url, SHORT).await;
    assert_eq!((status, reason), ("False", "ProbeTimedOut"));
    assert_eq!(message, format!("httpGet {url}: no complete answer within 200ms"));
    in_time(site.connection_ended()).await;
}

#[tokio::test]
async fn a_slow_body_is_cut_at_the_deadline() {
    let stalled = "HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\nfirst";
    let mut site = Site::start(move |_| Reply::Stall(stalled.into())).await;
    let url = format!("http://localhost:{}/", site.port);
    let (status, reason, _) = first_verdict(&url, SHORT).await;
    assert_eq!((status, reason), ("False", "ProbeTimedOut"));
    in_time(site.connection_ended()).await;
}

#[tokio::test]
async fn a_huge_body_is_neither_read_nor_reported() {
    let mut site = Site::start(|_| Reply::Endless).await;
    let outcome = pod_probe(&site, "/").await;
    assert!(outcome.healthy);
    assert!(outcome.message.ends_with(": status 200"), "{outcome:?}");
    // The probe hung up, or the server would still be sending.
    in_time(site.connection_ended()).await;
}

#[tokio::test]
async fn a_body_is_matched_and_never_shown() {
    let secret = "token=hunter2";
    let site = Site::start(move |path| match path {
        "/good" => Reply::Bytes(format!("HTTP/1.0 200 X\r\n\r\n{secret}\nstate: ok\n")),
        "/binary" => Reply::Bytes("HTTP/1.0 200 X\r\n\r\n\0\u{1}state: ok".into()),
        "/late" => {
            Reply::Bytes(format!("HTTP/1.0 200 X\r\n\r\n{}state: ok", "x".repeat(10 * 1024)))
        }
        "/failing" => Reply::Bytes("HTTP/1.0 500 X\r\n\r\nstate: ok".into()),
        "/moved" => Reply::redirect("http://example.com/"),
        "/endless" => Reply::Endless,
        _ => Reply::Bytes(format!("HTTP/1.0 200 X\r\n\r\n{secret}\nstate: bad\n")),
    })
    .await;
    for (path, healthy, words) in [
        ("/good", true, "status 200"),
        ("/binary", true, "status 200"),
        ("/bad", false, "the body does not match"),
        ("/late", false, "the body does not match"),
        ("/endless", false, "the body does not match"),
        ("/moved", false, "the body does not match"),
        ("/failing", false, "status 500"),
    ] {
        let url = format!("http://localhost:{}{path}", site.port);
        let body = Some(BodyPattern::new("(?m)state: ok$").unwrap());
        let outcome = outcome_of(HttpCheck { body, ..check(&url, ReasonStyle::PodProbe) }).await;
        let message = format!("httpGet {url}: {words}");
        assert_eq!((outcome.healthy, outcome.message), (healthy, message));
    }
}

#[tokio::test]
async fn a_host_may_be_named_and_a_wrong_name_is_reported() {
    let site = Site::start(|_| Reply::status(200)).await;
    let url = format!("http://127.0.0.1:{}/", site.port);
    assert!(outcome_of(check(&url, ReasonStyle::PodProbe)).await.healthy);
    // A label of a name has at most 63 characters, so this asks no server anywhere.
    let url = format!("http://{}.invalid/", "a".repeat(64));
    let outcome = outcome_of(check(&url, ReasonStyle::PodProbe)).await;
    assert!(outcome.message.ends_with(": host name not resolved"), "{outcome:?}");
}

#[tokio::test]
async fn a_stuck_probe_delays_no_other() {
    let stuck = Site::start(|_| Reply::Stall(String::new())).await;
    let url = format!("http://localhost:{}/", stuck.port);
    let patient = Duration::from_hours(1);
    tokio::spawn(observe::first_verdict(Check::Http(check(&url, ReasonStyle::PodProbe)), patient));
    let site = Site::start(|_| Reply::status(200)).await;
    let url = format!("http://localhost:{}/", site.port);
    assert_eq!(first_verdict(&url, TIMEOUT).await.0, "True");
}

#[tokio::test]
async fn a_pod_probe_accepts_any_certificate() {
    let (site, _) = Site::start_tls(|_| Reply::status(200)).await;
    let url = format!("https://localhost:{}/", site.port);
    assert!(outcome_of(check(&url, ReasonStyle::PodProbe)).await.healthy);
}

#[tokio::test]
async fn a_client_certificate_that_is_missing_is_named() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let site = Site::start_mutual_tls(&[version], |_| Reply::status(200)).await;
        let url = format!("https://localhost:{}/", site.port);
        for reason_style in [ReasonStyle::PodProbe, ReasonStyle::Endpoint(Roots::Bundled)] {
            let is_verified = reason_style != ReasonStyle::PodProbe;
            let outcome = outcome_of(check(&url, reason_style)).await;
            let found = outcome.message.split_once(": ").unwrap().1;
            let expected = if is_verified {
                "TLS certificate not accepted"
            } else {
                "refused by a server that asks for a client certificate, which a probe does not have"
            };
            assert_eq!((outcome.healthy, found), (false, expected));
        }
    }
}

/// That kubelet takes them so, too, is shown on a real node, in the operator's end-to-end tests.
#[tokio::test]
async fn answers_that_are_not_quite_http_are_taken_as_kubelet_takes_them() {
    let headers = |number: usize, length: usize| {
        let header = |number| format!("x-{number}: {}\r\n", "x".repeat(length));
        (0..number).map(header).collect::<String>()
    };
    let answers = [
        ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok".to_owned(), "status 200"),
        ("HTTP/1.1 200 OK\ncontent-length: 2\n\nok".to_owned(), "status 200"),
        ("HTTP/1.0 200 OK\r\n\r\nok".to_owned(), "status 200"),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", headers(120, 1)), "status 200"),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", headers(1, 20_000)), "status 200"),
        ("HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n".to_owned(), "status 200"),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(),
            "status 200",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "status 204"),
        ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_owned(), "status 302"),
        ("HTTP/1.1 503\r\ncontent-length: 0\r\n\r\n".to_owned(), "status 503"),
    ];
    for (answer, expected) in answers {
        let shown: String = answer.chars().take(40).collect();
        let site = Site::start(move |_| Reply::Bytes(answer.clone())).await;
        let outcome = pod_probe(&site, "/").await;
        let found = outcome.message.split_once("/: ").unwrap().1;
        assert_eq!(found, expected, "{shown:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_port_of_the_same_host_is_followed() {
    let other = Site::start(|_| Reply::status(500)).await;
    let elsewhere = format!("http://localhost:{}/", other.port);
    let site = Site::start(move |_| Reply::redirect(&elsewhere)).await;
    assert!(!pod_probe(&site, "/").await.healthy);
    assert_eq!(other.heads().len(), 1);
}

#[tokio::test]
async fn a_close_without_farewell_ends_a_body_of_unknown_length_only() {
    let (site, _) = Site::start_tls(|path| match path {
        "/unknown-length" => Reply::Cut("HTTP/1.0 200 X\r\n\r\nok".into()),
        "/known-length" => Reply::Cut("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nok".into()),
        _ => Reply::Cut("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok".into()),
    })
    .await;
    for (path, healthy) in
        [("/unknown-length", true), ("/known-length", false), ("/chunked", false)]
    {
        let url = format!("https://localhost:{}{path}", site.port);
        let outcome = outcome_of(check(&url, ReasonStyle::PodProbe)).await;
        assert_eq!(outcome.healthy, healthy, "{outcome:?}");
    }
}

#[tokio::test]
async fn an_endpoint_must_have_a_certificate_that_the_roots_vouch_for() {
    let (site, certificate) = Site::start_tls(|_| Reply::status(200)).await;
    let url = format!("https://localhost:{}/", site.port);
    let outcome = outcome_of(check(&url, ReasonStyle::Endpoint(Roots::Bundled))).await;
    assert_eq!((outcome.healthy, outcome.reason), (false, "EndpointConnectionError"));
    assert!(outcome.message.ends_with("TLS certificate not accepted"), "{outcome:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), certificate).unwrap();
    let roots = Roots::File(file.path().to_owned());
    let outcome = outcome_of(check(&url, ReasonStyle::Endpoint(roots))).await;
    assert_eq!((outcome.healthy, outcome.reason), (true, "EndpointOK"), "{outcome:?}");
}

#[tokio::test]
async fn http_and_https_mixed_up_are_reported() {
    let (site, _) = Site::start_tls(|_| Reply::status(200)).await;
    let outcome = pod_probe(&site, "/").await;
    assert!(outcome.message.ends_with("not a valid HTTP answer"), "{outcome:?}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        // Hold the connection, so that the answer is what the probe sees and not its end.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let outcome = outcome_of(check(&url, ReasonStyle::PodProbe)).await;
    assert!(outcome.message.ends_with("TLS handshake failed"), "{outcome:?}");
}

#[test]
fn an_unusable_ca_file_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let prober = |path: &std::path::Path| {
        let reason_style = ReasonStyle::Endpoint(Roots::File(path.to_owned()));
        Prober::new(Check::Http(check("https://localhost/", reason_style)))
    };
    for text in
        ["", "no PEM at all", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        fs::write(file.path(), text).unwrap();
        let error = prober(file.path()).unwrap_err();
        assert!(matches!(error, TrustError::NotCertificates { .. }), "{error}");
        assert!(error.to_string().starts_with("CHECK_CA_FILE "), "{error}");
    }
    let error = prober("/nonexistent/ca.pem".as_ref()).unwrap_err();
    assert!(matches!(error, TrustError::Unreadable { .. }), "{error}");
}
