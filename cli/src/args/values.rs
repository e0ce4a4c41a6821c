//! Single values of options, as they are typed. Every error says how to write it right.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ringtide_proto::limits::MAX_PIECE_LEN;
use ringtide_proto::torrent::Rule;

use crate::bench::PORT;
use crate::exit::Failure;
use crate::units::{parse_duration, parse_size};

/// What `--piece-length` says; `None` is auto.
#[derive(Clone, Copy, Debug)]
pub(super) struct PieceLength(pub(super) Option<u32>);

/// <https://reproducible-builds.org/specs/source-date-epoch/>: a malformed value is an error.
pub(super) fn parse_epoch(text: &OsString) -> Result<i64, Failure> {
    let seconds = text.to_str().and_then(|text| text.parse::<i64>().ok()).filter(|seconds| *seconds >= 0);
    seconds.ok_or_else(|| {
        Failure::usage(format_args!(
            "SOURCE_DATE_EPOCH is {text:?}: it must be a number of seconds since 1970"
        ))
    })
}

pub(super) fn parse_piece_length(text: &str) -> Result<PieceLength, String> {
    const RANGE: std::ops::RangeInclusive<u64> = 16 << 10..=MAX_PIECE_LEN as u64;
    if text == "auto" {
        return Ok(PieceLength(None));
    }
    let length = parse_size(text)?;
    match u32::try_from(length) {
        Ok(fits) if RANGE.contains(&length) && length.is_power_of_two() => Ok(PieceLength(Some(fits))),
        _ => Err("a piece is a power of two from 16KiB to 64MiB, or auto".to_owned()),
    }
}

/// A rule that `simulate` leaves out, by name.
pub(super) fn rule() -> impl TypedValueParser<Value = Rule> {
    let names = PossibleValuesParser::new(Rule::NAMED.map(|(name, _)| name));
    names.try_map(|name| Rule::named(&name).ok_or("no rule is called so"))
}

pub(super) fn parse_image_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("an image has at least one byte".to_owned()),
        size => Ok(size),
    }
}

/// A message of `bench hash`.
pub(super) fn parse_message_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size @ 64..=0x10_0000 => Ok(size),
        _ => Err("a message has 64 bytes to 1MiB".to_owned()),
    }
}

/// The memory of `bench hash`: room for 32 messages.
pub(super) fn parse_memory_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size @ 0x200_0000.. => Ok(size),
        _ => Err("it takes at least 32MiB".to_owned()),
    }
}

/// Names are looked up later; here it must only look like `host:port` or `[v6]:port`.
pub(super) fn parse_peer(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("a peer is written host:port, 192.0.2.1:6881 or [2001:db8::1]:6881".to_owned()),
    }
}

/// A duration that is not over at once.
pub(super) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        time => Ok(time),
    }
}

/// A piece length that is not left open.
pub(super) fn parse_some_piece_length(text: &str) -> Result<u32, String> {
    parse_piece_length(text)?.0.ok_or_else(|| "a piece is a power of two from 16KiB to 64MiB".to_owned())
}

/// `10Gbit`, `2.5Gbit` or `100Mbit`, in Mbit/s.
pub(super) fn parse_link_rate(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.strip_suffix("/s").unwrap_or(&lower);
    match in_units(number, &[("gbit", 1000.0), ("mbit", 1.0)]) {
        Some(mbit @ 1.0..=10_000_000.0) => Ok(mbit as u64),
        _ => Err("a link is written like 10Gbit, 2.5Gbit or 100Mbit".to_owned()),
    }
}

/// A number that ends with one of these units, times what the unit is worth.
fn in_units(lower: &str, units: &[(&str, f64)]) -> Option<f64> {
    let number = |unit: &str| lower.strip_suffix(unit)?.trim().parse::<f64>().ok();
    units.iter().find_map(|(unit, worth)| Some(number(unit)? * worth))
}

/// Bytes a second: `50MiB`, or `400Mbit`. A block, of which blocks are never parts, must go in a reasonable time.
pub(super) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let trimmed = text.trim();
    let number = trimmed.strip_suffix("/s").unwrap_or(trimmed);
    let lower = number.to_ascii_lowercase();
    let bytes = match in_units(&lower, &[("gbit", 125e6), ("mbit", 125e3), ("kbit", 125.0)]) {
        Some(bytes) if bytes.is_finite() => Ok(bytes as u64),
        _ => parse_size(number),
    };
    match bytes.map(NonZeroU64::new) {
        Ok(Some(rate)) if rate.get() >= 1024 => Ok(rate),
        Ok(_) => Err("a rate is at least 1KiB a second".to_owned()),
        Err(_) => Err("a rate per second is written like 50MiB or 400Mbit".to_owned()),
    }
}

