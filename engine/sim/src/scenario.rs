//! Who is in a swarm and what they have to work with. Plays nothing.

use ringtide_proto::layout::{PieceIndex, PieceLayout};
use ringtide_proto::picker::Order;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::Duration;
use ringtide_proto::torrent::{Lan, Policy};

/// A swarm to be played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything that is left to chance while it is played.
    pub seed: u64,
    /// How the torrent divides: blocks may be coarse, the protocol does not mind.
    pub layout: PieceLayout,
    /// Everybody, those who join later included.
    pub hosts: Vec<HostSpec>,
    /// Longest that a message between two shards, or a shard and its core, may take.
    pub channel_delay: Duration,
    /// Addresses that the tracker names and nobody answers at.
    pub dead_addresses: u8,
    /// Everybody honest who stays is done by then, in virtual time.
    pub deadline: Duration,
    /// How all nodes choose.
    pub policy: Policy,
    /// Most peers of a node.
    pub max_peers: usize,
    /// How many addresses the tracker names at a time.
    pub tracker_names: usize,
    /// One frame in so many is lost, and its connection stalls until it is sent again; none where zero.
    pub loss_one_in: u32,
    /// Bytes a second between each rack and all others, each way, for all its hosts together; without, racks do not matter.
    pub rack_link: Option<u64>,
    /// What must always hold is checked after each step. That takes most of the time.
    pub checks: bool,
    /// Blocks go in parts, and may stop in the middle.
    pub parts: bool,
    /// What travels is written as bytes, cut at random points and read again.
    pub encoded: bool,
    /// A host takes news of pieces and interest every few milliseconds, that of all peers together: saves most of the steps.
    pub gather: bool,
    /// Steps after which it is taken to be in a storm.
    pub most_steps: u64,
}

/// Each rack of a simulated swarm has a subnet of that size.
pub const RACKS: Lan = Lan { v4_prefix: 8, v6_prefix: 64 };

/// Steps after which a small swarm is taken to be in a storm: the busiest sane ones take a tenth.
const MOST_STEPS: u64 = 6_000_000;

/// One host.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// What it does.
    pub role: Role,
    /// Bytes a second that it can send.
    pub up: u64,
    /// Bytes a second that it can receive.
    pub down: u64,
    /// Time from its network card to the middle of the net.
    pub latency: Duration,
    /// When it joins.
    pub joins_at: Duration,
    /// When and how it goes.
    pub leaves: Option<(Duration, Departure)>,
    /// How long after it crashed or vanished it is back, with what is on its disk: longer than anything that was under way
    /// in it takes, so 12 seconds or more.
    pub returns: Option<Duration>,
    /// It speaks the fast extension (BEP 6).
    pub fast: bool,
    /// It speaks the extension protocol (BEP 10).
    pub extended: bool,
    /// Where it stands.
    pub rack: u8,
    /// Bytes a second that it gives and takes at most, of itself: rate limits.
    pub limits: Option<(u64, u64)>,
    /// It gives to others. An honest one that does not runs our machines, and unchokes nobody.
    pub gives: bool,
    /// Pieces that an honest one does not want: none where it wants everything.
    pub skips: Vec<u32>,
}

/// How a host goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It parts with everybody.
    Leaves,
    /// Its connections are reset.
    Crashes,
    /// Nothing is heard of it any more.
    Vanishes,
}

/// What a host does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It runs our state machines.
    Honest {
        /// How many shards it has.
        shards: u8,
        /// Which pieces are on its disk when it joins.
        has: Vec<u32>,
        /// It looks for them only after it joined, and says so bit by bit.
        checks: bool,
        /// Pieces that may be in assembly at a time.
        budget: u32,
        /// Its disk.
        disk: Disk,
    },
    /// Has everything and gives it, but one block in so many is wrong.
    Poisoner(u32),
    /// Claims everything and gives nothing.
    Liar,
    /// Claims everything, gives so many blocks and stops in the middle of the next.
    Staller(u32),
    /// Claims everything and gives it so slowly that one block takes this long.
    Trickler(Duration),
    /// Claims everything and rejects every request, where the fast extension lets it.
    Rejecter,
    /// Has everything; chokes after every so many blocks, for a second.
    Flapper(u32),
    /// Has everything and gives every block twice.
    Stutterer,
    /// Takes what it can and gives nothing.
    FreeRider,
    /// Breaks the protocol as soon as it is asked for anything.
    Garbler,
    /// Claims everything, gives nothing, and asks for thousands of blocks at a time, choked or not.
    Flooder,
}

