//! Filling pipelines, and blocks as they come.

use super::super::message::{ShardAction, ShardMessage};
use super::super::{PeerKey, Rule};
use super::timers::TICK;
use super::{Sink, TorrentShard};
use crate::layout::{Block, PieceIndex};
use crate::limits::{INITIAL_REQUESTS, MAX_COPIES};
use crate::peer::{Arrival, Arriving, Asked, Peer, Source, Supply, coarsened};
use crate::picker::{OpenPiece, Order};
use crate::time::Instant;
use crate::wire::{Message, RawSpan};

/// Blocks asked of a peer at a time in the endgame, when others were asked for them as well: enough for an idle
/// peer to be of use, few enough that little comes twice.
const ENDGAME_REQUESTS: u32 = 8;

/// How many pieces that were begun are tried for a peer before a new one is begun. Those behind them are tried only
/// where that fails.
pub(super) const PARTIAL_TRIES: usize = 64;

impl TorrentShard {
    /// Asks the peer in that slot for as much as its pipeline holds.
    pub(super) fn fill(&mut self, now: Instant, slot: usize) {
        let Some(peer) = self.slots.get(slot).and_then(|slot| slot.peer.as_deref()) else { return };
        if !self.may_find(peer) || !peer.may_be_asked(now) {
            return;
        }
        let (key, depth) = (peer.key, self.depth(peer));
        let block_len = self.config.layout.block_len();
        while self.peer(key).is_some_and(|peer| peer.asked.len() < depth) && !self.is_trunk_full(key) {
            if !self.pacing_down.take(now, key, block_len) {
                return;
            }
            let Some((block, source)) = self.next_block(now, key) else {
                self.pacing_down.give_back(block_len);
                let starved = !self.picker.is_empty() && self.memory_is_short();
                let supply = if starved { Supply::Starved } else { Supply::Dry };
                if let Some(peer) = self.peer_mut(key) {
                    peer.supply = supply;
                }
                return;
            };
            self.ask(now, key, block, source);
        }
    }

    /// Whether there is any use in looking for something to ask a peer for.
    fn may_find(&self, peer: &Peer) -> bool {
        match peer.supply {
            Supply::Unknown => true,
            Supply::Starved => peer.is_idle() || !self.memory_is_short(),
            Supply::Dry => false,
        }
    }

    /// Blocks to keep asked of the peer: what its pipeline holds, but not so much that one peer leases the memory
    /// that all share.
    fn depth(&self, peer: &Peer) -> usize {
        if peer.stalled {
            return 1;
        }
        let block_len = self.config.layout.block_len();
        let blocks = self.config.budget.limit() / u64::from(block_len);
        let sharers = self.peer_count.max(1) * usize::from(self.config.shards);
        let share = blocks as usize / 2 / sharers;
        (peer.pipeline.depth() as usize).min(share.max(coarsened(INITIAL_REQUESTS, block_len) as usize))
    }

    fn ask(&mut self, now: Instant, key: PeerKey, block: Block, source: Source) {
        let span = self.raw_span(block);
        if let Some(peer) = self.peer_mut(key) {
            peer.ask(now, block, source);
            self.copies.join(block, key);
            self.say(key, Message::Request(span));
        }
    }

