//! Who gets an upload slot: most by rate, some by chance (BEP 3's "Choking and Optimistic Unchoking"). Knows
//! candidates and their rates; when rounds happen, and who is told, is the core's.

use crate::rng::Rng;
use crate::torrent::PeerKey;

/// One peer by chance for so many by rate: what a host that gives nothing gets of the swarm.
const CHANCE_ONE_IN: usize = 8;

/// A peer that could get a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which peer.
    pub peer: PeerKey,
    /// It wants something of us.
    pub interested: bool,
    /// It keeps us waiting: it gets a slot only by chance (BEP 3's anti-snubbing).
    pub snubbed: bool,
    /// It keeps what is new for itself, so far as a seed can tell: what others leave of the slots is for such, and what falls
    /// to everybody by chance.
    pub keeps: bool,
    /// It joined not long ago: three times as likely to be drawn.
    pub newcomer: bool,
    /// Bytes that decide: what it gave us in the last rounds while we download, what it took while we seed.
    pub rate: u64,
}

/// The slots of one torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choker {
    /// Slots by rate.
    pub rate_slots: usize,
    /// Slots by chance.
    pub optimistic_slots: usize,
    /// So many slots are given in any case: by chance, where too few peers have a rate. Beyond, a slot by rate that nobody
    /// has earned stays empty, or whoever gives nothing would get as much as who does.
    pub assured_slots: usize,
}

/// Who is to be unchoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// By rate; peers that are not interested but faster than those that are stand here too, and take no slot.
    pub by_rate: Vec<PeerKey>,
    /// By chance.
    pub optimistic: Vec<PeerKey>,
}

impl Slots {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = PeerKey> + '_ {
        self.by_rate.iter().chain(&self.optimistic).copied()
    }
}

impl Choker {
    /// How many interested peers are unchoked at a time.
    pub const fn slot_count(&self) -> usize {
        self.rate_slots + self.optimistic_slots
    }

    /// So many slots; of them one in nine, and at least one, by chance.
    pub const fn with_slots(slots: usize, assured_slots: usize) -> Self {
        let chance = slots / (CHANCE_ONE_IN + 1);
        let optimistic_slots = if chance == 0 { 1 } else { chance };
        Self { rate_slots: slots.saturating_sub(optimistic_slots), optimistic_slots, assured_slots }
    }

    /// How many may be there by chance, beside so many interested ones by rate.
    pub fn room_for_chance(&self, by_rate: usize) -> usize {
        let optimistic = (by_rate / CHANCE_ONE_IN).max(1);
        let assured = self.assured_slots.saturating_sub(by_rate);
        optimistic.max(assured).min(self.slot_count().saturating_sub(by_rate))
    }

    /// A round. `kept` are the optimistic ones of the last round, kept unless it is their turn to go, a rate slot
    /// took them in or they no longer want anything.
    pub fn decide(&self, candidates: &[Candidate], kept: &[PeerKey], rng: &mut Rng) -> Slots {
        let by_rate = self.by_rate(candidates);
        let mut optimistic: Vec<PeerKey> = kept
            .iter()
            .copied()
            .filter(|peer| !by_rate.contains(peer))
            .filter(|peer| candidates.iter().any(|candidate| candidate.peer == *peer && candidate.interested))
            .collect();
        let taken =
            by_rate.iter().filter(|peer| candidates.iter().any(|c| c.peer == **peer && c.interested)).count();
        let room = self.room_for_chance(taken);
        optimistic.truncate(room);
        while optimistic.len() < room {
            let left = candidates.iter().filter(|candidate| {
                candidate.interested
                    && !by_rate.contains(&candidate.peer)
                    && !optimistic.contains(&candidate.peer)
            });
            // Beyond what falls to everybody, slots by chance only stand in for those by rate.
            let for_all = optimistic.len() < (taken / CHANCE_ONE_IN).max(1);
            let better = || left.clone().filter(|candidate| !candidate.keeps);
            let drawn = if for_all { None } else { draw(better(), rng) };
            let Some(drawn) = drawn.or_else(|| draw(left.clone(), rng)) else { break };
            optimistic.push(drawn);
        }
        Slots { by_rate, optimistic }
    }

    /// The fastest interested ones, and with them those that would be there if they were interested: should they
    /// become so, the slowest makes room (BEP 3).
    fn by_rate(&self, candidates: &[Candidate]) -> Vec<PeerKey> {
        let mut ranked: Vec<&Candidate> = candidates.iter().filter(|c| !c.snubbed && c.rate > 0).collect();
        ranked.sort_by_key(|candidate| (std::cmp::Reverse(candidate.rate), candidate.peer));
        let mut slots = self.rate_slots;
        let mut chosen = Vec::new();
        for candidate in ranked {
            if slots == 0 {
                break;
            }
            slots -= usize::from(candidate.interested);
            chosen.push(candidate.peer);
        }
        chosen
    }
}

