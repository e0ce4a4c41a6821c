//! The addresses a torrent knows: which are worth dialling, when, and which never again. Owns no connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::banned::BanList;
use crate::limits::{MAX_CONNECT_FAILURES, MAX_PEER_CANDIDATES, RECONNECT_FIRST, RECONNECT_MAX, keep};
use crate::rng::Rng;
use crate::time::Instant;

/// Who named an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSource {
    /// The user: kept whatever happens, and dialled again for ever.
    User,
    /// A tracker.
    Tracker,
    /// The peer itself, which connected to us.
    Itself,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// To be dialled at that time at the earliest; the number shuffles those of the same time.
    Waiting(Instant, u64),
    /// Being dialled, or connected.
    Engaged,
    /// Neither side wanted anything of the other: to be dialled when it is named again, from that time on.
    Resting(Instant),
}

#[derive(Clone, Debug)]
struct Known {
    source: PeerSource,
    /// It is of our rack, where racks matter: those are dialled first.
    near: bool,
    failures: u32,
    status: Status,
}

/// When to dial whom, in order; the number shuffles those of the same time.
type Turns = BTreeSet<(Instant, u64, SocketAddr)>;

/// Whom to dial next, of those of our rack (the near) and others; without racks everybody is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// One of our rack only.
    Near,
    /// One of our rack, or else another.
    NearFirst,
    /// One of another rack, or else of ours.
    FarFirst,
}

impl Whom {
    /// The queues, in order.
    const fn queues(self) -> &'static [usize] {
        match self {
            Whom::Near => &[0],
            Whom::NearFirst => &[0, 1],
            Whom::FarFirst => &[1, 0],
        }
    }
}

/// The addresses of one torrent.
#[derive(Debug, Default)]
pub struct PeerList {
    known: BTreeMap<SocketAddr, Known>,
    /// Those of `known` that wait, in the order of their turn: the near ones, and the others.
    waiting: [Turns; 2],
    banned: BanList,
    /// Addresses that turned out to be this process.
    ourselves: BTreeSet<SocketAddr>,
}

impl PeerList {
    /// Notes an address; nothing where it is known, banned, unusable, or where there are too many.
    pub fn add(&mut self, now: Instant, addr: SocketAddr, source: PeerSource, rng: &mut Rng) {
        self.add_at(now, addr, true, source, rng);
    }

    /// As [`add`](Self::add), of our rack or not.
    pub fn add_at(&mut self, now: Instant, addr: SocketAddr, near: bool, source: PeerSource, rng: &mut Rng) {
        let addr = canonical(addr);
        let unusable = addr.port() == 0 || addr.ip().is_unspecified() || addr.ip().is_multicast();
        if unusable || self.is_banned(addr.ip()) || self.ourselves.contains(&addr) {
            return;
        }
        if let Some(known) = self.known.get_mut(&addr) {
            known.source = if source == PeerSource::User { source } else { known.source };
            if matches!(known.status, Status::Resting(until) if until <= now) {
                self.wait_until(now, addr, rng);
            }
        } else if self.known.len() < MAX_PEER_CANDIDATES || source == PeerSource::User {
            self.known.insert(addr, Known { source, near, failures: 0, status: Status::Engaged });
            self.wait_until(now, addr, rng);
        }
    }

    /// The next address to dial, which is engaged from then on.
    pub fn next_to_dial(&mut self, now: Instant, whom: Whom) -> Option<SocketAddr> {
        let due = |waiting: &Turns| waiting.first().filter(|&&(at, ..)| at <= now).map(|&(.., addr)| addr);
        let addr = whom.queues().iter().find_map(|&queue| due(&self.waiting[queue]))?;
        self.engage(addr);
        Some(addr)
    }

    /// When the next address may be dialled.
    pub fn next_dial_at(&self, whom: Whom) -> Option<Instant> {
        let first = |waiting: &Turns| waiting.first().map(|&(at, ..)| at);
        whom.queues().iter().filter_map(|&queue| first(&self.waiting[queue])).min()
    }

    /// It became known which addresses are of our rack.
    pub fn sort_out(&mut self, is_near: impl Fn(SocketAddr) -> bool) {
        let waiting = std::mem::take(&mut self.waiting);
        for turn in waiting.into_iter().flatten() {
            self.waiting[usize::from(!is_near(turn.2))].insert(turn);
        }
        self.known.iter_mut().for_each(|(&addr, known)| known.near = is_near(addr));
    }

