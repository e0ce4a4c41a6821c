//! A core, with the test playing its shards and everybody out there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{CoreAction, CoreConfig, CoreInput, TorrentCore};
use crate::id::PeerId;
use crate::layout::PieceLayout;
use crate::limits::{CHOKE_INTERVAL, HALF_OPEN, RECONNECT_FIRST};
use crate::peer_list::PeerSource;
use crate::picker::{Priority, Selection};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::torrent::{
    CoreToShard, PartReason, PeerKey, PeerRates, PeerUp, Policy, ShardId, ShardToCore, SharedPieces,
};

const US: PeerId = PeerId([100; 20]);

struct Rig {
    core: TorrentCore,
    now: Instant,
    pieces: Arc<SharedPieces>,
    dials: Vec<(ShardId, SocketAddr)>,
    sent: Vec<(ShardId, CoreToShard)>,
    banned: Vec<IpAddr>,
    completions: usize,
    /// Who is unchoked, as the shards were told.
    unchoked: BTreeSet<PeerKey>,
    /// What each peer gave so far, in the order they joined.
    peers: Vec<(PeerKey, PeerRates)>,
}

impl Rig {
    fn new(shards: u8, max_peers: usize) -> Self {
        Self::with(shards, max_peers, SharedPieces::free(2))
    }

    fn with(shards: u8, max_peers: usize, pieces: SharedPieces) -> Self {
        let pieces = Arc::new(pieces);
        let config = CoreConfig {
            our_id: US,
            shards,
            max_peers,
            piece_len: 16_384,
            pieces: Arc::clone(&pieces),
            policy: Policy::default(),
            rng: Rng::new(1),
        };
        Self {
            core: TorrentCore::new(Instant::ZERO, config),
            now: Instant::ZERO,
            pieces,
            dials: vec![],
            sent: vec![],
            banned: vec![],
            completions: 0,
            unchoked: BTreeSet::new(),
            peers: vec![],
        }
    }

    fn input(&mut self, input: CoreInput) {
        self.core.handle_input(self.now, input);
        self.settle();
    }

    fn told_by(&mut self, shard: u8, message: ShardToCore) {
        self.input(CoreInput::FromShard(ShardId(shard), message));
    }

    fn settle(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                CoreAction::Dial(shard, addr) => self.dials.push((shard, addr)),
                CoreAction::Send(shard, message) => {
                    if let CoreToShard::Slots { unchoke, choke } = &message {
                        assert!(unchoke.iter().chain(choke).all(|peer| peer.shard == shard));
                        choke.iter().for_each(|peer| assert!(self.unchoked.remove(peer), "choked twice"));
                        unchoke
                            .iter()
                            .for_each(|peer| assert!(self.unchoked.insert(*peer), "unchoked twice"));
                    }
                    self.sent.push((shard, message));
                }
                CoreAction::Banned(addr) => self.banned.push(addr),
                CoreAction::Completed => self.completions += 1,
                CoreAction::HashFailed(_) => {}
            }
        }
        self.core.check_invariants();
    }

    /// Time passes; rate reports are answered with what each peer gave so far.
    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.core.poll_timeout().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            self.settle();
            self.answer_reports();
            assert!(self.core.poll_timeout().is_none_or(|at| at > self.now), "a busy loop");
        }
        self.now = until;
    }

    /// Time passes; what the shards are told is kept.
    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.core.handle_timeout(self.now);
        self.settle();
    }

    fn answer_reports(&mut self) {
        for (shard, message) in std::mem::take(&mut self.sent) {
            if let CoreToShard::ReportRates(round) = message {
                let of_shard =
                    self.peers.iter().filter(|(key, _)| key.shard == shard).map(|&(_, rates)| rates);
                let rates = of_shard.collect();
                self.told_by(shard.0, ShardToCore::Rates(round, rates));
            } else {
                self.sent.push((shard, message));
            }
        }
    }

    fn candidates(&mut self, addrs: &[SocketAddr]) {
        self.input(CoreInput::Candidates(addrs.to_vec(), PeerSource::Tracker));
    }

    /// A peer with the id `id`, at 10.0.0.`id`.
    fn up(&mut self, shard: u8, id: u8, outgoing: bool) -> PeerKey {
        self.up_at(shard, addr(id), outgoing)
    }

    /// A peer with the last number of its address as its id.
    fn up_at(&mut self, shard: u8, addr: SocketAddr, outgoing: bool) -> PeerKey {
        self.up_as(shard, addr, last_octet(addr), outgoing)
    }

    fn up_as(&mut self, shard: u8, addr: SocketAddr, id: u8, outgoing: bool) -> PeerKey {
        let peer = PeerKey::for_tests(ShardId(shard), self.peers.len() as u32);
        let up = PeerUp { peer, addr, id: PeerId([id; 20]), outgoing };
        self.peers.push((
            peer,
            PeerRates {
                peer,
                downloaded: 0,
                uploaded: 0,
                passed_on: 0,
                heeds: true,
                keeps: false,
                snubbed: false,
                is_seed: false,
            },
        ));
        self.told_by(shard, ShardToCore::PeerUp(up));
        peer
    }

    fn down(&mut self, peer: PeerKey) {
        let at = self.peers.iter().position(|(key, _)| *key == peer).unwrap();
        let (_, rates) = self.peers.remove(at);
        // The numbers of those that are left must stay unique: a placeholder keeps the count.
        self.peers.push((PeerKey::for_tests(ShardId(15), 1_000), rates));
        self.unchoked.remove(&peer);
        self.told_by(peer.shard.0, ShardToCore::PeerDown(rates));
    }

    fn interest(&mut self, peer: PeerKey, interested: bool) {
        self.told_by(peer.shard.0, ShardToCore::Interest(peer, interested));
    }

    fn rates(&mut self, peer: PeerKey) -> &mut PeerRates {
        &mut self.peers.iter_mut().find(|(key, _)| *key == peer).unwrap().1
    }

    fn parted(&self) -> Vec<(PeerKey, PartReason)> {
        let part = |(_, message): &(ShardId, CoreToShard)| match message {
            CoreToShard::Part(peer, reason) => Some((*peer, *reason)),
            _ => None,
        };
        self.sent.iter().filter_map(part).collect()
    }
}

