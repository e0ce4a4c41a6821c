//! A piece in assembly: which of its blocks are missing, asked for, arriving or here, and who gave them. Owns no
//! bytes and decides nothing about peers.

use std::net::IpAddr;

use crate::layout::{Block, PieceIndex, PieceLayout};
use crate::limits::MAX_COPIES;
use crate::time::Instant;
use crate::torrent::PeerKey;

/// What is known of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockState {
    /// Asked of that many peers and shards, none of whom has begun to send it. Zero: nobody was asked.
    Asked(u8),
    /// One peer is sending it into the buffer; that many others were asked as well.
    Arriving(u8),
    /// In the buffer, given by that entry of `givers`.
    Here(u16),
}

impl BlockState {
    const fn is_scarce(self) -> bool {
        matches!(self, Self::Asked(copies) if copies < MAX_COPIES)
    }
}

/// A piece that one shard assembles.
#[derive(Clone, Debug)]
pub struct OpenPiece {
    piece: PieceIndex,
    blocks: Box<[BlockState]>,
    /// Blocks that nobody was asked for.
    missing: u32,
    /// Blocks in the buffer.
    here: u32,
    /// Blocks that fewer than [`MAX_COPIES`] were asked for and nobody has begun to send.
    scarce: u32,
    /// No block before this one is missing.
    cursor: u32,
    /// Addresses that gave blocks, each once.
    givers: Vec<IpAddr>,
    /// The one peer that may give blocks, after a failed hash: what it gives alone convicts or clears it.
    pub sole_giver: Option<PeerKey>,
    /// The peer that is on it, as long as that is so: others begin pieces of their own.
    pub keeper: Option<PeerKey>,
    /// When the piece was opened, which is when its first block was asked for.
    pub begun_at: Instant,
    /// When a block came last, or the piece was opened.
    pub progressed_at: Instant,
    /// How often others were to finish it, another shard or another sole giver: each has twice the time of the one
    /// before, or a line on which all are slow would never see one finish.
    pub moves: u32,
}

impl OpenPiece {
    /// A piece of which nothing is here.
    pub fn new(now: Instant, piece: PieceIndex, layout: &PieceLayout) -> Self {
        let count = layout.block_count(piece);
        Self {
            piece,
            blocks: vec![BlockState::Asked(0); count as usize].into(),
            missing: count,
            here: 0,
            scarce: count,
            cursor: 0,
            givers: Vec::new(),
            sole_giver: None,
            keeper: None,
            begun_at: now,
            progressed_at: now,
            moves: 0,
        }
    }

    /// Which piece it is.
    pub const fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// Blocks that nobody was asked for.
    pub const fn missing(&self) -> u32 {
        self.missing
    }

    /// Blocks in the buffer.
    pub const fn here(&self) -> u32 {
        self.here
    }

    /// Whether some block may be asked of one more: fewer than [`MAX_COPIES`] were, and nobody has begun to send it.
    pub const fn has_scarce(&self) -> bool {
        self.scarce > 0
    }

    /// Whether every block is in the buffer.
    pub const fn is_whole(&self) -> bool {
        self.here == self.blocks.len() as u32
    }

    /// Whether a peer is sending a block into the buffer now.
    pub fn is_arriving(&self) -> bool {
        self.blocks.iter().any(|state| matches!(state, BlockState::Arriving(_)))
    }

    /// Whether the block is in the buffer.
    pub fn is_here(&self, block: Block) -> bool {
        matches!(self.state(block), BlockState::Here(_))
    }

    /// Of how many peers and shards the block was asked; none where it is here or arriving.
    pub fn copies_asked(&self, block: Block) -> Option<u8> {
        match self.state(block) {
            BlockState::Asked(copies) => Some(copies),
            _ => None,
        }
    }

    /// The first block that nobody was asked for, which is then asked for.
    pub fn ask_missing(&mut self, layout: &PieceLayout) -> Option<Block> {
        if self.missing == 0 {
            return None;
        }
        let states = &self.blocks[self.cursor as usize..];
        let offset = states.iter().position(|&state| state == BlockState::Asked(0))?;
        self.cursor += offset as u32;
        let block = layout.block(self.piece, self.cursor)?;
        self.ask(block);
        Some(block)
    }

