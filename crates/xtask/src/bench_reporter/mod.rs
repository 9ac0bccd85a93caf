//! `cargo xtask bench-reporter`: the cost of a reporter on a node on which nothing changes.
//!
//! The reporter is the image's static program. It runs ten probes of all kinds against the testkit's test servers
//! and a real API server, with the configuration and permissions that the operator generates. It does not run in a
//! pod, so the measurement does not include kubelet's liveness check.

mod api;
mod process;
mod readings;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use node_readiness_testkit::{
    Cluster, ClusterSpec, EtcdData, KubernetesVersion, LoopbackNet, Nodes, image::Image,
};

use self::{
    api::Api,
    process::Running,
    readings::{Measured, readings},
};
use crate::{
    images,
    usage::Usage,
    workspace::{self, Progress},
};

/// The control plane's addresses.
const LOOPBACK: LoopbackNet = LoopbackNet::new(7);

/// The timeout of a wait.
const DEADLINE: Duration = Duration::from_mins(1);

/// The interval of progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// The time between the first report and the measurement, in which connections and threads of the start end.
const WARM_UP: Duration = Duration::from_secs(15);

/// The options of the measurement.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Duration of the measurement, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3600))]
    seconds: u64,
}

/// Measures, prints the results, and fails if a limit is exceeded.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let progress = Progress::start();
    // Programs of one build share the features of their dependencies. Only a build of all images gives the same
    // reporter as in the image.
    let binaries = images::build_static(&["operator", "reporter", "testkit"], &progress)?;
    let [_, reporter, testkit] = &binaries[..] else {
        bail!("the build did not return three programs")
    };
    let dir = workspace::cluster_dir().join("bench-reporter");
    let spec = ClusterSpec {
        dir: dir.clone(),
        version: KubernetesVersion::V1_37,
        nodes: Nodes::ControlPlaneOnly { loopback: LOOPBACK },
        data: EtcdData::Disk,
        default_node_selector: None,
    };
    let cluster = Cluster::up(&spec, &|line| progress.say(line))?;
    let image = image_size(reporter, &dir)?;

    // This is below the directory that the reporter uses as the node's root.
    let host_root = dir.join("host");
    let _test_servers = process::test_servers(testkit, &host_root.join("run/bench"))?;
    let api = Api::new(cluster.layout());
    let pod = api.prepare(&dir)?;
    progress.say("starting a reporter with 10 probes");
    let running = process::reporter(reporter, &host_root, &pod, LOOPBACK.server())?;
    await_reports(&api, &running)?;
    thread::sleep(WARM_UP);

    let window = Duration::from_secs(options.seconds);
    let before = (running.usage()?, api.requests()?);
    if before.1 == 0 {
        bail!(
            "the API server counted no request of the reporter, although the conditions are True"
        );
    }
    progress.say(&format!("the reporter has reported with {} requests", before.1));
    let took = wait(window, &progress);
    let after = (running.usage()?, api.requests()?);
    if !api.all_true()? {
        bail!("a condition changed although no probe result changed: {}", running.log());
    }
    let readings = readings(&Measured {
        usage: after.0,
        cpu: Usage::cpu_since(&after.0, &before.0),
        window: took,
        requests: after.1 - before.1,
        image,
    });
    println!("\n{readings}");
    match readings.missed() {
        0 => Ok(()),
        missed => bail!("{missed} of the limits above are exceeded"),
    }
}

/// Returns the size of the image's archive in bytes.
fn image_size(reporter: &Path, dir: &Path) -> anyhow::Result<u64> {
    let archive: PathBuf = dir.join("reporter.tar");
    Image {
        reference: "node-readiness/reporter:bench".to_owned(),
        binary: reporter.to_owned(),
        default_arguments: Vec::new(),
    }
    .write(&archive)?;
    Ok(archive.metadata().context("the image was not written")?.len())
}

/// Waits until every probe's condition is True.
fn await_reports(api: &Api, running: &Running) -> anyhow::Result<()> {
    let end = Instant::now() + DEADLINE;
    while !api.all_true()? {
        if Instant::now() > end {
            bail!("not all probes succeeded within {DEADLINE:?}: {}", running.log());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Waits, and returns the actual duration.
fn wait(window: Duration, progress: &Progress) -> Duration {
    let begun = Instant::now();
    progress.say(&format!("measuring for {window:?}"));
    while let Some(left) = window.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        thread::sleep(left.min(PROGRESS_INTERVAL));
        progress.say(&format!("measured for {:.0} s", begun.elapsed().as_secs_f64()));
    }
    begun.elapsed()
}
