//! Finds retired words in names: words that this project coined, each with the usual term.

use std::path::Path;

use anyhow::Context as _;
use syn::visit::{self, Visit};

/// Each retired word with its replacement.
const RETIRED: [(&str, &str); 35] = [
    ("alive", "liveness"),
    ("burden", "overload"),
    ("counterpart", "test server"),
    ("counterparts", "test servers"),
    ("dialect", "reason style"),
    ("fault", "probe error"),
    ("fence", "guard"),
    ("fenced", "guarded"),
    ("finding", "rule result"),
    ("findings", "rule results"),
    ("floor", "baseline"),
    ("grip", "taint state"),
    ("judge", "threshold counter"),
    ("judged", "counted"),
    ("lane", "permit"),
    ("lanes", "concurrency limit"),
    ("ledger", "evaluation store or write state"),
    ("mood", "behavior"),
    ("moods", "behaviors"),
    ("news", "notifications"),
    ("pulse", "heartbeat state"),
    ("rests", "backs off"),
    ("resting", "backoff"),
    ("settle", "record outcome"),
    ("settled", "recorded"),
    ("settles", "propagates"),
    ("settling", "propagation delay"),
    ("situation", "plan context"),
    ("standing", "node state"),
    ("tell", "notify, report or emit"),
    ("tells", "reports"),
    ("told", "reported"),
    ("turn", "permit or rate limit"),
    ("turns", "rate limiter"),
    ("world", "environment"),
];

/// Returns a problem if a file's path contains a retired word.
pub(super) fn in_path(path: &Path) -> Option<String> {
    let text = path.display().to_string();
    let (word, instead) = retired(&text)?;
    Some(format!("{text}: the path has the retired word {word}; write {instead}"))
}

/// Returns the retired words in the names that a Rust file defines, and in its command-line flags and values.
pub(super) fn in_rust(path: &str, text: &str) -> anyhow::Result<Vec<String>> {
    let file = syn::parse_file(text).with_context(|| format!("cannot parse {path}"))?;
    let mut names = Names { path, problems: Vec::new() };
    names.visit_file(&file);
    Ok(names.problems)
}

/// Returns the first retired word of a name. A word ends at a capital letter, a digit or any other character.
fn retired(name: &str) -> Option<(&'static str, &'static str)> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if !letter.is_ascii_lowercase() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (letter.is_ascii_alphabetic(), words.last_mut()) {
            word.push(letter.to_ascii_lowercase());
        }
    }
    // In a name without lower-case letters, capitals do not separate words.
    let capitals = name.chars().all(|letter| !letter.is_ascii_lowercase());
    let in_capitals = name.split('_').filter(|_| capitals).map(str::to_ascii_lowercase);
    words
        .into_iter()
        .chain(in_capitals)
        .find_map(|word| RETIRED.iter().find(|(retired, _)| *retired == word).copied())
}

struct Names<'a> {
    path: &'a str,
    problems: Vec<String>,
}

impl Names<'_> {
    fn check(&mut self, name: &syn::Ident) {
        self.check_text(&name.to_string(), name.span().start().line);
    }

    fn check_text(&mut self, name: &str, line: usize) {
        if let Some((word, instead)) = retired(name) {
            let path = self.path;
            self.problems.push(format!(
                "{path}:{line}: {name} has the retired word {word}; write {instead}"
            ));
        }
    }
}

/// Visits the places that define names. Uses of names are not checked, because other crates define some of them.
impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_signature(&mut self, node: &'ast syn::Signature) {
        self.check(&node.ident);
        visit::visit_signature(self, node);
    }

    fn visit_item_struct(&mut self, node: &'ast syn::ItemStruct) {
        self.check(&node.ident);
        visit::visit_item_struct(self, node);
    }

    fn visit_item_enum(&mut self, node: &'ast syn::ItemEnum) {
        self.check(&node.ident);
        visit::visit_item_enum(self, node);
    }

    fn visit_item_trait(&mut self, node: &'ast syn::ItemTrait) {
        self.check(&node.ident);
        visit::visit_item_trait(self, node);
    }

    fn visit_item_type(&mut self, node: &'ast syn::ItemType) {
        self.check(&node.ident);
        visit::visit_item_type(self, node);
    }

    fn visit_item_const(&mut self, node: &'ast syn::ItemConst) {
        self.check(&node.ident);
        visit::visit_item_const(self, node);
    }

    fn visit_item_static(&mut self, node: &'ast syn::ItemStatic) {
        self.check(&node.ident);
        visit::visit_item_static(self, node);
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        self.check(&node.ident);
        visit::visit_item_mod(self, node);
    }

    fn visit_variant(&mut self, node: &'ast syn::Variant) {
        self.check(&node.ident);
        visit::visit_variant(self, node);
    }

    fn visit_field(&mut self, node: &'ast syn::Field) {
        if let Some(name) = &node.ident {
            self.check(name);
        }
        visit::visit_field(self, node);
    }

    fn visit_pat_ident(&mut self, node: &'ast syn::PatIdent) {
        self.check(&node.ident);
        visit::visit_pat_ident(self, node);
    }

    fn visit_lit_str(&mut self, node: &'ast syn::LitStr) {
        let text = node.value();
        let flag = text.trim_start_matches('-');
        let is_flag = text.starts_with("--") || flag.contains('-');
        if is_flag && flag.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            self.check_text(&text, node.span().start().line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(source: &str) -> Vec<String> {
        in_rust("a.rs", source).unwrap()
    }

    #[test]
    fn a_retired_word_is_found_in_each_kind_of_definition() {
        let sources = [
            "fn look_at_ledger() {}",
            "struct SharedLedger;",
            "struct A { ledger: u8 }",
            "enum A { Ledger }",
            "const THE_LEDGER: u8 = 0;",
            "mod ledger {}",
            "fn a() { let ledger = 1; }",
            "fn a(ledger: u8) {}",
            r#"const FLAG: &str = "--ledger-file";"#,
            r#"const FLAG: &str = "--ledger";"#,
        ];
        for source in sources {
            assert_eq!(problems(source).len(), 1, "{source}: {:?}", problems(source));
        }
        let problem = &problems("\nstruct Ledger;")[0];
        assert!(problem.starts_with("a.rs:2: Ledger has the retired word ledger;"), "{problem}");
    }

    #[test]
    fn parts_of_words_and_uses_of_names_are_ignored() {
        assert_eq!(problems("fn return_address() { a.floor(); b::lane(); }"), [""; 0]);
        assert_eq!(problems(r#"const A: &str = "turn it off and tell nobody";"#), [""; 0]);
    }

    #[test]
    fn paths_are_checked_too() {
        assert!(in_path(Path::new("crates/a/src/ledger.rs")).is_some());
        assert!(in_path(Path::new("config/fence-records.yaml")).is_some());
        assert!(in_path(Path::new("crates/a/src/evaluations.rs")).is_none());
    }
}
