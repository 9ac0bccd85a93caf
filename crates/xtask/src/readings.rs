//! Measurements with their limits, as a table.

use std::fmt;

/// One line of the table: name, value, and an optional limit.
pub(crate) struct Reading {
    what: &'static str,
    value: f64,
    unit: &'static str,
    bar: Option<f64>,
}

/// All lines.
pub(crate) struct Readings(pub(crate) Vec<Reading>);

impl Readings {
    /// Returns the number of exceeded limits.
    pub(crate) fn missed(&self) -> usize {
        self.0.iter().filter(|reading| !reading.passes()).count()
    }
}

impl Reading {
    /// Creates a line with a limit, or without one.
    pub(crate) fn new(
        what: &'static str,
        value: f64,
        unit: &'static str,
        bar: Option<f64>,
    ) -> Self {
        Self { what, value, unit, bar }
    }

    fn passes(&self) -> bool {
        self.bar.is_none_or(|bar| self.value <= bar)
    }
}

impl fmt::Display for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:38} {:>12}  {:>8}", "", "measured", "at most")?;
        for reading in &self.0 {
            let Reading { what, value, unit, bar } = reading;
            // A value without a unit is a count.
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

/// Converts bytes to megabytes of a million bytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    count(bytes) / 1e6
}

/// Converts a count, which is small enough to be exact.
pub(crate) fn count(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
