//! Large swarms: the work for a block, in steps of the loops that look for something, must not grow with pieces or
//! peers. Steps are counted (`crate::work`), not time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::{MANY_PEERS, NewPeer, Outgoing, ShardConfig, ShardInput, TorrentShard, Verdict};
use crate::bitfield::Bitfield;
use crate::id::{InfoHash, PeerId};
use crate::layout::PieceLayout;
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::torrent::{Budget, PeerKey, Policy, ShardAction, ShardId, SharedPieces};
use crate::wire::{Message, RawSpan};
use crate::work::steps;

const BLOCK: u32 = 16;
const BLOCKS: u32 = 16;
/// Pieces and peers.
const SMALL: (u32, usize) = (1_000, 10);
const LARGE: (u32, usize) = (50_000, 400);

/// A shard and all its peers, without the checks of the rig, which look at everything.
struct Swarm {
    shard: TorrentShard,
    layout: PieceLayout,
    now: Instant,
    rng: Rng,
    peers: Vec<(PeerKey, VecDeque<RawSpan>)>,
    turn: usize,
    /// From one block to the next.
    pace: Duration,
}

impl Swarm {
    /// `memory`: how many pieces may be in assembly.
    fn new(pieces: u32, memory: u32) -> Self {
        let piece_len = BLOCKS * BLOCK;
        let total = u64::from(pieces) * u64::from(piece_len);
        let layout = PieceLayout::with_block_len(total, piece_len, BLOCK).unwrap();
        let config = ShardConfig {
            id: ShardId(0),
            shards: 1,
            info_hash: InfoHash([7; 20]),
            layout,
            pieces: Arc::new(SharedPieces::free(pieces)),
            budget: Arc::new(Budget::new(u64::from(memory) * u64::from(piece_len))),
            listen_port: None,
            policy: Policy::default(),
            rng: Rng::new(1),
        };
        Self {
            shard: TorrentShard::new(config),
            layout,
            now: Instant::ZERO,
            rng: Rng::new(2),
            peers: Vec::new(),
            turn: 0,
            pace: Duration::from_micros(10),
        }
    }

    /// With peers of which one in ten has everything and the others, of each piece, the likelier the earlier it is.
    fn lively((pieces, peers): (u32, usize), memory: u32) -> Self {
        let mut swarm = Self::new(pieces, memory);
        for number in 0..peers {
            let pieces = if number % 10 == 0 { Message::HaveAll } else { swarm.random_half() };
            swarm.join(pieces, true);
        }
        swarm
    }

    fn random_half(&mut self) -> Message {
        let count = self.layout.piece_count();
        let mut set = Bitfield::empty(count);
        let likely: Vec<_> = self.layout.pieces().collect();
        for piece in likely {
            if self.rng.below(count as usize) >= piece.index() {
                set.insert(piece);
            }
        }
        Message::Bitfield(set.to_wire())
    }

    fn join(&mut self, pieces: Message, serves: bool) {
        let number = self.peers.len() as u32;
        let addr = SocketAddr::from((number.to_be_bytes(), 6881));
        let new = NewPeer { addr, id: PeerId([0; 20]), outgoing: false, fast: true, extended: false };
        let key = self.shard.add_peer(self.now, new);
        self.peers.push((key, VecDeque::new()));
        self.input(ShardInput::Message(key, pieces));
        if serves {
            self.input(ShardInput::Message(key, Message::Unchoke));
        }
    }

    fn input(&mut self, input: ShardInput) {
        self.shard.handle_input(self.now, input);
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            if let ShardAction::Verify { piece, .. } = action {
                self.shard.handle_input(self.now, ShardInput::Verified(piece, Verdict::Right(None)));
                self.shard.handle_input(self.now, ShardInput::Written(piece, true));
            }
        }
    }

    /// One more peer of which something was asked gives one block; false where nobody was asked for anything.
    fn block(&mut self) -> bool {
        for _ in 0..self.peers.len() {
            self.turn = (self.turn + 1) % self.peers.len();
            let (key, asked) = &mut self.peers[self.turn];
            let key = *key;
            while let Some(outgoing) = self.shard.poll_message(self.now, key) {
                match outgoing {
                    Outgoing::Message(Message::Request(span)) => asked.push_back(span),
                    Outgoing::Message(Message::Cancel(span)) => asked.retain(|&other| other != span),
                    _ => {}
                }
            }
            let Some(span) = asked.pop_front() else { continue };
            self.shard.begin_block(self.now, key, span);
            self.input(ShardInput::BlockEnd(key));
            return true;
        }
        false
    }

    /// Blocks come one by one; how many, and the steps for each on average.
    fn blocks(&mut self, most: u64) -> (u64, f64) {
        let (before, mut count, mut idle) = (steps(), 0, 0);
        while count < most && idle < 10_000 && !self.shard.have.is_full() {
            let came = self.block();
            count += u64::from(came);
            idle = if came { 0 } else { idle + 1 };
            self.now += self.pace;
            if self.shard.poll_timeout().is_some_and(|at| at <= self.now) {
                self.shard.handle_timeout(self.now);
                self.act();
            }
        }
        (count, (steps() - before) as f64 / count.max(1) as f64)
    }
}

