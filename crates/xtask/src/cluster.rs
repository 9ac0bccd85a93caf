//! `cargo xtask cluster`: the local cluster from the command line.

use std::path::PathBuf;

use node_readiness_testkit::{
    Cluster, ClusterSpec, KubernetesVersion, LoopbackNet, Nodes, RealNodes, StartupTaint,
};

use crate::{
    images, setup,
    workspace::{self, Progress},
};

/// The loopback /24 of a cluster without nodes that is started here. Tests take others.
const LOOPBACK: LoopbackNet = LoopbackNet::new(0);

/// What to do with the cluster.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start it, after ending the one that runs
    Up(UpOptions),
    /// End it and remove all that it left on the machine
    Down,
}

/// What the cluster should be.
#[derive(clap::Args)]
pub(crate) struct UpOptions {
    /// How many nodes; 0 for a control plane only, where Node objects are data
    #[arg(long, default_value_t = 2, env = "NODES")]
    pub(crate) nodes: usize,
    /// The Kubernetes version that it looks like: 1.37, 1.35 or 1.34
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

/// Ends the cluster, if there is one.
pub(crate) fn down() -> anyhow::Result<()> {
    let dir = workspace::cluster_dir();
    Cluster::down(&dir)?;
    println!("no cluster runs in {} any more", dir.display());
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

/// Starts the local cluster. It ends when the value is dropped.
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
    let spec = ClusterSpec { dir: workspace::cluster_dir(), version, nodes };
    Ok(Cluster::up(&spec, &|line| progress.say(line))?)
}

/// Nodes that join with the startup taint of the examples. The binary is the testkit's.
pub(crate) fn real_nodes(count: usize, testkit_binary: PathBuf) -> Nodes {
    Nodes::Real(RealNodes {
        count,
        startup_taints: vec![StartupTaint::network_ready()],
        testkit_binary,
        images: Vec::new(),
    })
}
