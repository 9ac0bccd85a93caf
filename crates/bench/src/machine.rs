//! The machine of the benchmark.

use std::fs;

use anyhow::Context;
use node_readiness_testkit::{EtcdData, SHARED_MEMORY};
use rustix::fs::statvfs;

/// Where etcd keeps its data during measurements: in memory, if this many bytes are free. Otherwise the
/// measurement includes the file system, when etcd creates or removes a file of its log.
///
/// # Errors
///
/// When the kernel does not report the free space.
pub(crate) fn etcd_data(room: u64) -> anyhow::Result<EtcdData> {
    // In a container this file system may be small, or appear as large as the memory.
    let directory =
        statvfs(SHARED_MEMORY).map_or(0, |files| files.f_bavail.saturating_mul(files.f_frsize));
    let available = field("/proc/meminfo", "MemAvailable");
    let kibibytes = available.as_deref().and_then(|text| text.strip_suffix(" kB")?.parse().ok());
    let kibibytes: u64 = kibibytes.context("/proc/meminfo has no MemAvailable")?;
    let there_is = directory.min(kibibytes << 10);
    if there_is >= room {
        return Ok(EtcdData::Memory);
    }
    println!(
        "{SHARED_MEMORY} has room for {} MiB and etcd may need {}: its data will be on disk, and latencies \
         at full speed will be the disk's as well",
        there_is >> 20,
        room >> 20
    );
    Ok(EtcdData::Disk)
}

/// Describes the machine, and where etcd has its data.
pub(crate) fn describe(data: EtcdData) -> String {
    let reported =
        |path: &str, name: &str| field(path, name).unwrap_or_else(|| "unknown".to_owned());
    let processor = reported("/proc/cpuinfo", "model name");
    let memory = reported("/proc/meminfo", "MemTotal");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim();
    let data = match data {
        EtcdData::Memory => "in memory",
        EtcdData::Disk => "on disk",
    };
    format!("{cores} cores ({processor}), {memory} of memory, Linux {kernel}, etcd's data {data}")
}

/// Returns the first line of a kernel file that begins with this name.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