    /// A connection to the address exists: it is not dialled meanwhile.
    pub fn engage(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        if let Some(known) = self.known.get_mut(&addr)
            && let Status::Waiting(at, draw) = std::mem::replace(&mut known.status, Status::Engaged)
        {
            self.waiting[usize::from(!known.near)].remove(&(at, draw, addr));
        }
    }

    /// Dialling failed: later, and each time later still, it is tried again, until it is forgotten.
    pub fn dial_failed(&mut self, now: Instant, addr: SocketAddr, rng: &mut Rng) {
        let addr = canonical(addr);
        let Some(known) = self.known.get_mut(&addr) else { return };
        known.failures += 1;
        if known.failures >= MAX_CONNECT_FAILURES && known.source != PeerSource::User {
            self.forget(addr);
            return;
        }
        let wait = (RECONNECT_FIRST * (1 << (known.failures - 1).min(10))).min(RECONNECT_MAX);
        self.wait_until(now + wait, addr, rng);
    }

    /// The connection ended: it may be dialled again after a while. `useful`: it gave or took something; one that
    /// did not is as good as a dial that failed, or whoever breaks the rules at once would be dialled for ever.
    pub fn disconnected(&mut self, now: Instant, addr: SocketAddr, useful: bool, rng: &mut Rng) {
        if useful {
            if let Some(known) = self.known.get_mut(&canonical(addr)) {
                known.failures = 0;
            }
            self.wait_until(now + RECONNECT_FIRST, canonical(addr), rng);
        } else {
            self.dial_failed(now, addr, rng);
        }
    }

    /// The connection ended because neither side wants anything: whoever wants something again says so to a tracker, which names
    /// it again, and it may be dialled then; one that cannot reach us would wait for that for ever.
    pub fn rest(&mut self, now: Instant, addr: SocketAddr) {
        self.engage(addr);
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.status = Status::Resting(now + RECONNECT_MAX);
        }
    }

    /// The address is this process: never again.
    pub fn is_ourselves(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        self.forget(addr);
        // Whoever has us dial ourselves at ever new addresses gains nothing: they are known as failures then.
        if self.ourselves.len() < MAX_PEER_CANDIDATES {
            self.ourselves.insert(addr);
        }
    }

    /// Nothing more is had to do with the address, nor with its subnet where several of that are banned; whether that is new.
    pub fn ban(&mut self, addr: IpAddr) -> bool {
        let new = self.banned.ban(addr);
        let there = self.known.keys().copied().filter(|known| self.banned.contains(known.ip()));
        there.collect::<Vec<_>>().into_iter().for_each(|known| self.forget(known));
        new
    }

    /// An address of ours: its subnet is never banned as a whole.
    pub fn spare_subnet_of(&mut self, own: IpAddr) {
        self.banned.spare_subnet_of(own);
    }

    /// Whether the address is banned.
    pub fn is_banned(&self, addr: IpAddr) -> bool {
        self.banned.contains(addr)
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no address is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Holds how many addresses are known, and when they are dialled again, against the bounds.
    ///
    /// # Panics
    /// With the name of a bound that is not kept.
    pub fn check_bounds(&self, now: Instant) {
        let named = self.known.values().filter(|known| known.source != PeerSource::User);
        keep("MAX_PEER_CANDIDATES", named.clone().count(), MAX_PEER_CANDIDATES);
        self.banned.check_bounds();
        keep("MAX_PEER_CANDIDATES of ourselves", self.ourselves.len(), MAX_PEER_CANDIDATES);
        let failures = named.map(|known| known.failures + 1).max().unwrap_or(0);
        keep("MAX_CONNECT_FAILURES", failures, MAX_CONNECT_FAILURES);
        let lasts = self.waiting.iter().filter_map(BTreeSet::last);
        let last = lasts.map(|&(at, ..)| at).max().unwrap_or(now);
        keep("RECONNECT_MAX", last, now + RECONNECT_MAX);
    }

    fn forget(&mut self, addr: SocketAddr) {
        self.engage(addr);
        self.known.remove(&addr);
    }

    fn wait_until(&mut self, at: Instant, addr: SocketAddr, rng: &mut Rng) {
        self.engage(addr);
        let Some(known) = self.known.get_mut(&addr) else { return };
        let draw = rng.bits();
        known.status = Status::Waiting(at, draw);
        self.waiting[usize::from(!known.near)].insert((at, draw, addr));
    }
}

