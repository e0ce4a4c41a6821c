//! The harness, proven without ringtide: the other clients find and serve each other on its networks. When one of these
//! fails, the cause is the harness or the machine.

use std::fs;
use std::sync::Arc;

use ringtide_tests::content::{self, MIB};
use ringtide_tests::hostile::{Manner, Peer};
use ringtide_tests::net::{Host, Network};
use ringtide_tests::rivals::{Aria2, Libtorrent, Opentracker, PORT, Rival, Rtorrent, Transmission};
use ringtide_tests::torrent::Torrent;

fn transfer(seed: &dyn Rival, leech: &dyn Rival) {
    let network = Network::new();
    let (tracker_host, seed_host, leech_host) = (network.host(), network.host(), network.host());
    let dir = content::disk_dir();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(&to).unwrap();
    let tree = content::write_tree(&from, "tree", 40, 1);
    content::write_file(&tree.join("large"), 20 * MIB + 77, 2);
    let torrent = Torrent::create(&tree, 64 * 1024, &Opentracker::announce_url(&tracker_host), dir.path());
    let tracker = Opentracker::start(&tracker_host, &[&torrent]);
    let _seed = seed.seed(&seed_host, &torrent, &from);
    tracker.wait_seeds(&torrent, 1);
    leech.leech(&leech_host, &torrent, &to).wait_all();
    leech.assert_received(&tree, &to.join("tree"));
}

#[test]
fn aria2_fetches_from_transmission() {
    transfer(&Transmission, &Aria2);
}

#[test]
fn transmission_fetches_from_rtorrent() {
    transfer(&Rtorrent, &Transmission);
}

#[test]
fn rtorrent_fetches_from_aria2() {
    transfer(&Aria2, &Rtorrent);
}

#[test]
fn libtorrent_fetches_from_libtorrent() {
    transfer(&Libtorrent::default(), &Libtorrent::default());
}

#[test]
fn libtorrent_gets_through_a_poisoner() {
    let network = Network::new();
    let dir = content::disk_dir();
    let (file, to) = (dir.path().join("image"), dir.path().join("to"));
    content::write_file(&file, 16 * MIB + 3, 5);
    fs::create_dir_all(&to).unwrap();
    let torrent = Torrent::create(&file, 256 * 1024, "", dir.path());
    let bytes = Arc::new(fs::read(&file).unwrap());
    let manners = [Manner::Honest, Manner::Poisons(20), Manner::Honest];
    let hosts: Vec<Host> = manners.iter().map(|_| network.host()).collect();
    let start = |(host, manner): (&Host, Manner)| {
        host.enter(|| Peer::start(host.socket(PORT), &torrent, &bytes, manner))
    };
    let peers: Vec<Peer> = hosts.iter().zip(manners).map(start).collect();
    let libtorrent = Libtorrent { peers: peers.iter().map(Peer::addr).collect(), ..Libtorrent::default() };
    let host = network.host();
    let mut leech = libtorrent.leech(&host, &torrent, &to);
    leech.wait_all();
    content::assert_same(&file, &to.join("image"));
    let welcome = |n: usize| hosts[n].enter(|| peers[n].is_welcome_at(host.socket(PORT)));
    assert!(peers[1].blocks_spoiled() > 0);
    assert!(welcome(0) && welcome(2), "an honest peer was banned");
}
