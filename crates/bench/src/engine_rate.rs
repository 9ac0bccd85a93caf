//! Evaluations of a node under a rule in a second on one core.
//!
//! The microbenchmark in `crates/engine/benches` is more exact. This is the figure with a limit.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::jiff::Timestamp;
use node_readiness_engine::{Heartbeats, Node, PlanContext, Rule, RuleSet, plan};
use rustix::time::{ClockId, clock_gettime};

use crate::fixture;

const NODES: usize = 1000;
const RULES: usize = 10;
const DURATION: Duration = Duration::from_secs(2);

/// Plans nodes over ten rules for a while, on one thread. All of them are held and stay held, as after a change
/// of a rule.
pub(crate) fn measure() -> anyhow::Result<f64> {
    let rules = (0..RULES).map(|number| {
        let mut rule = fixture::rule(number, fixture::SignalKind::Conditions)?;
        rule.metadata.uid = Some(format!("00000000-0000-4000-8000-{number:012x}"));
        rule.metadata.generation = Some(1);
        rule.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        Rule::compile(&rule).context("a rule as it is made here")
    });
    let rules = RuleSet::new(rules.collect::<anyhow::Result<Vec<_>>>()?, []);
    let mut heartbeats = Heartbeats::default();
    let nodes =
        (0..NODES).map(|number| held(number, &rules)).collect::<anyhow::Result<Vec<_>>>()?;
    for node in &nodes {
        heartbeats.observe(node, Duration::ZERO);
    }
    let context = PlanContext::unobserved(Timestamp::UNIX_EPOCH, Duration::from_secs(1));
    let context = PlanContext { heartbeats: &heartbeats, ..context };
    // The processor time of this thread, which does not depend on other load.
    let begun = processor_time();
    let mut evaluations = 0.0;
    while since(begun) < DURATION {
        for node in &nodes {
            let plan = std::hint::black_box(plan(node, &rules, &context));
            anyhow::ensure!(plan.patch.is_none(), "a node that is as it should be is written");
            evaluations += f64::from(u32::try_from(plan.results.len())?);
        }
    }
    Ok(evaluations / since(begun).as_secs_f64())
}

fn since(begun: Duration) -> Duration {
    processor_time().saturating_sub(begun)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither part of a thread's time is ever negative.
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// A node that every rule holds, as the operator leaves it.
fn held(number: usize, rules: &RuleSet) -> anyhow::Result<Node> {
    let bare = serde_json::to_value(fixture::node(number, RULES, 0)?)?;
    let context = PlanContext::unobserved(Timestamp::UNIX_EPOCH, Duration::ZERO);
    let plan = plan(&serde_json::from_value(bare.clone())?, rules, &context);
    let patch = plan.patch.context("a node that is to be held is written")?;
    let mut node = bare;
    let tests_pass_without = |operation: &json_patch::PatchOperation| {
        // In Kubernetes' JSON Patch a missing member equals null, and here it does not.
        !matches!(operation, json_patch::PatchOperation::Test(_))
    };
    let changes = patch.0.into_iter().filter(tests_pass_without).collect();
    json_patch::patch(&mut node, &json_patch::Patch(changes))?;
    Ok(serde_json::from_value(node)?)
}
