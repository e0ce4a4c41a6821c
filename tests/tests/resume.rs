//! Stopping and going on: what was verified is never fetched again, whether it was asked to stop or killed.

use ringtide_tests::content::{KIB, MIB};
use ringtide_tests::hostile::{Manner, Peer};
use ringtide_tests::process::Process;
use ringtide_tests::ringtide::{number, summary};
use ringtide_tests::scene::Scene;
use ringtide_tests::wait;
use rustix::process::Signal;

const BLOCK: u64 = 16 * KIB;
/// Slow enough to be met in the middle: 4 peers of 1 block per millisecond and less.
const MANNERS: [Manner; 4] = [Manner::Slow(1); 4];

fn sent(peers: &[Peer]) -> u64 {
    peers.iter().map(|peer| peer.blocks_sent() * BLOCK).sum()
}

fn scene() -> Scene {
    Scene::new(48 * MIB + 99, 256 * KIB)
}

/// Starts `get` and returns once half of the image is sent. The peers send little more than that, so it cannot end.
fn get_half(scene: &Scene, peers: &[Peer], arguments: &[&str]) -> Process {
    let most = scene.torrent.total * 6 / 10 / BLOCK / peers.len() as u64;
    peers.iter().for_each(|peer| peer.send_at_most(most));
    let mut get = scene.get(peers, arguments);
    wait::until("half of the image", || {
        get.expect_running();
        sent(peers) > scene.torrent.total / 2 && scene.good_bytes() > 0
    });
    get
}

/// Runs the same command to its end and asserts that it fetched what was missing, and hardly more: in the endgame the
/// last blocks are asked of several peers (BEP 3).
fn go_on(scene: &Scene, arguments: &[&str]) {
    let good = scene.good_bytes();
    assert!(good > 0, "nothing of the first half was verified and written");
    let peers = scene.peers(&MANNERS);
    let mut get = scene.get(&peers, arguments);
    get.wait_success();
    scene.assert_copied();
    let missing = scene.torrent.total - good;
    let downloaded = number(&summary(&get.stdout()), "downloaded");
    println!("good {good}, missing {missing}, fetched {downloaded}, sent {}", sent(&peers));
    let endgame = 2 * MANNERS.len() as u64 * scene.torrent.piece_length;
    assert!(
        downloaded >= missing && downloaded <= missing + endgame,
        "missing {missing}, fetched {downloaded}"
    );
}

fn killed_at_half(arguments: &[&str]) {
    let scene = scene();
    let peers = scene.peers(&MANNERS);
    let mut get = get_half(&scene, &peers, arguments);
    get.signal(Signal::KILL);
    get.wait();
    drop(peers);
    go_on(&scene, arguments);
}

/// What was sent and is not good on disk is in pieces that are open: a few per peer, however long the rest takes.
fn only_open_pieces_are_lost(arguments: &[&str]) {
    let scene = scene();
    let peers = scene.peers(&MANNERS);
    let mut get = get_half(&scene, &peers, arguments);
    peers.iter().for_each(|peer| peer.send_at_most(0));
    let open = 2 * MANNERS.len() as u64 * scene.torrent.piece_length;
    wait::until("whole pieces to be on disk", || {
        get.expect_running();
        scene.good_bytes() + open >= sent(&peers)
    });
    get.signal(Signal::KILL);
    get.wait();
    assert!(scene.good_bytes() + open >= sent(&peers));
    drop(peers);
    go_on(&scene, arguments);
}

#[test]
fn killed_it_loses_only_open_pieces_by_uring() {
    only_open_pieces_are_lost(&["--io", "uring"]);
}

#[test]
fn killed_it_loses_only_open_pieces_by_epoll() {
    only_open_pieces_are_lost(&["--io", "epoll"]);
}

#[test]
fn killed_at_half_it_fetches_the_rest_by_uring() {
    killed_at_half(&["--io", "uring"]);
}

#[test]
fn killed_at_half_it_fetches_the_rest_by_epoll() {
    killed_at_half(&["--io", "epoll"]);
}

fn stopped_at_half(signal: Signal, code: i32) {
    let scene = scene();
    let peers = scene.peers(&MANNERS);
    let mut get = get_half(&scene, &peers, &[]);
    get.signal(signal);
    assert_eq!(get.wait().code(), Some(code), "{}", get.stderr());
    drop(peers);
    go_on(&scene, &[]);
}

#[test]
fn interrupted_it_goes_on() {
    stopped_at_half(Signal::INT, 130);
}

#[test]
fn terminated_it_goes_on() {
    stopped_at_half(Signal::TERM, 143);
}
