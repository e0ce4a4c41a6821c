//! Swarms of the kind that images are sent out in: some seeds, and many hosts that want everything at about the same
//! time, some of which may be slow, late, selfish or worse. Makes scenarios; plays nothing.

use ringtide_proto::layout::{LayoutError, PieceLayout};
use ringtide_proto::picker::Order;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::Duration;
use ringtide_proto::torrent::{Policy, Rule, Seeding};

use crate::scenario::{Departure, Disk, HostSpec, RACKS, Role, Scenario};

/// Pieces that a node may have in assembly: 128 MiB of 2 MiB each.
const MEMORY: u32 = 64;

/// Bytes a second that a slow seed gives.
const SLOW: u64 = 100_000;

/// Hosts come within this time.
const JOIN_WITHIN: Duration = Duration::from_millis(100);

/// A poisoner makes one block in so many wrong.
const POISON: u32 = 10;

/// A flash crowd.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Decides everything that is left to chance.
    pub rng_seed: u64,
    /// Bytes of the content.
    pub len: u64,
    /// Pieces that it has, as it is modelled.
    pub pieces: u32,
    /// Blocks to a piece.
    pub blocks: u32,
    /// Hosts that have everything.
    pub seeds: usize,
    /// Hosts that have everything and give 100 kB/s each.
    pub slow_seeds: usize,
    /// Hosts that have nothing, whatever they do.
    pub hosts: usize,
    /// Bytes a second that each can send, and receive.
    pub rate: u64,
    /// The same of each seed.
    pub seed_rate: u64,
    /// Hosts have lines of 10 to 100 % of the rate: which way.
    pub mixed: Mixed,
    /// From each host to the middle of the net.
    pub latency: Duration,
    /// How many in a thousand hosts take and give nothing.
    pub free_riders: usize,
    /// How many in a thousand hosts claim everything, and give one wrong block in ten.
    pub poisoners: usize,
    /// How many in a thousand hosts claim everything and give nothing.
    pub liars: usize,
    /// How many in a thousand hosts go while the swarm is at it, half of them without a word; as many others come.
    pub churn: usize,
    /// How many in a thousand hosts come one by one, in the time that the content takes at the rate.
    pub late: usize,
    /// The hosts stand in so many racks in turn.
    pub racks: u8,
    /// The link of each rack to the others has so many bytes a second, each way.
    pub rack_link: Option<u64>,
    /// Pieces that a node may have in assembly.
    pub memory: u32,
    /// How all nodes choose.
    pub policy: Policy,
}

/// Which lines differ from host to host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixed {
    /// None.
    Equal,
    /// Those up.
    Up,
    /// Both, alike.
    Both,
}

/// Crowds that have a name, and what they show.
pub const NAMED: [(&str, &str); 32] = [
    ("crowd-10", "10 hosts from one seed, lines of 1 Gbit/s"),
    ("crowd-100", "100 hosts"),
    ("crowd-1000", "1,000 hosts"),
    ("slow-seeds", "one host with memory for four pieces, from a seed of 1 Gbit/s and 8 of 100 kB/s"),
    ("mixed-100", "lines of 100 Mbit/s to 1 Gbit/s, both ways alike"),
    ("mixed-up-100", "lines up of 100 Mbit/s to 1 Gbit/s, down all of 1 Gbit/s"),
    ("churn-100", "30 % go on the way and as many come"),
    ("late-100", "30 % come late"),
    ("late-slow-100", "30 % come late, on lines of 100 Mbit/s"),
    ("slow-seed-100", "the seed has a quarter of the others' rate"),
    ("free-riders-10", "10 % of 100 give nothing"),
    ("free-riders-30", "30 % of 100 give nothing"),
    ("free-riders-50", "50 % of 100 give nothing"),
    ("poisoners-10", "10 % of 100 give wrong blocks"),
    ("liars-30", "30 % of 100 claim everything and give nothing; the seed has a quarter of the others' rate"),
    ("huge-pieces-100", "64 pieces of 64 MiB"),
    ("small-pieces-100", "16,384 pieces of 256 KiB"),
    ("super-seed-100", "100 hosts, and a super-seed"),
    ("crowd-100-turns", "100 hosts, seeds serve in turn"),
    ("slow-seed-turns", "the seed has a quarter of the rate, and seeds serve in turn"),
    ("mixed-up-turns", "lines up of 100 Mbit/s to 1 Gbit/s, and seeds serve in turn"),
    ("racks-100", "two racks, with a link of 2 Gbit/s to each other"),
    ("racks-100-lan", "the same, and hosts mind racks"),
    ("racks-narrow", "two racks, with a link of 500 Mbit/s to each other"),
    ("racks-narrow-lan", "the same, and hosts mind racks"),
    ("racks-five", "five racks, each with a link of 2 Gbit/s to the others"),
    ("racks-five-lan", "the same, and hosts mind racks"),
    ("crowd-100-lan", "100 hosts of one rack that mind racks"),
    ("sequential-100", "in order, not rarest first"),
    ("random-100", "at random, not rarest first"),
    ("sequential-10", "in order, not rarest first, 10 hosts"),
    ("random-10", "at random, not rarest first, 10 hosts"),
];

