//! Downloads of some files of a torrent, over loopback and on both drivers: what comes to disk, what a larger selection
//! fetches later, and that others get it from there.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ringtide_engine::driver::{IoChoice, IoKind, probe};
use ringtide_engine::{AddTorrent, Config, Engine, Purpose, TorrentId, TorrentStats};
use ringtide_proto::metainfo::{Metainfo, TorrentBuilder};
use ringtide_proto::picker::Priority;

use common::{HANG, add, content, wait_complete};

const PIECE: usize = 65_536;

/// No file but the first begins or ends with a piece: `wanted` has parts of pieces 6 to 9, and of these the first
/// begins with the end of `before`, and the last ends with all of `within` and the begin of `after`.
const FILES: [(&str, usize); 6] = [
    ("first", 100_000),
    ("before", 300_001),
    ("empty", 0),
    ("wanted", 200_000),
    ("within", 50_000),
    ("after", 1_000_000),
];

fn choices() -> Vec<IoChoice> {
    let uring = probe(IoChoice::Auto).expect("some driver works").0 == IoKind::Uring;
    if uring { vec![IoChoice::Uring, IoChoice::Epoll] } else { vec![IoChoice::Epoll] }
}

fn engine(io: IoChoice) -> Engine {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    Engine::start(Config { io, shards: Some(2), listen, ..Config::default() }).expect("an engine starts")
}

fn torrent(dir: &Path) -> Arc<Metainfo> {
    tracked(dir, "")
}

/// With that tracker, where it is not empty.
fn tracked(dir: &Path, tracker: &str) -> Arc<Metainfo> {
    fs::create_dir(dir.join("tree")).expect("a directory is made");
    let mut all = Vec::new();
    for (number, (name, len)) in FILES.into_iter().enumerate() {
        let bytes = content(len, number as u64);
        fs::write(dir.join("tree").join(name), &bytes).expect("a file is written");
        all.extend(bytes);
    }
    let hashes: Vec<_> = all.chunks(PIECE).map(ringtide_hasher::sha1).collect();
    let files = FILES.map(|(name, len)| (vec![name.to_owned()], len as u64)).to_vec();
    let mut torrent = TorrentBuilder::directory("tree", files, PIECE as u32);
    torrent.trackers.extend((!tracker.is_empty()).then(|| vec![tracker.to_owned()]));
    Arc::new(Metainfo::parse(&torrent.build(&hashes).expect("a torrent is built")).expect("it is valid"))
}

/// Those files of the torrent.
fn fetch(engine: &Engine, metainfo: &Arc<Metainfo>, dir: &Path, names: &[&str], from: &Engine) -> TorrentId {
    let priority = |(name, _)| if names.contains(&name) { Priority::Normal } else { Priority::Skip };
    let add = AddTorrent {
        metainfo: Arc::clone(metainfo),
        target: dir.to_owned(),
        purpose: Purpose::Download,
        peers: from.listen_addrs(),
        files: FILES.map(priority).to_vec(),
    };
    engine.add(add).expect("a torrent is added")
}

fn assert_same(from: &Path, to: &Path, names: &[&str]) {
    for name in names {
        let [sent, got] = [from, to].map(|dir| fs::read(dir.join("tree").join(name)).expect("is there"));
        assert!(sent == got, "{name} differs");
    }
}

fn wait_until(engine: &Engine, id: TorrentId, such: impl Fn(&TorrentStats) -> bool) {
    let begun = Instant::now();
    while !such(&engine.stats(id)) {
        assert!(begun.elapsed() < HANG, "{:?}", engine.stats(id));
        std::thread::yield_now();
    }
}

#[test]
fn what_is_selected_is_fetched_and_more_of_it_later() {
    for io in choices() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let metainfo = torrent(from.path());
        let seed = engine(io);
        add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
        let run = |names: &[&str]| {
            let leech = engine(io);
            let id = fetch(&leech, &metainfo, to.path(), names, &seed);
            let stats = wait_complete(&leech, id);
            assert_eq!((stats.have, stats.have_bytes), (stats.pieces, stats.bytes), "{stats:?}");
            assert_same(from.path(), to.path(), names);
            leech.leave();
            stats
        };
        let first = run(&["wanted"]);
        assert_eq!((first.pieces, first.bytes), (4, 4 * PIECE as u64));
        assert!(first.downloaded - first.wasted == first.bytes, "{io}: {first:?}");
        let file = |name: &str| fs::metadata(to.path().join("tree").join(name)).ok();
        assert!(file("first").is_none() && file("empty").is_none(), "{io}: nothing of it is needed");
        assert!(file("before").expect("shares a piece").blocks() * 512 < 100_000, "{io}: its end only");
        assert_eq!(file("after").expect("shares a piece").len(), 10 * PIECE as u64 - 650_001, "{io}");
        assert_eq!(run(&["wanted"]).downloaded, 0, "{io}: all is there");
        let more = run(&["wanted", "empty", "after"]);
        assert_eq!(more.downloaded - more.wasted, more.bytes - first.bytes, "{io}: {more:?}");
        let all = run(&FILES.map(|(name, _)| name));
        assert_eq!(all.downloaded - all.wasted, all.bytes - more.bytes, "{io}: {all:?}");
    }
}

