//! Who is connected and what they say: joining, parting, and the messages that are neither requests nor blocks.

use super::super::message::{PartReason, PeerRates, PeerUp, ShardAction, ShardToCore};
use super::super::{MAX_SHARDS, PeerKey, Rule};
use super::upload_only::OUR_EXTENSIONS;
use super::{NewPeer, Slot, TorrentShard};
use crate::bitfield::Bitfield;
use crate::layout::PieceIndex;
use crate::limits::{ALLOWED_FAST, ALLOWED_FAST_BYTES, MAX_QUEUED_REQUESTS};
use crate::peer::{Peer, PeerPieces, Supply};
use crate::time::Instant;
use crate::wire::{ExtendedHandshake, Extension, Message, allowed_fast_set};

/// What we call ourselves in the extended handshake.
const CLIENT: &str = concat!("ringtide ", env!("CARGO_PKG_VERSION"));

/// The id of the extended handshake itself (BEP 10).
const EXTENDED_HANDSHAKE: u8 = 0;

impl TorrentShard {
    /// A peer whose handshake was exchanged; its key for everything that follows.
    pub fn add_peer(&mut self, now: Instant, new: NewPeer) -> PeerKey {
        debug_assert!(usize::from(self.config.shards) <= MAX_SHARDS);
        let key = self.vacant_slot();
        let mut peer =
            Box::new(Peer::new(now, key, new.addr, (new.fast, new.extended), self.config.layout.block_len()));
        (peer.haves_told, peer.haves_shown) = (self.have_log.len(), self.have_log.len());
        self.slots[key.slot()].peer = Some(peer);
        self.peer_count += 1;
        self.greet(key);
        let up = PeerUp { peer: key, addr: new.addr, id: new.id, outgoing: new.outgoing };
        self.report(ShardToCore::PeerUp(up));
        self.settle(now);
        key
    }

    /// Whether the peer is still connected.
    pub fn is_connected(&self, key: PeerKey) -> bool {
        self.peer(key).is_some()
    }

    /// The peer's address.
    pub fn peer_addr(&self, key: PeerKey) -> Option<std::net::SocketAddr> {
        self.peer(key).map(|peer| peer.addr)
    }

