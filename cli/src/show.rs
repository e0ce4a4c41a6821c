//! `ringtide show`: what a torrent or magnet link says.
//!
//! Owns both forms of the answer. Reads no content and asks nobody.

use std::fmt::Write;

use ringtide_proto::metainfo::{FileEntry, Magnet, Metainfo};
use serde_json::{Value, json};

use crate::exit::{Exit, Outcome};
use crate::output;
use crate::source::{Source, parse_magnet, read_torrent};
use crate::text::escape;
use crate::units::{BinaryBytes, Bytes, count};

/// What to show and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Show {
    pub(crate) source: Source,
    pub(crate) json: bool,
}

impl Show {
    pub(crate) fn run(self) -> Outcome {
        let (json, text) = match &self.source {
            Source::Magnet(link) => {
                let magnet = parse_magnet(link)?;
                (self.json.then(|| magnet_json(&magnet)), magnet_text(&magnet))
            }
            source => {
                let torrent = read_torrent(source)?;
                (self.json.then(|| torrent_json(&torrent)), torrent_text(&torrent))
            }
        };
        match json {
            Some(value) => output::print_json(&value)?,
            None => output::print(text.trim_end())?,
        }
        Ok(Exit::Done)
    }
}

/// The path of a file as it will lie below the download directory.
pub(crate) fn file_path(file: &FileEntry) -> String {
    file.path.join("/")
}

/// The files that a person sees, which padding is not: the number by which each is named, counted from 1, its position
/// among all files, and itself.
pub(crate) fn numbered_files(torrent: &Metainfo) -> impl Iterator<Item = (usize, usize, &FileEntry)> {
    let real = torrent.files().iter().enumerate().filter(|(_, file)| !file.pad);
    real.enumerate().map(|(number, (index, file))| (number + 1, index, file))
}

/// 64 hexadecimal digits.
fn hex(hash: [u8; 32]) -> String {
    hash.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

fn torrent_json(torrent: &Metainfo) -> Value {
    let mut numbers: Vec<Option<usize>> = vec![None; torrent.files().len()];
    numbered_files(torrent).for_each(|(number, index, _)| numbers[index] = Some(number));
    let file = |(file, number): (&FileEntry, Option<usize>)| json!({ "number": number, "path": file_path(file), "length": file.length, "pad": file.pad });
    json!({
        "name": torrent.name(),
        "info_hash_v1": torrent.info_hash_v1().map(|hash| hash.to_string()),
        "info_hash_v2": torrent.info_hash_v2().map(hex),
        "piece_length": torrent.piece_length(),
        "pieces": torrent.piece_count(),
        "total_length": torrent.total_length(),
        "files": torrent.files().iter().zip(numbers).map(file).collect::<Vec<_>>(),
        "trackers": torrent.trackers(),
        "web_seeds": torrent.web_seeds(),
        "private": torrent.is_private(),
        "comment": torrent.comment(),
        "created_by": torrent.created_by(),
        "creation_date": torrent.creation_date(),
    })
}

/// The same fields; what only the torrent itself can tell is null.
fn magnet_json(magnet: &Magnet) -> Value {
    json!({
        "name": magnet.name,
        "info_hash_v1": magnet.info_hash_v1().map(|hash| hash.to_string()),
        "info_hash_v2": magnet.info_hash_v2().map(hex),
        "piece_length": null,
        "pieces": null,
        "total_length": magnet.length,
        "files": null,
        "trackers": magnet.trackers.iter().map(|url| [url]).collect::<Vec<_>>(),
        "web_seeds": magnet.web_seeds,
        "private": null,
        "comment": null,
        "created_by": null,
        "creation_date": null,
    })
}

/// Lines of a label and a value.
#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, label: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{label:<13} {value}");
    }

    fn optional(&mut self, label: &str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.row(label, value);
        }
    }
}

fn torrent_text(torrent: &Metainfo) -> String {
    let mut table = Table::default();
    table.row("name", escape(torrent.name()));
    table.optional("info hash v1", torrent.info_hash_v1());
    table.optional("info hash v2", torrent.info_hash_v2().map(hex));
    let files = count(numbered_files(torrent).count() as u64, "file");
    let bytes = torrent.content_length();
    table.row("content", format_args!("{} ({bytes} bytes) in {files}", Bytes(bytes)));
    let piece_length = BinaryBytes(torrent.piece_length().into());
    table.row("pieces", format_args!("{} of {piece_length}", torrent.piece_count()));
    table.row("private", if torrent.is_private() { "yes: peers from its trackers only" } else { "no" });
    table.optional("comment", torrent.comment().map(escape));
    table.optional("created by", torrent.created_by().map(escape));
    table.optional("created", torrent.creation_date().map(date));
    for (tier, urls) in torrent.trackers().iter().enumerate() {
        let urls: Vec<_> = urls.iter().map(|url| escape(url)).collect();
        table.row(&format!("tracker {}", tier + 1), urls.join("  "));
    }
    torrent.web_seeds().iter().for_each(|url| table.row("web seed", escape(url)));
    if torrent.is_multi_file() {
        table.row("files", "");
        for (number, _, file) in numbered_files(torrent) {
            let link = file.symlink.as_ref().map(|to| format!(" -> {}", escape(&to.join("/"))));
            let path = escape(&file_path(file));
            let _ = writeln!(table.0, "{number:>6} {:>16}  {path}{}", file.length, link.unwrap_or_default());
        }
    }
    table.0
}

fn magnet_text(magnet: &Magnet) -> String {
    let mut table = Table::default();
    table.optional("name", magnet.name.as_deref().map(escape));
    table.optional("info hash v1", magnet.info_hash_v1());
    table.optional("info hash v2", magnet.info_hash_v2().map(hex));
    table.optional("content", magnet.length.map(|bytes| format!("{} ({bytes} bytes)", Bytes(bytes))));
    magnet.trackers.iter().for_each(|url| table.row("tracker", escape(url)));
    magnet.web_seeds.iter().for_each(|url| table.row("web seed", escape(url)));
    magnet.peers.iter().for_each(|peer| table.row("peer", escape(peer)));
    for range in &magnet.select_only {
        table.row("only files", format_args!("{} to {}", range.start(), range.end()));
    }
    table.0
}

/// Seconds since 1970 as a date in UTC.
fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years are counted from March, so that the leap day is the last of its year (Hinnant, chrono-compatible
    // low-level date algorithms): eras of 400 years are 146,097 days.
    let from_era_zero = i128::from(days) + 719_468;
    let (era, day_of_era) = (from_era_zero.div_euclid(146_097), from_era_zero.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_785_541_147), "2026-07-31 23:39:07 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert!(date(i64::MAX).starts_with("292277026596-12-04"), "{}", date(i64::MAX));
    }

    #[test]
    fn a_magnet_has_every_field_of_a_torrent() {
        let link = format!("magnet:?xt=urn:btih:{}&tr=http://a/b&dn=x", "0".repeat(40));
        let magnet = magnet_json(&Magnet::parse(&link).expect("a link"));
        let builder = ringtide_proto::metainfo::TorrentBuilder::single_file("x", 1, 16384);
        let torrent = builder.build(&[[0; 20]]).expect("a torrent");
        let torrent = torrent_json(&Metainfo::parse(&torrent).expect("a torrent"));
        let keys = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        assert_eq!(keys(&magnet), keys(&torrent));
        assert_eq!(magnet["trackers"], json!([["http://a/b"]]));
    }
}
