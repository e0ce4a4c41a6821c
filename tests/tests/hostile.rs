//! Peers that break the rules: the download is right whatever they do, the one that lies is banned, and an honest one
//! never is.

use std::sync::Arc;

use ringtide_tests::content::{KIB, MIB};
use ringtide_tests::hostile::{Manner, Peer};
use ringtide_tests::ringtide::{self, number, summary};
use ringtide_tests::scene::Scene;
use ringtide_tests::wait;

/// Gets an image from peers of these manners and asserts that it is right. Returns how many addresses were banned.
fn get_from(manners: &[Manner], arguments: &[&str]) -> u64 {
    let scene = Scene::new(24 * MIB + 321, 256 * KIB);
    let peers = scene.peers(manners);
    let mut get = scene.get(&peers, arguments);
    get.wait_success();
    scene.assert_copied();
    let summary = summary(&get.stdout());
    assert_eq!(number(&summary, "bytes"), scene.torrent.total);
    number(&summary, "banned")
}

fn poisoner_is_banned(arguments: &[&str]) {
    let scene = Scene::new(64 * MIB + 5, 256 * KIB);
    // The honest ones are slow enough that they cannot be done before the poisoner was asked for something.
    let peers = scene.peers(&[Manner::Slow(1), Manner::Poisons(50), Manner::Slow(1)]);
    let listen = ringtide::free_address(1);
    let listen_text = listen.to_string();
    let mut get = scene.get(&peers, &[arguments, &["--listen", &listen_text, "--seed-for", "1h"]].concat());
    wait::until("the image", || {
        get.expect_running();
        scene.is_copied()
    });
    assert!(peers[1].blocks_spoiled() > 0, "the poisoner was never asked for a block it spoils");
    wait::until("the poisoner to be unwelcome", || !peers[1].is_welcome_at(listen));
    assert!(peers[0].is_welcome_at(listen) && peers[2].is_welcome_at(listen), "an honest peer is banned");
    get.expect_running();
}

#[test]
fn one_that_poisons_a_block_in_fifty_is_banned_by_uring() {
    poisoner_is_banned(&["--io", "uring"]);
}

#[test]
fn one_that_poisons_a_block_in_fifty_is_banned_by_epoll() {
    poisoner_is_banned(&["--io", "epoll"]);
}

#[test]
fn the_poisoner_is_banned_on_whatever_shard_it_is() {
    poisoner_is_banned(&["--shards", "3"]);
}

#[test]
fn one_that_stops_within_a_block_does_not_stop_the_download() {
    let banned = get_from(&[Manner::StopsInBlock(3), Manner::Honest], &["--shards", "1"]);
    assert_eq!(banned, 0, "being slow is not lying");
}

#[test]
fn one_that_stops_on_another_shard_does_not_stop_the_download() {
    get_from(&[Manner::StopsInBlock(3), Manner::Honest], &["--shards", "2"]);
}

#[test]
fn garbage_does_not_stop_the_download() {
    get_from(&[Manner::Garbage, Manner::Honest], &[]);
}

#[test]
fn claims_without_blocks_do_not_stop_the_download() {
    let banned = get_from(&[Manner::NeverSends, Manner::Honest], &["--shards", "1"]);
    assert_eq!(banned, 0, "sending nothing is not lying");
}

/// The liar's shard claims pieces that only the other shard's peer can deliver.
#[test]
fn claims_on_another_shard_do_not_stop_the_download() {
    let scene = Scene::new(24 * MIB, 256 * KIB);
    let half = scene.torrent.pieces() / 2;
    let start = |last: u8, manner, holds| {
        Peer::start_with(
            ([127, 0, 0, last], 0).into(),
            &scene.torrent,
            &Arc::clone(&scene.bytes),
            manner,
            holds,
        )
    };
    let peers = [
        start(2, Manner::NeverSends, 0..scene.torrent.pieces()),
        start(3, Manner::Honest, 0..scene.torrent.pieces()),
        start(4, Manner::NeverSends, half..scene.torrent.pieces()),
    ];
    let mut get = scene.get(&peers, &["--shards", "2"]);
    get.wait_success();
    scene.assert_copied();
}

#[test]
fn all_of_them_at_once() {
    let manners = [
        Manner::Garbage,
        Manner::Poisons(50),
        Manner::NeverSends,
        Manner::StopsInBlock(2),
        Manner::Slow(20),
        Manner::Honest,
    ];
    get_from(&manners, &["--shards", "2"]);
    get_from(&manners, &["--shards", "2", "--io", "epoll"]);
}
