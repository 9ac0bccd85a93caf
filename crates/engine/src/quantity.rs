//! Compares Kubernetes quantities by amount.
//!
//! The API server normalizes quantities: `1000m` becomes `1`, and `1024Mi` becomes `1Gi`. This module
//! only compares quantities, so it needs no library.

/// Returns an amount in billionths, the smallest part in Kubernetes; `None` if it is not a quantity
/// (`k8s.io/apimachinery/pkg/api/resource`).
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let amount = digits.checked_mul(unit(suffix)?)?;
    let parts = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // A smaller amount is rounded up.
    Some(amount.div_euclid(parts) + i128::from(amount.rem_euclid(parts) > 0))
}

/// Returns the billionths of one unit.
fn unit(suffix: &str) -> Option<i128> {
    const ONE: i128 = 1_000_000_000;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => ONE,
        "k" => ONE * 1_000,
        "M" => ONE * 1_000_000,
        "G" => ONE * 1_000_000_000,
        "T" => ONE * 1_000_000_000_000,
        "P" => ONE * 1_000_000_000_000_000,
        "E" => ONE * 1_000_000_000_000_000_000,
        "Ki" => ONE << 10,
        "Mi" => ONE << 20,
        "Gi" => ONE << 30,
        "Ti" => ONE << 40,
        "Pi" => ONE << 50,
        "Ei" => ONE << 60,
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(u32::try_from(exponent + 9).ok()?)?
        }
    })
}

/// Returns whether two texts are quantities of the same amount.
pub(crate) fn are_equal(a: &str, b: &str) -> bool {
    nanos(a).is_some_and(|amount| nanos(b) == Some(amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_is_written_in_several_ways() {
        for (a, b) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("2E2", "200"),
            ("1500u", "1.5m"),
            ("100e-3", "100m"),
            ("0.0000000001", "1n"),
            ("-1", "-1000m"),
        ] {
            assert!(are_equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn different_amounts_and_invalid_quantities_are_not_equal() {
        for (a, b) in [("1", "1m"), ("1G", "1Gi"), ("1", "2"), ("a", "a"), ("", ""), ("1x", "1x")] {
            assert!(!are_equal(a, b), "{a} {b}");
        }
        assert!(!are_equal("99999999999999999999999E", "1"), "too large for a quantity");
    }
}
