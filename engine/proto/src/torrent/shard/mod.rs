//! One shard's part of a torrent: its peers, what is asked of them and what they get. The contract is in the
//! parent module's documentation.
//!
//! - `peers`: who is connected, and what they say
//! - `download`: filling pipelines, blocks as they come
//! - `partial`, `copies`: which pieces have missing blocks, and which blocks were asked of several
//! - `pieces`: whole pieces, right or wrong, and who lied
//! - `given`: which peer a seed gave a new piece to, and who passes on what he gets
//! - `heed`: what is made of what a seed suggests
//! - `interest`: what a piece that we have now changes for peers
//! - `lending`: what shards tell and lend each other
//! - `pacing`: rate limits
//! - `stuck`: pieces that nobody here can finish, so that a claim is never a trap
//! - `takeover`: what slow peers hold while memory is short and fast ones wait for it
//! - `upload`: what peers ask of us, and what is sent
//! - `reveal`: super-seeding
//! - `suggest`: which pieces a seed names to whom, so that it gives each once
//! - `rack`: what is asked of peers in other racks
//! - `trunk`: how much is asked of those at a time
//! - `timers`: what happens because time passes
//! - `upload_only`: who wants nothing more
//! - `bounds`: that the limits are kept, for tests

mod bounds;
mod copies;
mod download;
mod given;
mod heed;
mod interest;
mod lending;
mod pacing;
mod partial;
mod peers;
mod pieces;
mod rack;
pub(crate) mod reveal;
mod stuck;
mod suggest;
mod takeover;
mod timers;
mod trunk;
mod upload;
mod upload_only;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::message::{CoreToShard, PartReason, ShardAction, ShardMessage, ShardToCore};
use super::shared::{Budget, SharedPieces};
use super::suspicion::{BlockDigest, Suspicion};
use super::{PeerKey, Policy, Rule, ShardId};
use crate::bitfield::Bitfield;
use crate::id::{InfoHash, PeerId};
use crate::layout::{Block, PieceIndex, PieceLayout};
use crate::peer::{Peer, Source, Supply};
use crate::picker::{OpenPiece, Picker};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::Message;

use copies::Copies;
use pacing::Paced;
use partial::Partial;
pub use upload::Outgoing;

/// Up to so many peers, what may concern each of them is looked at as soon as it happens. Beyond, it waits for what
/// else happens meanwhile: [`LOOK_AROUND`] for each peer.
const MANY_PEERS: usize = 32;

/// How long looking at all peers once more waits, for each peer: 20 times what a look at one costs.
const LOOK_AROUND: Duration = Duration::from_micros(10);

/// What a shard needs to know from the start.
#[derive(Debug)]
pub struct ShardConfig {
    /// This shard.
    pub id: ShardId,
    /// How many shards there are.
    pub shards: u8,
    /// The torrent.
    pub info_hash: InfoHash,
    /// How it divides.
    pub layout: PieceLayout,
    /// The state of its pieces.
    pub pieces: Arc<SharedPieces>,
    /// Memory for pieces in assembly, of the whole process.
    pub budget: Arc<Budget>,
    /// Where we listen, for the extended handshake.
    pub listen_port: Option<u16>,
    /// What it does where it has a choice.
    pub policy: Policy,
    /// The randomness of its decisions.
    pub rng: Rng,
}

/// A peer whose handshake was exchanged.
#[derive(Clone, Copy, Debug)]
pub struct NewPeer {
    /// Its address, as connected.
    pub addr: SocketAddr,
    /// What it calls itself.
    pub id: PeerId,
    /// Whether we dialled.
    pub outgoing: bool,
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
}

/// A fact for a shard.
#[derive(Clone, Debug)]
pub enum ShardInput {
    /// A message of a peer, other than a block.
    Message(PeerKey, Message),
    /// The block that [`begin_block`](TorrentShard::begin_block) began has come whole.
    BlockEnd(PeerKey),
    /// So many bytes of blocks have left for a peer.
    Sent(PeerKey, u64),
    /// The connection ended.
    Closed(PeerKey),
    /// The answer to [`ShardAction::Verify`].
    Verified(PieceIndex, Verdict),
    /// A right piece was written, or could not be.
    Written(PieceIndex, bool),
    /// From another shard; lent blocks come through [`store_lent`](TorrentShard::store_lent).
    FromShard(ShardId, ShardMessage),
    /// From the core.
    FromCore(CoreToShard),
}

