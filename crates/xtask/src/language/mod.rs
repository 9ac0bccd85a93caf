//! Checks of the project's language: retired words in names, links and line lengths in docs.

mod markdown;
mod names;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::workspace;

/// The table of contents, whose links are relative to `docs`.
pub(crate) const SUMMARY: &str = "docs/SUMMARY.md";

/// The maximum number of characters in a line of prose.
const LINE: usize = 120;

/// Fails if a name contains a retired word, a link of a Markdown page is broken, or a line of prose is too long. The
/// error lists every problem as `file:line: problem`.
pub(crate) fn check() -> anyhow::Result<()> {
    let files = tracked_files()?;
    let mut problems = Vec::new();
    let mut pages = Vec::new();
    for file in &files {
        problems.extend(names::in_path(file));
        let full = workspace::root().join(file);
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                let text = read(&full)?;
                let file = file.display().to_string();
                problems.extend(names::in_rust(&file, &text)?);
                problems.extend(long_doc_lines(&file, &text));
            }
            Some("md") => pages.push((file.clone(), read(&full)?)),
            _ => {}
        }
    }
    problems.extend(markdown::check(&pages));
    if !problems.is_empty() {
        bail!("the project's language:\n{}", problems.join("\n"));
    }
    Ok(())
}

/// Returns the files that git tracks, relative to the workspace's root.
pub(crate) fn tracked_files() -> anyhow::Result<Vec<PathBuf>> {
    let root = workspace::root();
    // In CI another user may own the clone, and git refuses such a repository by default.
    let safe = format!("safe.directory={}", root.display());
    let output = Command::new("git")
        .args(["-c", &safe, "ls-files", "-z"])
        .current_dir(&root)
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let names = names.split_terminator('\0').map(PathBuf::from);
    // git still lists a deleted file until the deletion is committed.
    Ok(names.filter(|name| root.join(name).exists()).collect())
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn long_doc_lines(file: &str, text: &str) -> Vec<String> {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let lines = text.lines().enumerate();
    let long = lines.filter(|(_, line)| is_comment(line) && line.chars().count() > LINE);
    long.map(|(number, _)| too_long(file, number + 1)).collect()
}

fn too_long(file: &str, line: usize) -> String {
    format!("{file}:{line}: a line of prose has more than {LINE} characters")
}
