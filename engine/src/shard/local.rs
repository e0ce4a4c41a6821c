//! A torrent's part on this shard: its machine, made when there is work for it, and what belongs to its peers and
//! pieces here.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringtide_proto::layout::PieceIndex;
use ringtide_proto::limiter::RateLimit;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{
    CoreToShard, PeerKey, ShardAction, ShardConfig, ShardId, ShardInput, ShardMessage, ShardToCore, Sink,
    TorrentShard,
};

use super::assembly::Assembly;
use super::message::Cargo;
use super::pieces::HashMail;
use super::shared::SharedTorrent;
use super::{RateLimits, Shard, ToControl, ToShard};
use crate::event::TorrentId;
use crate::hash_pool::Reply;
use crate::session::Inbox;
use crate::timers::Planned;

/// A torrent's part on this shard.
pub(super) struct LocalTorrent {
    pub(super) shared: Arc<SharedTorrent>,
    /// Made for the first peer, or for what another shard says that must be known once there is a peer.
    pub(super) machine: Option<Box<TorrentShard>>,
    /// Where each peer's connection stands, by its slot.
    pub(super) connections: Vec<usize>,
    pub(super) assemblies: BTreeMap<PieceIndex, Assembly>,
    /// Where the answers to its hash jobs go.
    pub(super) hashed: Reply,
    /// The disk failed: nothing is begun any more.
    pub(super) failed: bool,
    /// Bytes that were of no use, as far as counted.
    wasted: u64,
    /// When the shard will look at it by itself.
    planned: Planned,
}

impl LocalTorrent {
    fn poll_timeout(&self) -> Option<Instant> {
        self.machine.as_ref()?.poll_timeout()
    }

    /// The connection of the peer.
    pub(super) fn connection(&self, peer: PeerKey) -> Option<usize> {
        self.connections.get(peer.slot()).copied()
    }

    pub(super) fn connect(&mut self, peer: PeerKey, connection: usize) {
        if self.connections.len() <= peer.slot() {
            self.connections.resize(peer.slot() + 1, usize::MAX);
        }
        self.connections[peer.slot()] = connection;
    }
}

impl Shard {
    pub(super) fn add_torrent(&mut self, shared: Arc<SharedTorrent>) {
        let index = shared.id.0 as usize;
        if self.torrents.len() <= index {
            self.torrents.resize_with(index + 1, || None);
        }
        self.by_hash.insert(shared.info_hash, shared.id);
        let mail = self.links[usize::from(self.id.0)].clone();
        let hashed = Arc::new(HashMail { torrent: shared.id, mail });
        self.torrents[index] = Some(LocalTorrent {
            shared,
            machine: None,
            connections: Vec::new(),
            assemblies: BTreeMap::new(),
            hashed,
            failed: false,
            wasted: 0,
            planned: Planned::default(),
        });
    }

    pub(super) fn torrent(&mut self, id: TorrentId) -> Option<&mut LocalTorrent> {
        self.torrents.get_mut(id.0 as usize)?.as_mut()
    }

    /// The torrent's machine, which is made if need be.
    pub(super) fn machine(&mut self, id: TorrentId) -> Option<&mut TorrentShard> {
        if self.torrent(id)?.machine.is_none() {
            let machine = self.make_machine(id)?;
            self.torrent(id)?.machine = Some(Box::new(machine));
        }
        self.torrent(id)?.machine.as_deref_mut()
    }

    fn make_machine(&mut self, id: TorrentId) -> Option<TorrentShard> {
        let (shard, common) = (self.id, Arc::clone(&self.common));
        let shards = self.links.len() as u8;
        let torrent = self.torrent(id)?;
        let of_all = |which: fn(&RateLimits) -> &Option<Arc<RateLimit>>| {
            [which(&common.limits), which(&torrent.shared.limits)].into_iter().flatten().cloned().collect()
        };
        let (up, down) = (of_all(|limits| &limits.up), of_all(|limits| &limits.down));
        let mut machine = TorrentShard::new(ShardConfig {
            id: shard,
            shards,
            info_hash: torrent.shared.info_hash,
            layout: torrent.shared.layout,
            pieces: Arc::clone(&torrent.shared.pieces),
            budget: Arc::clone(&common.budget),
            listen_port: common.listen_port,
            policy: torrent.shared.policy,
            rng: Rng::new(fastrand::u64(..)),
        });
        machine.set_limits(up, down);
        Some(machine)
    }