    fn vacant_slot(&mut self) -> PeerKey {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, peer: None });
            self.slots.len() as u32 - 1
        });
        PeerKey { shard: self.config.id, slot, generation: self.slots[slot as usize].generation }
    }

    /// What we say first: what we can (BEP 10), then what we have (BEP 3, BEP 6).
    fn greet(&mut self, key: PeerKey) {
        self.end_if_spread();
        let Some(peer) = self.peer(key) else { return };
        let (fast, extended) = (peer.fast, peer.extended);
        if extended {
            let handshake = self.extended_handshake(key);
            if let Some(peer) = self.peer_mut(key) {
                peer.told_upload_only = handshake.upload_only == Some(true);
            }
            self.say(key, Message::Extended { id: EXTENDED_HANDSHAKE, payload: handshake.encode() });
        }
        match (fast, self.have.count()) {
            (true, _) if self.super_seeding => self.say(key, Message::HaveNone),
            (false, _) if self.super_seeding => {}
            (true, 0) => self.say(key, Message::HaveNone),
            (true, _) if self.have.is_full() => self.say(key, Message::HaveAll),
            (false, 0) => {}
            _ => self.say(key, Message::Bitfield(self.have.to_wire())),
        }
    }

    fn extended_handshake(&self, key: PeerKey) -> ExtendedHandshake {
        ExtendedHandshake {
            ids: OUR_EXTENSIONS,
            upload_only: self.is_upload_only().then_some(true),
            client: Some(CLIENT.to_owned()),
            port: self.config.listen_port,
            reqq: Some(MAX_QUEUED_REQUESTS as u32),
            yourip: self.peer(key).map(|peer| peer.addr.ip()),
            ..ExtendedHandshake::default()
        }
    }

    /// Queues a message for the peer, and tells the driver if it does not know that there is something to send.
    pub(super) fn say(&mut self, key: PeerKey, message: Message) {
        let Some(peer) = self.peer_mut(key) else { return };
        peer.queue(message);
        self.make_ready(key);
    }

    pub(super) fn make_ready(&mut self, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        if !std::mem::replace(&mut peer.ready, true) {
            self.act(ShardAction::Ready(key));
        }
    }

    /// We close the connection.
    pub(super) fn part(&mut self, now: Instant, key: PeerKey, reason: PartReason) {
        if self.peer(key).is_some() {
            self.act(ShardAction::Disconnect(key, reason));
            self.remove_peer(now, key);
        }
    }

    /// The peer broke the rules: it is parted with and the core told.
    pub(super) fn offend(&mut self, now: Instant, key: PeerKey) {
        if self.peer(key).is_some() {
            self.report(ShardToCore::Misbehaved(key));
            self.part(now, key, PartReason::Misbehaved);
        }
    }

    /// The connection is gone: what was asked of the peer is asked of others.
    pub(super) fn remove_peer(&mut self, now: Instant, key: PeerKey) {
        let Some(slot) = self.slots.get_mut(key.slot()).filter(|slot| slot.generation == key.generation)
        else {
            return;
        };
        let Some(mut peer) = slot.peer.take() else { return };
        slot.generation += 1;
        self.vacant.push(key.slot);
        self.peer_count -= 1;
        if let Some(arriving) = peer.arriving.take() {
            self.abandon(key, arriving);
        }
        for asked in std::mem::take(&mut peer.asked) {
            self.unask(key, asked);
        }
        self.end_giving_way(now, key);
        self.take_suggestions_back(peer.courier.rest());
        if peer.courier.has_new() {
            self.take_givings_back(key);
        }
        self.take_revealed_back(peer.revealed.take());
        peer.witness.map(|piece| self.witnesses.remove(&(piece, key.slot)));
        if let PeerPieces::Some(set) = &peer.pieces {
            let layout = self.config.layout;
            set.pieces(&layout).for_each(|piece| self.count(now, key, piece, -1));
            if peer.near {
                set.pieces(&layout).for_each(|piece| self.count_near(piece, -1));
            }
        }
        self.report(ShardToCore::PeerDown(rates(&peer)));
    }

    pub(super) fn report_rates(&mut self, round: u64) {
        let spreads = self.has_to_spread();
        let report = |peer: &Peer| PeerRates {
            heeds: !spreads || peer.courier.heeds(),
            keeps: spreads && peer.courier.keeps(),
            ..rates(peer)
        };
        let all = self.peers().map(report).collect();
        self.report(ShardToCore::Rates(round, all));
    }

    /// A message other than a block.
    pub(super) fn on_message(&mut self, now: Instant, key: PeerKey, message: Message) {
        let Some(peer) = self.peer_mut(key) else { return };
        peer.last_received = now;
        let first = !peer.opened;
        peer.opened |= !matches!(message, Message::Extended { .. } | Message::KeepAlive);
        let fast_only = matches!(
            message,
            Message::HaveAll
                | Message::HaveNone
                | Message::RejectRequest(_)
                | Message::AllowedFast { .. }
                | Message::SuggestPiece { .. }
        );
        if fast_only && !peer.fast {
            return self.offend(now, key);
        }
        match message {
            Message::KeepAlive | Message::Port(_) => {}
            Message::SuggestPiece { piece } => self.on_suggestion(now, key, piece),
            Message::Choke => self.on_choke(now, key),
            Message::Unchoke => self.on_unchoke(now, key),
            Message::Interested => self.on_interest(key, true),
            Message::NotInterested => {
                self.on_interest(key, false);
                self.part_if_both_seeds(now, key);
            }
            Message::Have { piece } => self.on_have(now, key, piece),
            Message::Bitfield(bytes) => match Bitfield::from_wire(&bytes, &self.config.layout) {
                Ok(set) if !first => self.on_late_bitfield(now, key, &set),
                Ok(set) if set.is_empty() => self.on_pieces(now, key, PeerPieces::None),
                Ok(set) if set.is_full() => self.on_pieces(now, key, PeerPieces::All),
                Ok(set) => self.on_pieces(now, key, PeerPieces::Some(set)),
                Err(_) => self.offend(now, key),
            },
            Message::HaveAll if first => self.on_pieces(now, key, PeerPieces::All),
            Message::HaveNone if first => self.on_pieces(now, key, PeerPieces::None),
            // BEP 6: these come first or not at all.
            Message::HaveAll | Message::HaveNone => self.offend(now, key),
            Message::Request(span) => self.on_request(now, key, span),
            Message::Cancel(span) => self.on_cancel(now, key, span),
            Message::RejectRequest(span) => self.on_reject(now, key, span),
            Message::AllowedFast { piece } => self.on_allowed_fast(now, key, piece),
            Message::Extended { id: EXTENDED_HANDSHAKE, payload } => self.on_extended(now, key, &payload),
            Message::Extended { id, payload } => {
                if OUR_EXTENSIONS.extension(id) == Some(Extension::UploadOnly) {
                    self.on_upload_only(now, key, &payload);
                }
            }
            // The driver says where a block begins through `begin_block`.
            Message::Piece(_) => self.offend(now, key),
        }
    }

    fn on_interest(&mut self, key: PeerKey, interested: bool) {
        let Some(peer) = self.peer_mut(key) else { return };
        if std::mem::replace(&mut peer.peer_interested, interested) != interested {
            if !interested {
                let suggested = peer.courier.rest();
                self.take_suggestions_back(suggested);
            }
            self.report(ShardToCore::Interest(key, interested));
            self.suggest(key);
        }
    }

    /// What the peer has, said at the beginning.
    fn on_pieces(&mut self, now: Instant, key: PeerKey, pieces: PeerPieces) {
        if let PeerPieces::Some(set) = &pieces {
            let near = self.peer(key).is_some_and(|peer| peer.near);
            set.pieces(&self.config.layout.clone()).for_each(|piece| {
                self.count(now, key, piece, 1);
                if near {
                    self.count_near(piece, 1);
                }
            });
        }
        let Some(peer) = self.peer_mut(key) else { return };
        peer.pieces = pieces;
        self.find_witness(key);
        if !self.super_seeding {
            self.allow_fast(key);
        }
        self.forget_revealed(key);
        self.reveal(now, key);
        self.update_interest(now, key);
        self.part_if_both_seeds(now, key);
    }

    fn on_have(&mut self, now: Instant, key: PeerKey, number: u32) {
        let Some(piece) = self.config.layout.piece(number) else { return self.offend(now, key) };
        let (lacking, count) = (!self.needless.contains(piece), self.config.layout.piece_count());
        let Some(peer) = self.peer_mut(key) else { return };
        if peer.pieces == PeerPieces::None {
            peer.pieces = PeerPieces::Some(Bitfield::empty(count));
        }
        let PeerPieces::Some(set) = &mut peer.pieces else { return };
        if !set.insert(piece) {
            return;
        }
        let (full, new, near) = (set.is_full(), lacking && peer.witness.is_none(), peer.near);
        // Of no use now where it is complete, being hashed or another shard's.
        let useful =
            self.picker.contains(piece) || self.open.contains_key(&piece) || !self.borrowed.is_empty();
        if useful && let Some(peer) = self.peer_mut(key) {
            peer.supply = Supply::Unknown;
        }
        if new {
            self.set_witness(key, Some(piece));
        }
        self.count(now, key, piece, 1);
        self.note_had(key, piece);
        if near {
            self.count_near(piece, 1);
        }
        if near && lacking {
            self.note_fed(now);
        }
        self.was_taken(now, key, piece);
        if full {
            self.now_seed(now, key);
        }
        self.update_interest(now, key);
        self.part_if_both_seeds(now, key);
    }

    /// BEP 3 has the bitfield come first, but aria2 sends another in place of many `have`s: it counts as those.
    fn on_late_bitfield(&mut self, now: Instant, key: PeerKey, set: &Bitfield) {
        let Some(peer) = self.peer(key) else { return };
        let layout = &self.config.layout;
        let new: Vec<PieceIndex> = set.pieces(layout).filter(|&piece| !peer.pieces.contains(piece)).collect();
        new.into_iter().for_each(|piece| self.on_have(now, key, piece.number()));
    }

    /// The peer has everything now: it is counted as such, and no longer piece by piece.
    fn now_seed(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        let near = peer.near;
        peer.pieces = PeerPieces::All;
        self.set_witness(key, None);
        self.config.layout.pieces().for_each(|piece| self.count(now, key, piece, -1));
        if near {
            self.config.layout.pieces().for_each(|piece| self.count_near(piece, -1));
        }
    }

    fn on_allowed_fast(&mut self, now: Instant, key: PeerKey, number: u32) {
        let Some(piece) = self.config.layout.piece(number) else { return self.offend(now, key) };
        let Some(peer) = self.peer_mut(key) else { return };
        // A peer that allows more than any client does gets no more memory for it.
        if peer.allowed_to_us.len() < 4 * ALLOWED_FAST && !peer.allowed_to_us.contains(&piece) {
            peer.allowed_to_us.push(piece);
            peer.supply = Supply::Unknown;
        }
        self.fill(now, key.slot());
    }

    /// BEP 6: a peer that has next to nothing may ask for a few pieces though it is choked.
    fn allow_fast(&mut self, key: PeerKey) {
        let (total, hash) = (self.config.layout.piece_count(), self.config.info_hash);
        let allows = self.follows(Rule::AllowedFast);
        let Some(peer) = self.peer(key).filter(|peer| peer.fast && allows) else { return };
        let std::net::IpAddr::V4(addr) = peer.addr.ip().to_canonical() else { return };
        if peer.pieces.count(total) >= ALLOWED_FAST as u32 {
            return;
        }
        let most = ALLOWED_FAST_BYTES / u64::from(self.config.layout.nominal_piece_len());
        let count = usize::try_from(most).map_or(ALLOWED_FAST, |most| most.min(ALLOWED_FAST));
        let numbers = allowed_fast_set(addr, hash, total, count);
        let pieces: Vec<PieceIndex> =
            numbers.into_iter().filter_map(|number| self.config.layout.piece(number)).collect();
        let ours: Vec<PieceIndex> = pieces.into_iter().filter(|&piece| self.have.contains(piece)).collect();
        for piece in &ours {
            self.say(key, Message::AllowedFast { piece: piece.number() });
        }
        if let Some(peer) = self.peer_mut(key) {
            peer.allowed_by_us = ours;
        }
    }

    fn on_extended(&mut self, now: Instant, key: PeerKey, payload: &[u8]) {
        let Ok(theirs) = ExtendedHandshake::parse(payload) else { return self.offend(now, key) };
        let Some(peer) = self.peer_mut(key) else { return };
        if let Some(reqq) = theirs.reqq {
            peer.pipeline.limit(reqq);
        }
        peer.extensions.merge(&theirs.ids);
        peer.upload_only = theirs.upload_only.unwrap_or(peer.upload_only);
        let mut addr = peer.addr;
        if let Some(port) = theirs.port.filter(|&port| port != 0) {
            addr.set_port(port);
            self.report(ShardToCore::ListensOn(key, addr));
        }
        self.fill(now, key.slot());
        self.tell_upload_only(key);
        self.part_if_both_seeds(now, key);
    }

    /// One more or fewer partial peer of ours has the piece: that one.
    pub(super) fn count(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, delta: i32) {
        self.picker.adjust(piece, delta, &mut self.config.rng);
        if delta > 0 {
            self.note_spread(now, piece, Some(key));
        }
        if self.config.shards > 1 {
            self.deltas.push((piece, delta));
        }
    }
}

fn rates(peer: &Peer) -> PeerRates {
    PeerRates {
        peer: peer.key,
        downloaded: peer.downloaded,
        uploaded: peer.uploaded,
        passed_on: peer.courier.passed_on,
        heeds: true,
        keeps: false,
        snubbed: peer.snubbed,
        is_seed: peer.wants_nothing(),
    }
}
