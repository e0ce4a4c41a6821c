//! The command line: what was typed, and what will be done.
//!
//! `Typed` is clap's; [`Plan`] is valid: what it says can be carried out without looking at options again. Owns
//! the help. Does nothing.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::create::{Create, Output};
use crate::exit::Failure;
use crate::show::Show;
use crate::source::Source;
use crate::units::parse_size;
use crate::verify::Verify;

/// What will be done.
#[derive(Debug)]
pub(crate) enum Plan {
    Create(Create),
    Show(Show),
    Verify(Verify),
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 other failure, 2 usage, 3 bad input (torrent, magnet, path), 4 verify found bad or missing data, \
5 no peers or network, 6 deadline passed, 7 disk, 8 kernel or permission, 130 or 143 stopped by a signal (the same \
command continues).

Sizes are written 1GiB, 512KiB, 1MB or 1048576; durations 45s, 10m, 1h30m or 2d. Results go to stdout, everything else to \
stderr. Ctrl-C once saves and leaves the swarm, twice quits at once.";

/// Moves large images to many hosts over BitTorrent, at the speed of the hardware.
#[derive(Debug, Parser)]
#[command(name = "ringtide", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Typed {
    #[command(subcommand)]
    command: TypedCommand,
    /// Say more on stderr: -v what happens, -vv in detail, -vvv everything.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
enum TypedCommand {
    Create(TypedCreate),
    Show(TypedShow),
    Verify(TypedVerify),
}

/// Make a torrent of a file or directory.
///
/// The same content makes the same torrent: files are sorted, and no date is written unless SOURCE_DATE_EPOCH is
/// set. Symbolic links to files within the content count as files, others are skipped.
#[derive(Debug, Args)]
struct TypedCreate {
    /// The file or directory to share.
    path: PathBuf,
    /// Where to write the torrent; - is stdout [default: NAME.torrent].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// URL of a tracker; each is a tier of its own, asked in this order.
    #[arg(short, long = "announce", value_name = "URL", value_parser = parse_tracker)]
    announce: Vec<String>,
    /// URL of a web seed.
    #[arg(short, long = "web-seed", value_name = "URL", value_parser = parse_web_seed)]
    web_seed: Vec<String>,
    /// Bytes of a piece: a power of two from 16KiB to 64MiB, or auto: at most about 2,000 pieces of at least
    /// 256 KiB.
    #[arg(long, value_name = "SIZE", default_value = "auto", value_parser = parse_piece_length)]
    piece_length: PieceLength,
    /// Name of the file or directory that a download makes [default: the last part of PATH].
    #[arg(long)]
    name: Option<String>,
    /// Text for people.
    #[arg(long)]
    comment: Option<String>,
    /// Peers are to be found through the trackers only (BEP 27).
    #[arg(long)]
    private: bool,
}

/// Show what a torrent or magnet link says.
#[derive(Debug, Args)]
struct TypedShow {
    /// A torrent file, - for stdin, or a magnet link.
    torrent: OsString,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Compare content on disk with its torrent.
///
/// Ends with 0 when every piece is right, with 4 when something is wrong or missing. The JSON counts a piece as bad when
/// its bytes are wrong or not all there, and gb_per_s counts bytes that were read: holes of sparse files are
/// skipped.
#[derive(Debug, Args)]
struct TypedVerify {
    /// A torrent file, or - for stdin.
    torrent: OsString,
    /// The directory that holds the content, or the content itself.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--piece-length` says; `None` is auto.
#[derive(Clone, Copy, Debug)]
struct PieceLength(Option<u32>);

impl Typed {
    /// What will be done. Environment variables that belong to the command line are read here.
    pub(crate) fn plan(self) -> Result<Plan, Failure> {
        Ok(match self.command {
            TypedCommand::Create(typed) => Plan::Create(typed.plan(std::env::var_os("SOURCE_DATE_EPOCH"))?),
            TypedCommand::Show(typed) => {
                Plan::Show(Show { source: file_or_magnet(&typed.torrent)?, json: typed.json })
            }
            TypedCommand::Verify(typed) => {
                let torrent = Source::new(&typed.torrent);
                Plan::Verify(Verify { torrent, path: typed.path, json: typed.json })
            }
        })
    }
}

impl TypedCreate {
    fn plan(self, source_date_epoch: Option<OsString>) -> Result<Create, Failure> {
        let output = match self.output {
            None => Output::Default,
            Some(path) if path.as_os_str() == "-" => Output::Stdout,
            Some(path) => Output::File(path),
        };
        Ok(Create {
            path: self.path,
            output,
            trackers: self.announce,
            web_seeds: self.web_seed,
            piece_length: self.piece_length.0,
            name: self.name,
            comment: self.comment,
            private: self.private,
            creation_date: source_date_epoch.map(|text| parse_epoch(&text)).transpose()?,
        })
    }
}

fn file_or_magnet(typed: &OsString) -> Result<Source, Failure> {
    match Source::new(typed) {
        Source::Url(_) => {
            Err(Failure::usage("show reads files and magnet links; download the torrent first"))
        }
        source => Ok(source),
    }
}

/// <https://reproducible-builds.org/specs/source-date-epoch/>: a malformed value is an error.
fn parse_epoch(text: &OsString) -> Result<i64, Failure> {
    let seconds = text.to_str().and_then(|text| text.parse::<i64>().ok()).filter(|seconds| *seconds >= 0);
    seconds.ok_or_else(|| {
        Failure::usage(format_args!(
            "SOURCE_DATE_EPOCH is {text:?}: it must be a number of seconds since 1970"
        ))
    })
}

fn parse_piece_length(text: &str) -> Result<PieceLength, String> {
    const RANGE: std::ops::RangeInclusive<u64> = 16 << 10..=ringtide_proto::limits::MAX_PIECE_LEN as u64;
    if text == "auto" {
        return Ok(PieceLength(None));
    }
    let length = parse_size(text)?;
    match u32::try_from(length) {
        Ok(fits) if RANGE.contains(&length) && length.is_power_of_two() => Ok(PieceLength(Some(fits))),
        _ => Err("a piece is a power of two from 16KiB to 64MiB, or auto".to_owned()),
    }
}

fn parse_tracker(text: &str) -> Result<String, String> {
    parse_url(text, &["http", "https", "udp"])
}

fn parse_web_seed(text: &str) -> Result<String, String> {
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
    use clap::CommandFactory;

    use super::*;

    fn plan(words: &[&str]) -> Plan {
        let words = ["ringtide"].iter().chain(words);
        Typed::try_parse_from(words).expect("makes sense").plan().expect("is valid")
    }

    fn refused(words: &[&str]) -> String {
        let words = ["ringtide"].iter().chain(words);
        Typed::try_parse_from(words).expect_err("makes no sense").to_string()
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_definition() {
        Typed::command().debug_assert();
    }

    #[test]
    fn create_is_understood() {
        let words =
            ["create", "dir", "-o", "-", "-a", "http://a/1", "-a", "udp://b:1/", "--piece-length", "1MiB"];
        let Plan::Create(create) = plan(&words) else { panic!("is create") };
        assert_eq!(create.output, Output::Stdout);
        assert_eq!(create.trackers, ["http://a/1", "udp://b:1/"]);
        assert_eq!(create.piece_length, Some(1 << 20));
        assert!(!create.private);
    }

    #[test]
    fn nonsense_says_what_would_make_sense() {
        assert!(
            refused(&["create", "x", "--piece-length", "1000"])
                .contains("a power of two from 16KiB to 64MiB")
        );
        assert!(refused(&["create", "x", "--piece-length", "128MiB"]).contains("a power of two"));
        assert!(refused(&["create", "x", "-a", "tracker.example"]).contains("a URL begins with http://"));
    }

    #[test]
    fn a_date_must_be_one() {
        let typed = |epoch: &str| match Typed::try_parse_from(["ringtide", "create", "x"])
            .expect("is fine")
            .command
        {
            TypedCommand::Create(typed) => typed.plan(Some(epoch.into())).map(|create| create.creation_date),
            _ => panic!("is create"),
        };
        assert_eq!(typed("1700000000"), Ok(Some(1_700_000_000)));
        assert!(typed("yesterday").is_err_and(|failure| failure.message.contains("SOURCE_DATE_EPOCH")));
        assert!(typed("-1").is_err());
    }
}
