//! Shards of one torrent in a test's hand: the test plays every peer, the hasher and the disk, and carries what
//! the shards send each other. Tables are held against each other after every step.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::super::{NewPeer, Outgoing, ShardConfig, ShardInput, Sink, TorrentShard, Verdict};
use crate::bitfield::Bitfield;
use crate::id::{InfoHash, PeerId};
use crate::layout::{Block, PieceIndex, PieceLayout};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::torrent::{
    BlockDigest, Budget, CoreToShard, PartReason, PeerKey, Policy, ShardAction, ShardId, ShardMessage,
    ShardToCore, SharedPieces,
};
use crate::wire::{Message, RawSpan};

/// Bytes of a block here: small, the protocol does not care.
pub(super) const BLOCK: u32 = 16;

pub(super) struct Rig {
    pub(super) shards: Vec<TorrentShard>,
    pub(super) layout: PieceLayout,
    pub(super) pieces: Arc<SharedPieces>,
    pub(super) budget: Arc<Budget>,
    pub(super) now: Instant,
    pub(super) reports: Vec<ShardToCore>,
    pub(super) parted: Vec<(PeerKey, PartReason)>,
    /// Peers for whom there is something, in the order in which that was said.
    pub(super) ready: Vec<PeerKey>,
    /// Pieces to be hashed, by which shard, and whether digests are wanted.
    pub(super) verifies: Vec<(usize, PieceIndex, bool)>,
    /// What the shards sent each other and was not delivered: from, to, what.
    pub(super) mail: VecDeque<(usize, usize, ShardMessage)>,
}

impl Rig {
    /// `shards` shards of a torrent of `pieces` pieces of `blocks` blocks, nothing of it on disk.
    pub(super) fn new(shards: u8, pieces: u32, blocks: u32) -> Self {
        Self::with(shards, pieces, blocks, SharedPieces::free(pieces), 1 << 20)
    }

    /// The same with everything on disk.
    pub(super) fn seed(pieces: u32, blocks: u32) -> Self {
        Self::with(1, pieces, blocks, SharedPieces::complete(pieces), 1 << 20)
    }

    /// The same with some pieces on disk.
    pub(super) fn having(pieces: u32, blocks: u32, have: &[u32]) -> Self {
        let shared = SharedPieces::unchecked(pieces);
        let layout = PieceLayout::with_block_len(u64::from(pieces), 1, 1).unwrap();
        for piece in layout.pieces() {
            assert!(shared.checked(piece, have.contains(&piece.number())));
        }
        Self::with(1, pieces, blocks, shared, 1 << 20)
    }

    pub(super) fn with(shards: u8, pieces: u32, blocks: u32, shared: SharedPieces, budget: u64) -> Self {
        Self::with_policy(shards, pieces, blocks, shared, budget, Policy::default())
    }

    pub(super) fn with_policy(
        shards: u8,
        pieces: u32,
        blocks: u32,
        shared: SharedPieces,
        budget: u64,
        policy: Policy,
    ) -> Self {
        let total = u64::from(pieces) * u64::from(blocks * BLOCK);
        let layout = PieceLayout::with_block_len(total, blocks * BLOCK, BLOCK).unwrap();
        let (shared, budget) = (Arc::new(shared), Arc::new(Budget::new(budget)));
        let config = |id: u8| ShardConfig {
            id: ShardId(id),
            shards,
            info_hash: InfoHash([7; 20]),
            layout,
            pieces: Arc::clone(&shared),
            budget: Arc::clone(&budget),
            listen_port: Some(6881),
            policy,
            rng: Rng::new(u64::from(id)),
        };
        Self {
            shards: (0..shards).map(|id| TorrentShard::new(config(id))).collect(),
            layout,
            pieces: Arc::clone(&shared),
            budget: Arc::clone(&budget),
            now: Instant::ZERO,
            reports: Vec::new(),
            parted: Vec::new(),
            ready: Vec::new(),
            verifies: Vec::new(),
            mail: VecDeque::new(),
        }
    }

