//! What was measured beside what it may be, as a table. Values only.

use std::{fmt, time::Duration};

use super::process::{Cpu, Usage};

/// Everything that was measured.
pub(super) struct Measured {
    pub(super) usage: Usage,
    pub(super) cpu: Cpu,
    pub(super) window: Duration,
    /// Requests to the API server in that time, in which no heartbeat was due.
    pub(super) requests: u64,
    /// Bytes of the image.
    pub(super) image: u64,
}

/// One line: what, how much, and the bar, if there is one.
struct Reading {
    what: &'static str,
    value: f64,
    unit: &'static str,
    bar: Option<f64>,
}

/// All lines.
pub(super) struct Readings(Vec<Reading>);

impl Readings {
    pub(super) fn new(measured: &Measured) -> Self {
        let Measured { usage, cpu, window, requests, image } = measured;
        let cores = |time: Duration| time.as_secs_f64() / window.as_secs_f64() * 1000.0;
        let line = |what, value, unit, bar| Reading { what, value, unit, bar };
        Self(vec![
            line("resident memory", megabytes(usage.resident), "MB", Some(8.0)),
            line("resident memory, peak", megabytes(usage.peak), "MB", Some(8.0)),
            line("CPU, averaged and rounded up", cores(cpu.own), "mCPU", Some(1.0)),
            line("CPU of the exec probe's program", cores(cpu.children), "mCPU", None),
            line("API requests beyond heartbeats", count(*requests), "", Some(0.0)),
            line("image", megabytes(*image), "MB", Some(8.0)),
        ])
    }

    /// How many bars were missed.
    pub(super) fn missed(&self) -> usize {
        self.0.iter().filter(|reading| !reading.passes()).count()
    }
}

impl Reading {
    fn passes(&self) -> bool {
        self.bar.is_none_or(|bar| self.value <= bar)
    }
}

impl fmt::Display for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:38} {:>12}  {:>8}", "", "measured", "at most")?;
        for reading in &self.0 {
            let Reading { what, value, unit, bar } = reading;
            // Without a unit it is a count.
            let decimals = if unit.is_empty() { 0 } else { 2 };
            write!(f, "{what:38} {value:7.decimals$} {unit:4}")?;
            match bar {
                Some(bar) if reading.passes() => writeln!(f, "  {bar:8}  pass")?,
                Some(bar) => writeln!(f, "  {bar:8}  MISS")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// A million bytes each.
fn megabytes(bytes: u64) -> f64 {
    count(bytes) / 1e6
}

/// A number that is small enough to be exact.
fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(requests: u64, own: Duration) -> Readings {
        let usage = Usage::of_memory(5_000_000);
        let cpu = Cpu { own, children: Duration::ZERO };
        let window = Duration::from_mins(1);
        Readings::new(&Measured { usage, cpu, window, requests, image: 7_000_000 })
    }

    #[test]
    fn what_is_at_the_bar_passes_and_what_is_above_misses() {
        assert_eq!(readings(0, Duration::from_millis(60)).missed(), 0);
        assert_eq!(readings(1, Duration::from_millis(70)).missed(), 2);
    }

    #[test]
    fn the_table_says_what_missed() {
        let table = readings(3, Duration::ZERO).to_string();
        let line = table.lines().find(|line| line.contains("API requests")).unwrap_or_default();
        assert!(line.ends_with("MISS"), "{table}");
        assert_eq!(table.matches("pass").count(), 4, "{table}");
    }
}
