//! Memory: large nodes, ten rules, and churn.

use std::time::{Duration, Instant};

use crate::Options;
use crate::environment::Environment;
use crate::fixture::{self, Workload};
use crate::operator::Operator;
use crate::phases::Stage;
use crate::results::Memory;
use crate::watching::Watching;

/// How many rules there are meanwhile.
pub(crate) const RULES: usize = 10;

/// The number of parts of the churn.
const PARTS: u32 = 10;

/// Replaces all nodes by large ones, and has an operator read, taint, untaint and churn them.
pub(crate) async fn measure(
    environment: &Environment,
    options: &Options,
) -> anyhow::Result<Memory> {
    let nodes = options.nodes;
    environment
        .say(&format!("memory: replacing the nodes by {nodes} of {} KiB", options.large_node_kib));
    if !options.memory_only {
        fixture::delete_nodes(&environment.administrator, nodes).await?;
    }
    let (bytes, workload) = (options.large_node_kib * 1024, Workload::of_conditions(RULES));
    fixture::create_nodes(&environment.administrator, nodes, workload, bytes).await?;
    fixture::create_rules(&environment.administrator, workload).await?;
    let watching = Watching::start(environment.client.clone(), workload);
    let stage =
        Stage { environment, watching: &watching, program: &options.operator, nodes, workload };
    stage.until("reading nodes", |counts| counts.nodes == nodes).await?;
    fixture::reset_nodes(&environment.administrator, nodes, workload).await?;
    stage.until("reset", |c| c.bare == nodes && c.met == 0).await?;

    let (operator, cold_start) = stage.cold_start().await?;
    stage.flip(&operator).await?;
    let churn_kib = churn(&stage, &operator, options.churn()).await?;
    let node_bytes = fixture::node_bytes(&environment.administrator).await?;
    let most_resident_kib = operator.usage()?.most_resident.max(cold_start.most_resident_kib);
    operator.stop()?;
    let churn_seconds = options.churn().as_secs();
    Ok(Memory { node_bytes, rules: RULES, most_resident_kib, churn_seconds, churn_kib })
}

/// Flips one node after the other for so long, as fast as the API server takes it. Returns what was
/// resident at the end of each part.
async fn churn(
    stage: &Stage<'_>,
    operator: &Operator,
    duration: Duration,
) -> anyhow::Result<Vec<u64>> {
    stage.environment.say(&format!("memory: {} s of churn", duration.as_secs()));
    let mut resident = Vec::new();
    let mut status = "False";
    let mut next = 0;
    for _ in 0..PARTS {
        let begun = Instant::now();
        while begun.elapsed() < duration / PARTS {
            // A handful at a time, so that a part ends when it should.
            let few = next..(next + 2 * fixture::CONCURRENCY).min(stage.nodes);
            next = few.end;
            let report = async |number| {
                let client = &stage.environment.administrator;
                fixture::report(client, number, stage.workload, status).await
            };
            fixture::each(few, report).await?;
            if next == stage.nodes {
                (next, status) = (0, if status == "False" { "True" } else { "False" });
            }
        }
        let kib = operator.usage()?.resident;
        stage.environment.say(&format!("  {} MiB resident", kib / 1024));
        resident.push(kib);
    }
    Ok(resident)
}
