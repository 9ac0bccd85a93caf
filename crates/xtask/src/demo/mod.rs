//! `cargo xtask demo`: shows the project to newcomers on a new, real cluster.
//!
//! It runs the commands that a user would type, and watches the cluster. It fails if the cluster does not do what the
//! demo's text says. The cluster keeps running afterwards.

mod live;
mod screen;
mod steps;
mod table;
mod view;

use std::path::PathBuf;

use anyhow::bail;
use node_readiness_testkit::{Binaries, KubernetesVersion, Layout};

use self::screen::Screen;
use crate::{cluster, images, setup, workspace::Progress};

/// The options of the demo.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Kubernetes version that the cluster emulates: 1.37 or 1.35
    #[arg(long, default_value_t, env = "KUBE")]
    kube: KubernetesVersion,
}

/// Runs the demo.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.kube == KubernetesVersion::V1_34 {
        bail!("Kubernetes {} has no constrained impersonation: use 1.37 or 1.35", options.kube);
    }
    let progress = Progress::start();
    let screen = Screen::new();
    screen.line("Node Readiness keeps pods off a node until the node can run them.");
    screen.line(
        "This demo shows it on a real Kubernetes cluster with two nodes, all on this machine.",
    );

    let testkit_binary = prepare(&screen, &progress)?;
    let layout = start_cluster(&screen, &progress, options.kube, testkit_binary)?;
    if let Err(error) = steps::show(&screen, &layout) {
        screen.gap();
        screen.line("The demo stopped here. The cluster still runs. To inspect it:");
        look_around(&screen, &layout);
        return Err(error);
    }
    screen.gap();
    progress.say("The demo is complete. The cluster still runs. To inspect it:");
    screen.others_printed();
    look_around(&screen, &layout);
    Ok(())
}

/// Builds missing programs and images. Returns the testkit's binary, which the nodes run.
fn prepare(screen: &Screen, progress: &Progress) -> anyhow::Result<PathBuf> {
    screen.step(
        "Prepare",
        "This builds only what is missing. The first run takes 10 to 15 minutes, most of them to compile\n\
         Kubernetes and this project. Later runs take seconds.",
    );
    setup::packages_for_nodes(progress)?;
    Binaries::ensure(&|line| progress.say(line))?;
    let testkit_binary = images::build_all(progress)?;
    screen.others_printed();
    Ok(testkit_binary)
}

fn start_cluster(
    screen: &Screen,
    progress: &Progress,
    version: KubernetesVersion,
    testkit_binary: PathBuf,
) -> anyhow::Result<Layout> {
    screen.step(
        "A new cluster with two nodes",
        "The cluster has a control plane and two nodes. Each node has its own kubelet and containerd.\n\
         Each kubelet registers its node with a taint, so no ordinary pod starts on the node too early.\n\
         If a cluster of `make cluster-up` or of an earlier demo still runs, it ends first.",
    );
    let cluster = cluster::start(cluster::real_nodes(2, testkit_binary), version, progress)?;
    progress.say("the nodes are Ready");
    screen.others_printed();
    let layout = cluster.layout().clone();
    // From here on the cluster keeps running, even if a step fails.
    cluster.detach();
    Ok(layout)
}

fn look_around(screen: &Screen, layout: &Layout) {
    screen.gap();
    screen.output(&format!("export KUBECONFIG={}", layout.kubeconfig().display()));
    screen.output(&format!("export PATH={}:$PATH", layout.bin().display()));
    screen.output("kubectl get nrr");
    screen.output("kubectl describe nrr cni");
    screen.output("kubectl describe node node-a");
    screen.output("kubectl get events -A");
    screen.gap();
    screen.line("To end the cluster: make cluster-down");
    screen.gap();
}
