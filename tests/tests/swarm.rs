//! A mixed swarm: one slow seed, and leechers that must serve each other.

use std::fs;

use ringtide_tests::content::{self, KIB, MIB};
use ringtide_tests::net::{Host, Network};
use ringtide_tests::ringtide::Ringtide;
use ringtide_tests::rivals::{Aria2, Libtorrent, Opentracker, Rival};
use ringtide_tests::torrent::Torrent;
use ringtide_tests::wait;

const SIZE: u64 = 192 * MIB;
/// At which the seed needs 24 s for one copy.
const SEED_RATE: u64 = 8 * MIB;

/// One libtorrent seed limited to 8 MiB/s, three ringtides and one aria2c: each finishes, and the seed sends less than
/// two copies for the four of them.
#[test]
fn a_slow_seed_sends_less_than_two_copies_to_four() {
    let network = Network::new();
    let (tracker_host, seed_host, aria2_host) = (network.host(), network.host(), network.host());
    let hosts: [Host; 3] = std::array::from_fn(|_| network.host());
    let dir = content::disk_dir();
    let original = dir.path().join("from/image");
    content::write_file(&original, SIZE, 4);
    let torrent =
        Torrent::create(&original, 256 * KIB, &Opentracker::announce_url(&tracker_host), dir.path());
    let copies: Vec<_> = (0..4).map(|n| dir.path().join(format!("to{n}"))).collect();
    copies.iter().for_each(|copy| fs::create_dir_all(copy).unwrap());

    let tracker = Opentracker::start(&tracker_host, &[&torrent]);
    let limited = Libtorrent { upload_limit: SEED_RATE, ..Libtorrent::default() };
    let seed = limited.seed(&seed_host, &torrent, original.parent().unwrap());
    tracker.wait_seeds(&torrent, 1);
    let stays = Ringtide { arguments: vec!["--seed-for".into(), "1h".into()], ..Ringtide::default() };
    let mut ours: Vec<_> =
        hosts.iter().zip(&copies).map(|(host, copy)| stays.get(host, &torrent, copy)).collect();
    let mut aria2 = Aria2.leech(&aria2_host, &torrent, &copies[3]);

    aria2.wait_all();
    for (get, copy) in ours.iter_mut().zip(&copies) {
        wait::until("a ringtide to have everything", || {
            get.expect_running();
            content::first_difference(&original, &copy.join("image")).is_none()
        });
    }
    copies.iter().for_each(|copy| content::assert_same(&original, &copy.join("image")));
    let uploaded = seed.uploaded();
    println!("the seed sent {:.2} copies", uploaded as f64 / SIZE as f64);
    assert!(uploaded < 2 * SIZE, "the seed sent {uploaded} bytes of {SIZE}");
}
