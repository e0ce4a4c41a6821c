//! libtorrent's own test torrents: each of the 108 is accepted with the same info hashes, or refused with an error that
//! names the field. Names, links, trackers and web seeds are checked where a torrent was made for them.
#![expect(clippy::disallowed_methods, reason = "a test may read its fixtures")]

use std::path::PathBuf;

use proptest::prelude::*;
use ringtide_proto::bencode::BencodeErrorKind;
use ringtide_proto::metainfo::{Metainfo, MetainfoError};
use serde_json::{Map, Value};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// What must become of each torrent, by file name.
fn expectations() -> Map<String, Value> {
    let text = std::fs::read_to_string(fixtures().join("torrents-expected.json")).unwrap();
    let Value::Object(mut table) = serde_json::from_str(&text).unwrap() else { panic!("not a table") };
    table.remove("_meta").expect("the table describes itself");
    table
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("torrents").join(name)).unwrap()
}

fn parse(name: &str) -> Metainfo {
    Metainfo::parse(&read(&format!("{name}.torrent"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Paths of the files that are written, in order.
fn paths(torrent: &Metainfo) -> Vec<String> {
    torrent.files().iter().filter(|file| !file.pad).map(|file| file.path.join("/")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether an error of ours says what libtorrent's says: the field is the same one.
fn names_the_field(libtorrents: &str, error: &MetainfoError) -> bool {
    let field = error.field();
    match libtorrents {
        "torrent_is_no_dict" => *error == MetainfoError::NotADictionary,
        "invalid_bencoding" => matches!(error, MetainfoError::Bencode(error) if matches!(
            error.kind,
            BencodeErrorKind::NonCanonicalInteger | BencodeErrorKind::UnsortedKeys
        )),
        "depth_exceeded" => {
            matches!(error, MetainfoError::Bencode(error) if error.kind == BencodeErrorKind::TooDeep)
        }
        "torrent_missing_info" => field == "info",
        // libtorrent has one error for the names of torrents and of files.
        "torrent_missing_name" | "torrent_invalid_name" => field == "info.name" || field.ends_with(".path"),
        "torrent_missing_piece_length" | "too_many_pieces_in_torrent" => field == "info.piece length",
        "torrent_missing_pieces" | "torrent_invalid_hashes" => field == "info.pieces",
        "torrent_invalid_length" => field.ends_with("length") && field != "info.piece length",
        "no_files_in_torrent" => field == "info.files",
        "too_many_duplicate_filenames" => field == "info.files.path",
        "torrent_missing_pieces_root" => field.ends_with(".pieces root"),
        "torrent_invalid_piece_layer" => field == "piece layers",
        "torrent_file_parse_failed" | "torrent_invalid_pad_file" | "torrent_inconsistent_files" => {
            field.starts_with("info.file tree")
        }
        unknown => panic!("no field known for {unknown}"),
    }
}

#[test]
fn every_torrent_ends_as_expected() {
    let expectations = expectations();
    assert_eq!(expectations.len(), 108);
    let stored = std::fs::read_dir(fixtures().join("torrents")).unwrap().count();
    assert_eq!(stored, 108, "every torrent has an expectation");
    for (name, expected) in &expectations {
        let bytes = read(name);
        assert_eq!(
            hex(&ringtide_hasher::sha256(&bytes)),
            expected["sha256"].as_str().unwrap(),
            "{name} was changed"
        );
        match (Metainfo::parse(&bytes), expected["ok"].as_bool().unwrap()) {
            (Ok(torrent), true) => {
                let v1 = torrent.info_hash_v1().map(|hash| hash.to_string());
                assert_eq!(v1.as_deref(), expected.get("btih_v1").and_then(Value::as_str), "{name}");
                let v2 = torrent.info_hash_v2().map(|hash| hex(&hash));
                assert_eq!(v2.as_deref(), expected.get("btmh_v2").and_then(Value::as_str), "{name}");
            }
            (Err(error), false) => {
                let libtorrents = expected["error"].as_str().unwrap();
                assert!(names_the_field(libtorrents, &error), "{name}: {libtorrents}, ours: {error}");
            }
            (Ok(_), false) => panic!("{name} must be refused: {}", expected["why"]),
            (Err(error), true) => panic!("{name} must be accepted: {}; {error}", expected["why"]),
        }
    }
}

/// What a `Metainfo` promises holds for every torrent that is accepted.
#[test]
fn accepted_torrents_keep_the_promises() {
    for name in expectations().keys() {
        let Ok(torrent) = Metainfo::parse(&read(name)) else { continue };
        let mut names = paths(&torrent);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), paths(&torrent).len(), "{name}: a path occurs twice");
        for file in torrent.files() {
            for component in &file.path {
                assert!(!component.is_empty() && component.len() <= 255, "{name}: {component:?}");
                assert!(component != "." && component != "..", "{name}: {component:?}");
                assert!(!component.contains(['/', '\\', '\0']), "{name}: {component:?}");
            }
            assert_eq!(
                torrent.is_multi_file(),
                file.path.len() > 1,
                "{name}: a directory only where there is one"
            );
        }
        if let Some(layout) = torrent.layout() {
            assert_eq!(layout.piece_count() as usize, torrent.piece_hashes().len(), "{name}");
            assert_eq!(layout.total_len(), torrent.total_length(), "{name}");
            let mut end = 0;
            for file in torrent.files() {
                assert_eq!(file.offset, end, "{name}: files follow each other");
                end += file.length;
            }
            assert_eq!(end, torrent.total_length(), "{name}");
        } else {
            assert!(torrent.piece_hashes().is_empty(), "{name}: v2 only");
        }
    }
}

#[test]
fn names_are_made_safe() {
    let expected: [(&str, &[&str]); 20] = [
        ("absolute_filename", &["temp/abcde", "temp/foobar"]),
        ("backslash_path", &["temp/_/_/bar"]),
        ("duplicate_files", &["temp/foo/bar.txt", "temp/foo/bar.1.txt"]),
        ("empty_path", &["temp/_/_"]),
        ("empty_path_multi", &["temp/abcde", "temp/_", "temp/_.1"]),
        ("hidden_parent_path", &["temp/foo......bar/bar"]),
        ("invalid_directory_name", &["test2/_/foo", "test2/_/foo.1"]),
        ("invalid_filename", &["est2/f", "est2/_"]),
        ("invalid_filename2", &["est2/f", "est2/_", "est2/_.1"]),
        (
            "invalid_name2",
            &[
                "b61560c2918f463768cd122b6d2fdd47b77bdb35/foo/bar.txt",
                "b61560c2918f463768cd122b6d2fdd47b77bdb35/foo/var.txt",
            ],
        ),
        ("invalid_name3", &["foobar /foo/bar.txt", "foobar /foo/var.txt"]),
        ("pad_file", &["temp/foo/bar.txt"]),
        ("pad_file_no_path", &["temp/foo/bar.txt"]),
        ("parent_path", &["temp/bar"]),
        ("single_multi_file", &["temp/foo/bar"]),
        ("slash_path", &["temp/_/_/bar"]),
        ("slash_path2", &["temp/abc....def/_/bar"]),
        ("slash_path3", &["temp....abc"]),
        ("v2_invalid_filename", &["_estMB"]),
        ("v2_invalid_filename2", &["test/_", "test/_.1", "test/stress_test2"]),
    ];
    for (name, expected) in expected {
        assert_eq!(paths(&parse(name)), expected, "{name}");
    }
    let long = parse("long_name");
    assert_eq!(long.name().len(), 255);
    assert!(long.name().ends_with(".23456789"), "the extension is kept");
}

#[test]
fn pad_files_are_flagged() {
    let pads = |name: &str| -> Vec<String> {
        parse(name).files().iter().filter(|file| file.pad).map(|file| file.path.join("/")).collect()
    };
    assert_eq!(pads("pad_file"), ["temp/_____padding_file_"]);
    assert_eq!(pads("pad_file_no_path"), ["temp/.pad/2124"]);
    assert_eq!(pads("sample"), ["sample/.____padding_file/0"]);
    let sample = parse("sample");
    assert_eq!((sample.total_length(), sample.content_length()), (25 + 16359 + 20, 45));
}

#[test]
fn links_lead_to_files_of_the_torrent() {
    let links = |name: &str| -> Vec<(String, String)> {
        let torrent = parse(name);
        let links = torrent.files().iter().filter_map(|file| {
            Some((file.path[1..].join("/"), file.symlink.as_ref()?[1..].join("/"), file.length))
        });
        links
            .map(|(link, target, length)| {
                assert_eq!(length, 0, "{name}: links take no room");
                (link, target)
            })
            .collect()
    };
    let one = |link: &str, target: &str| vec![(link.to_owned(), target.to_owned())];
    assert_eq!(links("symlink1"), one("a/b/foo", "a/b/bar"));
    assert_eq!(links("symlink_zero_size"), one("a/b/foo", "a/b/bar"));
    assert_eq!(links("symlink_filtered_path"), one("a/_/foo", "a/_/bar"));
    assert_eq!(
        links("symlink2"),
        [one("SDL2", "Versions/A/SDL2"), one("Versions/Current", "Versions/A")].concat()
    );
    let headers = ["Headers", "Resources", "SDL2"];
    for (name, directory) in [("v2_symlinks", "Versions/Current"), ("overlapping_symlinks", "Versions/A")] {
        let expected: Vec<_> = headers.iter().map(|h| (h.to_string(), format!("{directory}/{h}"))).collect();
        assert_eq!(links(name)[..3], expected, "{name}");
    }
}

#[test]
fn trackers_web_seeds_and_the_rest() {
    assert_eq!(parse("whitespace_url").trackers(), [["udp://test.com/announce"]]);
    assert_eq!(parse("sample").trackers(), [["udp://tracker.opentracker.com:80/announce"]]);
    assert_eq!(parse("sample").comment(), Some("sample comment"));
    assert_eq!(parse("sample").created_by(), Some("libtorrent"));
    assert_eq!(parse("creation_date").creation_date(), Some(1_234_567));
    assert_eq!(parse("no_creation_date").creation_date(), None);
    assert_eq!(
        parse("dht_nodes").nodes(),
        [("127.0.0.1".to_owned(), 6881), ("192.168.1.1".to_owned(), 6881)]
    );
    assert!(!parse("base").is_private());
    let web_seeds: [(&str, &[&str]); 9] = [
        (
            "duplicate_web_seeds",
            &["http://foobar.com/foo", "http://foobar.com/foobar", "http://foobar.com/bar"],
        ),
        ("empty_httpseed", &[]),
        ("url_list", &[]),
        ("url_list2", &[]),
        ("url_list3", &[]),
        ("url_seed", &["http://test.com/file"]),
        ("url_seed_multi", &["http://test.com/file/"]),
        ("url_seed_multi_single_file", &["http://test.com/file/temp/foo/bar.txt"]),
        ("url_seed_multi_space", &["http://test.com/test%20file/foo%20bar/"]),
    ];
    for (name, expected) in web_seeds {
        assert_eq!(parse(name).web_seeds(), expected, "{name}");
    }
}

#[test]
fn versions_and_their_hashes() {
    let v1 = parse("large");
    assert_eq!((v1.piece_count(), v1.piece_hashes().len(), v1.piece_length()), (5000, 5000, 1 << 20));
    assert!(v1.files().iter().all(|file| file.pieces_root.is_none()));

    let v2 = parse("v2_only");
    assert_eq!((v2.piece_count(), v2.layout()), (16, None));
    let root = v2.files()[0].pieces_root.unwrap();
    assert_eq!(v2.piece_layer(&root).map(<[_]>::len), Some(16));
    assert!(parse("v2_no_piece_layers").piece_layer(&root).is_none());

    let hybrid = parse("v2_hybrid");
    assert!(hybrid.layout().is_some());
    let without_root = hybrid.files().iter().filter(|file| !file.pad && file.pieces_root.is_none());
    assert_eq!(without_root.count(), 0, "every file of a hybrid has its root");
    for file in parse("empty-files-4").files() {
        assert_eq!(file.pieces_root.is_some(), !file.pad && file.length > 0);
    }
}

#[test]
fn the_info_dictionary_is_kept_verbatim() {
    for name in ["base", "unordered", "v2_hybrid", "large_piece_size"] {
        let bytes = read(&format!("{name}.torrent"));
        let torrent = parse(name);
        let info = torrent.info_bytes();
        assert!(bytes.windows(info.len()).any(|window| window == info), "{name}");
        assert_eq!(Some(ringtide_hasher::sha1(info)), torrent.info_hash_v1().map(|hash| hash.0), "{name}");
    }
}

#[test]
fn bytes_behind_the_end_do_not_matter() {
    let mut bytes = read("base.torrent");
    bytes.extend_from_slice(b"\r\n");
    assert_eq!(Metainfo::parse(&bytes).unwrap().info_hash_v1(), parse("base").info_hash_v1());
}

proptest! {
    /// Damage to real torrents reaches states that damage to our own does not: links, piece layers, old fields.
    #[test]
    fn mutated_torrents_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let names: Vec<String> = expectations().keys().cloned().collect();
        let mut bytes = read(&names[which.index(names.len())]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for damaged in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Err(error) = Metainfo::parse(damaged) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
