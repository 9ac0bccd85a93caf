//! A program that keeps running. It has its own log and is recorded. Its start is awaited by a condition with a
//! deadline.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    files,
    identity::ProcessIdentity,
    state::State,
};

/// The interval between two checks of a condition. It is short, because most conditions take a second or more.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// The timeout between the loss of a program's executable and its end. On an idle machine both happen at once.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// The number of log lines in an error.
const TAIL_LINES: usize = 15;

/// A running program.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Service {
    /// Starts a program and records it. It has its own process group, so Ctrl-C in a terminal does not reach it.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        log_dir: &Path,
        state: &mut State,
    ) -> Result<Self> {
        let log = log_dir.join(format!("{name}.log"));
        // A restarted program appends to its log. Logs of an earlier cluster are removed before.
        let file = File::options().create(true).append(true).open(&log);
        let file = file.map_err(files::failed("create", &log))?;
        let stderr = file.try_clone().map_err(files::failed("open", &log))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(|cause| Error::Start {
                program: command.get_program().to_string_lossy().into_owned(),
                cause,
            })?;
        let mut service = Self { name: name.to_owned(), log, child };
        match ProcessIdentity::of(service.pid()) {
            Ok(identity) => state.add_process(name, identity)?,
            // A program without an identity is ending. Its exit status is available only a moment after it lost its
            // executable.
            Err(cause) => {
                return match service.wait_until("its end", ENDS_WITHIN, || Ok(false)) {
                    Err(ended @ Error::Ended { .. }) => Err(ended),
                    _ => Err(Error::Start { program: name.to_owned(), cause }),
                };
            }
        }
        Ok(service)
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its only child process.
    pub(crate) fn only_child(&self) -> Result<ProcessIdentity> {
        ProcessIdentity::only_child_of(self.pid())
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(Error::Ended {
                name: self.name.clone(),
                status: status.to_string(),
                tail: tail(&self.log),
                log: self.log.clone(),
            }),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Waits until `is_true`. Fails at the deadline, or when the service ends.
    pub(crate) fn wait_until(
        &mut self,
        condition: &str,
        within: Duration,
        is_true: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        wait_until(&mut [self], condition, within, is_true)
    }

    /// Collects the exit status of a killed service, which would otherwise stay a zombie until this process ends.
    pub(crate) fn reap(mut self) {
        // An error means that there is no child to reap.
        let _ = self.child.wait();
    }
}

/// Waits until `is_true`. Fails at the deadline, or when one of the services that it depends on ends, even if the
/// condition is true then. The error of a missed deadline shows the log of the last service.
pub(crate) fn wait_until(
    services: &mut [&mut Service],
    condition: &str,
    within: Duration,
    mut is_true: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        for service in services.iter_mut() {
            service.check()?;
        }
        if is_true()? {
            return Ok(());
        }
        if start.elapsed() > within {
            let log = services.last().map(|service| service.log.clone()).unwrap_or_default();
            return Err(Error::Deadline {
                condition: condition.to_owned(),
                waited: start.elapsed(),
                tail: tail(&log),
                log,
            });
        }
        thread::sleep(POLL_EVERY);
    }
}

/// Returns the last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;
    use crate::command::words;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn the_error_of_an_early_end_shows_the_last_lines_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::load(dir.path().join("state.json")).unwrap();
        let command = words("sh", ["-c", "echo no such port >&2; exit 3"]);
        // It may end so early that the start fails.
        let error = Service::start("short", command, dir.path(), &mut state)
            .and_then(|mut service| service.wait_until("a miracle", LONG, || Ok(false)))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("short ended with exit status: 3"), "{error}");
        assert!(error.contains("no such port"), "{error}");
        assert!(error.ends_with("short.log"), "{error}");
    }

    #[test]
    fn a_service_that_has_ended_never_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::load(dir.path().join("state.json")).unwrap();
        let mut service =
            Service::start("idle", words("sleep", ["600"]), dir.path(), &mut state).unwrap();
        state.processes()[0].identity.kill().unwrap();
        service.child.wait().unwrap();
        let error = service.wait_until("an answer", LONG, || Ok(true)).unwrap_err().to_string();
        assert!(error.starts_with("idle ended with"), "{error}");
    }

    #[test]
    fn a_missed_deadline_names_the_condition() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::load(dir.path().join("state.json")).unwrap();
        let mut service =
            Service::start("idle", words("sleep", ["600"]), dir.path(), &mut state).unwrap();

        let error = service.wait_until("a miracle", Duration::ZERO, || Ok(false)).unwrap_err();
        for process in state.processes() {
            process.identity.kill().unwrap();
        }
        service.reap();
        assert!(error.to_string().contains("waiting for a miracle"), "{error}");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        let lines: Vec<_> = (0..100).map(|n| format!("line {n}")).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();

        let shown = tail(&log);
        assert_eq!(shown.lines().count(), TAIL_LINES);
        assert!(shown.ends_with("line 99"));
    }
}
