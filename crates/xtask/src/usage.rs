//! The resource usage of processes, from Linux.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// The resource usage of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) resident: u64,
    /// Ticks of processor time.
    ticks: u64,
}

impl Usage {
    /// Returns an upper bound of the time between two readings. It adds a tick, because Linux counts full ticks only.
    pub(crate) fn cpu_since(later: &Self, earlier: &Self) -> Duration {
        // Linux uses this unit on every architecture (proc(5), USER_HZ).
        let tick = Duration::from_millis(10);
        tick * u32::try_from(later.ticks - earlier.ticks + 1).unwrap_or(u32::MAX)
    }

    /// Reads the usage of a running process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}"));
        Self::parse(&read("status")?, &read("stat")?).context("the process has ended")
    }

    fn parse(status: &str, stat: &str) -> Option<Self> {
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        // The program's name, field 2, may have spaces; fields 14 and 15 are times.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { resident: kib("VmRSS:")? * 1024, ticks: ticks(14)? + ticks(15)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn proc_files_are_parsed() {
        let status = "Name:\tx\nVmRSS:\t    4000 kB\n";
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 2 1 20 0 1 0 987654 1000 10";
        let earlier = Usage::parse(status, stat).unwrap();
        assert_eq!((earlier.resident, earlier.ticks), (4_096_000, 12));
        let later = Usage { ticks: 14, ..earlier };
        assert_eq!(Usage::cpu_since(&later, &earlier), Duration::from_millis(30));
        assert!(Usage::parse("Name:\tx\n", stat).is_none());
    }
}