/// An IPv4 address stands for itself and its IPv6-mapped form.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_BANNED;
    use crate::time::Duration;

    /// Changes a list.
    type Breaks<'a> = &'a dyn Fn(&mut PeerList);

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 6881))
    }

    fn list(addrs: &[SocketAddr], source: PeerSource) -> (PeerList, Rng) {
        let (mut list, mut rng) = (PeerList::default(), Rng::new(1));
        addrs.iter().for_each(|&addr| list.add(Instant::ZERO, addr, source, &mut rng));
        (list, rng)
    }

    #[test]
    fn each_address_is_dialled_once_at_a_time() {
        let (mut list, mut rng) = list(&[addr(1), addr(1), addr(2)], PeerSource::Tracker);
        let dialled: BTreeSet<_> =
            std::iter::from_fn(|| list.next_to_dial(Instant::ZERO, Whom::NearFirst)).collect();
        assert_eq!(dialled, BTreeSet::from([addr(1), addr(2)]));
        list.disconnected(Instant::ZERO, addr(1), true, &mut rng);
        assert_eq!(list.next_to_dial(Instant::ZERO, Whom::NearFirst), None, "not at once");
        assert_eq!(list.next_to_dial(Instant::ZERO + RECONNECT_FIRST, Whom::NearFirst), Some(addr(1)));
    }

    #[test]
    fn near_ones_are_dialled_first_and_far_ones_where_they_are_wanted() {
        let (mut list, mut rng) = list(&[addr(1), addr(2), addr(3)], PeerSource::Tracker);
        list.sort_out(|known| known == addr(2));
        list.add_at(Instant::ZERO, addr(4), true, PeerSource::Tracker, &mut rng);
        let next = |list: &mut PeerList, whom| list.next_to_dial(Instant::ZERO, whom);
        let near = BTreeSet::from([next(&mut list, Whom::NearFirst), next(&mut list, Whom::Near)]);
        assert_eq!(near, BTreeSet::from([Some(addr(2)), Some(addr(4))]));
        assert_eq!((next(&mut list, Whom::Near), list.next_dial_at(Whom::Near)), (None, None));
        assert_eq!(list.next_dial_at(Whom::NearFirst), Some(Instant::ZERO));
        list.add_at(Instant::ZERO, addr(5), true, PeerSource::Tracker, &mut rng);
        let far = BTreeSet::from([next(&mut list, Whom::FarFirst), next(&mut list, Whom::FarFirst)]);
        assert_eq!(far, BTreeSet::from([Some(addr(1)), Some(addr(3))]));
        assert_eq!(next(&mut list, Whom::FarFirst), Some(addr(5)));
    }

    #[test]
    fn who_rests_is_dialled_once_it_is_named_again() {
        let (mut list, mut rng) = list(&[addr(1)], PeerSource::Tracker);
        list.next_to_dial(Instant::ZERO, Whom::NearFirst);
        list.rest(Instant::ZERO, addr(1));
        let mut named = |list: &mut PeerList, at: Instant| {
            list.add(at, addr(1), PeerSource::Tracker, &mut rng);
            list.next_to_dial(at, Whom::NearFirst)
        };
        assert_eq!(named(&mut list, Instant::ZERO + RECONNECT_FIRST), None, "it was there just now");
        let later = Instant::ZERO + RECONNECT_MAX;
        assert_eq!(list.next_dial_at(Whom::NearFirst), None, "not by itself");
        assert_eq!([named(&mut list, later), named(&mut list, later)], [Some(addr(1)), None]);
    }

    #[test]
    fn failures_wait_longer_and_are_forgotten() {
        let (mut list, mut rng) = list(&[addr(1)], PeerSource::Tracker);
        let (mut now, mut waits) = (Instant::ZERO, vec![]);
        while let Some(at) = list.next_dial_at(Whom::NearFirst) {
            waits.push(at.since(now));
            now = at;
            let dialled = list.next_to_dial(now, Whom::NearFirst).unwrap();
            list.dial_failed(now, dialled, &mut rng);
        }
        assert_eq!(waits.len(), MAX_CONNECT_FAILURES as usize);
        assert!(waits.is_sorted() && list.is_empty());
    }

    #[test]
    fn what_the_user_named_is_never_forgotten() {
        let (mut list, mut rng) = list(&[addr(1)], PeerSource::User);
        let mut now = Instant::ZERO;
        for _ in 0..50 {
            now = list.next_dial_at(Whom::NearFirst).unwrap();
            let dialled = list.next_to_dial(now, Whom::NearFirst).unwrap();
            list.dial_failed(now, dialled, &mut rng);
        }
        assert!(
            list.next_dial_at(Whom::NearFirst).unwrap().since(now) <= RECONNECT_MAX + Duration::from_secs(1)
        );
    }

    #[test]
    fn each_bound_is_seen_to_be_broken() {
        let many = |count: u32| {
            { 0..count }.map(|n| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 6881))).collect()
        };
        let one_more: Vec<SocketAddr> = many(MAX_PEER_CANDIDATES as u32 + 1);
        let breaks: [(&str, Breaks<'_>); 5] = [
            ("MAX_PEER_CANDIDATES", &|list| {
                let known =
                    Known { source: PeerSource::Tracker, near: true, failures: 0, status: Status::Engaged };
                list.known.extend(one_more.iter().map(|&addr| (addr, known.clone())));
            }),
            ("MAX_PEER_CANDIDATES of ourselves", &|list| list.ourselves.extend(&one_more)),
            ("MAX_BANNED", &|list| {
                list.banned.overfill((0..=MAX_BANNED as u32).map(|number| number.to_be_bytes().into()));
            }),
            ("MAX_CONNECT_FAILURES", &|list| {
                list.known.get_mut(&addr(1)).unwrap().failures = MAX_CONNECT_FAILURES;
            }),
            ("RECONNECT_MAX", &|list| {
                list.wait_until(Instant::ZERO + RECONNECT_MAX + RECONNECT_FIRST, addr(1), &mut Rng::new(1));
            }),
        ];
        for (bound, breaks) in breaks {
            let (mut list, _) = list(&[addr(1)], PeerSource::Tracker);
            list.check_bounds(Instant::ZERO);
            breaks(&mut list);
            let panic = std::panic::catch_unwind(|| list.check_bounds(Instant::ZERO)).unwrap_err();
            let found = panic.downcast_ref::<String>().unwrap();
            assert!(found.starts_with(&format!("{bound}: ")), "{bound}: found {found:?}");
        }
    }

    #[test]
    fn the_banned_stay_out_in_every_form() {
        let (mut list, mut rng) = list(&[addr(1)], PeerSource::Tracker);
        assert!(list.ban(addr(1).ip()) && !list.ban(addr(1).ip()));
        list.add(Instant::ZERO, "[::ffff:10.0.0.1]:9".parse().unwrap(), PeerSource::User, &mut rng);
        assert!(list.is_empty() && list.next_to_dial(Instant::ZERO, Whom::NearFirst).is_none());
        assert!(list.is_banned("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn addresses_of_a_banned_subnet_are_forgotten() {
        let v6 = |rest| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, rest], 6881));
        let (mut list, mut rng) = list(&[v6(100)], PeerSource::Tracker);
        (1..=8).for_each(|rest| assert!(list.ban(v6(rest).ip())));
        list.add(Instant::ZERO, v6(101), PeerSource::Tracker, &mut rng);
        assert!(list.is_empty() && list.is_banned(v6(102).ip()));
    }

    #[test]
    fn strangers_can_name_only_so_many() {
        let many: Vec<_> =
            (0..=u16::MAX).map(|n| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 6881))).collect();
        let (list, _) = list(&many, PeerSource::Tracker);
        assert_eq!(list.len(), MAX_PEER_CANDIDATES);
        let (list, _) = self::list(
            &[SocketAddr::from(([0, 0, 0, 0], 1)), SocketAddr::from(([10, 0, 0, 1], 0))],
            PeerSource::User,
        );
        assert!(list.is_empty(), "unusable addresses are not kept");
    }
}
