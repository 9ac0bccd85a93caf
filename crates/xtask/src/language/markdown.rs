//! Checks links and line lengths of Markdown pages.

use std::{
    collections::{HashMap, HashSet},
    path::{Component, Path, PathBuf},
};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{LINE, SUMMARY, too_long};
use crate::workspace;

/// The links and the link targets of a page.
struct Page {
    /// Line and destination.
    links: Vec<(usize, String)>,
    anchors: HashSet<String>,
    /// Lines of code and tables, which are not prose.
    verbatim: HashSet<usize>,
}

/// Returns the problems of all pages, which may link to each other.
pub(super) fn check(texts: &[(PathBuf, String)]) -> Vec<String> {
    let pages: HashMap<&Path, Page> =
        texts.iter().map(|(path, text)| (path.as_path(), Page::parse(text))).collect();
    let mut problems = not_listed(&pages);
    for (path, text) in texts {
        let (page, name) = (&pages[path.as_path()], path.display());
        for (line, link) in &page.links {
            if let Some(problem) = broken(path, link, &pages) {
                problems.push(format!("{name}:{line}: {link}: {problem}"));
            }
        }
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let long = lines.filter(|(number, line)| {
            // A long link cannot be wrapped.
            line.chars().count() > LINE
                && !page.verbatim.contains(number)
                && !line.contains("](http")
        });
        problems.extend(long.map(|(number, _)| too_long(&name.to_string(), number)));
    }
    problems
}

/// Returns a problem for each page that is missing from the table of contents, and so from the book.
fn not_listed(pages: &HashMap<&Path, Page>) -> Vec<String> {
    let Some(summary) = pages.get(Path::new(SUMMARY)) else { return Vec::new() };
    let docs = Path::new(SUMMARY).parent().unwrap_or(Path::new(""));
    let listed: HashSet<PathBuf> =
        summary.links.iter().map(|(_, link)| normal(&docs.join(link))).collect();
    let missing =
        pages.keys().filter(|page| **page != Path::new(SUMMARY) && !listed.contains(**page));
    let mut problems: Vec<_> =
        missing.map(|page| format!("{}: {SUMMARY} does not list it", page.display())).collect();
    problems.sort();
    problems
}

/// Returns why a link of a page is broken. Links to other hosts are not checked.
fn broken(from: &Path, link: &str, pages: &HashMap<&Path, Page>) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = match target {
        "" => from.to_owned(),
        target => normal(&from.parent().unwrap_or(Path::new("")).join(target)),
    };
    if !pages.contains_key(path.as_path()) && !workspace::root().join(&path).exists() {
        return Some("there is no such file".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    let page = pages.get(path.as_path())?;
    (!page.anchors.contains(anchor)).then(|| format!("{} has no such heading", path.display()))
}

/// Returns a path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

impl Page {
    fn parse(text: &str) -> Self {
        let mut page =
            Self { links: Vec::new(), anchors: HashSet::new(), verbatim: HashSet::new() };
        let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
        let mut heading: Option<String> = None;
        let events = Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter();
        for (event, range) in events {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((line_of(range.start), dest_url.into_string()));
                }
                Event::Start(Tag::CodeBlock(_) | Tag::Table(_)) => {
                    page.verbatim.extend(line_of(range.start)..=line_of(range.end));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = heading.take().map(|heading| page.free_anchor(&heading));
                    page.anchors.extend(anchor);
                }
                _ => {}
            }
        }
        page
    }

    /// Returns the anchor of a heading, as GitHub and mdBook form it. A repeated heading has a number.
    fn free_anchor(&self, heading: &str) -> String {
        let kept = heading.chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
            _ => None,
        });
        let anchor: String = kept.collect();
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let mut candidates = std::iter::once(anchor.clone()).chain(numbered);
        candidates.find(|candidate| !self.anchors.contains(candidate)).unwrap_or(anchor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        check(&[("docs/page.md".into(), text.to_owned())])
    }

    #[test]
    fn links_to_files_and_headings_are_followed() {
        let good = "# A `page`, twice\n\n## Twice\n\n## Twice\n\n[a](#a-page-twice) [b](#twice-1) \
                    [c](../README.md) [d](../crates) [e](https://example.com/nothing)\n";
        assert_eq!(problems(good), [""; 0]);
        let bad = "# Page\n\n[a](#none)\n\n[b](none.md) ![c](none.svg)\n";
        assert_eq!(
            problems(bad),
            [
                "docs/page.md:3: #none: docs/page.md has no such heading",
                "docs/page.md:5: none.md: there is no such file",
                "docs/page.md:5: none.svg: there is no such file",
            ]
        );
    }

    #[test]
    fn the_table_of_contents_lists_every_page() {
        let page = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let pages = [
            page(SUMMARY, "[a](guides/a.md) [r](../README.md)\n"),
            page("docs/guides/a.md", ""),
            page("README.md", ""),
            page("docs/b.md", ""),
        ];
        assert_eq!(check(&pages), ["docs/b.md: docs/SUMMARY.md does not list it"]);
    }

    #[test]
    fn only_prose_has_a_limit_of_line_length() {
        let long = "x".repeat(LINE + 1);
        assert_eq!(problems(&long).len(), 1);
        assert_eq!(problems(&format!("```\n{long}\n```\n")), [""; 0]);
        assert_eq!(problems(&format!("| a |\n| --- |\n| {long} |\n")), [""; 0]);
    }
}
