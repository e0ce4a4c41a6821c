//! An honest node: a core and its shards, and what their drivers hold. Drives the core; the shards are `drive`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use ringtide_proto::id::InfoHash;
use ringtide_proto::layout::{PieceIndex, PieceLayout};
use ringtide_proto::limiter::RateLimit;
use ringtide_proto::peer_list::PeerSource;
use ringtide_proto::picker::{Priority, Selection};
use ringtide_proto::rng::Rng;
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{
    Budget, CoreAction, CoreConfig, CoreInput, CoreToShard, PeerKey, ShardConfig, ShardId, ShardInput,
    SharedPieces, TorrentCore, TorrentShard,
};

use crate::connect::peer_id;
use crate::disk::{Buffers, Marker};
use crate::scenario::{Disk, Role, Scenario};
use crate::world::{Actor, Event, Machine, Parcel, World, address};

/// How often the tracker is asked.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);

/// How late a timer may be: a busy thread comes to it when it can.
const TIMER_SLACK: Duration = Duration::from_micros(500);

/// When a machine is to be woken: the times that are scheduled, the earliest last. One that is no longer wanted is let
/// pass, and serves whatever is wanted shortly before it.
#[derive(Debug, Default)]
struct Timer(Vec<Instant>);

impl Timer {
    /// Whether it rings at that time, or so little later that it makes no difference.
    fn is_set_by(&self, wanted: Instant) -> bool {
        self.0.last().is_some_and(|&at| at <= wanted + TIMER_SLACK)
    }

    /// Rings at that time, too.
    fn set(&mut self, at: Instant) {
        self.0.push(at);
    }

    /// It is that time: whether the machine is woken.
    fn rings(&mut self, now: Instant) -> bool {
        self.0.pop_if(|at| *at <= now).is_some()
    }
}

/// A shard and what its driver holds for it.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) machine: TorrentShard,
    /// Which connection, and which side of it, each peer is, by its slot.
    peers: Vec<Option<(PeerKey, usize, usize)>>,
    pub(crate) buffers: Buffers,
    /// Blocks that came for another shard and were not sent on yet.
    pub(crate) lent: BTreeMap<PeerKey, Marker>,
    timer: Timer,
}

impl Shard {
    pub(crate) fn note_peer(&mut self, key: PeerKey, conn: usize, side: usize) {
        if self.peers.len() <= key.slot() {
            self.peers.resize(key.slot() + 1, None);
        }
        self.peers[key.slot()] = Some((key, conn, side));
    }

    pub(crate) fn forget_peer(&mut self, key: PeerKey) -> Option<(usize, usize)> {
        let place = self.peers.get_mut(key.slot())?;
        place.take_if(|(there, ..)| *there == key).map(|(_, conn, side)| (conn, side))
    }

    /// Every peer, with its connection and which side of it we are.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (PeerKey, usize, usize)> + '_ {
        self.peers.iter().copied().flatten()
    }

    /// The connection of the peer, and which side of it the peer is.
    pub(crate) fn peer(&self, key: PeerKey) -> Option<(usize, usize)> {
        let (there, conn, side) = (*self.peers.get(key.slot())?)?;
        (there == key).then_some((conn, side))
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) core: TorrentCore,
    pub(crate) shards: Vec<Shard>,
    pub(crate) pieces: Arc<SharedPieces>,
    pub(crate) budget: Arc<Budget>,
    /// What is on the disk and right.
    pub(crate) disk: Vec<bool>,
    pub(crate) disk_spec: Disk,
    /// Pieces that are still to be looked for.
    unchecked: Vec<u32>,
    has: Vec<bool>,
    core_timer: Timer,
    /// When the last message on each channel arrives: from, to; the core is the one after the shards.
    pub(crate) channels: BTreeMap<(usize, usize), Instant>,
    /// Pieces on their way from one shard to another, and to which.
    pub(crate) handovers: BTreeMap<PieceIndex, usize>,
    /// When it began, and bytes of blocks that it gave since.
    pub(crate) since: Instant,
    pub(crate) given: u64,
    /// Hosts whose wrong blocks made a piece fail.
    pub(crate) liars: BTreeSet<usize>,
    /// Peers that the core parts with and still counts.
    pub(crate) parting: BTreeSet<PeerKey>,
}

