//! The metrics of a scrape.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use kube::ResourceExt;
use node_readiness_api::EnforcementMode;
use node_readiness_engine::{Evaluations, NodeState, Rule};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::series::{Reason, RuleSeries};
use crate::cache::{RuleSets, RuleStore};
use crate::evaluations::EvaluationStore;
use crate::leader::Leadership;

/// Returns the registry of all metrics.
pub(crate) fn exposition(
    metrics: Metrics,
    store: RuleStore,
    rules: RuleSets,
    evaluations: Arc<EvaluationStore>,
    leadership: Leadership,
) -> Registry {
    let mut registry = Registry::with_prefix("node_readiness");
    registry.register_collector(Box::new(Source {
        metrics,
        store,
        rules,
        evaluations,
        leadership,
    }));
    registry
}

/// The sources of the metrics.
struct Source {
    metrics: Metrics,
    store: RuleStore,
    rules: RuleSets,
    evaluations: Arc<EvaluationStore>,
    leadership: Leadership,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let leads = self.leadership.may_write();
        encode(&self.view(), leads, self.metrics.events_dropped(), &mut encoder)
    }
}

impl Source {
    /// Returns every existing rule, by name.
    fn view(&self) -> Vec<RuleView> {
        let stored = self.store.state();
        let uids: HashSet<String> = stored.iter().filter_map(|rule| rule.uid()).collect();
        let mut series = self.metrics.retain(&uids);
        let set = self.rules.borrow().clone().unwrap_or_default();
        let mut view: Vec<_> = stored
            .iter()
            .map(|stored| {
                let uid = stored.uid().unwrap_or_default();
                let series = series.remove(&uid).unwrap_or_default();
                let nodes = set.by_uid(&uid).map(|rule| {
                    self.evaluations.read(|evaluations| Nodes::count(rule, evaluations))
                });
                RuleView { name: stored.name_any(), series, nodes }
            })
            .collect();
        view.sort_by(|a, b| a.name.cmp(&b.name));
        view
    }
}

/// The metrics of one rule.
struct RuleView {
    name: String,
    series: RuleSeries,
    /// `None` for a rule that cannot be evaluated.
    nodes: Option<Nodes>,
}

/// The covered nodes of a rule, by state.
#[derive(Default)]
struct Nodes {
    ready: i64,
    not_ready: i64,
    bootstrapping: i64,
    held: i64,
    released: i64,
    overdue: i64,
    /// Names of what the rule requires.
    requirements: Vec<String>,
}

impl Nodes {
    fn count(rule: &Rule, evaluations: &Evaluations) -> Self {
        let mut nodes = Self { requirements: rule.requirements().collect(), ..Self::default() };
        for (_, entry) in evaluations.of(&rule.uid) {
            let state = match (entry.state, rule.mode) {
                (NodeState::Ready | NodeState::Bootstrapped, _) => &mut nodes.ready,
                (NodeState::Held, EnforcementMode::BootstrapOnly) => &mut nodes.bootstrapping,
                (
                    NodeState::Held | NodeState::Deferred | NodeState::Pending | NodeState::Overdue,
                    _,
                ) => &mut nodes.not_ready,
            };
            *state += 1;
            nodes.overdue += i64::from(entry.overdue);
            *(if entry.taint_state.held { &mut nodes.held } else { &mut nodes.released }) += 1;
        }
        nodes
    }
}

/// Labels of one sample.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Encodes every metric, in the order of the documentation. The library appends `_total` to the names of counters.
fn encode(
    rules: &[RuleView],
    leads: bool,
    events_dropped: u64,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    let build = [(version, ConstGauge::new(1_i64))];
    family(encoder, "build_info", "Version of the operator.", build)?;
    let help = "1 on the leader, which may write, and 0 on a standby.";
    single(encoder, "leader", help, &ConstGauge::new(i64::from(leads)))?;
    let existing = i64::try_from(rules.len()).unwrap_or(i64::MAX);
    // A gauge, although its name ends like a counter's.
    single(encoder, "rules_total", "Rules that exist.", &ConstGauge::new(existing))?;
    let help = "Events that were dropped because too many were waiting.";
    single(encoder, "events_dropped", help, &ConstCounter::new(events_dropped))?;
    encode_nodes(rules, encoder)?;
    encode_taints(rules, encoder)?;
    encode_bootstraps(rules, encoder)?;
    encode_holds(rules, encoder)?;
    encode_evaluations(rules, encoder)
}

