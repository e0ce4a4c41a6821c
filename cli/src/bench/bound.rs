//! `Bound`: what a transfer cannot be faster than, by what the machine and the link can do at best.
//!
//! Plain arithmetic on a few measured speeds, each said with its reason: so that it can be checked and repeated.

use serde::Serialize;

use super::calibrate::Speeds;
use super::link::Link;
use crate::units::count;

/// What a transfer cannot be faster than.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bound {
    pub(crate) name: &'static str,
    /// Decimal gigabytes of payload per second.
    pub(crate) gb_per_s: f64,
    /// How it was found.
    pub(crate) why: String,
}

/// What bounds are made of.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Of one core of the receiver.
    pub(crate) speeds: Speeds,
    /// Of the receiver.
    pub(crate) cpus: usize,
    /// Shards of the receiver that have a connection to carry.
    pub(crate) shards: usize,
    pub(crate) hash_threads: usize,
    /// Whether pieces are written to files, which is one copy more.
    pub(crate) copies_to_files: bool,
    /// Whether the sender uses the same CPUs.
    pub(crate) shares_machine: bool,
    /// What is between the two, where that is known.
    pub(crate) link: Option<Link>,
}

/// Copies of each byte that a receiving shard makes: out of the socket, and into the piece.
const SHARD_COPIES: f64 = 2.0;

/// All bounds that are known, the lowest first.
pub(crate) fn bounds(limits: &Limits) -> Vec<Bound> {
    let Speeds { hash_gb_per_s: hash, copy_gb_per_s: copy } = limits.speeds;
    let threads = |count: usize| count.clamp(1, limits.cpus.max(1)) as f64;
    let (hashers, shards) = (threads(limits.hash_threads), threads(limits.shards));
    let copies = SHARD_COPIES
        + f64::from(u8::from(limits.copies_to_files))
        + f64::from(u8::from(limits.shares_machine));
    let cpu_s_per_gb = copies / copy + 1.0 / hash;
    let mut bounds = vec![
        Bound {
            name: "hashing",
            gb_per_s: hashers * hash,
            why: format!("{}, each hashes {hash:.1} GB/s from the L2 cache", count(hashers as u64, "core")),
        },
        Bound {
            name: "shards",
            gb_per_s: shards * copy / SHARD_COPIES,
            why: format!(
                "{} with a connection, each copies every byte twice, a core {copy:.1} GB/s in the L2 cache",
                count(shards as u64, "shard")
            ),
        },
        Bound {
            name: "cpus",
            gb_per_s: limits.cpus as f64 / cpu_s_per_gb,
            why: format!(
                "{} CPUs{} copy each byte {copies} times and hash it: {cpu_s_per_gb:.3} CPU-s/GB at best",
                limits.cpus,
                if limits.shares_machine { ", which both ends share," } else { "" },
            ),
        },
    ];
    bounds.extend(limits.link.as_ref().map(|link| Bound {
        name: "link",
        gb_per_s: link.payload_gb_per_s(),
        why: link.to_string(),
    }));
    bounds.sort_by(|a, b| a.gb_per_s.total_cmp(&b.gb_per_s));
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            speeds: Speeds { hash_gb_per_s: 10.0, copy_gb_per_s: 40.0 },
            cpus: 2,
            shards: 1,
            hash_threads: 4,
            copies_to_files: false,
            shares_machine: false,
            link: None,
        }
    }

    fn named(limits: &Limits) -> Vec<(&'static str, f64)> {
        bounds(limits).iter().map(|bound| (bound.name, (bound.gb_per_s * 100.0).round() / 100.0)).collect()
    }

    #[test]
    fn the_lowest_comes_first_and_threads_need_cpus() {
        assert_eq!(named(&limits()), [("cpus", 13.33), ("hashing", 20.0), ("shards", 20.0)]);
        assert_eq!(named(&Limits { hash_threads: 1, ..limits() })[0], ("hashing", 10.0));
    }

    #[test]
    fn sharing_and_files_cost_a_copy_each() {
        let cpus = |limits: &Limits| {
            named(limits).into_iter().find(|(name, _)| *name == "cpus").map(|(_, rate)| rate)
        };
        assert_eq!(cpus(&Limits { shares_machine: true, ..limits() }), Some(11.43));
        assert_eq!(cpus(&Limits { shares_machine: true, copies_to_files: true, ..limits() }), Some(10.0));
    }

    #[test]
    fn a_slow_link_is_the_bound() {
        let link = Link { interface: "eth0".to_owned(), mbit_per_s: 1000, mtu: 1500, is_ipv6: false };
        let bounds = bounds(&Limits { link: Some(link), ..limits() });
        assert_eq!(bounds[0].name, "link");
        assert!((bounds[0].gb_per_s - 0.1177).abs() < 0.0001, "{}", bounds[0].gb_per_s);
    }
}