fn addr(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 6881))
}

#[test]
fn dials_are_spread_over_the_shards_and_bounded() {
    let mut rig = Rig::new(4, 200);
    let addrs: Vec<_> = (1..=60).map(addr).collect();
    rig.candidates(&addrs);
    assert_eq!(rig.dials.len(), HALF_OPEN);
    for shard in 0..4 {
        let there = rig.dials.iter().filter(|(id, _)| id.0 == shard).count();
        assert!((7..=8).contains(&there), "{there} of {HALF_OPEN} at shard {shard}");
    }
    let first = rig.dials[0].1;
    rig.input(CoreInput::DialFailed(first));
    assert_eq!(rig.dials.len(), HALF_OPEN + 1, "another takes its place");
    rig.input(CoreInput::DialFailed(first));
    assert_eq!(rig.dials.len(), HALF_OPEN + 1, "once");
}

#[test]
fn an_idle_shard_gets_the_dials() {
    let mut rig = Rig::new(2, 200);
    for id in 1..6 {
        rig.up(0, id, false);
    }
    rig.candidates(&[addr(10), addr(11), addr(12)]);
    assert!(rig.dials.iter().all(|(shard, _)| shard.0 == 1), "{:?}", rig.dials);
}

#[test]
fn there_are_peers_enough_at_some_point() {
    let mut rig = Rig::new(1, 2);
    rig.candidates(&[addr(1), addr(2), addr(3)]);
    assert_eq!(rig.dials.len(), 2);
    assert!(rig.core.wants_peers() || rig.core.stats().known >= 2);
    let dialled: Vec<u8> = rig.dials.iter().map(|(_, addr)| last_octet(*addr)).collect();
    for id in dialled {
        rig.up(0, id, true);
    }
    let extra = rig.up(0, 9, false);
    assert_eq!(rig.parted(), [(extra, PartReason::TooMany)]);
}

