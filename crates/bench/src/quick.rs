//! Requests counted on a small cluster: the limits that do not depend on the machine.
//!
//! It measures no time, so a slow machine does not fail.

use anyhow::ensure;
use node_readiness_testkit::EtcdData;

use crate::Options;
use crate::environment::Environment;
use crate::fixture::{self, Workload};
use crate::phases::Stage;
use crate::requests::{of, reads};
use crate::results::Phase;
use crate::steady;
use crate::watching::Watching;

const NODES: usize = 300;
const RULES: usize = 3;

/// Smaller than real nodes, because the size changes no count.
const NODE_BYTES: usize = 4 * 1024;

/// Runs the operator through a start, a flip, a storm and heartbeats, and fails if it sends too many requests.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let environment =
        Environment::start(&options.cluster_dir, &options.root, EtcdData::Disk).await?;
    let workload = Workload::of_conditions(RULES);
    environment.say(&format!("creating {NODES} nodes, rules: {RULES}"));
    fixture::create_nodes(&environment.administrator, NODES, workload, NODE_BYTES).await?;
    fixture::create_rules(&environment.administrator, workload).await?;
    let watching = Watching::start(environment.client.clone(), workload);
    let stage = Stage {
        environment: &environment,
        watching: &watching,
        program: &options.operator,
        nodes: NODES,
        workload,
    };
    stage.until("reading nodes", |counts| counts.nodes == NODES).await?;
    // The controller manager sets an annotation that depends on the number of nodes on each node when it next
    // changes.
    fixture::reset_nodes(&environment.administrator, NODES, workload).await?;
    stage.at_rest().await?;
    let (operator, cold_start) = stage.cold_start().await?;
    check("cold start", &cold_start, NODES)?;
    let events = stage.events().await?;
    ensure!(events.written == NODES * RULES, "a cold start has an event a taint: {events:?}");
    ensure!(events.early == 0, "no event comes before its taint: {events:?}");
    let flip = stage.flip(&operator).await?;
    check("flip", &flip, NODES)?;
    ensure!(reads(&flip.requests) == 0, "after its start it only watches: {:?}", flip.requests);
    let storm = stage.storm(&operator).await?;
    check("storm", &storm, 4 * NODES)?;
    let (operator, restart) = stage.restart(operator).await?;
    // Requests in flight when the operator was killed may be sent again.
    check("restart", &restart, NODES + RESENT)?;
    stage.flip(&operator).await?;
    let steady = steady::measure(&stage, &operator, options.steady()).await?;
    for kind in ["PATCH nodes", "PATCH nodereadinessrules/status", "POST events"] {
        let count = of(&steady.requests, kind);
        ensure!(count == 0, "heartbeats alone cause no {kind}, and there were {count}");
    }
    environment.say("requests are as few as they should be");
    Ok(())
}

/// The maximum number of writes in flight when an operator is killed.
const RESENT: usize = 96;

/// A node is written at most once for each change, regardless of the number of rules. A rule's status is
/// written at most once a second.
fn check(what: &str, phase: &Phase, most: usize) -> anyhow::Result<()> {
    let writes = of(&phase.requests, "PATCH nodes");
    ensure!(writes <= u64::try_from(most)?, "{what}: {writes} writes of nodes, and {most} may be");
    let statuses = of(&phase.requests, "PATCH nodereadinessrules/status");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds")]
    let seconds = phase.seconds_to_rest.ceil() as u64 + 1;
    let most = seconds * u64::try_from(RULES)?;
    ensure!(statuses <= most, "{what}: {statuses} writes of status in {seconds} s");
    Ok(())
}
