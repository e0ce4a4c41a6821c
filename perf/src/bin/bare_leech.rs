//! The command around [`BareLeech`]: arguments, the clock, and what is told at the end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use ringtide_perf::bare_leech::{BareLeech, Output, Work};
use ringtide_perf::one_file::OneFile;
use ringtide_perf::usage::Usage;
use ringtide_proto::metainfo::Metainfo;
use serde_json::{Map, Value};

/// Fetch one image from seeds as cheaply as the machine can.
///
/// A yardstick: what a client takes beyond this is what being a client costs it. Prints one line at the end: wall time from
/// before the first connection to the last byte received, verified or written; CPU time and context switches
/// of the process.
#[derive(Debug, Parser)]
#[command(name = "bare_leech", max_term_width = 110)]
struct Options {
    /// The torrent, of a single file.
    #[arg(long, value_name = "FILE")]
    torrent: PathBuf,
    /// A seed; several share the pieces evenly.
    #[arg(long = "peer", value_name = "ADDR", required = true)]
    peers: Vec<SocketAddr>,
    /// How much of a client's work is done.
    #[arg(long, value_enum, default_value_t = Mode::Hash)]
    mode: Mode,
    /// The file to write; with --mode write.
    #[arg(long, value_name = "FILE", required_if_eq("mode", "write"))]
    out: Option<PathBuf>,
    /// Write past the page cache.
    #[arg(long, requires = "out")]
    direct: bool,
    /// Blocks that are asked of each peer at a time.
    #[arg(long, value_name = "BLOCKS", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=4000))]
    depth: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Receive blocks and discard them.
    Receive,
    /// Receive and verify pieces.
    Hash,
    /// Receive, verify and write pieces.
    Write,
}

fn main() -> ExitCode {
    match leech(&Options::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bare_leech: {message}");
            ExitCode::FAILURE
        }
    }
}

fn leech(options: &Options) -> Result<String, String> {
    let torrent = read_torrent(&options.torrent)?;
    let work = work(options, torrent.layout.total_len())?;
    let leech = BareLeech { torrent, depth: options.depth.into(), work };
    let begun = Instant::now();
    let bytes = leech.run(&options.peers).map_err(|error| error.to_string())?;
    let wall_s = begun.elapsed().as_secs_f64();
    let told = told(options, bytes, wall_s);
    Ok(if options.json { Value::Object(told).to_string() } else { in_words(&told) })
}

fn read_torrent(path: &Path) -> Result<OneFile, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let torrent = Metainfo::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    OneFile::new(&torrent).map_err(|error| format!("{}: {error}", path.display()))
}

fn work(options: &Options, len: u64) -> Result<Work, String> {
    Ok(match (options.mode, &options.out) {
        (Mode::Receive, _) => Work::Receive,
        (Mode::Write, Some(path)) => {
            let output = Output::create(path, len, options.direct);
            Work::Write(output.map_err(|error| format!("cannot create {}: {error}", path.display()))?)
        }
        _ => Work::Hash,
    })
}

fn told(options: &Options, bytes: u64, wall_s: f64) -> Map<String, Value> {
    let mut told = Map::new();
    let mode = options.mode.to_possible_value().map(|mode| mode.get_name().to_owned());
    told.insert("mode".to_owned(), mode.into());
    told.insert("peers".to_owned(), options.peers.len().into());
    told.insert("bytes".to_owned(), bytes.into());
    told.insert("wall_s".to_owned(), wall_s.into());
    told.extend(Usage::so_far().to_json());
    told
}

fn in_words(told: &Map<String, Value>) -> String {
    let words: Vec<_> = told.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.join(" ").replace('"', "")
}
