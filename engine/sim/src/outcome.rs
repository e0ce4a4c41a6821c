//! How a swarm went: who was done when, and what it cost. Plays nothing and checks nothing. All figures are integers,
//! so that they are the same everywhere.

use std::fmt;

use ringtide_proto::layout::PieceIndex;
use ringtide_proto::time::{Duration, Instant};

use crate::scenario::{HostSpec, Role, Scenario};
use crate::world::{Actor, World};

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
    /// What each honest host that lacked something, and stayed, took from joining until it had everything: the fastest
    /// first.
    pub completions: Vec<Duration>,
    /// What the fastest swarm there can be would take, see [`bound`].
    pub bound: Duration,
    /// Jain's index of the rates at which they completed, in thousandths: 1,000 where all are equal.
    pub fairness: u32,
    /// Bytes of blocks that left the honest hosts that had everything when they joined.
    pub seed_uploaded: u64,
    /// The same at the time when each piece was first on the disk of somebody else; none where it never was.
    pub first_copy_uploaded: Option<u64>,
    /// Bytes of blocks that went from one rack to another.
    pub crossed: u64,
    /// Bytes of the content.
    pub content_len: u64,
}

impl Outcome {
    /// The time within which so many of a hundred completed; zero where nobody had to.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.completions.len() * percent).div_ceil(100);
        self.completions.get(rank.saturating_sub(1)).copied().unwrap_or(Duration::ZERO)
    }

    /// A time as a multiple of the bound, in thousandths.
    pub fn against_bound(&self, time: Duration) -> u64 {
        (time.as_micros() * 1_000 / self.bound.as_micros().max(1)) as u64
    }

    /// Bytes as copies of the content, in thousandths.
    pub fn copies(&self, bytes: u64) -> u64 {
        (u128::from(bytes) * 1_000 / u128::from(self.content_len.max(1))) as u64
    }
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

/// How far a swarm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// In virtual time.
    pub now: Duration,
    /// How many things happened.
    pub steps: u64,
    /// Of the pieces that all who have to want together, those that are there, in thousandths.
    pub done: u32,
}

/// What is noted while a swarm is played.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) crossed: u64,
    pub(crate) bans: u32,
    /// For each host that has to complete, when it did.
    done_at: Vec<Option<Instant>>,
    /// Hosts that have to complete and did not yet.
    missing: usize,
    /// Pieces that those who have to complete want, and those that they got.
    wanted: u64,
    got: u64,
    /// Which pieces are on the disk of somebody who had not everything from the start.
    spread: Vec<bool>,
    not_spread: usize,
    first_copy_uploaded: Option<u64>,
}

impl Record {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let pieces = scenario.layout.piece_count();
        let lacks = |host: &HostSpec| match &host.role {
            Role::Honest { has, .. } => {
                let wanted = |piece: &u32| !has.contains(piece) && !host.skips.contains(piece);
                (0..pieces).filter(wanted).count() as u64
            }
            _ => 0,
        };
        Self {
            crossed: 0,
            bans: 0,
            done_at: vec![None; scenario.hosts.len()],
            missing: scenario.hosts.iter().filter(|host| has_to_complete(host)).count(),
            wanted: scenario.hosts.iter().filter(|host| has_to_complete(host)).map(lacks).sum(),
            got: 0,
            spread: vec![false; pieces as usize],
            not_spread: pieces as usize,
            first_copy_uploaded: None,
        }
    }

    pub(crate) const fn all_are_done(&self) -> bool {
        self.missing == 0
    }

    pub(crate) fn progress(&self, now: Instant, steps: u64) -> Progress {
        let done = (self.got * 1_000 / self.wanted.max(1)) as u32;
        Progress { now: now.since(Instant::ZERO), steps, done }
    }
}

