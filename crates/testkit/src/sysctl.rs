//! Kernel settings that every kubelet changes for the whole machine when it starts. A cluster records them before, and
//! restores them when it ends.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{error::Result, files};

/// The settings that kubelet's `setupKernelTunables` changes.
const TUNABLES: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Returns the current values of the settings. It omits a setting that this kernel lacks.
pub(crate) fn current() -> BTreeMap<PathBuf, String> {
    TUNABLES
        .iter()
        .map(|name| PathBuf::from("/proc/sys").join(name))
        .filter_map(|path| fs::read_to_string(&path).ok().map(|value| (path, value)))
        .collect()
}

/// Restores the recorded values of settings that differ.
pub(crate) fn restore(settings: &BTreeMap<PathBuf, String>) -> Result<()> {
    for (path, value) in settings {
        if files::read(path)? != *value {
            files::write(path, value)?;
        }
    }
    Ok(())
}
