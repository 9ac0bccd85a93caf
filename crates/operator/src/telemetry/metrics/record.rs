//! Records the work of the controllers.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use node_readiness_engine::{ChangeKind, EndedHold, Evaluations, Node, NodePlan, Rule, RuleSet};

use super::series::{Reason, RuleSeries};

/// The recorded series, by the uid of the rule. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// `None` if metrics are disabled.
    series: Option<Arc<Mutex<HashMap<String, RuleSeries>>>>,
    events_dropped: Arc<AtomicU64>,
}

/// Requirements that a node began to fail, as uid of the rule and name of the requirement.
pub(crate) type NewlyUnmet = Vec<(Arc<str>, String)>;

impl Metrics {
    /// Creates metrics, which record nothing if they are disabled.
    pub(crate) fn new(kept: bool) -> Self {
        Self { series: kept.then(Arc::default), events_dropped: Arc::default() }
    }

    /// Records the time of a plan over all rules. Each covering rule is charged an equal share, so the sum over
    /// rules is the time spent.
    pub(crate) fn planned(&self, plan: &NodePlan, took: Duration) {
        let covering = u32::try_from(plan.results.len()).unwrap_or(u32::MAX);
        let Some(share) = took.checked_div(covering) else { return };
        for result in &plan.results {
            self.of(&result.rule_uid, |rule| rule.evaluation.observe(share.as_secs_f64()));
        }
    }

    /// Records that a plan was applied, `waited` after its cause was observed.
    pub(crate) fn written(
        &self,
        node: &Node,
        plan: &NodePlan,
        rules: &RuleSet,
        waited: Duration,
        now: Timestamp,
    ) {
        for change in &plan.changes {
            let Some(rule) = rules.get(&change.rule) else { continue };
            self.of(&rule.uid, |series| {
                let operations = match change.kind {
                    ChangeKind::Added => &mut series.added,
                    ChangeKind::Removed => &mut series.removed,
                    // The taint existed before.
                    ChangeKind::Adopted => return,
                };
                operations.count += 1;
                operations.latency.observe(waited.as_secs_f64());
            });
        }
        for EndedHold { rule, cause, held_for } in &plan.ended_holds {
            let Some(rule) = rules.get(rule) else { continue };
            self.of(&rule.uid, |series| series.hold(*cause).observe(held_for.as_secs_f64()));
        }
        for rule in plan.completed.iter().filter_map(|name| rules.get(name)) {
            self.of(&rule.uid, |series| {
                series.bootstraps += 1;
                series.bootstrap.observe(bootstrap_seconds(node, rule, now));
            });
        }
    }

    /// Records that a plan failed.
    pub(crate) fn failed(&self, plan: &NodePlan, rules: &RuleSet) {
        for (uid, reason) in failures(plan, rules) {
            self.of(uid, |series| *series.failures.entry(reason).or_default() += 1);
        }
    }

    /// Records that nodes began to fail requirements.
    pub(crate) fn unmet(&self, unmet: &NewlyUnmet) {
        for (uid, condition) in unmet {
            self.of(uid, |series| *series.unmet.entry(condition.clone()).or_default() += 1);
        }
    }

    /// Records a reconcile of a rule that cannot be evaluated.
    pub(crate) fn not_evaluable(&self, uid: &str) {
        self.of(uid, |series| *series.failures.entry(Reason::Evaluation).or_default() += 1);
    }

    /// Records a reconcile without an error.
    pub(crate) fn reconciled(&self, uid: &str, now: Timestamp) {
        self.of(uid, |series| series.reconciled = Some(now.as_second()));
    }

    /// Records a dropped event.
    pub(crate) fn event_dropped(&self) {
        self.events_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of dropped events.
    pub(super) fn events_dropped(&self) -> u64 {
        self.events_dropped.load(Ordering::Relaxed)
    }

    /// Returns the series of these rules, and removes others.
    pub(super) fn retain(&self, uids: &HashSet<String>) -> HashMap<String, RuleSeries> {
        let Some(series) = &self.series else { return HashMap::new() };
        let mut series = lock(series);
        series.retain(|uid, _| uids.contains(uid));
        series.clone()
    }

    fn of(&self, uid: &str, record: impl FnOnce(&mut RuleSeries)) {
        let Some(series) = &self.series else { return };
        record(lock(series).entry(uid.to_owned()).or_default());
    }
}

fn lock(
    series: &Mutex<HashMap<String, RuleSeries>>,
) -> MutexGuard<'_, HashMap<String, RuleSeries>> {
    // A panic elsewhere leaves the counts consistent.
    series.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the duration of a bootstrap in seconds, from when both node and rule existed.
fn bootstrap_seconds(node: &Node, rule: &Rule, now: Timestamp) -> f64 {
    let created = node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let since = created.map_or(rule.created, |created| created.max(rule.created));
    // With a wrong clock, the duration could be negative.
    now.duration_since(since).as_secs_f64().max(0.0)
}

/// Returns the failures of a plan by rule: one for each taint that should have changed, or for each covering
/// rule if only records should have changed.
fn failures<'a>(plan: &'a NodePlan, rules: &'a RuleSet) -> Vec<(&'a str, Reason)> {
    if plan.changes.is_empty() {
        let covering = plan.results.iter();
        return covering.map(|result| (&*result.rule_uid, Reason::Evaluation)).collect();
    }
    let changes = plan.changes.iter().filter_map(|change| {
        let reason = match change.kind {
            ChangeKind::Added | ChangeKind::Adopted => Reason::AddTaint,
            ChangeKind::Removed => Reason::RemoveTaint,
        };
        Some((&*rules.get(&change.rule)?.uid, reason))
    });
    changes.collect()
}

/// Returns the requirements that a node began to fail, compared with its last evaluation under the same spec.
pub(crate) fn newly_unmet(
    node: &str,
    plan: &NodePlan,
    rules: &RuleSet,
    evaluations: &Evaluations,
) -> NewlyUnmet {
    let mut newly = Vec::new();
    for result in &plan.results {
        let Some(rule) = rules.by_uid(&result.rule_uid) else { continue };
        let known = evaluations
            .entry(&rule.uid, node)
            .filter(|entry| entry.generation == result.generation);
        if known.is_some_and(|known| known.evaluation == result.evaluation) {
            continue;
        }
        let failed_before: HashSet<_> =
            known.into_iter().flat_map(|entry| entry.evaluation.unmet_names(rule)).collect();
        let unmet = result.evaluation.unmet_names(rule);
        let unmet = unmet.filter(|name| !failed_before.contains(name));
        newly.extend(unmet.map(|name| (Arc::clone(&rule.uid), name)));
    }
    newly
}
