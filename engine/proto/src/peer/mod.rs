//! One connected peer, as its torrent's shard sees it: what each side said, what was asked for and what waits to
//! be sent. Holds state and small rules about itself; what to ask and whom to serve is decided by the shard.

mod advice;
mod courier;
mod pieces;
mod pipeline;

use std::collections::VecDeque;
use std::net::SocketAddr;

pub(crate) use advice::Advice;
pub(crate) use courier::Courier;
pub use pieces::PeerPieces;
pub use pipeline::Pipeline;
pub(crate) use pipeline::coarsened;

use crate::layout::{Block, PieceIndex, Span};
use crate::time::{Duration, Instant};
use crate::torrent::{PeerKey, Revealed, ShardId};
use crate::wire::{ExtensionIds, Message};

/// Whose block a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A piece that this shard assembles.
    Own,
    /// Lent by the shard that assembles the piece.
    Borrowed(ShardId),
}

/// A block we asked the peer for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) block: Block,
    pub(crate) at: Instant,
    pub(crate) source: Source,
    /// It took too long: the block was given to others to fetch, and is taken if it comes all the same.
    pub(crate) late: bool,
}

impl Asked {
    /// Whether it counts among those that were asked for a block of our own.
    pub(crate) fn is_counted(&self) -> bool {
        self.source == Source::Own && !self.late
    }
}

/// Where the bytes of the block that is arriving go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Into the piece's buffer.
    Kept,
    /// To the shard that lent it.
    Lent(ShardId),
    /// Nowhere: it is here already, or nobody asked for it.
    Scratch,
}

/// The block that is arriving.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arriving {
    pub(crate) block: Block,
    pub(crate) asked_at: Instant,
    pub(crate) began_at: Instant,
    pub(crate) arrival: Arrival,
}

/// Whether something may be found to ask a peer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supply {
    /// It has to be looked for.
    Unknown,
    /// Nothing that can be had without memory for another piece, and nothing changed since: once there is memory, it
    /// has to be looked for.
    Starved,
    /// Nothing, and nothing changed since.
    Dry,
}

/// How many blocks may come that we never asked for, before it is an offence: some clients answer a request twice
/// after a reconnect or a lost cancel.
const STRAYS_FORGIVEN: u32 = 64;

/// Entries that a queue of an idle peer keeps room for.
const RESTING_CAPACITY: usize = 8;

/// A connected peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) key: PeerKey,
    pub(crate) addr: SocketAddr,
    /// Both sides speak the fast extension (BEP 6).
    pub(crate) fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub(crate) extended: bool,
    /// Which of its messages it wants, under which ids.
    pub(crate) extensions: ExtensionIds,
    /// It says that it wants nothing more (BEP 21).
    pub(crate) upload_only: bool,
    /// It was told that we want nothing more.
    pub(crate) told_upload_only: bool,
    /// It is to be told so, under that id, once it knows of all that we have.
    pub(crate) upload_only_due: Option<u8>,
    /// It stands in our rack.
    pub(crate) near: bool,

    pub(crate) pieces: PeerPieces,
    /// A piece that it has, and we lack and want: none where there is none, and none of one that has everything, which is of use
    /// until we have, too. While we lack this one, no other need be looked for.
    pub(crate) witness: Option<PieceIndex>,
    /// A message other than the extended handshake came: a bitfield is too late (BEP 3).
    pub(crate) opened: bool,

    pub(crate) am_choking: bool,
    pub(crate) am_interested: bool,
    pub(crate) peer_choking: bool,
    pub(crate) peer_interested: bool,

    pub(crate) pipeline: Pipeline,
    pub(crate) asked: VecDeque<Asked>,
    pub(crate) arriving: Option<Arriving>,
    /// Pieces it serves us though it chokes us (BEP 6).
    pub(crate) allowed_to_us: Vec<PieceIndex>,
    /// Pieces we serve it though we choke it.
    pub(crate) allowed_by_us: Vec<PieceIndex>,
    /// What it suggests to us (BEP 6).
    pub(crate) advice: Advice,
    /// What we suggest to it and gave it first.
    pub(crate) courier: Courier,
    /// The piece that a super-seed told it of last (BEP 16).
    pub(crate) revealed: Option<Revealed>,
    /// Whether something may be found to ask it for.
    pub(crate) supply: Supply,
    /// The open piece that it was asked for last: gone on with first, so that pieces come whole from one peer, and the
    /// list of open ones is looked through once a piece and not once a block.
    pub(crate) on_piece: Option<PieceIndex>,
    /// How many blocks may still come that were asked for and then cancelled or given up.
    pub(crate) strays_due: u32,
    /// Since when it keeps us waiting: the last block, or the first request after a pause.
    pub(crate) waiting_since: Instant,
    /// How long it kept us waiting since its last block, pauses without a request not counted: a peer whose
    /// requests others fulfil does not get away with that.
    pub(crate) waited: Duration,
    /// Up to when `waited` is counted.
    pub(crate) looked_over_at: Instant,
    /// When bytes of a block came last.
    pub(crate) progressed_at: Instant,
    /// It kept us waiting and gave no block since: it is asked for one at a time, and nothing depends on it.
    pub(crate) stalled: bool,
    /// It rejected a request though it does not choke us: until then it is not asked again.
    pub(crate) rests_until: Instant,
    /// A faster one took over what it was asked for: until then it begins nothing.
    pub(crate) gives_way_until: Instant,
    /// Which one, if it is one of ours.
    pub(crate) gives_way_to: Option<PeerKey>,
    /// It took over what another was asked for, and gave no block since.
    pub(crate) owes_block: bool,
    pub(crate) snubbed: bool,

    /// What it asked for and we have not begun to send.
    pub(crate) uploads: VecDeque<Span>,
    /// What it is to be told; added to by [`queue`](Self::queue), taken from by [`next_queued`](Self::next_queued).
    pub(crate) outbox: VecDeque<Message>,
    /// Rejects in `outbox`.
    pub(crate) pending_rejects: usize,
    /// How much of the shard's log of pieces it was told of.
    pub(crate) haves_told: usize,
    /// How much of it our bitfield covered.
    pub(crate) haves_shown: usize,
    /// The driver was told that there is something to send, and has not drained it yet.
    pub(crate) ready: bool,

    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    pub(crate) last_received: Instant,
    pub(crate) last_sent: Instant,
}

