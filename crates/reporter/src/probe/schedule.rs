//! When a probe runs: after its initial delay at once, then every period, each time cut at its
//! timeout.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::{self, Instant, MissedTickBehavior};
use tracing::{debug, info};

use super::Prober;
use crate::{metrics::Metrics, settings::ProbeSettings, threshold::Judge, verdicts::Publisher};

/// The longest that a reporter's first probe is put off so that a fleet does not start together.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Where a node's probes are among those of a fleet.
///
/// Reporters that are started at the same moment, after a power cut or by a rollout, must neither
/// write nor ask a server that they share all at once for ever. But a node that is not ready waits
/// for its first verdict. So the first probes are spread over little time, at most a second and a
/// tenth of the period, and the second ones over half a period.
///
/// The place depends on the node's name only. So a restarted reporter keeps it, and all probes of
/// one node with the same period run together, which lets their verdicts share a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    /// Out of [`Jitter::PLACES`].
    place: u32,
}

impl Jitter {
    const PLACES: u32 = 1000;

    /// The place of this node.
    pub fn of(node: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        let place = hasher.finish() % u64::from(Self::PLACES);
        Self { place: u32::try_from(place).unwrap_or(0) }
    }

    /// How long the first probe is put off.
    fn first(self, period: Duration) -> Duration {
        self.share((period / 10).min(LONGEST_DELAY))
    }

    /// Time from the start of the first probe to that of the second: at least half a period.
    fn second(self, period: Duration) -> Duration {
        period / 2 + self.share(period / 2)
    }

    fn share(self, of: Duration) -> Duration {
        of * self.place / Self::PLACES
    }
}

/// Probes for ever, and publishes each verdict.
///
/// Probes of one condition never overlap. One that was cut late, or that the machine's sleep held
/// up, is followed by one at once and then again by a full period: a backlog of missed probes says
/// nothing about the node now.
pub async fn run(
    prober: Prober,
    settings: ProbeSettings,
    jitter: Jitter,
    publisher: Publisher,
    metrics: Metrics,
) {
    let ProbeSettings { condition_type, check: _, initial_delay, period, timeout, thresholds } =
        settings;
    let mut judge = Judge::new(thresholds);
    time::sleep(initial_delay + jitter.first(period)).await;
    let mut ticks = time::interval_at(Instant::now() + jitter.second(period), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let begun = Instant::now();
        let outcome = match time::timeout(timeout, prober.probe()).await {
            Ok(outcome) => outcome,
            Err(_) => prober.timed_out(timeout),
        };
        metrics.checked(&outcome, begun.elapsed());
        debug!(condition = condition_type, healthy = outcome.healthy, "{}", outcome.message);
        if let Some(verdict) = judge.observe(outcome)
            && publisher.publish(&condition_type, &verdict)
        {
            info!(
                condition = condition_type,
                status = verdict.status(),
                reason = verdict.reason(),
                "{}",
                verdict.message()
            );
        }
        ticks.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_place() {
        assert_eq!(Jitter::of("node-1"), Jitter::of("node-1"));
        assert_ne!(Jitter::of("node-1"), Jitter::of("node-2"));
    }

    #[test]
    fn a_fleet_is_spread_and_nobody_waits_long_for_the_first_probe() {
        let period = Duration::from_secs(30);
        let fleet: Vec<_> = (0..100).map(|node| Jitter::of(&format!("node-{node}"))).collect();
        let (first, second): (Vec<_>, Vec<_>) =
            fleet.iter().map(|jitter| (jitter.first(period), jitter.second(period))).unzip();
        assert!(first.iter().all(|delay| *delay < LONGEST_DELAY));
        assert!(second.iter().all(|delay| (period / 2..period).contains(delay)));
        let early = second.iter().filter(|delay| **delay < period * 3 / 4).count();
        assert!((25..75).contains(&early), "{early} of 100 in the first half");
        let short = Duration::from_secs(2);
        assert!(fleet.iter().all(|jitter| jitter.first(short) < Duration::from_millis(200)));
    }
}
