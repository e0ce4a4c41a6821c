//! The command line as its user meets it: results, messages and exit codes of create, show and verify.

use std::fs;
use std::path::Path;
use std::process::Output;

use ringtide_tests::content::{self, KIB, MIB};
use ringtide_tests::ringtide::{self, number, summary};
use ringtide_tests::torrent::Torrent;
use serde_json::Value;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("results are UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

/// Asserts the exit code and that the message on stderr names `culprit`; nothing may be on stdout.
fn assert_refused(output: &Output, code: i32, culprit: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(culprit), "the message does not name {culprit:?}: {}", stderr(output));
    assert_eq!(stdout(output), "", "a refusal has no result");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

fn show_json(torrent: &str) -> Value {
    let output = ringtide::run(["show", "--json", torrent]);
    assert!(output.status.success(), "{}", stderr(&output));
    summary(&stdout(&output))
}

#[test]
fn create_agrees_with_another_implementation() {
    let dir = content::disk_dir();
    let tree = content::write_tree(dir.path(), "tree", 40, 1);
    let theirs = Torrent::create(&tree, 32 * KIB, "", dir.path());
    let ours = dir.path().join("ours.torrent");
    let output = ringtide::run(["create", path(&tree), "--piece-length", "32KiB", "-o", path(&ours)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(show_json(path(&ours))["info_hash_v1"], theirs.info_hash_hex());
}

#[test]
fn create_is_reproducible() {
    let dir = content::disk_dir();
    let tree = content::write_tree(dir.path(), "tree", 40, 1);
    let create =
        || ringtide::run(["create", path(&tree), "-a", "http://tracker.example/announce", "-o", "-"]);
    let (one, two) = (create(), create());
    assert!(one.status.success(), "{}", stderr(&one));
    assert_eq!(one.stdout, two.stdout);
    assert!(!one.stdout.is_empty());
}

#[test]
fn show_tells_everything_about_a_torrent() {
    let dir = content::disk_dir();
    let tree = content::write_tree(dir.path(), "tree", 9, 1);
    let torrent = Torrent::create(&tree, 16 * KIB, "http://tracker.example/announce", dir.path());
    let shown = show_json(path(&torrent.path));
    assert_eq!(shown["name"], "tree");
    assert_eq!(shown["info_hash_v1"], torrent.info_hash_hex());
    assert_eq!(shown["info_hash_v2"], Value::Null);
    assert_eq!(number(&shown, "piece_length"), 16 * KIB);
    assert_eq!(number(&shown, "pieces"), torrent.pieces());
    assert_eq!(number(&shown, "total_length"), torrent.total);
    assert_eq!(shown["trackers"], serde_json::json!([["http://tracker.example/announce"]]));
    assert_eq!(shown["private"], false);
    let files = shown["files"].as_array().expect("a list of files");
    let lengths: u64 = files.iter().map(|file| number(file, "length")).sum();
    assert_eq!((files.len(), lengths), (9, torrent.total));
}

#[test]
fn show_reads_magnet_links() {
    let hash = "0123456789abcdef0123456789abcdef01234567";
    let shown =
        show_json(&format!("magnet:?xt=urn:btih:{hash}&dn=image&tr=http%3A%2F%2Ftracker.example%2Fannounce"));
    assert_eq!((&shown["info_hash_v1"], &shown["name"]), (&hash.into(), &"image".into()));
}

#[test]
fn names_never_reach_the_terminal_unescaped() {
    let dir = content::disk_dir();
    let file = dir.path().join("a\u{1b}[31mred");
    content::write_file(&file, 1000, 1);
    let torrent = Torrent::create(&file, 16 * KIB, "", dir.path());
    let renamed = dir.path().join("plain.torrent");
    fs::rename(&torrent.path, &renamed).unwrap();
    for arguments in [vec!["show", path(&renamed)], vec!["verify", path(&renamed), path(dir.path())]] {
        let output = ringtide::run(arguments);
        let said = [output.stdout, output.stderr].concat();
        assert!(!said.contains(&0x1b), "an escape sequence reached the terminal");
        assert!(!said.is_empty());
    }
}

#[test]
fn verify_finds_what_is_bad_and_what_is_missing() {
    let dir = content::disk_dir();
    let tree = content::write_tree(dir.path(), "tree", 3, 1);
    content::write_file(&tree.join("z"), MIB, 7);
    let torrent = Torrent::create(&tree, 64 * KIB, "", dir.path());
    let verify = |at: &Path| ringtide::run(["verify", "--json", path(&torrent.path), path(at)]);

    let whole = verify(dir.path());
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    let report = summary(&stdout(&whole));
    assert_eq!((number(&report, "pieces"), number(&report, "good")), (torrent.pieces(), torrent.pieces()));
    assert!(report["bad"].as_array().is_some_and(Vec::is_empty));
    assert!(report["wall_s"].is_number() && report["gb_per_s"].is_number());

    // The content itself will do as well as the directory that holds it.
    assert_eq!(verify(&tree).status.code(), Some(0));

    let mut bytes = fs::read(tree.join("z")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(tree.join("z"), bytes).unwrap();
    let spoiled = verify(dir.path());
    assert_eq!(spoiled.status.code(), Some(4));
    assert_eq!(summary(&stdout(&spoiled))["bad"], serde_json::json!([torrent.pieces() - 1]));

    fs::remove_file(tree.join("z")).unwrap();
    let missing = verify(dir.path());
    assert_eq!(missing.status.code(), Some(4));
    let report = summary(&stdout(&missing));
    let files = report["missing_files"].as_array().expect("a list of files");
    assert_eq!(files.len(), 1, "{report}");
}

#[test]
fn nonsense_is_a_usage_error() {
    assert_refused(&ringtide::run(["frobnicate"]), 2, "frobnicate");
    assert_refused(&ringtide::run(["show"]), 2, "TORRENT");
    assert_refused(&ringtide::run(["create", "x", "--piece-length", "17"]), 2, "power of two");
}

#[test]
fn bad_input_is_named() {
    let dir = content::disk_dir();
    let garbage = dir.path().join("garbage.torrent");
    fs::write(&garbage, b"d4:infoi1ee").unwrap();
    assert_refused(&ringtide::run(["show", path(&garbage)]), 3, "garbage.torrent");
    assert_refused(&ringtide::run(["show", "/nonexistent.torrent"]), 3, "/nonexistent.torrent");
    assert_refused(&ringtide::run(["show", "magnet:?xt=urn:btih:short"]), 3, "magnet:");
    assert_refused(&ringtide::run(["create", "/nonexistent", "-o", "-"]), 3, "/nonexistent");
    assert_refused(&ringtide::run(["verify", path(&garbage), path(dir.path())]), 3, "garbage.torrent");
}

#[test]
fn help_and_version_are_results() {
    for flag in ["--help", "--version"] {
        let output = ringtide::run([flag]);
        assert!(output.status.success() && stdout(&output).contains("ringtide"), "{flag}");
    }
}