    /// A peer with every extension, at 10.0.`shard`.`last`.
    pub(super) fn join(&mut self, shard: usize, last: u8) -> PeerKey {
        self.join_as(shard, last, true, true)
    }

    pub(super) fn join_as(&mut self, shard: usize, last: u8, fast: bool, extended: bool) -> PeerKey {
        let addr = SocketAddr::new(ip(shard, last), 6881);
        self.add(shard, NewPeer { addr, id: PeerId([last; 20]), outgoing: false, fast, extended })
    }

    /// A peer with every extension, from that port.
    pub(super) fn join_from(&mut self, shard: usize, last: u8, port: u16) -> PeerKey {
        let addr = SocketAddr::new(ip(shard, last), port);
        let id = PeerId([last; 20]);
        self.add(shard, NewPeer { addr, id, outgoing: false, fast: true, extended: true })
    }

    fn add(&mut self, shard: usize, new: NewPeer) -> PeerKey {
        let key = self.shards[shard].add_peer(self.now, new);
        self.settle(shard);
        key
    }

    /// A peer that has everything and serves us.
    pub(super) fn giver(&mut self, shard: usize, last: u8) -> PeerKey {
        let key = self.join(shard, last);
        self.says(key, Message::HaveAll);
        self.says(key, Message::Unchoke);
        key
    }

    /// A peer that has those pieces and serves us.
    pub(super) fn giver_of(&mut self, shard: usize, last: u8, numbers: &[u32]) -> PeerKey {
        let key = self.join(shard, last);
        self.says(key, self.bitfield(numbers));
        self.says(key, Message::Unchoke);
        key
    }

    pub(super) fn bitfield(&self, numbers: &[u32]) -> Message {
        let mut set = Bitfield::empty(self.layout.piece_count());
        for &number in numbers {
            set.insert(self.piece(number));
        }
        Message::Bitfield(set.to_wire())
    }

    pub(super) fn piece(&self, number: u32) -> PieceIndex {
        self.layout.piece(number).unwrap()
    }

    pub(super) fn span(&self, piece: u32, block: u32) -> RawSpan {
        RawSpan { piece, begin: block * BLOCK, length: BLOCK }
    }

    pub(super) fn says(&mut self, key: PeerKey, message: Message) {
        self.input(shard_of(key), ShardInput::Message(key, message));
    }

    pub(super) fn leaves(&mut self, key: PeerKey) {
        self.input(shard_of(key), ShardInput::Closed(key));
    }

    pub(super) fn core(&mut self, shard: usize, message: CoreToShard) {
        self.input(shard, ShardInput::FromCore(message));
    }

    pub(super) fn input(&mut self, shard: usize, input: ShardInput) {
        self.shards[shard].handle_input(self.now, input);
        self.settle(shard);
    }

    /// Everything that waits to be sent to the peer.
    pub(super) fn sent(&mut self, key: PeerKey) -> Vec<Outgoing> {
        let now = self.now;
        let shard = &mut self.shards[shard_of(key)];
        std::iter::from_fn(|| shard.poll_message(now, key)).collect()
    }

    /// The messages among them.
    pub(super) fn heard(&mut self, key: PeerKey) -> Vec<Message> {
        let message = |outgoing| match outgoing {
            Outgoing::Message(message) => Some(message),
            Outgoing::Block(_) => None,
        };
        self.sent(key).into_iter().filter_map(message).collect()
    }

    /// The requests among them.
    pub(super) fn requests(&mut self, key: PeerKey) -> Vec<RawSpan> {
        let request = |message| match message {
            Message::Request(span) => Some(span),
            _ => None,
        };
        self.heard(key).into_iter().filter_map(request).collect()
    }

    /// The peer begins to send a block.
    pub(super) fn begins(&mut self, key: PeerKey, span: RawSpan) -> Sink {
        let sink = self.shards[shard_of(key)].begin_block(self.now, key, span);
        self.settle(shard_of(key));
        sink
    }

    /// The block that the peer began is whole.
    pub(super) fn ends(&mut self, key: PeerKey) {
        self.input(shard_of(key), ShardInput::BlockEnd(key));
    }

