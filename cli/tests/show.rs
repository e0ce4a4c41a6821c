//! `ringtide show`: all fields for programs, escaped names for people, and no waiting for large torrents.

mod common;

use std::time::{Duration, Instant};

use common::{Sandbox, fixture};
use ringtide_proto::metainfo::TorrentBuilder;
use serde_json::{Value, json};

#[test]
fn a_torrent_shows_every_field() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", "abc");
    sandbox.write("tree/b/c", "defg");
    sandbox.succeed([
        "create",
        "tree",
        "-a",
        "http://t/announce",
        "-w",
        "http://w/",
        "--comment",
        "c",
        "--private",
    ]);
    let shown = sandbox.succeed(["show", "tree.torrent", "--json"]).json();
    let hash = shown["info_hash_v1"].as_str().map(str::to_owned).expect("a hash");
    assert_eq!(hash.len(), 40);
    let created_by = concat!("ringtide ", env!("CARGO_PKG_VERSION"));
    let expected = json!({
        "name": "tree", "info_hash_v1": hash, "info_hash_v2": null, "piece_length": 262_144, "pieces": 1,
        "total_length": 7,
        "files": [
            { "number": 1, "path": "tree/a", "length": 3, "pad": false },
            { "number": 2, "path": "tree/b/c", "length": 4, "pad": false },
        ],
        "trackers": [["http://t/announce"]], "web_seeds": ["http://w/"], "private": true,
        "comment": "c", "created_by": created_by, "creation_date": null,
    });
    assert_eq!(shown, expected);
    let text = sandbox.succeed(["show", "tree.torrent"]);
    for line in [
        &format!("info hash v1  {hash}"),
        "7 B (7 bytes) in 2 files",
        "tracker 1     http://t/announce",
        "     2                4  tree/b/c",
    ] {
        assert!(text.text().contains(line), "{line:?} is not in {}", text.text());
    }
}

#[test]
fn magnets_are_shown_without_asking_anybody() {
    let sandbox = Sandbox::new();
    let link = format!("magnet:?xt=urn:btih:{}&dn=a+b&tr=http%3A%2F%2Ft%2Fx&xl=5", "ab".repeat(20));
    let shown = sandbox.succeed(["show", &link, "--json"]).json();
    assert_eq!((&shown["name"], &shown["total_length"]), (&json!("a b"), &json!(5)));
    assert_eq!(shown["info_hash_v1"], json!("ab".repeat(20)));
    assert_eq!((&shown["pieces"], &shown["files"]), (&Value::Null, &Value::Null));
    assert!(sandbox.fail(3, ["show", "magnet:?dn=x"]).contains("names no torrent"));
}

#[test]
fn v2_torrents_can_be_shown() {
    let sandbox = Sandbox::new();
    let ended = sandbox.succeed([
        std::ffi::OsStr::new("show"),
        fixture("v2_only.torrent").as_os_str(),
        "--json".as_ref(),
    ]);
    let shown = ended.json();
    assert_eq!(shown["info_hash_v1"], Value::Null);
    assert_eq!(shown["info_hash_v2"].as_str().map(str::len), Some(64));
}

#[test]
fn names_cannot_take_over_the_terminal() {
    let sandbox = Sandbox::new();
    let name = "evil\u{202e}txt.exe";
    let mut builder = TorrentBuilder::single_file("image", 1, 16384);
    builder.comment = Some(format!("a\u{1b}]0;pwned\u{7}\nb{name}\u{9b}2J"));
    sandbox.write("x.torrent", builder.build(&[[0; 20]]).expect("a torrent"));
    for words in [vec!["show", "x.torrent"], vec!["show", "x.torrent", "--json"]] {
        let ended = sandbox.succeed(words);
        let is_raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ended.text().contains(is_raw), "{}", ended.text());
    }
    let json = sandbox.succeed(["show", "x.torrent", "--json"]).json();
    assert_eq!(json["comment"].as_str(), builder.comment.as_deref(), "and a program gets it all");
    let text = sandbox.succeed(["show", "x.torrent"]);
    assert!(text.text().contains("a\\u{1b}]0;pwned\\u{7}\\u{a}b"), "{}", text.text());
}

#[test]
fn what_is_no_torrent_is_explained() {
    let sandbox = Sandbox::new();
    sandbox.write("page.torrent", "<html>not found</html>");
    let said = sandbox.fail(3, ["show", "page.torrent"]);
    assert!(said.contains("cannot use \"page.torrent\": invalid bencoding at byte 0"), "{said}");
    assert!(sandbox.fail(3, ["show", "."]).contains("directory"));
    assert!(sandbox.fail(3, ["show", "gone\u{1b}[31m"]).contains("\"gone\\u{1b}[31m\""));
}

/// Point 6 of the first issue. The bound is for a release build; this one is slower and still far below it.
#[test]
fn a_torrent_of_200_gb_is_shown_within_three_seconds() {
    const PIECES: u32 = 800_000;
    let sandbox = Sandbox::new();
    let hashes: Vec<[u8; 20]> = (0..PIECES).map(|n| ringtide_hasher::sha1(&n.to_le_bytes())).collect();
    let builder = TorrentBuilder::single_file("disk.img", u64::from(PIECES) << 18, 1 << 18);
    sandbox.write("big.torrent", builder.build(&hashes).expect("a torrent"));
    let started = Instant::now();
    let ended = sandbox.succeed(["show", "big.torrent", "--json"]);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(ended.json()["pieces"], json!(PIECES));
    assert!(ended.stdout.len() < 1000, "the hashes are not printed");
}
