//! The command line as it is typed: clap's part, and the help. What it means is `plan`, single values are `values`.

mod plan;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use ringtide_engine::driver::IoChoice;
use ringtide_proto::limits::{MAX_PEERS, PEERS_PER_TORRENT};
use ringtide_proto::torrent::Rule;

use crate::bench::{MAX_CONNECTIONS, MAX_LEECHES};
use crate::get::FileSpec;
use crate::simulate::{MAX_HOSTS, MAX_SEEDS};
use crate::units::{parse_duration, parse_size};
pub(crate) use plan::Plan;
use values::{
    PieceLength, parse_fraction, parse_image_size, parse_link_rate, parse_memory_size, parse_message_size,
    parse_peer, parse_piece_length, parse_positive_duration, parse_rate, parse_round_trip, parse_server,
    parse_some_piece_length, parse_tracker, parse_web_seed, rule,
};

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
    Simulate(TypedSimulate),
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
/// Ends with 0 when everything that was asked for is verified and flushed to disk. An interrupted download continues: run the same command
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
    /// Download these files only: numbers as show prints them (1,3-5 or 7-), or a pattern for the path of files or of
    /// directories with all in them (* for any characters, ? for one); may be repeated. A piece with parts of a file
    /// that is not wanted is fetched whole, and what is of the other file kept there, in a sparse file: a later download
    /// of more goes on from it.
    #[arg(long, value_name = "FILES", value_parser = FileSpec::parse)]
    files: Vec<FileSpec>,
    /// Do not download these files, written as for --files. Where one shares a piece with a file that is downloaded, that part
    /// of it is written all the same, over what lies there.
    #[arg(long, value_name = "FILES", value_parser = FileSpec::parse)]
    skip: Vec<FileSpec>,
    /// Fetch these files before the others, written as for --files.
    #[arg(long, value_name = "FILES", value_parser = FileSpec::parse)]
    first: Vec<FileSpec>,
    /// Go on giving what was downloaded for so long.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    seed_for: Option<Duration>,
    /// Give up (exit code 6) when it takes longer than this, and not before.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    deadline: Option<Duration>,
    /// Fetch pieces in order, the first missing one first, for content that is read as it comes. Where many hosts do so, a seed
    /// has each fetch some pieces that come later, of the next 256 or quarter of all, to have something to give the others;
    /// without it each fetches what is rarest.
    #[arg(long)]
    sequential: bool,
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
    /// Give each piece once before any a second time (BEP 16): for a seed whose line is the bottleneck, or is paid for. Peers
    /// are told of a piece at a time, and of the next when another has the last; it takes a little longer. Without it, peers
    /// that know suggestions (BEP 6) get different pieces, too.
    #[arg(long)]
    super_seed: bool,
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
    /// Threads that hash, 1 to 64 [default: by the number of CPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    hash_threads: Option<u8>,
    /// Hash each piece as soon as it is here, rather than wait a few milliseconds to hash it with others: costs CPU, and
    /// others can be given it sooner.
    #[arg(long)]
    latency: bool,
    /// Send blocks without copying them (io_uring's SEND_ZC): gains with network cards that gather and checksum, at tens of
    /// Gbit/s, and needs locked memory (ulimit -l); over loopback and veth the kernel copies all the same.
    #[arg(long)]
    zero_copy: bool,
    /// What carries sockets and files: uring, epoll, or auto: uring where the kernel allows it.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    io: IoChoice,
    /// Memory for pieces; more where four of them need it.
    #[arg(long, value_name = "SIZE", default_value = "96MiB", value_parser = parse_size)]
    memory: u64,
    /// Most peers at once, of all torrents together.
    #[arg(long, value_name = "N", default_value_t = MAX_PEERS as u64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_peers: u64,
    /// Most peers of one torrent at once.
    #[arg(long, value_name = "N", default_value_t = PEERS_PER_TORRENT as u64, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    torrent_peers: u64,
    /// Most that is given, per second, of all torrents together: 50MiB, or 400Mbit.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    upload_limit: Option<NonZeroU64>,
    /// Most that is fetched, per second, of all torrents together.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    download_limit: Option<NonZeroU64>,
    /// Most that is given of each torrent, per second.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    torrent_upload_limit: Option<NonZeroU64>,
    /// Most that is fetched of each torrent, per second.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    torrent_download_limit: Option<NonZeroU64>,
    /// For fleets in racks: have each piece come into a rack about once, and go round there. Hosts whose address begins with the
    /// same BITS (IPv6: 64) are taken to stand in one rack. For all hosts of a fleet, its seeds too.
    #[arg(long, value_name = "BITS", num_args = 0..=1, require_equals = true, default_missing_value = "24", value_parser = clap::value_parser!(u8).range(1..=32))]
    lan: Option<u8>,
    /// For bench: measure, and say each second in JSON how it goes.
    #[arg(long, hide = true)]
    measure: bool,
}