/// Crowds to be played without one of the rules, each of those in which it matters or should.
pub const ABLATIONS: [(&str, Rule); 15] = [
    ("slow-seeds", Rule::TakeOver),
    ("crowd-100", Rule::StrictPriority),
    ("crowd-100", Rule::Suggestions),
    ("free-riders-30", Rule::Suggestions),
    ("crowd-100", Rule::MoreSlots),
    ("mixed-up-100", Rule::MoreSlots),
    ("crowd-100", Rule::FreeSlots),
    ("free-riders-30", Rule::TitForTat),
    ("mixed-up-100", Rule::TitForTat),
    ("late-slow-100", Rule::RandomFirst),
    ("late-slow-100", Rule::Newcomers),
    ("late-slow-100", Rule::AllowedFast),
    ("liars-30", Rule::Endgame),
    ("liars-30", Rule::AntiSnubbing),
    ("poisoners-10", Rule::SmartBan),
];

impl Default for Crowd {
    /// 4 GiB in 2,000 pieces to 100 hosts, on lines of 1 Gbit/s: 34 s.
    fn default() -> Self {
        let rate = 125_000_000;
        Self {
            rng_seed: 1,
            len: 4 << 30,
            pieces: 2_000,
            blocks: 4,
            seeds: 1,
            slow_seeds: 0,
            hosts: 100,
            rate,
            seed_rate: rate,
            mixed: Mixed::Equal,
            latency: Duration::from_micros(250),
            free_riders: 0,
            poisoners: 0,
            liars: 0,
            churn: 0,
            late: 0,
            racks: 2,
            rack_link: None,
            memory: MEMORY,
            policy: Policy::default(),
        }
    }
}

impl Crowd {
    /// The one of [`NAMED`] that is called so.
    pub fn named(name: &str) -> Option<Self> {
        let base = Self::default();
        let ordered = |hosts, order| {
            let mut crowd = Self { hosts, ..base.clone() };
            crowd.policy.order = order;
            crowd
        };
        let turns = Policy { seeding: Seeding::RoundRobin, ..base.policy };
        let minding = Policy { lan: Some(RACKS), ..base.policy };
        Some(match name {
            "crowd-10" => Self { hosts: 10, ..base },
            "crowd-100" => base,
            "crowd-1000" => Self { hosts: 1_000, ..base },
            "slow-seeds" => Self { hosts: 1, slow_seeds: 8, memory: 4, ..base },
            "mixed-100" => Self { mixed: Mixed::Both, ..base },
            "mixed-up-100" => Self { mixed: Mixed::Up, ..base },
            "churn-100" => Self { churn: 300, ..base },
            "late-100" => Self { late: 300, ..base },
            "late-slow-100" => Self { late: 300, rate: base.rate / 10, seed_rate: base.rate / 10, ..base },
            "slow-seed-100" => Self { seed_rate: base.rate / 4, ..base },
            "free-riders-10" => Self { free_riders: 100, ..base },
            "free-riders-30" => Self { free_riders: 300, ..base },
            "free-riders-50" => Self { free_riders: 500, ..base },
            "poisoners-10" => Self { poisoners: 100, ..base },
            "liars-30" => Self { liars: 300, seed_rate: base.rate / 4, ..base },
            "huge-pieces-100" => Self { pieces: 64, blocks: 16, ..base },
            "small-pieces-100" => Self { pieces: 16_384, blocks: 1, ..base },
            "super-seed-100" => Self { policy: Policy { super_seed: true, ..base.policy }, ..base },
            "crowd-100-turns" => Self { policy: turns, ..base },
            "slow-seed-turns" => Self { seed_rate: base.rate / 4, policy: turns, ..base },
            "mixed-up-turns" => Self { mixed: Mixed::Up, policy: turns, ..base },
            "racks-100" => Self { rack_link: Some(2 * base.rate), ..base },
            "racks-100-lan" => Self { rack_link: Some(2 * base.rate), policy: minding, ..base },
            "racks-narrow" => Self { rack_link: Some(base.rate / 2), ..base },
            "racks-narrow-lan" => Self { rack_link: Some(base.rate / 2), policy: minding, ..base },
            "racks-five" => Self { racks: 5, rack_link: Some(2 * base.rate), ..base },
            "racks-five-lan" => Self { racks: 5, rack_link: Some(2 * base.rate), policy: minding, ..base },
            "crowd-100-lan" => Self { policy: minding, ..base },
            "sequential-100" => ordered(100, Order::Sequential),
            "random-100" => ordered(100, Order::Random),
            "sequential-10" => ordered(10, Order::Sequential),
            "random-10" => ordered(10, Order::Random),
            _ => return None,
        })
    }

