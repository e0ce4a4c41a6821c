//! What a user of the engine chooses: how it runs, and what to do with a torrent.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::picker::Priority;
use ringtide_proto::torrent::Policy;

use crate::driver::IoChoice;
use crate::storage::DirectChoice;

/// How an engine runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// What carries sockets and files.
    pub io: IoChoice,
    /// Threads that carry peers, 1 to 16; chosen by the number of CPUs where none is given.
    pub shards: Option<u8>,
    /// Threads that hash; chosen by the number of CPUs where none is given.
    pub hash_threads: Option<usize>,
    /// Whether pieces are hashed as soon as they are here, rather than wait a few milliseconds for others to be hashed
    /// with: costs CPU, and answers sooner.
    pub latency: bool,
    /// Whether blocks are sent without a copy (io_uring's SEND_ZC). That gains with a network card that gathers and
    /// checksums, at tens of Gbit/s, and it needs locked memory; over loopback and veth the kernel copies all the same.
    pub zero_copy: bool,
    /// Bytes of memory for pieces: five sixths for those in assembly, the rest for those just verified, which are given
    /// to peers from there where files are written around the page cache.
    pub memory: u64,
    /// Most peers of the whole process; fewer where they would leave too few of its descriptors to files.
    pub max_peers: usize,
    /// Most peers of one torrent.
    pub torrent_peers: usize,
    /// How torrents choose pieces.
    pub policy: Policy,
    /// Limits for all torrents together.
    pub rates: Rates,
    /// Limits for each torrent.
    pub torrent_rates: Rates,
    /// Where to accept peers: each address on every shard. None: nobody is accepted.
    pub listen: Vec<SocketAddr>,
    /// Whether files are written around the page cache.
    pub direct: DirectChoice,
    /// Whether latencies and queue depths are measured, for [`Engine::take_metrics`](crate::Engine::take_metrics).
    pub measure: bool,
}

/// Most bytes of blocks a second; none: as many as go. Messages come on top, less than a hundredth of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Given to peers.
    pub up: Option<NonZeroU64>,
    /// Fetched from peers.
    pub down: Option<NonZeroU64>,
}

/// Memory for pieces, by default: 96 MiB, so that a process that downloads stays below 128 MiB with its receive buffers
/// and tables. Up to 32 MiB more are used while blocks that are not in the page cache are read to be given.
pub const DEFAULT_MEMORY: u64 = 96 << 20;

impl Default for Config {
    fn default() -> Self {
        Self {
            io: IoChoice::Auto,
            shards: None,
            hash_threads: None,
            latency: false,
            zero_copy: false,
            memory: DEFAULT_MEMORY,
            max_peers: ringtide_proto::limits::MAX_PEERS,
            torrent_peers: ringtide_proto::limits::PEERS_PER_TORRENT,
            policy: Policy::default(),
            rates: Rates::default(),
            torrent_rates: Rates::default(),
            listen: Vec::new(),
            direct: DirectChoice::Auto,
            measure: false,
        }
    }
}

/// What a torrent is added for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Fetch what is missing below (or onto) the target, then give.
    Download,
    /// Give what is there, as it is verified; fetch nothing.
    Seed,
}

/// A torrent to be added.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// The torrent.
    pub metainfo: Arc<Metainfo>,
    /// The directory that holds or will hold the content; for [`Purpose::Download`] a block device will do for a
    /// single file, for [`Purpose::Seed`] the content itself.
    pub target: PathBuf,
    /// What for.
    pub purpose: Purpose,
    /// Peers named by the user.
    pub peers: Vec<SocketAddr>,
    /// How much each of the torrent's files is wanted, padding and links included; none: all of them alike. For
    /// [`Purpose::Download`].
    pub files: Vec<Priority>,
}
