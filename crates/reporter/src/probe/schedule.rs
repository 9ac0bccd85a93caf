//! When a probe runs: after its initial delay at once, then every period, each time cut at its
//! timeout.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};
use tracing::{debug, info};

use super::Prober;
use crate::{settings::ProbeSettings, threshold::Judge, verdicts::Publisher};

/// The longest that a reporter's first probe is put off so that a fleet does not tick together.
const LONGEST_JITTER: Duration = Duration::from_secs(1);

/// How long this node's probes with this period are put off: at most a tenth of the period.
///
/// It depends on the node's name only. So a restarted reporter keeps its place, and all probes of
/// one node start together, which lets their first verdicts share one write.
pub fn start_jitter(node: &str, period: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let share = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
    (period / 10).min(LONGEST_JITTER) * share / 1000
}

/// Probes for ever, and publishes each verdict.
///
/// Probes of one condition never overlap. One that was cut late, or that the machine's sleep held
/// up, is followed by one at once and then again by a full period: a backlog of missed probes says
/// nothing about the node now.
pub async fn run(prober: Prober, settings: ProbeSettings, jitter: Duration, publisher: Publisher) {
    let ProbeSettings { condition_type, check: _, initial_delay, period, timeout, thresholds } =
        settings;
    let mut judge = Judge::new(thresholds);
    time::sleep(initial_delay + jitter).await;
    let mut ticks = time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = match time::timeout(timeout, prober.probe()).await {
            Ok(outcome) => outcome,
            Err(_) => prober.timed_out(timeout),
        };
        debug!(condition = condition_type, healthy = outcome.healthy, "{}", outcome.message);
        let Some(verdict) = judge.observe(outcome) else { continue };
        if publisher.publish(&condition_type, &verdict) {
            info!(
                condition = condition_type,
                status = verdict.status(),
                reason = verdict.reason(),
                "{}",
                verdict.message()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_stable_bounded_and_spread() {
        let of = |node: usize| start_jitter(&format!("node-{node}"), Duration::from_secs(30));
        assert_eq!(of(1), of(1));
        let all: Vec<_> = (0..100).map(of).collect();
        assert!(all.iter().all(|jitter| *jitter < LONGEST_JITTER));
        let early = all.iter().filter(|jitter| **jitter < LONGEST_JITTER / 2).count();
        assert!((25..75).contains(&early), "{early} of 100 in the first half");
        assert!(start_jitter("node-1", Duration::from_secs(2)) < Duration::from_millis(200));
    }
}