    /// What to ask the peer for next: the piece that it is on, then pieces that were begun and that nobody is on (BEP 3's
    /// strict priority), then what was borrowed, then a new piece, then what others are on, and last what others were
    /// asked for too (endgame, and what `takeover` says).
    ///
    /// A piece that another peer is on comes after a new one: else whoever can give what nobody else has would be asked
    /// for the rest of what everybody has, and a swarm is as fast as its seed gives what is new.
    fn next_block(&mut self, now: Instant, key: PeerKey) -> Option<(Block, Source)> {
        let own = |block| (block, Source::Own);
        let untended = |shard: &Self, piece| !shard.is_tended(now, piece);
        // The first piece is wanted soon, to have something to give: everybody helps.
        let first = self.have.is_empty();
        if self.is_heeded(now, key) {
            return { self.of_same_piece(key) }
                .or_else(|| self.as_advised(now, key))
                .map(own)
                .or_else(|| self.of_borrowed(now, key))
                .or_else(|| self.of_slow_peer(now, key).map(own));
        }
        let begun = if self.follows(Rule::StrictPriority) { PARTIAL_TRIES } else { 0 };
        self.of_same_piece(key)
            .or_else(|| self.of_open_piece(now, key, begun, |shard, piece| first || untended(shard, piece)))
            .map(own)
            .or_else(|| self.of_borrowed(now, key))
            .or_else(|| self.of_new_piece(now, key).map(own))
            .or_else(|| self.of_open_piece(now, key, usize::MAX, |_, _| true).map(own))
            .or_else(|| self.of_endgame(now, key).map(own))
            .or_else(|| self.of_slow_peer(now, key).map(own))
    }

    /// A block of the piece that the peer was asked for last.
    fn of_same_piece(&mut self, key: PeerKey) -> Option<Block> {
        let peer = self.peer(key).filter(|_| self.follows(Rule::StrictPriority))?;
        let piece = peer.on_piece.filter(|&piece| self.partial.contains(piece))?;
        self.may_give(peer, piece).then(|| self.ask_missing(piece))?
    }

    /// A block of one of the first `tries` pieces that were begun, if it is such a one.
    pub(super) fn of_open_piece(
        &mut self,
        now: Instant,
        key: PeerKey,
        tries: usize,
        such: impl Fn(&Self, PieceIndex) -> bool,
    ) -> Option<Block> {
        let peer = self.peer(key)?;
        let some = self.partial.iter().take(tries).inspect(|_| crate::work::step());
        let piece = { some }.find(|&piece| self.may_give(peer, piece) && such(self, piece))?;
        self.tend(now, key, piece);
        self.ask_missing(piece)
    }

    /// Whether a peer that can be counted on is on the piece.
    pub(super) fn is_tended(&self, now: Instant, piece: PieceIndex) -> bool {
        let keeper = self.open.get(&piece).and_then(|open| open.keeper).and_then(|key| self.peer(key));
        keeper.is_some_and(|peer| peer.on_piece == Some(piece) && peer.is_good_for(piece, now))
    }

    /// The peer is on the piece from now on, alone or beside another.
    fn tend(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let tended = self.is_tended(now, piece);
        if let Some(peer) = self.peer_mut(key) {
            peer.on_piece = Some(piece);
        }
        if let Some(open) = self.open.get_mut(&piece).filter(|_| !tended) {
            open.keeper = Some(key);
        }
    }

    pub(super) fn may_give(&self, peer: &Peer, piece: PieceIndex) -> bool {
        let sole = || self.open.get(&piece).and_then(|open| open.sole_giver);
        peer.serves(piece) && self.may_cross(peer, piece) && sole().is_none_or(|sole| sole == peer.key)
    }

    fn ask_missing(&mut self, piece: PieceIndex) -> Option<Block> {
        let open = self.open.get_mut(&piece)?;
        let block = open.ask_missing(&self.config.layout);
        self.now_full(piece);
        block
    }

    pub(super) fn of_new_piece(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        if self.picker.is_empty() {
            return None;
        }
        let nominal = u64::from(self.config.layout.nominal_piece_len());
        crate::work::step();
        if !self.config.budget.lease(nominal) {
            self.starved = true;
            return None;
        }
        let Some(piece) = self.claim(now, key) else {
            self.config.budget.release(nominal);
            return None;
        };
        self.config.budget.release(nominal - u64::from(self.config.layout.piece_len(piece)));
        self.note_begun();
        // It was another shard's until now, and may be borrowed from: the message that says otherwise is on its way.
        self.drop_borrowed(piece);
        let mut open = OpenPiece::new(now, piece, &self.config.layout);
        // After a failed hash, one peer gives all of it: so it is known who is right.
        open.sole_giver = self.suspicion.contains(piece).then_some(key);
        self.open.insert(piece, open);
        self.partial.push(piece);
        self.tend(now, key, piece);
        self.ask_missing(piece)
    }

