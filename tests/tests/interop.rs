//! ringtide with every other client at the other end, both ways: each content, each way of being found, both drivers,
//! each at least once with each client rather than the full product. All results are compared byte for byte.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ringtide_tests::content::{self, GIB, KIB, MIB};
use ringtide_tests::net::Network;
use ringtide_tests::ringtide::Ringtide;
use ringtide_tests::rivals::{Aria2, Libtorrent, Opentracker, PORT, Rival, Rtorrent, Transmission};
use ringtide_tests::torrent::Torrent;
use ringtide_tests::wait;

/// Hosts are numbered in the order of their making, so that either side can name the other beforehand.
const SEED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), PORT);
const LEECH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3)), PORT);

#[derive(Clone, Copy)]
enum Content {
    /// 1 GiB in pieces of 1 MiB.
    Image,
    /// 200 files of odd sizes, some empty, in pieces of 16 KiB.
    Tree,
    /// 16 MiB pieces, the last one short.
    LargePieces,
    /// Of the npm package webtorrent-fixtures: torrent and content.
    Fixture(&'static str, &'static str),
}

#[derive(Clone, Copy, PartialEq)]
enum Found {
    /// Through opentracker.
    Opentracker,
    /// Through the tracker that the ringtide that seeds serves.
    OwnTracker,
    /// The leech was told where the seed is.
    LeechDials,
    /// The seed was told where the leech is.
    SeedDials,
}

fn by_uring() -> Ringtide {
    Ringtide { io: "uring", ..Ringtide::default() }
}

fn by_epoll() -> Ringtide {
    Ringtide { io: "epoll", ..Ringtide::default() }
}

fn dialling(ringtide: Ringtide, peer: SocketAddr) -> Ringtide {
    Ringtide { peers: vec![peer], ..ringtide }
}

fn tracking(ringtide: Ringtide) -> Ringtide {
    Ringtide { track: true, ..ringtide }
}

fn transfer(seed: &dyn Rival, leech: &dyn Rival, content: Content, found: Found) {
    let network = Network::new();
    let (tracker_host, seed_host, leech_host) = (network.host(), network.host(), network.host());
    assert_eq!((seed_host.socket(PORT), leech_host.socket(PORT)), (SEED, LEECH));
    let announce = match found {
        Found::Opentracker => Opentracker::announce_url(&tracker_host),
        Found::OwnTracker => Ringtide::announce_url(&seed_host),
        // rtorrent does not load a torrent without a tracker: it gets one where nobody answers.
        Found::LeechDials | Found::SeedDials if seed.name() == "rtorrent" => {
            Opentracker::announce_url(&tracker_host)
        }
        Found::LeechDials | Found::SeedDials => String::new(),
    };
    let dir = content::disk_dir();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(&to).unwrap();
    let (torrent, original) = make(content, &from, &announce, dir.path());
    let tracker = (found == Found::Opentracker).then(|| Opentracker::start(&tracker_host, &[&torrent]));
    let start_leech = || leech.leech(&leech_host, &torrent, &to);
    let waiting = (found == Found::SeedDials).then(|| {
        let leech = start_leech();
        leech_host.wait_listening(PORT);
        leech
    });
    let _seed = seed.seed(&seed_host, &torrent, original.parent().unwrap());
    if let Some(tracker) = &tracker {
        tracker.wait_seeds(&torrent, 1);
    }
    waiting.unwrap_or_else(start_leech).wait_all();
    leech.assert_received(&original, &to.join(&torrent.name));
}

