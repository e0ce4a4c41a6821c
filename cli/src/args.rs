//! The command line: what was typed, and what will be done.
//!
//! `Typed` is clap's; [`Plan`] is valid: what it says can be carried out without looking at options again. Owns
//! the help. Does nothing.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ringtide_engine::driver::IoChoice;
use ringtide_engine::storage::DirectChoice;
use ringtide_proto::limits::{MAX_PEERS, MAX_PIECE_LEN};

use crate::bench::Loopback;
use crate::create::{Create, Output};
use crate::exit::Failure;
use crate::get::Get;
use crate::seed::Seed;
use crate::show::Show;
use crate::source::Source;
use crate::swarm::{Listen, Options};
use crate::units::{parse_duration, parse_size};
use crate::verify::Verify;

/// What will be done.
#[derive(Debug)]
pub(crate) enum Plan {
    Create(Create),
    Show(Show),
    Verify(Verify),
    Get(Get),
    Seed(Seed),
    Loopback(Loopback),
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
    /// End when the process of that id does, which must be the one that started this one.
    #[arg(long, value_name = "PID", global = true, hide = true)]
    pub(crate) parent: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum TypedCommand {
    Create(TypedCreate),
    Show(TypedShow),
    Verify(TypedVerify),
    Get(TypedGet),
    Seed(TypedSeed),
    #[command(subcommand)]
    Bench(TypedBench),
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

/// Download torrents.
///
/// Ends with 0 when everything is verified and flushed to disk. An interrupted download continues: run the same command
/// again. Without a --deadline it gives up (exit code 5) when no peer is connected and nothing arrives for 30 seconds
/// after all trackers failed, or where there is none, and for five minutes otherwise.
#[derive(Debug, Args)]
struct TypedGet {
    /// Torrent files, - for stdin, or their URLs (http:// or https://).
    #[arg(required = true, value_name = "TORRENT|URL")]
    torrents: Vec<OsString>,
    /// The directory to download into, which is made, or a block device for a torrent of one file.
    #[arg(short, long, value_name = "DIR|DEVICE")]
    output: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Go on giving what was downloaded for so long.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    seed_for: Option<Duration>,
    /// Give up (exit code 6) when it takes longer than this, and not before.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// Write around the page cache: where it pays, always, or never.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    direct: TypedDirect,
    /// Print a summary in JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Give torrents from disk until stopped.
///
/// Accepts peers at once and offers each piece as soon as it is verified. What is missing or wrong is not offered.
#[derive(Debug, Args)]
struct TypedSeed {
    /// Torrent files, or - for stdin.
    #[arg(required = true, value_name = "TORRENT")]
    torrents: Vec<OsString>,
    /// The directory that holds the content, or the content itself.
    #[arg(short, long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// Serve an HTTP tracker for these torrents at this address, like 0.0.0.0:6969.
    #[arg(long, value_name = "ADDR")]
    track: Option<SocketAddr>,
    /// Print JSON: a line when peers are accepted, one when a torrent is verified, one at the end.
    #[arg(long)]
    json: bool,
}

/// What `get` and `seed` have in common.
#[derive(Debug, Args)]
struct EngineArgs {
    /// A peer to connect to, as host:port; may be repeated.
    #[arg(long = "peer", value_name = "ADDR", value_parser = parse_peer)]
    peers: Vec<String>,
    /// Accept peers there; may be repeated [default: all addresses, IPv4 and IPv6, at port 6881 or the next free].
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Threads that carry peers, 1 to 16 [default: by the number of CPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    shards: Option<u8>,
    /// What carries sockets and files: uring, epoll, or auto: uring where the kernel allows it.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    io: IoChoice,
    /// Memory for pieces in assembly; at least four pieces are needed.
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = parse_size)]
    memory: u64,
    /// Most peers at once, of all torrents together.
    #[arg(long, value_name = "N", default_value_t = MAX_PEERS as u64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_peers: u64,
}

/// Measure this machine.
#[derive(Debug, Subcommand)]
enum TypedBench {
    Loopback(TypedLoopback),
}

/// Run a tracker, a seed and a leech over loopback and measure them.
///
/// Makes an image of random bytes in memory (/dev/shm), or in the temporary directory where memory is short, fetches it
/// through the whole engine, compares it byte for byte and removes it. Reports GB/s and the CPU-seconds per GB
/// of both sides; the seed's do not count verifying its image at the start. The tracker runs in the seed.
#[derive(Debug, Args)]
struct TypedLoopback {
    /// Bytes of the image [default: 2GiB, or what there is room for].
    #[arg(long, value_name = "SIZE", value_parser = parse_image_size)]
    size: Option<u64>,
    /// Bytes of a piece, or auto, as for create.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_piece_length)]
    piece_length: PieceLength,
    /// What carries sockets and files of both sides: uring, epoll or auto.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    io: IoChoice,
    /// Threads that carry peers, on each side [default: by the number of CPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    shards: Option<u8>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `--direct`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TypedDirect {
    Auto,
    On,
    Off,
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
            TypedCommand::Get(typed) => Plan::Get(typed.plan()),
            TypedCommand::Seed(typed) => Plan::Seed(typed.plan()),
            TypedCommand::Bench(TypedBench::Loopback(typed)) => Plan::Loopback(Loopback {
                size: typed.size,
                piece_length: typed.piece_length.0,
                io: typed.io,
                shards: typed.shards,
                json: typed.json,
            }),
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

impl TypedGet {
    fn plan(self) -> Get {
        let direct = match self.direct {
            TypedDirect::Auto => DirectChoice::Auto,
            TypedDirect::On => DirectChoice::On,
            TypedDirect::Off => DirectChoice::Off,
        };
        let (peers, options) = self.engine.plan(direct);
        Get {
            torrents: self.torrents.iter().map(|typed| Source::new(typed)).collect(),
            target: self.output,
            peers,
            options,
            seed_for: self.seed_for,
            deadline: self.deadline,
            json: self.json,
        }
    }
}

impl TypedSeed {
    fn plan(self) -> Seed {
        let (peers, options) = self.engine.plan(DirectChoice::Auto);
        Seed {
            torrents: self.torrents.iter().map(|typed| Source::new(typed)).collect(),
            dir: self.dir,
            peers,
            track: self.track,
            options,
            json: self.json,
        }
    }
}

impl EngineArgs {
    /// The peers, and how the engine is to run.
    fn plan(self, direct: DirectChoice) -> (Vec<String>, Options) {
        let listen = if self.listen.is_empty() { Listen::Default } else { Listen::At(self.listen) };
        let options = Options {
            listen,
            shards: self.shards,
            io: self.io,
            memory: self.memory,
            max_peers: usize::try_from(self.max_peers).unwrap_or(MAX_PEERS),
            direct,
        };
        (self.peers, options)
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

fn parse_image_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("an image has at least one byte".to_owned()),
        size => Ok(size),
    }
}

/// Names are looked up later; here it must only look like `host:port` or `[v6]:port`.
fn parse_peer(text: &str) -> Result<String, String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(text.to_owned()),
        _ => Err("a peer is written host:port, 192.0.2.1:6881 or [2001:db8::1]:6881".to_owned()),
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
        let get = |words: &[&str]| refused(&[&["get", "x", "-o", "d"], words].concat());
        assert!(get(&["--shards", "17"]).contains("1..=16"));
        assert!(get(&["--peer", "h"]).contains("a peer is written host:port"));
        assert!(get(&["--io", "kqueue"]).contains("choose auto, uring or epoll"));
        assert!(get(&["--memory", "lots"]).contains("write it like 1GiB"));
        assert!(get(&["--seed-for", "ever"]).contains("write it like 45s"));
        assert!(refused(&["get", "x"]).contains("--output"));
    }

    #[test]
    fn get_is_understood() {
        let words =
            ["get", "a.torrent", "https://h/b.torrent", "-o", "d", "--peer", "[::1]:5", "--peer", "h:6881"];
        let more = [
            "--seed-for",
            "1h30m",
            "--deadline",
            "90s",
            "--memory",
            "64MiB",
            "--io",
            "epoll",
            "--direct",
            "off",
        ];
        let Plan::Get(get) = plan(&[&words[..], &more].concat()) else { panic!("is get") };
        assert_eq!(
            get.torrents,
            [Source::File("a.torrent".into()), Source::Url("https://h/b.torrent".into())]
        );
        assert_eq!(get.peers, ["[::1]:5", "h:6881"]);
        assert_eq!(
            (get.seed_for, get.deadline),
            (Some(Duration::from_secs(5400)), Some(Duration::from_secs(90)))
        );
        let options = Options {
            listen: Listen::Default,
            shards: None,
            io: IoChoice::Epoll,
            memory: 64 << 20,
            max_peers: MAX_PEERS,
            direct: DirectChoice::Off,
        };
        assert_eq!(get.options, options);
    }

    #[test]
    fn seed_is_understood() {
        let words =
            ["seed", "a", "-d", "dir", "--track", "0.0.0.0:6969", "--listen", "[::1]:0", "--shards", "3"];
        let Plan::Seed(seed) = plan(&words) else { panic!("is seed") };
        assert_eq!(seed.options.listen, Listen::At(vec!["[::1]:0".parse().expect("an address")]));
        assert_eq!((seed.options.shards, seed.options.memory), (Some(3), ringtide_engine::DEFAULT_MEMORY));
        assert_eq!(seed.track, Some("0.0.0.0:6969".parse().expect("an address")));
    }

    #[test]
    fn the_bench_is_understood() {
        let Plan::Loopback(bench) = plan(&["bench", "loopback", "--size", "64MiB"]) else {
            panic!("is bench")
        };
        assert_eq!((bench.size, bench.piece_length), (Some(64 << 20), Some(1 << 20)));
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
