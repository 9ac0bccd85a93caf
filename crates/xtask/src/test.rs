//! `cargo xtask test`: every check and test of the project, in stages.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use node_readiness_testkit::{
    Cluster, ClusterSpec, EtcdData, KubernetesVersion, LoopbackNet, Nodes, RealNodes, StartupTaint,
};

use crate::{
    bench, generate, images, language, setup,
    workspace::{self, Progress},
};

/// The loopback /24 of the control plane that integration tests share.
const LOOPBACK: LoopbackNet = LoopbackNet::new(1);

/// The loopback /24 of a second control plane, for tests in which operators compete.
const LOOPBACK_OF_LEASE: LoopbackNet = LoopbackNet::new(2);

/// The variables with the administrator's kubeconfigs of both.
const KUBECONFIG: &str = "NRR_TEST_KUBECONFIG";
const LEASE_KUBECONFIG: &str = "NRR_TEST_LEASE_KUBECONFIG";

/// The variables of end-to-end tests: the administrator's kubeconfig, and the version.
const E2E_KUBECONFIG: &str = "NRR_E2E_KUBECONFIG";
const E2E_KUBE: &str = "NRR_E2E_KUBE";

/// The versions of end-to-end tests, each with libtest's filters.
///
/// The first two have constrained impersonation: on by default, and the oldest with the feature gate. The third
/// has none, so it only runs the tests that do not need it.
const E2E_RUNS: [(KubernetesVersion, &[&str]); 3] = [
    (KubernetesVersion::V1_37, &["--skip", WITHOUT_IMPERSONATION]),
    (
        KubernetesVersion::V1_35,
        // Probes, nodes and pods behave the same with every API server.
        &[
            "--skip",
            WITHOUT_IMPERSONATION,
            "--skip=probes::",
            "--skip=addresses::",
            "--skip=as_kubelet::",
            "--skip=pods::",
            "--skip=availability::",
            "--skip=in_service::",
            "--skip=reboots::",
            "--skip=network::",
            "--skip=liveness::",
            "--skip=metrics::",
            "--skip=environment::",
        ],
    ),
    (
        KubernetesVersion::V1_34,
        &[WITHOUT_IMPERSONATION, "guard::", "matrix::", "operator::", "tokens::"],
    ),
];

/// The tests without constrained impersonation.
const WITHOUT_IMPERSONATION: &str = "without_impersonation::";

/// The packages, without their common prefix, that must build by themselves. Packages of tests and tasks are left
/// out, because each run of them shows that they build.
const PACKAGES: [&str; 4] = ["api", "engine", "operator", "reporter"];

/// The stages to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run these stages only, in this order
    #[arg(value_enum)]
    stages: Vec<Stage>,
}

/// A stage of the tests.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Stage {
    /// Formatting, lints, generated files, each package by itself
    Checks,
    /// Tests that need no cluster
    Unit,
    /// The operator against a real API server
    Integration,
    /// The operator's requests, counted on 300 nodes
    BenchQuick,
    /// Images on two real nodes, for each Kubernetes version; ends a local cluster that runs
    E2e,
}

impl Stage {
    const ALL: [Self; 5] =
        [Self::Checks, Self::Unit, Self::Integration, Self::BenchQuick, Self::E2e];
}

/// Runs the stages, and prints a last line that counts tests.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let progress = Progress::start();
    let stages = if options.stages.is_empty() { &Stage::ALL[..] } else { &options.stages };
    let mut count = Count::default();
    for stage in stages {
        match stage {
            Stage::Checks => checks(&progress)?,
            Stage::Unit => count.add(unit(&progress)?),
            Stage::Integration => count.add(integration(&progress)?),
            Stage::BenchQuick => count.add(bench_quick(&progress)?),
            Stage::E2e => count.add(e2e(&progress)?),
        }
    }
    progress.say("all stages have ended");
    println!("{} passed, {} failed", count.passed, count.failed);
    if count.failed > 0 {
        bail!("some tests failed; their output is above");
    }
    Ok(())
}

fn checks(progress: &Progress) -> anyhow::Result<()> {
    progress.say("checking formatting");
    workspace::run(workspace::cargo().args(["fmt", "--all", "--check"]))?;
    progress.say("checking that generated files are up to date");
    generate::run(&generate::Options { check: true })?;
    progress.say("checking names, links and lines of prose");
    language::check()?;
    progress.say("checking lints");
    let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    workspace::run(workspace::cargo().args(lints))?;
    progress.say("checking that each package builds by itself");
    for package in PACKAGES {
        // A package must not depend on features that only another package enables.
        let package = format!("node-readiness-{package}");
        workspace::run(workspace::cargo().args(["check", "--locked", "-p", &package]))?;
    }
    Ok(())
}

fn unit(progress: &Progress) -> anyhow::Result<Count> {
    progress.say("running tests that need no cluster");
    let mut count = cargo_test(&["--workspace", "--exclude", "node-readiness-operator"], &[])?;
    count.add(cargo_test(&["-p", "node-readiness-operator", "--lib", "--bins"], &[])?);
    Ok(count)
}