/// Forecast how long it takes until many hosts have an image.
///
/// Plays the swarm in virtual time: the same peer selection, piece selection and choking as get and seed run, on hosts and
/// links that are modelled. Answers when half of the hosts, 99 % of them and the last one are done, how close that is to the
/// bound that no way of distribution can beat, and how much the seeds send. The same question gets the same answer.
#[derive(Debug, Args)]
#[command(after_long_help = SIMULATED)]
struct TypedSimulate {
    /// Bytes of the image, up to 4TiB.
    #[arg(long, value_name = "SIZE", value_parser = parse_image_size)]
    size: u64,
    /// Hosts that want it, and have nothing of it yet: 1 to 20,000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_HOSTS.into()))]
    hosts: u32,
    /// Hosts that have it: 1 to 1,000.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_SEEDS.into()))]
    seeds: u32,
    /// What each host can send, and receive at the same time, in payload.
    #[arg(long, value_name = "RATE", default_value = "10Gbit", value_parser = parse_link_rate)]
    link: u64,
    /// The same of each seed [default: as --link].
    #[arg(long, value_name = "RATE", value_parser = parse_link_rate)]
    seed_link: Option<u64>,
    /// Round trip between two hosts, to 10s.
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = parse_round_trip)]
    latency: Duration,
    /// Part of the hosts that take and give nothing: 0 to 1.
    #[arg(long, value_name = "PART", default_value = "0", value_parser = parse_fraction)]
    free_riders: usize,
    /// Part of the hosts that claim to have everything and give wrong data, one block in ten: 0 to 1.
    #[arg(long, value_name = "PART", default_value = "0", value_parser = parse_fraction)]
    poisoners: usize,
    /// Pieces that the image is modelled as, 1 to 100,000: more take longer and show more [default: 250 to 2,000, the fewer
    /// the more hosts].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pieces: Option<u32>,
    /// The hosts stand in so many racks, in turn, 2 to 200, with a --rack-link each.
    #[arg(long, value_name = "N", requires = "rack_link", value_parser = clap::value_parser!(u8).range(2..=200))]
    racks: Option<u8>,
    /// What goes between a rack and all others, each way, of all its hosts together.
    #[arg(long, value_name = "RATE", requires = "racks", value_parser = parse_link_rate)]
    rack_link: Option<u64>,
    /// Hosts mind racks, as get and seed do with --lan.
    #[arg(long)]
    lan: bool,
    /// Whom seeds and finished hosts serve: those who pass on what they get, as seed does; everybody in turn.
    #[arg(long, value_name = "POLICY", default_value = "rate")]
    seeding: TypedSeeding,
    /// Which piece a host begins next: the rarest, as get does; the first; any.
    #[arg(long, value_name = "POLICY", default_value = "rarest")]
    policy: TypedPolicy,
    /// Leave out a rule of peer and piece selection on all hosts, to see what it is worth; may be given again.
    #[arg(long, value_name = "RULE", value_parser = rule())]
    without: Vec<Rule>,
    /// Decides what is left to chance.
    #[arg(long, value_name = "N", default_value_t = 1)]
    rng_seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `--seeding`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TypedSeeding {
    Rate,
    Turns,
}

/// `--policy`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TypedPolicy {
    Rarest,
    Sequential,
    Random,
}

const SIMULATED: &str = "\
Modelled: each host's line up and down, full duplex, shared evenly by its connections; latency; 60 peers to a host, chosen by \
a tracker; hosts that all come within 0.1s, and give until the last is done; a disk and hash workers that take some \
milliseconds a piece; 64 pieces in memory. Blocks are coarse: four to a piece.

Not modelled: CPU, memory and disks as bounds (ringtide bench measures those), congestion inside the network, TCP's slow \
start, packets lost, the time to verify a seed's copy, and what is sent beside payload. Set --link to what iperf3 measures, and \
no higher than what one host can write.

The bound is the largest of: the image over the seeds' links; the image over one host's link; all copies over all links up; with racks, \
the image over the link of one without a seed. It \
counts honest hosts, as do all times. Exit code 1 where the swarm does not end.