    /// The block is asked of one more; it must be neither here nor arriving.
    pub fn ask(&mut self, block: Block) {
        let BlockState::Asked(copies) = self.state(block) else {
            unreachable!("asked for {block:?}, which is {:?}", self.state(block))
        };
        self.missing -= u32::from(copies == 0);
        self.set(block, BlockState::Asked(copies + 1));
    }

    /// One of those asked will not send it.
    pub fn unask(&mut self, block: Block) {
        match self.state(block) {
            BlockState::Asked(copies) => {
                let left = copies.checked_sub(1).expect("a block is unasked as often as it was asked");
                self.set(block, BlockState::Asked(left));
                if left == 0 {
                    self.missing += 1;
                    self.cursor = self.cursor.min(block.number());
                }
            }
            BlockState::Arriving(others) => self.set(block, BlockState::Arriving(others.saturating_sub(1))),
            BlockState::Here(_) => {}
        }
    }

    /// A peer begins to send the block. False where it is here, or another is sending it: then its bytes go to
    /// scratch. `was_asked`: whether this peer counts among those asked.
    #[must_use]
    pub fn begin(&mut self, block: Block, was_asked: bool) -> bool {
        let BlockState::Asked(copies) = self.state(block) else { return false };
        self.missing -= u32::from(copies == 0);
        self.set(block, BlockState::Arriving(copies - u8::from(was_asked)));
        true
    }

    /// The peer that was sending the block stopped in the middle.
    pub fn abandon(&mut self, block: Block) {
        let BlockState::Arriving(others) = self.state(block) else { return };
        self.set(block, BlockState::Asked(others));
        if others == 0 {
            self.missing += 1;
            self.cursor = self.cursor.min(block.number());
        }
    }

    /// The block is in the buffer. True where others were asked for it as well, and should be told.
    pub fn finish(&mut self, now: Instant, block: Block, giver: IpAddr) -> bool {
        let BlockState::Arriving(others) = self.state(block) else {
            unreachable!("finished {block:?}, which is {:?}", self.state(block))
        };
        let giver = self.giver_number(giver);
        self.set(block, BlockState::Here(giver));
        self.here += 1;
        self.progressed_at = now;
        others > 0
    }

    /// Blocks not here, in order.
    pub fn absent<'a>(&'a self, layout: &'a PieceLayout) -> impl Iterator<Item = Block> + 'a {
        layout.blocks(self.piece).filter(|&block| !self.is_here(block))
    }