impl Node {
    /// Of that host, with that on its disk.
    pub(crate) fn new(now: Instant, scenario: &Scenario, id: usize, disk: Vec<bool>, rng: &mut Rng) -> Self {
        let Role::Honest { shards, checks, budget, disk: disk_spec, .. } = &scenario.hosts[id].role else {
            unreachable!("a villain is no node")
        };
        let layout = scenario.layout;
        let skips = &scenario.hosts[id].skips;
        let pieces = Arc::new(wanting(layout, skips));
        let unchecked = if *checks { layout.pieces().map(PieceIndex::number).collect() } else { Vec::new() };
        if !checks {
            for piece in layout.pieces() {
                pieces.checked(piece, disk[piece.index()]);
            }
        }
        let limit = u64::from(*budget) * u64::from(layout.nominal_piece_len());
        let budget = Arc::new(Budget::new(limit));
        let config = |shard: u8, rng: &mut Rng| ShardConfig {
            id: ShardId(shard),
            shards: *shards,
            info_hash: InfoHash([9; 20]),
            layout,
            pieces: Arc::clone(&pieces),
            budget: Arc::clone(&budget),
            listen_port: Some(address(scenario, id).port()),
            policy: scenario.policy,
            rng: rng.fork(),
        };
        let limits = scenario.hosts[id].limits.map(|(up, down)| [rate_limit(up), rate_limit(down)]);
        let machine = |number: u8, rng: &mut Rng| {
            let mut machine = TorrentShard::new(config(number, rng));
            if let Some([up, down]) = &limits {
                machine.set_limits(vec![Arc::clone(up)], vec![Arc::clone(down)]);
            }
            machine
        };
        let shard = |number: u8| Shard {
            machine: machine(number, rng),
            peers: Vec::new(),
            buffers: Buffers::default(),
            lent: BTreeMap::new(),
            timer: Timer::default(),
        };
        let made: Vec<Shard> = (0..*shards).map(shard).collect();
        let core = CoreConfig {
            our_id: peer_id(id),
            shards: *shards,
            max_peers: scenario.max_peers,
            piece_len: layout.nominal_piece_len(),
            pieces: Arc::clone(&pieces),
            policy: scenario.policy,
            rng: rng.fork(),
        };
        Self {
            core: TorrentCore::new(now, core),
            shards: made,
            pieces,
            budget,
            has: disk.clone(),
            disk,
            disk_spec: *disk_spec,
            unchecked,
            core_timer: Timer::default(),
            channels: BTreeMap::new(),
            handovers: BTreeMap::new(),
            since: now,
            given: 0,
            liars: BTreeSet::new(),
            parting: BTreeSet::new(),
        }
    }
}

/// The pieces of a torrent, all but those wanted.
fn wanting(layout: PieceLayout, skips: &[u32]) -> SharedPieces {
    let pieces = SharedPieces::unchecked(layout.piece_count());
    if skips.is_empty() {
        return pieces;
    }
    let wanted = |piece: PieceIndex| !skips.contains(&piece.number());
    let priority = |piece| if wanted(piece) { Priority::Normal } else { Priority::Skip };
    let files = layout.pieces().map(|piece| (u64::from(layout.piece_len(piece)), priority(piece)));
    pieces.selecting(Selection::of_files(&layout, files))
}

/// At most so many bytes a second.
fn rate_limit(per_second: u64) -> Arc<RateLimit> {
    Arc::new(RateLimit::new(NonZeroU64::new(per_second).unwrap_or(NonZeroU64::MIN)))
}

impl Node {
    fn timer(&mut self, machine: Machine) -> &mut Timer {
        match machine {
            Machine::Core => &mut self.core_timer,
            Machine::Shard(shard) => &mut self.shards[shard].timer,
        }
    }
}