    /// As a scenario: the seeds come first, the others after them.
    ///
    /// # Errors
    /// Where the content cannot be divided so.
    pub fn scenario(&self) -> Result<Scenario, LayoutError> {
        let piece_len = u32::try_from(self.len.div_ceil(u64::from(self.pieces.max(1)))).unwrap_or(u32::MAX);
        let block_len = piece_len.div_ceil(self.blocks.max(1));
        let layout = PieceLayout::with_block_len(self.len, piece_len, block_len)?;
        let mut rng = Rng::new(self.rng_seed);
        let all = (0..layout.piece_count()).collect();
        let seed = HostSpec { up: self.seed_rate, down: self.seed_rate, ..self.host(all) };
        let slow = HostSpec { up: SLOW, ..seed.clone() };
        let mut hosts = [vec![seed; self.seeds], vec![slow; self.slow_seeds]].concat();
        self.add_hosts(&mut hosts, &mut rng);
        if self.rack_link.is_some() {
            hosts
                .iter_mut()
                .enumerate()
                .for_each(|(id, host)| host.rack = (id % usize::from(self.racks.max(1))) as u8);
        }
        Ok(Scenario {
            layout,
            policy: self.policy,
            channel_delay: Duration::from_micros(200),
            rack_link: self.rack_link,
            deadline: self.content_time(self.rate.min(self.seed_rate)) * 200 + Duration::from_secs(3_600),
            max_peers: 60,
            tracker_names: 25,
            checks: false,
            parts: false,
            gather: true,
            most_steps: u64::MAX,
            ..Scenario::of(rng.bits(), 1, 1, hosts)
        })
    }

    fn host(&self, has: Vec<u32>) -> HostSpec {
        let disk =
            Disk { verify: Duration::from_millis(2), write: Duration::from_millis(5), fails_one_in: 0 };
        HostSpec {
            up: self.rate,
            down: self.rate,
            latency: self.latency,
            ..HostSpec::new(Role::Honest { shards: 1, has, checks: false, budget: self.memory, disk })
        }
    }

    /// Villains and those that come late or go are spread evenly among the others, whatever their rates.
    fn add_hosts(&self, hosts: &mut Vec<HostSpec>, rng: &mut Rng) {
        let shares = [self.free_riders, self.poisoners, self.churn, self.late, self.liars];
        let mut kinds: Vec<usize> = Vec::new();
        for (kind, share) in shares.into_iter().enumerate() {
            kinds.extend(std::iter::repeat_n(kind, self.hosts * share / 1_000));
        }
        kinds.resize(self.hosts.max(kinds.len()), shares.len());
        rng.shuffle(&mut kinds);
        for (number, kind) in kinds.into_iter().enumerate() {
            let host = self.with_rate(number, self.host(Vec::new()));
            let host = HostSpec { joins_at: some_time(JOIN_WITHIN, rng), ..host };
            let content_time = self.content_time(self.rate);
            match kind {
                0 => hosts.push(HostSpec { gives: false, ..host }),
                1 => hosts.push(HostSpec { role: Role::Poisoner(POISON), ..host }),
                2 => {
                    let how = if rng.one_in(2) { Departure::Vanishes } else { Departure::Leaves };
                    let leaves = Some((some_time(content_time, rng), how));
                    hosts.push(HostSpec { leaves, ..host.clone() });
                    hosts.push(HostSpec { joins_at: some_time(content_time, rng), ..host });
                }
                3 => hosts.push(HostSpec { joins_at: some_time(content_time, rng), ..host }),
                4 => hosts.push(HostSpec { role: Role::Liar, ..host }),
                _ => hosts.push(host),
            }
        }
    }

    fn with_rate(&self, number: usize, host: HostSpec) -> HostSpec {
        let rate = self.rate / 10 * (1 + number as u64 % 10);
        match self.mixed {
            Mixed::Equal => host,
            Mixed::Up => HostSpec { up: rate, ..host },
            Mixed::Both => HostSpec { up: rate, down: rate, ..host },
        }
    }

    /// How long the content takes at that rate.
    fn content_time(&self, rate: u64) -> Duration {
        Duration::from_millis(self.len.saturating_mul(1_000) / rate.max(1))
    }
}

fn some_time(within: Duration, rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.bits() % (within.as_micros() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_that_of_a_crowd() {
        for (name, _) in NAMED {
            let crowd = Crowd::named(name).unwrap_or_else(|| panic!("{name}"));
            let scenario = crowd.scenario().unwrap();
            assert!(scenario.layout.piece_count().abs_diff(crowd.pieces) <= 8, "{name}");
            assert_eq!(
                scenario.hosts.len(),
                crowd.seeds + crowd.slow_seeds + crowd.hosts + crowd.hosts * crowd.churn / 1_000
            );
        }
        assert!(Crowd::named("crowd").is_none());
    }

    #[test]
    fn shares_are_those_that_were_asked_for() {
        let crowd = Crowd { free_riders: 300, poisoners: 100, mixed: Mixed::Both, ..Crowd::default() };
        let hosts = crowd.scenario().unwrap().hosts;
        assert_eq!(hosts.iter().filter(|host| !host.gives).count(), 30);
        assert_eq!(hosts.iter().filter(|host| host.role.poisons()).count(), 10);
        assert_eq!(hosts[1..].iter().map(|host| host.up).min(), Some(crowd.rate / 10));
        assert_eq!(hosts.iter().map(|host| host.up).max(), Some(crowd.rate));
    }
}
