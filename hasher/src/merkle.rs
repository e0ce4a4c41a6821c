//! The merkle trees of BEP 52: SHA-256 over blocks of 16 KiB, padded with zeros to a power of two.
//! Does not know files or torrents. Nothing recurses; a level is hashed in one pass, so that wide kernels are
//! used in full.
//!
//! A tree's lowest layer holds the hash of each block; the last one may be short. Where blocks are missing to
//! the next power of two, their hashes are 32 zero bytes. The *piece layer* is the layer whose nodes cover one piece
//! each; files of at most one piece have none.

use crate::pass::MAX_LANES;
use crate::{Dispatcher, Sha256Digest, sha256};

/// Bytes that one leaf covers (BEP 52), whatever the piece length is.
pub const LEAF_BYTES: usize = 16 * 1024;

/// The hash of a leaf behind the end of the file (BEP 52).
const ZERO_LEAF: Sha256Digest = [0; 32];

/// The hashes of the data's blocks, in order; the last block may be short. Empty data has no leaves.
#[must_use]
pub fn leaves(data: &[u8]) -> Vec<Sha256Digest> {
    let mut leaves = vec![ZERO_LEAF; data.len().div_ceil(LEAF_BYTES)];
    leaves_into(data, &mut leaves);
    leaves
}

/// As [`leaves`], into a place of the caller's; nothing is allocated.
///
/// # Panics
/// When `out` has not one place for each block.
pub fn leaves_into(data: &[u8], out: &mut [Sha256Digest]) {
    assert_eq!(out.len(), data.len().div_ceil(LEAF_BYTES), "one leaf per block");
    Dispatcher::current().sha256_each(data.chunks(LEAF_BYTES), out);
}

/// The root of the tree over these leaves, padded with zero leaves to the next power of two. This is the
/// `pieces root` of a file with these blocks. No leaves give the zero hash, which stands for nothing.
#[must_use]
pub fn root(leaves: &[Sha256Digest]) -> Sha256Digest {
    root_in_place(&mut leaves.to_vec())
}

/// As [`root`], using up the leaves; nothing is allocated.
#[must_use]
pub fn root_in_place(leaves: &mut [Sha256Digest]) -> Sha256Digest {
    reduce(leaves, ZERO_LEAF)
}

/// The piece layer over these leaves: one root for each `blocks_per_piece` leaves, the last piece padded with zero leaves
/// (BEP 52).
///
/// # Panics
/// When `blocks_per_piece` is not a power of two, which BEP 52 demands of piece lengths.
#[must_use]
pub fn piece_layer(leaves: &[Sha256Digest], blocks_per_piece: usize) -> Vec<Sha256Digest> {
    assert!(blocks_per_piece.is_power_of_two(), "a v2 piece is a power of two blocks");
    let mut layer = leaves.to_vec();
    let mut pad = ZERO_LEAF;
    for _ in 0..blocks_per_piece.trailing_zeros() {
        let len = next_layer(&mut layer, pad);
        layer.truncate(len);
        pad = parent(&pad, &pad);
    }
    layer
}

/// The root of the file whose piece layer this is; each node covers `blocks_per_piece` blocks.
///
/// # Panics
/// When `blocks_per_piece` is not a power of two.
#[must_use]
pub fn root_of_piece_layer(layer: &[Sha256Digest], blocks_per_piece: usize) -> Sha256Digest {
    reduce(&mut layer.to_vec(), zero_root(blocks_per_piece))
}

/// Whether the piece layer belongs to the file with this root (BEP 52: it must be checked before it is trusted). The caller
/// has made sure that it has as many nodes as the file has pieces: a root by itself, or one with nodes for pieces behind the
/// end, proves as much.
///
/// # Panics
/// When `blocks_per_piece` is not a power of two.
#[must_use]
pub fn verify_piece_layer(layer: &[Sha256Digest], blocks_per_piece: usize, root: &Sha256Digest) -> bool {
    !layer.is_empty() && root_of_piece_layer(layer, blocks_per_piece) == *root
}

/// The root of a tree of zero leaves only: what stands for a piece behind the end of the file.
///
/// # Panics
/// When `blocks` is not a power of two.
#[must_use]
pub fn zero_root(blocks: usize) -> Sha256Digest {
    assert!(blocks.is_power_of_two(), "a v2 piece is a power of two blocks");
    (0..blocks.trailing_zeros()).fold(ZERO_LEAF, |node, _| parent(&node, &node))
}

