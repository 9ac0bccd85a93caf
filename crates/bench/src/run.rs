//! The whole run.

use anyhow::ensure;
use k8s_openapi::jiff::{Timestamp, Unit};

use crate::Options;
use crate::environment::Environment;
use crate::fixture::{SignalKind, Workload};
use crate::phases::Stage;
use crate::results::{Results, Round};
use crate::watching::Watching;
use crate::{baseline, engine_rate, figures, fixture, machine, memory, pods, report, steady};

/// Measures everything, prints each figure with its limit, and writes the results.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    ensure!((1..=memory::RULES).contains(&options.rules), "RULES may be 1 to {}", memory::RULES);
    ensure!(options.rounds >= 1, "at least one round is needed");
    // Each pod is written by itself, so with several rules a node changes several times.
    let one_change = options.signals == SignalKind::Conditions || options.rules == 1;
    ensure!(one_change, "RULES must be 1 with SIGNALS=pods");
    ensure!(options.nodes >= 10, "NODES may be 10 or more");
    let data = machine::etcd_data(options.etcd_room())?;
    let environment = Environment::start(&options.cluster_dir, &options.root, data).await?;
    if options.memory_only {
        let memory = memory::measure(&environment, options).await?;
        report::print(&figures::memory(options.nodes, &memory));
        return Ok(());
    }
    environment.say("engine: evaluations a second on one core");
    let evaluations_per_second = engine_rate::measure()?;
    let mut results =
        main_part(&environment, options, machine::describe(data), evaluations_per_second).await?;
    // With pods, the nodes stay, because Kubernetes deletes the pods of deleted nodes.
    if options.large_node_kib > 0 && options.signals == SignalKind::Conditions {
        results.memory = Some(memory::measure(&environment, options).await?);
    }
    let Some(out) = &options.out else {
        report::print(&figures::rows(&results, &[]));
        return Ok(());
    };
    let others = report::others(out, &results)?;
    report::print(&figures::rows(&results, &others));
    report::write(out, results, others)
}

async fn main_part(
    environment: &Environment,
    options: &Options,
    machine: String,
    evaluations_per_second: f64,
) -> anyhow::Result<Results> {
    let Options { nodes, rules, signals, .. } = *options;
    let workload = Workload { rules, signals };
    let administrator = &environment.administrator;
    environment.say(&format!("creating {nodes} nodes of {} KiB, rules: {rules}", options.node_kib));
    fixture::create_nodes(administrator, nodes, workload, options.node_kib * 1024).await?;
    fixture::create_rules(administrator, workload).await?;
    let compiled = fixture::read_rules(administrator).await?;
    let watching = Watching::start(environment.client.clone(), workload);
    let stage =
        Stage { environment, watching: &watching, program: &options.operator, nodes, workload };
    stage.until("reading nodes", |counts| counts.nodes == nodes).await?;

    let baseline = async || {
        reset(&stage).await?;
        baseline::measure(environment, &watching, &compiled, workload).await
    };
    environment.say("warming up, because the API server is slow at first");
    baseline().await?;
    let mut rounds = Vec::new();
    let mut events = None;
    for round in 1..=options.rounds {
        environment.say(&format!("round {round} of {}", options.rounds));
        let baseline = baseline().await?;
        reset(&stage).await?;
        let (operator, cold_start) = stage.cold_start().await?;
        if events.is_none() {
            events = Some(stage.events().await?);
        }
        let flip = stage.flip(&operator).await?;
        operator.stop()?;
        rounds.push(Round { baseline, cold_start, flip });
    }
    let last_baseline = baseline().await?;

    let operator = stage.start()?;
    stage.at_rest().await?;
    let idle = stage.idle_latency(&operator).await?;
    let storm = stage.storm(&operator).await?;
    let (operator, restart) = stage.restart(operator).await?;
    let status_bytes = fixture::status_bytes(administrator).await?;
    let (operator, met_without_operator) = stage.met_without_operator(operator).await?;
    let steady = steady::measure(&stage, &operator, options.steady()).await?;
    operator.stop()?;
    let pod_bytes = match signals {
        SignalKind::Conditions => None,
        SignalKind::Pods => {
            reset(&stage).await?;
            Some(pods::memory(environment, &stage).await?)
        }
    };
    Ok(Results {
        at: Timestamp::now().round(Unit::Second)?.to_string(),
        machine,
        nodes,
        rules,
        signals,
        pod_bytes,
        node_bytes: fixture::node_bytes(administrator).await?,
        rounds,
        last_baseline,
        storm,
        restart,
        met_without_operator: Some(met_without_operator),
        steady,
        idle,
        events: events.unwrap_or_default(),
        status_bytes,
        memory: None,
        evaluations_per_second,
    })
}

/// Resets all nodes to the initial state.
async fn reset(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.environment.say("setting all nodes back: no taint, no record, conditions not met");
    fixture::reset_nodes(&stage.environment.administrator, stage.nodes, stage.workload).await?;
    stage.until("reset", |c| c.bare == stage.nodes && c.met == 0).await?;
    Ok(())
}
