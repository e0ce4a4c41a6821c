//! Addresses from which bad data came. Knows no peers; whom that concerns is the [`peer_list`](crate::peer_list)'s.
//!
//! An IPv6 subnet of 64 bits is one household or host, so its 2^64 addresses are one when several of them lied: not at the
//! first, as a whole rack of honest hosts stands in such a subnet, too.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use crate::limits::{MAX_BANNED, MAX_BANNED_OF_SUBNET, keep};

/// Who is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Banned {
    Address(IpAddr),
    /// All addresses that begin with these 64 bits.
    Subnet(u64),
}

/// Those who are banned, the latest of them.
#[derive(Debug, Default)]
pub(crate) struct BanList {
    all: BTreeSet<Banned>,
    /// The same, the oldest first.
    in_order: VecDeque<Banned>,
    /// Subnets in which we stand ourselves: more than one household's.
    own: BTreeSet<u64>,
}

impl BanList {
    /// Bans an address, or in place of so many of its subnet all of that; whether that is new, as it is of one that is still
    /// there though its subnet was banned. Where there are too many, the oldest is forgotten.
    pub(crate) fn ban(&mut self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        let Some(subnet) = self.subnet(addr) else { return self.insert(Banned::Address(addr)) };
        if self.all.contains(&Banned::Subnet(subnet)) {
            return true;
        }
        let new = !self.all.contains(&Banned::Address(addr));
        if new && self.banned_of(subnet) + 1 >= MAX_BANNED_OF_SUBNET {
            self.forget_of(subnet);
            return self.insert(Banned::Subnet(subnet));
        }
        self.insert(Banned::Address(addr))
    }

    /// An address of ours: those of its subnet are banned one by one.
    pub(crate) fn spare_subnet_of(&mut self, own: IpAddr) {
        self.own.extend(subnet(own.to_canonical()));
    }

    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.all.contains(&Banned::Address(addr))
            || self.subnet(addr).is_some_and(|subnet| self.all.contains(&Banned::Subnet(subnet)))
    }

    /// Holds how many there are against the bound.
    ///
    /// # Panics
    /// With its name where it is not kept.
    pub(crate) fn check_bounds(&self) {
        keep("MAX_BANNED", self.in_order.len(), MAX_BANNED);
        assert_eq!(self.all.len(), self.in_order.len());
        let subnets = self.all.iter().filter_map(|banned| match banned {
            Banned::Address(addr) => self.subnet(*addr),
            Banned::Subnet(_) => None,
        });
        let most = subnets.map(|subnet| self.banned_of(subnet) + 1).max().unwrap_or(0);
        keep("MAX_BANNED_OF_SUBNET", most, MAX_BANNED_OF_SUBNET);
    }

    /// The subnet that is banned when several of it lied.
    fn subnet(&self, addr: IpAddr) -> Option<u64> {
        subnet(addr).filter(|subnet| !self.own.contains(subnet))
    }

    fn insert(&mut self, banned: Banned) -> bool {
        let new = self.all.insert(banned);
        if new {
            self.in_order.push_back(banned);
        }
        if self.in_order.len() > MAX_BANNED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.all.remove(&oldest);
        }
        new
    }

    /// How many addresses of the subnet are banned, one by one.
    fn banned_of(&self, subnet: u64) -> usize {
        let addr =
            |rest: u64| Banned::Address(Ipv6Addr::from(u128::from(subnet) << 64 | u128::from(rest)).into());
        self.all.range(addr(0)..=addr(u64::MAX)).count()
    }

    /// Its addresses are not banned one by one any more.
    fn forget_of(&mut self, of: u64) {
        let stays = |banned: &Banned| !matches!(banned, Banned::Address(addr) if subnet(*addr) == Some(of));
        self.all.retain(stays);
        self.in_order.retain(stays);
    }

    /// Puts so many addresses there, whatever the bounds.
    #[cfg(test)]
    pub(crate) fn overfill(&mut self, addrs: impl Iterator<Item = IpAddr>) {
        for addr in addrs.map(Banned::Address) {
            self.all.insert(addr);
            self.in_order.push_back(addr);
        }
    }
}