/// A random one, newcomers three times as likely (BEP 3).
fn draw<'a>(candidates: impl Iterator<Item = &'a Candidate>, rng: &mut Rng) -> Option<PeerKey> {
    let tickets: Vec<PeerKey> = candidates
        .flat_map(|candidate| std::iter::repeat_n(candidate.peer, if candidate.newcomer { 3 } else { 1 }))
        .collect();
    rng.pick(&tickets).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::torrent::ShardId;
    use proptest::prelude::*;

    const CHOKER: Choker = Choker { rate_slots: 4, optimistic_slots: 1, assured_slots: 5 };

    fn candidate(number: u32, rate: u64) -> Candidate {
        let peer = PeerKey::for_tests(ShardId(0), number);
        Candidate { peer, interested: true, snubbed: false, keeps: false, newcomer: false, rate }
    }

    #[test]
    fn the_four_fastest_and_one_by_chance() {
        let candidates: Vec<_> = (0..10).map(|n| candidate(n, u64::from(n + 1))).collect();
        let mut drawn = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let slots = CHOKER.decide(&candidates, &[], &mut Rng::new(seed));
            assert_eq!(slots.by_rate, [9, 8, 7, 6].map(|n: usize| candidates[n].peer));
            drawn.extend(slots.optimistic);
        }
        assert_eq!(drawn.len(), 6, "everybody has a chance");
    }

    #[test]
    fn a_snubbing_peer_gets_no_slot_by_rate() {
        let mut candidates: Vec<_> = (0..6).map(|n| candidate(n, 100 - u64::from(n))).collect();
        candidates[0].snubbed = true;
        let slots = CHOKER.decide(&candidates, &[], &mut Rng::new(0));
        assert!(!slots.by_rate.contains(&candidates[0].peer));
    }

    #[test]
    fn who_keeps_what_is_new_gets_what_others_leave() {
        let mut candidates: Vec<_> = (0..20).map(|n| candidate(n, 0)).collect();
        candidates[..16].iter_mut().for_each(|keeper| keeper.keeps = true);
        let drawn = |candidates: &[Candidate], seed| {
            let drawn = CHOKER.decide(candidates, &[], &mut Rng::new(seed)).optimistic;
            drawn.iter().filter(|peer| candidates.iter().any(|c| c.peer == **peer && c.keeps)).count()
        };
        let counts: Vec<usize> = (0..100).map(|seed| drawn(&candidates, seed)).collect();
        assert!(
            counts.iter().all(|&count| count <= 1) && counts.contains(&1),
            "one slot is everybody's: {counts:?}"
        );
        assert_eq!(drawn(&candidates[..16], 0), 5, "nobody else wants it");
    }

    #[test]
    fn the_optimistic_one_stays_until_its_turn_is_over() {
        let candidates: Vec<_> = (0..10).map(|n| candidate(n, u64::from(n + 1))).collect();
        let kept = [candidates[2].peer];
        assert_eq!(CHOKER.decide(&candidates, &kept, &mut Rng::new(1)).optimistic, kept);
    }

    #[test]
    fn newcomers_are_drawn_more_often() {
        let mut candidates: Vec<_> = (0..2).map(|n| candidate(n, 0)).collect();
        candidates[1].newcomer = true;
        let choker = Choker { rate_slots: 0, optimistic_slots: 1, assured_slots: 1 };
        let wins = (0..1000).filter(|&seed| {
            choker.decide(&candidates, &[], &mut Rng::new(seed)).optimistic == [candidates[1].peer]
        });
        assert!((650..850).contains(&wins.count()), "three in four");
    }

    /// The most obvious choker: sort, take, draw.
    fn model_by_rate(candidates: &[Candidate]) -> Vec<PeerKey> {
        let mut rest: Vec<Candidate> =
            candidates.iter().copied().filter(|c| !c.snubbed && c.rate > 0).collect();
        let (mut chosen, mut interested) = (vec![], 0);
        while interested < 4 && !rest.is_empty() {
            let best = (0..rest.len()).min_by_key(|&i| (u64::MAX - rest[i].rate, rest[i].peer)).unwrap();
            let best = rest.remove(best);
            interested += usize::from(best.interested);
            chosen.push(best.peer);
        }
        chosen
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_one(specs in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 0u64..6), 0..30), seed: u64) {
            let candidates: Vec<_> = specs.iter().enumerate().map(|(n, &(interested, snubbed, newcomer, rate))| {
                Candidate { interested, snubbed, newcomer, ..candidate(n as u32, rate) }
            }).collect();
            let slots = CHOKER.decide(&candidates, &[], &mut Rng::new(seed));
            prop_assert_eq!(&slots.by_rate, &model_by_rate(&candidates));
            let unchoked: Vec<_> = slots.all().collect();
            let wanting = candidates.iter().filter(|c| c.interested);
            let served = wanting.clone().filter(|c| unchoked.contains(&c.peer)).count();
            prop_assert_eq!(served, wanting.count().min(5), "no slot stays empty while somebody wants it");
        }
    }
}
