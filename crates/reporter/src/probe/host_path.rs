//! Paths of the node, and their place in the container.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// An absolute path below the node's root directory, without special parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPath(String);

impl HostPath {
    /// Parses a path that is absolute and without empty, `.` and `..` parts, as the rule's schema does.
    pub fn new(path: &str) -> Option<Self> {
        let below = path.strip_prefix('/')?;
        let plain = below.split('/').all(|part| !matches!(part, "" | "." | ".."));
        (plain && !path.contains('\0')).then(|| Self(path.to_owned()))
    }

    /// Returns the path on the node.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path's parts, at least one.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// Returns the path below the directory `root`.
    pub(super) fn below(&self, root: &Path) -> PathBuf {
        root.join(&self.0[1..])
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        let path = HostPath::new("/run/..a/x.sock").unwrap();
        assert_eq!(path.below("/host".as_ref()), Path::new("/host/run/..a/x.sock"));
        for bad in
            ["", "/", "run", "//run", "/run/", "/run//x", "/run/../etc", "/./x", "/..", "/\0"]
        {
            assert_eq!(HostPath::new(bad), None, "{bad:?}");
        }
    }
}
