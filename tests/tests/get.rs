//! `get` and `seed` as their user meets them: results, exit codes, memory, and each other over loopback.

use std::fs;
use std::path::Path;

use ringtide_tests::content::{self, KIB, MIB};
use ringtide_tests::hostile::Manner;
use ringtide_tests::process::Process;
use ringtide_tests::ringtide::{self, number, summary};
use ringtide_tests::scene::Scene;
use ringtide_tests::torrent::Torrent;

/// What pieces may take by default (`get --help`).
const PIECE_BUDGET: u64 = 96 * MIB;
/// Everything else: code's own data, receive buffers of two shards, stacks, allocator.
const OVERHEAD: u64 = 32 * MIB;

fn end(mut process: Process) -> (Option<i32>, String, String) {
    let status = process.wait();
    (status.code(), process.stdout(), process.stderr())
}

#[test]
fn each_driver_gets_from_each() {
    for (seed_io, get_io) in [("uring", "uring"), ("uring", "epoll"), ("epoll", "uring"), ("epoll", "epoll")]
    {
        let dir = content::disk_dir();
        let tree = content::write_tree(&dir.path().join("from"), "tree", 60, 1);
        content::write_file(&tree.join("large"), 20 * MIB + 7, 3);
        let torrent = Torrent::create(&tree, 64 * KIB, "", dir.path());
        let listen = ringtide::free_address(1);
        let mut seed = ringtide::command("seed");
        seed.arg(&torrent.path).arg("-d").arg(dir.path().join("from")).args(["--io", seed_io]);
        seed.args(["--listen", &listen.to_string()]);
        let _seed = ringtide::spawn(seed, dir.path());
        ringtide::wait_listening(listen);
        let mut get = ringtide::command("get");
        get.arg(&torrent.path).arg("-o").arg(dir.path().join("to")).args(["--io", get_io, "--json"]);
        get.args(["--peer", &listen.to_string()]);
        let (code, stdout, stderr) = end(ringtide::spawn(get, dir.path()));
        assert_eq!(code, Some(0), "{seed_io} to {get_io}: {stderr}");
        content::assert_same(&tree, &dir.path().join("to/tree"));
        let summary = summary(&stdout);
        assert_eq!(number(&summary, "bytes"), torrent.total);
        assert_eq!(number(&summary, "hash_failures"), 0);
        assert_eq!(summary["io"], get_io);
        assert!(summary["wall_s"].is_number());
    }
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let scene = Scene::new(5 * MIB, 64 * KIB);
    fs::copy(&scene.image, scene.copy()).unwrap();
    // Nobody to fetch from: it must end all the same.
    let (code, stdout, stderr) = end(scene.get(&[], &[]));
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(number(&summary(&stdout), "downloaded"), 0);
}

#[test]
fn only_what_is_bad_is_fetched_again() {
    let scene = Scene::new(5 * MIB, 64 * KIB);
    let mut bytes = scene.bytes.to_vec();
    bytes[3 * 65536 + 17] ^= 1;
    bytes.truncate(bytes.len() - 100);
    fs::write(scene.copy(), bytes).unwrap();
    let peers = scene.peers(&[Manner::Honest]);
    let (code, _, stderr) = end(scene.get(&peers, &[]));
    assert_eq!(code, Some(0), "{stderr}");
    scene.assert_copied();
    assert_eq!(peers[0].blocks_sent(), 2 * 64 / 16, "two pieces of four blocks each");
}

