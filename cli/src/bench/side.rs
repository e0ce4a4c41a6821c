//! `Side`: what one end of a transfer measured of itself. It travels as JSON: between the two hosts of `bench net`, from
//! the processes of `bench loopback`, and into the report.

use ringtide_engine::metrics::{ConnectionMetrics, Distribution, Metrics};
use ringtide_hasher::{Algorithm, Dispatcher, Kernel};
use serde::{Deserialize, Serialize};

use super::calibrate::Speeds;
use super::machine::{boot_id, machine};
use super::threads::ThreadTime;
use crate::parallel::cpus;

/// What one end of a transfer measured of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Side {
    /// `receiver` or `sender`; other benches have other words.
    pub(crate) role: String,
    /// How long it was measured.
    pub(crate) wall_s: f64,
    /// Payload bytes in that time.
    pub(crate) bytes: u64,
    /// CPU time of its process in that time, user and system.
    pub(crate) cpu_s: f64,
    pub(crate) threads: Vec<ThreadTime>,
    /// By name, in the order in which they are shown.
    pub(crate) distributions: Vec<Named>,
    /// None where it had no connection.
    pub(crate) tcp: Option<Tcp>,
    pub(crate) host: Host,
}

/// A distribution with its name, whose end is the unit: `_us` are microseconds, others are counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
}

/// What the kernel counted of the connections of a side, all together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tcp {
    pub(crate) connections: u64,
    /// The largest smoothed round-trip time.
    pub(crate) rtt_us: u32,
    pub(crate) retransmits: u64,
    /// Parts of the measured time, from 0 to 1, averaged over the connections: there was something to send or to be
    /// acknowledged,
    pub(crate) busy: f64,
    /// the other end's receive window was in the way,
    pub(crate) rwnd_limited: f64,
    /// the send buffer was too small.
    pub(crate) sndbuf_limited: f64,
}

/// Where a side ran, and what the machine can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) machine: String,
    /// Tells machines apart.
    pub(crate) boot_id: String,
    pub(crate) cpus: usize,
    pub(crate) io: String,
    /// What hashes where enough pieces wait to fill its lanes.
    pub(crate) hash_kernel: String,
    pub(crate) speeds: Speeds,
}

impl Host {
    /// This one, its speeds measured, which takes a moment.
    pub(crate) fn here(io: &str) -> Self {
        Self { speeds: Speeds::measure(), ..Self::unmeasured(io) }
    }

    /// This one, its speeds zero: for a process whose CPU time counts.
    pub(crate) fn unmeasured(io: &str) -> Self {
        Self {
            machine: machine(),
            boot_id: boot_id(),
            cpus: cpus(),
            io: io.to_owned(),
            hash_kernel: full_batch_kernel().to_string(),
            speeds: Speeds::default(),
        }
    }
}

impl Side {
    /// Several that moved and measured at the same time, as one. None of none.
    pub(crate) fn together(sides: &[Self]) -> Option<Self> {
        let tcp = sides.iter().filter_map(|side| side.tcp.clone()).reduce(|all, tcp| all.and(&tcp));
        let all = sides.iter().cloned().reduce(|mut all, side| {
            all.bytes += side.bytes;
            all.cpu_s += side.cpu_s;
            all.wall_s = all.wall_s.max(side.wall_s);
            all.threads.extend(side.threads);
            all
        })?;
        Some(Self { tcp, ..all })
    }

    /// Decimal gigabytes per second.
    pub(crate) fn gb_per_s(&self) -> f64 {
        if self.wall_s > 0.0 { self.gigabytes() / self.wall_s } else { 0.0 }
    }

    /// CPU-seconds per decimal gigabyte.
    pub(crate) fn per_gb(&self, cpu_s: f64) -> f64 {
        if self.bytes > 0 { cpu_s / self.gigabytes() } else { 0.0 }
    }

