//! When a probe runs: after its initial delay, then every period, with a timeout. While the node waits for its
//! condition it runs every startup period.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::{self, Instant};
use tracing::{debug, info};

use super::Prober;
use crate::{
    metrics::Metrics,
    settings::{ProbeSettings, Startup},
    threshold::ThresholdCounter,
    verdicts::Publisher,
};

/// The longest delay of a reporter's first probe that spreads out nodes.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// The place of a node's probes among those of all nodes.
///
/// Reporters that start at the same moment, after a power cut or a rollout, must not all write or probe a
/// shared server at once for ever. But a node that is not ready waits for its first verdict. So the first
/// probes are spread over a short time, at most a second and a tenth of the period, and the second ones over
/// half a period.
///
/// The place depends only on the node's name. So a restarted reporter keeps it, and all probes of one node with
/// the same period run together and share a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    /// Out of [`Jitter::PLACES`].
    place: u32,
}

impl Jitter {
    const PLACES: u32 = 1000;

    /// Returns the place of this node.
    pub fn of(node: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        node.hash(&mut hasher);
        let place = hasher.finish() % u64::from(Self::PLACES);
        Self { place: u32::try_from(place).unwrap_or(0) }
    }

    /// Returns the delay of the first probe.
    fn first(self, period: Duration) -> Duration {
        self.share((period / 10).min(LONGEST_DELAY))
    }

    /// Returns the time from the first probe to the second one: at least half a period.
    fn second(self, period: Duration) -> Duration {
        period / 2 + self.share(period / 2)
    }

    fn share(self, of: Duration) -> Duration {
        of * self.place / Self::PLACES
    }
}

/// When a probe runs next, and which failures count.
#[derive(Debug)]
struct Pacer {
    period: Duration,
    startup: Option<Startup>,
    jitter: Jitter,
    /// Time between the starts of the last probe and the next one, without jitter.
    interval: Option<Duration>,
    /// When a failure of the present run was last counted.
    counted: Option<Instant>,
}

impl Pacer {
    fn new(period: Duration, startup: Option<Startup>, jitter: Jitter) -> Self {
        Self { period, startup, jitter, interval: None, counted: None }
    }

    /// Returns whether the outcome of a probe that began now counts. Successes do. Failures count once in a
    /// period.
    fn counts(&mut self, healthy: bool, begun: Instant) -> bool {
        if healthy {
            self.counted = None;
            return true;
        }
        // A probe may begin a little early, because jitter lets the second one follow after half the time.
        let slack = self.interval.unwrap_or_default() / 2;
        let counts = self.counted.is_none_or(|counted| begun - counted + slack >= self.period);
        if counts {
            self.counted = Some(begun);
        }
        counts
    }

    /// Returns when the next probe begins, after one that began then.
    fn next(&mut self, begun: Instant, decided: Option<bool>) -> Instant {
        let waited_for = self.startup.filter(|startup| decided != Some(startup.healthy));
        let interval = waited_for.map_or(self.period, |startup| startup.period.min(self.period));
        let before = self.interval.replace(interval);
        begun + if before == Some(interval) { interval } else { self.jitter.second(interval) }
    }
}

/// Probes for ever, and publishes each verdict.
///
/// Probes of one condition never overlap. After one that ended late, the next begins at once, and then again
/// after a full period: missed probes are not made up for.
pub async fn run(
    prober: Prober,
    settings: ProbeSettings,
    jitter: Jitter,
    publisher: Publisher,
    metrics: Metrics,
) {
    let ProbeSettings {
        condition_type,
        check: _,
        initial_delay,
        period,
        startup,
        timeout,
        thresholds,
    } = settings;
    let mut counter = ThresholdCounter::new(thresholds);
    let mut pacer = Pacer::new(period, startup, jitter);
    time::sleep(initial_delay + jitter.first(period)).await;
    loop {
        let begun = Instant::now();
        let outcome = match time::timeout(timeout, prober.probe()).await {
            Ok(outcome) => outcome,
            Err(_) => prober.timed_out(timeout),
        };
        metrics.checked(&outcome, begun.elapsed());
        debug!(condition = condition_type, healthy = outcome.healthy, "{}", outcome.message);
        let verdict = if pacer.counts(outcome.healthy, begun) {
            counter.observe(outcome)
        } else {
            counter.observe_again(outcome)
        };
        if let Some(verdict) = verdict
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
        time::sleep_until(pacer.next(begun, counter.decided())).await;
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

    /// Returns the seconds at which a probe runs whose condition is decided as given from some second on, and
    /// those at which its failures count.
    fn paced(
        startup: Option<Startup>,
        decided: impl Fn(u64) -> Option<bool>,
    ) -> (Vec<u64>, Vec<u64>) {
        let start = Instant::now();
        let mut pacer = Pacer::new(Duration::from_secs(10), startup, Jitter { place: 999 });
        let (mut runs, mut counted) = (Vec::new(), Vec::new());
        let mut begun = start;
        while begun - start < Duration::from_secs(39) {
            let at = (begun - start + Duration::from_millis(500)).as_secs();
            runs.push(at);
            if pacer.counts(false, begun) {
                counted.push(at);
            }
            begun = pacer.next(begun, decided(at));
        }
        (runs, counted)
    }

    #[test]
    fn a_probe_that_is_waited_for_runs_often_and_its_failures_count_as_slowly_as_ever() {
        let startup = Some(Startup { period: Duration::from_secs(1), healthy: true });
        let (runs, counted) = paced(startup, |_| Some(false));
        assert_eq!(runs, (0..40).collect::<Vec<_>>());
        assert_eq!(counted, [0, 10, 20, 30]);
        let (runs, counted) = paced(startup, |at| Some(at >= 3));
        assert_eq!(runs, [0, 1, 2, 3, 13, 23, 33]);
        assert_eq!(counted, [0, 13, 23, 33]);
        assert_eq!(paced(None, |_| Some(false)).0, [0, 10, 20, 30]);
    }

    #[test]
    fn a_startup_period_that_is_longer_than_the_period_has_no_effect() {
        let startup = Some(Startup { period: Duration::from_mins(1), healthy: true });
        assert_eq!(paced(startup, |_| None).0, [0, 10, 20, 30]);
    }

    #[test]
    fn a_success_begins_a_new_count_of_failures() {
        let now = Instant::now();
        let startup = Some(Startup { period: Duration::from_secs(1), healthy: true });
        let mut pacer = Pacer::new(Duration::from_secs(10), startup, Jitter::default());
        assert!(pacer.counts(false, now));
        assert!(!pacer.counts(false, now + Duration::from_secs(1)));
        assert!(pacer.counts(true, now + Duration::from_secs(2)));
        assert!(pacer.counts(false, now + Duration::from_secs(3)));
    }
}
