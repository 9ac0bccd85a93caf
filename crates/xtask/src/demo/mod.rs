//! `cargo xtask demo`: shows the project on a real cluster, from nothing, to somebody who sees it for the first
//! time.
//!
//! It runs the commands that a user would type, and watches the cluster. It fails if something differs from its
//! explanations. The cluster stays afterwards.

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
        bail!("Kubernetes {} has no constrained impersonation: take 1.37 or 1.35", options.kube);
    }
    let progress = Progress::start();
    let screen = Screen::new();
    screen.line("Node Readiness: pods keep off a node until the node can run them.");
    screen.line("Shown on real Kubernetes, with two nodes, all of it on this machine.");

    let testkit_binary = prepare(&screen, &progress)?;
    let layout = start_cluster(&screen, &progress, options.kube, testkit_binary)?;
    if let Err(error) = steps::show(&screen, &layout) {
        screen.gap();
        screen.line("The demo stopped here. The cluster still runs, to look at:");
        look_around(&screen, &layout);
        return Err(error);
    }
    screen.gap();
    progress.say("The demo is complete. The cluster still runs, to look at:");
    screen.others_printed();
    look_around(&screen, &layout);
    Ok(())
}

/// Builds what is missing. Returns the binary that nodes are made of.
fn prepare(screen: &Screen, progress: &Progress) -> anyhow::Result<PathBuf> {
    screen.step(
        "Prepare",
        "Only what is missing is made. The first time this takes 10 to 15 minutes, most of it for\n\
         compiling Kubernetes and this project; later it takes seconds.",
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
        "A control plane, and two nodes, each with a kubelet and a containerd of its own. kubelet\n\
         registers them with a taint, so that no ordinary pod is there before the node can run it.\n\
         A cluster that `make cluster-up` or an earlier demo left is ended first.",
    );
    let cluster = cluster::start(cluster::real_nodes(2, testkit_binary), version, progress)?;
    progress.say("the nodes are Ready");
    screen.others_printed();
    let layout = cluster.layout().clone();
    // From here on the cluster stays in any case.
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
    screen.line("End it with: make cluster-down");
    screen.gap();
}