/// Encodes a metric without labels.
fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn encode_nodes(rules: &[RuleView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Nodes that the rule covers, by whether its conditions are met.";
    let states = evaluated(rules).flat_map(|(rule, nodes)| {
        let Nodes { ready, not_ready, bootstrapping, .. } = *nodes;
        [("ready", ready), ("not_ready", not_ready), ("bootstrapping", bootstrapping)]
            .map(|(state, nodes)| (rule.labels("state", state), ConstGauge::new(nodes)))
    });
    family(encoder, "nodes_by_state", help, states)?;

    let help = "Nodes that the rule covers, by whether it holds them.";
    let holds = evaluated(rules).flat_map(|(rule, nodes)| {
        let Nodes { held, released, .. } = *nodes;
        [("held", held), ("released", released)]
            .map(|(state, nodes)| (rule.labels("state", state), ConstGauge::new(nodes)))
    });
    family(encoder, "rule_nodes", help, holds)
}

fn encode_taints(rules: &[RuleView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Taints that were added to nodes or removed from them for the rule.";
    let counts = rules.iter().flat_map(|rule| {
        let RuleSeries { added, removed, .. } = &rule.series;
        [("add", added.count), ("remove", removed.count)]
            .map(|(name, count)| (rule.labels("operation", name), ConstCounter::new(count)))
    });
    family(encoder, "taint_operations", help, counts)?;

    let help = "Time from the observed change until the taint was added or removed.";
    let latencies = rules.iter().flat_map(|rule| {
        let RuleSeries { added, removed, .. } = &rule.series;
        [("add_taint", &added.latency), ("remove_taint", &removed.latency)]
            .map(|(name, latency)| (rule.labels("operation", name), latency.clone()))
    });
    family(encoder, "reconciliation_latency_seconds", help, latencies)?;

    let help = "Failed operations of the rule.";
    let failures = rules.iter().flat_map(|rule| {
        Reason::ALL.map(|reason| {
            let count = rule.series.failures.get(&reason).copied().unwrap_or_default();
            (rule.labels("reason", reason.as_str()), ConstCounter::new(count))
        })
    });
    family(encoder, "failures", help, failures)
}

fn encode_holds(rules: &[RuleView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "How long nodes were held, by the cause of the hold.";
    let durations = rules.iter().flat_map(|rule| {
        let holds = rule.series.holds.iter();
        holds.map(move |(cause, held)| (rule.labels("cause", cause), held.clone()))
    });
    family(encoder, "hold_duration_seconds", help, durations)?;

    let help = "Nodes that were held for longer than holdTimeout and have not been ready since.";
    let overdue =
        evaluated(rules).map(|(rule, nodes)| (rule.label(), ConstGauge::new(nodes.overdue)));
    family(encoder, "nodes_overdue", help, overdue)
}

fn encode_bootstraps(rules: &[RuleView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Nodes whose bootstrap is completed under the bootstrap-only rule.";
    let counts = rules.iter().map(|r| (r.label(), ConstCounter::new(r.series.bootstraps)));
    family(encoder, "bootstrap_completed", help, counts)?;

    let help = "Time from when both node and rule existed until the bootstrap was completed.";
    let durations = rules.iter().map(|rule| (rule.label(), rule.series.bootstrap.clone()));
    family(encoder, "bootstrap_duration_seconds", help, durations)
}

fn encode_evaluations(rules: &[RuleView], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "The rule's share of the time that planning a node took.";
    let durations = rules.iter().map(|rule| (rule.label(), rule.series.evaluation.clone()));
    family(encoder, "evaluation_duration_seconds", help, durations)?;

    let help = "Number of times a node began to fail the condition or other requirement.";
    let unmet = evaluated(rules).flat_map(|(rule, nodes)| {
        nodes.requirements.iter().map(move |requirement| {
            let count = rule.series.unmet.get(requirement).copied().unwrap_or_default();
            (rule.labels("condition", requirement), ConstCounter::new(count))
        })
    });
    family(encoder, "condition_failures", help, unmet)?;

    let help = "Time of the last reconcile of the rule without an error.";
    let times = rules.iter().filter_map(|rule| {
        rule.series.reconciled.map(|seconds| (rule.label(), ConstGauge::new(seconds)))
    });
    family(encoder, "rule_last_reconciliation_timestamp_seconds", help, times)
}

fn evaluated(rules: &[RuleView]) -> impl Iterator<Item = (&RuleView, &Nodes)> {
    rules.iter().filter_map(|rule| Some((rule, rule.nodes.as_ref()?)))
}

impl RuleView {
    fn label(&self) -> Labels<'_> {
        vec![("rule", &self.name)]
    }

    fn labels<'a>(&'a self, label: &'static str, value: &'a str) -> Labels<'a> {
        vec![("rule", &self.name), (label, value)]
    }
}

/// Encodes one metric with all its samples. Omits a metric without samples.
fn family<'a, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a>, M)>,
) -> fmt::Result {
    let mut samples = samples.into_iter().peekable();
    let Some((_, first)) = samples.peek() else { return Ok(()) };
    let mut metric = encoder.encode_descriptor(name, help, None, first.metric_type())?;
    for (labels, sample) in samples {
        sample.encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
