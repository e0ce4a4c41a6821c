//! What the tests of the yardsticks share: an image and its torrent.

use ringtide_proto::metainfo::{Metainfo, TorrentBuilder};

pub(crate) const PIECE_LEN: u32 = 64 << 10;

/// Four whole pieces and a part of one, no two blocks alike.
pub(crate) fn image() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

pub(crate) fn torrent(image: &[u8]) -> Metainfo {
    let hashes: Vec<_> = image.chunks(PIECE_LEN as usize).map(ringtide_hasher::sha1).collect();
    let builder = TorrentBuilder::single_file("image", image.len() as u64, PIECE_LEN);
    Metainfo::parse(&builder.build(&hashes).expect("fits")).expect("is a torrent")
}