fn last_octet(addr: SocketAddr) -> u8 {
    match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

#[test]
fn a_failed_dial_is_tried_again_later() {
    let mut rig = Rig::new(1, 10);
    rig.candidates(&[addr(1)]);
    rig.input(CoreInput::DialFailed(addr(1)));
    rig.wait(RECONNECT_FIRST - Duration::from_millis(1));
    assert_eq!(rig.dials.len(), 1);
    rig.wait(Duration::from_millis(1));
    assert_eq!(rig.dials.len(), 2);
}

#[test]
fn a_peer_that_was_useful_is_dialled_again_soon() {
    let mut rig = Rig::new(1, 10);
    rig.candidates(&[addr(1)]);
    let peer = rig.up(0, 1, true);
    rig.rates(peer).downloaded = 5;
    rig.down(peer);
    rig.wait(RECONNECT_FIRST);
    assert_eq!(rig.dials.len(), 2);
}

#[test]
fn ourselves_are_dialled_once() {
    let mut rig = Rig::new(1, 10);
    rig.candidates(&[addr(1)]);
    let out = rig.up(0, 1, true);
    assert_eq!(rig.parted(), []);
    rig.down(out);
    rig.candidates(&[addr(100)]);
    let out = rig.up(0, 100, true);
    assert_eq!(rig.parted(), [(out, PartReason::OurselvesDialled)]);
    let back = rig.up(0, 100, false);
    assert_eq!(rig.parted()[1], (back, PartReason::OurselvesDialled));
    rig.down(out);
    rig.down(back);
    let dials = rig.dials.iter().filter(|(_, dialled)| *dialled == addr(100)).count();
    rig.candidates(&[addr(100)]);
    rig.wait(Duration::from_secs(400));
    assert_eq!(rig.dials.iter().filter(|(_, dialled)| *dialled == addr(100)).count(), dials);
}

#[test]
fn a_second_connection_to_a_peer_goes() {
    let mut rig = Rig::new(2, 10);
    let first = rig.up(0, 7, false);
    rig.wait(Duration::from_secs(20));
    let second = rig.up(1, 7, false);
    assert_eq!(rig.parted(), [(second, PartReason::Duplicate)]);
    assert_ne!(first, second);
}

#[test]
fn of_two_crossing_connections_both_sides_drop_the_same() {
    for (their_id, first_outgoing) in [(7, true), (7, false), (200, true), (200, false)] {
        let mut rig = Rig::new(2, 10);
        let first = rig.up(0, their_id, first_outgoing);
        let second = rig.up(1, their_id, !first_outgoing);
        // Our id is 100; the connection that the larger id dialled stays.
        let keep_outgoing = their_id < 100;
        let gone = if first_outgoing == keep_outgoing { second } else { first };
        assert_eq!(rig.parted(), [(gone, PartReason::Duplicate)], "{their_id} {first_outgoing}");
    }
}

#[test]
fn who_came_to_us_is_not_dialled_while_connected() {
    let mut rig = Rig::new(1, 10);
    let peer = rig.up(0, 7, false);
    rig.told_by(0, ShardToCore::ListensOn(peer, SocketAddr::from(([10, 0, 0, 7], 999))));
    rig.candidates(&[SocketAddr::from(([10, 0, 0, 7], 999))]);
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.dials, []);
    rig.rates(peer).uploaded = 1;
    rig.down(peer);
    rig.wait(RECONNECT_FIRST);
    assert_eq!(rig.dials.len(), 1, "but once it is gone");
}

/// Honest until now or not: whoever is at them may be the same as the liars.
#[test]
fn with_a_subnet_all_its_peers_are_parted_with() {
    let mut rig = Rig::new(2, 20);
    let v6 = |subnet, rest| SocketAddr::from(([0x2001, 0xdb8, 0, subnet, 0, 0, 0, rest], 6881));
    let here = rig.up_as(1, v6(1, 100), 1, false);
    let elsewhere = rig.up_as(1, v6(2, 100), 2, false);
    (1..8).for_each(|rest| rig.told_by(0, ShardToCore::Poisoner(v6(1, rest).ip())));
    assert_eq!(rig.parted(), []);
    rig.told_by(0, ShardToCore::Poisoner(v6(1, 8).ip()));
    assert_eq!(rig.parted(), [(here, PartReason::Banned)]);
    rig.told_by(0, ShardToCore::Poisoner(v6(1, 9).ip()));
    assert_eq!(rig.parted().len(), 1, "once");
    assert_ne!(here, elsewhere);
}

#[test]
fn poisoners_are_banned_everywhere() {
    let mut rig = Rig::new(3, 10);
    rig.candidates(&[addr(7), addr(8)]);
    rig.told_by(1, ShardToCore::Poisoner(addr(7).ip()));
    rig.told_by(2, ShardToCore::Poisoner(addr(7).ip()));
    assert_eq!(rig.banned, [addr(7).ip()]);
    let told: Vec<u8> = rig
        .sent
        .iter()
        .filter(|(_, message)| matches!(message, CoreToShard::Ban(ip) if *ip == addr(7).ip()))
        .map(|(shard, _)| shard.0)
        .collect();
    assert_eq!(told, [0, 1, 2]);
    assert!(rig.core.is_banned(addr(7).ip()) && rig.core.stats().banned == 1);
    let back = rig.up(0, 7, true);
    assert_eq!(rig.parted(), [(back, PartReason::Banned)]);
    let (peer, id) = (PeerKey::for_tests(ShardId(2), 99), PeerId([99; 20]));
    let elsewhere = SocketAddr::new(addr(7).ip(), 50_000);
    rig.told_by(2, ShardToCore::PeerUp(PeerUp { peer, addr: elsewhere, id, outgoing: false }));
    assert_eq!(rig.parted()[1..], [(peer, PartReason::Banned)], "from another port, under another name");
}

