//! Starts and stops probes, so that those that run are those of the assignment.

use std::collections::BTreeMap;

use tokio::task::JoinHandle;
use tracing::info;

use crate::{
    assignment::Assignment,
    metrics::Metrics,
    probe::{self, Jitter, Prober, TrustError},
    settings::ProbeSettings,
    verdicts::Publisher,
};

/// The running probes.
pub struct Supervisor {
    jitter: Jitter,
    publisher: Publisher,
    metrics: Metrics,
    /// By condition type.
    running: BTreeMap<String, Running>,
    unmounted: BTreeMap<String, String>,
}

struct Running {
    settings: ProbeSettings,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Creates a supervisor without probes.
    pub fn new(jitter: Jitter, publisher: Publisher, metrics: Metrics) -> Self {
        let (running, unmounted) = (BTreeMap::new(), BTreeMap::new());
        Self { jitter, publisher, metrics, running, unmounted }
    }

    /// Runs the probes of an assignment. A probe whose settings did not change goes on with its counts. The verdict of
    /// one that ends is retracted, so its condition stays as it is.
    ///
    /// # Errors
    ///
    /// When the certificates for an endpoint cannot be used.
    pub async fn apply(&mut self, assignment: &Assignment) -> Result<(), TrustError> {
        let is_outdated = |condition_type: &String, running: &mut Running| {
            assignment.probes.get(condition_type) != Some(&running.settings)
        };
        let ended: Vec<_> = self.running.extract_if(.., is_outdated).collect();
        for (condition_type, Running { settings: _, task }) in ended {
            task.abort();
            // It must not publish after the next probe of this condition has begun. An aborted task is an error.
            let _ = task.await;
            self.publisher.retract(&condition_type);
        }
        for (condition_type, settings) in &assignment.probes {
            if !self.running.contains_key(condition_type) {
                let running = self.start(settings.clone())?;
                self.running.insert(condition_type.clone(), running);
            }
        }
        self.log_unmounted(assignment);
        Ok(())
    }

    fn start(&self, settings: ProbeSettings) -> Result<Running, TrustError> {
        let prober = Prober::new(settings.check.clone())?;
        let (publisher, metrics) = (self.publisher.clone(), self.metrics.clone());
        let probing = probe::run(prober, settings.clone(), self.jitter, publisher, metrics);
        Ok(Running { settings, task: tokio::spawn(probing) })
    }

    fn log_unmounted(&mut self, assignment: &Assignment) {
        if self.unmounted == assignment.unmounted {
            return;
        }
        self.unmounted.clone_from(&assignment.unmounted);
        for (condition, directory) in &self.unmounted {
            info!(condition, "the probe waits for a pod that mounts {directory} of the node");
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for running in self.running.values() {
            running.task.abort();
        }
    }
}
