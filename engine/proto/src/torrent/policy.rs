//! Where a torrent has a choice, what it does: the settings of picker and choker. Each has a default that the
//! simulator shows to be the best; the others are there to be measured against it, or because a user asks.

use std::net::IpAddr;

use super::Rules;
use crate::picker::Order;

/// How a torrent chooses. All its shards and its core have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which piece to begin next.
    pub order: Order,
    /// A seed that is the only one tells each peer of one piece at a time, until all are elsewhere (BEP 16). For whoever
    /// has everything at the start.
    pub super_seed: bool,
    /// Hosts of one fleet, which stand in racks: each piece is to come into a rack about once. None: all are alike.
    pub lan: Option<Lan>,
    /// Whom to serve once we have everything.
    pub seeding: Seeding,
    /// Which rules it follows.
    pub rules: Rules,
}

/// Whom a seed serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seeding {
    /// Whoever passes on what it gets; where nobody does, whoever takes the most (BEP 3).
    #[default]
    ByRate,
    /// Everybody in turn, who waited longest first: libtorrent's default (its `seed_choking_algorithm`), so that all get the
    /// same. Here to be measured against the other: see the simulator's tables.
    RoundRobin,
}

/// How it is known who stands in our rack: each rack has a subnet of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lan {
    /// Bits of an IPv4 address that hosts of a rack share.
    pub v4_prefix: u8,
    /// The same of an IPv6 address.
    pub v6_prefix: u8,
}

impl Default for Lan {
    /// Subnets of the usual sizes, /24 and /64.
    fn default() -> Self {
        Self { v4_prefix: 24, v6_prefix: 64 }
    }
}

impl Lan {
    /// Whether the two addresses are of the same subnet.
    pub fn is_near(self, a: IpAddr, b: IpAddr) -> bool {
        match (a.to_canonical(), b.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let differ = u128::from(a.to_bits() ^ b.to_bits()) << 96;
                differ.leading_zeros() >= u32::from(self.v4_prefix)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.v6_prefix)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_told_apart_by_their_prefix() {
        let near = |lan: Lan, a: &str, b: &str| lan.is_near(a.parse().unwrap(), b.parse().unwrap());
        let usual = Lan::default();
        assert!(near(usual, "10.0.1.1", "10.0.1.250") && !near(usual, "10.0.1.1", "10.0.2.1"));
        assert!(near(usual, "10.0.1.1", "::ffff:10.0.1.9"), "mapped is the same");
        assert!(near(usual, "fd00::1", "fd00::2:1") && !near(usual, "fd00::1", "fd00:0:0:1::1"));
        assert!(!near(usual, "10.0.1.1", "fd00::1"));
        let wide = Lan { v4_prefix: 20, ..usual };
        assert!(near(wide, "10.0.1.1", "10.0.15.1") && !near(wide, "10.0.1.1", "10.0.16.1"));
        let (all, one) = (Lan { v4_prefix: 0, v6_prefix: 0 }, Lan { v4_prefix: 32, v6_prefix: 128 });
        assert!(near(all, "10.0.1.1", "192.168.0.1") && near(all, "fd00::1", "2001::1"));
        assert!(near(one, "10.0.1.1", "10.0.1.1") && !near(one, "fd00::1", "fd00::2"));
    }
}
