//! Crowds: 10,000 idle peers of one torrent, as many connections that say nothing, and 1,000 torrents given at once. Memory
//! is asserted, times are printed.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringtide_tests::content::{self, KIB, MIB};
use ringtide_tests::process::Process;
use ringtide_tests::ringtide;
use ringtide_tests::torrent::Torrent;
use ringtide_tests::wait;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One at a time: each needs most of the descriptors that a process may open.
static ALONE: Mutex<()> = Mutex::new(());

const PEERS: usize = 10_000;
/// What one of them may cost: with 10,000 far below the 100 MiB that are the aim.
const BYTES_PER_PEER: u64 = 6 * KIB;
/// What a torrent that is given may cost while nobody asks for it.
const BYTES_PER_TORRENT: u64 = 40 * KIB;
const HANDSHAKE_LEN: usize = 68;
const BITFIELD: u8 = 5;
/// How long an idle process is watched.
const WATCHED: Duration = Duration::from_secs(5);

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room for `sockets` at this end, and at the other, which keeps 4,096 descriptors for files.
fn allow_descriptors(sockets: usize) {
    let wanted = sockets as u64 + 4_096;
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit { current: maximum, maximum };
    let allowed = setrlimit(Resource::Nofile, raised).is_ok()
        || setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok();
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(
        allowed && current >= wanted,
        "this test needs {wanted} descriptors (ulimit -Hn), and has {current}"
    );
}

fn seed(torrents: &[&Torrent], dir: &Path, options: &[&str]) -> (Process, SocketAddr) {
    let listen = ringtide::free_address(1);
    let mut command: Command = ringtide::command("seed");
    command.args(torrents.iter().map(|torrent| &torrent.path));
    command.arg("-d").arg(dir).args(["--listen", &listen.to_string(), "--json"]).args(options);
    let mut process = ringtide::spawn(command, dir);
    wait::until("the content to be verified", || {
        process.expect_running();
        process.stdout().matches("\"checked\"").count() == torrents.len()
    });
    (process, listen)
}

/// Connects, and says what a peer says that has one piece.
fn join(addr: SocketAddr, torrent: &Torrent, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    let mut bits = vec![0_u8; torrent.pieces().div_ceil(8) as usize];
    bits[0] = 0x80;
    let length = (bits.len() as u32 + 1).to_be_bytes();
    let mut bytes = handshake(torrent, number);
    bytes.extend_from_slice(&[&length[..], &[BITFIELD], &bits].concat());
    stream.write_all(&bytes).expect("a peer that reads");
    stream
}

fn handshake(torrent: &Torrent, number: usize) -> Vec<u8> {
    let id = format!("-XX0001-{number:012}");
    [b"\x13BitTorrent protocol", &[0; 8][..], &torrent.info_hash, id.as_bytes()].concat()
}

fn answers(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(wait::HANG)).expect("a timeout");
    stream.read_exact(&mut [0; HANDSHAKE_LEN]).is_ok()
}

/// Whether the other end closes the connection, orderly or not, before a deadline that may be that of many.
fn is_closed_by(mut stream: &TcpStream, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left)).expect("a timeout");
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

fn memory(process: &mut Process) -> u64 {
    process.expect_running();
    process.anonymous_bytes().expect("it runs")
}

/// Part of a CPU that the process takes while nothing happens.
fn idle_load(process: &Process) -> f64 {
    let (before, begun) = (process.cpu_time().expect("it runs"), Instant::now());
    std::thread::sleep(WATCHED);
    let spent = process.cpu_time().expect("it runs").saturating_sub(before);
    spent.as_secs_f64() / begun.elapsed().as_secs_f64()
}

