//! The torrent as a whole: which peers to know and to dial, whom to unchoke, whom to ban. One per torrent, driven
//! by the control plane; the contract is in the parent module's documentation. Announcing is the
//! [`Announcer`](crate::tracker::Announcer)'s.
//!
//! - `members`: the connected peers, all shards together
//! - `rounds`: the choke rounds
//! - `rack`: who is of our rack, and what we are to bring there
//! - `slots`: how many slots there are
//! - `bounds`: that the limits are kept, for tests

mod bounds;
mod members;
mod rack;
mod rounds;
mod slots;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::message::{CoreToShard, PartReason, ShardToCore};
use super::shared::SharedPieces;
use super::{PeerKey, Policy, Rule, ShardId};
use crate::choker::Choker;
use crate::id::PeerId;
use crate::layout::PieceIndex;
use crate::peer_list::{PeerList, PeerSource};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

use members::{Member, Tally};
use rack::Sharing;
use rounds::Rounds;
use slots::SlotCount;

/// How often dials are looked at when none falls due earlier, while there is anybody.
const TICK: Duration = Duration::from_secs(1);

/// What a core needs to know from the start.
#[derive(Debug)]
pub struct CoreConfig {
    /// What we call ourselves in this torrent.
    pub our_id: PeerId,
    /// How many shards there are.
    pub shards: u8,
    /// Most peers of this torrent.
    pub max_peers: usize,
    /// Bytes of a piece.
    pub piece_len: u32,
    /// The state of its pieces.
    pub pieces: Arc<SharedPieces>,
    /// What it does where it has a choice.
    pub policy: Policy,
    /// The randomness of its decisions.
    pub rng: Rng,
}

/// A fact for the core.
#[derive(Clone, Debug)]
pub enum CoreInput {
    /// From a shard.
    FromShard(ShardId, ShardToCore),
    /// Somebody named these addresses.
    Candidates(Vec<SocketAddr>, PeerSource),
    /// An address we were told to dial did not become a peer.
    DialFailed(SocketAddr),
    /// Pieces were looked for on disk: found and right, or not there.
    Checked {
        /// On disk and right.
        found: Vec<PieceIndex>,
        /// Not there, or wrong.
        lacking: Vec<PieceIndex>,
    },
    /// An address of this host, as others see it: whose subnet it is of stands in our rack.
    OwnAddr(IpAddr),
    /// Dial no more and part with everybody.
    Leave,
}

/// What the driver is to do for the core.
#[derive(Clone, Debug)]
pub enum CoreAction {
    /// Pass this on to the shard.
    Send(ShardId, CoreToShard),
    /// That shard is to connect to the address; failing is an input.
    Dial(ShardId, SocketAddr),
    /// This address gave bad data and is banned from now on.
    Banned(IpAddr),
    /// A piece failed its hash.
    HashFailed(PieceIndex),
    /// Every piece that is wanted is on disk and right.
    Completed,
}

/// What the core counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreStats {
    /// Connected peers.
    pub peers: usize,
    /// Of them, those that have a slot.
    pub unchoked: usize,
    /// Addresses known.
    pub known: usize,
    /// Addresses banned for bad data.
    pub banned: usize,
    /// Pieces that failed their hash.
    pub hash_failures: u64,
}

/// A torrent as a whole.
#[derive(Debug)]
pub struct TorrentCore {
    config: CoreConfig,
    list: PeerList,
    members: BTreeMap<PeerKey, Member>,
    /// Addresses of this host, where racks matter.
    own_addrs: Vec<IpAddr>,
    /// When shards hear what they are to bring into our rack.
    sharing: Sharing,
    /// How many connections there are to each peer that calls itself so.
    ids: BTreeMap<PeerId, u32>,
    tally: Tally,
    /// Connected peers and dials under way of each shard.
    load: Vec<usize>,
    /// Dials under way.
    dialling: BTreeMap<SocketAddr, ShardId>,
    choker: Choker,
    slots: SlotCount,
    rounds: Rounds,
    leaving: bool,
    /// We want nothing any more.
    completed: bool,
    next_tick: Option<Instant>,
    stats: CoreStats,
    actions: VecDeque<CoreAction>,
}