    /// Does something with the machine, if there is one.
    pub(super) fn with_machine<T>(
        &mut self,
        id: TorrentId,
        work: impl FnOnce(&mut TorrentShard) -> T,
    ) -> Option<T> {
        self.torrent(id)?.machine.as_deref_mut().map(work)
    }

    /// Gives the machine a fact and does what follows from it.
    pub(super) fn input(&mut self, now: Instant, id: TorrentId, input: ShardInput) {
        self.with_machine(id, |machine| machine.handle_input(now, input));
        self.run_actions(now, id);
    }

    pub(super) fn on_core(&mut self, now: Instant, id: TorrentId, message: CoreToShard) {
        match message {
            // The core waits for everybody's answer; a machine is not made for it.
            CoreToShard::ReportRates(round) if self.with_machine(id, |_| ()).is_none() => {
                self.report(ToControl::Core(id, self.id, ShardToCore::Rates(round, Vec::new())));
            }
            message => self.input(now, id, ShardInput::FromCore(message)),
        }
    }

    pub(super) fn on_shard(
        &mut self,
        now: Instant,
        id: TorrentId,
        from: ShardId,
        message: ShardMessage,
        cargo: Cargo,
    ) {
        match cargo {
            Cargo::Block(block, bytes) => {
                if let ShardMessage::LentBlock(_, giver) = message {
                    let sink = self.with_machine(id, |machine| machine.store_lent(now, from, block, giver));
                    if sink == Some(Sink::Piece(block)) {
                        self.store(id, block, 0, &bytes);
                        self.finish_block(id, block);
                    }
                    self.run_actions(now, id);
                }
            }
            Cargo::Piece(assembly) => {
                let generation = self.next_generation();
                if let (ShardMessage::Handover(open), Some(mut assembly)) = (&message, assembly) {
                    assembly.hand_over(generation);
                    if let Some(torrent) = self.torrent(id) {
                        torrent.assemblies.insert(open.piece(), *assembly);
                    }
                }
                self.input(now, id, ShardInput::FromShard(from, message));
            }
            Cargo::Empty => {
                if matters_later(&message) && (self.lacks(id) || self.spreads(id)) {
                    self.machine(id);
                }
                self.input(now, id, ShardInput::FromShard(from, message));
            }
        }
    }

    /// Whether it matters to a seed who has what.
    fn spreads(&mut self, id: TorrentId) -> bool {
        self.torrent(id).is_some_and(|torrent| torrent.shared.policy.super_seed)
    }

    /// Whether anything of the torrent may yet be fetched.
    fn lacks(&mut self, id: TorrentId) -> bool {
        self.torrent(id).is_some_and(|torrent| !torrent.shared.pieces.is_finished())
    }

    pub(super) fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Does what the machine wants done, in its order.
    pub(super) fn run_actions(&mut self, now: Instant, id: TorrentId) {
        while let Some(action) = self.with_machine(id, TorrentShard::poll_action).flatten() {
            match action {
                ShardAction::Ready(peer) => self.wants_send(id, peer),
                ShardAction::Disconnect(peer, reason) => {
                    if let Some(index) = self.connection_of(id, peer) {
                        tracing::debug!(addr = %self.addr_of(index), %reason, "parting with a peer");
                        self.drop_connection(index);
                    }
                }
                ShardAction::Verify { piece, digests } => self.verify(now, id, piece, digests),
                ShardAction::Drop(piece) => {
                    let dropped = self.torrent(id).and_then(|torrent| torrent.assemblies.remove(&piece));
                    if dropped.is_some_and(|dropped| dropped.is_landing()) {
                        self.recall(id, piece);
                    }
                }
                ShardAction::Send(to, message) => self.send_to_shard(id, to, message),
                ShardAction::SendBlock(to, message, peer) => self.send_block(id, to, message, peer),
                ShardAction::Report(message) => self.report(ToControl::Core(id, self.id, message)),
            }
        }
        self.count_waste(id);
        self.plan(id);
    }

    /// Notes when the torrent is to be looked at.
    pub(super) fn plan(&mut self, id: TorrentId) {
        let Some(torrent) = self.torrents.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let next = torrent.poll_timeout();
        self.timers.plan(id, &mut torrent.planned, next);
    }