/// Makes the content below `from` and its torrent in `dir`; returns it and where the content's root is.
fn make(content: Content, from: &Path, announce: &str, dir: &Path) -> (Torrent, PathBuf) {
    let (root, piece_length) = match content {
        Content::Fixture(torrent, name) => {
            let fixtures = content::target_dir().join("interop/webtorrent-fixtures/fixtures");
            let torrent = Torrent::from_fixture(&fixtures.join(torrent), announce, dir);
            return (torrent, fixtures.join(name));
        }
        Content::Image => (from.join("image"), MIB),
        Content::Tree => (content::write_tree(from, "tree", 200, 1), 16 * KIB),
        Content::LargePieces => (from.join("large"), 16 * MIB),
    };
    match content {
        Content::Image => content::write_file(&root, GIB, 2),
        Content::LargePieces => content::write_file(&root, 200 * MIB + 12_345, 3),
        Content::Tree | Content::Fixture(..) => {}
    }
    (Torrent::create(&root, piece_length, announce, dir), root)
}

// From each client.

/// Transmission sends at most 512 blocks every half second, to whomever: the image would take it more than a minute.
#[test]
fn get_large_pieces_from_transmission_by_hand() {
    transfer(&Transmission, &dialling(by_uring(), SEED), Content::LargePieces, Found::LeechDials);
}

#[test]
fn get_tree_from_transmission_through_opentracker() {
    transfer(&Transmission, &by_epoll(), Content::Tree, Found::Opentracker);
}

#[test]
fn get_image_from_aria2_through_opentracker() {
    transfer(&Aria2, &by_uring(), Content::Image, Found::Opentracker);
}

#[test]
fn get_large_pieces_from_aria2_by_hand() {
    transfer(&Aria2, &dialling(by_epoll(), SEED), Content::LargePieces, Found::LeechDials);
}

#[test]
fn get_tree_from_rtorrent_by_hand() {
    transfer(&Rtorrent, &dialling(by_uring(), SEED), Content::Tree, Found::LeechDials);
}

#[test]
fn get_large_pieces_from_rtorrent_through_opentracker() {
    transfer(&Rtorrent, &by_uring(), Content::LargePieces, Found::Opentracker);
}

#[test]
fn get_image_from_libtorrent_through_opentracker() {
    transfer(&Libtorrent::default(), &by_epoll(), Content::Image, Found::Opentracker);
}

#[test]
fn get_tree_from_libtorrent_by_hand() {
    transfer(&Libtorrent::default(), &dialling(by_uring(), SEED), Content::Tree, Found::LeechDials);
}

// To each client.

#[test]
fn transmission_fetches_image_found_through_our_tracker() {
    transfer(&tracking(by_uring()), &Transmission, Content::Image, Found::OwnTracker);
}

#[test]
fn transmission_fetches_tree_dialled_by_us() {
    transfer(&dialling(by_epoll(), LEECH), &Transmission, Content::Tree, Found::SeedDials);
}

#[test]
fn aria2_fetches_tree_found_through_our_tracker() {
    transfer(&tracking(by_uring()), &Aria2, Content::Tree, Found::OwnTracker);
}

#[test]
fn aria2_fetches_image_found_through_opentracker() {
    transfer(&by_epoll(), &Aria2, Content::Image, Found::Opentracker);
}

#[test]
fn rtorrent_fetches_large_pieces_found_through_our_tracker() {
    transfer(&tracking(by_epoll()), &Rtorrent, Content::LargePieces, Found::OwnTracker);
}

#[test]
fn rtorrent_fetches_tree_found_through_opentracker() {
    transfer(&by_uring(), &Rtorrent, Content::Tree, Found::Opentracker);
}

#[test]
fn libtorrent_fetches_image_dialling_us() {
    let leech = Libtorrent { peers: vec![SEED], ..Libtorrent::default() };
    transfer(&by_uring(), &leech, Content::Image, Found::LeechDials);
}

#[test]
fn libtorrent_fetches_large_pieces_found_through_our_tracker() {
    transfer(&tracking(by_uring()), &Libtorrent::default(), Content::LargePieces, Found::OwnTracker);
}

// Parts of a torrent (BEP 21).