fn lively(size: (u32, usize), memory: u32) -> f64 {
    let mut swarm = Swarm::lively(size, memory);
    swarm.blocks(1_000);
    let (count, steps) = swarm.blocks(10_000);
    assert_eq!(count, 10_000);
    // Holds every block against every request: half a minute for the large one.
    if size == SMALL {
        swarm.shard.check_invariants();
    }
    steps
}

#[test]
fn a_block_costs_no_more_in_a_large_swarm() {
    for memory in [512, 1 << 20] {
        let (small, large) = (lively(SMALL, memory), lively(LARGE, memory));
        println!("memory for {memory} pieces: {small:.2} and {large:.2} steps a block");
        // Nearly all of it for a new piece, once in 16 blocks: up to 64 begun ones and 256 of the rarest are tried, and a
        // few words of the sets beyond.
        assert!(small < 30.0 && large < 40.0, "{small} and {large} steps a block");
    }
}

/// Peers that have next to nothing, and nothing that is missing, are looked at by the clock and not for each block.
#[test]
fn idle_peers_cost_a_block_nothing() {
    let (pieces, peers) = LARGE;
    let mut swarm = Swarm::new(pieces, 512);
    swarm.join(Message::HaveAll, true);
    for _ in 0..peers {
        let mut set = Bitfield::empty(pieces);
        set.insert(swarm.layout.piece(7).unwrap());
        swarm.join(Message::Bitfield(set.to_wire()), true);
    }
    swarm.blocks(2_000);
    let (count, steps) = swarm.blocks(10_000);
    swarm.shard.check_invariants();
    println!("{steps:.2} steps a block");
    assert!(count == 10_000 && steps < 20.0, "{steps} steps a block");
}

/// One in ten never answers: its requests are late, and the blocks come from others.
#[test]
fn late_requests_cost_a_block_nothing() {
    let mut swarm = Swarm::new(20_000, 512);
    for _ in 0..200 {
        swarm.join(Message::HaveAll, true);
    }
    let silent: Vec<PeerKey> = swarm.peers.iter().step_by(10).map(|(key, _)| *key).collect();
    swarm.block();
    swarm.peers.retain(|(key, _)| !silent.contains(key));
    swarm.pace = Duration::from_millis(1);
    swarm.blocks(30_000);
    assert!(swarm.shard.late > 0);
    let (count, steps) = swarm.blocks(10_000);
    swarm.shard.check_invariants();
    println!("{steps:.2} steps a block");
    assert!(count == 10_000 && steps < 60.0, "{steps} steps a block");
}

/// The last pieces, with many peers that could all be asked for each of their blocks.
#[test]
fn the_endgame_ends() {
    let mut swarm = Swarm::new(600, 512);
    for _ in 0..10 * MANY_PEERS {
        swarm.join(Message::HaveAll, true);
    }
    let (count, steps) = swarm.blocks(u64::MAX);
    println!("{count} blocks, {steps:.2} steps a block");
    assert!(swarm.shard.have.is_full(), "{:?}", swarm.shard.have);
    assert!(steps < 200.0, "{steps} steps a block");
}

/// All that grows with pieces, peers and requests is counted.
#[test]
fn memory_is_that_of_every_table() {
    let mut swarm = Swarm::new(8_000, 512);
    let tables = |swarm: &Swarm| swarm.shard.memory() - swarm.shard.picker.memory();
    let alone = tables(&swarm);
    assert!(alone >= 2 * 8_000 / 8, "a bit for what we have, and one for what is begun: {alone}");
    for _ in 0..100 {
        let pieces = swarm.random_half();
        swarm.join(pieces, false);
    }
    let watched = tables(&swarm);
    assert!(watched >= alone + 100 * 8, "one piece and a slot for each peer: {watched}");
    swarm.join(Message::HaveAll, true);
    let asked = tables(&swarm);
    swarm.now += Duration::from_secs(5);
    swarm.shard.handle_timeout(swarm.now);
    let late = swarm.shard.copies.iter().count();
    assert!(late > 0 && tables(&swarm) >= asked + late * 16, "{late} requests noted as late");
}

/// What is announced to many in batches is announced to all, and to each once.
#[test]
fn haves_in_batches_reach_everybody() {
    let mut swarm = Swarm::new(40, 64);
    swarm.join(Message::HaveAll, true);
    for _ in 0..2 * MANY_PEERS {
        swarm.join(Message::HaveNone, false);
    }
    let seed = swarm.peers.swap_remove(0);
    let others = std::mem::replace(&mut swarm.peers, vec![seed]);
    swarm.blocks(10 * u64::from(BLOCKS));
    let had = swarm.shard.have.count();
    assert!(had > 0);
    swarm.now += Duration::from_millis(200);
    swarm.shard.handle_timeout(swarm.now);
    let ready = std::iter::from_fn(|| swarm.shard.poll_action())
        .filter(|action| matches!(action, ShardAction::Ready(_)))
        .count();
    assert!(ready <= others.len(), "each once");
    for (key, _) in others {
        let now = swarm.now;
        let heard = std::iter::from_fn(|| swarm.shard.poll_message(now, key));
        let haves = heard.filter(|out| matches!(out, Outgoing::Message(Message::Have { .. }))).count();
        assert_eq!(haves as u32, had);
    }
}
