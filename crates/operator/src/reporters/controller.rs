//! The reporter controller: the only writer of reporter sets.
//!
//! It reconciles all sets in one pass, because one rule may belong to another set at any time: decide which rules have
//! reporters, group them, apply the sets, delete what no rule needs, publish the state of each rule's reporters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use node_readiness_api::{REPORTER_CONFIG_KEY, REPORTER_SET_LABEL, ReporterConfig};
use node_readiness_engine::reporter::{
    ConstrainedImpersonation, MaxUnavailable, ReporterSet, ReporterSets, Settings, config_map,
    generate,
};
use node_readiness_engine::status::Reporters;
use node_readiness_engine::{Node, RuleSet};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::applier::Applier;
use super::apply::{self, Group};
use super::decision::{Decision, Limits};
use super::error::ApplyError;
use super::guard::Guard;
use super::migration::has_taken_over;
use super::propagation::PropagationDelay;
use super::retries::Retries;
use super::states::ReporterStates;
use crate::cache::{Caches, StoredRule};
use crate::leader::Leadership;
use crate::telemetry::Events;

/// The reporter controller with its dependencies.
pub(crate) struct ReporterController {
    pub applier: Applier,
    pub settings: Settings,
    pub guard: Guard,
    /// Whether the API server supports constrained impersonation (KEP-5284).
    pub impersonation: watch::Receiver<ConstrainedImpersonation>,
    pub events: Events,
    pub leadership: Leadership,
}

/// What triggers a pass besides rules.
pub(crate) struct Triggers {
    /// Generated objects changed.
    pub owned: watch::Receiver<()>,
    /// Reporters' pods changed.
    pub pods: watch::Receiver<()>,
}

/// A pass over all rules.
struct Pass<'a> {
    controller: &'a ReporterController,
    caches: &'a Caches,
    propagation: &'a PropagationDelay,
    retries: &'a mut Retries,
    /// All rules with their decisions.
    rules: Vec<(Arc<StoredRule>, Decision)>,
    /// The configurations in the cluster, by set.
    present: BTreeMap<String, ReporterConfig>,
    /// The states to publish.
    states: ReporterStates,
    /// The shortest wait until the next pass.
    again: Option<Duration>,
    /// Whether a rule's own reporters wait for those of its set.
    migrates: bool,
}

impl ReporterController {
    /// Reconciles reporter sets until `end`, while this process leads.
    pub(crate) async fn run(
        self,
        caches: Caches,
        triggers: Triggers,
        states: watch::Sender<ReporterStates>,
        end: CancellationToken,
    ) {
        tokio::select! {
            () = self.reconcile(caches, triggers, &states) => {}
            () = end.cancelled() => {}
        }
    }

    async fn reconcile(
        self,
        mut caches: Caches,
        Triggers { mut owned, mut pods }: Triggers,
        states: &watch::Sender<ReporterStates>,
    ) {
        if caches.synced.wait_for(|synced| *synced).await.is_err() {
            return;
        }
        self.leadership.clone().acquired().await;
        let (propagation, mut retries) = (PropagationDelay::default(), Retries::default());
        let (mut guard, mut impersonation) = (self.guard.changes(), self.impersonation.clone());
        loop {
            let rule_set = caches.rule_sets.borrow_and_update().clone().unwrap_or_default();
            owned.mark_unchanged();
            pods.mark_unchanged();
            guard.mark_unchanged();
            impersonation.mark_unchanged();
            let pass = Pass::new(&self, &caches, &propagation, &mut retries);
            let Pass { states: next, again, migrates, .. } = pass.run(&rule_set).await;
            states.send_if_modified(|current| {
                let changed = *current != next;
                *current = next;
                changed
            });
            tokio::select! {
                () = changed(&mut caches.rule_sets) => {}
                () = changed(&mut owned) => {}
                () = changed(&mut pods), if migrates => {}
                () = changed(&mut guard) => {}
                () = changed(&mut impersonation) => {}
                () = sleep(again.unwrap_or(Duration::MAX)) => {}
            }
        }
    }
}

