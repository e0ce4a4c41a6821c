//! Sizes and durations as people write and read them. Knows numbers and words, nothing of what they measure.

use std::fmt;
use std::time::Duration;

/// Suffixes of sizes, longest first, with their bytes. A letter alone is binary, as in `dd` and `truncate`.
const SIZE_UNITS: [(&str, u64); 13] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("b", 1),
];

/// Reads a number of bytes like `1GiB`, `512KiB`, `1.5M`, `1MB` or `1048576`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let unit = SIZE_UNITS.iter().find_map(|(suffix, bytes)| Some((lower.strip_suffix(suffix)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((&lower, 1));
    let wrong = || format!("{text:?} is not a size; write it like 1GiB, 512KiB, 1MB or 1048576");
    let size = parse_scaled(number.trim_end(), bytes).ok_or_else(wrong)?;
    u64::try_from(size).map_err(|_| format!("{text:?} is more than 64 bits of bytes"))
}

/// Reads a duration like `45s`, `10m`, `1h30m`, `2d` or a number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write it like 45s, 10m, 1h30m or 2d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut nanos = 0_u128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_nanos = unit_nanos(unit, number.len() == text.trim().len()).ok_or_else(wrong)?;
        nanos += parse_scaled(number, unit_nanos).ok_or_else(wrong)?;
        rest = after;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| wrong())?;
    // A century: later than this, arithmetic with instants would overflow.
    if seconds > 100 * 365 * 86_400 {
        return Err(format!("{text:?} is longer than a hundred years"));
    }
    Ok(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0)))
}

fn unit_nanos(unit: &str, is_alone: bool) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    match unit {
        "ms" => Some(SECOND / 1000),
        "s" => Some(SECOND),
        "m" | "min" => Some(60 * SECOND),
        "h" => Some(3600 * SECOND),
        "d" => Some(86_400 * SECOND),
        "" if is_alone => Some(SECOND),
        _ => None,
    }
}

/// A decimal number times `scale`, rounded down. Integers only, so that sizes stay exact.
fn parse_scaled(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    if number.ends_with('.') {
        return None;
    }
    let whole = u128::from(whole.parse::<u64>().ok()?) * u128::from(scale);
    let power = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u64>().unwrap_or(0);
    Some(whole + u128::from(part) * u128::from(scale) / power)
}

/// Bytes for a person, in the decimal units that rates and disks are quoted in: `2.15 GB`.
#[derive(Clone, Copy)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1000.0;
        let mut unit = 0;
        // What would be shown as 1000 is one of the next unit.
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        write!(f, "{value:.decimals$} {}", UNITS[unit])
    }
}

/// Bytes as a power-of-two unit where they are a whole number of it: piece lengths, `--size`.
#[derive(Clone, Copy)]
pub(crate) struct BinaryBytes(pub(crate) u64);

impl fmt::Display for BinaryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.iter().find(|(_, bits)| self.0 > 0 && self.0.trailing_zeros() >= *bits) {
            Some((unit, bits)) => write!(f, "{} {unit}", self.0 >> bits),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// A duration for a person: `4.2s`, `3m 05s`, `1h 04m`, `2d 03h`.
#[derive(Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{:.1}s", self.0.as_secs_f64()),
            10..60 => write!(f, "{seconds}s"),
            60..3600 => write!(f, "{}m {:02}s", seconds / 60, seconds % 60),
            3600..86_400 => write!(f, "{}h {:02}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
        }
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Gigabytes per second, for reports.
pub(crate) fn gb_per_s(bytes: u64, wall: Duration) -> f64 {
    if wall.is_zero() { 0.0 } else { bytes as f64 / 1e9 / wall.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        let sizes = [
            ("1GiB", 1 << 30),
            ("512KiB", 512 << 10),
            ("1048576", 1 << 20),
            ("1MB", 1_000_000),
            ("1.5M", 3 << 19),
            ("2 tb", 2_000_000_000_000),
            ("17b", 17),
            ("0", 0),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "1.", ".5G", "1x", "1GiBs", "1..2", "0x10", "17179869184GiB", "1e9"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_exactly() {
        let durations =
            [("10m", 600.0), ("1h30m", 5400.0), ("45s", 45.0), ("2d", 172_800.0), ("90", 90.0), ("0.5", 0.5)];
        for (text, seconds) in durations {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "m", "1h30", "10 m", "-5s", "5y", "1h-3m", "40000000000000000000d", "200000d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn amounts_are_short() {
        let shown = [(999, "999 B"), (1000, "1.00 kB"), (999_600, "1.00 MB"), (2_147_483_648, "2.15 GB")];
        for (bytes, text) in shown {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Bytes(12_345_678_901).to_string(), "12.3 GB");
        assert_eq!(BinaryBytes(256 << 10).to_string(), "256 KiB");
        assert_eq!(BinaryBytes(1000).to_string(), "1000 bytes");
        let spans =
            [(4.25, "4.2s"), (59.9, "59s"), (185.0, "3m 05s"), (3840.0, "1h 04m"), (183_600.0, "2d 03h")];
        for (seconds, text) in spans {
            assert_eq!(Span(Duration::from_secs_f64(seconds)).to_string(), text);
        }
    }
}
