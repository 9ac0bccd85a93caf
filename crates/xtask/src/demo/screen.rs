//! The output of the demo: numbered steps, commands and their output. It prints only lines, so it looks the
//! same in a terminal, a pipe and a log.

use std::{
    cell::Cell,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context as _, bail};
use node_readiness_testkit::Layout;

use crate::workspace;

/// The variables of `make`. The demo runs `make` without them, as in a user's shell.
const OF_MAKE: [&str; 9] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "NODES",
    "KUBE",
    "IMG_PREFIX",
    "IMG_TAG",
    "KUBECTL",
];

/// Prints everything.
pub(super) struct Screen {
    colours: bool,
    steps: Cell<u32>,
    after_gap: Cell<bool>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colours, steps: Cell::new(0), after_gap: Cell::new(false) }
    }

    /// Begins a step, with its purpose.
    pub(super) fn step(&self, title: &str, why: &str) {
        self.steps.set(self.steps.get() + 1);
        self.gap();
        self.line(&self.styled("1", &format!("{}. {title}", self.steps.get())));
        self.say(why);
        self.gap();
    }

    /// Explains, in lines of at most a hundred characters.
    pub(super) fn say(&self, text: &str) {
        text.lines().for_each(|line| self.line(&format!("   {line}")));
    }

    /// Records that a build or a progress line has printed.
    pub(super) fn others_printed(&self) {
        self.after_gap.set(false);
    }

    /// Leaves exactly one empty line.
    pub(super) fn gap(&self) {
        if !self.after_gap.get() {
            self.line("");
        }
    }

    /// Prints one line, and ignores a closed output.
    pub(super) fn line(&self, text: &str) {
        self.after_gap.set(text.is_empty());
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// Prints one line with the indentation of commands' output.
    pub(super) fn output(&self, text: &str) {
        self.line(format!("     {text}").trim_end());
    }

    /// Returns a mark for an expected or unexpected result.
    pub(super) fn mark(&self, good: bool) -> String {
        if good { self.styled("32", "ok") } else { self.styled("1;31", "NO") }
    }

    /// Shows a command, runs it on the local cluster, and shows its output.
    pub(super) fn run(&self, layout: &Layout, command: &[&str]) -> anyhow::Result<()> {
        let (status, _) = self.show(layout, command)?;
        if !status.success() {
            bail!("`{}` failed with {status}; its output is above", command.join(" "));
        }
        Ok(())
    }

    /// Does the same for a command that may fail. Returns its output.
    pub(super) fn ask(&self, layout: &Layout, command: &[&str]) -> anyhow::Result<String> {
        Ok(self.show(layout, command)?.1)
    }

    fn show(&self, layout: &Layout, words: &[&str]) -> anyhow::Result<(ExitStatus, String)> {
        self.gap();
        let shown: Vec<_> = words.iter().map(|word| quoted(word)).collect();
        self.line(&self.styled("36", &format!("   $ {}", shown.join(" "))));
        let (output, to_output) = io::pipe()?;
        let mut command = on_cluster(layout, words);
        command.stdout(to_output.try_clone()?).stderr(to_output);
        let mut running =
            command.spawn().with_context(|| format!("cannot start {}", words.join(" ")))?;
        // The command holds the write ends, which must be closed for the read to end.
        drop(command);
        let mut text = String::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            self.output(&line);
            text.push_str(&line);
            text.push('\n');
        }
        let status = running.wait()?;
        self.gap();
        Ok((status, text))
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Returns a command for the local cluster, regardless of the user's KUBECONFIG.
pub(super) fn on_cluster(layout: &Layout, words: &[&str]) -> Command {
    let in_bin = layout.bin().join(words[0]);
    let program = if in_bin.exists() { in_bin.as_path() } else { Path::new(words[0]) };
    let mut command = Command::new(program);
    command.args(&words[1..]).current_dir(workspace::root());
    for variable in OF_MAKE {
        command.env_remove(variable);
    }
    workspace::forget_own_package(&mut command);
    command.env("KUBECONFIG", layout.kubeconfig()).env("PATH", workspace::path_with(&layout.bin()));
    command
}

/// Returns a word as typed into a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_with_shell_quotes() {
        assert_eq!(quoted("--for=condition=Ready"), "--for=condition=Ready");
        assert_eq!(quoted("custom-columns=A:.b[*]"), "'custom-columns=A:.b[*]'");
    }
}
