//! Every bound of the protocol, with its reason. What a peer, tracker or torrent can make us hold, wait for or
//! do is limited by a number on this page or by one beside the parser that enforces it.

use crate::time::Duration;

/// Bytes of a block. Every client asks for 16 KiB and many close the connection on more (BEP 3).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Most pieces of a torrent: 2^21, as in libtorrent. At 256 KiB a piece that is half a TiB, and the tables
/// for it stay near 100 MB.
pub const MAX_PIECES: u32 = 1 << 21;

/// Longest piece that is downloaded. A piece is assembled in memory and four must fit, so 64 MiB is 256 MiB.
pub const MAX_PIECE_LEN: u32 = 64 << 20;

/// Longest range that a peer may ask for in one request: libtorrent's and Transmission's bound too.
pub const MAX_REQUEST_LEN: u32 = 128 * 1024;

/// Requests of one peer that we keep queued, announced as `reqq` (BEP 10). 2,000 blocks are 31 MiB: what
/// 25 Gbit/s carry in 10 ms.
pub const MAX_QUEUED_REQUESTS: usize = 2_000;

/// What a peer that announces no `reqq` is taken to keep queued: libtorrent's default for that case.
pub const DEFAULT_REQQ: u32 = 250;

/// Most blocks asked of one peer at a time, whatever it announces: our own table of requests has a bound too.
pub const MAX_OUTGOING_REQUESTS: u32 = 4_000;

/// Blocks asked of a peer before anything is known of its speed.
pub const INITIAL_REQUESTS: u32 = 16;

/// Longest message other than a bitfield or a block. A piece of metadata is 16 KiB (BEP 9), a list of peers less; every
/// peer may make us hold this much.
pub const MAX_EXTENDED_LEN: usize = 64 * 1024;

/// Time for connecting, and again for the handshake after it. Slow enough for a loaded host across the world.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing was said for two minutes may be closed (BEP 3).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(130);

/// A keep-alive is sent when nothing else was for this long, so that the other side's two minutes never pass.
pub const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// A peer that keeps us waiting this long for a block is snubbed (BEP 3's anti-snubbing).
pub const SNUB_AFTER: Duration = Duration::from_secs(60);

/// A block that has not come after this long may be asked of another peer too. Above any honest queue: four
/// times what our own pipeline holds in time.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A snubbed peer that gives nothing for this long more is parted with, to make room for others.
pub const SNUB_PART_AFTER: Duration = Duration::from_secs(180);

/// How often the slots are given out anew (BEP 3: every ten seconds, which avoids fibrillation).
pub const CHOKE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a peer has its slot by chance, if it makes use of it (BEP 3: 30 s).
pub const OPTIMISTIC_FOR: Duration = Duration::from_secs(30);

/// How often it is looked at what the slots carry, while anybody wants something.
pub const REVIEW_INTERVAL: Duration = Duration::from_secs(1);

/// Upload slots given out by rate (BEP 3: four).
pub const RATE_SLOTS: usize = 4;

/// Upload slots given out optimistically.
pub const OPTIMISTIC_SLOTS: usize = 1;

/// Most upload slots of a torrent, however fast the line is. Each has a piece under way at whoever takes it: with more, a
/// peer that is served by all others has no memory for what it gets, and no piece is whole soon.
pub const MAX_SLOTS: usize = 40;

/// How long the core waits for the shards' rates before it decides a choke round without the missing ones.
pub const RATE_REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// A peer connected for less than this counts three times in the optimistic draw (BEP 3).
pub const NEWCOMER_FOR: Duration = Duration::from_secs(60);

/// How old another shard's view of availability may be: deltas are sent in batches this often.
pub const AVAILABILITY_BATCH: Duration = Duration::from_millis(100);

/// Peers of one torrent, by default (`--torrent-peers`). Libtorrent's and Transmission's are 50 to 200; choosing among more brings
/// nothing, and a bitfield of a large torrent is 100 kB a peer.
pub const PEERS_PER_TORRENT: usize = 200;

/// Peers of the whole process, by default (`--max-peers`).
pub const MAX_PEERS: usize = 2_000;

/// Connections being opened at a time for one torrent: enough to fill up in a second, few enough that a tracker's
/// list of dead hosts does not look like a scan.
pub const HALF_OPEN: usize = 30;

/// Addresses of peers remembered for one torrent, those connected included. Strangers can name any number.
pub const MAX_PEER_CANDIDATES: usize = 4_000;

/// Addresses and subnets that one torrent remembers as banned, the latest: 250 KB. An address costs whoever has it a connection
/// and a block of bad data, and the same again once it is forgotten.
pub const MAX_BANNED: usize = 4_000;

/// With so many addresses of an IPv6 subnet of 64 bits banned, all of it is: whoever has one address of it has 2^64.
pub const MAX_BANNED_OF_SUBNET: usize = 8;

/// After how many failures in a row an address is forgotten.
pub const MAX_CONNECT_FAILURES: u32 = 5;

/// First wait before an address is tried again; doubled at each failure.
pub const RECONNECT_FIRST: Duration = Duration::from_secs(5);

/// Longest wait before an address is tried again.
pub const RECONNECT_MAX: Duration = Duration::from_secs(300);

/// Pieces whose failed blocks are remembered until the liar is found. 20 bytes a block: at 64 blocks a piece
/// and eight failures, 80 KB.
pub const MAX_SUSPECT_PIECES: usize = 256;

/// Failed tries of one piece that are remembered.
pub const MAX_FAILED_TRIES: usize = 8;

/// Blocks lent to another shard at a time, from one piece.
pub const MAX_LENT_BLOCKS: usize = 64;

/// Peers that may be asked for the same block in the endgame. Those whose request is late do not count, though theirs may
/// come as well: but for these, two copies are wasted at worst.
pub const MAX_COPIES: u8 = 3;

/// Pieces in a peer's allowed-fast set (BEP 6 suggests ten).
pub const ALLOWED_FAST: usize = 10;

/// Bytes of all of them: a piece that nobody gets a slot for is to be whole soon. Of pieces of 64 MiB, each of 60 peers would
/// take one of a seed at once, and none would be whole for half a minute.
pub const ALLOWED_FAST_BYTES: u64 = 32 << 20;

/// Suggestions of one peer that are remembered (BEP 6): a few round trips of what a fast seed gives.
pub const MAX_SUGGESTIONS: usize = 64;

/// Rejects that wait for a peer that does not read: twice what a choke can make of its queue. One that lets more gather
/// is flooding us.
pub const MAX_PENDING_REPLIES: usize = 4_000;

/// What a rate limit that was not used saves up, as time: small enough that a limit holds over a second, too, and longer
/// than a busy thread takes to come back.
pub const RATE_BURST: Duration = Duration::from_millis(50);

/// For the checks of tests: a bound is kept.
///
/// # Panics
/// With its name where it is not.
pub(crate) fn keep<T: Copy + PartialOrd + std::fmt::Debug>(bound: &str, is: T, most: T) {
    assert!(is <= most, "{bound}: {is:?}, at most {most:?}");
}