/// A disk, and how long hashing takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Longest time to hash a piece.
    pub verify: Duration,
    /// Longest time to write one.
    pub write: Duration,
    /// One write in so many fails; none where zero.
    pub fails_one_in: u32,
}

impl Role {
    /// Whether it runs our machines.
    pub const fn is_honest(&self) -> bool {
        matches!(self, Self::Honest { .. })
    }

    /// Whether it gives wrong data, so that it may be banned.
    pub const fn poisons(&self) -> bool {
        matches!(self, Self::Poisoner(_))
    }

    /// Whether it does what only villains do, so that it may be parted with for misbehaviour.
    pub const fn misbehaves(&self) -> bool {
        matches!(self, Self::Garbler | Self::Stutterer | Self::Flooder)
    }
}

impl HostSpec {
    /// Whether it runs our machines and gives to others.
    pub const fn is_honest(&self) -> bool {
        self.role.is_honest() && self.gives
    }

    /// A host of that role on a good line, there from the beginning to the end.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            up: 2_000_000,
            down: 8_000_000,
            latency: Duration::from_millis(10),
            joins_at: Duration::ZERO,
            leaves: None,
            returns: None,
            fast: true,
            extended: true,
            rack: 0,
            limits: None,
            gives: true,
            skips: Vec::new(),
        }
    }

    /// An honest one with one shard and those pieces.
    pub fn honest(has: impl IntoIterator<Item = u32>) -> Self {
        Self::sharded(1, has)
    }

    /// An honest one with so many shards and those pieces.
    pub fn sharded(shards: u8, has: impl IntoIterator<Item = u32>) -> Self {
        let disk =
            Disk { verify: Duration::from_millis(5), write: Duration::from_millis(5), fails_one_in: 0 };
        let has = has.into_iter().collect();
        Self::new(Role::Honest { shards, has, checks: false, budget: 64, disk })
    }
}

impl Scenario {
    /// These hosts and a torrent of `pieces` pieces of `blocks` blocks of 64 KiB.
    pub fn of(seed: u64, pieces: u32, blocks: u32, hosts: Vec<HostSpec>) -> Self {
        let (block_len, total) = (65_536, u64::from(pieces) * u64::from(blocks) * 65_536);
        let layout = PieceLayout::with_block_len(total, blocks * block_len, block_len);
        Self {
            seed,
            layout: layout.expect("a scenario has few pieces, none of them empty"),
            hosts,
            channel_delay: Duration::from_millis(1),
            dead_addresses: 0,
            deadline: Duration::from_secs(3_600),
            policy: Policy::default(),
            max_peers: 50,
            tracker_names: 50,
            loss_one_in: 0,
            rack_link: None,
            checks: true,
            parts: true,
            encoded: false,
            gather: false,
            most_steps: MOST_STEPS,
        }
    }