    /// Who gave each block, in order; none for those not here.
    pub fn givers(&self) -> impl Iterator<Item = Option<IpAddr>> + '_ {
        self.blocks.iter().map(|state| match state {
            BlockState::Here(giver) => Some(self.givers[usize::from(*giver)]),
            _ => None,
        })
    }

    /// The address that gave all that is here, where it was one.
    pub fn only_giver(&self) -> Option<IpAddr> {
        let [giver] = self.givers[..] else { return None };
        Some(giver)
    }

    /// Forgets what is here; what was asked stays asked.
    pub fn forget(&mut self) {
        for state in &mut self.blocks {
            if let BlockState::Here(_) = state {
                *state = BlockState::Asked(0);
                self.missing += 1;
                self.scarce += 1;
            }
        }
        (self.here, self.cursor) = (0, 0);
        self.givers.clear();
    }

    /// Forgets whom the absent blocks were asked of, as when the piece moves to another shard.
    pub fn forget_asked(&mut self) {
        self.missing = 0;
        for state in &mut self.blocks {
            if !matches!(state, BlockState::Here(_)) {
                *state = BlockState::Asked(0);
                self.missing += 1;
            }
        }
        (self.scarce, self.cursor) = (self.missing, 0);
    }

    /// Recounts what is kept in counters.
    ///
    /// # Panics
    /// Where a counter is wrong.
    pub fn check_invariants(&self) {
        let count =
            |wanted: fn(&BlockState) -> bool| self.blocks.iter().filter(|state| wanted(state)).count();
        assert_eq!(count(|state| *state == BlockState::Asked(0)), self.missing as usize, "{:?}", self.piece);
        assert_eq!(
            count(|state| matches!(state, BlockState::Here(_))),
            self.here as usize,
            "{:?}",
            self.piece
        );
        assert_eq!(count(|state| state.is_scarce()), self.scarce as usize, "{:?}", self.piece);
        let before = &self.blocks[..(self.cursor as usize).min(self.blocks.len())];
        assert!(
            !before.contains(&BlockState::Asked(0)),
            "{:?}: a missing block before the cursor",
            self.piece
        );
    }

    /// Holds one block against what the caller knows: of how many it was asked, and how many are sending it.
    ///
    /// # Panics
    /// Where they differ.
    pub fn check_block(&self, block: Block, asked: usize, writers: usize) {
        match self.state(block) {
            BlockState::Asked(copies) => assert_eq!((usize::from(copies), 0), (asked, writers), "{block:?}"),
            BlockState::Arriving(others) => {
                assert_eq!((usize::from(others), 1), (asked, writers), "{block:?}")
            }
            BlockState::Here(_) => assert_eq!((0, 0), (asked, writers), "{block:?}"),
        }
    }

    fn giver_number(&mut self, giver: IpAddr) -> u16 {
        let known = self.givers.iter().position(|&known| known == giver);
        let number = known.unwrap_or_else(|| {
            self.givers.push(giver);
            self.givers.len() - 1
        });
        u16::try_from(number).expect("a piece has at most 4,096 blocks, so as many givers")
    }

    fn state(&self, block: Block) -> BlockState {
        self.blocks[block.number() as usize]
    }

    fn set(&mut self, block: Block, state: BlockState) {
        let before = std::mem::replace(&mut self.blocks[block.number() as usize], state);
        self.scarce -= u32::from(before.is_scarce());
        self.scarce += u32::from(state.is_scarce());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn three_blocks() -> (OpenPiece, PieceLayout) {
        let layout = PieceLayout::new(3 * 16384, 3 * 16384).unwrap();
        (OpenPiece::new(Instant::ZERO, layout.piece(0).unwrap(), &layout), layout)
    }

    fn receive(open: &mut OpenPiece, block: Block, giver: IpAddr) {
        assert!(open.begin(block, true));
        open.finish(Instant::ZERO, block, giver);
        open.check_invariants();
    }

    #[test]
    fn a_piece_fills_in_order() {
        let (mut open, layout) = three_blocks();
        let asked: Vec<_> = std::iter::from_fn(|| open.ask_missing(&layout)).collect();
        assert_eq!(asked.iter().map(|block| block.number()).collect::<Vec<_>>(), [0, 1, 2]);
        open.unask(asked[1]);
        open.check_invariants();
        assert_eq!(open.ask_missing(&layout), Some(asked[1]));
        asked.iter().for_each(|&block| receive(&mut open, block, A));
        assert!(open.is_whole());
        assert_eq!(open.only_giver(), Some(A));
    }

    #[test]
    fn a_block_has_one_writer() {
        let (mut open, layout) = three_blocks();
        let block = open.ask_missing(&layout).unwrap();
        open.ask(block);
        assert!(open.begin(block, true));
        assert!(!open.begin(block, true), "the second goes to scratch");
        open.unask(block);
        open.abandon(block);
        open.check_invariants();
        assert_eq!(open.missing(), 3, "both gone: nobody is asked");
        assert_eq!(open.ask_missing(&layout), Some(block));
        receive(&mut open, block, A);
        assert!(!open.begin(block, false), "what is here is never overwritten");
        open.unask(block);
        assert!(open.is_here(block));
    }

    #[test]
    fn givers_are_told_apart_and_forgotten() {
        let (mut open, layout) = three_blocks();
        for giver in [A, B] {
            let block = open.ask_missing(&layout).unwrap();
            receive(&mut open, block, giver);
        }
        assert_eq!(open.only_giver(), None);
        assert_eq!(open.givers().collect::<Vec<_>>(), [Some(A), Some(B), None]);
        open.forget();
        open.check_invariants();
        assert_eq!((open.missing(), open.here(), open.only_giver()), (3, 0, None));
    }
}