    fn send_to_shard(&mut self, id: TorrentId, to: ShardId, message: ShardMessage) {
        let cargo = match &message {
            ShardMessage::Handover(open) => {
                let piece = open.piece();
                Cargo::Piece(self.take_assembly(id, piece).map(Box::new))
            }
            _ => Cargo::Empty,
        };
        self.links[usize::from(to.0)].send(ToShard::Peer(id, self.id, message, cargo));
    }

    /// Takes the piece's buffer, of which no receive has any part then.
    fn take_assembly(&mut self, id: TorrentId, piece: PieceIndex) -> Option<Assembly> {
        let mut assembly = self.torrent(id)?.assemblies.remove(&piece)?;
        if assembly.is_landing() {
            assembly.leave_to_landings(&self.common.piece_buffers);
            self.recall(id, piece);
        }
        Some(assembly)
    }

    fn send_block(&mut self, id: TorrentId, to: ShardId, message: ShardMessage, peer: PeerKey) {
        let ShardMessage::LentBlock(block, _) = message else { return };
        let index = self.connection_of(id, peer);
        let Some(open) = index.and_then(|index| self.connections[index].as_mut()?.open()) else { return };
        let bytes = std::mem::take(&mut open.scratch);
        self.links[usize::from(to.0)].send(ToShard::Peer(id, self.id, message, Cargo::Block(block, bytes)));
    }

    fn connection_of(&mut self, id: TorrentId, peer: PeerKey) -> Option<usize> {
        let index = self.torrent(id)?.connection(peer)?;
        let open = self.connections.get_mut(index)?.as_mut()?.open()?;
        (open.peer == peer && open.torrent == id).then_some(index)
    }

    fn wants_send(&mut self, id: TorrentId, peer: PeerKey) {
        let Some(index) = self.connection_of(id, peer) else { return };
        self.make_ready(index);
    }

    pub(super) fn report(&self, message: ToControl) {
        self.common.control.send(Inbox::Shard(message));
    }

    fn count_waste(&mut self, id: TorrentId) {
        let shard = usize::from(self.id.0);
        let Some(torrent) = self.torrent(id) else { return };
        let Some(machine) = &torrent.machine else { return };
        let new = machine.wasted() - torrent.wasted;
        if new > 0 {
            torrent.wasted += new;
            torrent.shared.counters[shard].wasted.add(new);
        }
    }
}

/// Whether a shard that has no peers of the torrent must take note: only changes are told of who has what, and one who
/// missed some would count what follows wrong; and who gave what of a piece that failed is told once. What is had or may
/// be claimed is in [`SharedPieces`](ringtide_proto::torrent::SharedPieces).
fn matters_later(message: &ShardMessage) -> bool {
    matches!(message, ShardMessage::Availability(_) | ShardMessage::Failed(..))
}

#[cfg(test)]
mod tests {
    use ringtide_proto::torrent::{FailedTry, SharedPieces};

    use super::super::testing::{TORRENT, shard};
    use super::*;

    /// Whether a shard has a machine after what another one said.
    fn is_noted(pieces: fn(u32) -> SharedPieces, message: impl FnOnce(PieceIndex) -> ShardMessage) -> bool {
        let mut shard = shard(pieces);
        let layout = shard.torrent(TORRENT).expect("was added").shared.layout;
        let piece = layout.piece(1).expect("there are four");
        shard.on_shard(Instant::ZERO, TORRENT, ShardId(1), message(piece), Cargo::Empty);
        shard.with_machine(TORRENT, |_| ()).is_some()
    }

    #[test]
    fn a_shard_without_peers_notes_what_it_is_told_once() {
        let counts = |piece| ShardMessage::Availability(vec![(piece, 1)]);
        let failed = |piece| ShardMessage::Failed(piece, Arc::new(FailedTry { blocks: vec![] }));
        assert!(is_noted(SharedPieces::free, counts) && is_noted(SharedPieces::unchecked, counts));
        assert!(is_noted(SharedPieces::free, failed));
        assert!(!is_noted(SharedPieces::free, ShardMessage::Released), "is asked when it matters");
    }

    #[test]
    fn nothing_is_noted_of_a_torrent_that_is_complete() {
        assert!(!is_noted(SharedPieces::complete, |piece| ShardMessage::Availability(vec![(piece, 1)])));
    }
}
