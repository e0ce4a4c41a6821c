//! Racks (`--lan`): what is asked of peers in other racks, so that each piece crosses the narrow way between them about
//! once. A peer of another rack is asked for what nobody of our rack has and it is on us to bring (the core says what
//! that is), or what it suggests to us, and to go on with such a piece; for everything else where we starve. Rare are
//! pieces that few have, as ever (BEP 3). That a tracker or a client should prefer what is near is R. Bindal et al.,
//! "Improving traffic locality in BitTorrent via biased neighbor selection", 2006: with a few far neighbours beside the near
//! ones, next to nothing is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::message::ShardMessage;
use super::super::{Errands, PeerKey};
use super::TorrentShard;
use super::trunk::Trunk;
use crate::bitfield::Bitfield;
use crate::layout::{PieceIndex, PieceLayout};
use crate::peer::{Peer, PeerPieces, Supply};
use crate::picker::OpenPiece;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Without a block for this long, and up to as long again, we starve: whoever was to bring what we lack does not, and
/// whatever anybody has is asked for.
const STARVES_AFTER: Duration = Duration::from_secs(2);

/// Near peers that have something for us and bring less than half of what a single far one gives, as often as we look, are slow:
/// far ones are asked for the same.
const SLOW_LOOKS: u32 = 2;

/// Pieces that a rack brings in at a time, as far as it has no more hosts and shards than that. Each takes its part of a
/// narrow way: with twice as many, each takes twice as long to be whole and to go round.
const OF_RACK: usize = 16;

/// What a shard knows of its host's rack.
#[derive(Debug)]
pub(super) struct Rack {
    /// How many of the peers that have some pieces and are of our rack have each, whichever shard they are on. Those that have
    /// everything do not count: what only the first seed has is to come from whoever had it first.
    near: Box<[u16]>,
    duty: Option<Arc<Errands>>,
    /// Pieces that nobody of our rack has and that are on us to bring.
    errands: Bitfield,
    /// Those of them that were begun and are in assembly, and when.
    under_way: Vec<(PieceIndex, Instant)>,
    /// No other is begun before.
    rests_until: Instant,
    /// How much far peers are asked for.
    pub(super) trunk: Trunk,
    /// When we starve.
    starves_at: Instant,
    starves: bool,
    /// Bytes of blocks that near peers gave since they were looked over.
    pub(super) near_bytes: u64,
    /// For how many looks near peers brought little beside what a far one gives.
    slow_for: u32,
    /// Changes of `near` that the other shards were not told of.
    deltas: Vec<(PieceIndex, i32)>,
}

impl Rack {
    pub(super) fn new(count: u32) -> Self {
        Self {
            near: vec![0; count as usize].into(),
            duty: None,
            errands: Bitfield::empty(count),
            under_way: Vec::new(),
            rests_until: Instant::ZERO,
            trunk: Trunk::new(),
            starves_at: Instant::ZERO,
            starves: false,
            near_bytes: 0,
            slow_for: 0,
            deltas: Vec::new(),
        }
    }

    fn adjust(&mut self, piece: PieceIndex, delta: i32) {
        let near = &mut self.near[piece.index()];
        *near = u16::try_from(i32::from(*near) + delta).unwrap_or(if delta < 0 { 0 } else { u16::MAX });
        let wanted = *near == 0 && self.duty.as_ref().is_some_and(|duty| duty.include(piece));
        if wanted {
            self.errands.insert(piece);
        } else {
            self.errands.remove(piece);
        }
    }

    fn share_out(&mut self, duty: Arc<Errands>, layout: &PieceLayout) {
        for piece in layout.pieces() {
            if self.near[piece.index()] == 0 && duty.include(piece) {
                self.errands.insert(piece);
            } else {
                self.errands.remove(piece);
            }
        }
        self.duty = Some(duty);
    }

    /// Whether it makes no difference who stands where: nobody else is near, or we starve, or near peers are slow.
    fn is_open(&self) -> bool {
        self.starves || self.slow_for >= SLOW_LOOKS || self.is_alone()
    }

    fn is_alone(&self) -> bool {
        self.duty.as_ref().is_none_or(|duty| duty.are_alone())
    }