impl World<'_> {
    pub(crate) fn node(&mut self, host: usize) -> &mut Node {
        match &mut self.hosts[host].actor {
            Actor::Node(node) => node,
            Actor::Villain(_) => unreachable!("host {host} is a villain"),
        }
    }

    pub(crate) fn node_joins(&mut self, host: usize) -> Result<(), String> {
        if !self.node(host).unchecked.is_empty() {
            self.after(Duration::from_millis(300), Event::Check(host));
        }
        self.note_completion(host);
        let addr = self.hosts[host].addr.ip();
        self.core_input(host, CoreInput::OwnAddr(addr))?;
        self.on_tracker(host)
    }

    /// The tracker names some of those who are or were there, the node itself among them.
    pub(crate) fn on_tracker(&mut self, host: usize) -> Result<(), String> {
        if !self.hosts[host].here {
            return Ok(());
        }
        self.after(ANNOUNCE_EVERY, Event::Tracker(host));
        let addrs = self.names();
        self.core_input(host, CoreInput::Candidates(addrs, PeerSource::Tracker))
    }

    /// Some addresses, each once. Whoever comes within a second counts as there: announces cross.
    fn names(&mut self) -> Vec<SocketAddr> {
        let dead = usize::from(self.scenario.dead_addresses);
        let (count, most) = (self.hosts.len() + dead, self.scenario.tracker_names);
        let soon = self.now + Duration::from_secs(1);
        let name = |world: &Self, number: usize| match world.hosts.get(number) {
            Some(host) => {
                let there = Instant::ZERO + world.scenario.hosts[number].joins_at <= soon;
                there.then_some(host.addr)
            }
            None => Some(SocketAddr::from(([192, 168, 1, (number - world.hosts.len()) as u8], 6881))),
        };
        if count <= 2 * most {
            let mut addrs: Vec<SocketAddr> = (0..count).filter_map(|number| name(self, number)).collect();
            self.rng.shuffle(&mut addrs);
            addrs.truncate(most);
            return addrs;
        }
        let drawn: BTreeSet<usize> = (0..most).map(|_| self.rng.below(count)).collect();
        let mut addrs: Vec<SocketAddr> = drawn.into_iter().filter_map(|number| name(self, number)).collect();
        self.rng.shuffle(&mut addrs);
        addrs
    }

    /// Some more pieces were looked for on disk.
    pub(crate) fn on_check(&mut self, host: usize) -> Result<(), String> {
        let (layout, batch) = (self.scenario.layout, 1 + self.rng.below(8));
        let node = self.node(host);
        let (mut found, mut lacking) = (Vec::new(), Vec::new());
        for _ in 0..batch.min(node.unchecked.len()) {
            let number = node.unchecked.remove(0);
            let Some(piece) = layout.piece(number) else { continue };
            let good = node.has[piece.index()];
            if node.pieces.checked(piece, good) {
                if good { found.push(piece) } else { lacking.push(piece) }
            }
        }
        if !node.unchecked.is_empty() {
            let delay = self.some_time(Duration::from_millis(500));
            self.after(delay, Event::Check(host));
        }
        self.note_completion(host);
        self.core_input(host, CoreInput::Checked { found, lacking })
    }

    pub(crate) fn core_input(&mut self, host: usize, input: CoreInput) -> Result<(), String> {
        let now = self.now;
        self.node(host).core.handle_input(now, input);
        self.drive_core(host)
    }

    pub(crate) fn shard_input(&mut self, host: usize, shard: usize, input: ShardInput) -> Result<(), String> {
        let now = self.now;
        self.node(host).shards[shard].machine.handle_input(now, input);
        self.drive_shard(host, shard)
    }

    pub(crate) fn on_timer(&mut self, host: usize, machine: Machine) -> Result<(), String> {
        let (now, here) = (self.now, self.hosts[host].here);
        let node = self.node(host);
        if !node.timer(machine).rings(now) || !here {
            return Ok(());
        }
        match machine {
            Machine::Core => {
                node.core.handle_timeout(now);
                self.drive_core(host)
            }
            Machine::Shard(shard) => {
                node.shards[shard].machine.handle_timeout(now);
                self.drive_shard(host, shard)
            }
        }
    }

    fn drive_core(&mut self, host: usize) -> Result<(), String> {
        while let Some(action) = self.node(host).core.poll_action() {
            self.do_for_core(host, action)?;
        }
        if self.scenario.checks && self.hosts[host].here {
            self.check_core(host)?;
        }
        let wanted = self.node(host).core.poll_timeout();
        self.set_timer(host, Machine::Core, wanted);
        Ok(())
    }

    /// Sets the timer where it is wanted sooner than it is set. It rings a little late.
    pub(crate) fn set_timer(&mut self, host: usize, machine: Machine, wanted: Option<Instant>) {
        let Some(wanted) = wanted else { return };
        if self.node(host).timer(machine).is_set_by(wanted) {
            return;
        }
        let at = wanted + self.some_time(TIMER_SLACK);
        self.node(host).timer(machine).set(at);
        self.at(at, Event::Timer(host, machine));
    }

    fn do_for_core(&mut self, host: usize, action: CoreAction) -> Result<(), String> {
        let core = self.node(host).shards.len();
        match action {
            CoreAction::Send(to, message) => {
                if let CoreToShard::Part(peer, _) = &message {
                    self.node(host).parting.insert(*peer);
                }
                self.mail(host, core, usize::from(to.0), Parcel::FromCore(message));
            }
            CoreAction::Dial(to, addr) => self.mail(host, core, usize::from(to.0), Parcel::Dial(addr)),
            CoreAction::Banned(addr) => {
                self.record.bans += 1;
                self.check_ban(host, addr)?;
            }
            CoreAction::Completed => self.check_completion(host)?,
            CoreAction::HashFailed(_) => {}
        }
        Ok(())
    }
}
