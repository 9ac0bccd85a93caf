//! A program that keeps running: started with its own log, recorded, and awaited by a condition with a
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

/// The interval between two checks of a condition. Conditions take a second or more, so this adds at most a few
/// percent.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// How long a program may take from losing its executable to its end: no time on an idle machine.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// How much of a log an error shows.
const TAIL_LINES: usize = 15;

/// A running program.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Service {
    /// Starts a program, in a process group of its own so that Ctrl-C in a terminal
    /// does not reach it, and records it.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        log_dir: &Path,
        state: &mut State,
    ) -> Result<Self> {
        let log = log_dir.join(format!("{name}.log"));
        // One that is started again goes on in the same log; those of an earlier cluster are gone.
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
            // No identity: it is ending already, and that a program has ended can be asked only a moment
            // after its executable is gone.
            Err(cause) => {
                return match service.wait_until("its end", ENDS_WITHIN, || Ok(false)) {
                    Err(ended @ Error::Ended { .. }) => Err(ended),
                    _ => Err(Error::Start { program: name.to_owned(), cause }),
                };
            }
        }
        Ok(service)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The one process that it has forked.
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

    /// Waits until `is_true`, and no longer than until the deadline or its own end.
    pub(crate) fn wait_until(
        &mut self,
        condition: &str,
        within: Duration,
        is_true: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        wait_until(&mut [self], condition, within, is_true)
    }

    /// Collects the exit status of a service that was killed, so that it does not
    /// stay a zombie for as long as this process lives.
    pub(crate) fn reap(mut self) {
        // There is nothing to do about an error: the kernel then has no child.
        let _ = self.child.wait();
    }
}

/// Waits until `is_true`, and no longer than until the deadline or the end of one of
/// the services that it depends on: when one has ended, whatever makes it true is not
/// them. The log that a missed deadline shows is that of the last one.
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

/// The last lines of a log.
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
    fn a_service_that_ends_early_is_reported_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::load(dir.path().join("state.json")).unwrap();
        let command = words("sh", ["-c", "echo no such port >&2; exit 3"]);
        // So early perhaps that starting it notices.
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
        assert!(error.to_string().contains("for a miracle in vain"), "{error}");
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