/// What hashing a piece showed.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is what the torrent says; the digests of its blocks, where they were asked for.
    Right(Option<Vec<BlockDigest>>),
    /// It is not; the digests of its blocks.
    Wrong(Vec<BlockDigest>),
}

/// Where the bytes of a block go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Into the buffer of the piece; the first block of a piece makes the buffer, for which memory is leased.
    Piece(Block),
    /// Kept apart until [`ShardAction::SendBlock`] takes it to another shard.
    Lent(Block),
    /// Nowhere.
    Discard,
}

/// One shard's part of a torrent.
#[derive(Debug)]
pub struct TorrentShard {
    config: ShardConfig,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    peer_count: usize,

    /// What we have, as far as this shard knows and told its peers.
    have: Bitfield,
    /// The pieces that we have or do not want: what else a peer has is of interest.
    needless: Bitfield,
    /// The pieces that were added to `have`, in order: each peer has read it up to `haves_told`.
    have_log: Vec<PieceIndex>,
    picker: Picker,
    /// Pieces that this shard assembles.
    open: BTreeMap<PieceIndex, OpenPiece>,
    /// Those of `open` that have missing blocks, the oldest first.
    partial: Partial,
    /// Who else was asked for a block, where several were.
    copies: Copies,
    /// For each peer that has some pieces and that we want something of, one such piece, and its slot.
    witnesses: BTreeSet<(PieceIndex, u32)>,
    /// Pieces whose hash is not known or that are not written yet, with their givers.
    closing: BTreeMap<PieceIndex, OpenPiece>,
    suspicion: Suspicion,
    /// Where racks matter.
    rack: Option<Box<rack::Rack>>,
    suggestions: suggest::Suggestions,
    givings: given::Givings,
    /// Peers are told of one piece at a time (BEP 16).
    super_seeding: bool,
    /// When, once there was no piece left that nobody was told of, something of one was given last.
    all_told_at: Option<Instant>,

    /// Blocks of our open pieces that other shards fetch.
    lent: BTreeMap<Block, Vec<ShardId>>,
    /// Blocks that we fetch for others.
    borrowed: BTreeMap<Block, lending::Borrowed>,
    /// So that other shards are not asked all the time.
    borrowing: lending::Borrowing,
    /// Changes of availability that the other shards were not told of.
    deltas: Vec<(PieceIndex, i32)>,
    deltas_since: Option<Instant>,

