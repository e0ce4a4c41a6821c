//! A node's blocks: in the buffers of pieces in assembly, and on its simulated disk. A block is a marker: good, or
//! bad in a way that tells which villain made it.

use std::collections::BTreeMap;

use ringtide_proto::layout::{Block, PieceIndex, PieceLayout};
use ringtide_proto::torrent::{BlockDigest, Verdict};

/// What a block holds, in place of its bytes: zero is what the torrent says, all else is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker(pub(crate) u64);

impl Marker {
    pub(crate) const GOOD: Self = Self(0);

    /// Most wrong blocks that a villain tells apart.
    pub(crate) const KINDS: u64 = 1_000;

    /// A wrong block of that host, one of its [`KINDS`](Self::KINDS).
    pub(crate) const fn bad(host: usize, kind: u64) -> Self {
        Self(1 + host as u64 * Self::KINDS + kind)
    }

    /// Who made it, if it is wrong.
    pub(crate) const fn liar(self) -> Option<usize> {
        match self.0 {
            0 => None,
            bad => Some(((bad - 1) / Self::KINDS) as usize),
        }
    }
}

/// The buffer of a piece in assembly.
pub(crate) type Buffer = Vec<Option<Marker>>;

/// The buffers of one shard.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pieces: BTreeMap<PieceIndex, Buffer>,
}

impl Buffers {
    /// Stores a block. A block has one writer, and what is there is never overwritten.
    pub(crate) fn store(&mut self, layout: &PieceLayout, block: Block, marker: Marker) -> Result<(), String> {
        let empty = || vec![None; layout.block_count(block.piece()) as usize];
        let buffer = self.pieces.entry(block.piece()).or_insert_with(empty);
        match buffer[block.number() as usize].replace(marker) {
            None => Ok(()),
            Some(_) => Err(format!("{block:?} was written twice")),
        }
    }

    pub(crate) fn take(&mut self, piece: PieceIndex) -> Option<Buffer> {
        self.pieces.remove(&piece)
    }

    pub(crate) fn put(&mut self, piece: PieceIndex, buffer: Buffer) -> Result<(), String> {
        match self.pieces.insert(piece, buffer) {
            None => Ok(()),
            Some(_) => Err(format!("{piece:?} came to a shard that has a buffer for it")),
        }
    }

    /// Who gave wrong blocks of the piece.
    pub(crate) fn liars(&self, piece: PieceIndex) -> impl Iterator<Item = usize> + '_ {
        let buffer = self.pieces.get(&piece).into_iter().flatten();
        buffer.filter_map(|marker| marker.as_ref()?.liar())
    }

    /// What hashing the piece shows, and the digests where they are wanted or needed.
    pub(crate) fn verdict(&self, piece: PieceIndex, digests: bool) -> Result<Verdict, String> {
        let buffer = self.pieces.get(&piece).ok_or(format!("{piece:?} is to be hashed and has no buffer"))?;
        let markers: Option<Vec<Marker>> = buffer.iter().copied().collect();
        let markers = markers.ok_or(format!("{piece:?} is to be hashed and lacks blocks"))?;
        let all = || markers.iter().enumerate().map(|(number, &marker)| digest(number, marker)).collect();
        let right = markers.iter().all(|&marker| marker == Marker::GOOD);
        Ok(if right { Verdict::Right(digests.then(all)) } else { Verdict::Wrong(all()) })
    }

    /// Those that have a buffer.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.pieces.keys().copied()
    }

    pub(crate) fn bytes(&self, layout: &PieceLayout) -> u64 {
        self.pieces.keys().map(|&piece| u64::from(layout.piece_len(piece))).sum()
    }
}

fn digest(number: usize, marker: Marker) -> BlockDigest {
    let mut digest = [0; 20];
    digest[..8].copy_from_slice(&(number as u64).to_be_bytes());
    digest[8..16].copy_from_slice(&marker.0.to_be_bytes());
    digest
}
