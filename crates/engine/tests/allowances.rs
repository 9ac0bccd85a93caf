//! The limits of what a rule may ask of its reporters.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::TestRule;
use node_readiness_engine::reporter::{Allowances, ConstrainedImpersonation, Refusal, admit};
use serde_json::{Value, json};

fn probing(kind: &str, action: Value) -> TestRule {
    let mut probe = json!({"conditionType": "Ready1"});
    probe[kind] = action;
    TestRule::new("r").spec("probes", json!([probe]))
}

fn reporter(options: Value) -> TestRule {
    probing("grpc", json!({"port": 1})).spec("reporter", options)
}

fn pattern(text: &str) -> glob::Pattern {
    glob::Pattern::new(text).unwrap()
}

fn generous() -> Allowances {
    Allowances {
        exec: true,
        root: true,
        images: vec![pattern("example.com/tools/*")],
        hosts: vec![pattern("*.internal"), pattern("10.0.0.1")],
        host_paths: vec!["/run/gpu".into()],
    }
}

fn admitted(rule: &TestRule, allowances: &Allowances) -> Result<(), Refusal> {
    admit(&rule.object(), allowances, ConstrainedImpersonation::Works)
}

#[test]
fn a_probe_of_localhost_needs_no_flag() {
    for rule in [
        probing("httpGet", json!({"port": 1})),
        probing("httpGet", json!({"port": 1, "host": "localhost", "bodyMatches": "^ok$"})),
        probing("tcpSocket", json!({"port": 1})),
        probing("grpc", json!({"port": 1})),
        reporter(json!({"runAsUser": 1000, "hostNetwork": false})),
    ] {
        assert_eq!(admitted(&rule, &Allowances::default()), Ok(()), "{rule:?}");
    }
}

#[test]
fn everything_else_is_refused_with_field_and_flag_until_it_is_allowed() {
    for (rule, field, flag) in [
        (
            probing("httpGet", json!({"port": 1, "host": "a.internal"})),
            "spec.probes[Ready1].httpGet.host",
            "--allow-probe-host",
        ),
        (
            probing("tcpSocket", json!({"port": 1, "host": "10.0.0.1"})),
            "spec.probes[Ready1].tcpSocket.host",
            "--allow-probe-host",
        ),
        (
            probing("exec", json!({"command": ["true"]})),
            "spec.probes[Ready1].exec",
            "--allow-exec-probes",
        ),
        (
            probing("unixSocket", json!({"path": "/run/gpu/d.sock"})),
            "spec.probes[Ready1].unixSocket.path",
            "--allow-host-path",
        ),
        (
            probing("file", json!({"path": "/run/gpu/*/ready"})),
            "spec.probes[Ready1].file.path",
            "--allow-host-path",
        ),
        (
            reporter(json!({"image": "example.com/tools/a:1"})),
            "spec.reporter.image",
            "--allow-reporter-image",
        ),
        (reporter(json!({"runAsUser": 0})), "spec.reporter.runAsUser", "--allow-root-reporters"),
    ] {
        let refusal = admitted(&rule, &Allowances::default()).unwrap_err();
        assert_eq!(refusal.reason, "NotAllowed");
        assert!(refusal.message.contains(field), "{refusal:?} does not name {field}");
        assert!(refusal.message.contains(flag), "{refusal:?} does not name {flag}");
        assert_eq!(admitted(&rule, &generous()), Ok(()), "{rule:?}");
    }
}

#[test]
fn an_allowance_permits_only_what_it_names() {
    for rule in [
        probing("httpGet", json!({"port": 1, "host": "internal"})),
        probing("tcpSocket", json!({"port": 1, "host": "169.254.169.254"})),
        probing("unixSocket", json!({"path": "/run/gpu.sock"})),
        probing("file", json!({"path": "/run/gpu*/ready"})),
        probing("file", json!({"path": "/run/*"})),
        reporter(json!({"image": "example.com/tools"})),
    ] {
        assert_eq!(admitted(&rule, &generous()).unwrap_err().reason, "NotAllowed", "{rule:?}");
    }
}

#[test]
fn an_invalid_pattern_is_refused_before_a_reporter_starts() {
    for (rule, field) in [
        (probing("httpGet", json!({"port": 1, "bodyMatches": "("})), "httpGet.bodyMatches"),
        (
            // Too large for the reporter.
            probing("httpGet", json!({"port": 1, "bodyMatches": "(a{100}){100}"})),
            "httpGet.bodyMatches",
        ),
        (probing("file", json!({"path": "/run/gpu/[a"})), "file.path"),
    ] {
        let refusal = admitted(&rule, &generous()).unwrap_err();
        assert_eq!(refusal.reason, "Invalid");
        assert!(refusal.message.contains(field), "{refusal:?}");
    }
}

#[test]
fn a_rule_that_needs_missing_impersonation_is_refused_with_the_remedy() {
    let missing = |rule: &TestRule| {
        admit(&rule.object(), &Allowances::default(), ConstrainedImpersonation::Missing)
    };
    let refusal = missing(&reporter(json!({}))).unwrap_err();
    assert_eq!(refusal.reason, "ConstrainedImpersonationMissing");
    assert!(refusal.message.contains("spec.reporter.access"), "{refusal:?}");
    assert_eq!(missing(&reporter(json!({"access": "AdmissionPolicy"}))), Ok(()));
    assert_eq!(missing(&TestRule::new("without-probes")), Ok(()));
    let unknown = ConstrainedImpersonation::Unknown;
    assert_eq!(admit(&reporter(json!({})).object(), &Allowances::default(), unknown), Ok(()));
}
