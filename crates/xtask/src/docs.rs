//! `cargo xtask docs`: the docs as a book, built by mdBook from `docs/SUMMARY.md`.
//!
//! Pages link to examples and sources outside of `docs`, but mdBook reads one directory of sources. So mdBook builds
//! the book from a copy of the checkout, in which every link works as in the checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use crate::{
    language::{self, SUMMARY},
    workspace::{self, Progress},
};

/// The version of mdBook. The first run installs it from source.
const MDBOOK: &str = "0.5.4";

/// Builds the book into `dist/book/html`.
///
/// # Errors
/// When a link is broken, or mdBook cannot be installed or fails.
pub(crate) fn run() -> anyhow::Result<()> {
    let progress = Progress::start();
    progress.say("checking links");
    language::check()?;
    let mdbook = install(&progress)?;
    progress.say("building the book");
    let book = workspace::root().join("dist/book");
    if book.exists() {
        fs::remove_dir_all(&book).with_context(|| format!("cannot remove {}", book.display()))?;
    }
    let sources = book.join("src");
    for file in language::tracked_files()? {
        copy(&workspace::root().join(&file), &sources.join(&file))?;
    }
    copy(&workspace::root().join("docs/book.toml"), &book.join("book.toml"))?;
    let summary = fs::read_to_string(workspace::root().join(SUMMARY)).context(SUMMARY)?;
    fs::write(sources.join("SUMMARY.md"), relative_to_root(&summary))?;
    workspace::run(Command::new(mdbook).arg("build").arg(&book))?;
    progress.say("open dist/book/html/index.html");
    Ok(())
}

/// Returns the path of mdBook, and installs it if it is missing.
fn install(progress: &Progress) -> anyhow::Result<PathBuf> {
    let root = workspace::target_dir().join("tools").join(format!("mdbook-{MDBOOK}"));
    let program = root.join("bin/mdbook");
    if !program.exists() {
        progress.say("installing mdBook (a few minutes, once)");
        let version = format!("--version={MDBOOK}");
        workspace::run(
            workspace::cargo()
                .args([
                    "install",
                    "mdbook",
                    &version,
                    "--locked",
                    "--quiet",
                    "--no-default-features",
                ])
                .arg("--features=search")
                .arg("--root")
                .arg(&root),
        )?;
    }
    Ok(program)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copy = || {
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::copy(from, to).map(drop)
    };
    copy().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// Returns the table of contents with links that are relative to the workspace's root.
fn relative_to_root(summary: &str) -> String {
    let mut parts = summary.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str("](");
        if let Some(outside) = part.strip_prefix("../") {
            text.push_str(outside);
        } else {
            text.push_str("docs/");
            text.push_str(part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_table_of_contents_are_relative_to_the_root() {
        assert_eq!(
            relative_to_root("- [A](a.md)\n  - [B](guides/b.md)\n- [C](../README.md)\n"),
            "- [A](docs/a.md)\n  - [B](docs/guides/b.md)\n- [C](README.md)\n"
        );
    }
}
