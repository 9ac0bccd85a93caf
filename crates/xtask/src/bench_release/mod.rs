//! `cargo xtask bench-release`: the time from an agent's first answer to the node's release, on two real nodes with
//! default settings.
//!
//! In each round an agent starts on a held node. The measurement starts with the agent's first answer of 200, for
//! which this program polls, and ends when the watch shows the node without the taint. Then the program deletes the
//! agent, and the next round begins when the node is held again.

mod node;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use node_readiness_testkit::{Cluster, KubernetesVersion};

use self::node::BenchNode;
use crate::{
    cluster, images,
    kubectl::Kubectl,
    processes,
    readings::{Reading, Readings, megabytes},
    setup,
    usage::Usage,
    workspace::{self, Progress},
};

/// The time for which a waiting reporter is measured.
const WINDOW: Duration = Duration::from_secs(20);

/// The timeout of a reporter's start.
const STARTS_WITHIN: Duration = Duration::from_mins(1);

/// The options of the measurement.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of rounds, over both nodes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1000))]
    rounds: u32,
}

/// The cost of a reporter that waits for its agent.
struct Waiting {
    resident: u64,
    cpu: Duration,
    window: Duration,
}

/// Measures, prints the results, and fails if a limit is exceeded.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let progress = Progress::start();
    setup::packages_for_nodes(&progress)?;
    let testkit_binary = images::build_all(&progress)?;
    let nodes = cluster::real_nodes(2, testkit_binary);
    let cluster = cluster::start(nodes, KubernetesVersion::default(), &progress)?;
    for target in ["install", "deploy"] {
        let mut make = workspace::make();
        workspace::run(make.arg(target).env("KUBECONFIG", cluster.kubeconfig()))?;
    }
    let kubectl = Kubectl::new(cluster.layout());
    kubectl.run(&["apply", "-f", "-"], include_str!("rule.yaml"))?;
    let mut nodes = open_nodes(&cluster)?;
    for node in &mut nodes {
        node.await_held(true)?;
    }
    let waiting = measure_waiting(&progress)?;

    let mut times = Vec::new();
    for round in 0..options.rounds.div_ceil(2) {
        // Both nodes run a round at the same time. The agent's delay differs between rounds, so that its first good
        // answer comes at different moments of the probes' period.
        let ready_after = Duration::from_millis(2000 + u64::from(round) * 370 % 1000);
        let measured: Vec<_> = thread::scope(|scope| {
            let rounds: Vec<_> =
                nodes.iter_mut().map(|node| scope.spawn(|| node.round(ready_after))).collect();
            rounds.into_iter().map(|round| round.join().expect("a round does not panic")).collect()
        });
        for time in measured {
            times.push(time?);
        }
        progress.say(&format!(
            "rounds {} of {}: {:.2?}",
            times.len(),
            options.rounds,
            &times[times.len() - 2..]
        ));
    }
    let readings = readings(&mut times, &waiting);
    println!("\n{readings}");
    match readings.missed() {
        0 => Ok(()),
        missed => bail!("{missed} of the limits above are exceeded"),
    }
}

fn open_nodes(cluster: &Cluster) -> anyhow::Result<Vec<BenchNode>> {
    let names = cluster.nodes()?;
    names.iter().map(|name| BenchNode::open(name, cluster.layout())).collect()
}

/// Measures one of the reporters, whose agent does not run.
fn measure_waiting(progress: &Progress) -> anyhow::Result<Waiting> {
    let pid = await_reporter()?;
    progress.say(&format!("measuring a reporter that waits for its agent, for {WINDOW:?}"));
    let (begun, before) = (Instant::now(), Usage::of(pid)?);
    thread::sleep(WINDOW);
    let after = Usage::of(pid)?;
    let cpu = Usage::cpu_since(&after, &before);
    Ok(Waiting { resident: after.resident, cpu, window: begun.elapsed() })
}

/// Waits until a reporter runs, and returns its process id. A node has the taint before any pod runs on it.
fn await_reporter() -> anyhow::Result<u32> {
    let end = Instant::now() + STARTS_WITHIN;
    while Instant::now() < end {
        if let Some(pid) = processes::reporters().first() {
            return Ok(*pid);
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("no reporter started within {STARTS_WITHIN:?}; see kubectl -n nrr-reporters get pods")
}

fn readings(times: &mut [Duration], waiting: &Waiting) -> Readings {
    times.sort();
    let seconds = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).clamp(1, times.len());
        times[rank - 1].as_secs_f64()
    };
    let cores = waiting.cpu.as_secs_f64() / waiting.window.as_secs_f64() * 1000.0;
    Readings(vec![
        Reading::new("agent answers to taint removed, p50", seconds(50), "s", Some(0.8)),
        Reading::new("agent answers to taint removed, p99", seconds(99), "s", Some(1.6)),
        Reading::new("CPU of a reporter that waits", cores, "mCPU", None),
        Reading::new("memory of a reporter that waits", megabytes(waiting.resident), "MB", None),
    ])
}
