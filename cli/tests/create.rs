//! `ringtide create`: the same content makes the same torrent, every byte of it is right, and nothing is shared
//! that was not meant to be.

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{Sandbox, ended, noise};
use ringtide_proto::metainfo::Metainfo;

fn read(sandbox: &Sandbox, name: &str) -> Metainfo {
    Metainfo::parse(&fs::read(sandbox.path(name)).expect("the torrent")).expect("parses")
}

/// The obvious implementation: everything in memory, one piece after the other.
fn hashes(content: &[u8], piece_length: usize) -> Vec<[u8; 20]> {
    content.chunks(piece_length).map(ringtide_hasher::scalar::sha1).collect()
}

#[test]
fn pieces_run_through_the_files_in_order() {
    let sandbox = Sandbox::new();
    let files = [("a/1", 40_000), ("a/2", 0), ("b", 5), ("c/d/e", 100_001), ("z", 16_384)];
    let mut all = Vec::new();
    for (index, (name, len)) in files.iter().enumerate() {
        let content = noise(*len, index as u64);
        sandbox.write(&format!("tree/{name}"), &content);
        all.extend(content);
    }
    sandbox.succeed(["create", "tree", "--piece-length", "16KiB"]);
    let torrent = read(&sandbox, "tree.torrent");
    let paths: Vec<_> = torrent.files().iter().map(|file| file.path.join("/")).collect();
    assert_eq!(paths, ["tree/a/1", "tree/a/2", "tree/b", "tree/c/d/e", "tree/z"]);
    assert_eq!(torrent.piece_hashes(), hashes(&all, 16_384));
}

#[test]
fn many_pieces_are_hashed_in_their_places() {
    let sandbox = Sandbox::new();
    // More than two threads' runs of 16 MiB, and a short last piece.
    let content = noise((40 << 20) + 12_345, 1);
    sandbox.write("image", &content);
    sandbox.succeed(["create", "image"]);
    let torrent = read(&sandbox, "image.torrent");
    assert_eq!(torrent.piece_length(), 256 << 10, "the shortest that is chosen by itself");
    let expected: Vec<_> = content.chunks(256 << 10).map(ringtide_hasher::sha1).collect();
    assert_eq!(torrent.piece_hashes(), expected);
    assert!(!torrent.is_multi_file());
}

#[test]
fn the_same_content_makes_the_same_bytes() {
    let sandbox = Sandbox::new();
    for name in ["one/b", "one/a", "two/a", "two/b"] {
        sandbox.write(name, &name[4..]);
    }
    let make = |directory: &str, epoch: Option<&str>| {
        let mut command =
            sandbox.command(["create", directory, "-o", "-", "--name", "n", "-a", "http://t/announce"]);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let ended = ended(command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    assert_eq!(make("one", None), make("two", None));
    assert_eq!(make("one", Some("1700000000")), make("two", Some("1700000000")));
    let torrent = Metainfo::parse(&make("one", Some("1700000000"))).expect("parses");
    assert_eq!(torrent.creation_date(), Some(1_700_000_000));
}

#[test]
fn what_was_asked_for_is_written() {
    let sandbox = Sandbox::new();
    sandbox.write("f", "content");
    let words = ["create", "f", "-o", "out", "-a", "http://a/x", "-a", "udp://b:1", "-w", "http://w/f"];
    sandbox.succeed(words.iter().chain(&["--name", "name", "--comment", "words", "--private"]));
    let torrent = read(&sandbox, "out");
    assert_eq!(torrent.trackers(), [vec!["http://a/x".to_owned()], vec!["udp://b:1".to_owned()]]);
    assert_eq!(torrent.web_seeds(), ["http://w/f"]);
    assert_eq!((torrent.name(), torrent.comment(), torrent.is_private()), ("name", Some("words"), true));
    assert_eq!(torrent.creation_date(), None);
}

#[test]
fn links_out_of_the_content_are_skipped_aloud() {
    let sandbox = Sandbox::new();
    sandbox.write("secret", "s");
    sandbox.write("tree/real", "r");
    symlink("real", sandbox.path("tree/alias")).expect("a link");
    symlink("../secret", sandbox.path("tree/leak")).expect("a link");
    let ended = sandbox.succeed(["create", "tree"]);
    assert!(
        ended.stderr.contains("skipped \"tree/leak\": a symbolic link that leads out"),
        "{}",
        ended.stderr
    );
    let torrent = read(&sandbox, "tree.torrent");
    let paths: Vec<_> = torrent.files().iter().map(|file| file.path.join("/")).collect();
    assert_eq!(paths, ["tree/alias", "tree/real"]);
}

#[test]
fn its_own_output_is_no_content() {
    let sandbox = Sandbox::new();
    sandbox.write("tree/a", "a");
    sandbox.succeed(["create", "tree", "-o", "tree/x.torrent"]);
    let first = fs::read(sandbox.path("tree/x.torrent")).expect("is there");
    let again = sandbox.succeed(["create", "tree", "-o", "tree/x.torrent"]);
    assert!(again.stderr.contains("replacing \"tree/x.torrent\""), "{}", again.stderr);
    assert_eq!(fs::read(sandbox.path("tree/x.torrent")).expect("is there"), first);
}

#[test]
fn what_cannot_be_shared_is_explained() {
    let sandbox = Sandbox::new();
    sandbox.write("empty", "");
    sandbox.write("important.txt", "dear diary");
    sandbox.write("f", "x");
    let said = sandbox.fail(3, ["create", "gone"]);
    assert!(said.contains("cannot read \"gone\"") && said.contains("check the path"), "{said}");
    assert!(sandbox.fail(3, ["create", "empty"]).contains("no file has any content"));
    let said = sandbox.fail(3, ["create", "f", "-o", "important.txt"]);
    assert!(said.contains("exists and is not a torrent"), "{said}");
    assert_eq!(fs::read(sandbox.path("important.txt")).expect("is there"), b"dear diary");
    assert!(sandbox.fail(3, ["create", "f", "--name", "a/b"]).contains("rename it"));
    assert!(sandbox.fail(3, ["create", "f", "-o", "no/such/dir/x"]).contains("check the path"));
    sandbox.fail(2, ["create", "f", "--piece-length", "3MiB"]);
}
