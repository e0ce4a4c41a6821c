//! Random layouts, written in random order, compared byte for byte.

use std::path::Path;

use proptest::prelude::*;
use ringtide_engine::storage::{Content, ContentFile, DirectChoice, Mode, ReadSource, StorageOptions};

use crate::support::{Sample, in_memory, on_disk};

fn file_len() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_u64..5_000, 10_000_u64..200_000, (1_u64..8).prop_map(|n| n * 32_768)]
}

fn content() -> impl Strategy<Value = Content> {
    let files = prop::collection::vec((file_len(), 0..5_u8), 1..12);
    let piece_len = prop_oneof![Just(16_384_u32), Just(65_536), Just(262_144), 1_000_u32..100_000];
    (files, piece_len).prop_map(|(files, piece_len)| {
        let files = files.into_iter().enumerate().map(|(index, (len, kind))| match kind {
            0 => ContentFile::pad(len % 20_000),
            1 => ContentFile::new(format!("sub/{index}"), len),
            _ => ContentFile::new(index.to_string(), len),
        });
        Content::directory("tree", files.collect(), piece_len).expect("a layout")
    })
}

/// Writes the pieces in an order that follows from `order`, reads them back in every way, compares the files.
fn round_trip(sample: &Sample, holder: &Path, direct: DirectChoice, order: u64) {
    let options = StorageOptions { direct, max_open_files: Some(3) };
    let storage = sample.open_with(holder, Mode::Download, options).expect("opens");
    let mut pieces: Vec<_> = sample.content.layout().pieces().collect();
    pieces.sort_by_key(|piece| (u64::from(piece.number()) + 1).wrapping_mul(order | 1) % 251);
    for &piece in &pieces {
        storage.write_blocking(&sample.verified(piece)).expect("is written");
    }
    storage.finish().expect("is flushed");
    assert!(storage.open_files() <= 3);
    sample.assert_on_disk(holder);
    for &piece in &pieces {
        let expected = sample.piece_bytes(piece);
        let begin = expected.len() / 3;
        let mut buf = vec![1; expected.len() - begin];
        storage.read_blocking(piece, u32::try_from(begin).expect("small"), &mut buf).expect("is read");
        assert!(buf == expected[begin..], "{piece:?} reads back");
        let mut plan = Vec::new();
        let len = u32::try_from(expected.len()).expect("small");
        storage.read_plan(piece, 0, len, &mut plan).expect("is planned");
        let mut next = 0;
        for part in plan {
            let mut buf = vec![0; part.len];
            match part.source {
                ReadSource::File { fd, offset, .. } => {
                    rustix::io::pread(&fd, &mut buf, offset).expect("is read");
                }
                ReadSource::Mapped(range) => panic!("{range:?} of a small file was mapped"),
                ReadSource::Zeros => {}
                ReadSource::Memory(_) => panic!("nothing here is made up"),
            }
            assert!(buf == expected[next..next + part.len], "{piece:?} reads as planned");
            next += part.len;
        }
        assert_eq!(next, expected.len());
    }
    let (report, _) = sample.check(&storage, 2);
    assert_eq!((report.good, report.missing_files, report.error), (storage_pieces(sample), vec![], None));
}

fn storage_pieces(sample: &Sample) -> u32 {
    sample.content.layout().piece_count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layout_round_trips_through_memory(content in content(), order: u64) {
        round_trip(&Sample::new(content, order), in_memory().path(), DirectChoice::Auto, order);
    }

    #[test]
    fn any_layout_round_trips_through_a_disk(content in content(), order: u64) {
        round_trip(&Sample::new(content, order), on_disk().path(), DirectChoice::Auto, order);
    }

    #[test]
    fn any_layout_round_trips_past_the_page_cache(content in content(), order: u64) {
        round_trip(&Sample::new(content, order), in_memory().path(), DirectChoice::On, order);
    }
}
