//! The `unixSocket` probe.

use std::{fs, os::unix, path::PathBuf};

use node_readiness_reporter::probe::{Check, HostPath, UnixCheck};
use tempfile::TempDir;
use tokio::net::{UnixDatagram, UnixListener, UnixSocket, UnixStream};

use crate::observe::{SHORT, first_verdict, found};

const SUBJECT: &str = "unixSocket /run/agent.sock";

/// A node's root directory with an empty `/run`, and a probe of `/run/agent.sock` there.
fn node() -> (TempDir, Check) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("run")).unwrap();
    let path = HostPath::new("/run/agent.sock").unwrap();
    let check = Check::Unix(UnixCheck { root: root.path().into(), path });
    (root, check)
}

fn socket(root: &TempDir) -> PathBuf {
    root.path().join("run/agent.sock")
}

#[tokio::test]
async fn it_becomes_ready_and_fails_with_its_listener() {
    let (root, check) = node();
    let missing = (false, "no such file".to_owned());
    assert_eq!(found(check.clone(), SUBJECT).await, missing);
    let listener = UnixListener::bind(socket(&root)).unwrap();
    assert_eq!(found(check.clone(), SUBJECT).await, (true, "connected".into()));
    drop(listener);
    let refused = (false, "connection refused".into());
    assert_eq!(found(check.clone(), SUBJECT).await, refused);
    fs::remove_file(socket(&root)).unwrap();
    assert_eq!(found(check, SUBJECT).await, missing);
}

#[tokio::test]
async fn the_path_must_be_a_socket() {
    let (root, check) = node();
    fs::write(socket(&root), "text").unwrap();
    let not_a_socket = (false, "not a socket".to_owned());
    assert_eq!(found(check.clone(), SUBJECT).await, not_a_socket);
    fs::remove_file(socket(&root)).unwrap();
    fs::create_dir(socket(&root)).unwrap();
    assert_eq!(found(check, SUBJECT).await, not_a_socket);
}

#[tokio::test]
async fn a_socket_for_datagrams_takes_no_connections() {
    let (root, check) = node();
    let _datagrams = UnixDatagram::bind(socket(&root)).unwrap();
    assert_eq!(found(check, SUBJECT).await, (false, "connection failed".into()));
}

#[tokio::test]
async fn the_parents_of_the_path_must_be_directories() {
    let (root, check) = node();
    fs::remove_dir(root.path().join("run")).unwrap();
    fs::write(root.path().join("run"), "").unwrap();
    assert_eq!(found(check, SUBJECT).await, (false, "no such file".into()));
}

#[tokio::test]
async fn a_link_is_followed_in_the_container() {
    let (root, check) = node();
    let _listener = UnixListener::bind(root.path().join("run/real.sock")).unwrap();
    unix::fs::symlink("real.sock", socket(&root)).unwrap();
    assert!(found(check.clone(), SUBJECT).await.0, "a relative one stays among what is mounted");
    fs::remove_file(socket(&root)).unwrap();
    unix::fs::symlink("/run/real.sock", socket(&root)).unwrap();
    assert_eq!(found(check.clone(), SUBJECT).await, (false, "no such file".into()));
    fs::remove_file(socket(&root)).unwrap();
    unix::fs::symlink("agent.sock", socket(&root)).unwrap();
    assert_eq!(found(check, SUBJECT).await, (false, "cannot be read".into()));
}

#[tokio::test]
async fn a_listener_with_a_full_backlog_is_cut_at_the_deadline() {
    let (root, check) = node();
    let listening = UnixSocket::new_stream().unwrap();
    listening.bind(socket(&root)).unwrap();
    let listener = listening.listen(0).unwrap();
    let _waiting = UnixStream::connect(socket(&root)).await.unwrap();

    let (status, reason, message) = first_verdict(check.clone(), SHORT).await;
    assert_eq!((status, reason), ("False", "ProbeTimedOut"));
    assert_eq!(message, format!("{SUBJECT}: no connection within 200ms"));

    // A probe that waits is let in as soon as there is room.
    let probing = tokio::spawn(async move { found(check, SUBJECT).await });
    drop(listener.accept().await.unwrap());
    assert!(probing.await.unwrap().0);
}
