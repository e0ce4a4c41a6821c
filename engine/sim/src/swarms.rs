//! Swarms of the kind that images are sent out in: some seeds, many hosts that want everything at about the same time.
//! Makes scenarios; plays nothing.

use ringtide_proto::layout::{LayoutError, PieceLayout};
use ringtide_proto::rng::Rng;
use ringtide_proto::time::Duration;
use ringtide_proto::torrent::Policy;

use crate::scenario::{Disk, HostSpec, Role, Scenario};

/// Pieces that a node may have in assembly: 128 MiB of 2 MiB each.
const BUDGET: u32 = 64;

/// Hosts come within this time.
const JOIN_WITHIN: Duration = Duration::from_millis(100);

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
    /// Hosts that have nothing, whatever they do.
    pub hosts: usize,
    /// Bytes a second that each can send, and receive.
    pub rate: u64,
    /// From each host to the middle of the net.
    pub latency: Duration,
    /// How all nodes choose.
    pub policy: Policy,
}

impl Default for Crowd {
    /// 4 GiB in 2,000 pieces, on lines of 1 Gbit/s: 34 s.
    fn default() -> Self {
        Self {
            rng_seed: 1,
            len: 4 << 30,
            pieces: 2_000,
            blocks: 4,
            seeds: 1,
            hosts: 100,
            rate: 125_000_000,
            latency: Duration::from_micros(250),
            policy: Policy::default(),
        }
    }
}

impl Crowd {
    /// As a scenario: the seeds come first, the others after them.
    ///
    /// # Errors
    /// Where the content cannot be divided so.
    pub fn scenario(&self) -> Result<Scenario, LayoutError> {
        let piece_len = u32::try_from(self.len.div_ceil(u64::from(self.pieces.max(1)))).unwrap_or(u32::MAX);
        let block_len = piece_len.div_ceil(self.blocks.max(1));
        let layout = PieceLayout::with_block_len(self.len, piece_len, block_len)?;
        let mut rng = Rng::new(self.rng_seed);
        let disk =
            Disk { verify: Duration::from_millis(2), write: Duration::from_millis(5), fails_one_in: 0 };
        let host = |has: Vec<u32>| HostSpec {
            up: self.rate,
            down: self.rate,
            latency: self.latency,
            ..HostSpec::new(Role::Honest { shards: 1, has, checks: false, budget: BUDGET, disk })
        };
        let seed = host((0..layout.piece_count()).collect());
        let mut hosts = vec![seed; self.seeds];
        let within = JOIN_WITHIN.as_micros() as usize;
        hosts.extend((0..self.hosts).map(|_| {
            let joins_at = Duration::from_micros(rng.below(within) as u64);
            HostSpec { joins_at, ..host(Vec::new()) }
        }));
        Ok(Scenario {
            layout,
            policy: self.policy,
            channel_delay: Duration::from_micros(200),
            max_peers: 60,
            tracker_names: 25,
            checks: false,
            parts: false,
            most_steps: u64::MAX,
            ..Scenario::of(rng.bits(), 1, 1, hosts)
        })
    }
}