    /// A swarm that the seed decides: somebody honest has each piece and stays.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let layout = random_layout(&mut rng);
        let mut hosts: Vec<HostSpec> = seeds(&mut rng, &layout);
        let leeches = 1 + rng.below(5);
        hosts.extend((0..leeches).map(|_| leech(&mut rng, &layout)));
        let villains = if rng.one_in(4) { 0 } else { 1 + rng.below(3) };
        hosts.extend((0..villains).map(|_| villain(&mut rng)));
        // From another source, so that the rest of the swarm does not depend on it.
        select(&mut Rng::new(!seed), &layout, &mut hosts);
        // A line carries at least a block a second, however coarse the blocks are.
        let coarse = u64::from(layout.block_len() / 16_384);
        for host in &mut hosts {
            (host.up, host.down) = (host.up * coarse, host.down * coarse);
        }
        let delays = [100, 1_000, 20_000, 200_000];
        let (policy, rack_link, max_peers) = vary(&mut Rng::new(seed.rotate_left(32)), coarse, &mut hosts);
        let rates = |host: &HostSpec| {
            let (up, down) = host.limits.unwrap_or((u64::MAX, u64::MAX));
            host.up.min(host.down).min(up).min(down)
        };
        let slowest = hosts.iter().map(rates).chain(rack_link).min().unwrap_or(1);
        let ideal = layout.total_len() * hosts.len() as u64 / slowest.max(1);
        let loris = hosts.iter().map(|host| trickling(host, &layout)).max().unwrap_or(Duration::ZERO);
        Self {
            layout,
            hosts,
            channel_delay: Duration::from_micros(*rng.pick(&delays).unwrap_or(&100)),
            dead_addresses: rng.below(4) as u8,
            deadline: Duration::from_secs(7_200 + 10 * ideal) + loris,
            loss_one_in: if rng.one_in(4) { 50 } else { 0 },
            encoded: rng.one_in(3),
            gather: rng.one_in(4),
            policy,
            rack_link,
            max_peers,
            ..Self::of(rng.bits(), 1, 1, Vec::new())
        }
    }
}

/// How long a slow-loris takes for everything. With memory for less than the four pieces that the engine has at least, one may
/// hold all of it, of all shards, for as long as it goes on giving.
fn trickling(host: &HostSpec, layout: &PieceLayout) -> Duration {
    match host.role {
        Role::Trickler(per_block) => per_block * layout.piece_count() * layout.nominal_block_count(),
        _ => Duration::ZERO,
    }
}

/// What a swarm may have besides: orders of pieces, super-seeding, racks with a link between them, little room for peers,
/// flooders, rate limits, and honest hosts that only take.
fn vary(rng: &mut Rng, coarse: u64, hosts: &mut Vec<HostSpec>) -> (Policy, Option<u64>, usize) {
    let order = [Order::RarestFirst, Order::Sequential, Order::Random][rng.below(8).saturating_sub(5)];
    let super_seed = rng.one_in(6);
    if rng.one_in(6) {
        hosts.push(host(rng, Role::Flooder));
        let flooder = hosts.last_mut().map(|host| (&mut host.up, &mut host.down));
        flooder.map(|(up, down)| (*up *= coarse, *down *= coarse));
    }
    for host in hosts.iter_mut().filter(|host| host.role.is_honest()) {
        if rng.one_in(6) {
            let share = |rng: &mut Rng, line: u64| line / 4 * (1 + rng.below(8) as u64);
            host.limits = Some((share(rng, host.up), share(rng, host.down)));
        }
        let lacks = matches!(&host.role, Role::Honest { has, .. } if has.is_empty());
        host.gives = !(lacks && rng.one_in(10));
    }
    let racks = rng.one_in(6);
    if racks {
        hosts.iter_mut().for_each(|host| host.rack = rng.below(2) as u8);
    }
    let rack_link = racks.then(|| coarse * 100_000 * (1 + rng.below(20) as u64));
    let lan = racks.then_some(RACKS).filter(|_| rng.one_in(2));
    let policy = Policy { order, super_seed, lan, ..Policy::default() };
    // Room for everybody, and for a connection or two that cross others.
    (policy, rack_link, if rng.one_in(6) { hosts.len() } else { 50 })
}

fn random_layout(rng: &mut Rng) -> PieceLayout {
    let block_len = [16_384, 65_536, 131_072][rng.below(3)];
    let blocks = 1 + rng.below(8) as u32;
    let pieces = 1 + rng.below(40) as u64;
    let full = pieces * u64::from(blocks * block_len);
    let short = rng.below((blocks * block_len) as usize) as u64;
    let layout = PieceLayout::with_block_len(full - short, blocks * block_len, block_len);
    layout.expect("at most 40 pieces, none of them empty")
}

