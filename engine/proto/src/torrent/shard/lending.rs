//! What shards tell and lend each other: near the end, a shard with an idle peer borrows blocks of pieces that
//! others assemble, fetches them and hands them over.

use std::net::IpAddr;

use super::super::message::{ShardAction, ShardMessage};
use super::super::{PeerKey, PieceState, ShardId};
use super::{Sink, TorrentShard};
use crate::layout::{Block, PieceIndex};
use crate::limits::{MAX_COPIES, MAX_LENT_BLOCKS};
use crate::peer::{Asked, Peer, Source};
use crate::time::{Duration, Instant};

/// How long after asking to borrow it is asked again: one answer takes a wake or two. Twice as long each time that there was
/// nothing to be lent, up to
const BORROW_AGAIN: Duration = Duration::from_millis(20);

/// so long: a shard with nothing to do does not keep the others busy.
const BORROW_AT_LAST: Duration = Duration::from_millis(200);

/// When blocks are borrowed.
#[derive(Debug, Default)]
pub(super) struct Borrowing {
    /// What was asked for last, unless that came.
    asked_at: Option<Instant>,
    /// How long it is to be waited for.
    patience: Duration,
}

impl Borrowing {
    /// Whether to ask now; it is then asked.
    fn ask(&mut self, now: Instant) -> bool {
        let waits = self.asked_at.is_some_and(|at| now.since(at) < self.patience.max(BORROW_AGAIN));
        if !waits {
            self.asked_at = Some(now);
        }
        !waits
    }

    /// The answer: something, or nothing.
    fn hear(&mut self, something: bool) {
        if something {
            *self = Self::default();
        } else {
            self.patience = (self.patience.max(BORROW_AGAIN) * 2).min(BORROW_AT_LAST);
        }
    }
}

/// A block that this shard fetches for another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Borrowed {
    owner: ShardId,
    /// The peer of ours that was asked for it, or is sending it.
    asked: Option<PeerKey>,
}

impl TorrentShard {
    pub(super) fn on_shard_message(&mut self, now: Instant, from: ShardId, message: ShardMessage) {
        match message {
            ShardMessage::Have(piece) => {
                self.now_have(now, piece);
                self.note_freed();
            }
            ShardMessage::Released(piece) => {
                self.drop_borrowed(piece);
                self.now_free(piece);
            }
            // What we have is explained already.
            ShardMessage::Failed(piece, _) if self.have.contains(piece) => {}
            ShardMessage::Failed(piece, failed) => self.suspicion.remember(piece, failed),
            ShardMessage::Availability(deltas) => {
                for (piece, delta) in deltas {
                    self.picker.adjust(piece, delta, &mut self.config.rng);
                    if delta > 0 {
                        self.note_spread(now, piece, None);
                    }
                }
            }
            ShardMessage::Near(deltas) => self.on_near(deltas),
            ShardMessage::Borrow { piece, speed } => self.lend(now, from, piece, speed),
            ShardMessage::Lend(piece, blocks) => self.on_lend(from, piece, &blocks),
            // Its bytes came with it: the driver calls `store_lent`.
            ShardMessage::LentBlock(..) => {}
            ShardMessage::GiveBack(blocks) => {
                blocks.into_iter().for_each(|block| self.on_give_back(from, block))
            }
            ShardMessage::CancelLent(blocks) => {
                for block in blocks {
                    self.drop_borrowed_block(block);
                }
            }
            ShardMessage::Offer(piece) => self.on_offer(now, from, piece),
            ShardMessage::Accept(piece) => self.on_accept(now, from, piece),
            ShardMessage::Handover(open) => self.on_handover(now, *open),
        }
    }

    /// A block that another shard fetched for us has come: where its bytes go. They must be there before the next
    /// action is taken.
    pub fn store_lent(&mut self, now: Instant, from: ShardId, block: Block, giver: IpAddr) -> Sink {
        let was_lent = self.forget_lent(from, block);
        let Some(open) = self.open.get_mut(&block.piece()) else { return Sink::Discard };
        let sole = open.sole_giver.is_some();
        if sole || !open.begin(block, was_lent) {
            if was_lent && !sole {
                open.unask(block);
            }
            self.wasted += u64::from(self.config.layout.block_size(block));
            return Sink::Discard;
        }
        self.now_full(block.piece());
        self.finish_block(now, block, giver, None);
        self.settle(now);
        Sink::Piece(block)
    }