impl World<'_> {
    /// The host may have everything that it wants now.
    pub(crate) fn note_completion(&mut self, host: usize) {
        let Actor::Node(node) = &self.hosts[host].actor else { return };
        let done_at = &mut self.record.done_at[host];
        if done_at.is_none() && node.pieces.is_finished() && has_to_complete(&self.scenario.hosts[host]) {
            *done_at = Some(self.now);
            self.record.missing -= 1;
        }
    }

    /// The host is gone for a while, and has to complete again.
    pub(crate) fn note_absence(&mut self, host: usize) {
        if self.record.done_at[host].take().is_some() {
            self.record.missing += 1;
        }
    }

    /// The piece is on the host's disk, and right.
    pub(crate) fn note_piece(&mut self, host: usize, piece: PieceIndex) {
        self.record.got += u64::from(has_to_complete(&self.scenario.hosts[host]));
        if std::mem::replace(&mut self.record.spread[piece.index()], true) {
            return;
        }
        self.record.not_spread -= 1;
        if self.record.not_spread == 0 {
            self.record.first_copy_uploaded = Some(self.seed_uploaded());
        }
    }

    pub(crate) fn outcome(&self, took: Duration) -> Outcome {
        let mut completions: Vec<Duration> = (0..self.hosts.len())
            .filter(|&host| is_leecher(self.scenario, &self.scenario.hosts[host]))
            .filter_map(|host| {
                let joined = Instant::ZERO + self.scenario.hosts[host].joins_at;
                Some(self.record.done_at[host]?.since(joined))
            })
            .collect();
        completions.sort_unstable();
        Outcome {
            took,
            steps: self.steps,
            trace_hash: self.trace_hash.value(),
            wasted: self.wasted(),
            bans: self.record.bans,
            fairness: fairness(&completions),
            completions,
            bound: bound(self.scenario),
            seed_uploaded: self.seed_uploaded(),
            first_copy_uploaded: self.record.first_copy_uploaded,
            crossed: self.record.crossed,
            content_len: self.scenario.layout.total_len(),
        }
    }

    fn seed_uploaded(&self) -> u64 {
        let hosts = self.hosts.iter().zip(&self.scenario.hosts);
        hosts.filter(|(_, spec)| is_seed(self.scenario, spec)).map(|(host, _)| host.uploaded).sum()
    }
}

/// Honest, and there to the end.
pub(crate) fn has_to_complete(host: &HostSpec) -> bool {
    host.is_honest() && (host.leaves.is_none() || host.returns.is_some())
}

fn is_seed(scenario: &Scenario, host: &HostSpec) -> bool {
    let all = scenario.layout.piece_count() as usize;
    host.is_honest() && matches!(&host.role, Role::Honest { has, .. } if has.len() == all)
}

fn is_leecher(scenario: &Scenario, host: &HostSpec) -> bool {
    has_to_complete(host) && !is_seed(scenario, host)
}