    /// The part of the measured time that so many seconds are.
    pub(crate) fn part(&self, seconds: f64) -> f64 {
        if self.wall_s > 0.0 { seconds / self.wall_s } else { 0.0 }
    }

    pub(crate) fn distribution(&self, name: &str) -> Option<&Named> {
        self.distributions.iter().find(|named| named.name == name && named.count > 0)
    }

    /// How many CPUs were busy on average with threads of that kind.
    pub(crate) fn busy(&self, kind: fn(&ThreadTime) -> bool) -> f64 {
        self.threads.iter().filter(|thread| kind(thread)).map(|thread| self.part(thread.cpu_s)).sum()
    }

    pub(crate) fn count(&self, kind: fn(&ThreadTime) -> bool) -> usize {
        self.threads.iter().filter(|thread| kind(thread)).count()
    }

    fn gigabytes(&self) -> f64 {
        self.bytes as f64 / 1e9
    }
}

impl Named {
    pub(crate) fn of(name: &str, values: &Distribution) -> Self {
        Self {
            name: name.to_owned(),
            count: values.count(),
            mean: values.mean(),
            p50: values.quantile(0.5),
            p90: values.quantile(0.9),
            p99: values.quantile(0.99),
            p99_9: values.quantile(0.999),
            max: values.max(),
        }
    }

    /// Those that have values.
    pub(crate) fn all_of(metrics: &Metrics) -> Vec<Self> {
        let named = metrics.distributions().map(|(name, values)| Self::of(name, values));
        named.into_iter().filter(|named| named.count > 0).collect()
    }
}

impl Tcp {
    /// Both, the parts averaged over all connections.
    fn and(self, other: &Self) -> Self {
        let (ours, theirs) = (self.connections as f64, other.connections as f64);
        let mean = |mine: f64, other: f64| (mine * ours + other * theirs) / (ours + theirs).max(1.0);
        Self {
            connections: self.connections + other.connections,
            rtt_us: self.rtt_us.max(other.rtt_us),
            retransmits: self.retransmits + other.retransmits,
            busy: mean(self.busy, other.busy),
            rwnd_limited: mean(self.rwnd_limited, other.rwnd_limited),
            sndbuf_limited: mean(self.sndbuf_limited, other.sndbuf_limited),
        }
    }

    /// Of connections whose figures were those of `before` when measuring began, `wall_s` seconds ago.
    pub(crate) fn of(now: &[ConnectionMetrics], before: &[ConnectionMetrics], wall_s: f64) -> Option<Self> {
        if now.is_empty() || wall_s <= 0.0 {
            return None;
        }
        let mut sum = Self { connections: now.len() as u64, ..Self::default() };
        let all_s = wall_s * now.len() as f64;
        let part = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e6 / all_s;
        for connection in now {
            let tcp = connection.tcp;
            let known = before.iter().find(|known| known.peer == connection.peer);
            let old = known.map(|known| known.tcp).unwrap_or_default();
            sum.rtt_us = sum.rtt_us.max(tcp.rtt_us);
            sum.retransmits += u64::from(tcp.retransmits.saturating_sub(old.retransmits));
            sum.busy += part(tcp.busy_us, old.busy_us);
            sum.rwnd_limited += part(tcp.rwnd_limited_us, old.rwnd_limited_us);
            sum.sndbuf_limited += part(tcp.sndbuf_limited_us, old.sndbuf_limited_us);
        }
        Some(sum)
    }
}

/// What hashes where enough pieces wait to fill its lanes.
pub(crate) fn full_batch_kernel() -> Kernel {
    let mix = Dispatcher::current().mix(Algorithm::Sha1, 32);
    mix.into_iter().max_by_key(|kernel| kernel.lanes()).unwrap_or(Kernel::Crate)
}

#[cfg(test)]
pub(crate) mod tests {
    use ringtide_engine::metrics::TcpInfo;

    use super::*;

