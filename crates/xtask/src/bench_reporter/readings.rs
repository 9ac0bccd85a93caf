//! The measurements, with their limits.

use std::time::Duration;

use super::requests::Requests;
use super::rules::HEARTBEAT_SECONDS;
use crate::readings::{Reading, Readings, count, megabytes};

/// The measurements with some rules.
pub(super) struct Measured {
    pub(super) rules: usize,
    /// The largest number of reporters on a node.
    pub(super) pods: usize,
    /// Bytes of all that runs for a reporter's pod, on the node with the most.
    pub(super) memory: u64,
    /// Processor time of a reporter in the window, on the node with the most.
    pub(super) cpu: Duration,
    pub(super) window: Duration,
    /// The requests of all reporters in the window.
    pub(super) requests: Requests,
    pub(super) nodes: usize,
    /// From a new rule until its conditions are on every node.
    pub(super) applied: Duration,
    /// From an edited probe until its result is on every node.
    pub(super) edited: Duration,
}

/// Returns the limit of memory in megabytes.
fn memory_limit(rules: usize) -> f64 {
    match rules {
        0..=1 => 14.0,
        2..=10 => 15.0,
        _ => 20.0,
    }
}

/// Returns the table for a number of rules.
pub(super) fn readings(measured: &Measured) -> Readings {
    let Measured { rules, pods, memory, cpu, window, requests, nodes, applied, edited } = measured;
    let line = Reading::new;
    let cores = cpu.as_secs_f64() / window.as_secs_f64() * 1000.0;
    let extra = requests.all.saturating_sub(2 * requests.writes);
    let heartbeats = window.as_secs_f64() / f64::from(HEARTBEAT_SECONDS);
    let number = |number: usize| count(number.try_into().unwrap_or(u64::MAX));
    // With the jitter a heartbeat may come a tenth early, and one more may fall into the window.
    let most = (heartbeats / 0.9 + 1.0).floor();
    let writes = count(requests.writes) / number(*nodes);
    Readings(vec![
        line("rules, of two probes each", number(*rules), "", None),
        line("pods on a node", number(*pods), "", Some(1.0)),
        line(
            "memory with shim and pause (PSS)",
            megabytes(*memory),
            "MB",
            Some(memory_limit(*rules)),
        ),
        line("CPU, averaged and rounded up", cores, "mCPU", Some(3.0)),
        line("heartbeats in the window", heartbeats, "x", None),
        line("writes of a node in the window", writes, "x", Some(most)),
        line("requests beyond a GET for each write", count(extra), "", Some(0.0)),
        line("new rule to conditions on every node", applied.as_secs_f64(), "s", Some(5.0)),
        line("edited probe to result on every node", edited.as_secs_f64(), "s", Some(2.0)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        Measured {
            rules: 10,
            pods: 1,
            memory: 15_000_000,
            cpu: Duration::from_millis(300),
            window: Duration::from_mins(2),
            requests: Requests { all: 8, writes: 4 },
            nodes: 2,
            applied: Duration::from_secs(5),
            edited: Duration::from_secs(2),
        }
    }

    #[test]
    fn a_value_at_the_limit_passes_and_one_above_fails() {
        assert_eq!(readings(&measured()).missed(), 0);
        for worse in [
            Measured { pods: 2, ..measured() },
            Measured { memory: 15_100_000, ..measured() },
            Measured { cpu: Duration::from_millis(400), ..measured() },
            Measured { requests: Requests { all: 9, writes: 4 }, ..measured() },
            Measured { requests: Requests { all: 16, writes: 8 }, ..measured() },
            Measured { applied: Duration::from_secs(6), ..measured() },
            Measured { edited: Duration::from_secs(3), ..measured() },
        ] {
            assert_eq!(readings(&worse).missed(), 1);
        }
    }
}