    /// Near peers are looked over: how many bytes a second the best of the far ones gives, and whether near ones have
    /// something for us. Once they are slow, they are until they bring as much as that one.
    fn note_rates(&mut self, far: u64, holding: bool) {
        let near = std::mem::take(&mut self.near_bytes);
        let enough = if self.slow_for < SLOW_LOOKS { far / 2 } else { far };
        self.slow_for = if holding && near < enough { (self.slow_for + 1).min(SLOW_LOOKS) } else { 0 };
    }

    fn fed(&mut self, now: Instant, rng: &mut Rng) {
        let more = rng.below(STARVES_AFTER.as_millis() as usize + 1) as u64;
        self.starves_at = now + STARVES_AFTER + Duration::from_millis(more);
        self.starves = false;
    }

    fn is_under_way(&self, piece: PieceIndex) -> bool {
        self.under_way.iter().any(|&(under_way, _)| under_way == piece)
    }

    /// Forgets what is no longer in assembly. Where there are more hosts than pieces to bring at a time, each rests for as much
    /// longer than it was at one, but not for so long that it starves.
    fn look_over_errands(&mut self, now: Instant, open: &BTreeMap<PieceIndex, OpenPiece>, carriers: usize) {
        let rests = carriers.saturating_sub(OF_RACK) as u32;
        let Self { under_way, rests_until, .. } = self;
        under_way.retain(|&(piece, since)| {
            let there = open.contains_key(&piece);
            if !there {
                let rest = now.since(since).min(STARVES_AFTER) * rests / OF_RACK as u32;
                *rests_until = (*rests_until).max(now + rest.min(STARVES_AFTER));
            }
            there
        });
    }

    /// Whether other shards are to hear of what is near.
    pub(super) fn has_news(&self) -> bool {
        !self.deltas.is_empty()
    }

    pub(super) fn memory(&self) -> usize {
        self.near.len() * 2 + self.errands.len() as usize / 8
    }
}

impl TorrentShard {
    /// The core says who of our peers is near, and what is on us to bring.
    pub(super) fn on_rack(&mut self, now: Instant, near: &[PeerKey], duty: Arc<Errands>) {
        let changed: Vec<PeerKey> = { self.peers() }
            .filter(|peer| peer.near != near.contains(&peer.key))
            .map(|peer| peer.key)
            .collect();
        for key in changed {
            let layout = self.config.layout;
            let Some(peer) = self.peer_mut(key) else { continue };
            peer.near = !peer.near;
            let delta = if peer.near { 1 } else { -1 };
            if let PeerPieces::Some(set) = &peer.pieces {
                let pieces: Vec<PieceIndex> = set.pieces(&layout).collect();
                pieces.into_iter().for_each(|piece| self.count_near(piece, delta));
            }
        }
        let Self { rack, config, .. } = self;
        let Some(rack) = rack else { return };
        rack.share_out(duty, &config.layout);
        if rack.starves_at == Instant::ZERO {
            rack.fed(now, &mut config.rng);
        }
        self.peers_mut().filter(|peer| !peer.near).for_each(|peer| peer.supply = Supply::Unknown);
        self.stirred = true;
    }

    /// One more or fewer partial peer of our rack and this shard has the piece.
    pub(super) fn count_near(&mut self, piece: PieceIndex, delta: i32) {
        let Some(rack) = &mut self.rack else { return };
        rack.adjust(piece, delta);
        if self.config.shards > 1 {
            rack.deltas.push((piece, delta));
        }
    }

    /// The same of another shard's peers.
    pub(super) fn on_near(&mut self, deltas: Vec<(PieceIndex, i32)>) {
        let Some(rack) = &mut self.rack else { return };
        deltas.into_iter().for_each(|(piece, delta)| rack.adjust(piece, delta));
    }

    pub(super) fn send_near(&mut self) {
        let Some(rack) = &mut self.rack else { return };
        let deltas = std::mem::take(&mut rack.deltas);
        if !deltas.is_empty() {
            self.tell_others(&ShardMessage::Near(deltas));
        }
    }

    /// Whether the peer may be asked for a piece that was begun.
    pub(super) fn may_cross(&self, peer: &Peer, piece: PieceIndex) -> bool {
        let Some(rack) = &self.rack else { return true };
        // What was begun so is gone on with, though somebody near has it by now.
        peer.near || rack.is_open() || rack.near[piece.index()] == 0 || rack.is_under_way(piece)
    }