/// The engine is dropped while something is missing that nobody has, and continues where it was.
#[test]
fn a_selection_is_gone_on_with_after_a_kill() {
    for io in choices() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [from, part, to] = dirs.each_ref().map(tempfile::TempDir::path);
        let metainfo = torrent(from);
        fs::create_dir(part.join("tree")).expect("a directory is made");
        fs::copy(from.join("tree/after"), part.join("tree/after")).expect("is copied");
        let names = ["wanted", "after"];
        // Pieces 10 to 25 are the other file's alone.
        {
            let (poor, leech) = (engine(io), engine(io));
            add(&poor, &metainfo, part, Purpose::Seed, &[]);
            let id = fetch(&leech, &metainfo, to, &names, &poor);
            wait_until(&leech, id, |stats| stats.have == 16);
            assert_eq!(leech.stats(id).pieces, 20);
        }
        let (seed, leech) = (engine(io), engine(io));
        add(&seed, &metainfo, from, Purpose::Seed, &[]);
        let id = fetch(&leech, &metainfo, to, &names, &seed);
        let stats = wait_complete(&leech, id);
        assert_eq!(stats.downloaded - stats.wasted, 4 * PIECE as u64, "{io}: {stats:?}");
        assert_same(from, to, &names);
    }
}

#[test]
fn a_partial_seed_gives_what_it_has() {
    for io in choices() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [from, between, to] = dirs.each_ref().map(tempfile::TempDir::path);
        let metainfo = torrent(from);
        let partial = engine(io);
        let id = {
            let seed = engine(io);
            add(&seed, &metainfo, from, Purpose::Seed, &[]);
            let id = fetch(&partial, &metainfo, between, &["wanted", "first"], &seed);
            wait_complete(&partial, id);
            id
        };
        let leech = engine(io);
        let download = fetch(&leech, &metainfo, to, &["within", "wanted"], &partial);
        let stats = wait_complete(&leech, download);
        assert_eq!(stats.downloaded - stats.wasted, stats.bytes);
        assert_same(from, to, &["wanted", "within"]);
        assert!(partial.stats(id).uploaded >= stats.bytes);
        // What was given is all that is left of it where the directory is seeded.
        let again = engine(io);
        add(&again, &metainfo, between, Purpose::Seed, &[]);
        let last = tempfile::tempdir().unwrap();
        let leech = engine(io);
        let download = fetch(&leech, &metainfo, last.path(), &["first"], &again);
        wait_complete(&leech, download);
        assert_same(from, last.path(), &["first"]);
    }
}

/// What a tracker's scrape says of the torrent.
fn scraped(tracker: &str, metainfo: &Metainfo) -> String {
    let at = tracker.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/announce"));
    let at = at.expect("a plain URL");
    let hash = metainfo.info_hash_v1().expect("version 1").0.iter().fold(String::new(), |mut hash, byte| {
        write!(hash, "%{byte:02x}").expect("strings take all");
        hash
    });
    let mut stream = TcpStream::connect(at).expect("the tracker listens");
    let request = format!("GET /scrape?info_hash={hash} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("is answered");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn trackers_are_told_of_partial_seeds() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seed = engine(IoChoice::Auto);
    let tracker = seed.serve_tracker(SocketAddr::from(([127, 0, 0, 1], 0))).expect("it is served");
    let metainfo = tracked(from.path(), &tracker);
    add(&seed, &metainfo, from.path(), Purpose::Seed, &[]);
    let leech = engine(IoChoice::Auto);
    let id = fetch(&leech, &metainfo, to.path(), &["wanted"], &seed);
    wait_complete(&leech, id);
    let begun = Instant::now();
    let is_told = |answer: &str| {
        ["8:completei1e", "11:downloadersi0e", "10:incompletei1e"]
            .iter()
            .all(|number| answer.contains(number))
    };
    while !is_told(&scraped(&tracker, &metainfo)) {
        assert!(begun.elapsed() < HANG, "{}", scraped(&tracker, &metainfo));
        std::thread::yield_now();
    }
}

#[test]
fn what_lies_where_a_shared_piece_goes_shows_at_the_start() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let metainfo = torrent(from.path());
    fs::create_dir(to.path().join("tree")).expect("a directory is made");
    std::os::unix::fs::symlink("elsewhere", to.path().join("tree/before")).expect("a link is made");
    let leech = engine(IoChoice::Auto);
    let add = |names: &[&str]| {
        let priority = |(name, _)| if names.contains(&name) { Priority::Normal } else { Priority::Skip };
        leech.add(AddTorrent {
            metainfo: Arc::clone(&metainfo),
            target: to.path().to_owned(),
            purpose: Purpose::Download,
            peers: Vec::new(),
            files: FILES.map(priority).to_vec(),
        })
    };
    let error = add(&["wanted"]).expect_err("a part of it would be written there").to_string();
    assert!(error.contains("tree/before"), "{error}");
    add(&["after"]).expect("shares no piece with it");
}
