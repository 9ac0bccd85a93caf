//! The `file` probe.

use std::{
    fs::{self, File},
    os::unix,
    time::{Duration, SystemTime},
};

use node_readiness_reporter::probe::{Check, FileCheck, FilePattern, HostPath};
use tempfile::TempDir;

use crate::observe;

fn check(root: &TempDir, path: &str, max_age: Option<u64>) -> Check {
    Check::File(FileCheck {
        root: root.path().into(),
        path: FilePattern::new(HostPath::new(path).unwrap()).unwrap(),
        max_age: max_age.map(Duration::from_secs),
        since_boot: false,
    })
}

async fn found(root: &TempDir, path: &str, max_age: Option<u64>) -> (bool, String) {
    observe::found(check(root, path, max_age), &format!("file {path}")).await
}

/// A node's root directory with these files. Names that end with a slash are directories.
fn node(names: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in names {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::write(path, "content").unwrap();
        }
    }
    root
}

fn age(root: &TempDir, name: &str, modified: SystemTime) {
    let file = File::options().write(true).open(root.path().join(name)).unwrap();
    file.set_modified(modified).unwrap();
}

fn no_such_file() -> (bool, String) {
    (false, "no such file".into())
}

#[tokio::test]
async fn it_becomes_ready_and_fails_with_its_file() {
    let root = node(&["run/nvidia/"]);
    let path = "/run/nvidia/driver.ready";
    assert_eq!(found(&root, path, None).await, no_such_file());
    fs::write(root.path().join(&path[1..]), "").unwrap();
    assert_eq!(found(&root, path, None).await, (true, "found".into()));
    fs::remove_file(root.path().join(&path[1..])).unwrap();
    assert_eq!(found(&root, path, None).await, no_such_file());
}

#[tokio::test]
async fn patterns_match_names_and_do_not_cross_slashes() {
    let root = node(&["dev/nvidia0", "dev/.hidden", "etc/cni/net.d/10-x.conf", "opt/a/"]);
    for path in [
        "/dev/nvidia*",
        "/dev/nvidia[0-9]",
        "/*/nvidia?",
        "/etc/*/net.d/*.conf",
        "/dev/.h*",
        "/opt/*",
        "/o*",
    ] {
        assert!(found(&root, path, None).await.0, "{path}");
    }
    for path in
        ["/*.conf", "/etc/*.conf", "/dev/*hidden", "/dev/nvidia0/*", "/nothing/*", "/dev/nvidia0/x"]
    {
        assert_eq!(found(&root, path, None).await, no_such_file(), "{path}");
    }
}

#[tokio::test]
async fn one_recent_match_is_enough_and_old_ones_are_reported() {
    let root = node(&["run/a", "run/b"]);
    let now = SystemTime::now();
    age(&root, "run/a", now - Duration::from_mins(10));
    assert!(found(&root, "/run/*", Some(60)).await.0);
    age(&root, "run/b", now - Duration::from_secs(61));
    let old = (false, "not modified within the last 60s".into());
    assert_eq!(found(&root, "/run/*", Some(60)).await, old);
    assert!(found(&root, "/run/*", Some(100_000)).await.0);
    age(&root, "run/a", now + Duration::from_mins(10));
    assert!(found(&root, "/run/*", Some(60)).await.0, "what lies ahead is fresh");
}

#[tokio::test]
async fn a_file_from_before_the_boot_does_not_count_with_since_boot() {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime = Duration::from_secs_f64(uptime.split(' ').next().unwrap().parse().unwrap());
    let booted = SystemTime::now() - uptime;
    let root = node(&["run/ready"]);
    let path = "/run/ready";
    let since_boot = async || {
        let Check::File(mut file) = check(&root, path, None) else { unreachable!() };
        file.since_boot = true;
        observe::found(Check::File(file), &format!("file {path}")).await
    };
    assert!(since_boot().await.0);
    age(&root, "run/ready", booted - Duration::from_secs(1));
    assert_eq!(since_boot().await, (false, "not modified since the node was booted".into()));
    assert!(found(&root, path, None).await.0, "it counts where that is not asked for");
    age(&root, "run/ready", booted + Duration::from_secs(1));
    assert!(since_boot().await.0);
}

#[tokio::test]
async fn a_link_counts_if_it_leads_somewhere() {
    let root = node(&["run/real"]);
    unix::fs::symlink("real", root.path().join("run/relative")).unwrap();
    unix::fs::symlink("/run/real", root.path().join("run/absolute")).unwrap();
    unix::fs::symlink("loop", root.path().join("run/loop")).unwrap();
    assert!(found(&root, "/run/relative", None).await.0);
    assert_eq!(found(&root, "/run/absolute", None).await, no_such_file());
    assert_eq!(found(&root, "/run/loop", None).await, (false, "cannot be read".into()));
    assert!(found(&root, "/run/*", None).await.0, "one match is enough");
}

#[tokio::test]
async fn a_huge_directory_is_not_read_to_its_end() {
    let root = node(&["run/"]);
    for number in 0..10_001 {
        File::create(root.path().join(format!("run/{number}"))).unwrap();
    }
    let (healthy, words) = found(&root, "/run/x*", None).await;
    assert!(!healthy);
    assert_eq!(words, "more than 10000 names to look at; use a narrower pattern");
    assert!(found(&root, "/run/*", None).await.0, "the first match is enough");
    assert!(found(&root, "/run/77", None).await.0, "without a pattern no directory is read");
}