impl Peer {
    /// A peer whose handshake was just exchanged: both sides choke, neither is interested (BEP 3).
    pub(crate) fn new(
        now: Instant,
        key: PeerKey,
        addr: SocketAddr,
        (fast, extended): (bool, bool),
        block_len: u32,
    ) -> Self {
        Self {
            key,
            addr,
            fast,
            extended,
            extensions: ExtensionIds::NONE,
            upload_only: false,
            told_upload_only: false,
            upload_only_due: None,
            near: false,
            pieces: PeerPieces::None,
            witness: None,
            opened: false,
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            pipeline: Pipeline::new(now, block_len),
            asked: VecDeque::new(),
            arriving: None,
            allowed_to_us: Vec::new(),
            allowed_by_us: Vec::new(),
            advice: Advice::default(),
            courier: Courier::new(now),
            revealed: None,
            supply: Supply::Unknown,
            on_piece: None,
            strays_due: STRAYS_FORGIVEN,
            waiting_since: now,
            waited: Duration::ZERO,
            looked_over_at: now,
            progressed_at: now,
            stalled: false,
            rests_until: now,
            gives_way_until: now,
            gives_way_to: None,
            owes_block: false,
            snubbed: false,
            uploads: VecDeque::new(),
            outbox: VecDeque::new(),
            pending_rejects: 0,
            haves_told: 0,
            haves_shown: 0,
            ready: false,
            downloaded: 0,
            uploaded: 0,
            last_received: now,
            last_sent: now,
        }
    }

    /// Whether it has everything, or says that it wants no more and asks for nothing.
    pub(crate) fn wants_nothing(&self) -> bool {
        self.pieces == PeerPieces::All || self.upload_only && !self.peer_interested
    }

    /// Whether it serves us that piece now, as far as it said.
    pub(crate) fn serves(&self, piece: PieceIndex) -> bool {
        self.pieces.contains(piece) && (!self.peer_choking || self.allowed_to_us.contains(&piece))
    }

    /// Whether it can be asked for anything at all.
    pub(crate) fn may_be_asked(&self, now: Instant) -> bool {
        let served = !self.peer_choking || !self.allowed_to_us.is_empty();
        self.am_interested && served && !self.is_late() && !self.rests(now)
    }

