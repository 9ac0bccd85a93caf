//! Ends a cluster by its record, and removes all of its traces.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    files,
    layout::Layout,
    network, node,
    state::State,
    sysctl,
};

/// Ends the recorded processes, reverts the recorded changes, and removes the record.
///
/// Processes end in the order of their start, so a node's init ends before the `nsenter`s that started its daemons. The
/// kernel removes an init only when all processes of its namespace are reaped, and `nsenter` reaps those.
pub(crate) fn clear(layout: &Layout) -> Result<()> {
    let state = State::load(layout.state())?;
    for process in state.processes() {
        process.identity.kill().map_err(|cause| Error::Kill {
            name: process.name.clone(),
            pid: process.identity.pid,
            cause,
        })?;
    }
    if !state.nodes().is_empty() {
        node::clear(state.nodes())?;
        sysctl::restore(state.sysctls())?;
    }
    // The record is removed last, so that the next run can retry what failed here.
    layout.ephemeral().iter().try_for_each(|path| files::remove(path))
}

/// Returns which of `dir` and its subdirectories have a record, in order.
pub(crate) fn recorded(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = vec![dir.to_owned()];
    if dir.is_dir() {
        for entry in fs::read_dir(dir).map_err(files::failed("read", dir))? {
            dirs.push(entry.map_err(files::failed("read", dir))?.path());
        }
    }
    dirs.retain(|dir| Layout::new(dir.clone()).state().exists());
    dirs.sort();
    Ok(dirs)
}

/// Checks that no other cluster uses the bridge. Deletes a bridge whose cluster has no record, for example because its
/// checkout was removed.
pub(crate) fn claim_bridge(dir: &Path) -> Result<()> {
    match network::bridge_owner() {
        Some(owner) if owner != dir && Layout::new(owner.clone()).state().exists() => {
            Err(Error::OtherCluster { owner, bridge: network::BRIDGE })
        }
        Some(_) => network::remove_bridge(),
        None => Ok(()),
    }
}

/// Removes the logs of the cluster before this one.
pub(crate) fn remove_logs(layout: &Layout) -> Result<()> {
    let Ok(entries) = fs::read_dir(layout.log()) else { return Ok(()) };
    let logs = entries.flatten().map(|entry| entry.path());
    logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .try_for_each(|path| files::remove(&path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn clusters_are_found_in_a_directory_and_its_subdirectories() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["bench", "demo", "integration", "integration/deeper"] {
            fs::create_dir(path(name)).unwrap();
        }
        assert!(recorded(dir.path()).unwrap().is_empty());

        for name in ["integration/deeper", "integration", "bench", "."] {
            fs::write(path(name).join("state.json"), "{}").unwrap();
        }
        let found = [dir.path().to_owned(), path("bench"), path("integration")];
        assert_eq!(recorded(dir.path()).unwrap(), found);
        assert!(recorded(&path("no-such-directory")).unwrap().is_empty());
    }
}
