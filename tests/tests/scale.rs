//! Torrents of 200 GB: 800,000 pieces of 256 KiB over a sparse file. Times are printed, memory is asserted.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ringtide_tests::content::{self, KIB, MIB};
use ringtide_tests::hostile::{Manner, Peer};
use ringtide_tests::process::Process;
use ringtide_tests::ringtide::{self, number, summary};
use ringtide_tests::torrent::Torrent;
use ringtide_tests::wait;

const PIECES: u64 = 800_000;
const PIECE_LENGTH: u64 = 256 * KIB;
/// What a piece may cost in memory.
const BYTES_PER_PIECE: u64 = 64;
/// What two runs may differ in beside their pieces: buffers, stacks, the allocator's slack.
const SLACK: u64 = 8 * MIB;

fn torrent(dir: &Path, byte: u8, pieces: u64) -> Torrent {
    Torrent::create_sparse(&dir.join("image"), byte, pieces, PIECE_LENGTH, dir)
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    println!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    result
}

/// Starts a seed and returns once it accepts peers.
fn seed(torrent: &Torrent, dir: &Path) -> Process {
    let listen = ringtide::free_address(1);
    let mut command = ringtide::command("seed");
    command.arg(&torrent.path).arg("-d").arg(dir).args(["--listen", &listen.to_string(), "--json"]);
    let process = ringtide::spawn(command, dir);
    ringtide::wait_listening(listen);
    process
}

/// Waits until the seed has verified everything, and returns its memory.
fn memory_once_checked(mut process: Process) -> u64 {
    wait::until("the content to be verified", || {
        process.expect_running();
        process.stdout().contains("\"checked\"")
    });
    memory(process)
}

fn memory(mut process: Process) -> u64 {
    process.expect_running();
    process.anonymous_bytes().expect("it runs")
}

#[test]
fn show_reads_800_000_pieces() {
    let dir = content::disk_dir();
    let torrent = torrent(dir.path(), 0, PIECES);
    let output = timed("show", || ringtide::run(["show", "--json", torrent.path.to_str().unwrap()]));
    let shown = summary(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(number(&shown, "pieces"), PIECES);
}

#[test]
fn seed_keeps_few_bytes_for_each_of_800_000_pieces() {
    let (small_dir, large_dir) = (content::disk_dir(), content::disk_dir());
    let (small, large) = (torrent(small_dir.path(), 0, 1), torrent(large_dir.path(), 0, PIECES));
    let small = memory_once_checked(seed(&small, small_dir.path()));
    let large = timed("start of seed", || seed(&large, large_dir.path()));
    let large = timed("verifying", || memory_once_checked(large));
    println!("seed: {} bytes per piece", large.saturating_sub(small) / PIECES);
    assert!(
        large < small + BYTES_PER_PIECE * PIECES + SLACK,
        "{small} bytes with 1 piece, {large} with {PIECES}"
    );
}

/// From the command to the first request, with a peer that has everything. The file has its length already (a hole is
/// all there is room for), and no piece of it is right.
fn get(torrent: &Torrent, dir: &Path) -> u64 {
    let addr = "127.0.0.2:0".parse().unwrap();
    let peer = Peer::start(addr, torrent, &Arc::default(), Manner::NeverSends);
    let mut command = ringtide::command("get");
    command.arg(&torrent.path).arg("-o").arg(dir).args(["--peer", &peer.addr().to_string()]);
    let mut process = ringtide::spawn(command, dir);
    wait::until("a first request", || {
        process.expect_running();
        peer.requests() > 0
    });
    memory(process)
}

#[test]
fn get_keeps_few_bytes_for_each_of_800_000_pieces() {
    let (small_dir, large_dir) = (content::disk_dir(), content::disk_dir());
    let (small, large) = (torrent(small_dir.path(), 1, 64), torrent(large_dir.path(), 1, PIECES));
    let small = get(&small, small_dir.path());
    let large = timed("start of get", || get(&large, large_dir.path()));
    println!("get: {} bytes per piece", large.saturating_sub(small) / PIECES);
    assert!(
        large < small + BYTES_PER_PIECE * PIECES + SLACK,
        "{small} bytes with 64 pieces, {large} with {PIECES}"
    );
}
