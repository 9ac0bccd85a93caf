//! Which directory of the node a probe needs.

use std::path::Path;

/// Returns the directory that contains a path or pattern: the one before the first pattern, or the parent of
/// the path.
pub fn directory(path: &str) -> &str {
    let plain = path.find(['*', '?', '[']).map_or(path, |pattern| &path[..pattern]);
    match plain.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &plain[..end],
    }
}

/// Returns whether a directory is another one, or below it.
pub fn is_below(directory: &str, prefix: &str) -> bool {
    Path::new(directory).starts_with(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_ends_before_the_first_pattern() {
        for (path, expected) in [
            ("/run/nvidia/ready", "/run/nvidia"),
            ("/run/nvidia/*.ready", "/run/nvidia"),
            ("/run/gpu-*/ready", "/run"),
            ("/run/gpu-[0-9]/a/b?", "/run"),
            ("/ready", "/"),
            ("/*/ready", "/"),
        ] {
            assert_eq!(directory(path), expected, "{path}");
        }
    }

    #[test]
    fn a_prefix_matches_whole_parts_of_a_path() {
        assert!(is_below("/run/nvidia", "/run"));
        assert!(is_below("/run", "/run/"));
        assert!(!is_below("/running", "/run"));
        assert!(is_below("/run", "/"));
    }
}
