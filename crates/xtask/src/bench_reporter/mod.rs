//! `cargo xtask bench-reporter`: the cost of the reporter on a node on which nothing changes, with 1, 10 and 50 rules.
//!
//! The nodes are real, with default settings and the strict guard. All rules share one reporter on each node.

mod readings;
mod requests;
mod rules;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use node_readiness_testkit::{Cluster, KubernetesVersion};
use serde_json::Value;

use self::{
    readings::{Measured, readings},
    requests::Counter,
};
use crate::{
    cluster, images,
    kubectl::Kubectl,
    processes,
    readings::{Reading, Readings, megabytes},
    setup,
    usage::Usage,
    workspace::{self, Progress},
};

/// The numbers of rules.
const RULES: [usize; 3] = [1, 10, 50];

const NODES: usize = 2;

/// The timeout of a wait.
const DEADLINE: Duration = Duration::from_mins(2);

/// The interval of progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// The time between the last report and the measurement, in which connections and threads of the start end.
const WARM_UP: Duration = Duration::from_secs(15);

/// The options of the measurement.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Duration of each measurement, in seconds
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(10..=3600))]
    seconds: u64,
}

/// Measures, prints the results, and fails if a limit is exceeded.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let progress = Progress::start();
    setup::packages_for_nodes(&progress)?;
    let testkit_binary = images::build_all(&progress)?;
    let nodes = cluster::real_nodes(NODES, testkit_binary);
    let cluster = cluster::start(nodes, KubernetesVersion::default(), &progress)?;
    for arguments in [&["install"][..], &["deploy", "OPERATOR_FLAGS=--guard=strict"]] {
        let mut make = workspace::make();
        workspace::run(make.args(arguments).env("KUBECONFIG", cluster.kubeconfig()))?;
    }
    // `make deploy` has loaded it.
    let image = workspace::cluster_dir().join("images/reporter.tar").metadata()?.len();
    let bench = Bench { kubectl: Kubectl::new(cluster.layout()), cluster, progress };
    let mut missed = 0;
    let (mut tables, mut present) = (Vec::new(), 0);
    for rules in RULES {
        let table = bench.measure(present, rules, Duration::from_secs(options.seconds))?;
        missed += table.missed();
        tables.push(table);
        present = rules;
    }
    let size = Readings(vec![Reading::new("image", megabytes(image), "MB", Some(8.0))]);
    missed += size.missed();
    for table in tables.iter().chain([&size]) {
        println!("\n{table}");
    }
    match missed {
        0 => Ok(()),
        missed => bail!("{missed} of the limits above are exceeded"),
    }
}

struct Bench {
    kubectl: Kubectl,
    cluster: Cluster,
    progress: Progress,
}

impl Bench {
    /// Adds rules up to this number, and measures.
    fn measure(&self, present: usize, rules: usize, window: Duration) -> anyhow::Result<Readings> {
        self.progress.say(&format!("{rules} rules: applying them"));
        for number in present..rules - 1 {
            self.apply(&rules::rule(number))?;
        }
        if rules > 1 {
            self.await_status(rules - 2, "True")?;
        }
        let last = rules - 1;
        let applied = self.time(&rules::rule(last), last, "True")?;
        let pids = await_reporters()?;
        let edited = self.time(&rules::edited(last), last, "False")?;
        self.time(&rules::rule(last), last, "True")?;
        if await_reporters()? != pids {
            bail!("an edited probe restarted a reporter");
        }
        thread::sleep(WARM_UP);

        let usages = || pids.iter().map(|pid| Usage::of(*pid)).collect::<anyhow::Result<Vec<_>>>();
        let counter = Counter::start(&self.kubectl, self.cluster.layout())?;
        let (begun, before) = (Instant::now(), usages()?);
        self.wait(window, rules);
        let (took, after) = (begun.elapsed(), usages()?);
        let requests = counter.end()?;
        let cpus =
            after.iter().zip(&before).map(|(later, earlier)| Usage::cpu_since(later, earlier));
        let memory = pids.iter().map(|pid| processes::pod_memory(*pid));
        let measured = Measured {
            rules,
            pods: self.pods_on_a_node()?,
            memory: memory.collect::<anyhow::Result<Vec<_>>>()?.into_iter().max().unwrap_or(0),
            cpu: cpus.max().unwrap_or_default(),
            window: took,
            requests,
            nodes: NODES,
            applied,
            edited,
        };
        Ok(readings(&measured))
    }

    fn apply(&self, rule: &Value) -> anyhow::Result<()> {
        self.kubectl.run(&["apply", "-f", "-"], &rule.to_string()).map(drop)
    }

    /// Applies a rule, and returns the time until its first condition has this status on every node.
    fn time(&self, rule: &Value, number: usize, status: &str) -> anyhow::Result<Duration> {
        self.apply(rule)?;
        let applied = Instant::now();
        self.await_status(number, status)?;
        Ok(applied.elapsed())
    }

    fn await_status(&self, number: usize, status: &str) -> anyhow::Result<()> {
        let condition = rules::condition(number, 0);
        let path = format!(
            "jsonpath={{range .items[*]}}{{.status.conditions[?(@.type==\"{condition}\")].status}} {{end}}"
        );
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            let found = self.kubectl.run(&["get", "nodes", "-o", &path], "")?;
            if found.split_whitespace().filter(|found| *found == status).count() == NODES {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{condition} was not {status} on every node within {DEADLINE:?}")
    }

    /// Returns the largest number of reporters on a node.
    fn pods_on_a_node(&self) -> anyhow::Result<usize> {
        let path = "jsonpath={.items[*].spec.nodeName}";
        let pods = self.kubectl.run(&["-n", "nrr-reporters", "get", "pods", "-o", path], "")?;
        let nodes: Vec<_> = pods.split_whitespace().collect();
        let on = |node: &&str| nodes.iter().filter(|other| *other == node).count();
        nodes.iter().map(on).max().context("there are no reporters")
    }

    fn wait(&self, window: Duration, rules: usize) {
        let begun = Instant::now();
        while let Some(left) = window.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            thread::sleep(left.min(PROGRESS_INTERVAL));
            let seconds = begun.elapsed().as_secs_f64();
            self.progress.say(&format!("{rules} rules: measured for {seconds:.0} s"));
        }
    }
}

/// Waits until there is a reporter on each node, and returns their process ids.
fn await_reporters() -> anyhow::Result<Vec<u32>> {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        let pids = processes::reporters();
        if pids.len() == NODES {
            return Ok(pids);
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("there were not {NODES} reporters within {DEADLINE:?}")
}
