//! The measurements of a reporter, with their limits.

use std::time::Duration;

use crate::{
    readings::{Reading, Readings, count, megabytes},
    usage::{Cpu, Usage},
};

/// All measurements.
pub(super) struct Measured {
    pub(super) usage: Usage,
    pub(super) cpu: Cpu,
    pub(super) window: Duration,
    /// Requests to the API server during the measurement, without heartbeats.
    pub(super) requests: u64,
    /// Bytes of the image.
    pub(super) image: u64,
}

/// Returns all lines of the table.
pub(super) fn readings(measured: &Measured) -> Readings {
    let Measured { usage, cpu, window, requests, image } = measured;
    let cores = |time: Duration| time.as_secs_f64() / window.as_secs_f64() * 1000.0;
    let line = Reading::new;
    Readings(vec![
        line("resident memory", megabytes(usage.resident), "MB", Some(8.0)),
        line("resident memory, peak", megabytes(usage.peak), "MB", Some(8.0)),
        line("CPU, averaged and rounded up", cores(cpu.own), "mCPU", Some(1.0)),
        line("CPU of the exec probe's program", cores(cpu.children), "mCPU", None),
        line("API requests beyond heartbeats", count(*requests), "", Some(0.0)),
        line("image", megabytes(*image), "MB", Some(8.0)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(requests: u64, own: Duration) -> Readings {
        let usage = Usage::of_memory(5_000_000);
        let cpu = Cpu { own, children: Duration::ZERO };
        let window = Duration::from_mins(1);
        super::readings(&Measured { usage, cpu, window, requests, image: 7_000_000 })
    }

    #[test]
    fn a_value_at_the_limit_passes_and_one_above_fails() {
        assert_eq!(readings(0, Duration::from_millis(60)).missed(), 0);
        assert_eq!(readings(1, Duration::from_millis(70)).missed(), 2);
    }

    #[test]
    fn the_table_marks_exceeded_limits() {
        let table = readings(3, Duration::ZERO).to_string();
        let line = table.lines().find(|line| line.contains("API requests")).unwrap_or_default();
        assert!(line.ends_with("MISS"), "{table}");
        assert_eq!(table.matches("pass").count(), 4, "{table}");
    }
}