    /// The peer is idle: asks the shard that assembles a piece it has for some of its blocks.
    pub(super) fn borrow_for(&mut self, now: Instant, key: PeerKey) {
        let untouched = || self.borrowed.values().any(|borrowed| borrowed.asked.is_none());
        if self.config.shards == 1 || untouched() || !self.borrowing.ask(now) {
            return;
        }
        let found = self.claimed_elsewhere(key);
        let Some((piece, owner)) = found.filter(|&(piece, _)| !self.is_outpaced(now, key, piece)) else {
            return self.borrowing.hear(false);
        };
        let block_len = self.config.layout.block_len();
        let speed = self.peer(key).and_then(|peer| peer.speed(now, block_len));
        self.act(ShardAction::Send(owner, ShardMessage::Borrow { piece, speed }));
    }

    /// A piece that the peer serves, even if it kept us waiting, and another shard assembles: one look through what we lack and want, from a random
    /// place, at most every [`BORROW_AGAIN`], and more and more seldom while nothing is found.
    fn claimed_elsewhere(&mut self, key: PeerKey) -> Option<(PieceIndex, ShardId)> {
        let count = self.config.layout.piece_count();
        let start = self.config.rng.below(count.max(1) as usize) as u32;
        let peer = self.peer(key)?;
        let numbers = (start..count).chain(0..start);
        let lacking = numbers
            .filter_map(|number| self.config.layout.piece(number))
            .filter(|&piece| !self.needless.contains(piece));
        lacking.filter(|&piece| peer.serves(piece) && self.may_cross(peer, piece)).find_map(
            |piece| match self.config.pieces.state(piece) {
                PieceState::Claimed(owner) if owner != self.config.id => Some((piece, owner)),
                _ => None,
            },
        )
    }

    /// Another shard has an idle peer for this piece: it gets what is missing, or else what few were asked for. Before the
    /// endgame, when there is memory for no other piece, that is what much slower peers were asked for.
    fn lend(&mut self, now: Instant, to: ShardId, piece: PieceIndex, speed: Option<u64>) {
        // It may have asked again before the first answer came.
        let room = MAX_LENT_BLOCKS.saturating_sub(self.lent_to(to, piece));
        let mut blocks = self.missing_to_lend(piece, room);
        if blocks.is_empty() && self.config.pieces.free_count() > 0 {
            self.free_from_slow(now, piece, speed);
            blocks = self.missing_to_lend(piece, room);
        } else if blocks.is_empty() {
            blocks = self.scarce_to_lend(to, piece, room);
            blocks.iter().for_each(|&block| self.note_askers(block));
        }
        self.now_full(piece);
        for &block in &blocks {
            self.lent.entry(block).or_default().push(to);
        }
        self.act(ShardAction::Send(to, ShardMessage::Lend(piece, blocks)));
    }

    /// How many blocks of the piece that shard has of us.
    pub(super) fn lent_to(&self, shard: ShardId, piece: PieceIndex) -> usize {
        let times = |block| self.lent.get(&block).into_iter().flatten().filter(|&&to| to == shard).count();
        self.config.layout.blocks(piece).map(times).sum()
    }

    fn missing_to_lend(&mut self, piece: PieceIndex, room: usize) -> Vec<Block> {
        let open = self.open.get_mut(&piece).filter(|open| open.sole_giver.is_none());
        open.map_or_else(Vec::new, |open| {
            std::iter::from_fn(|| open.ask_missing(&self.config.layout)).take(room).collect()
        })
    }

    fn scarce_to_lend(&mut self, to: ShardId, piece: PieceIndex, room: usize) -> Vec<Block> {
        let Some(open) = self.open.get_mut(&piece).filter(|open| open.sole_giver.is_none()) else {
            return Vec::new();
        };
        let few =
            |block: &Block| open.copies_asked(*block).is_some_and(|copies| (1..MAX_COPIES).contains(&copies));
        let lent = |block: &Block| self.lent.get(block).is_some_and(|shards| shards.contains(&to));
        let absent = open.absent(&self.config.layout);
        let blocks: Vec<Block> = absent.filter(|block| few(block) && !lent(block)).take(room).collect();
        blocks.iter().for_each(|&block| open.ask(block));
        blocks
    }

