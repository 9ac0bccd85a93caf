//! Rewrites a command line of Go's `flag` package for clap.
//!
//! Manifests of the Go project have flags with one dash or two, values after `=` or in the next argument, and
//! booleans without a value or with one after `=`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Rewrites a command line, program first: every flag gets two dashes, and every value follows `=`, so a value
/// may begin with a dash as `-1` does. Unknown flags stay unchanged, so clap reports them.
pub(crate) fn normalise(
    command: &Command,
    line: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut line = line.into_iter();
    let mut normal: Vec<OsString> = line.next().into_iter().collect();
    while let Some(argument) = line.next() {
        let Some(flag) = argument.to_str().and_then(long_name) else {
            normal.push(argument);
            continue;
        };
        let takes_next = command
            .get_arguments()
            .any(|known| known.get_long() == Some(flag) && takes_value(known));
        let mut whole = OsString::from(format!("--{flag}"));
        if takes_next && let Some(value) = line.next() {
            whole.push(OsStr::new("="));
            whole.push(value);
        }
        normal.push(whole);
    }
    normal
}

/// Returns the name of a long flag. One letter after one dash is a short flag of clap, such as `-h`, and a
/// number is a value.
fn long_name(argument: &str) -> Option<&str> {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    let one_dash = name.len() + 1 == argument.len();
    let begins_with_a_letter = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (begins_with_a_letter && !(one_dash && name.len() == 1)).then_some(name)
}

/// Returns whether a flag's value may be the next argument. A boolean's may not.
fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

/// Parses a boolean as Go does.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn normal(line: &[&str]) -> Vec<String> {
        let line = ["operator"].iter().chain(line).map(OsString::from);
        let normal = normalise(&crate::Args::command(), line);
        normal.into_iter().skip(1).map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn flags_may_have_one_dash_or_two() {
        assert_eq!(normal(&["-metrics-bind-address=:8080"]), ["--metrics-bind-address=:8080"]);
        assert_eq!(normal(&["-zap-devel", "--zap-devel"]), ["--zap-devel", "--zap-devel"]);
    }

    #[test]
    fn a_value_in_the_next_argument_may_begin_with_a_dash() {
        assert_eq!(normal(&["-kube-api-qps", "-1"]), ["--kube-api-qps=-1"]);
        let line = ["--metrics-bind-address", ":8080", "--zap-devel"];
        assert_eq!(normal(&line), ["--metrics-bind-address=:8080", "--zap-devel"]);
    }

    #[test]
    fn a_boolean_takes_no_next_argument() {
        let line = ["-metrics-secure", "-kube-api-burst=7"];
        assert_eq!(normal(&line), ["--metrics-secure", "--kube-api-burst=7"]);
        assert_eq!(normal(&["-metrics-secure=false"]), ["--metrics-secure=false"]);
    }

    #[test]
    fn short_flags_and_other_arguments_stay_unchanged() {
        let line = ["-h", "-V", "-1", "word", "--", "-", "--no-such-flag", "x"];
        assert_eq!(normal(&line), line);
    }

    #[test]
    fn booleans_are_parsed_as_in_go() {
        assert_eq!((boolean("T"), boolean("0")), (Ok(true), Ok(false)));
        assert!(boolean("yes").is_err());
    }
}
