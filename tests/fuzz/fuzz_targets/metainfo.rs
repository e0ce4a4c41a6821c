//! Any bytes as a torrent file: no panic, and what is accepted keeps the promises of `Metainfo`.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use ringtide_proto::metainfo::{FileEntry, Magnet, Metainfo};

fn check_path(path: &[String]) {
    assert!(!path.is_empty());
    for component in path {
        assert!(!component.is_empty() && component.len() <= 255);
        assert!(component != "." && component != "..");
        assert!(!component.contains(['/', '\\']) && !component.chars().any(char::is_control));
    }
}

fn check_files(files: &[FileEntry]) {
    let mut written = HashSet::new();
    let mut end = 0u64;
    for file in files {
        check_path(&file.path);
        file.symlink.iter().for_each(|target| check_path(target));
        assert!(file.pad || written.insert(&file.path), "a path occurs twice");
        assert!(file.length == 0 || file.offset >= end, "files overlap");
        end = file.offset.checked_add(file.length).expect("offsets do not overflow");
    }
}

fuzz_target!(|input: &[u8]| {
    let torrent = match Metainfo::parse(input) {
        Ok(torrent) => torrent,
        Err(error) => {
            assert!(!error.to_string().chars().any(char::is_control));
            return;
        }
    };
    check_files(torrent.files());
    if let Some(layout) = torrent.layout() {
        assert_eq!(layout.piece_count() as usize, torrent.piece_hashes().len());
        assert_eq!(layout.total_len(), torrent.total_length());
    }
    let magnet = Magnet::from(&torrent);
    assert_eq!(
        Magnet::parse(&magnet.to_string()).as_ref().map(Magnet::info_hash_v1),
        Ok(torrent.info_hash_v1())
    );
});
