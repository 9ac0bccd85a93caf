//! Nothing that `exec` probes start is left in the process table.
//!
//! In a process of its own with a single test, because the reporter takes every child of its
//! process for its probes'.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, process, time::Duration};

use node_readiness_reporter::probe::{Check, ExecCheck, Prober, reap_orphans};
use tokio::time;

fn prober(script: &str) -> Prober {
    Prober::new(Check::Exec(ExecCheck {
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
    }))
    .unwrap()
}

/// A process, as `/proc/<id>/stat` describes it.
#[derive(Debug)]
#[expect(dead_code, reason = "the name and the state are for the message of a failure")]
struct Process {
    id: u32,
    name: String,
    state: String,
    group: u32,
}

/// The processes whose parent this one is.
fn children() -> Vec<Process> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter_map(|stat| {
            // The name is in parentheses and may hold anything.
            let (start, rest) = stat.rsplit_once(") ")?;
            let (id, name) = start.split_once(" (")?;
            let mut fields = rest.split(' ');
            let (state, parent, group) = (fields.next()?, fields.next()?, fields.next()?);
            (parent.parse() == Ok(process::id())).then(|| Process {
                id: id.parse().unwrap(),
                name: name.to_owned(),
                state: state.to_owned(),
                group: group.parse().unwrap(),
            })
        })
        .collect()
}

/// How many of them a probe has started itself: they lead a group.
fn programs() -> usize {
    children().iter().filter(|process| process.id == process.group).count()
}

async fn no_children_are_left() {
    let gone = async {
        while !children().is_empty() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = time::timeout(Duration::from_secs(20), gone).await.is_ok();
    assert!(in_time, "left: {:?}", children());
}

#[tokio::test]
async fn whatever_a_program_does_no_process_of_it_is_left() {
    let reaping = tokio::spawn(reap_orphans());
    for script in [
        "exit 0",
        "sleep 1000 & exit 1",
        // A daemon: it leaves its group and session, and outlives its parent.
        "setsid sh -c 'sleep 0.2 & exit 0' & exit 0",
        // Killed by a signal that has no name.
        "(sh -c 'kill -40 $$') & exit 0",
        "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.05 &) ; done; exit 0",
    ] {
        prober(script).probe().await;
        no_children_are_left().await;
    }

    // Cut, with children of its own.
    let stuck = prober("trap '' TERM; sleep 1000 & sleep 1000 & wait");
    for _ in 0..3 {
        let cut = time::timeout(Duration::from_millis(100), stuck.probe()).await;
        assert!(cut.is_err());
        // The next probe waits for the program's end, so that one more is not started every time.
        assert!(programs() <= 1, "{:?}", children());
    }
    // None of it waits for that probe's next run, nor do the orphans of others behind it.
    prober("sleep 1000 & exit 1").probe().await;
    no_children_are_left().await;
    drop(stuck);

    // While orphans are reaped, nobody loses the status of a program that is waited for.
    let (quick, slow) = (prober("(sleep 0.01 &); exit 0"), prober("(exit 0 &); sleep 0.1; exit 4"));
    for _ in 0..10 {
        let (quick, slow) = tokio::join!(quick.probe(), slow.probe());
        assert!(quick.healthy, "{quick:?}");
        assert!(slow.message.ends_with("exit status 4"), "{slow:?}");
    }
    no_children_are_left().await;
    assert!(!reaping.is_finished());
}