/// A part of all hosts, in thousandths.
pub(super) fn parse_fraction(text: &str) -> Result<usize, String> {
    match text.trim().parse::<f64>() {
        Ok(part @ 0.0..=1.0) => Ok((part * 1_000.0).round() as usize),
        _ => Err("a part of the hosts is written 0 to 1, like 0.3".to_owned()),
    }
}

/// A round trip.
pub(super) fn parse_round_trip(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if time <= Duration::from_secs(10) => Ok(time),
        _ => Err("a round trip takes at most 10s".to_owned()),
    }
}

/// `host`, `host:port`, `[v6]:port` or `v6`, as `host:port` or `[v6]:port`.
pub(super) fn parse_server(text: &str) -> Result<String, String> {
    let is_bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']')) && !is_bare_v6;
    let whole = match (is_bare_v6, has_port) {
        (true, _) => format!("[{text}]:{PORT}"),
        (false, true) => text.to_owned(),
        (false, false) => format!("{text}:{PORT}"),
    };
    parse_peer(&whole).map_err(|_| "a server is written host, host:port or [2001:db8::1]:6900".to_owned())
}

pub(super) fn parse_tracker(text: &str) -> Result<String, String> {
    parse_url(text, &["http", "https", "udp"])
}

pub(super) fn parse_web_seed(text: &str) -> Result<String, String> {
    parse_url(text, &["http", "https", "ftp"])
}

fn parse_url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let clean = !text.chars().any(|c| c.is_control() || c.is_whitespace());
    let known = text.split_once("://").is_some_and(|(scheme, rest)| {
        schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)) && !rest.is_empty()
    });
    if clean && known {
        Ok(text.to_owned())
    } else {
        Err(format!("a URL begins with {}://", schemes.join(":// or ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_port_may_be_left_out() {
        let parsed = |text: &str| parse_server(text).expect("is a server");
        assert_eq!(parsed("host"), "host:6900");
        assert_eq!(parsed("192.0.2.1:7000"), "192.0.2.1:7000");
        assert_eq!(
            (parsed("2001:db8::1"), parsed("::1")),
            ("[2001:db8::1]:6900".to_owned(), "[::1]:6900".to_owned())
        );
        assert_eq!((parsed("[::1]"), parsed("[::1]:7")), ("[::1]:6900".to_owned(), "[::1]:7".to_owned()));
        assert!(["", ":5", "host:", "host:x", "host:0"].iter().all(|text| parse_server(text).is_err()));
    }

    #[test]
    fn links_are_in_bits() {
        let rates = ["10Gbit", "2.5 gbit/s", "100Mbit"].map(parse_link_rate);
        assert_eq!(rates, [Ok(10_000), Ok(2_500), Ok(100)]);
        assert!(
            ["10G", "10GB", "", "0Mbit", "-1Gbit", "nangbit"]
                .iter()
                .all(|text| parse_link_rate(text).is_err())
        );
    }

    #[test]
    fn rates_are_in_bytes_or_bits() {
        let rates = ["50MiB", "50 MiB/s", "1KiB", "400Mbit", "1gbit/s", "2.5 Mbit"].map(parse_rate);
        let bytes = [50 << 20, 50 << 20, 1024, 50_000_000, 125_000_000, 312_500].map(NonZeroU64::new);
        assert_eq!(rates.map(Result::ok), bytes);
        assert!(
            ["", "0", "1023", "1kbit", "fast", "-1MiB", "-1Mbit", "nanGbit", "infGbit", "1MiB/h"]
                .iter()
                .all(|text| parse_rate(text).is_err())
        );
    }

    #[test]
    fn fractions_are_parts_of_a_whole() {
        assert_eq!(["0", "0.3", "1", ".0005"].map(parse_fraction), [Ok(0), Ok(300), Ok(1_000), Ok(1)]);
        assert!(["1.1", "-0.1", "30%", "", "nan", "inf"].iter().all(|text| parse_fraction(text).is_err()));
        assert!(parse_round_trip("11s").is_err());
    }

    #[test]
    fn nothing_is_no_time_to_measure() {
        assert_eq!(parse_positive_duration("2s"), Ok(Duration::from_secs(2)));
        assert!(parse_positive_duration("0s").is_err() && parse_some_piece_length("auto").is_err());
    }
}