    /// Whether not all that the peer has may be begun with it.
    pub(super) fn is_bounded(&self, key: PeerKey) -> bool {
        let bounded = |rack: &Rack| !rack.is_open() && self.peer(key).is_some_and(|peer| !peer.near);
        self.rack.as_deref().is_some_and(bounded)
    }

    /// Whether it is in another rack while there is one of ours.
    pub(super) fn is_across(&self, key: PeerKey) -> bool {
        self.rack
            .as_deref()
            .is_some_and(|rack| !rack.is_alone() && self.peer(key).is_some_and(|peer| !peer.near))
    }

    /// Claims what the peer suggested or what is on us to bring.
    pub(super) fn claim_errand(&mut self, now: Instant, key: PeerKey) -> Option<PieceIndex> {
        let Self { slots, picker, config, rack, open, retry_at, .. } = self;
        let (rack, peer) = (rack.as_deref_mut()?, slots.get_mut(key.slot())?.peer.as_deref_mut()?);
        if peer.peer_choking {
            return None;
        }
        let claim = |piece| config.pieces.claim(piece, config.id);
        let heeded = peer.advice.is_heeded();
        let new = |piece: PieceIndex| picker.contains(piece) && rack.near[piece.index()] == 0;
        let suggested = peer.advice.pieces(new);
        if let Some(piece) = picker.pick_suggested(&peer.pieces, suggested, claim) {
            peer.advice.take_up(now, piece);
            return Some(piece);
        }
        if heeded {
            return None;
        }
        let carriers = rack.duty.as_ref().map_or(1, |duty| duty.hosts()) * usize::from(config.shards);
        rack.look_over_errands(now, open, carriers);
        if rack.rests_until > now {
            *retry_at = Some(retry_at.map_or(rack.rests_until, |at| at.min(rack.rests_until)));
            return None;
        }
        if rack.under_way.len() >= (OF_RACK / carriers).max(1) {
            return None;
        }
        let piece = picker.pick_wanted(&peer.pieces, &rack.errands, &mut config.rng, claim)?;
        rack.under_way.push((piece, now));
        Some(piece)
    }

    /// All of a piece is here: another may be brought.
    pub(super) fn note_brought(&mut self, piece: PieceIndex) {
        if self.rack.as_ref().is_some_and(|rack| rack.is_under_way(piece)) {
            self.stirred = true;
        }
    }

    /// A block of use came, or somebody near has something of use.
    pub(super) fn note_fed(&mut self, now: Instant) {
        let Self { rack, config, .. } = self;
        if let Some(rack) = rack {
            rack.fed(now, &mut config.rng);
        }
    }

    /// Whether we starve, and how much near peers bring, is looked at now and then.
    pub(super) fn look_at_rack(&mut self, now: Instant) {
        if self.rack.is_none() {
            return;
        }
        let lacking = !self.have.is_full();
        let serving = |peer: &&Peer| !peer.near && !peer.peer_choking;
        let far = self.peers().filter(serving).map(|peer| peer.pipeline.rate()).max().unwrap_or(0);
        let holds = |peer: &Peer| peer.near && (peer.witness.is_some() || peer.pieces == PeerPieces::All);
        let holding = lacking && self.peers().any(holds);
        let Some(rack) = &mut self.rack else { return };
        let was_open = rack.is_open();
        rack.note_rates(far, holding);
        rack.starves |= lacking && now >= rack.starves_at;
        if rack.is_open() && !was_open {
            self.peers_mut().for_each(|peer| peer.supply = Supply::Unknown);
        }
    }

    /// Counts again what is kept in counters.
    pub(super) fn check_rack(&self) {
        let Some(rack) = self.rack.as_ref().filter(|_| self.config.shards == 1) else { return };
        for piece in self.config.layout.pieces() {
            let has = |peer: &&Peer| {
                peer.near && matches!(&peer.pieces, PeerPieces::Some(set) if set.contains(piece))
            };
            let near = self.peers().filter(has).count();
            assert_eq!(near, usize::from(rack.near[piece.index()]), "{piece:?}");
            let errand = near == 0 && rack.duty.as_ref().is_some_and(|duty| duty.include(piece));
            assert_eq!(errand, rack.errands.contains(piece), "{piece:?}");
        }
    }
}