    /// Something became available that idle peers may be asked for.
    stirred: bool,
    /// When they may be looked at again, all of them.
    stir_at: Instant,
    /// The slot at which that begins: not always at the same, or the first would get whatever is scarce.
    stir_from: usize,
    /// Peers that became able to take another request.
    freed: Vec<PeerKey>,
    /// When peers are told of pieces, where it is not done at once.
    haves_at: Option<Instant>,
    /// A piece could not be begun for want of memory.
    starved: bool,
    /// How many requests are late: while there are any, a block that comes may be expected of others too.
    late: u32,
    next_tick: Option<Instant>,
    /// When a piece that could not be begun for want of memory is tried again.
    retry_at: Option<Instant>,
    /// How long it waits the next time.
    retry_after: Duration,
    pacing_up: Paced,
    pacing_down: Paced,
    actions: VecDeque<ShardAction>,
    /// Bytes of blocks that were not needed.
    wasted: u64,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl TorrentShard {
    /// A shard without peers.
    pub fn new(mut config: ShardConfig) -> Self {
        let count = config.layout.piece_count();
        let mut picker = match config.pieces.selection() {
            Some(selection) => Picker::selecting(config.layout, selection, &mut config.rng),
            None => Picker::new(config.layout, &mut config.rng),
        };
        let (mut have, mut needless) = (Bitfield::empty(count), Bitfield::empty(count));
        for piece in config.layout.pieces().filter(|&piece| config.pieces.has(piece)) {
            have.insert(piece);
            picker.remove(piece);
        }
        for piece in
            config.layout.pieces().filter(|&piece| have.contains(piece) || !config.pieces.wants(piece))
        {
            needless.insert(piece);
        }
        let super_seeding = config.policy.super_seed && have.is_full() && !config.pieces.is_spread();
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            peer_count: 0,
            have,
            needless,
            have_log: Vec::new(),
            picker,
            open: BTreeMap::new(),
            partial: Partial::new(count),
            copies: Copies::default(),
            witnesses: BTreeSet::new(),
            closing: BTreeMap::new(),
            suspicion: Suspicion::default(),
            rack: config.policy.lan.map(|_| Box::new(rack::Rack::new(count))),
            suggestions: suggest::Suggestions::new(config.layout.piece_count()),
            givings: given::Givings::default(),
            super_seeding,
            all_told_at: None,
            lent: BTreeMap::new(),
            borrowed: BTreeMap::new(),
            borrowing: lending::Borrowing::default(),
            deltas: Vec::new(),
            deltas_since: None,
            stirred: false,
            stir_at: Instant::ZERO,
            stir_from: 0,
            freed: Vec::new(),
            haves_at: None,
            starved: false,
            late: 0,
            next_tick: None,
            retry_at: None,
            retry_after: timers::STARVED_RETRY,
            pacing_up: Paced::default(),
            pacing_down: Paced::default(),
            actions: VecDeque::new(),
            wasted: 0,
            config,
        }
    }

    /// Takes a fact.
    pub fn handle_input(&mut self, now: Instant, input: ShardInput) {
        match input {
            ShardInput::Message(peer, message) => self.on_message(now, peer, message),
            ShardInput::BlockEnd(peer) => self.on_block_end(now, peer),
            ShardInput::Sent(peer, bytes) => self.on_sent(now, peer, bytes),
            ShardInput::Closed(peer) => self.remove_peer(now, peer),
            ShardInput::Verified(piece, verdict) => self.on_verified(now, piece, verdict),
            ShardInput::Written(piece, written) => self.on_written(now, piece, written),
            ShardInput::FromShard(from, message) => self.on_shard_message(now, from, message),
            ShardInput::FromCore(message) => self.on_core_message(now, message),
        }
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<ShardAction> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deltas = self.deltas_since.map(|since| since + crate::limits::AVAILABILITY_BATCH);
        let stir = self.stirred.then_some(self.stir_at);
        let paced = [self.pacing_up.at(), self.pacing_down.at()].into_iter();
        paced.chain([self.next_tick, self.retry_at, self.haves_at, deltas, stir]).flatten().min()
    }

    /// Whether the torrent follows the rule.
    fn follows(&self, rule: Rule) -> bool {
        self.config.policy.rules.has(rule)
    }

    /// How many peers are connected.
    pub const fn peer_count(&self) -> usize {
        self.peer_count
    }

    /// How many pieces this shard knows to be on disk and right, and tells its peers of.
    pub const fn have_count(&self) -> u32 {
        self.have.count()
    }

    /// Bytes of blocks that came and were not needed.
    pub const fn wasted(&self) -> u64 {
        self.wasted
    }

    /// Pieces in assembly here, those being hashed or written included.
    pub fn open_count(&self) -> usize {
        self.open.len() + self.closing.len()
    }

    /// When the first block of a piece in assembly here was asked for, those being hashed or written included.
    pub fn begun_at(&self, piece: PieceIndex) -> Option<Instant> {
        let open = self.open.get(&piece).or_else(|| self.closing.get(&piece))?;
        Some(open.begun_at)
    }

    /// When the block that is arriving from that peer was asked for, and how many other requests wait for its answer.
    pub fn arriving(&self, key: PeerKey) -> Option<(Instant, usize)> {
        let peer = self.peer(key)?;
        Some((peer.arriving?.asked_at, peer.asked.len()))
    }

