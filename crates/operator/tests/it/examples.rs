//! Every rule below `examples/` is one that the API server takes, without an unknown field.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Fixture, kubectl};

/// How many files with rules there are at least: a search that finds nothing is no success.
const AT_LEAST: usize = 12;

/// The YAML files below a directory.
fn manifests(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| {
        if path.is_dir() {
            return manifests(&path);
        }
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if is_yaml { vec![path] } else { Vec::new() }
    });
    files.collect()
}

#[tokio::test]
async fn every_example_is_taken_as_it_is() {
    let _installed = Fixture::new("examples").await;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut applied = 0;
    for path in manifests(&examples) {
        let text = fs::read_to_string(&path).unwrap();
        let rules = text.lines().filter(|line| *line == "kind: NodeReadinessRule").count();
        if rules == 0 {
            assert!(!path.starts_with(examples.join("fields")), "{} has no rule", path.display());
            continue;
        }
        let file = path.to_str().unwrap();
        // kubectl() fails the test, with the API server's words, where one is refused.
        let said = kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", file]);
        let taken = said.lines().filter(|line| line.ends_with("(server dry run)")).count();
        assert_eq!(taken, rules, "{file}: {said}");
        applied += 1;
    }
    assert!(applied >= AT_LEAST, "only {applied} files with rules were found");
}