/// Hashes layer after layer, each into the beginning of the one below, until one node is left. `pad` stands for missing nodes
/// of the first layer.
fn reduce(mut layer: &mut [Sha256Digest], mut pad: Sha256Digest) -> Sha256Digest {
    while layer.len() > 1 {
        let len = next_layer(layer, pad);
        layer = &mut layer[..len];
        pad = parent(&pad, &pad);
    }
    layer.first().copied().unwrap_or(pad)
}

/// Nodes that are hashed together: they fill the widest kernel, and the stack has room for them.
const TOGETHER: usize = MAX_LANES;

/// Replaces the beginning of the layer by the layer above it, and returns how many nodes that has. `pad` stands for a
/// missing last node.
fn next_layer(layer: &mut [Sha256Digest], pad: Sha256Digest) -> usize {
    let (pairs, above) = (layer.len() / 2, layer.len().div_ceil(2));
    let mut parents = [ZERO_LEAF; TOGETHER];
    for first in (0..pairs).step_by(TOGETHER) {
        // What is written lies before what is still to be read: a parent has half of its children's number.
        let whole = TOGETHER.min(pairs - first);
        let children = layer[2 * first..2 * (first + whole)].as_chunks::<2>().0;
        Dispatcher::current().sha256_each(children.iter().map(|pair| pair.as_flattened()), &mut parents);
        layer[first..first + whole].copy_from_slice(&parents[..whole]);
    }
    if layer.len() % 2 == 1 {
        layer[above - 1] = parent(&layer[layer.len() - 1], &pad);
    }
    above
}

fn parent(left: &Sha256Digest, right: &Sha256Digest) -> Sha256Digest {
    sha256([*left, *right].as_flattened())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// BEP 52 word for word: pad with zero leaves to a power of two, then halve.
    fn obvious_root(leaves: &[Sha256Digest]) -> Sha256Digest {
        let width = leaves.len().next_power_of_two();
        let mut row = leaves.to_vec();
        row.resize(width, [0; 32]);
        while row.len() > 1 {
            row = row.chunks(2).map(|pair| sha256(&pair.concat())).collect();
        }
        row[0]
    }

    fn numbered(count: usize) -> Vec<Sha256Digest> {
        (0..count).map(|i| sha256(&i.to_le_bytes())).collect()
    }

    #[test]
    fn roots_equal_the_obvious_ones() {
        for count in 1..=70 {
            assert_eq!(root(&numbered(count)), obvious_root(&numbered(count)), "{count} leaves");
        }
        assert_eq!(root(&[]), [0; 32]);
    }

    #[test]
    fn one_leaf_is_its_own_root() {
        assert_eq!(root(&leaves(b"small")), sha256(b"small"));
    }

    #[test]
    fn leaves_cover_16_kib_each() {
        let data: Vec<u8> = (0..LEAF_BYTES * 2 + 5).map(|i| (i % 251) as u8).collect();
        let expected = [
            sha256(&data[..LEAF_BYTES]),
            sha256(&data[LEAF_BYTES..LEAF_BYTES * 2]),
            sha256(&data[LEAF_BYTES * 2..]),
        ];
        assert_eq!(leaves(&data), expected);
        assert!(leaves(b"").is_empty());
    }

    #[test]
    fn a_last_piece_is_padded_to_its_full_width() {
        let leaves = numbered(5);
        let padded = [leaves[4], [0; 32], [0; 32], [0; 32]];
        assert_eq!(piece_layer(&leaves, 4), [obvious_root(&leaves[..4]), obvious_root(&padded)]);
        assert_eq!(piece_layer(&leaves, 1), leaves);
    }

    #[test]
    fn zero_roots() {
        assert_eq!(zero_root(1), [0; 32]);
        assert_eq!(zero_root(8), obvious_root(&[[0; 32]; 8]));
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn odd_piece_lengths_have_no_tree() {
        let _ = piece_layer(&numbered(3), 3);
    }

    proptest! {
        #[test]
        fn a_piece_layer_proves_the_root(count in 1usize..200, height in 0u32..7, spoil in any::<prop::sample::Index>()) {
            let leaves = numbered(count);
            let blocks_per_piece = 1 << height;
            let mut layer = piece_layer(&leaves, blocks_per_piece);
            prop_assert_eq!(layer.len(), count.div_ceil(blocks_per_piece));
            // A file of one piece or less has no piece layer, and its root is not padded to the piece.
            if count > blocks_per_piece {
                let root = root(&leaves);
                prop_assert!(verify_piece_layer(&layer, blocks_per_piece, &root));
                let at = spoil.index(layer.len());
                layer[at][0] ^= 1;
                prop_assert!(!verify_piece_layer(&layer, blocks_per_piece, &root));
            }
        }
    }
}