#[test]
fn slots_are_filled_at_once_and_given_on() {
    let mut rig = Rig::new(2, 20);
    let peers: Vec<PeerKey> = (1..8).map(|id| rig.up(id % 2, id, false)).collect();
    for &peer in &peers {
        rig.interest(peer, true);
    }
    assert_eq!(rig.unchoked.len(), 5);
    let served = *rig.unchoked.first().unwrap();
    rig.interest(served, false);
    assert_eq!(rig.unchoked.len(), 6, "it keeps its slot, which counts for nothing now");
    rig.interest(served, true);
    assert_eq!(rig.unchoked.len(), 5);
    let served = *rig.unchoked.first().unwrap();
    rig.down(served);
    assert_eq!(rig.unchoked.len(), 5, "somebody else has its slot");
}

#[test]
fn the_best_givers_get_the_slots_and_chance_one_more() {
    let mut rig = Rig::new(2, 20);
    let peers: Vec<PeerKey> = (1..11).map(|id| rig.up(id % 2, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let best = &peers[6..];
    let mut lucky = BTreeSet::new();
    for _ in 0..40 {
        for (n, &peer) in peers.iter().enumerate() {
            rig.rates(peer).downloaded += 1_000 * (n as u64 + 1);
        }
        rig.wait(CHOKE_INTERVAL + Duration::from_secs(1));
        assert!(best.iter().all(|peer| rig.unchoked.contains(peer)), "{:?}", rig.unchoked);
        assert_eq!(rig.unchoked.len(), 5);
        lucky.extend(rig.unchoked.iter().copied().filter(|peer| !best.contains(peer)));
    }
    assert!(lucky.len() >= 4, "the optimistic slot moves on: {lucky:?}");
}

/// BEP 3: who keeps us waiting gets a slot by chance only, and there is more of that meanwhile.
#[test]
fn slots_of_those_who_snub_go_by_chance() {
    let mut rig = Rig::new(1, 20);
    let peers: Vec<PeerKey> = (1..12).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let mut lucky = BTreeSet::new();
    for _ in 0..20 {
        for &peer in &peers[..5] {
            rig.rates(peer).downloaded += 9_000;
            rig.rates(peer).snubbed = true;
        }
        rig.wait(CHOKE_INTERVAL + Duration::from_secs(1));
        assert_eq!(rig.unchoked.len(), 5);
        lucky.extend(rig.unchoked.iter().copied());
    }
    assert!(lucky.len() >= 9, "{lucky:?}");
    for &peer in &peers[..5] {
        rig.rates(peer).snubbed = false;
    }
    for &peer in &peers[..4] {
        rig.rates(peer).downloaded += 90_000;
    }
    rig.wait(CHOKE_INTERVAL + Duration::from_secs(1));
    assert!(peers[..4].iter().all(|peer| rig.unchoked.contains(peer)), "trusted again");
}

/// As fast as 64 slots take it, and some more by chance for those who give nothing.
#[test]
fn a_fast_line_has_more_slots_for_those_who_give() {
    let mut rig = Rig::new(2, 100);
    let peers: Vec<PeerKey> = (1..61).map(|id| rig.up(id % 2, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    for _ in 0..30 {
        for &peer in &peers[..20] {
            rig.rates(peer).downloaded += 1_000_000;
        }
        for peer in rig.unchoked.clone() {
            rig.rates(peer).uploaded += 5_000_000;
        }
        rig.wait(Duration::from_secs(1));
    }
    assert!(peers[..20].iter().all(|peer| rig.unchoked.contains(peer)), "all who give are served");
    assert!((21..=24).contains(&rig.unchoked.len()), "{} unchoked", rig.unchoked.len());
}

/// Two pieces, of which the first is wanted and on disk.
fn partial_seed() -> SharedPieces {
    let layout = PieceLayout::with_block_len(2, 1, 1).unwrap();
    let files = [(1, Priority::Normal), (1, Priority::Skip)];
    let pieces = SharedPieces::unchecked(2).selecting(Selection::of_files(&layout, files));
    layout.pieces().for_each(|piece| assert!(pieces.checked(piece, piece.number() == 0)));
    pieces
}

#[test]
fn a_seed_serves_those_who_pass_on() {
    serves_those_who_pass_on(SharedPieces::complete(2));
}

/// The others ask for what was given already, each for a copy of its own.
#[test]
fn a_seed_that_spreads_has_more_slots_for_those_who_heed_it() {
    for (heeding, least, most) in [(0, 5, 5), (3, 12, 12), (20, 35, 40)] {
        let mut rig = Rig::with(1, 100, SharedPieces::complete(2));
        let peers: Vec<PeerKey> = (1..61).map(|id| rig.up(0, id, false)).collect();
        for &peer in &peers {
            rig.rates(peer).heeds = peers[..heeding].contains(&peer);
            rig.interest(peer, true);
        }
        for _ in 0..5 {
            for peer in rig.unchoked.clone() {
                rig.rates(peer).uploaded += 10_000_000;
            }
            rig.wait(Duration::from_secs(1));
        }
        assert!((least..=most).contains(&rig.unchoked.len()), "{heeding}: {}", rig.unchoked.len());
    }
}

#[test]
fn those_who_keep_what_is_new_get_all_slots_where_nobody_else_is_left() {
    let mut rig = Rig::with(1, 100, SharedPieces::complete(2));
    let peers: Vec<PeerKey> = (1..61).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let gives = peers[0];
    for last in [false, true] {
        if last {
            rig.interest(gives, false);
        }
        for _ in 0..15 {
            for &peer in &peers[1..] {
                (rig.rates(peer).keeps, rig.rates(peer).heeds) = (true, false);
            }
            for peer in rig.unchoked.clone() {
                rig.rates(peer).uploaded += 10_000_000;
            }
            rig.rates(gives).passed_on += 1_000_000;
            rig.wait(Duration::from_secs(1));
        }
        let served = rig.unchoked.iter().filter(|&&peer| peer != gives).count();
        assert!(if last { served >= 35 } else { served <= 8 }, "{served}");
    }
}

/// BEP 21: who wants nothing more is a seed, whatever it lacks.
#[test]
fn a_partial_seed_serves_those_who_pass_on() {
    serves_those_who_pass_on(partial_seed());
}

/// A seed gains nothing, but can tell who passes on what it had first, and who keeps it.
fn serves_those_who_pass_on(pieces: SharedPieces) {
    let mut rig = Rig::with(1, 100, pieces);
    let peers: Vec<PeerKey> = (1..31).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let pass = |rig: &mut Rig, passing: bool| {
        for peer in rig.unchoked.clone() {
            rig.rates(peer).uploaded += 25_000_000;
            let passes_on = peers[..10].contains(&peer);
            rig.rates(peer).passed_on += if passing && passes_on { 1_000_000 } else { 0 };
            rig.rates(peer).keeps = passing && !passes_on;
        }
        rig.wait(Duration::from_secs(1));
    };
    (0..40).for_each(|_| pass(&mut rig, true));
    assert!(peers[..10].iter().all(|peer| rig.unchoked.contains(peer)), "{:?}", rig.unchoked);
    assert!((11..=12).contains(&rig.unchoked.len()), "nobody else, but by chance: {:?}", rig.unchoked);
    for &peer in &peers {
        rig.rates(peer).keeps = false;
    }
    (0..900).for_each(|_| pass(&mut rig, false));
    assert_eq!(rig.unchoked.len(), 30, "with nothing to spread, everybody is served");
}

/// A slot by chance that does nothing is not kept for half a minute.
#[test]
fn who_takes_nothing_loses_its_slot_to_others() {
    let mut rig = Rig::new(1, 100);
    let peers: Vec<PeerKey> = (1..20).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let idle = *rig.unchoked.first().unwrap();
    for _ in 0..5 {
        for peer in rig.unchoked.clone().into_iter().filter(|&peer| peer != idle) {
            rig.rates(peer).uploaded += 1_000;
        }
        rig.wait(Duration::from_secs(1));
    }
    assert!(!rig.unchoked.contains(&idle));
    assert_eq!(rig.unchoked.len(), 5);
}

/// Else all who are served by chance would lose their slots every three seconds, and no piece would ever be whole.
#[test]
fn one_that_is_far_faster_makes_no_idlers_of_others() {
    let mut rig = Rig::with(1, 100, SharedPieces::complete(2));
    let peers: Vec<PeerKey> = (1..41).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let served = rig.unchoked.clone();
    for _ in 0..8 {
        for &peer in &served {
            let fast = Some(&peer) == served.first();
            rig.rates(peer).uploaded += if fast { 1_000_000 } else { 10_000 };
        }
        rig.wait(Duration::from_secs(1));
        assert!(rig.unchoked.is_superset(&served), "{:?}", rig.unchoked);
    }
}

#[test]
fn many_that_take_next_to_nothing_are_idlers_all_the_same() {
    let mut rig = Rig::with(1, 100, SharedPieces::complete(2));
    let peers: Vec<PeerKey> = (1..41).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let served: Vec<PeerKey> = rig.unchoked.iter().copied().collect();
    let (trickling, taking) = served.split_at(served.len() / 2 + 1);
    for _ in 0..8 {
        trickling.iter().for_each(|&peer| rig.rates(peer).uploaded += 10);
        taking.iter().for_each(|&peer| rig.rates(peer).uploaded += 1_000_000);
        rig.wait(Duration::from_secs(1));
    }
    assert!(trickling.iter().all(|peer| !rig.unchoked.contains(peer)), "{:?}", rig.unchoked);
}

/// Nobody takes a block in a second of a line that is so thin: that is usual there.
#[test]
fn on_a_thin_line_those_who_take_little_are_no_idlers() {
    let mut rig = Rig::with(1, 100, SharedPieces::complete(2));
    let peers: Vec<PeerKey> = (1..41).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let served = rig.unchoked.clone();
    for _ in 0..8 {
        served.iter().for_each(|&peer| rig.rates(peer).uploaded += 1_000);
        rig.wait(Duration::from_secs(1));
        assert!(rig.unchoked.is_superset(&served), "{:?}", rig.unchoked);
    }
}

#[test]
fn a_round_is_decided_without_a_silent_shard() {
    let mut rig = Rig::new(2, 20);
    let peers: Vec<PeerKey> = (1..8).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    rig.now = Instant::ZERO + CHOKE_INTERVAL;
    rig.core.handle_timeout(rig.now);
    rig.settle();
    let Some((_, CoreToShard::ReportRates(round))) = rig.sent.pop() else { panic!("{:?}", rig.sent) };
    let rates = |peer: &PeerKey| PeerRates {
        peer: *peer,
        downloaded: 9,
        uploaded: 0,
        passed_on: 0,
        heeds: true,
        keeps: false,
        snubbed: false,
        is_seed: false,
    };
    rig.told_by(0, ShardToCore::Rates(round, peers[3..].iter().map(rates).collect()));
    rig.sent.clear();
    let at = rig.core.poll_timeout().unwrap();
    assert!(at.since(rig.now) <= Duration::from_millis(500));
    rig.now = at;
    rig.core.handle_timeout(at);
    rig.settle();
    assert!(peers[3..].iter().all(|peer| rig.unchoked.contains(peer)));
}

#[test]
fn completion_is_told_once() {
    let mut rig = Rig::new(1, 20);
    let layout = PieceLayout::with_block_len(2, 1, 1).unwrap();
    for piece in layout.pieces() {
        assert!(rig.pieces.claim(piece, ShardId(0)));
        rig.pieces.verifying(piece, ShardId(0));
        rig.pieces.writing(piece, ShardId(0));
        rig.pieces.have(piece, ShardId(0));
        rig.told_by(0, ShardToCore::Completed);
        assert_eq!(rig.completions, usize::from(piece.number() == 1));
    }
    rig.told_by(0, ShardToCore::Completed);
    assert_eq!(rig.completions, 1);
}

/// It has nothing to say to another that wants nothing, and gives to whoever may want something.
#[test]
fn a_partial_seed_does_not_dial_those_who_want_nothing_again() {
    for (pieces, wants_nothing, dials) in
        [(partial_seed(), true, 1), (partial_seed(), false, 2), (SharedPieces::free(2), true, 2)]
    {
        let mut rig = Rig::with(1, 10, pieces);
        rig.candidates(&[addr(1)]);
        let peer = rig.up(0, 1, true);
        (rig.rates(peer).uploaded, rig.rates(peer).is_seed) = (1, wants_nothing);
        rig.down(peer);
        rig.wait(Duration::from_secs(3_600));
        assert!(if dials == 1 { rig.dials.len() == 1 } else { rig.dials.len() > 1 }, "{:?}", rig.dials);
        if dials == 1 {
            rig.candidates(&[addr(1)]);
            assert_eq!(rig.dials.len(), 2, "a tracker names it, so it may want something again");
        }
    }
}

#[test]
fn leaving_parts_with_everybody_and_dials_nobody() {
    let mut rig = Rig::new(1, 20);
    let peer = rig.up(0, 1, false);
    rig.candidates(&[addr(2)]);
    rig.input(CoreInput::Leave);
    assert_eq!(rig.parted(), [(peer, PartReason::Leaving)]);
    rig.input(CoreInput::DialFailed(addr(2)));
    rig.candidates(&[addr(3)]);
    rig.wait(Duration::from_secs(60));
    assert_eq!(rig.dials.len(), 1);
    let late = rig.up(0, 3, false);
    assert_eq!(rig.parted().last(), Some(&(late, PartReason::Leaving)));
}

/// A peer that kept its slot while it wanted nothing wants something again, and nobody takes the slot of another any more.
#[test]
fn interest_while_leaving_is_no_contradiction() {
    let mut rig = Rig::new(1, 20);
    let peers: Vec<PeerKey> = (1..8).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let served = *rig.unchoked.first().unwrap();
    rig.interest(served, false);
    rig.input(CoreInput::Leave);
    rig.interest(served, true);
    assert_eq!(rig.parted().len(), peers.len());
}

/// However many neighbours there are, some places are for others: what is not in the rack comes from there.
#[test]
fn with_racks_some_places_are_for_far_ones() {
    let mut rig = Rig::new(1, 20);
    rig.core.config.policy.lan = Some(crate::torrent::Lan::default());
    rig.input(CoreInput::OwnAddr(addr(100).ip()));
    let all: Vec<SocketAddr> = (1..=40).map(addr).chain((1..=9).map(far)).collect();
    rig.candidates(&all);
    let dialled = rig.dials.iter().filter(|(_, dialled)| (1..=9).any(|last| *dialled == far(last)));
    assert_eq!((dialled.count(), rig.dials.len()), (3, 20));
}

fn far(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, last], 6881))
}

fn racks(max_peers: usize) -> Rig {
    let mut rig = Rig::new(1, max_peers);
    rig.core.config.policy.lan = Some(crate::torrent::Lan::default());
    rig.input(CoreInput::OwnAddr(addr(100).ip()));
    rig.sent.clear();
    rig
}

/// How often the one shard heard what it has to bring, and how many near peers it heard of last.
fn shares(rig: &Rig) -> (usize, usize) {
    let mut shares = { rig.sent.iter() }.filter_map(|(_, message)| match message {
        CoreToShard::Rack { near, .. } => Some(near.len()),
        _ => None,
    });
    (shares.clone().count(), shares.next_back().unwrap_or(0))
}

/// Whoever came first need not be whoever is near: with all places taken, far ones make room until their share is left.
#[test]
fn with_racks_far_ones_make_room_for_near_ones() {
    let mut rig = racks(20);
    let others: Vec<PeerKey> = (1..=20).map(|last| rig.up_at(0, far(last), false)).collect();
    rig.rates(others[0]).downloaded = 1_000_000;
    rig.wait(Duration::from_secs(20));
    let near: Vec<PeerKey> = (21..=38).map(|id| rig.up(0, id, false)).collect();
    let parted = rig.parted();
    assert_eq!(parted.len(), 18);
    assert!(parted[..17].iter().all(|(peer, _)| others[1..].contains(peer)), "{parted:?}");
    assert_eq!(parted[17], (near[17], PartReason::TooMany), "their share is left");
    parted[..17].iter().for_each(|&(peer, _)| rig.down(peer));
    let one_more = rig.up_at(0, far(60), false);
    assert_eq!(rig.parted().last(), Some(&(one_more, PartReason::TooMany)));
}

/// Nor must whoever is near be the one to dial.
#[test]
fn with_racks_near_ones_are_dialled_though_all_places_are_taken() {
    let mut rig = racks(20);
    (1..=20).for_each(|last| {
        rig.up_at(0, far(last), false);
    });
    rig.candidates(&[far(50), addr(30), addr(31)]);
    let dialled: BTreeSet<SocketAddr> = rig.dials.iter().map(|&(_, addr)| addr).collect();
    assert_eq!(dialled, BTreeSet::from([addr(30), addr(31)]));
    rig.up(0, 30, true);
    assert_eq!(rig.parted().len(), 1);
}

/// A rack that fills is not told of each who comes, nor of those who must go.
#[test]
fn with_racks_comings_are_told_together() {
    let mut rig = racks(20);
    rig.pass(Duration::from_secs(1));
    (1..=10).for_each(|id| {
        rig.up(0, id, false);
    });
    assert_eq!(shares(&rig), (1, 1), "the first at once");
    rig.up_at(0, SocketAddr::from(([10, 0, 0, 9], 9)), false);
    rig.up_at(0, addr(100), true);
    rig.pass(Duration::from_millis(200));
    assert_eq!(shares(&rig), (2, 10));
    rig.up_at(0, SocketAddr::from(([10, 0, 0, 9], 10)), false);
    rig.up_at(0, addr(100), false);
    rig.pass(Duration::from_millis(200));
    assert_eq!(shares(&rig), (2, 10), "doubles and ourselves are nobody new");
}

/// A neighbour with an address elsewhere: of two connections that cross, the one that stays may be the far one.
#[test]
fn with_racks_a_near_one_that_a_far_one_replaces_is_told() {
    let mut rig = racks(20);
    rig.pass(Duration::from_secs(1));
    let near = rig.up(0, 7, false);
    rig.pass(Duration::from_millis(200));
    assert_eq!(shares(&rig), (1, 1));
    rig.up_at(0, far(7), true);
    assert_eq!(rig.parted(), [(near, PartReason::Duplicate)]);
    rig.pass(Duration::from_millis(200));
    assert_eq!(shares(&rig), (2, 0));
}

/// However many of it lied: a rack is more than one household.
#[test]
fn with_racks_our_own_subnet_is_not_banned() {
    let mut rig = racks(20);
    let v6 = |rest| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, rest]);
    rig.input(CoreInput::OwnAddr(v6(100)));
    (1..=8).for_each(|rest| rig.told_by(0, ShardToCore::Poisoner(v6(rest))));
    assert!(rig.core.is_banned(v6(8)) && !rig.core.is_banned(v6(9)));
}