/// The first 100 files go from a seed to us, from us to libtorrent, and from there to us again: each time from one that
/// has no more than these, wants nothing and says so.
#[test]
fn selected_files_go_from_partial_seed_to_partial_seed() {
    let network = Network::new();
    let [first, second, third, last] = [(); 4].map(|()| network.host());
    let dir = content::disk_dir();
    let (torrent, original) = make(Content::Tree, &dir.path().join("from"), "", dir.path());
    let ours = |ringtide: Ringtide, peer: SocketAddr, more: &[&str]| {
        let arguments = ["--files", "1-100"].iter().chain(more).map(|&word| word.to_owned()).collect();
        Ringtide { arguments, ..dialling(ringtide, peer) }
    };
    let to = ["a", "b", "c"].map(|name| dir.path().join(name));
    to.iter().for_each(|to| fs::create_dir_all(to).unwrap());
    let _seed = Libtorrent::default().seed(&first, &torrent, original.parent().unwrap());
    let partial = ours(by_uring(), first.socket(PORT), &["--seed-for", "1h"]).get(&second, &torrent, &to[0]);
    wait::until("the selected files", || partial.stderr().contains("complete; seeding"));
    let peers = vec![second.socket(PORT)];
    let theirs = Libtorrent { peers, first_files: Some(100), ..Libtorrent::default() };
    let mut theirs = theirs.leech(&third, &torrent, &to[1]);
    theirs.wait_all();
    ours(by_epoll(), third.socket(PORT), &[]).leech(&last, &torrent, &to[2]).wait_all();
    let shown = ringtide_tests::ringtide::run(["show", "--json", torrent.path.to_str().unwrap()]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    for file in shown["files"].as_array().unwrap().iter().take(100) {
        let path = file["path"].as_str().unwrap();
        let sent = fs::read(original.parent().unwrap().join(path)).unwrap();
        for to in &to {
            assert!(fs::read(to.join(path)).unwrap() == sent, "{path} below {}", to.display());
        }
    }
}

// Ourselves, and the torrents that others made.

#[test]
fn we_fetch_from_ourselves_through_our_tracker() {
    transfer(&tracking(by_epoll()), &by_uring(), Content::Tree, Found::OwnTracker);
}

#[test]
fn we_fetch_from_ourselves_over_ipv6() {
    let address = |host: u16| SocketAddr::new(IpAddr::V6([0xfd77, 0, 0, 0, 0, 0, 0, host].into()), PORT);
    let listen = |host| vec!["--listen".to_owned(), address(host).to_string()];
    let seed = Ringtide { arguments: listen(2), ..by_uring() };
    let leech = Ringtide { arguments: listen(3), ..dialling(by_epoll(), address(2)) };
    transfer(&seed, &leech, Content::Tree, Found::LeechDials);
}

#[test]
fn fixtures_come_from_others() {
    let get = dialling(by_uring(), SEED);
    transfer(&Aria2, &get, Content::Fixture("alice.torrent", "alice.txt"), Found::LeechDials);
    transfer(&Rtorrent, &get, Content::Fixture("numbers.torrent", "numbers"), Found::LeechDials);
    transfer(&Libtorrent::default(), &get, Content::Fixture("folder.torrent", "folder"), Found::LeechDials);
    let leaves = Content::Fixture("leaves.torrent", "Leaves of Grass by Walt Whitman.epub");
    transfer(&Transmission, &by_uring(), leaves, Found::Opentracker);
}

#[test]
fn fixtures_go_to_others() {
    let seed = by_epoll();
    let lots = Content::Fixture("lots-of-numbers.torrent", "lots-of-numbers");
    transfer(&seed, &Aria2, lots, Found::Opentracker);
    transfer(&tracking(by_uring()), &Libtorrent::default(), lots, Found::OwnTracker);
    transfer(&seed, &Rtorrent, Content::Fixture("numbers.torrent", "numbers"), Found::Opentracker);
    transfer(&seed, &Transmission, Content::Fixture("alice.torrent", "alice.txt"), Found::Opentracker);
    let leaves = Content::Fixture("leaves.torrent", "Leaves of Grass by Walt Whitman.epub");
    transfer(&seed, &Libtorrent::default(), leaves, Found::Opentracker);
}
