//! Racks (`--lan`): what is asked of peers in other racks, so that each piece crosses the narrow way between them about
//! once. A peer of another rack is asked for what nobody of our rack has and it is on us to bring (the core says what
//! that is), or what it suggests to us, and to go on with such a piece; for everything else where we starve. Rare are
//! pieces that few have, as ever (BEP 3). That a tracker or a client should prefer what is near is R. Bindal et al.,
//! "Improving traffic locality in BitTorrent via biased neighbor selection", 2006: with a few far neighbours beside the near
//! ones, next to nothing is lost.

use std::sync::Arc;

use super::super::message::ShardMessage;
use super::super::{Errands, PeerKey};
use super::TorrentShard;
use crate::bitfield::Bitfield;
use crate::layout::{PieceIndex, PieceLayout};
use crate::peer::{Peer, PeerPieces, Supply};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Without a block for this long, and up to as long again, we starve: whoever was to bring what we lack does not, and
/// whatever anybody has is asked for.
const STARVES_AFTER: Duration = Duration::from_secs(2);

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
    /// Those of them that were begun and are in assembly.
    under_way: Vec<PieceIndex>,
    /// When we starve.
    starves_at: Instant,
    starves: bool,
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
            starves_at: Instant::ZERO,
            starves: false,
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

    /// Whether it makes no difference who stands where: nobody else is near, or we starve.
    fn is_open(&self) -> bool {
        self.starves || self.duty.as_ref().is_none_or(|duty| duty.are_alone())
    }

    fn fed(&mut self, now: Instant, rng: &mut Rng) {
        let more = rng.below(STARVES_AFTER.as_millis() as usize + 1) as u64;
        self.starves_at = now + STARVES_AFTER + Duration::from_millis(more);
        self.starves = false;
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
        peer.near || rack.is_open() || rack.near[piece.index()] == 0 || rack.under_way.contains(&piece)
    }

    /// Whether not all that the peer has may be begun with it.
    pub(super) fn is_bounded(&self, key: PeerKey) -> bool {
        let bounded = |rack: &Rack| !rack.is_open() && self.peer(key).is_some_and(|peer| !peer.near);
        self.rack.as_deref().is_some_and(bounded)
    }

    /// Claims what the peer suggested or what is on us to bring.
    pub(super) fn claim_errand(&mut self, now: Instant, key: PeerKey) -> Option<PieceIndex> {
        let Self { slots, picker, config, rack, open, .. } = self;
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
        rack.under_way.retain(|piece| open.contains_key(piece));
        let hosts = rack.duty.as_ref().map_or(1, |duty| duty.hosts());
        let most = (OF_RACK / (hosts * usize::from(config.shards))).max(1);
        if rack.under_way.len() >= most {
            return None;
        }
        let piece = picker.pick_wanted(&peer.pieces, &rack.errands, &mut config.rng, claim)?;
        rack.under_way.push(piece);
        Some(piece)
    }

    /// All of a piece is here: another may be brought.
    pub(super) fn note_brought(&mut self, piece: PieceIndex) {
        if self.rack.as_ref().is_some_and(|rack| rack.under_way.contains(&piece)) {
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

    /// Whether we starve is looked at now and then.
    pub(super) fn look_at_rack(&mut self, now: Instant) {
        let lacking = !self.have.is_full();
        let Some(rack) = &mut self.rack else { return };
        if lacking && now >= rack.starves_at && !rack.starves {
            rack.starves = true;
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
