//! `cargo xtask images`: builds static binaries, and image archives of them, without Docker. The Dockerfile builds
//! the same images with Docker.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use node_readiness_testkit::{Cluster, image::Image};

use crate::workspace::{self, Progress};

/// The programs with images, by the last part of their names.
const PROGRAMS: [&str; 3] = ["operator", "reporter", "testkit"];

/// The names of the images, and whether to load them.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The prefix of the images' names, before `/operator`, `/reporter` and `/testkit`
    #[arg(long, default_value = "node-readiness", env = "IMG_PREFIX")]
    pub(crate) img_prefix: String,
    /// The images' tag
    #[arg(long, default_value = concat!("v", env!("CARGO_PKG_VERSION")), env = "IMG_TAG")]
    pub(crate) img_tag: String,
    /// Import the images into the nodes of the running local cluster
    #[arg(long)]
    pub(crate) load: bool,
    /// Build only these images: operator, reporter, testkit
    #[arg(long, value_delimiter = ',', default_values = PROGRAMS, hide_default_value = true)]
    pub(crate) only: Vec<String>,
}

/// Builds the archives, and loads them on request.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let progress = Progress::start();
    if let Some(unknown) = options.only.iter().find(|name| !PROGRAMS.contains(&name.as_str())) {
        bail!("unknown image {unknown}: use {}", PROGRAMS.join(", "));
    }
    let programs: Vec<&str> = options.only.iter().map(String::as_str).collect();
    let binaries = build_static(&programs, &progress)?;
    let dir = workspace::cluster_dir().join("images");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;

    let mut archives = Vec::new();
    for (program, binary) in programs.iter().zip(binaries) {
        let archive = dir.join(format!("{program}.tar"));
        let reference = format!("{}/{program}:{}", options.img_prefix, options.img_tag);
        Image {
            reference: reference.clone(),
            binary,
            default_arguments: default_arguments(program),
        }
        .write(&archive)?;
        progress.say(&format!("{reference} is in {}", archive.display()));
        archives.push(archive);
    }
    if options.load {
        load(&archives, &progress)?;
    }
    Ok(())
}

fn load(archives: &[PathBuf], progress: &Progress) -> anyhow::Result<()> {
    let cluster = Cluster::attach(&workspace::cluster_dir())?;
    let nodes = cluster.nodes()?;
    if nodes.is_empty() {
        bail!("the local cluster has no nodes to load images into: start one with NODES=2");
    }
    cluster.load_images(archives)?;
    progress.say(&format!("loaded into {}", nodes.join(", ")));
    Ok(())
}

/// Builds static release binaries of these programs and returns their paths. cargo decides what to build.
pub(crate) fn build_static(programs: &[&str], progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
    progress.say(&format!(
        "building {} as static release binaries (minutes when much has changed)",
        programs.join(", ")
    ));
    let target = static_target()?;
    // cargo gives the packages of one build the features that any of them needs. Every node runs the reporter, so it
    // is built by itself.
    let (reporter, others): (Vec<_>, Vec<_>) =
        programs.iter().copied().partition(|program| *program == "reporter");
    for together in [others, reporter].iter().filter(|together| !together.is_empty()) {
        let mut cargo = workspace::cargo();
        cargo.args(["build", "--locked", "--release", "--target", target]);
        for program in together {
            cargo.args(["--package", &package(program)]);
            cargo.args(binaries(program).iter().flat_map(|binary| ["--bin", binary.as_str()]));
        }
        // The Dockerfile has the same flags, so its images have the same binaries.
        workspace::run(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    }
    let dir = workspace::target_dir().join(target).join("release");
    Ok(programs.iter().map(|program| dir.join(package(program))).collect())
}

/// Builds all programs and returns the path of the testkit's binary, which the nodes run.
pub(crate) fn build_all(progress: &Progress) -> anyhow::Result<PathBuf> {
    let built = build_static(&PROGRAMS, progress)?;
    built
        .into_iter()
        .find(|binary| binary.ends_with(package("testkit")))
        .context("testkit is not among the programs")
}

/// Returns the binaries of a program's package. Test clusters need that of pods' sandboxes as well.
fn binaries(program: &str) -> Vec<String> {
    let mut binaries = vec![package(program)];
    if program == "testkit" {
        binaries.push(package("pause"));
    }
    binaries
}

/// Returns the package of a program, which is also the name of its binary.
fn package(program: &str) -> String {
    format!("node-readiness-{program}")
}

/// Returns the arguments for pods that give none. The testkit's image then waits like a pod's sandbox.
fn default_arguments(program: &str) -> Vec<String> {
    if program == "testkit" { vec!["pause".to_owned()] } else { Vec::new() }
}

/// Returns the build target. It is explicit so that `RUSTFLAGS` do not apply to build scripts and procedural macros,
/// which cannot be static.
fn static_target() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("x86_64-unknown-linux-gnu"),
        "aarch64" => Ok("aarch64-unknown-linux-gnu"),
        other => bail!("images can be built on x86_64 and aarch64, but this machine is {other}"),
    }
}
