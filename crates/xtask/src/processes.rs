//! The processes of reporters on the nodes of a local cluster, which are all on this machine.

use std::fs;

use anyhow::Context as _;

/// Returns the process ids of all reporters that the operator runs.
pub(crate) fn reporters() -> Vec<u32> {
    all().filter(|pid| is_reporter(*pid)).collect()
}

fn is_reporter(pid: u32) -> bool {
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = command.split('\0');
    words.next().is_some_and(|program| program.ends_with("node-readiness-reporter"))
        && words.next().is_some_and(|argument| argument.starts_with("--config-map="))
}

/// Returns the memory of everything that runs for the pod of a process: containerd's shim and all of its children, the
/// sandbox's first process among them. It is the proportional set size, in bytes: memory that processes share is
/// divided among them.
pub(crate) fn pod_memory(pid: u32) -> anyhow::Result<u64> {
    let shim = parent(pid).context("the process has ended")?;
    let children = all().filter(|pid| parent(*pid) == Some(shim));
    children.chain([shim]).map(proportional).sum()
}

fn all() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "PPid:")?.parse().ok()
}

/// Returns the proportional set size of a process, in bytes.
fn proportional(pid: u32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = field(&rollup, "Pss:").and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("/proc/PID/smaps_rollup has no Pss")? * 1024)
}

/// Returns the value of a line that begins with this name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        let text = "Rss:    10 kB\nPss_Dirty:  3 kB\nPss:   7 kB\n";
        assert_eq!(field(text, "Pss:"), Some("7 kB"));
        assert_eq!(field(text, "Swap:"), None);
    }
}