/// The shortest time in which n honest hosts that lack everything can get it (J. Mundinger, R. Weber, G. Weiss, "Optimal
/// scheduling of peer-to-peer file dissemination", 2008; R. Kumar, K. Ross, "Peer-assisted file distribution: the minimum
/// distribution time", 2006): the seeds must send each byte once, F/u_seed; the slowest must receive it, F/d_min; and all that
/// is received must be sent by somebody, n F/(u_seed + sum of u). With a link between racks, everything must cross it once where
/// all seeds stand on one side. Only honest hosts count; those that come late are taken to be there from the start.
pub fn bound(scenario: &Scenario) -> Duration {
    let len = scenario.layout.total_len();
    let (mut seeds, mut all_up, mut slowest, mut leechers) = (0, 0, u64::MAX, 0);
    let (mut seed_racks, mut other_racks) = (Vec::new(), Vec::new());
    for host in &scenario.hosts {
        if is_seed(scenario, host) {
            (seeds, all_up) = (seeds + host.up, all_up + host.up);
            seed_racks.push(host.rack);
        } else if is_leecher(scenario, host) {
            (all_up, slowest, leechers) = (all_up + host.up, slowest.min(host.down), leechers + 1);
            other_racks.push(host.rack);
        }
    }
    let trunk = scenario.rack_link.filter(|_| other_racks.iter().any(|rack| !seed_racks.contains(rack)));
    let times = [(1, seeds), (1, slowest), (leechers, all_up), (1, trunk.unwrap_or(u64::MAX))];
    let time = |(copies, rate): (u64, u64)| {
        let micros = u128::from(copies) * u128::from(len) * 1_000_000 / u128::from(rate.max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    };
    if leechers == 0 { Duration::ZERO } else { times.map(time).into_iter().max().unwrap_or(Duration::ZERO) }
}

/// R. Jain, D. Chiu, W. Hawe, "A quantitative measure of fairness", 1984: of rates x, (sum x)^2 / (n sum x^2).
fn fairness(completions: &[Duration]) -> u32 {
    // Pieces of content in 10^12 microseconds: fine enough, and squares of sums of 100,000 of them fit.
    let rate = |time: &Duration| 1_000_000_000_000 / time.as_micros().max(1);
    let sum: u128 = completions.iter().map(rate).sum();
    let squares: u128 = completions.iter().map(|time| rate(time) * rate(time)).sum();
    (sum * sum * 1_000 / (squares * completions.len() as u128).max(1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostSpec;

    const SECOND: Duration = Duration::from_secs(1);

    fn line(up: u64, down: u64, host: HostSpec) -> HostSpec {
        HostSpec { up, down, ..host }
    }

    /// One seed, and content of 655,360 bytes.
    fn swarm(seed: u64, leechers: &[(u64, u64)]) -> Scenario {
        let mut hosts = vec![line(seed, seed, HostSpec::honest(0..10))];
        hosts.extend(leechers.iter().map(|&(up, down)| line(up, down, HostSpec::honest([]))));
        Scenario::of(1, 10, 1, hosts)
    }

    #[test]
    fn the_bound_is_the_narrowest_of_three() {
        assert_eq!(bound(&swarm(65_536, &[(655_360, 655_360); 3])), SECOND * 10, "the seed");
        assert_eq!(
            bound(&swarm(655_360, &[(655_360, 655_360), (655_360, 131_072)])),
            SECOND * 5,
            "the slowest"
        );
        assert_eq!(bound(&swarm(131_072, &[(65_536, 655_360); 8])), SECOND * 8, "all lines up together");
        assert_eq!(bound(&swarm(1, &[])), Duration::ZERO, "nobody wants anything");
    }

    #[test]
    fn the_bound_counts_honest_hosts_and_the_link_between_racks() {
        let mut scenario = swarm(655_360, &[(655_360, 655_360); 2]);
        assert_eq!(bound(&scenario), SECOND);
        scenario.hosts.push(line(1, 1, HostSpec::new(Role::FreeRider)));
        scenario.hosts.push(HostSpec { gives: false, ..line(1, 1, HostSpec::honest([])) });
        assert_eq!(bound(&scenario), SECOND);
        (scenario.hosts[1].rack, scenario.rack_link) = (1, Some(65_536));
        assert_eq!(bound(&scenario), SECOND * 10);
        scenario.hosts[0].rack = 1;
        scenario.hosts[2].rack = 1;
        assert_eq!(bound(&scenario), SECOND, "nobody on the other side wants anything");
    }

    #[test]
    fn fairness_is_jains() {
        assert_eq!(fairness(&[SECOND; 7]), 1_000);
        // Rates of 3 and 1: 16 / (2 * 10).
        assert_eq!(fairness(&[SECOND, SECOND * 3]), 799);
        assert_eq!(fairness(&[]), 0);
    }

    #[test]
    fn percentiles_are_those_of_nearest_rank() {
        let mut outcome = crate::run(&swarm(1_000_000, &[(1_000_000, 1_000_000)])).unwrap();
        outcome.completions = (1..=200).map(|n| SECOND * n).collect();
        assert_eq!([0, 50, 99, 100].map(|p| outcome.percentile(p)), [1, 100, 198, 200].map(|n| SECOND * n));
        outcome.completions.truncate(1);
        assert_eq!(outcome.percentile(99), SECOND);
        (outcome.bound, outcome.content_len) = (SECOND * 2, 1_000);
        assert_eq!((outcome.against_bound(SECOND * 3), outcome.copies(1_050)), (1_500, 1_050));
    }
}
