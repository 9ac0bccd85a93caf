//! The operator's metrics, and access to them.

use serde_json::{Value, json};

use crate::harness::{Fixture, KEY, gone, kubectl, poll};
use crate::scraper::{Answer, rotate_certificate, scrape};

/// Creates a ServiceAccount for a scraper, and returns its token.
fn token(account: &str) -> String {
    kubectl(&["create", "serviceaccount", account, "-n", "nrr-system"]);
    kubectl(&["create", "token", account, "-n", "nrr-system"]).trim().to_owned()
}

/// Grants a ServiceAccount access to metrics as in the documentation.
fn allow(account: &str) {
    let subject = format!("--serviceaccount=nrr-system:{account}");
    kubectl(&[
        "create",
        "clusterrolebinding",
        account,
        "--clusterrole=nrr-metrics-reader",
        &subject,
    ]);
}

fn reader(account: &str) -> String {
    let token = token(account);
    allow(account);
    token
}

/// Scrapes until the metrics contain these lines.
async fn expect(token: &str, lines: &[&str]) {
    let mut last = Answer::default();
    let found = poll(async || {
        last = scrape(Some(token));
        let has = |line: &&str| last.body.lines().any(|exposed| exposed == *line);
        (last.status == 200 && lines.iter().all(has)).then_some(())
    });
    let found = found.await;
    assert!(found.is_some(), "{lines:?} are not all in\n{} {}", last.status, last.body);
}

/// Waits until a counter exists, and returns its value. `counter` is its line up to the space before the value.
/// `account` must be unique among the tests.
pub async fn counted(account: &str, counter: &str) -> u64 {
    let token = reader(account);
    let value = poll(async || {
        let body = scrape(Some(&token)).body;
        let value = body.lines().find_map(|line| line.strip_prefix(counter))?;
        value.parse().ok().filter(|count| *count > 0)
    });
    value.await.unwrap_or_default()
}

#[tokio::test]
async fn a_rules_series_follow_its_nodes_and_are_removed_with_the_rule() {
    let t = Fixture::new("metered").await;
    let token = reader("metered");
    let node = t.node("a", &Value::Null).await;
    t.apply(&t.rule()).await;
    t.expect_taints(&node, KEY, &["pending:NoSchedule"]).await;
    expect(
        &token,
        &[
            r#"node_readiness_taint_operations_total{rule="metered",operation="add"} 1"#,
            r#"node_readiness_taint_operations_total{rule="metered",operation="remove"} 0"#,
            r#"node_readiness_reconciliation_latency_seconds_count{rule="metered",operation="add_taint"} 1"#,
            r#"node_readiness_nodes_by_state{rule="metered",state="not_ready"} 1"#,
            r#"node_readiness_rule_nodes{rule="metered",state="held"} 1"#,
            r#"node_readiness_condition_failures_total{rule="metered",condition="example.com/Ready"} 1"#,
            r#"node_readiness_failures_total{rule="metered",reason="AddTaintError"} 0"#,
        ],
    )
    .await;
    t.report(&node, "example.com/Ready", "True").await;
    t.expect_taints(&node, KEY, &[]).await;
    expect(
        &token,
        &[
            r#"node_readiness_taint_operations_total{rule="metered",operation="add"} 1"#,
            r#"node_readiness_taint_operations_total{rule="metered",operation="remove"} 1"#,
            r#"node_readiness_reconciliation_latency_seconds_count{rule="metered",operation="remove_taint"} 1"#,
            r#"node_readiness_nodes_by_state{rule="metered",state="ready"} 1"#,
            r#"node_readiness_nodes_by_state{rule="metered",state="not_ready"} 0"#,
            r#"node_readiness_rule_nodes{rule="metered",state="released"} 1"#,
        ],
    )
    .await;
    t.delete_rule("metered").await;
    gone(&t.rules(), "metered").await;
    let mut last = String::new();
    let vanished = poll(async || {
        last = scrape(Some(&token)).body;
        (last.ends_with("# EOF\n") && !last.contains(r#"rule="metered""#)).then_some(())
    });
    assert!(vanished.await.is_some(), "{last}");
}

#[tokio::test]
async fn a_bootstrap_that_completes_is_counted() {
    let t = Fixture::new("timed").await;
    let token = reader("timed");
    let node = t.node("a", &Value::Null).await;
    let mut rule = t.rule();
    rule["spec"]["enforcementMode"] = json!("bootstrap-only");
    t.apply(&rule).await;
    expect(&token, &[r#"node_readiness_nodes_by_state{rule="timed",state="bootstrapping"} 1"#])
        .await;
    t.report(&node, "example.com/Ready", "True").await;
    expect(
        &token,
        &[
            r#"node_readiness_bootstrap_completed_total{rule="timed"} 1"#,
            r#"node_readiness_bootstrap_duration_seconds_count{rule="timed"} 1"#,
            r#"node_readiness_nodes_by_state{rule="timed",state="ready"} 1"#,
        ],
    )
    .await;
}

#[tokio::test]
async fn a_foreign_token_is_not_authenticated() {
    let _operator = Fixture::new("anonymous").await;
    let answer = poll(async || Some(scrape(None)).filter(|answer| answer.status != 0));
    assert_eq!(answer.await.unwrap().status, 401);
    assert_eq!(scrape(Some("made.up.token")).status, 401);
}

#[tokio::test]
async fn a_token_needs_the_readers_role() {
    let _operator = Fixture::new("scraper").await;
    let token = token("scraper");
    let refused = poll(async || Some(scrape(Some(&token))).filter(|answer| answer.status != 0));
    let refused = refused.await.unwrap();
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("nrr-metrics-reader"), "{}", refused.body);
    allow("scraper");
    let admitted = poll(async || Some(scrape(Some(&token))).filter(|a| a.status != 403)).await;
    let admitted = admitted.unwrap();
    assert_eq!(admitted.status, 200);
    assert!(admitted.head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(admitted.body.contains("node_readiness_build_info{version="), "{}", admitted.body);
}

#[tokio::test]
async fn a_certificate_that_changes_is_served_without_a_restart() {
    let _operator = Fixture::new("rotated").await;
    let leaf = rotate_certificate();
    let served = poll(async || (scrape(None).certificate == leaf).then_some(()));
    assert!(served.await.is_some(), "the new certificate is not served");
}
