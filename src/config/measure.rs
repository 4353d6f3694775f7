//! Durations and sizes as people write them: a number and its unit.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// `"10ms"`, `"5s"`, `"2min"`, `"1.5h"`, `"1d"`.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the key.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let number = non_negative(number, "a duration like \"500ms\", \"5s\" or \"2min\"")?;
    let nanos_per_unit = match unit {
        "" => return Err(format!("needs a unit: write \"{0}s\", \"{0}ms\" or \"{0}min\"", text.trim())),
        "m" => return Err("has the unit `m`, which could mean two things: write \"min\" or \"ms\"".into()),
        unit => DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, nanos)| *nanos)
            .ok_or("has an unknown unit: use ms, s, min, h or d")?,
    };
    let nanos = (number * nanos_per_unit as f64).round();
    if nanos > u64::MAX as f64 / 2.0 {
        return Err("is longer than this program can count".into());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// `"600MiB"`, `"1GiB"`, `"800MB"`; bytes.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the key.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let number = non_negative(number, "a size like \"600MiB\" or \"1GiB\"")?;
    let bytes_per_unit = match unit {
        "" => return Err(format!("needs a unit: write \"{0}MiB\" or \"{0}B\"", text.trim())),
        unit => SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, bytes)| *bytes)
            .ok_or("has an unknown unit: use KiB, MiB, GiB (1024 each) or kB, MB, GB (1000 each)")?,
    };
    let bytes = (number * bytes_per_unit as f64).round();
    if bytes >= (1u64 << 53) as f64 {
        return Err("is more than any box has".into());
    }
    Ok(bytes as u64)
}

/// A duration in its largest whole unit; [`parse_duration`] reads it back.
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    let whole = DURATION_UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit)));
    match whole {
        Some((name, unit)) => format!("{}{name}", nanos / u128::from(*unit)),
        None => format!("{}ms", nanos as f64 / 1e6),
    }
}

/// A size in its largest whole unit; [`parse_size`] reads it back.
pub fn show_size(bytes: u64) -> String {
    let mut whole: Vec<_> =
        SIZE_UNITS.iter().filter(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)).collect();
    whole.sort_by_key(|(_, unit)| *unit);
    match whole.last() {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => "0B".to_owned(),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end =
        text.find(|ch: char| !(ch.is_ascii_digit() || matches!(ch, '.' | '-' | '+'))).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn non_negative(number: &str, what: &str) -> Result<f64, String> {
    let value: f64 = number.parse().map_err(|_| format!("must be {what}"))?;
    match value {
        value if value.is_sign_negative() && value != 0.0 => {
            Err(format!("must not be negative: write {what}"))
        }
        value if value.is_finite() => Ok(value.abs()),
        _ => Err(format!("must be {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_duration(" 5 s "), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in
            ["", "5", "s", "5m", "5 sec", "-5s", "1e3s", "NaN s", "inf", "5s5s", "99999999999999d", "１s"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("600MiB"), Ok(600 << 20));
        assert_eq!(parse_size("800 MB"), Ok(800_000_000));
        assert_eq!(parse_size("1.5gib"), Ok(3 << 29));
        for wrong in ["", "600", "600M", "MiB", "-1MiB", "1e9B", "99999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0u64..10_000_000_000, bytes in 0u64..(1 << 50)) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,20}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