impl TorrentCore {
    /// A torrent that knows nobody.
    pub fn new(now: Instant, config: CoreConfig) -> Self {
        Self {
            list: PeerList::default(),
            members: BTreeMap::new(),
            own_addrs: Vec::new(),
            sharing: Sharing::default(),
            ids: BTreeMap::new(),
            tally: Tally::default(),
            load: vec![0; usize::from(config.shards)],
            dialling: BTreeMap::new(),
            choker: Choker::with_slots(slots::LEAST, slots::LEAST),
            slots: SlotCount::new(config.piece_len),
            rounds: Rounds::new(now),
            leaving: false,
            completed: config.pieces.is_finished(),
            next_tick: None,
            stats: CoreStats::default(),
            actions: VecDeque::new(),
            config,
        }
    }

    /// Takes a fact.
    pub fn handle_input(&mut self, now: Instant, input: CoreInput) {
        match input {
            CoreInput::FromShard(from, message) => self.on_shard(now, from, message),
            CoreInput::Candidates(addrs, source) => {
                for addr in addrs {
                    let near = self.is_near(addr);
                    self.list.add_at(now, addr, near, source, &mut self.config.rng);
                }
            }
            CoreInput::DialFailed(addr) => self.on_dial_failed(now, addr),
            CoreInput::Checked { found, lacking } => self.on_checked(found, lacking),
            CoreInput::OwnAddr(addr) => self.on_own_addr(now, addr),
            CoreInput::Leave => self.leave(),
        }
        self.share_out(now);
        self.dial(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.next_tick = Some(now + TICK);
        self.advance_round(now);
        self.share_out(now);
        self.dial(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<CoreAction> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dial = self.whom_to_dial().and_then(|whom| self.list.next_dial_at(whom));
        let tick = if self.is_alone() { None } else { self.next_tick };
        let round = if self.members.is_empty() { None } else { Some(self.rounds.next_at()) };
        [round, tick, dial, self.sharing.at()].into_iter().flatten().min()
    }

    /// Nobody is connected or being dialled: nothing happens by itself, and a process may have thousands of such torrents.
    fn is_alone(&self) -> bool {
        self.members.is_empty() && self.dialling.is_empty()
    }

    /// What it counts.
    pub fn stats(&self) -> CoreStats {
        let Tally { unchoked, .. } = self.tally;
        CoreStats { peers: self.members.len(), unchoked, known: self.list.len(), ..self.stats }
    }

    /// Whether the address is banned.
    pub fn is_banned(&self, addr: IpAddr) -> bool {
        self.list.is_banned(addr)
    }

    /// Whether more peers would be of use.
    pub fn wants_peers(&self) -> bool {
        !self.leaving
            && self.members.len() < self.config.max_peers / 2
            && self.list.len() < self.config.max_peers
    }

    /// Recounts what is kept in counters.
    ///
    /// # Panics
    /// Where a counter is wrong.
    pub fn check_invariants(&self) {
        for shard in 0..self.config.shards {
            let members = self.members.keys().filter(|key| key.shard.0 == shard).count();
            let dials = self.dialling.values().filter(|id| id.0 == shard).count();
            assert_eq!(self.load[usize::from(shard)], members + dials, "load of shard {shard}");
        }
        let mut tally = Tally::default();
        self.members.values().for_each(|member| tally.add(member));
        assert_eq!(tally, self.tally);
        // Slots are no longer given out, nor taken, while everybody is parted with.
        assert!(self.leaving || tally.served <= self.choker.slot_count(), "{tally:?}");
        let ids = self.members.values().map(|member| member.id);
        assert!(ids.clone().all(|id| self.ids.contains_key(&id)));
        assert_eq!(self.ids.values().sum::<u32>() as usize, ids.count());
    }

    fn on_shard(&mut self, now: Instant, from: ShardId, message: ShardToCore) {
        match message {
            ShardToCore::PeerUp(up) => self.on_peer_up(now, up),
            ShardToCore::PeerDown(rates) => self.on_peer_down(now, rates),
            ShardToCore::Interest(peer, interested) => self.on_interest(now, peer, interested),
            ShardToCore::Rates(round, rates) => self.on_rates(now, from, round, rates),
            ShardToCore::Poisoner(addr) => self.ban(now, addr),
            // Parted with already; the address fails like one that cannot be dialled.
            ShardToCore::Misbehaved(peer) => self.note_misbehaviour(peer),
            ShardToCore::ListensOn(peer, addr) => self.on_listens_on(now, peer, addr),
            ShardToCore::HashFailed(piece) => {
                self.stats.hash_failures += 1;
                self.act(CoreAction::HashFailed(piece));
            }
            ShardToCore::Completed => self.note_completion(),
        }
    }

    fn on_checked(&mut self, found: Vec<PieceIndex>, lacking: Vec<PieceIndex>) {
        if !found.is_empty() {
            self.tell_shards(&CoreToShard::Found(found));
        }
        if !lacking.is_empty() {
            self.tell_shards(&CoreToShard::Lacking(lacking));
        }
        self.note_completion();
    }

    fn note_completion(&mut self) {
        if self.config.pieces.is_finished() && !std::mem::replace(&mut self.completed, true) {
            self.act(CoreAction::Completed);
        }
    }

    /// Whether the torrent follows the rule.
    fn follows(&self, rule: Rule) -> bool {
        self.config.policy.rules.has(rule)
    }

    /// Shards part with whoever is at the address; who else of its subnet is banned with it goes, too.
    fn ban(&mut self, now: Instant, addr: IpAddr) {
        if !self.follows(Rule::SmartBan) || !self.list.ban(addr) {
            return;
        }
        self.stats.banned += 1;
        self.tell_shards(&CoreToShard::Ban(addr));
        self.act(CoreAction::Banned(addr));
        let banned = |member: &Member| {
            !member.parting && member.addr.ip() != addr && self.list.is_banned(member.addr.ip())
        };
        let others: Vec<(PeerKey, bool)> = { self.members.iter() }
            .filter(|(_, member)| banned(member))
            .map(|(&peer, member)| (peer, member.near))
            .collect();
        for (peer, near) in others {
            self.part(peer, PartReason::Banned);
            if near {
                self.rack_changed(now);
            }
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        let members: Vec<PeerKey> = self.members.keys().copied().collect();
        members.into_iter().for_each(|peer| self.part(peer, PartReason::Leaving));
    }

    /// Dials what is due, each on the shard with the fewest peers.
    fn dial(&mut self, now: Instant) {
        while let Some(whom) = self.whom_to_dial() {
            let Some(addr) = self.list.next_to_dial(now, whom) else { return };
            let shard = self.idlest_shard();
            self.load[usize::from(shard.0)] += 1;
            self.dialling.insert(addr, shard);
            self.act(CoreAction::Dial(shard, addr));
        }
    }

    fn on_dial_failed(&mut self, now: Instant, addr: SocketAddr) {
        if self.dial_ended(addr) {
            self.list.dial_failed(now, addr, &mut self.config.rng);
        }
    }

    fn dial_ended(&mut self, addr: SocketAddr) -> bool {
        let Some(shard) = self.dialling.remove(&addr) else { return false };
        self.load[usize::from(shard.0)] -= 1;
        true
    }

    fn idlest_shard(&self) -> ShardId {
        let idlest = (0..self.load.len()).min_by_key(|&shard| self.load[shard]).unwrap_or(0);
        ShardId(idlest as u8)
    }

    fn part(&mut self, peer: PeerKey, reason: PartReason) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.parting = true;
        }
        self.act(CoreAction::Send(peer.shard, CoreToShard::Part(peer, reason)));
    }

    fn tell_shards(&mut self, message: &CoreToShard) {
        for shard in (0..self.config.shards).map(ShardId) {
            self.act(CoreAction::Send(shard, message.clone()));
        }
    }

    fn act(&mut self, action: CoreAction) {
        self.actions.push_back(action);
    }
}