    /// Claims the best piece that the peer serves.
    fn claim(&mut self, now: Instant, key: PeerKey) -> Option<PieceIndex> {
        if self.is_bounded(key) {
            return self.claim_errand(now, key);
        }
        let Self { slots, picker, config, have, .. } = self;
        let peer = slots.get_mut(key.slot())?.peer.as_deref_mut()?;
        let claim = |piece| config.pieces.claim(piece, config.id);
        if peer.peer_choking {
            let mut allowed = peer.allowed_to_us.iter().copied();
            let piece = allowed
                .find(|&piece| peer.pieces.contains(piece) && picker.contains(piece) && claim(piece))?;
            picker.remove(piece);
            return Some(piece);
        }
        // The first piece is wanted soon, to have something to give (BEP 3), and the rarest may be slow to come.
        let order = match config.policy.order {
            Order::RarestFirst if have.is_empty() && config.policy.rules.has(Rule::RandomFirst) => {
                Order::Random
            }
            order => order,
        };
        let heeded = peer.advice.is_heeded();
        let suggested = peer.advice.pieces(|piece| picker.contains(piece));
        let piece = if heeded {
            picker.pick_suggested(&peer.pieces, suggested, claim)
        } else {
            picker.pick(&peer.pieces, suggested, order, &mut config.rng, claim)
        }?;
        peer.advice.take_up(now, piece);
        Some(piece)
    }

    /// A block that others were asked for and have not begun to give, once no piece is left to begin.
    fn of_endgame(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        if self.config.pieces.free_count() > 0 || !self.follows(Rule::Endgame) {
            return None;
        }
        let most = self.endgame_requests();
        let peer = self.peer(key).filter(|peer| peer.asked.len() < most && !peer.peer_choking)?;
        let Some(block) = self.shareable(peer) else {
            self.borrow_for(now, key);
            return None;
        };
        self.note_askers(block);
        self.copies.note(block, key);
        self.open.get_mut(&block.piece())?.ask(block);
        self.now_full(block.piece());
        Some(block)
    }

    fn endgame_requests(&self) -> usize {
        coarsened(ENDGAME_REQUESTS, self.config.layout.block_len()) as usize
    }

    /// A block of an open piece that few were asked for, and this peer was not.
    fn shareable(&self, peer: &Peer) -> Option<Block> {
        let layout = &self.config.layout;
        let few = |open: &OpenPiece, block: &Block| {
            open.copies_asked(*block).is_some_and(|copies| copies < MAX_COPIES) && !peer.was_asked(*block)
        };
        let able = |open: &&OpenPiece| {
            open.has_scarce() && open.sole_giver.is_none() && self.may_give(peer, open.piece())
        };
        let pieces = self.open.values().inspect(|_| crate::work::step()).filter(able);
        pieces.filter_map(|open| open.absent(layout).find(|block| few(open, block))).next()
    }

    /// A block's header came: where its bytes go. The peer may have been parted with afterwards (what it sent was
    /// asked for by nobody); the bytes go nowhere then.
    pub fn begin_block(&mut self, now: Instant, key: PeerKey, span: RawSpan) -> Sink {
        let sink = self.sink(now, key, span);
        self.settle(now);
        sink
    }