/// The first 64 bits of an IPv6 address, where they tell one household from another: in link-local (fe80::/10) and unique local
/// ones (fc00::/7), whole networks have them in common, and behind 64:ff9b::/96 (RFC 6052) stands all of IPv4.
fn subnet(addr: IpAddr) -> Option<u64> {
    let IpAddr::V6(addr) = addr else { return None };
    let translated = addr.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let shared = addr.is_unicast_link_local() || addr.is_unique_local() || translated;
    (!shared).then_some((addr.to_bits() >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn v6(subnet: u16, rest: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, 0, subnet, 0, 0, 0, rest])
    }

    #[test]
    fn an_address_is_banned_in_every_form() {
        let mut list = BanList::default();
        assert!(list.ban(v4(7)) && !list.ban("::ffff:0.0.0.7".parse().unwrap()));
        assert!(list.contains("::ffff:0.0.0.7".parse().unwrap()) && !list.contains(v4(8)));
    }

    #[test]
    fn a_subnet_is_banned_when_several_of_it_lied() {
        let mut list = BanList::default();
        for rest in 1..=MAX_BANNED_OF_SUBNET as u16 {
            assert!(!list.contains(v6(1, 1_000)), "an honest neighbour of {rest} liars");
            assert!(list.ban(v6(1, rest)));
            list.check_bounds();
        }
        assert!(list.contains(v6(1, 1_000)) && !list.contains(v6(2, 1)));
        assert_eq!(list.all.len(), 1, "in place of its addresses");
        assert!(list.ban(v6(1, 2_000)), "one that was connected before is parted with, too");
        assert_eq!(list.all.len(), 1);
    }

    #[test]
    fn a_subnet_that_was_forgotten_begins_anew() {
        let mut list = BanList::default();
        (0..20).for_each(|rest| assert!(list.ban(v6(1, rest))));
        let most = MAX_BANNED as u32;
        for number in 0..most {
            assert!(list.ban(v4(number)));
            if number + 30 > most {
                list.check_bounds();
            }
        }
        assert!(!list.contains(v6(1, 0)) && !list.contains(v6(1, 19)));
        for rest in 0..20 {
            assert!(list.ban(v6(1, rest)));
            list.check_bounds();
        }
    }

    #[test]
    fn what_many_households_share_is_no_subnet() {
        for prefix in ["fe80::", "fc00::", "fdff::", "64:ff9b::"] {
            let mut list = BanList::default();
            let of = |rest: u16| format!("{prefix}{rest:x}").parse().unwrap();
            (1..=20).for_each(|rest| assert!(list.ban(of(rest))));
            list.check_bounds();
            assert!(list.contains(of(20)) && !list.contains(of(21)), "{prefix}");
        }
    }

    #[test]
    fn a_subnet_of_our_own_is_not_banned() {
        let mut list = BanList::default();
        (0..10).for_each(|rest| assert!(list.ban(v6(1, rest))));
        [v6(1, 100), v6(2, 100)].into_iter().for_each(|own| list.spare_subnet_of(own));
        assert!(!list.contains(v6(1, 50)), "nor any more");
        (0..20).for_each(|rest| assert!(list.ban(v6(2, rest)) && list.contains(v6(2, rest))));
        list.check_bounds();
        assert!(!list.contains(v6(2, 50)));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut list = BanList::default();
        let most = MAX_BANNED as u32;
        (0..most + 10).for_each(|number| assert!(list.ban(v4(number))));
        list.check_bounds();
        assert!(!list.contains(v4(9)) && list.contains(v4(10)) && list.contains(v4(most + 9)));
    }

    #[test]
    #[should_panic(expected = "MAX_BANNED_OF_SUBNET: 9, at most 8")]
    fn too_many_of_a_subnet() {
        let mut list = BanList::default();
        list.overfill((0..MAX_BANNED_OF_SUBNET as u16).map(|rest| v6(1, rest)));
        list.check_bounds();
    }
}
