//! The hot path allocates per piece and per send, and never per block: a counting allocator sees what the shards' threads
//! do while a transfer is under way, on both drivers. In a test binary of its own, as an allocator is for a whole program.
#![expect(unsafe_code, reason = "an allocator cannot be written without")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringtide_engine::driver::{IoChoice, IoKind, probe};
use ringtide_engine::{Config, Engine, Purpose};
use ringtide_proto::metainfo::{Metainfo, TorrentBuilder};

use common::{HANG, add, content, wait_complete};

const BLOCK: u64 = 16 << 10;
const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Whose thread allocates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Unknown,
    Nobody,
    SeedShard,
    LeechShard,
}

thread_local! {
    /// Const, and without a destructor: looking at it allocates nothing.
    static OWNER: Cell<Owner> = const { Cell::new(Owner::Unknown) };
}

/// Whose threads are being started: 1 the seed's, 2 the leecher's.
static STARTING: AtomicUsize = AtomicUsize::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static LEECH: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

fn count() {
    // A thread that is ending has no cells any more, and is no shard at work.
    let owner = OWNER.try_with(|owner| {
        if owner.get() == Owner::Unknown {
            owner.set(this_thread());
        }
        owner.get()
    });
    match owner {
        Ok(Owner::SeedShard) => SEED.fetch_add(1, Relaxed),
        Ok(Owner::LeechShard) => LEECH.fetch_add(1, Relaxed),
        _ => 0,
    };
}

/// Whose this thread is. A thread that has no name yet, as it begins, is asked again.
fn this_thread() -> Owner {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes there.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let shard = name.strip_prefix(b"ringtide-").is_some_and(|rest| rest[0].is_ascii_digit());
    match (shard, STARTING.load(Relaxed)) {
        (true, 1) => Owner::SeedShard,
        (true, 2) => Owner::LeechShard,
        (false, _) if name.starts_with(b"ringtide") => Owner::Nobody,
        _ => Owner::Unknown,
    }
}

fn engine(which: usize, io: IoChoice, memory: u64) -> Engine {
    STARTING.store(which, Relaxed);
    let config = Config { io, shards: Some(1), listen: vec![LOCALHOST], memory, ..Config::default() };
    Engine::start(config).expect("an engine starts")
}

fn torrent(dir: &Path, bytes: &[u8], piece_len: u32) -> Arc<Metainfo> {
    std::fs::write(dir.join("image"), bytes).expect("a file is written");
    let hashes: Vec<_> = bytes.chunks(piece_len as usize).map(ringtide_hasher::sha1).collect();
    let torrent = TorrentBuilder::single_file("image", bytes.len() as u64, piece_len);
    Arc::new(Metainfo::parse(&torrent.build(&hashes).expect("a torrent is built")).expect("it is valid"))
}

/// What was allocated in the middle half of a transfer.
struct Measured {
    blocks: u64,
    pieces: u64,
    seed: u64,
    leech: u64,
}

fn measure(io: IoChoice, piece_len: u32, len: usize) -> Measured {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = content(len, 3);
    let metainfo = torrent(from.path(), &bytes, piece_len);
    let seed = engine(1, io, 64 << 20);
    let seeding = add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
    let until = Instant::now() + HANG;
    while seed.stats(seeding).checking {
        assert!(Instant::now() < until, "the check hangs");
        std::thread::sleep(Duration::from_millis(5));
    }
    let leech = engine(2, io, 64 << 20);
    let download = add(&leech, &metainfo, to.path(), Purpose::Download, &seed.listen_addrs());
    let wait = |bytes: u64| {
        while leech.stats(download).downloaded < bytes {
            assert!(Instant::now() < until, "the transfer hangs");
            std::hint::spin_loop();
        }
        (leech.stats(download).downloaded, SEED.load(Relaxed), LEECH.load(Relaxed))
    };
    let (begun, ended) = (wait(len as u64 / 4), wait(len as u64 * 3 / 4));
    assert_eq!(wait_complete(&leech, download).hash_failures, 0);
    let blocks = (ended.0 - begun.0) / BLOCK;
    Measured {
        blocks,
        pieces: blocks * BLOCK / u64::from(piece_len),
        seed: ended.1 - begun.1,
        leech: ended.2 - begun.2,
    }
}

fn choices() -> Vec<IoChoice> {
    let uring = probe(IoChoice::Auto).expect("some driver works").0 == IoKind::Uring;
    if uring { vec![IoChoice::Uring, IoChoice::Epoll] } else { vec![IoChoice::Epoll] }
}

/// What a piece needs (its table of blocks, its places in the tables of open pieces, its hash job) and what a send needs.
fn most(found: &Measured) -> (u64, u64) {
    (64 + 4 * found.pieces, 64 + 10 * found.pieces)
}

#[test]
fn nothing_is_allocated_per_block() {
    for io in choices() {
        for piece_len in [256 << 10, 4 << 20] {
            let found = measure(io, piece_len, 192 << 20);
            let per_block = |count: u64| count as f64 / found.blocks as f64;
            println!(
                "{io:?}, pieces of {} KiB: in {} blocks and {} pieces the seed's shard allocated {} times ({:.4} a block), \
                 the leecher's {} times ({:.4} a block)",
                piece_len >> 10,
                found.blocks,
                found.pieces,
                found.seed,
                per_block(found.seed),
                found.leech,
                per_block(found.leech),
            );
            let (seed, leech) = most(&found);
            assert!(
                found.seed > 0 && found.leech >= found.pieces,
                "the shards' threads were not seen to work"
            );
            assert!(found.seed <= seed, "the seed's shard allocated {} times", found.seed);
            assert!(found.leech <= leech, "the leecher's shard allocated {} times", found.leech);
        }
    }
}