fn integration(progress: &Progress) -> anyhow::Result<Count> {
    progress.say("starting two control planes for integration tests");
    let control_plane = |name, loopback| {
        let spec = ClusterSpec {
            dir: workspace::cluster_dir().join(name),
            version: KubernetesVersion::V1_37,
            nodes: Nodes::ControlPlaneOnly { loopback },
            data: EtcdData::Disk,
            default_node_selector: None,
        };
        Cluster::up(&spec, &|line| progress.say(line))
    };
    let cluster = control_plane("integration", LOOPBACK)?;
    let of_lease = control_plane("integration-lease", LOOPBACK_OF_LEASE)?;
    progress.say("running the operator against it");
    let environment = [
        (KUBECONFIG, cluster.kubeconfig().into_os_string()),
        (LEASE_KUBECONFIG, of_lease.kubeconfig().into_os_string()),
        ("PATH", workspace::path_with(&cluster.layout().bin())),
    ];
    cargo_test(&["-p", "node-readiness-operator", "--test", "it"], &environment)
}

/// Runs the quick benchmark, which prints its own failures, and counts it as one test.
fn bench_quick(progress: &Progress) -> anyhow::Result<Count> {
    bench::quick(progress)?;
    Ok(Count { passed: 1, failed: 0 })
}

fn e2e(progress: &Progress) -> anyhow::Result<Count> {
    setup::packages_for_nodes(progress)?;
    // The tests call `make deploy`, which builds too. Building here shows the progress.
    let binaries = images::build_static(&["operator", "reporter", "testkit"], progress)?;
    let testkit_binary = binaries.into_iter().next_back().context("no testkit was built")?;
    let mut count = Count::default();
    for (version, filters) in E2E_RUNS {
        count.add(e2e_on(version, filters, testkit_binary.clone(), progress)?);
    }
    Ok(count)
}

/// Runs end-to-end tests on one version. The cluster is the local one, because `make deploy` loads images
/// there. It ends with this function.
fn e2e_on(
    version: KubernetesVersion,
    filters: &[&str],
    testkit_binary: PathBuf,
    progress: &Progress,
) -> anyhow::Result<Count> {
    progress.say(&format!("starting Kubernetes {version} with two nodes for end-to-end tests"));
    let spec = ClusterSpec {
        dir: workspace::cluster_dir(),
        version,
        nodes: Nodes::Real(RealNodes {
            count: 2,
            startup_taints: vec![StartupTaint::network_ready()],
            testkit_binary,
            images: Vec::new(),
        }),
        data: EtcdData::Disk,
        default_node_selector: None,
    };
    let cluster = Cluster::up(&spec, &|line| progress.say(line))?;
    progress.say(&format!("running the end-to-end tests on Kubernetes {version}"));
    let environment = [
        (E2E_KUBECONFIG, cluster.kubeconfig().into_os_string()),
        (E2E_KUBE, version.as_str().into()),
        // kubectl's default cache may be of an earlier cluster with another version at this address.
        ("KUBECACHEDIR", cluster.layout().dir().join("kubectl-cache").into_os_string()),
        ("PATH", workspace::path_with(&cluster.layout().bin())),
    ];
    let tests = ["-p", "node-readiness-operator", "--test", "e2e", "--"];
    cargo_test(&[&tests, filters].concat(), &environment)
}

/// The number of tests.
#[derive(Clone, Copy, Default)]
struct Count {
    passed: u32,
    failed: u32,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs `cargo test` to its end, shows its output, and counts.
fn cargo_test(arguments: &[&str], environment: &[(&str, OsString)]) -> anyhow::Result<Count> {
    let mut cargo: Command = workspace::cargo();
    cargo.args(["test", "--locked", "--no-fail-fast"]).args(arguments);
    cargo.envs(environment.iter().map(|(name, value)| (name, value)));
    let mut running = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = running.stdout.take().context("cargo test has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the output of cargo test")?;
        println!("{line}");
        count.add(counted(&line).unwrap_or_default());
    }
    let status = running.wait()?;
    if !status.success() && count.failed == 0 {
        bail!("cargo test {} ended with {status} and no failed test", arguments.join(" "));
    }
    if count.passed + count.failed == 0 {
        bail!("cargo test {} ran no test", arguments.join(" "));
    }
    Ok(count)
}

/// Parses the last line of a test binary.
fn counted(line: &str) -> Option<Count> {
    let numbers = line.strip_prefix("test result: ")?;
    let number = |what: &str| {
        let (before, _) = numbers.split_once(what)?;
        before.rsplit([' ', '.']).find(|word| !word.is_empty())?.parse().ok()
    };
    Some(Count { passed: number(" passed")?, failed: number(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_binary_is_counted() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        let count = counted(line).unwrap();
        assert_eq!((count.passed, count.failed), (12, 3));
        assert!(counted("running 3 tests").is_none());
    }

    /// A filter without a module would select or skip nothing, unnoticed.
    #[test]
    fn every_filter_of_the_end_to_end_tests_names_a_module() {
        let tests = workspace::root().join("crates/operator/tests/e2e");
        let words = E2E_RUNS.iter().flat_map(|(_, words)| *words);
        for filter in words.filter(|word| **word != "--skip") {
            let module = filter.strip_prefix("--skip=").unwrap_or(filter).strip_suffix("::");
            let file = module.map(|module| tests.join(module).with_extension("rs"));
            assert!(file.is_some_and(|file| file.is_file()), "{filter}");
        }
    }
}