    /// The peer sends a block.
    pub(super) fn gives(&mut self, key: PeerKey, span: RawSpan) -> Sink {
        let sink = self.begins(key, span);
        self.ends(key);
        sink
    }

    /// The peer sends those blocks.
    pub(super) fn gives_each(&mut self, key: PeerKey, spans: &[RawSpan]) {
        for &span in spans {
            self.gives(key, span);
        }
    }

    /// The peer answers all requests that were made of it, and those that follow; how many.
    pub(super) fn gives_all(&mut self, key: PeerKey) -> usize {
        let mut given = 0;
        loop {
            let requests = self.requests(key);
            if requests.is_empty() {
                return given;
            }
            given += requests.len();
            self.gives_each(key, &requests);
        }
    }

    /// Pieces to be hashed are right, and written.
    pub(super) fn pieces_are_right(&mut self) {
        for (shard, piece, digests) in std::mem::take(&mut self.verifies) {
            let digests = digests.then(|| self.digests(piece, &[]));
            self.input(shard, ShardInput::Verified(piece, Verdict::Right(digests)));
            self.input(shard, ShardInput::Written(piece, true));
        }
    }

    /// The one piece to be hashed is wrong: those of its blocks.
    pub(super) fn piece_is_wrong(&mut self, wrong_blocks: &[u32]) -> PieceIndex {
        let (shard, piece, _) = self.verifies.remove(0);
        let digests = self.digests(piece, wrong_blocks);
        self.input(shard, ShardInput::Verified(piece, Verdict::Wrong(digests)));
        piece
    }

    fn digests(&self, piece: PieceIndex, wrong: &[u32]) -> Vec<BlockDigest> {
        let digest =
            |block: Block| [if wrong.contains(&block.number()) { 66 } else { block.number() as u8 }; 20];
        self.layout.blocks(piece).map(digest).collect()
    }

    /// Time passes in steps of a tenth of a second, and the shards are woken whenever they ask for it.
    pub(super) fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.now = (self.now + Duration::from_millis(100)).min(until);
            for shard in 0..self.shards.len() {
                if self.shards[shard].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.shards[shard].handle_timeout(self.now);
                    self.settle(shard);
                }
            }
        }
    }

    /// Carries what the shards sent each other, until they are quiet.
    pub(super) fn deliver(&mut self) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            let from = ShardId(from as u8);
            if let ShardMessage::LentBlock(block, giver) = message {
                self.shards[to].store_lent(self.now, from, block, giver);
                self.settle(to);
            } else {
                self.input(to, ShardInput::FromShard(from, message));
            }
        }
    }

    pub(super) fn poisoners(&self) -> Vec<IpAddr> {
        let poisoner = |report: &ShardToCore| match report {
            ShardToCore::Poisoner(addr) => Some(*addr),
            _ => None,
        };
        self.reports.iter().filter_map(poisoner).collect()
    }

    pub(super) fn why_parted(&self, key: PeerKey) -> Option<PartReason> {
        self.parted.iter().find(|(parted, _)| *parted == key).map(|&(_, reason)| reason)
    }

    fn settle(&mut self, shard: usize) {
        while let Some(action) = self.shards[shard].poll_action() {
            match action {
                ShardAction::Ready(key) => self.ready.push(key),
                ShardAction::Drop(_) => {}
                ShardAction::Disconnect(key, reason) => self.parted.push((key, reason)),
                ShardAction::Verify { piece, digests } => self.verifies.push((shard, piece, digests)),
                ShardAction::Send(to, message) | ShardAction::SendBlock(to, message, _) => {
                    self.mail.push_back((shard, usize::from(to.0), message));
                }
                ShardAction::Report(report) => self.reports.push(report),
            }
        }
        self.shards[shard].check_invariants();
    }
}

pub(super) fn ip(shard: usize, last: u8) -> IpAddr {
    IpAddr::from([10, 0, shard as u8, last])
}

fn shard_of(key: PeerKey) -> usize {
    usize::from(key.shard.0)
}