    /// A side that moved so many gigabytes in ten seconds, its threads busy for these parts of it.
    pub(crate) fn side(role: &str, gigabytes: u64, threads: &[(&str, f64)]) -> Side {
        let thread = |&(name, busy): &(&str, f64)| ThreadTime {
            name: name.to_owned(),
            cpu_s: busy * 10.0,
            waited_s: 0.0,
        };
        Side {
            role: role.to_owned(),
            wall_s: 10.0,
            bytes: gigabytes * 1_000_000_000,
            cpu_s: threads.iter().map(|(_, busy)| busy * 10.0).sum(),
            threads: threads.iter().map(thread).collect(),
            distributions: Vec::new(),
            tcp: None,
            host: Host {
                machine: "a machine".to_owned(),
                boot_id: role.to_owned(),
                cpus: 8,
                io: "uring".to_owned(),
                hash_kernel: "avx512".to_owned(),
                speeds: Speeds { hash_gb_per_s: 10.0, copy_gb_per_s: 20.0 },
            },
        }
    }

    #[test]
    fn figures_are_of_the_measured_time() {
        let side =
            side("receiver", 20, &[("ringtide-0", 0.5), ("ringtide-1", 0.25), ("ringtide-hash-0", 0.1)]);
        assert_eq!((side.gb_per_s(), side.per_gb(side.cpu_s)), (2.0, 0.425));
        assert_eq!(side.busy(ThreadTime::is_shard), 0.75);
        assert_eq!((side.count(ThreadTime::is_shard), side.count(ThreadTime::is_hasher)), (2, 1));
    }

    #[test]
    fn a_side_survives_its_journey() {
        let mut side = side("sender", 3, &[("ringtide-0", 0.5)]);
        let mut values = Distribution::of_micros();
        (1..=100).for_each(|value| values.record(value));
        side.distributions.push(Named::of("piece_us", &values));
        side.tcp = Some(Tcp { connections: 1, busy: 0.5, ..Tcp::default() });
        let json = serde_json::to_string(&side).expect("is JSON");
        assert_eq!(serde_json::from_str::<Side>(&json).expect("is a side"), side);
        assert_eq!(side.distribution("piece_us").map(|named| (named.p50, named.max)), Some((50, 100)));
    }

    #[test]
    fn several_sides_are_judged_as_one() {
        let tcp = |connections, busy| Tcp { connections, busy, retransmits: 1, ..Tcp::default() };
        let first = Side { tcp: Some(tcp(1, 0.25)), ..side("sender", 3, &[("ringtide-0", 0.5)]) };
        let second = Side { tcp: Some(tcp(3, 0.75)), ..side("sender", 1, &[("ringtide-0", 0.95)]) };
        let idle = side("sender", 0, &[("ringtide-0", 0.0)]);
        let all = Side::together(&[first, second, idle]).expect("there are some");
        assert_eq!((all.bytes, all.cpu_s, all.threads.len()), (4_000_000_000, 14.5, 3));
        assert_eq!((all.wall_s, all.busy(ThreadTime::is_shard)), (10.0, 1.45));
        let tcp = all.tcp.expect("two had connections");
        assert_eq!((tcp.connections, tcp.busy, tcp.retransmits), (4, 0.625, 2));
        assert_eq!(Side::together(&[]), None);
    }

    #[test]
    fn tcp_is_counted_from_when_measuring_began() {
        let connection = |port, busy_us, retransmits| ConnectionMetrics {
            peer: ([127, 0, 0, 1], port).into(),
            tcp: TcpInfo { busy_us, retransmits, rtt_us: u32::from(port), ..TcpInfo::default() },
        };
        let before = [connection(1, 1_000_000, 5)];
        let now = [connection(1, 2_000_000, 7), connection(2, 1_000_000, 1)];
        let tcp = Tcp::of(&now, &before, 2.0).expect("there are connections");
        assert_eq!((tcp.connections, tcp.retransmits, tcp.rtt_us, tcp.busy), (2, 3, 2, 0.5));
        assert_eq!(Tcp::of(&[], &before, 2.0), None);
    }
}