fn ten_thousand_idle_peers(driver: &str) {
    let _alone = alone();
    allow_descriptors(PEERS + 100);
    let dir = content::disk_dir();
    let torrent = Torrent::create_sparse(&dir.path().join("image"), 0, 2_000, 64 * KIB, dir.path());
    let options = ["--max-peers", "10000", "--torrent-peers", "10000", "--io", driver];
    let (mut process, addr) = seed(&[&torrent], dir.path(), &options);
    let before = memory(&mut process);
    let begun = Instant::now();
    let mut streams: Vec<TcpStream> = Vec::new();
    for number in 0..PEERS {
        streams.push(join(addr, &torrent, number));
        // As many as wait to be accepted at a time.
        if number % 500 == 499 {
            assert!(streams[number - 499..].iter().all(answers), "peers up to {number} are answered");
        }
    }
    println!("{driver}: {PEERS} peers came in {:.1} s", begun.elapsed().as_secs_f64());
    let load = idle_load(&process);
    let after = memory(&mut process);
    println!(
        "{driver}: {} bytes a peer ({} MiB before), {:.2} % of a CPU while all are idle",
        after.saturating_sub(before) / PEERS as u64,
        before / MIB,
        100.0 * load
    );
    assert!(
        after < before + PEERS as u64 * BYTES_PER_PEER,
        "{before} bytes without peers, {after} with {PEERS}"
    );
    drop(streams);
    wait::until("room for others", || answers(&join(addr, &torrent, PEERS)));
}

#[test]
fn ten_thousand_idle_peers_cost_a_few_kib_each() {
    ten_thousand_idle_peers("auto");
}

#[test]
fn ten_thousand_idle_peers_cost_a_few_kib_each_on_epoll() {
    ten_thousand_idle_peers("epoll");
}

/// Connections that say nothing take no more than those that do, keep nobody out for longer than the time for a
/// handshake, and are closed then.
#[test]
fn connections_that_say_nothing_are_bounded_and_closed() {
    let _alone = alone();
    const SILENT: usize = 5_000;
    const MOST: usize = 3_000;
    allow_descriptors(SILENT + 100);
    let dir = content::disk_dir();
    let torrent = Torrent::create_sparse(&dir.path().join("image"), 0, 2_000, 64 * KIB, dir.path());
    let (mut process, addr) = seed(&[&torrent], dir.path(), &["--max-peers", &MOST.to_string()]);
    let before = memory(&mut process);
    let silent: Vec<TcpStream> =
        (0..SILENT).map(|_| TcpStream::connect(addr).expect("a connection")).collect();
    let most = MOST as u64 * BYTES_PER_PEER + 4 * MIB;
    wait::until("a peer to be welcome again", || {
        let now = memory(&mut process);
        assert!(now < before + most, "{before} bytes at first, {now} with {SILENT} silent connections");
        TcpStream::connect(addr)
            .is_ok_and(|mut stream| stream.write_all(&handshake(&torrent, 1)).is_ok() && answers(&stream))
    });
    let deadline = Instant::now() + wait::HANG;
    assert!(silent.iter().all(|stream| is_closed_by(stream, deadline)), "silent connections are closed");
}

#[test]
fn a_thousand_torrents_are_given_at_once() {
    let _alone = alone();
    const TORRENTS: u64 = 1_000;
    let dir = content::disk_dir();
    let torrents: Vec<Torrent> = (0..TORRENTS)
        .map(|number| {
            let file = dir.path().join(format!("image-{number}"));
            content::write_file(&file, 100 * KIB + number, number);
            Torrent::create(&file, 16 * KIB, "", dir.path())
        })
        .collect();
    let few = dir.path().join("few");
    fs::create_dir(&few).expect("room for a directory");
    fs::copy(dir.path().join("image-0"), few.join("image-0")).expect("a copy");
    let (mut one, _) = seed(&[&torrents[0]], &few, &[]);
    let base = memory(&mut one);
    drop(one);
    let begun = Instant::now();
    let all: Vec<&Torrent> = torrents.iter().collect();
    let (mut process, addr) = seed(&all, dir.path(), &[]);
    println!("start: {:.2} s", begun.elapsed().as_secs_f64());
    for torrent in torrents.iter().step_by(499) {
        let to = dir.path().join(format!("to-{}", torrent.name));
        let mut get = ringtide::command("get");
        get.arg(&torrent.path).arg("-o").arg(&to).args(["--peer", &addr.to_string()]);
        ringtide::spawn(get, dir.path()).wait_success();
        content::assert_same(&dir.path().join(&torrent.name), &to.join(&torrent.name));
    }
    let load = idle_load(&process);
    let after = memory(&mut process);
    println!(
        "{} bytes a torrent, {:.2} % of a CPU while nobody asks",
        after.saturating_sub(base) / TORRENTS,
        100.0 * load
    );
    assert!(
        after < base + BYTES_PER_TORRENT * TORRENTS,
        "{base} bytes with one torrent, {after} with {TORRENTS}"
    );
}