/// One to three that stay and have every piece among them.
fn seeds(rng: &mut Rng, layout: &PieceLayout) -> Vec<HostSpec> {
    let count = 1 + rng.below(3);
    let mut has = vec![Vec::new(); count];
    for piece in layout.pieces() {
        has[rng.below(count)].push(piece.number());
        has.iter_mut().filter(|_| rng.one_in(2)).for_each(|has| has.push(piece.number()));
    }
    let mut hosts = Vec::new();
    for mut has in has {
        has.sort_unstable();
        has.dedup();
        hosts.push(HostSpec { joins_at: Duration::ZERO, leaves: None, ..node(rng, has) });
    }
    hosts
}

fn leech(rng: &mut Rng, layout: &PieceLayout) -> HostSpec {
    let odds = 1 + rng.below(10);
    let some = layout.pieces().filter(|_| odds <= 3 && rng.one_in(odds + 1));
    let has = some.map(PieceIndex::number).collect();
    let leaves = rng.one_in(4).then(|| {
        let how = [Departure::Leaves, Departure::Crashes, Departure::Vanishes][rng.below(3)];
        (Duration::from_millis(1 + rng.below(60_000) as u64), how)
    });
    let returns = matches!(leaves, Some((_, Departure::Crashes | Departure::Vanishes))) && rng.one_in(2);
    let returns = returns.then(|| Duration::from_millis(12_000 + rng.below(60_000) as u64));
    HostSpec { leaves, returns, ..node(rng, has) }
}

fn node(rng: &mut Rng, has: Vec<u32>) -> HostSpec {
    let millis = |rng: &mut Rng, most: usize| Duration::from_millis(rng.below(most) as u64);
    let (slow, fails) = (rng.one_in(6), rng.one_in(8));
    let disk = Disk {
        verify: millis(rng, if slow { 500 } else { 20 }),
        write: millis(rng, if slow { 1_000 } else { 20 }),
        fails_one_in: if fails { 20 } else { 0 },
    };
    let most = if rng.one_in(3) { 3 } else { 40 };
    let budget = 1 + rng.below(most) as u32;
    let most_shards = if rng.one_in(8) { 16 } else { 3 };
    let shards = 1 + rng.below(most_shards) as u8;
    let role = Role::Honest { shards, has, checks: rng.one_in(5), budget, disk };
    host(rng, role)
}

fn villain(rng: &mut Rng) -> HostSpec {
    let small = 1 + rng.below(20) as u32;
    let role = match rng.below(11) {
        0..=2 => Role::Poisoner(small),
        3 => Role::Liar,
        4 => Role::Staller(small),
        5 => Role::Trickler(Duration::from_secs(1 + rng.below(100) as u64)),
        6 => Role::Rejecter,
        7 => Role::Flapper(small),
        8 => Role::Stutterer,
        9 => Role::FreeRider,
        _ => Role::Garbler,
    };
    host(rng, role)
}

fn host(rng: &mut Rng, role: Role) -> HostSpec {
    let rate =
        |rng: &mut Rng| [20_000, 200_000, 2_000_000, 20_000_000][rng.below(4)] * (1 + rng.below(4) as u64);
    let farthest = if rng.one_in(4) { 400_000 } else { 30_000 };
    HostSpec {
        role,
        up: rate(rng),
        down: rate(rng),
        latency: Duration::from_micros(100 + rng.below(farthest) as u64),
        joins_at: Duration::from_millis(if rng.one_in(2) { 0 } else { rng.below(20_000) as u64 }),
        leaves: None,
        returns: None,
        fast: !rng.one_in(4),
        extended: !rng.one_in(4),
        rack: 0,
        limits: None,
        gives: true,
        skips: Vec::new(),
    }
}