The JSON has bound_s, p50_s, p99_s and last_s (when so many honest hosts are done, from their start on), seed_copies (what the \
seeds sent, in copies), first_copy_copies (the same when every piece was elsewhere once), rack_copies (what went from rack to \
rack), duplicate_bytes (of all honest hosts), \
fairness (Jain's index of their rates), honest_hosts, bans, pieces, piece_bytes, steps, trace_hash and rng_seed.";

/// Measure this machine.
#[derive(Debug, Subcommand)]
enum TypedBench {
    Loopback(TypedLoopback),
    Net(TypedNet),
    Disk(TypedDisk),
    Swarm(TypedSwarm),
    Hash(TypedHash),
}

const REPORT_KEYS: &str = "\
The JSON is an object with the keys format (ringtide-bench), format_version, bench, version, parameters (what was asked \
for), the figures (bytes, wall_s, gb_per_s and CPU-seconds per GB of each side), intervals, sides (of each: wall_s, bytes, \
cpu_s, cpu_s_per_gb, threads, distributions with count, mean, p50, p90, p99, p99_9 and max, tcp, host), bounds, bound, \
bound_gb_per_s, efficiency, verdict (bottleneck, why) and, with --compare, comparison. Names end in their unit.";

/// Run a tracker, a seed and a leech over loopback and measure them.
///
/// Makes an image of random bytes in memory (/dev/shm), or in the temporary directory where memory is short, fetches it
/// through the whole engine, compares it byte for byte and removes it. Reports GB/s, latencies, the CPU-seconds per GB
/// of both sides and their threads, and what holds it up; the seed's do not count verifying its image at the start. The
/// tracker runs in the first seed.
#[derive(Debug, Args)]
#[command(after_long_help = REPORT_KEYS)]
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
    /// Seeds of the image, each a process.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_CONNECTIONS.into()))]
    peers: u8,
    #[command(flatten)]
    present: PresentArgs,
}

/// Measure how fast content moves between two hosts, with nothing prepared.
///
/// Start ringtide bench net --server on one host and ringtide bench net --client HOST on the other. The server makes content
/// up in memory and gives it; the client fetches it over the whole engine, verifies every piece and throws it away. No disk
/// takes part. The client prints a line each second, then the speed, latencies, CPU-seconds per GB of both sides and their
/// threads, the bound that applies, and what holds it up. With --reverse the server fetches. Each GB is 1,000,000,000 bytes of
/// payload.
///
/// The client connects to the server's port, and to one port behind it for each connection that carries data; the server
/// connects to nobody. Whoever reaches the server can have it send or fetch as fast as it can: open it to those who measure,
/// and no longer than they do.
#[derive(Debug, Args)]
#[command(after_long_help = REPORT_KEYS, group(clap::ArgGroup::new("end").required(true).args(["server", "client"])))]
struct TypedNet {
    /// Wait for clients and measure with them, one after the other, until Ctrl-C.
    #[arg(long)]
    server: bool,
    /// Measure with the server there, at port 6900 unless another is named.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_server)]
    client: Option<String>,
    /// Where the server waits; data flows at the ports behind it, or at any where it is 0 [default: all addresses at port
    /// 6900].
    #[arg(long, value_name = "ADDR", conflicts_with = "client")]
    listen: Option<SocketAddr>,
    /// End the server after one test.
    #[arg(long, conflicts_with = "client")]
    once: bool,
    /// Measure for so long.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_positive_duration, conflicts_with_all = ["size", "server"])]
    time: Duration,
    /// Move so many bytes, rounded up to whole pieces, instead of measuring for a time.
    #[arg(long, value_name = "SIZE", value_parser = parse_image_size, conflicts_with = "server")]
    size: Option<u64>,
    /// Leave so much of the beginning out of the figures; --time begins behind it.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration, conflicts_with = "server")]
    omit: Duration,
    /// Connections that carry data, 1 to 32: each is given by an engine of its own with one shard, and fetched by one engine.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_CONNECTIONS.into()), conflicts_with = "server")]
    peers: u8,
    /// Bytes of a piece: a power of two from 16KiB to 64MiB.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_some_piece_length, conflicts_with = "server")]
    piece_length: u32,
    /// What the link carries, like 10Gbit, for the bound; needed where the kernel does not know, as with virtual
    /// interfaces.
    #[arg(long, value_name = "RATE", value_parser = parse_link_rate, conflicts_with = "server")]
    link: Option<u64>,
    /// The client gives and the server fetches.
    #[arg(long, conflicts_with = "server")]
    reverse: bool,
    /// Threads that carry peers, where this end fetches, 1 to 16 [default: by the number of CPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    shards: Option<u8>,
    /// What carries sockets: uring, epoll or auto.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    io: IoChoice,
    /// Send blocks without copying them, where this end gives: shows whether a network card gains.
    #[arg(long)]
    zero_copy: bool,
    #[command(flatten)]
    present: PresentArgs,
}