    fn sink(&mut self, now: Instant, key: PeerKey, span: RawSpan) -> Sink {
        let block = self.config.layout.block_at(span.piece, span.begin, span.length);
        let Some(peer) = self.peer_mut(key) else { return Sink::Discard };
        (peer.last_received, peer.progressed_at, peer.opened) = (now, now, true);
        let Some(block) = block else {
            self.offend(now, key);
            return Sink::Discard;
        };
        let Some(asked) = peer.take_asked(block) else { return self.stray(now, key, block) };
        self.late -= u32::from(asked.late);
        self.copies.leave(block, key);
        let arrival = self.arrival(key, asked);
        if let Some(peer) = self.peer_mut(key) {
            peer.arriving = Some(Arriving { block, asked_at: asked.at, began_at: now, arrival });
        }
        sink_for(block, arrival)
    }

    /// Some bytes of the block that is arriving came: where they go. To be asked before each part is stored: a block
    /// that stopped in the middle may have been given to somebody else to fetch, and parts that come show that this
    /// one has not.
    pub fn arriving_sink(&mut self, now: Instant, key: PeerKey) -> Sink {
        let Some(peer) = self.peer_mut(key) else { return Sink::Discard };
        (peer.last_received, peer.progressed_at) = (now, now);
        peer.arriving.map_or(Sink::Discard, |arriving| sink_for(arriving.block, arriving.arrival))
    }