/// Those of our subnet are dialled first, and only so many others; each shard hears what it has to bring in.
#[test]
fn with_racks_the_near_ones_come_first() {
    let mut rig = Rig::new(2, 200);
    rig.core.config.policy.lan = Some(crate::torrent::Lan::default());
    rig.input(CoreInput::OwnAddr(addr(100).ip()));
    rig.candidates(&(1..=60).map(far).collect::<Vec<_>>());
    assert_eq!(rig.dials.len(), 30, "few are here: others make up for it");
    let dialled: Vec<SocketAddr> = rig.dials.iter().map(|&(_, addr)| addr).collect();
    dialled.iter().for_each(|&addr| rig.input(CoreInput::DialFailed(addr)));
    rig.dials.clear();
    let near: Vec<SocketAddr> = (1..=25).map(addr).collect();
    rig.candidates(&near);
    assert_eq!(
        rig.dials.iter().filter(|(_, addr)| near.contains(addr)).count(),
        0,
        "HALF_OPEN are under way"
    );
    let first = rig.core.dialling.keys().next().copied().unwrap();
    rig.input(CoreInput::DialFailed(first));
    assert!(near.contains(&rig.dials.last().unwrap().1));

    rig.sent.clear();
    let peer = rig.up(1, 7, false);
    assert_eq!(rig.core.poll_timeout(), Some(rig.now + Duration::from_millis(200)), "they are told soon");
    rig.pass(Duration::from_millis(200));
    let told: Vec<(u8, usize)> = { rig.sent.iter() }
        .filter_map(|(shard, message)| match message {
            CoreToShard::Rack { near, errands } => {
                assert_eq!((errands.hosts(), errands.are_alone()), (2, false));
                Some((shard.0, near.len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(told, [(0, 0), (1, 1)]);
    rig.sent.clear();
    rig.down(peer);
    rig.pass(Duration::from_millis(200));
    assert!(
        rig.sent.iter().any(|(_, message)| {
            matches!(message, CoreToShard::Rack { errands, .. } if errands.are_alone())
        })
    );
}

/// Everybody has a slot once before anybody has one again.
#[test]
fn round_robin_serves_in_turn() {
    let mut rig = Rig::with(1, 100, SharedPieces::complete(2));
    rig.core.config.policy.seeding = crate::torrent::Seeding::RoundRobin;
    let peers: Vec<PeerKey> = (1..31).map(|id| rig.up(0, id, false)).collect();
    peers.iter().for_each(|&peer| rig.interest(peer, true));
    let mut served = BTreeSet::new();
    for _ in 0..40 * 8 {
        for peer in rig.unchoked.clone() {
            rig.rates(peer).uploaded += if peer == peers[0] { 9_000 } else { 3_000 };
        }
        served.extend(rig.unchoked.iter().copied());
        rig.wait(Duration::from_secs(1));
    }
    assert_eq!(served.len(), peers.len());
}
