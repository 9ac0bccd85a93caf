//! Durations as Go programs write them (`1h30m`, `1.5s`, `300ms`), for the environment form.
//!
//! It reads the language that Go's `time.ParseDuration` documents and nothing else: in particular a
//! bare number has no unit and is refused. It does not counter a duration; zero and negative ones are
//! values like any other, and a caller may not want them.

use jiff::SignedDuration;

/// Reads a duration. `None` when the text is none, or does not fit into 64 bits of nanoseconds,
/// which is about 292 years.
pub(super) fn parse(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i64 = 0;
    while !rest.is_empty() {
        let (number, after_number) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after_unit) = split_while(after_number, |c| !c.is_ascii_digit() && c != '.');
        nanos = nanos.checked_add(term(number, nanos_in(unit)?)?)?;
        rest = after_unit;
    }
    Some(SignedDuration::from_nanos(if negative { -nanos } else { nanos }))
}

/// One number with its unit, in nanoseconds; what is finer than a nanosecond is cut off.
fn term(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // The largest unit is an hour, 3.6e12 ns: further digits are below a nanosecond.
    let fraction = &fraction[..fraction.len().min(13)];
    let mut nanos = i128::from(whole) * i128::from(unit);
    if !fraction.is_empty() {
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        nanos += fraction.parse::<i128>().ok()? * i128::from(unit) / scale;
    }
    i64::try_from(nanos).ok()
}

fn nanos_in(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        // Go knows the micro sign and the Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn split_while(text: &str, matches: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !matches(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, nanos) in [
            ("0", 0),
            ("30s", 30_000_000_000),
            ("5m", 300_000_000_000),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("300ms", 300_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5us", 5_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("-1m", -60_000_000_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
        ] {
            assert_eq!(parse(text), Some(SignedDuration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "30 s",
            "1.2.3s",
            "1e3s",
            "5mm",
            "9223372036854775808ns",
            "3000000h",
            "١s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
