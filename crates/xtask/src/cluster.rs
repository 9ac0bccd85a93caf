//! `cargo xtask cluster`: the local cluster from the command line.

use std::path::PathBuf;

use anyhow::bail;
use node_readiness_testkit::{
    Cluster, ClusterSpec, EtcdData, KubernetesVersion, LoopbackNet, Nodes, RealNodes, StartupTaint,
};

use crate::{
    images, setup,
    workspace::{self, Progress},
};

/// The loopback /24 of a cluster without nodes. Tests use others.
const LOOPBACK: LoopbackNet = LoopbackNet::new(0);

/// The commands for the local cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start the cluster; a running one ends first
    Up(UpOptions),
    /// End the cluster and those of killed tests and benchmarks; remove all traces on the machine
    Down,
}

/// The cluster to start.
#[derive(clap::Args)]
pub(crate) struct UpOptions {
    /// Number of nodes; 0 for a control plane only, where Node objects are data
    #[arg(long, default_value_t = 2, env = "NODES")]
    pub(crate) nodes: usize,
    /// The Kubernetes version that the cluster emulates: 1.37, 1.35 or 1.34
    #[arg(long, default_value_t, env = "KUBE")]
    pub(crate) kube: KubernetesVersion,
}

/// Runs one of the commands.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(options) => up(&options),
        Command::Down => down(),
    }
}

/// Ends the local cluster and all other clusters of this checkout, which killed tests and benchmarks leave running.
/// A test may still use one of them, so it names each. If one cannot be ended, for example without root, it still
/// ends the others.
fn down() -> anyhow::Result<()> {
    let local = workspace::cluster_dir();
    let mut dirs = Cluster::all_in(&local)?;
    // The directory of clusters that tests start themselves.
    dirs.extend(Cluster::all_in(&workspace::target_dir().join("tmp"))?);
    let mut left = 0;
    for dir in &dirs {
        let note = if *dir == local { "" } else { "; a test that still uses it will fail" };
        println!("ending the cluster in {}{note}", dir.display());
        if let Err(error) = Cluster::down(dir) {
            eprintln!("cannot end the cluster in {}: {error}", dir.display());
            left += 1;
        }
    }
    if left > 0 {
        bail!("{left} clusters still run; the errors are above");
    }
    // A start that was killed early leaves a kubeconfig without a cluster.
    Cluster::down(&local)?;
    println!("all clusters of this checkout have ended");
    Ok(())
}

/// Starts the cluster and leaves it running.
pub(crate) fn up(options: &UpOptions) -> anyhow::Result<()> {
    let progress = Progress::start();
    let nodes = match options.nodes {
        0 => Nodes::ControlPlaneOnly { loopback: LOOPBACK },
        count => {
            setup::packages_for_nodes(&progress)?;
            let testkit_binary = images::build_static(&["testkit"], &progress)?.remove(0);
            real_nodes(count, testkit_binary)
        }
    };
    let cluster = start(nodes, options.kube, &progress)?;
    progress.say("the cluster is ready:");
    println!("\n  export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("  export PATH={}:$PATH", cluster.layout().bin().display());
    println!(
        "  kubectl get nodes\n\nLogs are in {}. End it with: make cluster-down",
        cluster.layout().log().display()
    );
    cluster.detach();
    Ok(())
}

/// Starts the local cluster. It ends on drop.
pub(crate) fn start(
    nodes: Nodes,
    version: KubernetesVersion,
    progress: &Progress,
) -> anyhow::Result<Cluster> {
    let count = match &nodes {
        Nodes::ControlPlaneOnly { .. } => 0,
        Nodes::Real(nodes) => nodes.count,
    };
    progress.say(&format!("starting Kubernetes {version} with {count} nodes"));
    let spec = ClusterSpec {
        dir: workspace::cluster_dir(),
        version,
        nodes,
        data: EtcdData::Disk,
        default_node_selector: None,
    };
    Ok(Cluster::up(&spec, &|line| progress.say(line))?)
}

/// Returns nodes that join with the startup taint of the examples. The binary is the testkit's.
pub(crate) fn real_nodes(count: usize, testkit_binary: PathBuf) -> Nodes {
    Nodes::Real(RealNodes {
        count,
        startup_taints: vec![StartupTaint::network_ready()],
        testkit_binary,
        images: Vec::new(),
    })
}
