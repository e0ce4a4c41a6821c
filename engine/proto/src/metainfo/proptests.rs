//! Properties of whole torrents: what is built comes back, and no damage makes the parser panic or break its promises.

use proptest::prelude::*;

use super::{Metainfo, TorrentBuilder};
use crate::bencode::Bencode;

/// Builders of torrents with up to eight files, and the hashes of their pieces.
fn torrent() -> impl Strategy<Value = (TorrentBuilder, Vec<[u8; 20]>)> {
    let component = "[a-zA-Z0-9äß][a-zA-Z0-9 ._äß-]{0,20}";
    let path = prop::collection::vec(component, 1..4);
    let files = prop::collection::btree_map(path, 0u64..100_000, 1..8);
    (component, files, 14u32..18, any::<bool>(), any::<bool>()).prop_filter_map(
        "content without clashes",
        |(name, files, shift, single, private)| {
            let files: Vec<_> = files.into_iter().collect();
            let mut builder = if single {
                TorrentBuilder::single_file(name, files[0].1, 1 << shift)
            } else {
                TorrentBuilder::directory(name, files, 1 << shift)
            };
            builder.private = private;
            builder.trackers = vec![vec!["http://tracker/announce".into(), "udp://tracker:80".into()]];
            builder.comment = Some("a comment".into());
            let hashes: Vec<_> = (0..builder.piece_count()).map(|i| [i as u8; 20]).collect();
            builder.build(&hashes).ok().map(|_| (builder, hashes))
        },
    )
}

/// A hybrid torrent of two files, for damage to be done to.
fn hybrid() -> Vec<u8> {
    let root = [7u8; 32].as_slice();
    let leaf = |length: i64| {
        let properties = Bencode::dict([("length", length.into()), ("pieces root", root.into())]);
        Bencode::dict([("", properties)])
    };
    let tree = Bencode::dict([("a", leaf(10)), ("b", leaf(20))]);
    let file = |name: &'static str, length: i64| {
        Bencode::dict([("length", length.into()), ("path", Bencode::list([name]))])
    };
    let pad = Bencode::dict([("attr", "p".into()), ("length", (16_384 - 10i64).into())]);
    let info = Bencode::dict([
        ("file tree", tree),
        ("files", Bencode::List(vec![file("a", 10), pad, file("b", 20)])),
        ("meta version", 2i64.into()),
        ("name", "hybrid".into()),
        ("piece length", 16_384i64.into()),
        ("pieces", vec![0u8; 40].into()),
    ]);
    Bencode::dict([("info", info), ("piece layers", Bencode::dict::<str>([]))]).encode()
}

/// What must hold for everything that parses.
fn check_promises(torrent: &Metainfo) {
    let mut end = 0;
    for file in torrent.files() {
        assert!(!file.path.is_empty());
        for component in file.path.iter().chain(file.symlink.iter().flatten()) {
            assert!(!component.is_empty() && component.len() <= 255 && !component.contains(['/', '\0']));
            assert!(component != "." && component != "..");
        }
        assert!(file.offset >= end || file.length == 0);
        end = file.offset.checked_add(file.length).expect("offsets do not overflow");
    }
    if let Some(layout) = torrent.layout() {
        assert_eq!(layout.piece_count() as usize, torrent.piece_hashes().len());
    }
    assert!(torrent.info_hash_v1().is_some() || torrent.info_hash_v2().is_some());
}

fn parse_and_check(bytes: &[u8]) {
    match Metainfo::parse(bytes) {
        Ok(torrent) => check_promises(&torrent),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[test]
fn the_hybrid_is_a_valid_one() {
    let torrent = Metainfo::parse(&hybrid()).unwrap();
    assert!(torrent.info_hash_v1().is_some() && torrent.info_hash_v2().is_some());
    assert_eq!(torrent.files().len(), 3);
    assert_eq!(torrent.files()[2].pieces_root, Some([7; 32]));
}

proptest! {
    #[test]
    fn what_is_built_comes_back((builder, hashes) in torrent()) {
        let bytes = builder.build(&hashes).unwrap();
        let torrent = Metainfo::parse(&bytes).unwrap();
        check_promises(&torrent);
        prop_assert_eq!(torrent.total_length(), builder.total_length());
        prop_assert_eq!(torrent.piece_hashes(), &hashes[..]);
        prop_assert_eq!(torrent.trackers(), &builder.trackers[..]);
        prop_assert_eq!(torrent.comment(), builder.comment.as_deref());
        prop_assert_eq!(torrent.is_private(), builder.private);
        let mut again = rebuilt(&torrent);
        again.trackers.clone_from(&builder.trackers);
        again.comment.clone_from(&builder.comment);
        again.private = builder.private;
        prop_assert_eq!(again.build(&hashes).unwrap(), bytes, "the same torrent is the same bytes");
    }

    #[test]
    fn damaged_torrents_never_panic(
        (builder, hashes) in torrent(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for mut bytes in [builder.build(&hashes).unwrap(), hybrid()] {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            parse_and_check(&bytes);
            parse_and_check(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn names_of_any_bytes_stay_below_the_directory(
        name in prop::collection::vec(any::<u8>(), 1..20),
        paths in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 1..4), 1..6),
    ) {
        let file = |path: &Vec<Vec<u8>>| {
            let path = Bencode::List(path.iter().map(|c| c.clone().into()).collect());
            Bencode::dict([("length", 1i64.into()), ("path", path)])
        };
        let info = Bencode::dict([
            ("files", Bencode::List(paths.iter().map(file).collect())),
            ("name", name.as_slice().into()),
            ("piece length", 16_384i64.into()),
            ("pieces", vec![0u8; 20].into()),
        ]);
        let torrent = Metainfo::parse(&Bencode::dict([("info", info)]).encode()).unwrap();
        check_promises(&torrent);
        let mut distinct: Vec<_> = torrent.files().iter().map(|file| &file.path).collect();
        distinct.sort();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), paths.len());
    }
}

/// A builder with the names and sizes of a parsed torrent.
fn rebuilt(torrent: &Metainfo) -> TorrentBuilder {
    if !torrent.is_multi_file() {
        return TorrentBuilder::single_file(torrent.name(), torrent.total_length(), torrent.piece_length());
    }
    let files = torrent.files().iter().map(|file| (file.path[1..].to_vec(), file.length)).collect();
    TorrentBuilder::directory(torrent.name(), files, torrent.piece_length())
}
