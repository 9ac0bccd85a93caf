//! The last words of a process that ends by itself.
//!
//! A fatal error is one line on standard error, and the same line in the file that kubelet made for
//! it, from where it shows in `kubectl describe pod`.

use std::{fs::OpenOptions, io::Write as _, path::Path, process::ExitCode};

use crate::FatalError;

/// Where kubelet looks, unless a container says otherwise in `terminationMessagePath`.
pub const DEFAULT_PATH: &str = "/dev/termination-log";

/// Says why the process ends, and returns the code to end it with.
pub fn report(error: &FatalError, termination_log: &Path) -> ExitCode {
    let line = line(&error.to_string());
    eprint!("{line}");
    // Outside of a pod there is no such file, and it is not to be made. That it could not be written
    // is nothing to tell anyone: standard error has the line.
    if let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(termination_log) {
        let _ = file.write_all(line.as_bytes());
    }
    ExitCode::from(error.exit_code())
}

/// Exactly one line, whatever went into the message.
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