/// Waits for a change. A sender that has ended changes nothing any more.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl<'a> Pass<'a> {
    fn new(
        controller: &'a ReporterController,
        caches: &'a Caches,
        propagation: &'a PropagationDelay,
        retries: &'a mut Retries,
    ) -> Self {
        let limits = Limits {
            allowances: &controller.settings.allowances,
            impersonation: *controller.impersonation.borrow(),
            guard: &controller.guard,
        };
        let rules = caches.rules.state().into_iter();
        let rules = rules.map(|rule| (Arc::clone(&rule), Decision::of(&rule, limits))).collect();
        Self {
            controller,
            caches,
            propagation,
            retries,
            rules,
            present: configurations(caches),
            states: ReporterStates::default(),
            again: None,
            migrates: false,
        }
    }

    async fn run(mut self, rule_set: &RuleSet) -> Self {
        let rules = std::mem::take(&mut self.rules);
        let members: Vec<_> =
            rules.iter().filter_map(|(rule, decision)| decision.member(rule)).collect();
        let sets = match ReporterSets::of(&members, &self.present) {
            Ok(sets) => sets,
            Err(error) => {
                warn!("reporter sets cannot be generated: {error}");
                return self;
            }
        };
        let mut outcomes = BTreeMap::new();
        for set in &sets.sets {
            let outcome = self.apply(set, rule_set).await;
            outcomes.insert(set.name.as_str(), outcome);
        }
        for (name, config) in &sets.kept {
            self.configure(name, config).await;
        }
        let incomplete = self.delete_unused(&sets, &rules).await;
        for (rule, decision) in &rules {
            let uid = rule.uid().unwrap_or_default();
            let set = sets.set_of(&uid);
            let outcome = set.and_then(|set| outcomes.get(set.name.as_str()));
            let is_migrated = self.migrate(&uid, decision, set, outcome).await;
            if *decision == Decision::Deleted {
                let still_configured =
                    self.present.values().any(|config| config.own_rule(&uid).is_some());
                let owns = |set: &String| Group::Set(set).is_owned_by(&uid, &self.caches.owned);
                if is_migrated && !still_configured && !incomplete.iter().any(owns) {
                    self.states.release(&uid);
                }
                continue;
            }
            let state = self.state(&uid, decision, &sets, outcome);
            self.states.set(&uid, rule.meta().generation, state);
        }
        self
    }

    /// Applies a set, and returns the state of its reporters.
    async fn apply(&mut self, set: &ReporterSet, rule_set: &RuleSet) -> Reporters {
        if let Some((left, state)) = self.retries.wait(&set.name, Some(set)) {
            self.requeue(left);
            return state;
        }
        let max_unavailable = self.max_unavailable(set, rule_set);
        let applied = match generate(set, &self.controller.settings, max_unavailable) {
            Ok(objects) => {
                let stores = &self.caches.owned;
                let applier = &self.controller.applier;
                // Boxed because of its size.
                Box::pin(apply::apply(applier, &set.name, &objects, stores, self.propagation)).await
            }
            Err(cause) => Err(ApplyError::Encode {
                kind: "ReporterSet".to_owned(),
                name: set.name.clone(),
                cause,
            }),
        };
        let failed = match applied {
            Ok(state) => {
                self.retries.succeeded(&set.name);
                if let Some(left) = self.propagation.left(&set.name) {
                    self.requeue(left);
                }
                return state;
            }
            Err(error) => error,
        };
        for rule in &set.rules {
            let (name, uid) = (rule.name.clone(), Some(rule.uid.as_str().into()));
            self.controller.events.rule_failed(name, uid, "ApplyReporters", &failed.to_string());
        }
        self.fail(&set.name, Some(set), &failed);
        failed.reporters()
    }

    /// Applies the configuration of a set whose rules all keep their probes. It changes if another rule left the set.
    async fn configure(&mut self, name: &str, config: &ReporterConfig) {
        if self.present.get(name) == Some(config) || self.waits(name) {
            return;
        }
        let config_map = match config_map(name, config, &self.controller.settings) {
            Ok(config_map) => config_map,
            Err(error) => return warn!("the configuration {name} cannot be generated: {error}"),
        };
        let stores = &self.caches.owned;
        match apply::configure(&self.controller.applier, &config_map, stores).await {
            Ok(_) => self.retries.succeeded(name),
            Err(error) => self.fail(name, None, &error),
        }
    }

    /// Deletes the sets that no rule needs. Returns those of which something is left.
    async fn delete_unused(
        &mut self,
        sets: &ReporterSets,
        rules: &[(Arc<StoredRule>, Decision)],
    ) -> Vec<String> {
        let mut incomplete = Vec::new();
        for name in self.caches.owned.reporter_sets() {
            let is_kept = |(rule, decision): &(Arc<StoredRule>, Decision)| {
                let uid = rule.uid().unwrap_or_default();
                decision.keeps() && Group::Set(&name).is_owned_by(&uid, &self.caches.owned)
            };
            if sets.contains(&name) || rules.iter().any(is_kept) {
                continue;
            }
            if !self.delete(Group::Set(&name)).await {
                incomplete.push(name);
            }
        }
        incomplete
    }

    /// Deletes the reporters that version 0.1 generated for a rule, as soon as they are not needed. Returns whether
    /// there are none.
    async fn migrate(
        &mut self,
        uid: &str,
        decision: &Decision,
        set: Option<&ReporterSet>,
        outcome: Option<&Reporters>,
    ) -> bool {
        let group = Group::Rule(uid);
        if !group.exists(&self.caches.owned) {
            return true;
        }
        let unneeded = match (decision, set, outcome) {
            (Decision::Current, Some(set), Some(Reporters::Applied { .. })) => {
                let pods = self.caches.pods.state();
                let taken_over = has_taken_over(&set.name, uid, pods.iter().map(AsRef::as_ref));
                self.migrates |= !taken_over;
                taken_over
            }
            (Decision::NoProbes | Decision::Refused(_) | Decision::Deleted, ..) => true,
            _ => false,
        };
        unneeded && self.delete(group).await
    }

    async fn delete(&mut self, group: Group<'_>) -> bool {
        if self.waits(group.key()) {
            return false;
        }
        let Self { controller, caches, propagation, .. } = &*self;
        let deleted =
            apply::delete_all(&controller.applier, group, &caches.owned, propagation).await;
        match deleted {
            Ok(true) => {
                self.retries.succeeded(group.key());
                true
            }
            Ok(false) => {
                let left = self.propagation.left(group.key()).unwrap_or_default();
                self.requeue(left);
                false
            }
            Err(error) => {
                self.fail(group.key(), None, &error);
                false
            }
        }
    }

    /// Returns the state of a rule's reporters. `outcome` is the state of its set's.
    fn state(
        &self,
        uid: &str,
        decision: &Decision,
        sets: &ReporterSets,
        outcome: Option<&Reporters>,
    ) -> Reporters {
        if let Some(refusal) = sets.refused.get(uid) {
            return Reporters::Refused(refusal.clone());
        }
        match decision {
            Decision::NoProbes | Decision::Deleted => Reporters::None,
            Decision::Refused(refusal) => Reporters::Refused(refusal.clone()),
            Decision::AwaitsGuard => Reporters::AwaitingPolicy,
            Decision::AwaitsConditions => match outcome {
                Some(failed @ Reporters::Failed(_)) => failed.clone(),
                _ => Reporters::AwaitingPolicy,
            },
            Decision::GuardFailed(cause) => Reporters::Failed(cause.clone()),
            Decision::Kept => self.observe(uid),
            Decision::Current => match outcome {
                // The set waits for the sake of another rule.
                Some(Reporters::AwaitingPolicy) if self.is_configured(uid, sets) => {
                    self.observe(uid)
                }
                Some(outcome) => outcome.clone(),
                None => Reporters::AwaitingPolicy,
            },
        }
    }

    /// Returns the state of the reporters that have a rule in their configuration.
    fn observe(&self, uid: &str) -> Reporters {
        let set = self
            .present
            .iter()
            .find(|(_, config)| config.own_rule(uid).is_some())
            .map(|(set, _)| set);
        let namespace = &self.controller.settings.namespace;
        let name = set.map(|set| ObjectRef::new(set).within(namespace));
        let daemon_set = name.and_then(|name| self.caches.owned.daemon_sets.get(&name));
        daemon_set.map_or(Reporters::None, |daemon_set| apply::reporters(&daemon_set, None))
    }

    /// Returns whether the reporters of a rule's set have its probes already.
    fn is_configured(&self, uid: &str, sets: &ReporterSets) -> bool {
        let Some(set) = sets.set_of(uid) else { return false };
        let present = self.present.get(&set.name).and_then(|config| config.own_rule(uid));
        present.is_some() && present == set.config.own_rule(uid)
    }

    fn max_unavailable(&self, set: &ReporterSet, rule_set: &RuleSet) -> MaxUnavailable {
        let name = ObjectRef::new(&set.name).within(&self.controller.settings.namespace);
        let live = self.caches.owned.daemon_sets.get(&name);
        MaxUnavailable::of(live.as_deref(), || {
            let rules: Vec<_> =
                set.rules.iter().filter_map(|rule| rule_set.by_uid(&rule.uid)).collect();
            let selected =
                |node: &Node| !node.is_ready() && rules.iter().any(|rule| rule.selects(node));
            self.caches.nodes.state_filter(selected).len()
        })
    }

    fn waits(&mut self, name: &str) -> bool {
        let Some((left, _)) = self.retries.wait(name, None) else { return false };
        self.requeue(left);
        true
    }

    fn fail(&mut self, name: &str, wanted: Option<&ReporterSet>, error: &ApplyError) {
        let wait = self.retries.failed(name, wanted, error.reporters());
        warn!(set = name, "{error}; retrying in {wait:.1?}");
        self.requeue(wait);
    }

    fn requeue(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |again| again.min(after)));
    }
}

/// Returns the configurations in the cluster, by set. One of another version may be unreadable.
fn configurations(caches: &Caches) -> BTreeMap<String, ReporterConfig> {
    let configs = caches.owned.config_maps.state();
    let configs = configs.iter().filter_map(|config_map| {
        let set = config_map.labels().get(REPORTER_SET_LABEL)?;
        let json = config_map.data.as_ref()?.get(REPORTER_CONFIG_KEY)?;
        Some((set.clone(), ReporterConfig::from_json(json).ok()?))
    });
    configs.collect()
}
