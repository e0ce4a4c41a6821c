//! Virtual time: what happens when, in which order, and whether it is over. Knows everybody by number; what each
//! does is in the other files.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use ringtide_proto::layout::PieceIndex;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{CoreToShard, ShardMessage, ShardToCore, Verdict};

use crate::connect::Conn;
use crate::disk::{Buffer, Marker};
use crate::node::Node;
use crate::scenario::{Role, Scenario};
use crate::villain::Villain;
use crate::wire::Frame;

/// Steps after which a swarm is taken to be in a storm: the busiest sane ones take a tenth.
const MOST_STEPS: u64 = 6_000_000;

/// How often all tables of all nodes are checked; those of the shard that a step touched are checked more often.
const CHECK_ALL_EVERY: u64 = 4_096;

/// How long the swarm goes on after everybody is done, so that what is under way arrives.
const AFTERMATH: Duration = Duration::from_secs(30);

/// How a swarm went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When the last of those who had to was done, in virtual time.
    pub took: Duration,
    /// How many things happened.
    pub steps: u64,
    /// A hash of all that happened, in order.
    pub trace_hash: u64,
    /// Bytes of blocks that honest nodes received and did not need.
    pub wasted: u64,
    /// How many addresses honest nodes banned, counted once for each node.
    pub bans: u32,
}

/// What went wrong, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In virtual time.
    pub at: Duration,
    /// What must never be.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}: {}", self.at, self.what)
    }
}

impl std::error::Error for Failure {}

/// Plays the scenario to its end.
///
/// # Errors
/// What was seen that must never be.
///
/// # Panics
/// Where a state machine finds its own tables wrong.
pub fn run(scenario: &Scenario) -> Result<Outcome, Failure> {
    trace(scenario, &mut |_| {})
}

/// As [`run`], and tells everything that happens, a line each.
///
/// # Errors
/// As [`run`].
///
/// # Panics
/// As [`run`].
pub fn trace(scenario: &Scenario, tell: &mut dyn FnMut(&str)) -> Result<Outcome, Failure> {
    let mut world = World::new(scenario, tell);
    let result = world.play();
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
    Timer(usize, Machine),
    Tracker(usize),
    Check(usize),
    ToShard { host: usize, from: usize, to: usize, parcel: Parcel },
    ToCore { host: usize, from: usize, message: ShardToCore },
    Connect { from: usize, shard: usize, addr: SocketAddr },
    DialFailed { host: usize, addr: SocketAddr },
    DialerUp { conn: usize },
    Arrives { conn: usize, side: usize, frame: Frame },
    Taken { conn: usize, side: usize, bytes: u64, payload: u64 },
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
    /// When its line is free again, up and down.
    pub(crate) up_free: Instant,
    pub(crate) down_free: Instant,
}

pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) hosts: Vec<Host>,
    pub(crate) conns: Vec<Conn>,
    queue: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    steps: u64,
    trace_hash: u64,
    pub(crate) bans: u32,
    tell: &'a mut dyn FnMut(&str),
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, tell: &'a mut dyn FnMut(&str)) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let hosts = (0..scenario.hosts.len()).map(|id| new_host(scenario, id, &mut rng)).collect();
        let mut world = Self {
            scenario,
            now: Instant::ZERO,
            rng,
            hosts,
            conns: Vec::new(),
            queue: BTreeMap::new(),
            scheduled: 0,
            steps: 0,
            trace_hash: 0xcbf2_9ce4_8422_2325,
            bans: 0,
            tell,
        };
        for (id, spec) in scenario.hosts.iter().enumerate() {
            world.after(spec.joins_at, Event::Join(id));
            if let Some((after, _)) = spec.leaves {
                world.after(spec.joins_at + after, Event::Leave(id));
            }
        }
        world
    }

    fn play(&mut self) -> Result<Outcome, String> {
        let mut took = None;
        let mut end = Instant::ZERO + self.scenario.deadline;
        while let Some((&(at, _), _)) = self.queue.first_key_value() {
            if at > end {
                break;
            }
            self.step()?;
            if took.is_none() && self.everybody_is_done() {
                took = Some(self.now.since(Instant::ZERO));
                end = self.now + AFTERMATH;
            }
        }
        let took = took.ok_or_else(|| self.who_is_not_done())?;
        self.check_the_end()?;
        let (wasted, bans) = (self.wasted(), self.bans);
        Ok(Outcome { took, steps: self.steps, trace_hash: self.trace_hash, wasted, bans })
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(((at, _), event)) = self.queue.pop_first() else { return Ok(()) };
        self.now = at;
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err(format!("a storm: {}", self.who_is_not_done()));
        }
        self.note(&event);
        self.handle(event)?;
        if self.steps.is_multiple_of(CHECK_ALL_EVERY) {
            self.check_all()?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Join(host) => self.join(host),
            Event::Leave(host) => self.leave(host),
            Event::Timer(host, machine) => self.on_timer(host, machine),
            Event::Tracker(host) => self.on_tracker(host),
            Event::Check(host) => self.on_check(host),
            Event::ToShard { host, from, to, parcel } => self.on_parcel(host, from, to, parcel),
            Event::ToCore { host, from, message } => self.on_report(host, from, message),
            Event::Connect { from, shard, addr } => self.on_connect(from, shard, addr),
            Event::DialFailed { host, addr } => self.on_dial_failed(host, addr),
            Event::DialerUp { conn } => self.on_dialer_up(conn),
            Event::Arrives { conn, side, frame } => self.on_arrival(conn, side, frame),
            Event::Taken { conn, side, bytes, payload } => self.on_taken(conn, side, bytes, payload),
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
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), event);
    }

    /// A random time up to `most`.
    pub(crate) fn some_time(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.rng.bits() % (nanos + 1))
    }

    /// Follows the event into the trace's hash (FNV-1a).
    fn note(&mut self, event: &Event) {
        let text = format!("{:?} {event:?}", self.now);
        for byte in text.bytes() {
            self.trace_hash = (self.trace_hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        (self.tell)(&text);
    }
}

fn new_host(scenario: &Scenario, id: usize, rng: &mut Rng) -> Host {
    let actor = match &scenario.hosts[id].role {
        Role::Honest { .. } => Actor::Node(Box::new(Node::new(scenario, id, rng))),
        _ => Actor::Villain(Villain::new(id)),
    };
    Host {
        actor,
        here: false,
        vanished: false,
        addr: address(id),
        up_free: Instant::ZERO,
        down_free: Instant::ZERO,
    }
}

/// Each host has an address of its own, in a network of its own (BEP 6's fast set looks at the network).
pub(crate) fn address(id: usize) -> SocketAddr {
    SocketAddr::from(([10, id as u8, 1, 1], 6881))
}