    /// Whether it is asked for nothing for a while.
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.max(self.gives_way_until) > now
    }

    /// Whether nothing that it was asked for is to come.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.arriving.is_none()
    }

    /// Bytes a second that it gives us, while it is asked for something: none where that is not known. Of one that is silent
    /// for a second it is known that it is no more than a block in that time.
    pub(crate) fn speed(&self, now: Instant, block_len: u32) -> Option<u64> {
        let known = Some(self.pipeline.speed()).filter(|&speed| speed > 0);
        let waits = if self.keeps_waiting() { now.since(self.waiting_since) } else { Duration::ZERO };
        let most = (waits.as_secs() > 0).then(|| u64::from(block_len) / waits.as_secs());
        known.into_iter().chain(most).min()
    }

    /// Whether that piece can be counted on to come from it.
    pub(crate) fn is_good_for(&self, piece: PieceIndex, now: Instant) -> bool {
        // Rejected a request, and gave nothing since: it will reject the next as well, however long it rests.
        let rejects = self.rests_until > self.progressed_at;
        let holds_up = self.snubbed || self.stalled || rejects || self.rests(now);
        self.serves(piece) && !holds_up && !self.is_late()
    }

    /// Whether a request takes too long. The oldest stand first, and nothing is asked while one is late, so that
    /// the first tells for all.
    fn is_late(&self) -> bool {
        self.asked.front().is_some_and(|asked| asked.late)
    }

    /// Notes for how long it keeps us waiting; whether it does.
    pub(crate) fn count_waiting(&mut self, now: Instant) -> bool {
        self.waited = self.waited_by(now);
        self.looked_over_at = now;
        self.keeps_waiting()
    }

    /// `waited`, counted up to now.
    pub(crate) fn waited_by(&self, now: Instant) -> Duration {
        let since = self.looked_over_at.max(self.waiting_since);
        self.waited + if self.keeps_waiting() { now.since(since) } else { Duration::ZERO }
    }

    fn keeps_waiting(&self) -> bool {
        !self.asked.is_empty() || self.arriving.is_some()
    }

    /// It gave a block, or may be counted on again for another reason.
    pub(crate) fn trust_again(&mut self, now: Instant) {
        (self.waiting_since, self.progressed_at, self.waited) = (now, now, Duration::ZERO);
        (self.stalled, self.rests_until) = (false, now);
    }

    /// Takes the request for the block out of those that wait for an answer.
    pub(crate) fn take_asked(&mut self, block: Block) -> Option<Asked> {
        let at = self.asked.iter().position(|asked| asked.block == block)?;
        self.asked.remove(at)
    }

    /// Whether the block was asked of it.
    pub(crate) fn was_asked(&self, block: Block) -> bool {
        self.asked.iter().any(|asked| asked.block == block)
    }

    /// It suggests something. Of what came since our bitfield a seed was told nothing until then; whether it is to hear it now.
    pub(crate) fn hear_suggestion(&mut self, piece: PieceIndex) -> bool {
        let first = !self.advice.wants_haves() && self.pieces == PeerPieces::All;
        if first {
            self.haves_told = self.haves_shown;
        }
        self.advice.comes(piece);
        first
    }

    /// The first piece of the log that it has not heard of and lacks: one that has it need not hear that we do, unless it is
    /// a seed that suggests pieces.
    pub(crate) fn next_to_tell(&mut self, log: &[PieceIndex]) -> Option<PieceIndex> {
        let curious = self.advice.wants_haves();
        if self.pieces == PeerPieces::All && !curious {
            self.haves_told = log.len();
        }
        while let Some(&piece) = log.get(self.haves_told) {
            if curious || !self.pieces.contains(piece) {
                return Some(piece);
            }
            self.haves_told += 1;
        }
        None
    }

    /// It is to be told this after what waits already.
    pub(crate) fn queue(&mut self, message: Message) {
        self.pending_rejects += usize::from(is_reject(&message));
        self.outbox.push_back(message);
    }

    /// What it is to be told next.
    pub(crate) fn next_queued(&mut self) -> Option<Message> {
        let message = self.outbox.pop_front()?;
        self.pending_rejects -= usize::from(is_reject(&message));
        Some(message)
    }

    /// Recounts what is kept in counters; panics where one is wrong.
    pub(crate) fn check_counters(&self) {
        let rejects = self.outbox.iter().filter(|message| is_reject(message)).count();
        assert_eq!(self.pending_rejects, rejects, "{:?}", self.key);
    }

    /// Gives back what a busy time left of memory, while nothing is under way: most peers are idle most of the time.
    pub(crate) fn rest(&mut self) {
        fn shrink<T>(queue: &mut VecDeque<T>) {
            if queue.is_empty() && queue.capacity() > RESTING_CAPACITY {
                *queue = VecDeque::new();
            }
        }
        if self.asked.is_empty() && self.arriving.is_none() && !self.ready {
            shrink(&mut self.asked);
            shrink(&mut self.uploads);
            shrink(&mut self.outbox);
        }
    }

    /// Notes a request that was just made.
    pub(crate) fn ask(&mut self, now: Instant, block: Block, source: Source) {
        if self.asked.is_empty() && self.arriving.is_none() {
            self.waiting_since = now;
            self.pipeline.resume(now);
        }
        self.asked.push_back(Asked { block, at: now, source, late: false });
    }
}

const fn is_reject(message: &Message) -> bool {
    matches!(message, Message::RejectRequest(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PieceLayout;

    #[test]
    fn an_idle_peer_keeps_no_memory_of_busy_times() {
        let (now, key) = (Instant::ZERO, PeerKey::for_tests(ShardId(0), 0));
        let mut peer = Peer::new(now, key, SocketAddr::from(([10, 0, 0, 1], 1)), (true, true), 1 << 10);
        let layout = PieceLayout::with_block_len(1 << 20, 1 << 20, 1 << 10).unwrap();
        let blocks: Vec<Block> = layout.blocks(layout.piece(0).unwrap()).collect();
        for &block in &blocks {
            peer.ask(now, block, Source::Own);
            peer.queue(Message::KeepAlive);
        }
        peer.outbox.clear();
        peer.rest();
        assert!(peer.asked.capacity() >= blocks.len(), "busy: nothing is given back");
        assert!(blocks.iter().all(|&block| peer.take_asked(block).is_some()));
        peer.rest();
        assert_eq!((peer.asked.capacity(), peer.outbox.capacity()), (0, 0));
    }
}