    fn on_lend(&mut self, owner: ShardId, piece: PieceIndex, blocks: &[Block]) {
        self.borrowing.hear(!blocks.is_empty());
        let ours = self.open.contains_key(&piece) || self.closing.contains_key(&piece);
        if self.have.contains(piece) || ours {
            return;
        }
        for &block in blocks {
            let asked = self.borrowed.get(&block).and_then(|borrowed| borrowed.asked);
            self.borrowed.insert(block, Borrowed { owner, asked });
        }
        self.stirred |= !blocks.is_empty();
    }

    /// A borrowed block for this peer.
    pub(super) fn of_borrowed(&mut self, now: Instant, key: PeerKey) -> Option<(Block, Source)> {
        if self.borrowed.is_empty() {
            return None;
        }
        let peer = self.peer(key)?;
        let fits = |(block, borrowed): &(&Block, &Borrowed)| {
            let serves = peer.serves(block.piece()) && self.may_cross(peer, block.piece());
            borrowed.asked.is_none() && serves && !peer.was_asked(**block)
        };
        let (&block, _) = self.borrowed.iter().find(fits)?;
        if self.is_outpaced(now, key, block.piece()) {
            return None;
        }
        let borrowed = self.borrowed.get_mut(&block)?;
        borrowed.asked = Some(key);
        Some((block, Source::Borrowed(borrowed.owner)))
    }

    /// A peer of ours will not give the borrowed block: another may, or it goes back.
    pub(super) fn unask_borrowed(&mut self, key: PeerKey, block: Block) {
        let Some(borrowed) = self.borrowed.get_mut(&block) else { return };
        // Where the peer's request was late, another was asked meanwhile and still is.
        borrowed.asked = borrowed.asked.filter(|&asked| asked != key);
    }

    /// Borrowed blocks that no peer here was asked for and none can be counted on to give go back.
    pub(super) fn give_back_idle(&mut self, now: Instant) {
        let good = |block: &Block| {
            let piece = block.piece();
            self.peers().any(|peer| peer.is_good_for(piece, now) && self.may_cross(peer, piece))
        };
        let idle: Vec<(Block, ShardId)> = self
            .borrowed
            .iter()
            .filter(|(block, borrowed)| borrowed.asked.is_none() && !good(block))
            .map(|(&block, borrowed)| (block, borrowed.owner))
            .collect();
        for (block, owner) in idle {
            self.drop_borrowed_block(block);
            self.act(ShardAction::Send(owner, ShardMessage::GiveBack(vec![block])));
        }
    }

    fn on_give_back(&mut self, from: ShardId, block: Block) {
        if self.forget_lent(from, block) {
            self.unask_own(block);
            self.stirred = true;
        }
    }

    /// True where the block was lent to that shard and still counts among those asked.
    fn forget_lent(&mut self, to: ShardId, block: Block) -> bool {
        let Some(shards) = self.lent.get_mut(&block) else { return false };
        let Some(at) = shards.iter().position(|&shard| shard == to) else { return false };
        shards.swap_remove(at);
        if shards.is_empty() {
            self.lent.remove(&block);
        }
        true
    }

    /// The piece is no longer assembled here: what was lent of it is not wanted any more.
    pub(super) fn recall_lent(&mut self, piece: PieceIndex) {
        for block in self.config.layout.blocks(piece) {
            for shard in self.lent.remove(&block).unwrap_or_default() {
                self.act(ShardAction::Send(shard, ShardMessage::CancelLent(vec![block])));
            }
        }
    }

    pub(super) fn drop_borrowed(&mut self, piece: PieceIndex) {
        if !self.borrowed.is_empty() {
            for block in self.config.layout.blocks(piece) {
                self.drop_borrowed_block(block);
            }
        }
    }

    /// The borrowed block is no longer to be fetched; whose it was.
    pub(super) fn drop_borrowed_block(&mut self, block: Block) -> Option<ShardId> {
        let borrowed = self.borrowed.remove(&block)?;
        if let Some(peer) = borrowed.asked {
            self.cancel(peer, block);
        }
        self.cancel_copies(block, None);
        Some(borrowed.owner)
    }

    /// A borrowed block that the peer was asked for is in the table, and so is the peer.
    pub(super) fn check_borrowed(&self, peer: &Peer, asked: &Asked) {
        let borrowed = self.borrowed.get(&asked.block);
        let known = borrowed.is_some_and(|borrowed| borrowed.asked == Some(peer.key));
        let late = asked.late && borrowed.is_some() && self.copies.contains(asked.block, peer.key);
        assert!(known || late, "{:?}: {asked:?}", peer.key);
    }
}