#[test]
fn memory_stays_within_its_budget_with_slow_and_stalled_peers() {
    let scene = Scene::new(400 * MIB, MIB);
    let mut manners = vec![Manner::Slow(200); 8];
    manners.extend([
        Manner::NeverSends,
        Manner::StopsInBlock(3),
        Manner::NeverSends,
        Manner::StopsInBlock(9),
    ]);
    manners.extend([Manner::Honest; 4]);
    let peers = scene.peers(&manners);
    let mut get = scene.get(&peers, &["--shards", "2"]);
    let mut peak = 0;
    while get.is_running() {
        peak = peak.max(get.anonymous_bytes().unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    get.wait_success();
    scene.assert_copied();
    println!("peak of anonymous memory: {} MiB", peak / MIB);
    assert!(peak > 0 && peak < PIECE_BUDGET + OVERHEAD, "peak of anonymous memory: {} MiB", peak / MIB);
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let scene = Scene::new(MIB, 64 * KIB);
    let get = |torrent: &str, to: &Path| {
        let mut command = ringtide::command("get");
        command.arg(torrent).arg("-o").arg(to);
        end(ringtide::spawn(command, scene.dir.path()))
    };
    let (code, stdout, stderr) = get("/nonexistent.torrent", &scene.to());
    assert_eq!((code, stdout.as_str()), (Some(3), ""), "{stderr}");
    assert!(stderr.contains("/nonexistent.torrent"), "{stderr}");

    let not_a_directory = scene.image.join("below-a-file");
    let (code, _, stderr) = get(scene.torrent.path.to_str().unwrap(), &not_a_directory);
    assert!(matches!(code, Some(3 | 7 | 8)), "{code:?}: {stderr}");
    assert!(stderr.contains("below-a-file"), "{stderr}");

    let mut usage = ringtide::command("get");
    usage.arg(&scene.torrent.path);
    assert_eq!(end(ringtide::spawn(usage, scene.dir.path())).0, Some(2));
}

#[test]
fn without_tracker_or_peers_it_says_so() {
    let scene = Scene::new(MIB, 64 * KIB);
    let (code, _, stderr) = end(scene.get(&[], &[]));
    assert_eq!(code, Some(5), "{stderr}");
    assert!(stderr.contains("peer"), "{stderr}");
}

#[test]
fn a_torrent_of_version_2_alone_is_refused_clearly() {
    let dir = content::disk_dir();
    let torrent = content::repository().join("tests/fixtures/torrents/v2_only.torrent");
    let mut command = ringtide::command("get");
    command.arg(torrent).arg("-o").arg(dir.path());
    let (code, _, stderr) = end(ringtide::spawn(command, dir.path()));
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("v2_only.torrent"), "{stderr}");
}

#[test]
fn a_full_disk_is_a_disk_error() {
    let scene = Scene::new(MIB, 64 * KIB);
    let peers = scene.peers(&[Manner::Honest]);
    let mut command = ringtide::command("get");
    command.arg(&scene.torrent.path).args(["-o", "/dev/full"]);
    command.arg("--peer").arg(peers[0].addr().to_string());
    let (code, _, stderr) = end(ringtide::spawn(command, scene.dir.path()));
    assert!(matches!(code, Some(3 | 7 | 8)), "{code:?}: {stderr}");
    assert!(stderr.contains("/dev/full"), "{stderr}");
}

#[test]
fn links_in_the_download_directory_are_not_followed() {
    let dir = content::disk_dir();
    let tree = content::write_tree(&dir.path().join("from"), "tree", 8, 1);
    let torrent = Torrent::create(&tree, 64 * KIB, "", dir.path());
    let (to, outside) = (dir.path().join("to"), dir.path().join("outside"));
    fs::create_dir_all(to.join("tree")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, to.join("tree/a")).unwrap();
    let listen = ringtide::free_address(1);
    let mut seed = ringtide::command("seed");
    seed.arg(&torrent.path).arg("-d").arg(dir.path().join("from")).args(["--listen", &listen.to_string()]);
    let _seed = ringtide::spawn(seed, dir.path());
    ringtide::wait_listening(listen);
    let mut get = ringtide::command("get");
    get.arg(&torrent.path).arg("-o").arg(&to).args(["--peer", &listen.to_string()]);
    let (code, _, stderr) = end(ringtide::spawn(get, dir.path()));
    assert!(matches!(code, Some(3 | 7 | 8)), "{code:?}: {stderr}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was written through a link");
}
