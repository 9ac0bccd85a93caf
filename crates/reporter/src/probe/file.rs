//! The `file` probe: at least one file of the node matches a path.
//!
//! Any type of file counts, including directories and devices. Parts of the path may be patterns. As in a
//! shell, no pattern matches a slash, and `*` does not match a leading dot. Symbolic links are followed, an
//! absolute one in the container, where its target usually does not exist: see [`unix`](super::unix).
//!
//! `maxAgeSeconds` and `sinceBoot` use the last modification, by the system's clock. A time in the future
//! counts as recent, because the clock was set back.
//!
//! The search does not use the `glob` crate's walk, which reads whole directories before it returns the first
//! name. It ends at the first match, when nobody waits for it any more, and after a maximum number of names.

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

/// The maximum number of names that one probe examines.
const NAME_LIMIT: u32 = 10_000;

const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// The file to search for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCheck {
    /// The node's root directory in the container.
    pub root: PathBuf,
    /// The path on the node.
    pub path: FilePattern,
    /// The maximum time since a file's last modification.
    pub max_age: Option<Duration>,
    /// Whether a file that was last modified before the node booted does not count.
    pub since_boot: bool,
}

/// A path whose parts may be patterns.
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
    /// Parses a path with patterns.
    ///
    /// # Errors
    ///
    /// When a pattern is invalid; the text has the reason.
    pub fn new(path: HostPath) -> Result<Self, &'static str> {
        let parts = path.parts().map(part).collect::<Result<_, _>>()?;
        Ok(Self { path, parts })
    }

    /// Returns the path on the node, with its patterns.
    pub(super) fn as_str(&self) -> &str {
        self.path.as_str()
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

/// One search.
struct Look<'a> {
    check: &'a FileCheck,
    abandoned: &'a Abandoned,
    /// The remaining number of names.
    names_left: u32,
    /// The most informative problem, in case nothing is found.
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

    /// Returns whether there is a match for these parts of the path.
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
            // Nobody reads this result.
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
        // A time in the future has no age.
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

    /// An unreadable file is no match, and its error may be reported.
    #[expect(clippy::unnecessary_wraps, reason = "the form of what its callers return")]
    fn missed(&mut self, error: &io::Error) -> Result<bool, ProbeError> {
        if error.kind() != io::ErrorKind::NotADirectory {
            self.meet(ProbeError::of_file(error));
        }
        Ok(false)
    }

    /// Keeps the most informative problem. The order of names in a directory must not decide it.
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

/// Returns the time since boot, including sleep.
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
    fn an_invalid_pattern_is_refused() {
        for bad in ["/run/[", "/run/[]/x", "/[a"] {
            assert!(FilePattern::new(HostPath::new(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
