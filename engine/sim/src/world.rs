//! Virtual time: what happens when, in which order, and whether it is over. Knows everybody by number; what each
//! does is in the other files.

use std::net::SocketAddr;
use std::ops::ControlFlow;

use ringtide_proto::layout::PieceIndex;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{CoreToShard, ShardMessage, ShardToCore, Verdict};

use crate::connect::Conn;
use crate::disk::{Buffer, Marker};
use crate::link::{Inbox, Trunks, Uplink};
use crate::node::Node;
use crate::outcome::{Failure, Outcome, Progress, Record};
use crate::queue::Queue;
use crate::scenario::{Role, Scenario};
use crate::trace::TraceHash;
use crate::villain::Villain;
use crate::wire::Frame;

/// How often all tables of all nodes are checked; those of the shard that a step touched are checked more often.
const CHECK_ALL_EVERY: u64 = 4_096;

/// How often whoever watches is told how far it is, in steps.
const TELL_EVERY: u64 = 65_536;

/// How long the swarm goes on after everybody is done, so that what is under way arrives.
const AFTERMATH: Duration = Duration::from_secs(30);

/// Is told how far a swarm is, and says whether to go on.
pub type Watcher<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Plays the scenario to its end.
///
/// # Errors
/// What was seen that must never be.
///
/// # Panics
/// Where a state machine finds its own tables wrong.
pub fn run(scenario: &Scenario) -> Result<Outcome, Failure> {
    watch(scenario, &mut |_| ControlFlow::Continue(()))
}

/// As [`run`], and tells how far it is several times a second; ends early where it is told to break off.
///
/// # Errors
/// As [`run`], and where it was broken off.
///
/// # Panics
/// As [`run`].
pub fn watch(scenario: &Scenario, watcher: &mut Watcher<'_>) -> Result<Outcome, Failure> {
    play(World::new(scenario), watcher)
}

/// As [`run`], and tells everything that happens, a line each.
///
/// # Errors
/// As [`run`].
///
/// # Panics
/// As [`run`].
pub fn trace(scenario: &Scenario, tell: &mut dyn FnMut(&str)) -> Result<Outcome, Failure> {
    let mut world = World::new(scenario);
    world.tell = Some(tell);
    play(world, &mut |_| ControlFlow::Continue(()))
}

fn play(mut world: World<'_>, watcher: &mut Watcher<'_>) -> Result<Outcome, Failure> {
    let result = world.play(watcher);
    result.map_err(|what| Failure { at: world.now.since(Instant::ZERO), what })
}

/// One of the machines of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    Core,
    Shard(usize),
}

/// What travels over a channel of a node.
#[derive(Debug)]
pub(crate) enum Parcel {
    FromShard(ShardMessage),
    LentBlock(ShardMessage, Marker),
    Handover(ShardMessage, Option<Buffer>),
    FromCore(CoreToShard),
    Dial(SocketAddr),
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Join(usize),
    Leave(usize),
    Return(usize),
    Timer(usize, Machine),
    Tracker(usize),
    Check(usize),
    ToShard { host: usize, from: usize, to: usize, parcel: Box<Parcel> },
    ToCore { host: usize, from: usize, message: Box<ShardToCore> },
    Connect { from: usize, shard: usize, addr: SocketAddr },
    DialFailed { host: usize, addr: SocketAddr },
    DialerUp { conn: usize },
    Departs { conn: usize, side: usize, frame: Frame },
    OffTrunk { conn: usize, side: usize, frame: Frame },
    Arrives { conn: usize, side: usize, frame: Frame },
    Gathered(usize),
    Closed { conn: usize, side: usize },
    Verified { host: usize, shard: usize, piece: PieceIndex, verdict: Verdict },
    Written { host: usize, shard: usize, piece: PieceIndex },
    VillainDials { host: usize, left: u32 },
    VillainUnchokes { conn: usize },
    VillainTrickles { conn: usize, parts: u32 },
}

/// Somebody.
#[derive(Debug)]
pub(crate) enum Actor {
    Node(Box<Node>),
    Villain(Villain),
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) actor: Actor,
    pub(crate) here: bool,
    /// Its connections are gone without a word.
    pub(crate) vanished: bool,
    pub(crate) addr: SocketAddr,
    pub(crate) up: Uplink,
    /// When its line down is free again.
    pub(crate) down_free: Instant,
    pub(crate) inbox: Inbox,
    /// Bytes of blocks that left it.
    pub(crate) uploaded: u64,
}

pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) hosts: Vec<Host>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) trunks: Trunks,
    pub(crate) queue: Queue<Event>,
    pub(crate) steps: u64,
    pub(crate) trace_hash: TraceHash,
    pub(crate) record: Record,
    tell: Option<&'a mut dyn FnMut(&str)>,
}

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let hosts = (0..scenario.hosts.len()).map(|id| new_host(scenario, id, &mut rng)).collect();
        let mut world = Self {
            scenario,
            now: Instant::ZERO,
            rng,
            hosts,
            conns: Vec::new(),
            trunks: Trunks::new(),
            queue: Queue::new(),
            steps: 0,
            trace_hash: TraceHash::default(),
            record: Record::new(scenario),
            tell: None,
        };
        for (id, spec) in scenario.hosts.iter().enumerate() {
            world.after(spec.joins_at, Event::Join(id));
            if let Some((after, _)) = spec.leaves {
                world.after(spec.joins_at + after, Event::Leave(id));
            }
        }
        world
    }

    fn play(&mut self, watcher: &mut Watcher<'_>) -> Result<Outcome, String> {
        let mut took = None;
        let deadline = Instant::ZERO + self.scenario.deadline;
        let mut end = deadline;
        while self.queue.next_at().is_some_and(|at| at <= end) {
            self.step()?;
            let tell = self.steps.is_multiple_of(TELL_EVERY);
            if tell && watcher(self.record.progress(self.now, self.steps)).is_break() {
                return Err("broken off".to_owned());
            }
            match (took, self.record.all_are_done()) {
                (None, true) => {
                    took = Some(self.now.since(Instant::ZERO));
                    end = self.now + AFTERMATH;
                }
                // One that had everything crashed, and has to come back.
                (Some(_), false) => (took, end) = (None, deadline),
                _ => {}
            }
        }
        let took = took.ok_or_else(|| self.who_is_not_done())?;
        self.check_the_end()?;
        Ok(self.outcome(took))
    }

    fn step(&mut self) -> Result<(), String> {
        let Some((at, event)) = self.queue.pop() else { return Ok(()) };
        self.now = at;
        self.steps += 1;
        if self.steps > self.scenario.most_steps {
            return Err(format!("a storm: {}", self.who_is_not_done()));
        }
        self.trace_hash.note(at, &event);
        if let Some(tell) = &mut self.tell {
            tell(&format!("{at:?} {event:?}"));
        }
        self.handle(event)?;
        if self.scenario.checks && self.steps.is_multiple_of(CHECK_ALL_EVERY) {
            self.check_all()?;
        }
        Ok(())
    }

    pub(crate) fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Join(host) => self.join(host),
            Event::Leave(host) => self.leave(host),
            Event::Return(host) => self.return_to_life(host),
            Event::Timer(host, machine) => self.on_timer(host, machine),
            Event::Tracker(host) => self.on_tracker(host),
            Event::Check(host) => self.on_check(host),
            Event::ToShard { host, from, to, parcel } => self.on_parcel(host, from, to, *parcel),
            Event::ToCore { host, from, message } => self.on_report(host, from, *message),
            Event::Connect { from, shard, addr } => self.on_connect(from, shard, addr),
            Event::DialFailed { host, addr } => self.on_dial_failed(host, addr),
            Event::DialerUp { conn } => self.on_dialer_up(conn),
            Event::Departs { conn, side, frame } => self.on_departure(conn, side, frame),
            Event::OffTrunk { conn, side, frame } => {
                self.on_off_trunk(conn, side, frame);
                Ok(())
            }
            Event::Arrives { conn, side, frame } => self.on_arrival(conn, side, frame),
            Event::Gathered(host) => self.on_gathered(host),
            Event::Closed { conn, side } => self.on_closed(conn, side),
            Event::Verified { host, shard, piece, verdict } => self.on_verified(host, shard, piece, verdict),
            Event::Written { host, shard, piece } => self.on_written(host, shard, piece),
            Event::VillainDials { host, left } => self.villain_dials(host, left),
            Event::VillainUnchokes { conn } => self.villain_unchokes(conn),
            Event::VillainTrickles { conn, parts } => self.villain_trickles(conn, parts),
        }
    }

    /// Something happens after that long.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Something happens then; of those at the same time the first scheduled is the first.
    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.queue.add(at.max(self.now), event);
    }

    /// A random time up to `most`.
    pub(crate) fn some_time(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.bits() % (nanos + 1))
    }
}

fn new_host(scenario: &Scenario, id: usize, rng: &mut Rng) -> Host {
    let actor = match &scenario.hosts[id].role {
        Role::Honest { has, .. } => {
            let mut disk = vec![false; scenario.layout.piece_count() as usize];
            has.iter().for_each(|&number| disk[number as usize] = true);
            let joins_at = Instant::ZERO + scenario.hosts[id].joins_at;
            Actor::Node(Box::new(Node::new(joins_at, scenario, id, disk, rng)))
        }
        _ => Actor::Villain(Villain::new(id)),
    };
    Host {
        actor,
        here: false,
        vanished: false,
        addr: address(scenario, id),
        up: Uplink::default(),
        down_free: Instant::ZERO,
        inbox: Inbox::default(),
        uploaded: 0,
    }
}

/// Each host has an address of its own, in a network of its own (BEP 6's fast set looks at the first three bytes), and
/// each rack in a larger one.
pub(crate) fn address(scenario: &Scenario, id: usize) -> SocketAddr {
    let [_, _, high, low] = (id as u32).to_be_bytes();
    SocketAddr::from(([10 + scenario.hosts[id].rack, high, low, 1], 6881))
}

/// The host at an address that [`address`] made, whatever the port; none at others.
pub(crate) fn host_at(scenario: &Scenario, addr: std::net::IpAddr) -> Option<usize> {
    let std::net::IpAddr::V4(addr) = addr else { return None };
    let [_, high, low, _] = addr.octets();
    let id = usize::from(high) << 8 | usize::from(low);
    (id < scenario.hosts.len() && address(scenario, id).ip() == addr).then_some(id)
}