    /// Bytes that the tables take, without the peers' and those of the pieces in assembly. Of trees the entries count,
    /// not what their nodes keep free.
    pub fn memory(&self) -> usize {
        let have = self.have.len() as usize / 4 + self.have_log.capacity() * size_of::<PieceIndex>();
        let witnesses = self.witnesses.len() * size_of::<(PieceIndex, u32)>();
        self.picker.memory()
            + have
            + self.partial.memory()
            + self.copies.memory()
            + witnesses
            + self.suggestions.memory()
            + self.givings.memory()
            + self.rack.as_ref().map_or(0, |rack| rack.memory())
    }

    /// Recounts what is kept in counters, and holds the tables against each other.
    ///
    /// # Panics
    /// Where something does not fit.
    pub fn check_invariants(&self) {
        self.suggestions.check_invariants();
        for open in self.open.values() {
            open.check_invariants();
            assert!(!self.closing.contains_key(&open.piece()));
            let state = self.config.pieces.state(open.piece());
            assert_eq!(state, super::PieceState::Claimed(self.config.id), "open here: {:?}", open.piece());
        }
        let asked = |peer: &Peer| peer.asked.iter().filter(|asked| asked.late).count();
        let late: usize = self.peers().map(asked).sum();
        assert_eq!(late, self.late as usize);
        assert_eq!(self.peers().count(), self.peer_count);
        for peer in self.peers() {
            peer.check_counters();
            assert!(peer.asked.len() <= crate::limits::MAX_OUTGOING_REQUESTS as usize);
            assert!(peer.asked.iter().is_sorted_by_key(|asked| !asked.late), "late ones come first");
            assert!(peer.uploads.len() <= crate::limits::MAX_QUEUED_REQUESTS);
            let borrowed = peer.asked.iter().filter(|asked| matches!(asked.source, Source::Borrowed(_)));
            borrowed.for_each(|asked| self.check_borrowed(peer, asked));
        }
        for block in self.borrowed.keys() {
            let ours = self.open.contains_key(&block.piece()) || self.closing.contains_key(&block.piece());
            assert!(!ours, "borrowed here: {block:?}");
        }
        self.check_partial();
        self.check_copies();
        self.check_witnesses();
        self.check_rack();
        for open in self.closing.values() {
            let owner = self.config.id;
            let states = [super::PieceState::Verifying(owner), super::PieceState::Writing(owner)];
            assert!(states.contains(&self.config.pieces.state(open.piece())), "{:?}", open.piece());
        }
    }

    fn check_partial(&self) {
        for open in self.open.values() {
            assert_eq!(self.partial.contains(open.piece()), open.missing() > 0, "{:?}", open.piece());
        }
        self.partial.check_invariants();
        assert!(self.partial.iter().all(|piece| self.open.contains_key(&piece)), "{:?}", self.partial);
    }

    /// Each block is counted as asked of as many as it was asked of, and has one writer at most. Those that are noted as
    /// asked are.
    fn check_copies(&self) {
        for open in self.open.values() {
            for block in self.config.layout.blocks(open.piece()) {
                let counts = |asked: &&crate::peer::Asked| {
                    asked.block == block && !asked.late && asked.source == Source::Own
                };
                let asked: usize = self.peers().map(|peer| peer.asked.iter().filter(counts).count()).sum();
                let lent = self.lent.get(&block).map_or(0, Vec::len);
                let kept = |peer: &&Peer| {
                    let arriving = peer.arriving.filter(|arriving| arriving.block == block);
                    arriving.is_some_and(|arriving| arriving.arrival == crate::peer::Arrival::Kept)
                };
                let writers = self.peers().filter(kept).count();
                open.check_block(block, asked + lent, writers);
                let all: Vec<&Peer> = self.peers().filter(|peer| peer.was_asked(block)).collect();
                let late = |peer: &Peer| peer.asked.iter().any(|asked| asked.block == block && asked.late);
                let known = |peer: &&Peer| self.copies.contains(block, peer.key);
                assert!(all.iter().all(|peer| known(peer) || (asked + lent + writers == 1 && !late(peer))));
            }
        }
        assert!(self.lent.keys().all(|block| self.open.contains_key(&block.piece())), "{:?}", self.lent);
        for (block, key) in self.copies.iter() {
            let asked = self.peer(key).is_some_and(|peer| peer.was_asked(block));
            assert!(asked, "{key:?} is noted for {block:?}, and is not asked for it");
        }
    }

