//! Kernel settings that every kubelet sets for the whole machine when it starts.
//! They are recorded before and restored after, so that a cluster leaves a
//! developer's machine as it was.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{error::Result, files};

/// The settings of kubelet's `setupKernelTunables`.
const TUNABLES: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The settings as they are. One that this kernel lacks is left out.
pub(crate) fn current() -> BTreeMap<PathBuf, String> {
    TUNABLES
        .iter()
        .map(|name| PathBuf::from("/proc/sys").join(name))
        .filter_map(|path| fs::read_to_string(&path).ok().map(|value| (path, value)))
        .collect()
}

/// Writes recorded settings back, where they differ.
pub(crate) fn restore(settings: &BTreeMap<PathBuf, String>) -> Result<()> {
    for (path, value) in settings {
        if files::read(path)? != *value {
            files::write(path, value)?;
        }
    }
    Ok(())
}