    /// The blocks that the peer should send next, the one that is arriving first, in the order in which they were asked
    /// for: those of our own pieces, up to the first that somebody else may give as well. Each goes to its piece
    /// ([`Sink::Piece`]) if it comes before anything else happens; its piece is open, so memory for it was leased.
    pub fn expected(&self, key: PeerKey) -> impl Iterator<Item = Block> + '_ {
        let peer = self.peer(key);
        let arriving = peer.and_then(|peer| peer.arriving);
        let is_kept = arriving.is_none_or(|arriving| arriving.arrival == Arrival::Kept);
        let asked = peer.filter(|_| is_kept).into_iter().flat_map(|peer| &peer.asked);
        let begun = arriving.filter(|_| is_kept).map(|arriving| arriving.block);
        begun
            .into_iter()
            .chain(asked.map_while(move |asked| self.is_its_alone(key, asked).then_some(asked.block)))
    }

    /// Whether the peer was asked for something that it has not given yet, in time or late.
    pub fn awaits(&self, key: PeerKey) -> bool {
        self.peer(key).is_some_and(|peer| peer.arriving.is_some() || !peer.asked.is_empty())
    }

    /// Whether nobody else was asked for the block, and it is kept if it comes.
    fn is_its_alone(&self, key: PeerKey, asked: &Asked) -> bool {
        let alone = |open: &OpenPiece| {
            open.copies_asked(asked.block) == Some(1) && open.sole_giver.is_none_or(|sole| sole == key)
        };
        // One that took too long to give it, or was asked beside this one, may still do.
        let own = asked.source == Source::Own && !asked.late && !self.copies.has_others(asked.block, key);
        own && self.open.get(&asked.block.piece()).is_some_and(alone)
    }

    fn arrival(&mut self, key: PeerKey, asked: Asked) -> Arrival {
        match asked.source {
            Source::Borrowed(owner) if self.borrowed.contains_key(&asked.block) => Arrival::Lent(owner),
            Source::Borrowed(_) => Arrival::Scratch,
            Source::Own => {
                let Some(open) = self.open.get_mut(&asked.block.piece()) else { return Arrival::Scratch };
                let may_give = open.sole_giver.is_none_or(|sole| sole == key);
                if may_give && open.begin(asked.block, !asked.late) {
                    self.now_full(asked.block.piece());
                    return Arrival::Kept;
                }
                // Another was faster: this peer no longer counts among those who may still give it.
                if !asked.late {
                    open.unask(asked.block);
                }
                Arrival::Scratch
            }
        }
    }

    /// A block that is not asked for, or no longer.
    fn stray(&mut self, now: Instant, key: PeerKey, block: Block) -> Sink {
        let Some(peer) = self.peer_mut(key) else { return Sink::Discard };
        match peer.strays_due.checked_sub(1) {
            Some(left) => peer.strays_due = left,
            None => {
                self.offend(now, key);
                return Sink::Discard;
            }
        }
        peer.arriving = Some(Arriving { block, asked_at: now, began_at: now, arrival: Arrival::Scratch });
        Sink::Discard
    }

    /// The block that was begun is whole.
    pub(super) fn on_block_end(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        let Some(Arriving { block, asked_at, arrival, .. }) = peer.arriving.take() else { return };
        let (bytes, giver) =
            (self.config.layout.block_size(block), self.peer(key).map(|peer| peer.addr.ip()));
        if let Some(peer) = self.peer_mut(key) {
            peer.pipeline.block_arrived(now, asked_at, bytes);
            peer.downloaded += u64::from(bytes);
            (peer.last_received, peer.snubbed, peer.owes_block) = (now, false, false);
            peer.trust_again(now);
        }
        if matches!(arrival, Arrival::Kept | Arrival::Lent(_)) {
            self.note_fed(now);
        }
        self.note_crossed(now, key, asked_at, bytes);
        match (arrival, giver) {
            (Arrival::Kept, Some(giver)) => self.finish_block(now, block, giver, Some(key)),
            (Arrival::Lent(owner), Some(giver)) => {
                // The piece may have changed hands since it was asked for.
                let owner = self.drop_borrowed_block(block).unwrap_or(owner);
                self.act(ShardAction::SendBlock(owner, ShardMessage::LentBlock(block, giver), key));
            }
            _ => self.wasted += u64::from(bytes),
        }
        self.note_room(key);
        self.fill(now, key.slot());
        self.stir_held_back(key);
    }

    /// The peer that was asked for too much to help with what others were asked for, near the end, may be asked for so little
    /// now that it can.
    fn note_room(&mut self, key: PeerKey) {
        let (most, ends) = (self.endgame_requests(), self.config.pieces.free_count() == 0);
        if let Some(peer) = self.peer_mut(key).filter(|peer| ends && peer.asked.len() + 1 == most) {
            peer.supply = Supply::Unknown;
        }
    }

    /// The block is in its buffer: whoever else was asked for it is told, and the piece goes on if it is whole.
    pub(super) fn finish_block(
        &mut self,
        now: Instant,
        block: Block,
        giver: std::net::IpAddr,
        from: Option<PeerKey>,
    ) {
        let Some(open) = self.open.get_mut(&block.piece()) else { return };
        let others = open.finish(now, block, giver);
        let whole = open.is_whole();
        if others {
            // What another shard gave may have been asked of one peer here, alone. Whoever was asked beside one of
            // ours that gave it is known.
            if from.is_none() && !self.copies.are_known(block) {
                self.note_askers(block);
            }
            for shard in self.lent.remove(&block).unwrap_or_default() {
                self.act(ShardAction::Send(shard, ShardMessage::CancelLent(vec![block])));
            }
        }
        self.cancel_copies(block, from);
        if whole {
            self.close_piece(block.piece());
        }
    }

    /// Takes a request back. What was in flight may still come, and is then discarded.
    pub(super) fn cancel(&mut self, key: PeerKey, block: Block) {
        let span = self.raw_span(block);
        let Some(peer) = self.peer_mut(key) else { return };
        let Some(asked) = peer.take_asked(block) else { return };
        self.copies.leave(block, key);
        let Some(peer) = self.peer_mut(key) else { return };
        peer.strays_due = peer.strays_due.saturating_add(1);
        peer.supply = Supply::Unknown;
        // A request that has not left yet need not be cancelled on the wire.
        if let Some(at) = peer.outbox.iter().rposition(|message| *message == Message::Request(span)) {
            peer.outbox.remove(at);
            self.pacing_down.give_back(span.length);
        } else {
            self.say(key, Message::Cancel(span));
        }
        self.late -= u32::from(asked.late);
        self.freed.push(key);
    }

    /// A request that will not be answered: the block may be asked of others.
    pub(super) fn unask(&mut self, key: PeerKey, asked: Asked) {
        self.stirred = true;
        self.copies.leave(asked.block, key);
        if asked.late {
            self.late -= 1;
        } else {
            self.uncount(key, asked);
        }
    }

    /// A request that was counted until now counts no more, so that another may be asked.
    pub(super) fn uncount(&mut self, key: PeerKey, asked: Asked) {
        match asked.source {
            Source::Own => self.unask_own(asked.block),
            Source::Borrowed(_) => self.unask_borrowed(key, asked.block),
        }
    }

    pub(super) fn unask_own(&mut self, block: Block) {
        if let Some(open) = self.open.get_mut(&block.piece()) {
            open.unask(block);
            self.now_partial(block.piece());
        }
    }

    /// The piece may have no missing blocks any more.
    pub(super) fn now_full(&mut self, piece: PieceIndex) {
        if self.partial.contains(piece) && self.open.get(&piece).is_none_or(|open| open.missing() == 0) {
            self.partial.remove(piece);
        }
    }

    /// The piece may have missing blocks again. Those begun earlier come first.
    pub(super) fn now_partial(&mut self, piece: PieceIndex) {
        let missing = self.open.get(&piece).is_some_and(|open| open.missing() > 0);
        if missing {
            self.partial.push_again(piece);
        }
    }

    /// The block that was arriving will not come whole from where it came.
    pub(super) fn abandon(&mut self, key: PeerKey, arriving: Arriving) {
        self.stirred = true;
        let block = arriving.block;
        match arriving.arrival {
            Arrival::Kept => {
                if let Some(open) = self.open.get_mut(&block.piece()) {
                    open.abandon(block);
                }
                self.now_partial(block.piece());
            }
            Arrival::Lent(_) => self.unask_borrowed(key, block),
            Arrival::Scratch => {}
        }
    }

    pub(super) fn on_choke(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        peer.peer_choking = true;
        peer.advice.forget();
        // BEP 6: with the fast extension every request is answered or rejected one by one.
        if !peer.fast {
            let asked = std::mem::take(&mut peer.asked);
            peer.strays_due = peer.strays_due.saturating_add(asked.len() as u32);
            peer.outbox.retain(|message| !matches!(message, Message::Request(_)));
            asked.into_iter().for_each(|asked| self.unask(key, asked));
        }
        self.end_giving_way(now, key);
        self.fill(now, key.slot());
    }

    pub(super) fn on_unchoke(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        (peer.peer_choking, peer.supply) = (false, Supply::Unknown);
        // What was asked before counts as asked now: it waited for this.
        peer.trust_again(now);
        self.fill(now, key.slot());
    }

    pub(super) fn on_reject(&mut self, now: Instant, key: PeerKey, span: RawSpan) {
        let Some(block) = self.config.layout.block_at(span.piece, span.begin, span.length) else {
            return self.offend(now, key);
        };
        let Some(peer) = self.peer_mut(key) else { return };
        match peer.take_asked(block) {
            Some(asked) => {
                // Not asked again at once: it would be rejected again, as fast as the wire allows. A choke says
                // by itself when to ask again.
                if !peer.peer_choking {
                    peer.rests_until = now + TICK;
                }
                self.pacing_down.give_back(span.length);
                self.unask(key, asked);
            }
            // The answer to a cancel (BEP 6), so the block itself will not come.
            None => peer.strays_due = peer.strays_due.saturating_sub(1),
        }
    }

    pub(super) fn raw_span(&self, block: Block) -> RawSpan {
        let span = self.config.layout.block_span(block);
        RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() }
    }
}

fn sink_for(block: Block, arrival: Arrival) -> Sink {
    match arrival {
        Arrival::Kept => Sink::Piece(block),
        Arrival::Lent(_) => Sink::Lent(block),
        Arrival::Scratch => Sink::Discard,
    }
}