    /// What every input ends with: work that became possible is given out.
    fn settle(&mut self, now: Instant) {
        while let Some(peer) = self.freed.pop() {
            self.fill(now, peer.slot());
        }
        if self.stirred && (self.peer_count <= MANY_PEERS || self.stir_at <= now) {
            self.look_around(now);
        }
        let busy = self.peer_count > 0 || !self.open.is_empty() || !self.borrowed.is_empty();
        if self.next_tick.is_none() && busy {
            self.next_tick = Some(now + timers::TICK);
        }
        self.plan(now);
    }

    /// Asks every peer that may be of use now.
    fn look_around(&mut self, now: Instant) {
        self.stirred = false;
        self.stir_at = now + LOOK_AROUND * self.peer_count as u32;
        self.peers_mut().for_each(|peer| peer.supply = Supply::Unknown);
        let slots = self.slots.len();
        if self.peer_count > MANY_PEERS {
            self.stir_from = (self.stir_from + 1) % slots;
        }
        for slot in (self.stir_from..slots).chain(0..self.stir_from.min(slots)) {
            crate::work::step();
            self.fill(now, slot);
        }
    }

    fn on_core_message(&mut self, now: Instant, message: CoreToShard) {
        match message {
            CoreToShard::ReportRates(round) => self.report_rates(round),
            CoreToShard::Slots { unchoke, choke } => {
                choke.into_iter().for_each(|peer| self.choke(now, peer));
                unchoke.into_iter().for_each(|peer| self.unchoke(peer));
            }
            CoreToShard::Rack { near, errands } => self.on_rack(now, &near, errands),
            CoreToShard::Part(peer, reason) => self.part(now, peer, reason),
            CoreToShard::Ban(addr) => self.part_with_address(now, addr),
            CoreToShard::Found(pieces) => {
                pieces.into_iter().for_each(|piece| self.now_have(now, piece));
                self.tell_all_upload_only();
            }
            CoreToShard::Lacking(pieces) => {
                pieces.into_iter().for_each(|piece| self.now_free(piece));
                self.tell_all_upload_only();
            }
        }
    }

    fn part_with_address(&mut self, now: Instant, addr: IpAddr) {
        let there: Vec<_> = self.peers().filter(|peer| peer.addr.ip() == addr).map(|peer| peer.key).collect();
        there.into_iter().for_each(|peer| self.part(now, peer, PartReason::Banned));
    }

    fn act(&mut self, action: ShardAction) {
        self.actions.push_back(action);
    }

    fn report(&mut self, message: ShardToCore) {
        self.act(ShardAction::Report(message));
    }

    fn other_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.config.id;
        (0..self.config.shards).map(ShardId).filter(move |&id| id != own)
    }

    fn tell_others(&mut self, message: &ShardMessage) {
        for other in self.other_shards() {
            self.act(ShardAction::Send(other, message.clone()));
        }
    }

    fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().filter_map(|slot| slot.peer.as_deref())
    }

    fn peers_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.slots.iter_mut().filter_map(|slot| slot.peer.as_deref_mut())
    }

    /// The peer of that key, unless it is gone.
    fn peer(&self, key: PeerKey) -> Option<&Peer> {
        let slot = self.slots.get(key.slot()).filter(|slot| slot.generation == key.generation)?;
        slot.peer.as_deref()
    }

    fn peer_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let slot = self.slots.get_mut(key.slot()).filter(|slot| slot.generation == key.generation)?;
        slot.peer.as_deref_mut()
    }
}