/// One swarm in four has hosts that want a part of the content: from a piece to another, as files have it.
fn select(rng: &mut Rng, layout: &PieceLayout, hosts: &mut [HostSpec]) {
    if !rng.one_in(4) {
        return;
    }
    let count = layout.piece_count();
    for host in hosts.iter_mut().filter(|host| host.role.is_honest()) {
        if rng.one_in(2) {
            let (a, b) = (rng.below(count as usize + 1) as u32, rng.below(count as usize + 1) as u32);
            host.skips = (0..a.min(b)).chain(a.max(b)..count).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_honest(host: &HostSpec, which: impl Fn(u8, u32, bool, Disk) -> bool) -> bool {
        matches!(host.role, Role::Honest { shards, budget, checks, disk, .. } if which(shards, budget, checks, disk))
    }

    /// Something that a swarm may have.
    type Trait = fn(&Scenario) -> bool;

    fn any(scenario: &Scenario, which: impl Fn(&HostSpec) -> bool) -> bool {
        scenario.hosts.iter().any(which)
    }

    #[test]
    fn random_swarms_have_everything_now_and_then() {
        let traits: [(&str, Trait); 31] = [
            ("slow disks", |swarm| {
                any(swarm, |host| is_honest(host, |_, _, _, disk| disk.write.as_millis() > 100))
            }),
            ("faulty disks", |swarm| {
                any(swarm, |host| is_honest(host, |_, _, _, disk| disk.fails_one_in > 0))
            }),
            ("checks while it runs", |swarm| any(swarm, |host| is_honest(host, |_, _, checks, _| checks))),
            ("one shard", |swarm| any(swarm, |host| is_honest(host, |shards, _, _, _| shards == 1))),
            ("16 shards", |swarm| any(swarm, |host| is_honest(host, |shards, _, _, _| shards == 16))),
            ("memory for one piece", |swarm| {
                any(swarm, |host| is_honest(host, |_, budget, _, _| budget == 1))
            }),
            ("slow channels", |swarm| swarm.channel_delay.as_millis() == 200),
            ("loss", |swarm| swarm.loss_one_in > 0),
            ("bytes", |swarm| swarm.encoded),
            ("gathered news", |swarm| swarm.gather),
            ("dead addresses", |swarm| swarm.dead_addresses > 0),
            ("departures", |swarm| any(swarm, |host| matches!(host.leaves, Some((_, Departure::Leaves))))),
            ("crashes", |swarm| any(swarm, |host| matches!(host.leaves, Some((_, Departure::Crashes))))),
            ("vanishing", |swarm| any(swarm, |host| matches!(host.leaves, Some((_, Departure::Vanishes))))),
            ("returns", |swarm| any(swarm, |host| host.returns.is_some())),
            ("late joiners", |swarm| any(swarm, |host| host.joins_at.as_secs() > 10)),
            ("poisoners", |swarm| any(swarm, |host| matches!(host.role, Role::Poisoner(_)))),
            ("liars about pieces", |swarm| any(swarm, |host| host.role == Role::Liar)),
            ("snubbers", |swarm| any(swarm, |host| matches!(host.role, Role::Staller(_)))),
            ("slow-lorises", |swarm| any(swarm, |host| matches!(host.role, Role::Trickler(_)))),
            ("flooders", |swarm| any(swarm, |host| host.role == Role::Flooder)),
            ("free riders", |swarm| any(swarm, |host| host.role == Role::FreeRider)),
            ("honest ones that only take", |swarm| any(swarm, |host| !host.gives)),
            ("rate limits", |swarm| any(swarm, |host| host.limits.is_some())),
            ("selected files", |swarm| any(swarm, |host| !host.skips.is_empty())),
            ("no fast extension", |swarm| any(swarm, |host| !host.fast)),
            ("racks", |swarm| swarm.rack_link.is_some() && any(swarm, |host| host.rack == 1)),
            ("little room for peers", |swarm| swarm.max_peers <= swarm.hosts.len()),
            ("super-seeds", |swarm| swarm.policy.super_seed),
            ("sequential", |swarm| swarm.policy.order == Order::Sequential),
            ("random order", |swarm| swarm.policy.order == Order::Random),
        ];
        let swarms: Vec<Scenario> = (0..400).map(Scenario::random).collect();
        for (name, has) in traits {
            let count = swarms.iter().filter(|swarm| has(swarm)).count();
            assert!(count >= 4, "{name}: {count} of 400");
        }
    }
}
