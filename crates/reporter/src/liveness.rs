//! Liveness: how kubelet notices that the reporter is stuck.
//!
//! The reporter's one thread writes the time into a file every few seconds. A thread that is stuck writes
//! neither the file nor conditions. Kubelet's liveness probe runs the same program with `--check-liveness`,
//! which reads the file. This needs no port, which on the host network would be the whole node's.
//!
//! The clock is `CLOCK_MONOTONIC`, which nobody sets and which stops while the machine sleeps. Neither makes a
//! reporter look stuck. An unreachable API server does not affect liveness, because a restart would not help.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use tokio::time;
use tracing::warn;

/// The time between two writes of the file.
const PERIOD: Duration = Duration::from_secs(15);

/// The age in seconds after which a reporter counts as stuck: several writes, on a busy node.
const LIMIT: i64 = 60;

/// Why a reporter does not count as live.
#[derive(Debug, thiserror::Error)]
pub enum NotLive {
    /// The file cannot be read.
    #[error(
        "--check-liveness {}: the file cannot be read ({source}): start the reporter with \
         --liveness-file, and mount a directory there that it can write to", path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has other content.
    #[error("--check-liveness {}: the file holds no time: is it what --liveness-file names?", .0.display())]
    NoTime(PathBuf),
    /// The file was not written recently.
    #[error("the reporter is stuck: it last wrote the liveness file {0} s ago")]
    Stuck(i64),
    /// The system has no such clock, which every Linux has.
    #[error("the clock cannot be read: {0}")]
    Clock(#[from] nix::Error),
}

/// Writes the time into the file for ever. It logs the first failure, and the check reports further ones.
pub async fn beat(file: PathBuf) -> Infallible {
    let mut ticks = time::interval(PERIOD);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let written = write(&file);
        if let (Err(error), false) = (&written, failing) {
            warn!(
                "--liveness-file {}: the file cannot be written ({error}): mount a directory \
                 there that this process can write to, or its liveness probe will fail",
                file.display()
            );
        }
        failing = written.is_err();
    }
}

/// Writes the time atomically.
fn write(file: &Path) -> io::Result<()> {
    let next = file.with_added_extension("next");
    fs::write(&next, now()?.to_string())?;
    fs::rename(next, file)
}

/// Checks whether the reporter that writes this file is live.
///
/// # Errors
///
/// When it is not, or when that is unknown.
pub fn check(file: &Path) -> Result<(), NotLive> {
    let text = fs::read_to_string(file)
        .map_err(|source| NotLive::Unreadable { path: file.into(), source })?;
    let beaten: i64 = text.parse().map_err(|_| NotLive::NoTime(file.into()))?;
    let age = now()?.saturating_sub(beaten);
    // A time in the future is from before the machine booted.
    if (0..=LIMIT).contains(&age) { Ok(()) } else { Err(NotLive::Stuck(age)) }
}

/// Returns the clock's seconds.
fn now() -> nix::Result<i64> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(|time| time.tv_sec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn a_beat_is_live_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("liveness");
        assert!(matches!(check(&file), Err(NotLive::Unreadable { .. })));
        write(&file).unwrap();
        check(&file).unwrap();
        for (age, live) in [(0, true), (LIMIT - 1, true), (LIMIT + 1, false), (-1000, false)] {
            fs::write(&file, (now().unwrap() - age).to_string()).unwrap();
            assert_eq!(check(&file).is_ok(), live, "{age}");
        }
        fs::write(&file, "soon").unwrap();
        assert!(matches!(check(&file), Err(NotLive::NoTime(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
    }

    #[tokio::test]
    async fn the_first_beat_is_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("liveness");
        let beating = tokio::spawn(beat(file.clone()));
        time::timeout(Duration::from_secs(20), async {
            while check(&file).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        beating.abort();
    }
}