/// Measure how fast a download is written to a directory, and read back.
///
/// Content is made up in memory, fetched over loopback by ringtide get into a directory of its own below DIR, as every
/// download is: verified pieces, past the page cache where that pays, flushed at the end, which counts. Then it is dropped
/// from the page cache and read and hashed as verify does. The file is removed at the end, however it ends. Where the
/// filesystem can write past the page cache, plain large writes of the same size first show what the disk takes; that is
/// one of the bounds.
///
/// Besides the keys below the JSON has direct_bytes, cached_bytes, raw_write_gb_per_s (the plain writes), read_bytes,
/// read_wall_s, read_gb_per_s and read_cpu_s_per_gb; gb_per_s is writing, and write_us how long each piece took.
#[derive(Debug, Args)]
#[command(after_long_help = REPORT_KEYS)]
struct TypedDisk {
    /// A directory on the disk.
    dir: PathBuf,
    /// Bytes to write, rounded up to whole pieces.
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_image_size)]
    size: u64,
    /// Write and read it again until so long has passed; speeds are then of all rounds, latencies of the last.
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    time: Option<Duration>,
    /// Bytes of a piece: a power of two from 16KiB to 64MiB.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_some_piece_length)]
    piece_length: u32,
    /// Write around the page cache: where it pays, always, or never.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    direct: TypedDirect,
    /// What carries sockets and files: uring, epoll or auto.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    io: IoChoice,
    #[command(flatten)]
    present: PresentArgs,
}

/// Run a tracker, a seed and N leeches on this machine and measure them.
///
/// As bench loopback, with N leeches, each a process with a directory of its own, that fetch at the same time and give to
/// each other; who is complete goes on giving until all are. There must be room for the image and all copies. Every copy is
/// compared byte for byte, and all are removed. Reports when the first, the median and the last was complete, the speed of
/// all together, how many copies the seed gave, and CPU-seconds per GB; latencies and threads are those of the leech that
/// was complete in the middle. With more than 4 leeches each has 32MiB for pieces, else as much as get takes by itself.
///
/// Besides the keys below the JSON has first_complete_s, median_complete_s, last_complete_s, hosts_complete, seed_copies,
/// leech_cpu_s_per_gb (giving included), cpu_s_per_gb (the seed too) and hosts (of each: completed_s, bytes, uploaded, cpu_s,
/// cpu_s_per_gb).
#[derive(Debug, Args)]
#[command(after_long_help = REPORT_KEYS)]
struct TypedSwarm {
    /// Leeches, 1 to 64.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MAX_LEECHES.into()))]
    leeches: u8,
    /// Bytes of the image [default: 64MiB to 1GiB, 4GiB with all copies, or what there is room for].
    #[arg(long, value_name = "SIZE", value_parser = parse_image_size)]
    size: Option<u64>,
    /// Bytes of a piece, or auto, as for create.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_piece_length)]
    piece_length: PieceLength,
    /// Threads that carry peers, of each process [default: by the number of CPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    shards: Option<u8>,
    /// What carries sockets and files of all: uring, epoll or auto.
    #[arg(long, value_name = "DRIVER", default_value = "auto")]
    io: IoChoice,
    /// Where the image and its copies lie [default: /dev/shm, or the temporary directory where memory is short].
    #[arg(long, value_name = "DIR")]
    memory_dir: Option<PathBuf>,
    #[command(flatten)]
    present: PresentArgs,
}

/// What the benches that make a report have in common.
#[derive(Debug, Args)]
struct PresentArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write the report as a page of its own to that file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Hold the figures against those of an older report of the same bench, which --json printed.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
}

/// Measure how fast one core hashes.
///
/// Every kernel that the CPU can run hashes 1 to 32 messages together, from the L2 cache, the L3 cache and memory, in turns;
/// the best of five runs counts. The kernel "crate" is the sha1 and sha2 crates, "auto" is what the engine uses, and the choice
/// says which kernel that is for how many messages. RINGTIDE_KERNEL in the environment restricts the choice to the kernels it
/// names, with commas between them.
///
/// The JSON has the keys format, format_version, bench, version, machine, choice, runs, parameters and rows (each with
/// algorithm, kernel, messages, bytes, memory, gb_per_s), and each speed again as a figure to compare, like
/// sha1_auto_16_l2_gb_per_s.
#[derive(Debug, Args)]
struct TypedHash {
    /// Bytes of a message, from 64 to 1MiB.
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = parse_message_size)]
    message: u64,
    /// Bytes of memory to hash, which should be many times the L3 cache; at least 32MiB.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_memory_size)]
    size: u64,
    #[command(flatten)]
    present: PresentArgs,
}

/// `--direct`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TypedDirect {
    Auto,
    On,
    Off,
}
