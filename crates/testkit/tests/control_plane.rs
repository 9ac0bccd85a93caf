//! Tests of real clusters without nodes. They need the built Kubernetes, which `cargo xtask cluster up` or the first of
//! these tests builds once.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use node_readiness_testkit::{
    Cluster, ClusterSpec, EtcdData, KubernetesVersion, LoopbackNet, Nodes, ProcessIdentity,
};

/// Returns a directory that is the same in every run. So the next run ends a cluster that a killed run has left, which
/// uses the same addresses.
fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn up(dir: &Path, third_octet: u8) -> Cluster {
    up_with(EtcdData::Disk, dir, third_octet)
}

fn up_with(data: EtcdData, dir: &Path, third_octet: u8) -> Cluster {
    let spec = ClusterSpec {
        dir: dir.to_owned(),
        version: KubernetesVersion::V1_37,
        nodes: Nodes::ControlPlaneOnly { loopback: LoopbackNet::new(third_octet) },
        data,
        default_node_selector: None,
    };
    Cluster::up(&spec, &|line| eprintln!("{line}")).unwrap_or_else(|error| panic!("{error}"))
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = Command::new(cluster.layout().bin().join("kubectl"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the processes in the cluster's record.
fn processes(dir: &Path) -> Vec<ProcessIdentity> {
    let record = std::fs::read_to_string(dir.join("state.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    serde_json::from_value(record["processes"].clone()).unwrap()
}

#[test]
fn clusters_run_side_by_side_and_end_when_dropped() {
    let dirs = [dir("side-by-side-1"), dir("side-by-side-2")];
    let (first, second) = (up(&dirs[0], 240), up(&dirs[1], 241));
    kubectl(&first, &["create", "namespace", "only-in-the-first"]);
    assert!(!kubectl(&second, &["get", "namespaces"]).contains("only-in-the-first"));

    let started = [processes(&dirs[0]), processes(&dirs[1])];
    drop(first);
    assert!(started[0].iter().all(|process| !process.is_running()));
    assert!(started[1].iter().all(ProcessIdentity::is_running));
    drop(second);
    assert!(started[1].iter().all(|process| !process.is_running()));
    assert!(!dirs[1].join("kubeconfig").exists());
}

#[test]
fn a_run_ends_the_cluster_of_an_earlier_run() {
    let dir = dir("left");
    let cluster = up_with(EtcdData::Memory, &dir, 242);
    let in_memory = cluster.layout().etcd(EtcdData::Memory);
    cluster.detach();
    let left = processes(&dir);
    assert!(left.iter().all(ProcessIdentity::is_running));
    assert!(in_memory.join("member").is_dir());

    let cluster = up(&dir, 242);
    assert!(left.iter().all(|process| !is_at_work(process)));
    assert!(!in_memory.exists());
    cluster.detach();
    let left = processes(&dir);
    Cluster::down(&dir).unwrap();
    assert!(left.iter().all(|process| !is_at_work(process)));
}

/// Returns whether a process still runs and is no zombie. A killed process of a detached cluster is a child of this
/// test, and stays a zombie until the test ends.
fn is_at_work(process: &ProcessIdentity) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
    process.is_running() && !stat.contains(") Z ")
}

#[test]
fn a_cluster_is_found_by_its_directory_while_it_runs() {
    let dir = dir("found");
    let cluster = up(&dir, 243);
    drop(Cluster::attach(&dir).unwrap());
    kubectl(&cluster, &["get", "--raw", "/readyz"]);

    drop(cluster);
    let message = Cluster::attach(&dir).unwrap_err().to_string();
    assert!(message.contains("make cluster-up"), "{message}");
}
