//! The `file` probe: at least one file of the node matches a path.
//!
//! Any kind of file counts, directories and devices among them. Parts of the path may be patterns;
//! as in a shell, none crosses a slash and `*` does not match a name that begins with a dot.
//! Symbolic links are followed, an absolute one in the container, where it leads nowhere as a rule:
//! see [`unix`](super::unix).
//!
//! With a largest age it is the last modification that counts, by the system's clock. A time that
//! lies ahead counts as fresh: the clock was set back, and the file is not old for that. The time of
//! the node's boot is by the same clock, as it is now.
//!
//! The walk is not the `glob` crate's, which reads whole directories before it returns the first
//! name. This one ends at the first match, when nobody waits for it any more, and after a number of
//! names that no directory has which is probed for good reason.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use glob::{MatchOptions, Pattern};
use nix::time::{ClockId, clock_gettime};
use node_readiness_api::single_stars;

use super::{
    Outcome,
    blocking::{Abandoned, BlockingCalls},
    error::ProbeError,
    host_path::HostPath,
};

/// How many names one probe looks at.
const NAME_LIMIT: u32 = 10_000;

const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Which files to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCheck {
    /// Where the node's root directory is.
    pub root: PathBuf,
    /// The path on the node.
    pub path: FilePattern,
    /// Time since a file's last modification after which it does not count.
    pub max_age: Option<Duration>,
    /// Whether a file does not count that was last modified before the node was booted.
    pub since_boot: bool,
}

/// A path, parts of which are patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePattern {
    path: HostPath,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Name(String),
    Pattern(Pattern),
}

impl FilePattern {
    /// Reads a path's patterns.
    ///
    /// # Errors
    /// When a pattern is not one; says why.
    pub fn new(path: HostPath) -> Result<Self, &'static str> {
        let parts = path.parts().map(part).collect::<Result<_, _>>()?;
        Ok(Self { path, parts })
    }
}

fn part(text: &str) -> Result<Part, &'static str> {
    if !text.contains(['*', '?', '[']) {
        return Ok(Part::Name(text.to_owned()));
    }
    Pattern::new(&single_stars(text)).map(Part::Pattern).map_err(|error| error.msg)
}

/// A prepared file probe.
#[derive(Debug)]
pub struct FileProber {
    check: Arc<FileCheck>,
    calls: BlockingCalls,
    subject: String,
}

impl FileProber {
    pub(super) fn new(check: FileCheck) -> Self {
        let subject = format!("file {}", check.path.path);
        Self { check: Arc::new(check), calls: BlockingCalls::new(), subject }
    }

    pub(super) async fn probe(&self) -> Outcome {
        let check = Arc::clone(&self.check);
        let found = self.calls.run(move |abandoned| Look::new(&check, abandoned).found()).await;
        Outcome::of_pod_probe(&self.subject, found.map(|()| "found".into()))
    }

    pub(super) fn timed_out(&self, timeout: Duration) -> Outcome {
        Outcome::of_pod_probe(&self.subject, Err(ProbeError::TimedOut("not found out", timeout)))
    }
}

/// One look for a match.
struct Look<'a> {
    check: &'a FileCheck,
    abandoned: &'a Abandoned,
    /// How many names may still be looked at.
    names_left: u32,
    /// What is to be told if nothing is found: the worst that was met.
    obstacle: ProbeError,
}

impl<'a> Look<'a> {
    fn new(check: &'a FileCheck, abandoned: &'a Abandoned) -> Self {
        Self { check, abandoned, names_left: NAME_LIMIT, obstacle: ProbeError::NoSuchFile }
    }

    fn found(mut self) -> Result<(), ProbeError> {
        let check = self.check;
        if self.below(&check.root, &check.path.parts)? { Ok(()) } else { Err(self.obstacle) }
    }

    /// Whether there is a match for these parts of the path.
    fn below(&mut self, dir: &Path, parts: &[Part]) -> Result<bool, ProbeError> {
        match parts.split_first() {
            None => self.is_match(dir),
            Some((Part::Name(name), rest)) => self.below(&dir.join(name), rest),
            Some((Part::Pattern(pattern), rest)) => self.any_in(dir, pattern, rest),
        }
    }

    fn any_in(&mut self, dir: &Path, pattern: &Pattern, rest: &[Part]) -> Result<bool, ProbeError> {
        let names = match fs::read_dir(dir) {
            Ok(names) => names,
            Err(error) => return self.missed(&error),
        };
        for entry in names {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.missed(&error),
            };
            self.count_name()?;
            if pattern.matches_with(&entry.file_name().to_string_lossy(), AS_A_SHELL)
                && self.below(&entry.path(), rest)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count_name(&mut self) -> Result<(), ProbeError> {
        if self.abandoned.is_set() {
            // Nobody will read this.
            return Err(ProbeError::Other);
        }
        self.names_left =
            self.names_left.checked_sub(1).ok_or(ProbeError::TooManyNames(NAME_LIMIT))?;
        Ok(())
    }

    fn is_match(&mut self, path: &Path) -> Result<bool, ProbeError> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return self.missed(&error),
        };
        let modified = metadata.modified().map_err(|error| ProbeError::of_file(&error))?;
        // A time that lies ahead has no age.
        let Ok(age) = SystemTime::now().duration_since(modified) else { return Ok(true) };
        let too_old = self.check.max_age.filter(|max_age| age > *max_age);
        if let Some(max_age) = too_old {
            self.meet(ProbeError::TooOld(max_age));
            return Ok(false);
        }
        if self.check.since_boot && age > time_since_boot()? {
            self.meet(ProbeError::BeforeBoot);
            return Ok(false);
        }
        Ok(true)
    }

    /// What cannot be looked at is no match. It may still be worth telling.
    #[expect(clippy::unnecessary_wraps, reason = "the form of what its callers return")]
    fn missed(&mut self, error: &io::Error) -> Result<bool, ProbeError> {
        if error.kind() != io::ErrorKind::NotADirectory {
            self.meet(ProbeError::of_file(error));
        }
        Ok(false)
    }

    /// Keeps what says most about why nothing was found. The order of names in a directory, which
    /// may change, must not decide it.
    fn meet(&mut self, error: ProbeError) {
        let weight = |error: &ProbeError| match error {
            ProbeError::NoSuchFile => 0,
            ProbeError::TooOld(_) | ProbeError::BeforeBoot => 1,
            ProbeError::PermissionDenied => 2,
            _ => 3,
        };
        if weight(&error) > weight(&self.obstacle) {
            self.obstacle = error;
        }
    }
}

/// Time since the node was booted, in which it may have slept.
fn time_since_boot() -> Result<Duration, ProbeError> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(|_| ProbeError::Other)?;
    Ok(Duration::from(time))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        match part(pattern).unwrap() {
            Part::Name(own) => own == name,
            Part::Pattern(pattern) => pattern.matches_with(name, AS_A_SHELL),
        }
    }

    #[test]
    fn patterns_are_a_shells() {
        for (pattern, name) in [
            ("nvidia*", "nvidia0"),
            ("**", "a"),
            ("a***b", "axb"),
            ("?", "x"),
            ("[a-c]1", "b1"),
            ("[!a]", "b"),
            (".*", ".hidden"),
            ("a", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*", ".hidden"), ("?hidden", ".hidden"), ("A*", "a"), ("[!a]", "a")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["/run/[", "/run/[]/x", "/[a"] {
            assert!(FilePattern::new(HostPath::new(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
