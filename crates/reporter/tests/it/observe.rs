//! Makes a probe, once or as the process does.

use std::time::Duration;

use node_readiness_reporter::{
    metrics::Metrics,
    probe::{self, Check, Jitter, Outcome, Prober},
    settings::ProbeSettings,
    threshold::Thresholds,
    verdicts::{self, Verdicts},
};

use crate::in_time;

/// For answers that are not going to come.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

/// Probes once, without a deadline.
pub(crate) async fn outcome_of(check: Check) -> Outcome {
    in_time(Prober::new(check).unwrap().probe()).await
}

/// Whether a probe succeeds, and its message without the subject.
pub(crate) async fn found(check: Check, subject: &str) -> (bool, String) {
    let outcome = outcome_of(check).await;
    let reason = if outcome.healthy { "ProbeSucceeded" } else { "ProbeFailed" };
    assert_eq!(outcome.reason, reason);
    let words = outcome.message.strip_prefix(&format!("{subject}: "));
    (outcome.healthy, words.unwrap_or_else(|| panic!("{outcome:?}")).to_owned())
}

/// Probes again and again and waits for the first verdict: status, reason and message.
pub(crate) async fn first_verdict(
    check: Check,
    timeout: Duration,
) -> (&'static str, &'static str, String) {
    let (publisher, mut verdicts) = verdicts::channel();
    let settings = ProbeSettings {
        condition_type: "example.com/Ready".into(),
        check: check.clone(),
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(50),
        startup: None,
        timeout,
        thresholds: Thresholds { success: 1, failure: 2 },
    };
    let prober = Prober::new(check).unwrap();
    let running = probe::run(prober, settings, Jitter::default(), publisher, Metrics::default());
    let running = tokio::spawn(running);
    let verdicts: Verdicts =
        in_time(verdicts.wait_for(|verdicts| !verdicts.is_empty())).await.unwrap().clone();
    running.abort();
    let verdict = &verdicts["example.com/Ready"];
    (verdict.status(), verdict.reason(), verdict.message().to_owned())
}
