//! Reports why the process ends.
//!
//! A fatal error is one line on standard error, and the same line in the termination log, which `kubectl
//! describe pod` shows.

use std::{fs::OpenOptions, io::Write as _, path::Path, process::ExitCode};

use crate::FatalError;

/// The default termination log (`terminationMessagePath`).
pub const DEFAULT_PATH: &str = "/dev/termination-log";

/// Reports the error and returns the exit code.
pub fn report(error: &FatalError, termination_log: &Path) -> ExitCode {
    let line = line(&error.to_string());
    eprint!("{line}");
    // Outside of a pod the file does not exist and must not be created. A failure is ignored, because standard
    // error has the line.
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(termination_log) {
        let _ = file.write_all(line.as_bytes());
    }
    ExitCode::from(error.exit_code())
}

/// Returns the message as one line.
fn line(message: &str) -> String {
    let message = message.split(['\n', '\r']).map(str::trim).collect::<Vec<_>>().join(" ");
    format!("{}: {message}\n", env!("CARGO_PKG_NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(line("a\n  b\r\nc"), "node-readiness-reporter: a b  c\n");
    }
}
