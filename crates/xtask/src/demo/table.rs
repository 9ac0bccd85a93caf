//! The verification as a table.

use node_readiness_testkit::verification::Check;

use super::screen::Screen;

/// Prints one line for each check, grouped by subject. The answer is last, because a refusal's reason is long.
pub(super) fn print(screen: &Screen, checks: &[Check]) {
    let width = checks.iter().map(|check| check.what.len()).max().unwrap_or_default();
    screen.output(&format!("    {:width$}  {:8}  actual", "attempt", "expected"));
    for (at, check) in checks.iter().enumerate() {
        if at == 0 || checks[at - 1].section != check.section {
            screen.output(check.section);
        }
        let mark = screen.mark(check.holds());
        let expected = check.expected.to_string();
        screen.output(&format!("{mark}  {:width$}  {expected:8}  {}", check.what, check.seen));
    }
}

/// Returns a line for each check whose answer is not the expected one.
pub(super) fn differences(checks: &[Check]) -> Vec<String> {
    checks
        .iter()
        .filter(|check| !check.holds())
        .map(|check| {
            let Check { section, what, expected, seen } = check;
            format!("{section}: {what}: expected {expected:?}, got {seen:?}")
        })
        .collect()
}
